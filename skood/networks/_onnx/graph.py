"""The graph of an ONNX model: nodes, the values between them, and what depends on the inputs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

LINEAR = frozenset(
    {
        "Attention",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "Einsum",
        "FusedConv",
        "FusedMatMul",
        "GRU",
        "Gemm",
        "LSTM",
        "MatMul",
        "MatMulInteger",
        "MatMulNBits",
        "MultiHeadAttention",
        "QLinearConv",
        "QLinearMatMul",
        "RNN",
    }
)
"""Operations with weights, and products of data."""
_LARGEST_KEPT = 64
"""Number of elements of the largest constants whose values are read."""
_OF_SHAPES_ALONE = {"Shape", "Size"}
_UNCHANGED = {"Identity", "Cast", "Dropout"}


@dataclass(frozen=True)
class Input:
    """What a model declares of an input."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...] | None
    """Sizes of the axes, None for those of any size; None where nothing is declared."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation."""

    number: int
    op: str
    name: str
    inputs: tuple[str, ...]
    """Names of values; empty for one that is left out."""
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    """Numbers, texts and lists of these."""
    captured: tuple[str, ...] = ()
    """Values of the graph that graphs inside the node read, such as the body of a loop."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph without its weights.

    A value is a text, the name of an output of a node or of an input. The *data* are the values
    that depend on what the inputs hold; the others are constants, or computed of shapes.
    """

    nodes: list[Node]
    """In an order in which they can be run."""
    inputs: list[Input]
    outputs: list[str]
    constants: dict[str, NDArray] = field(repr=False)
    """Small constants."""
    opset: int

    @cached_property
    def producers(self) -> dict[str, Node]:
        return {value: node for node in self.nodes for value in node.outputs if value}

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        found = defaultdict(list)
        for node in self.nodes:
            for value in dict.fromkeys((*node.inputs, *node.captured)):
                found[value].append(node)
        return dict(found)

    @cached_property
    def data(self) -> set[str]:
        found = {declared.name for declared in self.inputs}
        for node in self.nodes:
            if node.op not in _OF_SHAPES_ALONE and not found.isdisjoint(self._read_by(node)):
                found.update(filter(None, node.outputs))
        return found

    @staticmethod
    def _read_by(node: Node) -> tuple[str, ...]:
        return (*node.inputs, *node.captured)

    def data_of(self, node: Node) -> list[str]:
        """The data that a node reads."""
        return [value for value in self._read_by(node) if value in self.data]

    def data_outputs(self) -> list[str]:
        """All data that nodes yield, in forward order."""
        return [value for node in self.nodes for value in node.outputs if value in self.data]

    @cached_property
    def names(self) -> dict[str, str]:
        """The name of each value as a layer.

        That of its node, where no other node and no other value has it; the second and further
        outputs of a node have the names of the values.
        """
        counts = Counter(node.name for node in self.nodes)
        values = {*self.producers, *(declared.name for declared in self.inputs)}
        names = {}
        for node in self.nodes:
            for place, value in enumerate(node.outputs):
                is_free = counts[node.name] == 1 and node.name not in values - {value}
                names[value] = node.name if node.name and is_free and not place else value
        return names

    @cached_property
    def dominators(self) -> dict[str, str]:
        """For each of the data the last one before it that all ways from the inputs lead through.

        Empty where there is none.
        """
        parents = {declared.name: "" for declared in self.inputs}
        depths = {"": 0, **dict.fromkeys(parents, 1)}
        for node in self.nodes:
            given = self.data_of(node)
            if not given or self.data.isdisjoint(node.outputs):
                continue
            parent = given[0]
            for other in given[1:]:
                while parent != other:
                    if depths[parent] < depths[other]:
                        other = parents[other]
                    else:
                        parent = parents[parent]
            for value in filter(None, node.outputs):
                parents[value], depths[value] = parent, depths[parent] + 1
        return parents

    def sole_consumer(self, value: str) -> Node | None:
        """The one node that reads a value, where nothing else does."""
        readers = self.consumers.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def constant(self, value: str) -> NDArray | None:
        """A small constant; None for other values."""
        while value not in self.constants:
            node = self.producers.get(value)
            if node is None or node.op not in _UNCHANGED:
                return None
            value = node.inputs[0]
        return self.constants[value]

    def argument(self, node: Node, place: int, attribute: str) -> NDArray | None:
        """A setting of a node, that some versions give as an input and others as an attribute."""
        if attribute in node.attributes:
            return np.asarray(node.attributes[attribute])
        return self.constant(node.inputs[place]) if len(node.inputs) > place else None

    def before(self, values: Iterable[str], *, until: Iterable[str] = ()) -> set[str]:
        """The data that values are computed from, with these; not beyond those in ``until``."""
        found, waiting, last = set(), list(values), set(until)
        while waiting:
            value = waiting.pop()
            if value in found or value not in self.data:
                continue
            found.add(value)
            if value in self.producers and value not in last:
                waiting.extend(self.data_of(self.producers[value]))
        return found

    def after(self, value: str) -> set[str]:
        """The data that are computed from a value, with this."""
        found, waiting = set(), [value]
        while waiting:
            value = waiting.pop()
            if value not in found:
                found.add(value)
                readers = self.consumers.get(value, [])
                waiting.extend(v for n in readers for v in n.outputs if v in self.data)
        return found


def read_graph(model: ModelProto) -> Graph:
    """The graph of a model, whose weights may lie in other files."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {tensor.values.name for tensor in graph.sparse_initializer}
    nodes = [_read_node(number, node) for number, node in enumerate(graph.node)]
    return Graph(
        nodes=nodes,
        inputs=[_read_input(value) for value in graph.input if value.name not in weights],
        outputs=[value.name for value in graph.output],
        constants=dict(_small_constants(graph)),
        opset=next((s.version for s in model.opset_import if s.domain in ("", "ai.onnx")), 1),
    )


def tensors_of(graph: GraphProto) -> Iterator[TensorProto]:
    """All weights of a graph and of the graphs inside its nodes, in their order."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from _tensors_in(attribute)


def _tensors_in(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.type == AttributeProto.TENSOR:
        yield attribute.t
    yield from attribute.tensors
    for graph in _graphs_in(attribute):
        yield from tensors_of(graph)


def _graphs_in(attribute: AttributeProto) -> list[GraphProto]:
    return [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)


def _read_node(number: int, node: NodeProto) -> Node:
    captured = [v for a in node.attribute for g in _graphs_in(a) for v in _read_from_outside(g)]
    return Node(
        number=number,
        op=node.op_type,
        name=node.name,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes={a.name: value for a in node.attribute if (value := _plain(a)) is not None},
        captured=tuple(dict.fromkeys(captured)),
    )


def _plain(attribute: AttributeProto) -> Any:
    """A setting that is a number, a text or a list of these."""
    kinds = AttributeProto
    if attribute.type in (kinds.INT, kinds.FLOAT):
        return attribute.i if attribute.type == kinds.INT else attribute.f
    if attribute.type == kinds.STRING:
        return attribute.s.decode(errors="replace")
    lists = {kinds.INTS: attribute.ints, kinds.FLOATS: attribute.floats}
    if attribute.type == kinds.STRINGS:
        return [text.decode(errors="replace") for text in attribute.strings]
    return list(lists[attribute.type]) if attribute.type in lists else None


def _read_from_outside(graph: GraphProto) -> Iterator[str]:
    known = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    for node in graph.node:
        inner = (v for a in node.attribute for g in _graphs_in(a) for v in _read_from_outside(g))
        yield from (value for value in (*node.input, *inner) if value and value not in known)
        known.update(node.output)
    yield from (value.name for value in graph.output if value.name not in known)


def _read_input(value: Any) -> Input:
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return Input(value.name, _dtype(tensor.elem_type), shape)


def _dtype(kind: int) -> np.dtype:
    from onnx import helper

    return np.dtype(object) if kind == 0 else helper.tensor_dtype_to_np_dtype(kind)


def _small_constants(graph: GraphProto) -> Iterator[tuple[str, NDArray]]:
    for tensor in graph.initializer:
        if _is_small(tensor):
            yield tensor.name, np.array(numpy_helper.to_array(tensor))
    for node in graph.node:
        if node.op_type != "Constant":
            continue
        for attribute in node.attribute:
            value = _plain(attribute)
            if attribute.type == AttributeProto.TENSOR and _is_small(attribute.t):
                value = np.array(numpy_helper.to_array(attribute.t))
            if value is not None:
                yield node.output[0], np.asarray(value)


def _is_small(tensor: TensorProto) -> bool:
    is_inside = tensor.data_location != TensorProto.EXTERNAL
    return is_inside and int(np.prod(tensor.dims, dtype=np.int64)) <= _LARGEST_KEPT
