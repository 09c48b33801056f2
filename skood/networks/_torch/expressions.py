"""Activation functions that are written out, such as ``torch.where(x > 0, x, 0)``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from .calls import ACTIVATION_FUNCTIONS, SUMS
from .flow import (
    CHOICES,
    COMPARISONS,
    ELEMENTWISE,
    LIGHT,
    MULTIPLICATIONS,
    Node,
    uses,
)

_CASTS = frozenset(
    {"bfloat16", "clone", "contiguous", "detach", "double", "float", "half", "to", "type_as"}
)
_OF_NORMS = frozenset(
    {"abs", "absolute", "exp", "log", "mul", "multiply", "pow", "rsqrt", "sqrt", "square"}
)
"""Functions that norms are made of, too."""
_EXTREMES = frozenset({"max", "min"})


def find_expressions(nodes: Mapping[int, Node]) -> set[int]:
    """Numbers of the values that such a function of one value yields.

    It is computed value by value from what layers with weights yield, and from nothing else.

    Parameters
    ----------
    nodes : mapping of int to Node
        All that lead to the output of the network, by number.
    """
    used, found = uses(nodes), set[int]()
    for root, group in _grouped(nodes):
        if all(node.function in ACTIVATION_FUNCTIONS for node in group if _bends(node)):
            continue
        numbers = {node.number for node in group}
        goes_elsewhere = any(node.number not in numbers for node in used[root.number])
        ends = [
            node
            for node in _ends(group)
            if not (goes_elsewhere and node.function in _OF_NORMS)
            and node.function not in ACTIVATION_FUNCTIONS
        ]
        if ends and _comes_from_weights(root):
            found.update(node.number for node in ends)
    return found


def _grouped(nodes: Mapping[int, Node]) -> list[tuple[Node, list[Node]]]:
    """Values, each with all that are computed from it alone, value by value, in order."""
    roots: dict[int, Node] = {}
    groups: defaultdict[int, list[Node]] = defaultdict(list)
    for number in sorted(nodes):
        node = nodes[number]
        if not node.is_variable or not _is_elementwise(node):
            continue
        sources = {
            root.number: root
            for root in (roots.get(parent.number, parent) for parent in node.variables)
        }
        root = next(iter(sources.values()))
        if len(sources) == 1 and root.shape == node.shape:
            roots[number] = root
            groups[root.number].append(node)
    return [(nodes[number], group) for number, group in groups.items()]


def _is_elementwise(node: Node) -> bool:
    if node.function in _EXTREMES:
        return len(node.parents) > 1
    return node.function in ELEMENTWISE or node.function in CHOICES or node.function in _CASTS


def _bends(node: Node) -> bool:
    """Whether a function of a group is no linear one."""
    if node.function in MULTIPLICATIONS or node.function in CHOICES:
        return len(node.variables) > 1
    linear = node.function in SUMS or node.function in _CASTS or node.function in COMPARISONS
    return not linear and node.function not in {"neg", "negative", "positive"}


def _ends(group: list[Node]) -> list[Node]:
    """Bends of a group, and sums of them, from which no others are computed."""
    bent: set[int] = set()
    steps: list[Node] = []
    for node in group:
        is_sum = node.function in SUMS and len(node.variables) > 1
        after = any(parent.number in bent for parent in node.variables)
        if _bends(node) or after:
            bent.add(node.number)
        if node.is_float and (_bends(node) or (is_sum and after)):
            steps.append(node)
    numbers, inner = {node.number for node in steps}, set[int]()
    for node in reversed(group):
        if node.number in numbers or node.number in inner:
            inner.update(parent.number for parent in node.parents)
    return [node for node in steps if node.number not in inner]


def _comes_from_weights(node: Node) -> bool:
    """Whether a value is what layers with weights yield, normed, scaled or added at most."""
    waiting, seen = [node], set[int]()
    while waiting:
        one = waiting.pop()
        if one.number in seen:
            continue
        seen.add(one.number)
        if one.mixes and one.weights:
            continue
        is_light = one.function in LIGHT or one.function in ELEMENTWISE
        if one.mixes or not is_light or not one.variables:
            return False
        if len(one.variables) > 1 and one.function not in SUMS:
            return False
        waiting.extend(one.variables)
    return True
