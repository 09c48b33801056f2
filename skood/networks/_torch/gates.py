"""Values that only serve to multiply others, such as those of squeeze and excitation."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from .flow import Node, ancestors, uses

_PRODUCTS = frozenset({"mul", "multiply"})
_EXPANSIONS = frozenset({"broadcast_to", "expand", "expand_as", "repeat"})
_SIGMOIDS = frozenset({"expit", "hardsigmoid", "sigmoid"})


def find_gates(nodes: Mapping[int, Node]) -> set[int]:
    """Numbers of values that are gates, and of those that lead to gates alone.

    A gate multiplies a value that is larger along some axis, or one that it is a sigmoid of.

    Parameters
    ----------
    nodes : mapping of int to Node
        All that lead to the output of the network, by number.
    """
    used, found = uses(nodes), set[int]()
    for number in sorted(nodes, reverse=True):
        if used[number] and all(
            use.number in found or _is_gate(nodes[number], use) for use in used[number]
        ):
            found.add(number)
    return found


def _is_gate(node: Node, product: Node) -> bool:
    others = [parent for parent in product.variables if parent is not node]
    if product.function not in _PRODUCTS or len(others) != 1 or not node.is_variable:
        return False
    other = others[0]
    if other.shape != product.shape or _is_small(other, product):
        return False
    is_sigmoid = node.function in _SIGMOIDS and other.number in ancestors(
        [node], since=other.number
    )
    return is_sigmoid or _is_small(node, product)


def _is_small(node: Node, product: Node) -> bool:
    """Whether a value is the same along an axis of a product."""
    if node.function in _EXPANSIONS:
        node = node.parents[0]
    return prod(node.shape) < prod(product.shape)
