"""Activation functions in the graph of an ONNX model, also those written out as several nodes."""

from __future__ import annotations

import numpy as np

from .graph import LINEAR, Graph, Node

ACTIVATIONS = frozenset(
    {
        "BiasGelu",
        "Celu",
        "Elu",
        "FastGelu",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "PRelu",
        "QuickGelu",
        "Relu",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
    }
)
# What bends a function that is written out.
_GATES = frozenset(
    {
        "Abs",
        "Clip",
        "Erf",
        "Exp",
        "HardSigmoid",
        "Max",
        "Min",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Tanh",
        "Where",
    }
)
_COMBINING = frozenset({"Add", "Div", "Mul", "Sub", "Where"})
_ELEMENTWISE = (
    _GATES
    | _COMBINING
    | {
        "And",
        "Cast",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Log",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "Reciprocal",
        "Sign",
        "Sqrt",
    }
)


def find_activations(graph: Graph) -> list[str]:
    """Values that activation functions yield, in forward order.

    Of a function that is written out, such as a GELU by the error function, the last value.
    """
    found: set[str] = set()
    parts: set[int] = set()
    for node in graph.nodes:
        written_out = _written_out(graph, node)
        if written_out is not None:
            last, inner = written_out
            found.add(last)
            parts |= inner
        elif _is_activation(graph, node):
            found.add(node.outputs[0])
    parts_yield = {graph.nodes[number].outputs[0] for number in parts}
    return [value for value in graph.data_outputs() if value in found - parts_yield]


def _is_activation(graph: Graph, node: Node) -> bool:
    if not node.outputs or node.outputs[0] not in graph.data:
        return False
    if node.op == "Clip":
        least, largest = graph.argument(node, 1, "min"), graph.argument(node, 2, "max")
        # One that keeps a divisor from 0 has another least value and no largest one.
        return least is not None and (_equals(least, 0) or largest is not None)
    if node.op == "Max":
        others = [value for value in node.inputs if value not in graph.data]
        zeros = [graph.constant(value) for value in others]
        return len(zeros) == len(node.inputs) - 1 == 1 and _equals(zeros[0], 0)
    return node.op in ACTIVATIONS or _is_quantized_relu(graph, node)


def _is_quantized_relu(graph: Graph, node: Node) -> bool:
    """Whether a linear map is read from integers of which none stands for a negative number."""
    before = graph.producers.get(node.inputs[0]) if node.op == "DequantizeLinear" else None
    if before is None or before.op != "QuantizeLinear" or len(before.inputs) < 3:
        return False
    zero, source = graph.constant(before.inputs[2]), graph.producers.get(before.inputs[0])
    if zero is None or source is None or source.op not in (*LINEAR, "Add"):
        return False
    return zero.dtype.kind in "iu" and _equals(zero, np.iinfo(zero.dtype).min)


def _equals(constant: np.ndarray | None, number: float) -> bool:
    return constant is not None and constant.size > 0 and bool((constant == number).all())


def _written_out(graph: Graph, node: Node) -> tuple[str, set[int]] | None:
    """The last value of a function of one value x that uses x more than once, and its nodes."""
    if node.op not in _COMBINING or len(graph.data_of(node)) < 2:
        return None
    inner = _nodes_between(graph, graph.dominators[node.outputs[0]], graph.data_of(node))
    if not any(graph.nodes[number].op in _GATES for number in inner) and node.op != "Where":
        return None
    last, following = node, graph.sole_consumer(node.outputs[0])
    while inner and following is not None and _scales(graph, following):
        inner.add(last.number)
        last, following = following, graph.sole_consumer(following.outputs[0])
    return (last.outputs[0], inner) if inner else None


def _nodes_between(graph: Graph, start: str, ends: list[str]) -> set[int]:
    """The nodes that compute values from one, element by element; none where it is not so."""
    found: set[int] = set()
    waiting = list(ends)
    while waiting:
        value = waiting.pop()
        if value == start:
            continue
        node = graph.producers.get(value)
        if node is None or (node.op not in _ELEMENTWISE and not _halves(graph, node)):
            return set()
        if node.number not in found:
            found.add(node.number)
            waiting.extend(graph.data_of(node))
    return found


def _halves(graph: Graph, node: Node) -> bool:
    """Whether one half of a value is multiplied by the sigmoid of the other, and no more."""
    readers = [graph.sole_consumer(value) for value in node.outputs]
    ops = sorted(reader.op for reader in readers if reader is not None)
    return node.op == "Split" and len(node.outputs) == 2 and ops == ["Mul", "Sigmoid"]


def _scales(graph: Graph, node: Node) -> bool:
    """Whether a node multiplies data by one constant number."""
    if node.op not in ("Mul", "Div") or len(graph.data_of(node)) != 1:
        return False
    factors = [graph.constant(value) for value in node.inputs if value not in graph.data]
    return len(factors) == 1 and factors[0] is not None and factors[0].size == 1
