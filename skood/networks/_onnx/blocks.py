"""Residual blocks and unrolled loops in the graph of an ONNX model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from .graph import LINEAR, Graph, Node

_NORMS = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
    }
)
# Of a projection beside a branch; sums and products are those with constants.
_OF_PROJECTIONS = (
    LINEAR
    | _NORMS
    | {
        "Add",
        "AveragePool",
        "Cast",
        "DequantizeLinear",
        "Flatten",
        "GlobalAveragePool",
        "Identity",
        "MaxPool",
        "Mul",
        "Pad",
        "QuantizeLinear",
        "Reshape",
        "Resize",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
        "Upsample",
    }
)
_SELECTIONS = frozenset({"Gather", "Slice", "Split"})


@dataclass(frozen=True)
class Block:
    """A sum of a value, or a projection of it, and of what a branch computes from it."""

    output: str
    inner: frozenset[str]
    """Data between the input of the block and the sum."""


def find_blocks(
    graph: Graph, shapes: dict[str, tuple[int, ...]], activations: Collection[str]
) -> list[Block]:
    """The residual blocks of a graph, in forward order.

    Parameters
    ----------
    graph : Graph
        The graph.
    shapes : dict of str to tuple of int
        Shape of each value of floating point numbers.
    activations : collection of str
        What activation functions yield.
    """
    bends = set(activations)
    blocks = []
    for node in graph.nodes:
        if node.op not in ("Add", "Sum") or len(graph.data_of(node)) != 2 != len(node.inputs):
            continue
        block = _as_block(graph, node, shapes, bends)
        if block is not None:
            blocks.append(block)
    return blocks


def _as_block(
    graph: Graph,
    node: Node,
    shapes: dict[str, tuple[int, ...]],
    bends: set[str],
) -> Block | None:
    one, other = node.inputs
    if one == other or shapes.get(one, "none") != shapes.get(other):
        return None
    for skip, branch in [(one, other), (other, one)]:
        inner = _between(graph, skip, branch)
        if inner and _computes(graph, inner):
            return _make_block(graph, node, skip, inner, bends)
    start = graph.dominators[node.outputs[0]]
    if not start:
        return None
    for skip, branch in [(one, other), (other, one)]:
        inner = _between(graph, start, branch)
        if _computes(graph, inner) and inner & bends and _is_projection(graph, start, skip, bends):
            beside = _between(graph, start, skip)
            return _make_block(graph, node, start, inner | beside, bends)
    return None


def _between(graph: Graph, start: str, end: str) -> set[str]:
    """What lies between two values, with the second; nothing where it is not made of the first."""
    return (graph.after(start) & graph.before([end], until=[start])) - {start}


def _computes(graph: Graph, inner: set[str]) -> bool:
    """Whether weights or products of data are at work, and not a formula element by element."""
    return any(graph.producers[value].op in LINEAR for value in inner)


def _is_projection(graph: Graph, start: str, end: str, bends: set[str]) -> bool:
    inner = _between(graph, start, end)
    nodes = [graph.producers[value] for value in inner]
    # What is at work in it has no other inputs, since the start is before all that is.
    return (
        bool(inner)
        and not inner & bends
        and all(node.op in _OF_PROJECTIONS and len(graph.data_of(node)) == 1 for node in nodes)
    )


def _make_block(graph: Graph, node: Node, start: str, inner: set[str], bends: set[str]) -> Block:
    """The block, whose output is what an activation function or norm alone makes of the sum."""
    output = node.outputs[0]
    following = _following(graph, output)
    first = (n for n in graph.consumers.get(start, []) if not inner.isdisjoint(n.outputs))
    norm_first = any(n.op in _NORMS for n in first)
    ends = following is not None and (
        following.outputs[0] in bends or (following.op == "LayerNormalization" and not norm_first)
    )
    if ends and following is not None:
        inner, output = inner | {output}, following.outputs[0]
    return Block(output, frozenset(inner))


def _following(graph: Graph, value: str) -> Node | None:
    """The one node that reads a value, or reads it from the integers that it is rounded to."""
    node = graph.sole_consumer(value)
    if node is not None and node.op == "QuantizeLinear":
        node = graph.sole_consumer(node.outputs[0])
    return node


def earlier_steps(graph: Graph, values: list[str]) -> set[str]:
    """Those of values that an unrolled loop computes in other steps than its last.

    A loop takes one part of an input after another, such as the time steps of a sequence, and
    computes the same with the same weights from each and from the step before.
    """
    steps = _steps(graph)
    if not steps:
        return set()
    seen = {value: _union(steps, graph.before([value])) for value in values}
    weights = {value: _nearest_weights(graph, value) for value in values}
    found = set()
    for place, value in enumerate(values):
        for later in values[place + 1 :]:
            is_same = graph.producers[value].op == graph.producers[later].op
            if is_same and weights[value] & weights[later] and _goes_on(seen[value], seen[later]):
                found.add(value)
                break
    return found


Steps = dict[str, set[str]]
"""Parts that were taken, by what they were taken of."""


def _steps(graph: Graph) -> dict[str, str]:
    """What each part of a value is taken of, of those of which several parts are taken."""
    parts: dict[str, list[str]] = defaultdict(list)
    for node in graph.nodes:
        if node.op in _SELECTIONS and graph.data_of(node) == [node.inputs[0]]:
            parts[node.inputs[0]].extend(filter(None, node.outputs))
    return {part: source for source, of in parts.items() if len(of) > 1 for part in of}


def _union(steps: dict[str, str], values: set[str]) -> Steps:
    found: Steps = defaultdict(set)
    for value in values & steps.keys():
        found[steps[value]].add(value)
    return found


def _goes_on(earlier: Steps, later: Steps) -> bool:
    return any(parts < later.get(source, set()) for source, parts in earlier.items())


def _nearest_weights(graph: Graph, value: str) -> set[str]:
    """The constants of the first linear operations that are met on the ways back."""
    found: set[str] = set()
    seen, waiting = set(), [value]
    while waiting:
        node = graph.producers.get(waiting.pop())
        if node is None or node.number in seen:
            continue
        seen.add(node.number)
        if node.op in LINEAR:
            found.update(v for v in node.inputs if v and v not in graph.data)
        else:
            waiting.extend(graph.data_of(node))
    return found
