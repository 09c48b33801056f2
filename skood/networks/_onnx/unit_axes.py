"""In which axis the units of each value of an ONNX graph are, as far as its operators tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .graph import Graph, Node

_Shapes = dict[str, tuple[int, ...]]

_SECOND = frozenset(
    {
        "AveragePool",
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "FusedConv",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GroupNormalization",
        "InstanceNormalization",
        "LRN",
        "MaxPool",
        "QLinearConv",
    }
)
_LAST = frozenset(
    {
        "Attention",
        "GRU",
        "Gemm",
        "LSTM",
        "LayerNormalization",
        "MultiHeadAttention",
        "RMSNormalization",
        "RNN",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
    }
)


def unit_axes(graph: Graph, shapes: _Shapes) -> dict[str, int]:
    """The axis of the units of each value of which it is known.

    Of what convolutions and normalisations of feature maps yield, it is the second; of products
    with a matrix of weights, and of recurrent and embedding layers, the last. Operations element
    by element keep it, and so do those that move or remove axes.
    """
    axes: dict[str, int] = {}
    for node in graph.nodes:
        for value in node.outputs:
            if value in graph.data and value in shapes:
                axis = _axis_of(graph, node, value, shapes, axes)
                if axis is not None and 0 <= axis < len(shapes[value]):
                    axes[value] = axis
    return axes


def _axis_of(
    graph: Graph, node: Node, value: str, shapes: _Shapes, axes: dict[str, int]
) -> int | None:
    n_axes = len(shapes[value])
    if node.op in _SECOND:
        return 1
    if node.op in _LAST or _multiplies_by_weights(graph, node):
        return n_axes - 1
    if node.op == "Gather" and node.inputs[0] not in graph.data:
        return n_axes - 1  # an embedding
    given = next((v for v in graph.data_of(node) if v in axes), None)
    if given is None:
        return None
    move = _MOVES.get(node.op, _keep)
    return move(graph, node, axes[given], shapes[given], shapes[value])


def _multiplies_by_weights(graph: Graph, node: Node) -> bool:
    return node.op in ("MatMul", "MatMulInteger", "MatMulNBits") and (
        node.inputs[1] not in graph.data
    )


_Shape = tuple[int, ...]


def _keep(graph: Graph, node: Node, axis: int, given: _Shape, got: _Shape) -> int | None:
    return axis if len(given) == len(got) else None


def _transpose(graph: Graph, node: Node, axis: int, given: _Shape, got: _Shape) -> int | None:
    order = node.attributes.get("perm", list(range(len(given)))[::-1])
    return list(order).index(axis)


def _reshape(graph: Graph, node: Node, axis: int, given: _Shape, got: _Shape) -> int | None:
    """The same axis, where what is before it and after it stays apart from it."""
    before = int(np.prod(given[:axis], dtype=np.int64))
    for place, size in enumerate(got):
        if size == given[axis] and int(np.prod(got[:place], dtype=np.int64)) == before:
            return place
    return None


def _remove(graph: Graph, node: Node, axis: int, given: _Shape, got: _Shape) -> int | None:
    """Of a squeezing or a reduction over axes."""
    if len(given) == len(got):
        return axis
    removed = graph.argument(node, 1, "axes")
    if removed is None:
        return _reshape(graph, node, axis, given, got)
    taken = {int(a) % len(given) for a in np.ravel(removed)}
    return None if axis in taken else axis - sum(a < axis for a in taken)


def _insert(graph: Graph, node: Node, axis: int, given: _Shape, got: _Shape) -> int | None:
    inserted = graph.argument(node, 1, "axes")
    if inserted is None:
        return _reshape(graph, node, axis, given, got)
    new = {int(a) % len(got) for a in np.ravel(inserted)}
    return [place for place in range(len(got)) if place not in new][axis]


def _gather(graph: Graph, node: Node, axis: int, given: _Shape, got: _Shape) -> int | None:
    at = node.attributes.get("axis", 0) % len(given)
    return axis if axis < at or len(given) == len(got) else axis + len(got) - len(given)


_Move = Callable[[Graph, Node, int, _Shape, _Shape], int | None]
_MOVES: dict[str, _Move] = {
    "Flatten": _reshape,
    "Gather": _gather,
    "Reshape": _reshape,
    "Squeeze": _remove,
    "Transpose": _transpose,
    "Unsqueeze": _insert,
    **dict.fromkeys(
        ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"),
        _remove,
    ),
}
