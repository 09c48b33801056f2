"""What torch and onnxruntime say of a graph that they cannot take, in few words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch

from .._export_error import ExportError

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_OPERATOR = re.compile(r"(?:op='|target=torch\.ops\.)(\w+\.\w+)")
_LONGEST = 400
_PLURALS = {"score": "scores", "logits": "logits", "p_value": "p-values"}


def not_written(error: Exception, network: Any) -> ExportError:
    """The error for a graph that torch cannot write.

    Parameters
    ----------
    error : Exception
        What torch raised.
    network : Module
        The captured network, whose graph says where it computes what.
    """
    errors = list(_causes(error))
    found = [_OPERATOR.search(str(each)) for each in reversed(errors)]
    operators = [match[1] for match in found if match]
    what = "something in the network has"
    if operators:
        places = " and ".join(_places(network, operators[0]))
        what = f"{operators[0]}{f', in {places} of the network,' if places else ''} has"
    return ExportError(
        f"The monitor cannot be written to ONNX: {what} no form there. {_summary(errors[-1])}"
    )


def not_run(error: Exception, network: Any) -> ExportError:
    """The error for a graph that onnxruntime cannot run.

    Parameters
    ----------
    error : Exception
        What onnxruntime raised.
    network : Module
        The captured network, whose inputs have a precision.
    """
    advice = ""
    if precision := _other_precision(network):
        advice = f", and has few operators for {precision} precision: watch network.float()"
    return ExportError(
        f"The monitor was not written to ONNX, as onnxruntime cannot run the graph{advice}. "
        f"{_summary(error)}"
    )


def other_values(name: str, n_wrong: int, n_rows: int, largest: float, network: Any) -> ExportError:
    """The error for a graph that gives other scores, logits or p-values than the monitor.

    Parameters
    ----------
    name : {"score", "logits", "p_value"}
        Which of them.
    n_wrong, n_rows : int
        How many of how many rows differ by more than they may.
    largest : float
        By how much at most.
    network : Module
        The captured network, whose inputs have a precision.
    """
    why = "This is a defect of skood, torch or onnxruntime."
    if _other_precision(network) == "half":
        why = (
            "torch and onnxruntime round half precision in other places: watch network.float(), "
            "with a monitor that is fitted on it."
        )
    return ExportError(
        f"The ONNX file would give other {_PLURALS[name]} than the monitor in {n_wrong} of "
        f"{n_rows} rows, by up to {largest:.3g}: it was not written. {why}"
    )


def _other_precision(network: Any) -> str:
    """What the precision of a network's inputs is called where it is not single."""
    called = {torch.float64: "double", torch.float16: "half", torch.bfloat16: "half"}
    found = [called[dtype] for dtype in getattr(network, "dtypes", []) if dtype in called]
    return found[0] if found else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _places(network: Any, operator: str) -> list[str]:
    """Modules of a captured network that call an operator, with their classes."""
    graph = getattr(network, "graph", None)
    nodes = [] if graph is None else graph.graph.nodes
    calls = [node for node in nodes if str(node.target).startswith(f"{operator}.")]
    stacks = [list(node.meta.get("nn_module_stack", {}).values()) for node in calls]
    return sorted({_place(*stack[-1]) for stack in stacks if stack})


def _place(name: str, kind: Any) -> str:
    cls = str(getattr(kind, "__name__", kind)).rpartition(".")[2]
    return f"{name.removeprefix('network').removeprefix('.')!r} ({cls})"


def _summary(error: BaseException) -> str:
    text = _COLOURS.sub("", str(error)).strip().partition("\n\n")[0]
    return f"{type(error).__name__}: {text[:_LONGEST]}"
