"""Which output of an ONNX model holds the logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from ..._warnings import warn_user
from .graph import Graph
from .heads import Logits, as_matrix_of_rows, find_linear, find_logits

AUTO, BINARY = "auto", "binary"

Wanted = str | int | Callable[[Any], Any]
"""The parameter ``logits``: "auto", "binary", the name or index of an output, or a function."""


class Outputs(dict[Any, NDArray]):
    """What a model returns, by name; a number counts the outputs in their order."""

    def __missing__(self, key: Any) -> NDArray:
        if not isinstance(key, int):
            raise KeyError(key)
        return list(self.values())[key]


def outputs_of(graph: Graph, values: Mapping[str, NDArray]) -> Outputs:
    """What a model returns, of the values of its graph."""
    return Outputs({name: values[name] for name in graph.outputs if name in values})


def choose_logits(
    graph: Graph, wanted: Wanted, values: Mapping[str, NDArray], rows: Mapping[str, NDArray]
) -> Logits | None:
    """The value that holds the logits; None where there is none, or a function computes them.

    Parameters
    ----------
    graph : Graph
        The graph.
    wanted : "auto", "binary", str, int or callable
        Which output holds them.
    values, rows : mapping of str to ndarray
        All values that are known, and those that have a row of floating point numbers for each
        sample.

    Raises
    ------
    ValueError
        If there is no output of the wanted name or number.
    """
    if callable(wanted):
        outputs = outputs_of(graph, values)
        computed = wanted(outputs)
        same = (name for name, value in outputs.items() if value is computed)
        return next((find_logits(graph, name) for name in same), None)
    if wanted in (AUTO, BINARY):
        return _choose(graph, wanted == BINARY, rows)
    if isinstance(wanted, str) and wanted in graph.outputs:
        return find_logits(graph, wanted)
    n_outputs = len(graph.outputs)
    if not isinstance(wanted, str | tuple) and -n_outputs <= wanted < n_outputs:
        return find_logits(graph, graph.outputs[wanted])
    raise ValueError(
        f"logits={wanted!r} names no output of the ONNX model; it has {graph.outputs}."
    )


def _choose(graph: Graph, is_binary: bool, rows: Mapping[str, NDArray]) -> Logits | None:
    found = {name: find_logits(graph, name) for name in graph.outputs}
    if "logits" in found:
        return found["logits"]
    fitting = {
        name: logits
        for name, logits in found.items()
        if logits.value in rows and _fits(rows[logits.value], is_binary or logits.is_log_odds)
    }
    linear = {name: logits for name, logits in fitting.items() if _ends_in_linear(graph, logits)}
    candidates = linear or fitting
    if len(set(candidates.values())) > 1:
        shapes = ", ".join(f"{n!r} of shape {rows[v.value].shape}" for n, v in candidates.items())
        warn_user(
            f"Several outputs of the ONNX model may be its logits: {shapes}; taken is "
            f"{next(iter(candidates))!r}. Say which it is by the parameter `logits`, a name or an "
            "index."
        )
    # What cannot be the one value that is wanted is named in the error.
    return next(iter((candidates or (found if is_binary else {})).values()), None)


def _fits(value: NDArray, is_one: bool) -> bool:
    if is_one:
        return value.size == len(value)
    matrix = as_matrix_of_rows(value)
    return matrix is not None and matrix.shape[1] > 1


def _ends_in_linear(graph: Graph, logits: Logits) -> bool:
    """Whether a last linear map yields it, one whose result goes into no other."""
    if find_linear(graph, logits.value) is None:
        return False
    after = [graph.producers[value] for value in graph.after(logits.value) - {logits.value}]
    return not any(node.op in ("Gemm", "MatMul", "Conv") for node in after)
