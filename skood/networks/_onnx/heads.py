"""Which value of an ONNX graph holds the logits, and the linear map that yields them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._base import LEAST_ROUNDING, OF_COSINES, PENULTIMATE, have_one_length
from .functions import ACTIVATIONS
from .graph import Graph, Node

_Arrays = Mapping[str, NDArray]

_SQUASHING = frozenset({"LogSoftmax", "Sigmoid", "Softmax"})
_COPYING = frozenset({"Cast", "Dropout", "Identity", "ZipMap"})
_RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_AFFINE = frozenset({"Add", "Div", "Mul", "Sub"})


class Logits(NamedTuple):
    """The value of a graph that holds the logits."""

    value: str
    is_log_odds: bool = False
    """Whether it is that of the second of two classes, whose probabilities the graph returns."""


def find_logits(graph: Graph, output: str) -> Logits:
    """What goes into the softmax or sigmoid that yields an output; else the output itself."""
    node = graph.producers.get(_original(graph, output, _COPYING | _RESHAPING))
    if node is not None and node.op in _SQUASHING and _over_classes(graph, node):
        return Logits(node.inputs[0])
    if node is not None and (log_odds := _log_odds(graph, node)) is not None:
        return Logits(log_odds, is_log_odds=True)
    return Logits(_original(graph, output, {"ZipMap"}))


def _original(graph: Graph, value: str, passed: Set[str] = _COPYING) -> str:
    """The value that another is, before operations that change nothing that counts."""
    while (node := graph.producers.get(value)) is not None and node.op in passed:
        value = node.inputs[0]
    return value


def made_of_single_values(graph: Graph, output: str) -> list[str]:
    """An output, and what becomes it by functions of one value each."""
    found = [output]
    single = ACTIVATIONS | _AFFINE | _COPYING | _RESHAPING | _SQUASHING
    while (node := graph.producers.get(found[-1])) is not None and node.op in single:
        given = graph.data_of(node)
        if len(given) != 1:
            break
        found += given
    return found


def _over_classes(graph: Graph, node: Node) -> bool:
    usual = -1 if graph.opset >= 13 else 1
    return node.op == "Sigmoid" or node.attributes.get("axis", usual) in (-1, 1)


def _log_odds(graph: Graph, node: Node) -> str | None:
    """The log-odds behind the probabilities 1 - p and p of two classes."""
    if node.op != "Concat" or len(node.inputs) != 2:
        return None
    rest, p = (_original(graph, value) for value in node.inputs)
    subtraction, sigmoid = graph.producers.get(rest), graph.producers.get(p)
    if subtraction is None or sigmoid is None or (subtraction.op, sigmoid.op) != ("Sub", "Sigmoid"):
        return None
    one = graph.constant(subtraction.inputs[0])
    is_rest = _original(graph, subtraction.inputs[1]) == p and one is not None and (one == 1).all()
    return sigmoid.inputs[0] if is_rest else None


@dataclass(frozen=True)
class Linear:
    """A linear map in a graph, by the names of the values that it is made of."""

    node: Node
    features: str
    weight: str
    bias: str | None
    terms: tuple[tuple[Node, str], ...]
    """What is done with constants to its result, in this order, and the names of the constants."""
    values: frozenset[str]
    """Its results, from the first to the last."""

    def constants(self) -> list[str]:
        """Names of the constants to compute."""
        bias = [] if self.bias is None else [self.bias]
        return list(dict.fromkeys([self.weight, *bias, *(name for _, name in self.terms)]))

    def read(self, constants: Mapping[str, NDArray]) -> tuple[NDArray, NDArray | None]:
        """Weight, (n_outputs, n_inputs), and bias, given the constants.

        Raises
        ------
        ValueError
            If their shapes are not those of a map from one vector to another.
        """
        weight = _as_matrix(self.node, constants[self.weight])
        dtype = weight.dtype
        bias = np.zeros(len(weight), dtype)
        if self.bias is not None:
            beta = self.node.attributes.get("beta", 1.0)
            bias = bias + (beta * np.ravel(constants[self.bias])).astype(dtype)
        for node, name in self.terms:
            weight, bias = _apply(node, name, np.ravel(constants[name]), weight, bias)
        has_bias = self.bias is not None or any(n.op in ("Add", "Sub") for n, _ in self.terms)
        if len(bias) != len(weight):
            raise ValueError("a constant has a value for each sample")
        return weight.astype(dtype), bias.astype(dtype) if has_bias else None


def _as_matrix(node: Node, weight: NDArray) -> NDArray:
    if node.op == "Conv":
        weight = weight.reshape(weight.shape[:2]) if set(weight.shape[2:]) == {1} else weight
    if weight.ndim != 2:
        raise ValueError("its weights are no matrix")
    if node.op in ("Conv", "MatMul"):
        return weight if node.op == "Conv" else weight.T
    alpha = np.asarray(node.attributes.get("alpha", 1.0), dtype=weight.dtype)
    return alpha * (weight if node.attributes.get("transB", 0) else weight.T)


def _apply(
    node: Node, name: str, constant: NDArray, weight: NDArray, bias: NDArray
) -> tuple[NDArray, NDArray]:
    is_first = node.inputs[0] == name
    if node.op == "Add":
        return weight, bias + constant
    if node.op == "Sub":
        return (-weight, constant - bias) if is_first else (weight, bias - constant)
    if is_first and node.op == "Div":
        raise ValueError("a constant is divided by what it yields")
    if len(constant) not in (1, len(weight)):
        raise ValueError("a constant has a value for each sample")
    if node.op == "Div":
        return weight / constant[:, None], bias / constant
    return weight * constant[:, None], bias * constant


def find_linear(graph: Graph, value: str) -> Linear | None:
    """The linear map with constant weights that yields a value, if one does."""
    terms: list[tuple[Node, str]] = []
    values = {value}
    while (node := graph.producers.get(value)) is not None:
        if node.op in _AFFINE and len(graph.data_of(node)) == 1:
            terms.insert(0, (node, next(v for v in node.inputs if v not in graph.data)))
        elif node.op not in _COPYING | _RESHAPING:
            return _linear(graph, node, tuple(terms), frozenset(values))
        value = graph.data_of(node)[0]
        values.add(value)
    return None


def find_named(graph: Graph, name: str) -> Linear:
    """The linear map of the node of a name, or of the node that yields the value of a name.

    Raises
    ------
    ValueError
        If there is no such node, or it is no linear map.
    """
    found = [node for node in graph.nodes if name == node.name or name in node.outputs]
    if not found:
        raise ValueError(f"head={name!r} names no node of the ONNX model, and no value.")
    linear = _linear(graph, found[0], (), frozenset(found[0].outputs[:1]))
    if linear is None:
        raise ValueError(
            f"head={name!r} names a node {found[0].op} of the ONNX model, which is no Gemm, MatMul "
            "or convolution of one position with constant weights."
        )
    return linear


def is_part(graph: Graph, linear: Linear, name: str) -> bool:
    """Whether a name is that of a node, or of a value, of a linear map."""
    nodes = [graph.producers[value] for value in linear.values]
    return name in linear.values or any(name == node.name for node in nodes)


def _linear(
    graph: Graph, node: Node, terms: tuple[tuple[Node, str], ...], values: frozenset[str]
) -> Linear | None:
    is_linear = node.op == "MatMul" or (node.op == "Gemm" and not node.attributes.get("transA"))
    if not (is_linear or _is_pointwise(node)) or graph.data_of(node) != [node.inputs[0]]:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else None
    return Linear(node, node.inputs[0], node.inputs[1], bias, terms, values)


def _is_pointwise(node: Node) -> bool:
    sizes, pads = (node.attributes.get(name, []) for name in ("kernel_shape", "pads"))
    is_whole = node.attributes.get("group", 1) == 1 and not any(pads)
    return node.op == "Conv" and set(sizes) <= {1} and is_whole


def yields(
    weight: NDArray, bias: NDArray | None, features: NDArray, logits: NDArray, rounding: float
) -> bool:
    """Whether logits are the product of weight and features, plus the bias."""
    if features.shape[1:] != weight.shape[1:] or logits.shape != (len(features), len(weight)):
        return False
    wide = np.promote_types(logits.dtype, np.float32)
    given, weight = features.astype(wide), weight.astype(wide)
    bias = np.zeros(len(weight), wide) if bias is None else bias.astype(wide)
    difference = np.abs(given @ weight.T + bias - logits)
    # What the sum would be without signs, for what rounding may do to it.
    scale = np.abs(given) @ np.abs(weight.T) + np.abs(bias)
    return bool((difference <= rounding * scale).all())


def rounding_of(logits: NDArray) -> float:
    """Relative error that a product of this precision may have."""
    return max(4 * float(np.finfo(logits.dtype).eps), LEAST_ROUNDING)


@dataclass(frozen=True, eq=False)
class Head:
    """The last linear layer of a model, or why there is none."""

    why_not: str = ""
    features: str = ""
    """The value that it reads."""
    same: frozenset[str] = frozenset()
    """Matrices of the same values."""
    weight: NDArray | None = None
    """(n_outputs, n_units)"""
    bias: NDArray | None = None


def find_head(
    graph: Graph,
    wanted: Any,
    logits: Logits | None,
    output: NDArray | None,
    values: _Arrays,
    rows: _Arrays,
) -> Head:
    """The linear map that yields the logits, checked by its product.

    Parameters
    ----------
    graph : Graph
        The graph.
    wanted : "auto", str or LinearHead
        The name of its node, or weight and bias themselves.
    logits : Logits or None
        The value that holds the logits, where one does.
    output : ndarray of shape (n_samples, n_outputs) or None
        The logits, or the log-odds of the second of two classes.
    values, rows : mapping of str to ndarray
        All values, and those that have a row for each sample.

    Raises
    ------
    ValueError
        If what is wanted does not yield the logits.
    """
    if output is None:
        head = Head("the model returns nothing that could be the logits")
    elif hasattr(wanted, "weight"):
        head = _given_head(graph, wanted, output, rows)
    else:
        linear = None if logits is None else find_linear(graph, logits.value)
        if wanted != "auto" and (linear is None or not is_part(graph, linear, wanted)):
            linear = find_named(graph, wanted)
        head = _checked(graph, linear, output, values, rows)
        if wanted == "auto" and _is_cosine(head, rows):
            head = Head(OF_COSINES)
    if head.why_not and not (isinstance(wanted, str) and wanted == "auto"):
        given = f"head={wanted!r}" if isinstance(wanted, str) else "The given head"
        raise ValueError(f"{given} does not yield the logits of the ONNX model: {head.why_not}.")
    return head


def _checked(
    graph: Graph, linear: Linear | None, output: NDArray, values: _Arrays, rows: _Arrays
) -> Head:
    if linear is None:
        return Head(
            "no Gemm, MatMul or convolution of one position with constant weights yields the "
            "logits, up to constant factors and summands"
        )
    name = f"the {linear.node.op} {linear.node.name or linear.node.outputs[0]!r}"
    try:
        features = _features(rows.get(linear.features))
        weight, bias = linear.read(values)
    except ValueError as error:
        return Head(f"{name} is no head: {error}")
    if _is_quantized(graph, linear.weight):
        return Head(f"{name} has quantized weights: ONNX Runtime may compute in integers")
    if not yields(weight, bias, features, output, rounding_of(output)):
        return Head(f"{name} multiplies its input by weights, but that is not the logits")
    same = equal_values(graph, linear.features, rows)
    return Head("", linear.features, same, weight, bias)


def _is_cosine(head: Head, rows: _Arrays) -> bool:
    """Whether it multiplies vectors of length one by vectors of one length."""
    if head.weight is None or head.bias is not None:
        return False
    features = as_matrix_of_rows(rows[head.features])
    return features is not None and have_one_length(features, 1.0) and have_one_length(head.weight)


def _features(value: NDArray | None) -> NDArray:
    features = as_matrix_of_rows(value)
    if features is None:
        raise ValueError("it does not read one vector for each sample")
    return features


def _is_quantized(graph: Graph, weight: str) -> bool:
    node = graph.producers.get(weight)
    while node is not None and node.op in {"Transpose", *_COPYING, *_RESHAPING}:
        node = graph.producers.get(node.inputs[0])
    return node is not None and node.op == "DequantizeLinear"


def _given_head(graph: Graph, given: Any, output: NDArray, rows: _Arrays) -> Head:
    """The value that a given head reads."""
    weight, bias = np.asarray(given.weight), given.bias
    if len(output[0]) == 1 and len(weight) == 2:  # log-odds, as the head of two classes
        weight, bias = np.diff(weight, axis=0), np.diff(bias)
    candidates = [v for v in graph.data_outputs() if v in rows]
    candidates += [i.name for i in graph.inputs if i.name in rows]
    if given.input_layer is not None and given.input_layer != PENULTIMATE:
        candidates = [v for v in candidates if given.input_layer in (v, graph.names.get(v))]
    for value in candidates[::-1]:
        features = as_matrix_of_rows(rows[value])
        if features is not None and yields(weight, bias, features, output, rounding_of(output)):
            return Head("", value, equal_values(graph, value, rows), weight, bias)
    return Head("the product of its weight and any layer, plus its bias, is not the logits")


def as_matrix_of_rows(value: NDArray | None) -> NDArray | None:
    """A value as a matrix, where all but its first two axes have one place."""
    if value is None or value.ndim < 2 or value[0, 0].size != 1:
        return None
    return value.reshape(len(value), -1)


def equal_values(graph: Graph, value: str, rows: _Arrays) -> frozenset[str]:
    """Matrices that hold what a value holds: itself, and what it is a copy of."""
    found = set()
    known: str | None = value
    while known is not None:
        if known in rows and rows[known].ndim == 2:
            found.add(known)
        node = graph.producers.get(known)
        is_copy = node is not None and node.op in _COPYING | _RESHAPING
        known = node.inputs[0] if node is not None and is_copy else None
    return frozenset(found)
