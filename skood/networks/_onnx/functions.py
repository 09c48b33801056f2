"""Activation functions in the graph of an ONNX model, also those written out as several nodes."""

from __future__ import annotations

import numpy as np

from .graph import LINEAR, Graph, Node

_ACTIVATIONS = frozenset(
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
_GATES = frozenset({"Clip", "Erf", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softplus", "Tanh"})
_ELEMENTWISE = _GATES | {
    "Abs",
    "Add",
    "Cast",
    "Div",
    "Identity",
    "Log",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Pow",
    "Reciprocal",
    "Sqrt",
    "Sub",
}


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
    return node.op in _ACTIVATIONS or _is_quantized_relu(graph, node)


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
    """The last value of a product of x and a function of x, and the nodes before it."""
    if node.op not in ("Mul", "Div") or len(graph.data_of(node)) != 2:
        return None
    one, other = node.inputs
    for factor, gate in [(one, other), (other, one)][: 1 if node.op == "Div" else 2]:
        x, scaling = _without_factor(graph, factor)
        inner = _nodes_between(graph, {x, factor}, gate)
        if any(graph.nodes[number].op in _GATES for number in inner):
            inner |= scaling
            last = node.outputs[0]
            following = graph.sole_consumer(last)
            while following is not None and _scales(graph, following):
                inner.add(graph.producers[last].number)
                last = following.outputs[0]
                following = graph.sole_consumer(last)
            return last, inner
    return None


def _without_factor(graph: Graph, value: str) -> tuple[str, set[int]]:
    """What a constant factor was applied to, and the node that does so."""
    node = graph.producers.get(value)
    if node is None or not _scales(graph, node):
        return value, set()
    return graph.data_of(node)[0], {node.number}


def _scales(graph: Graph, node: Node) -> bool:
    """Whether a node multiplies data by one constant number."""
    if node.op not in ("Mul", "Div") or len(graph.data_of(node)) != 1:
        return False
    factors = [graph.constant(value) for value in node.inputs if value not in graph.data]
    return len(factors) == 1 and factors[0] is not None and factors[0].size == 1


def _nodes_between(graph: Graph, starts: set[str], end: str) -> set[int]:
    """The nodes that compute a value from others, element by element; none where it is not so."""
    found: set[int] = set()
    waiting = [end]
    while waiting:
        value = waiting.pop()
        if value in starts:
            continue
        node = graph.producers.get(value)
        if node is None or node.op not in _ELEMENTWISE:
            return set()
        if node.number not in found:
            found.add(node.number)
            waiting.extend(graph.data_of(node))
    return found
