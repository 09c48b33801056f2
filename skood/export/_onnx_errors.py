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
    is_double = torch.float64 in getattr(network, "dtypes", [])
    advice = (
        ", and has few operators for double precision: watch network.float()" if is_double else ""
    )
    return ExportError(
        f"The monitor was not written to ONNX, as onnxruntime cannot run the graph{advice}. "
        f"{_summary(error)}"
    )


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
