"""A torch network, and what is read of it, as one graph."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy, Tracer
from torch.fx.graph import CodeGen
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..._export_error import ExportError
from .._base import Batch, LayerReading
from .gradients import Inputs
from .trace import TorchTrace

Values = tuple[Tensor | None, Tensor | None, dict[str, Tensor]]
"""Logits, numbers of predicted classes, and what is read of layers, by name."""


class CapturedNetwork(nn.Module):
    """A graph of all that a network computes, with copies of its weights.

    It is in evaluation mode always, and the network itself is no part of it.

    Parameters
    ----------
    graph : torch.fx.GraphModule
        Maps tensors to a list of tensors.
    names : sequence of str
        What these are: "logits" and "codes", where there are such, and the names of layers.
    dtypes : sequence of torch.dtype
        Types of the inputs, which others are cast to.
    token_axes : sequence of tuple of int
        Of each input, the axis that may have any length, if one may.
    """

    def __init__(
        self,
        graph: Any,
        names: Sequence[tuple[str, str]],
        dtypes: Sequence[torch.dtype],
        token_axes: Sequence[tuple[int, ...]],
    ) -> None:
        super().__init__()
        self.graph, self.token_axes = graph, list(token_axes)
        self.names, self.dtypes = list(names), list(dtypes)
        self.training = False

    def forward(self, *inputs: Tensor) -> Values:
        """Logits, predicted classes, and layers by name."""
        given = [x.to(dtype) for x, dtype in zip(inputs, self.dtypes, strict=True)]
        found = list(zip(self.names, self.graph(*given), strict=True))
        beside = {name: value for (kind, name), value in found if kind == "beside"}
        layers = {name: value for (kind, name), value in found if kind == "layer"}
        return beside.get("logits"), beside.get("codes"), layers

    def train(self, mode: bool = True) -> CapturedNetwork:
        """Nothing: what was captured is the evaluation."""
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        applied = super()._apply(fn, recurse)
        # Tensors that the graph makes itself, such as positions, are to be made there, too.
        _make_on(self.graph, fn(torch.empty(0)).device)
        return applied


class CodeTracer(Tracer):
    """Makes a graph again from its code, as torch does when it is unpickled."""

    def trace(self, *arguments: Any, **settings: Any) -> Any:
        """The graph of a module."""
        with _CallsWithSizes(self):
            return super().trace(*arguments, **settings)


class _CallsWithSizes(TorchFunctionMode):
    """Lets a tracer see calls of operators that are given no tensor, but a size that it traces."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (args, kwargs or {})
        if any(isinstance(value, Proxy) for value in tree_leaves(given)):
            return self._tracer.create_proxy("call_function", func, *given)
        return func(*given[0], **given[1])


def _make_on(graph: Any, device: torch.device) -> None:
    """Let a graph make its tensors on a device."""
    changed = False
    for node in graph.graph.nodes:
        known = node.kwargs.get("device")
        if known is not None and torch.device(known) != device:
            node.update_kwarg("device", device)
            changed = True
    if changed:
        graph.recompile()


class _Reading(nn.Module):
    """Calls a network as an adapter does, and returns what is read of it."""

    def __init__(
        self,
        adapter: Any,
        trace: TorchTrace,
        layers: Sequence[str],
        read: LayerReading,
        names: Sequence[str] | None,
        note: Callable[[list[tuple[str, str]]], None],
    ) -> None:
        super().__init__()
        self.network = adapter.network
        self._listen = partial(adapter._listen, trace=trace, layers=layers)
        self._codes = partial(adapter.codes, trace=trace)
        self._read = read
        self._inputs = names
        self._note = note

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        layers: dict[str, Tensor] = {}
        copies = [value.clone() for value in inputs]  # the network may overwrite its inputs
        given: Inputs = copies[0]
        if self._inputs is not None:
            given = dict(zip(self._inputs, copies, strict=True))
        kept = inputs[0] if self._inputs is None else dict(zip(self._inputs, inputs, strict=True))

        def keep(layer: str, value: Tensor) -> None:
            layers.update(self._read(layer, value, kept))

        logits = self._listen(given, keep=keep)
        codes = None if logits is None else self._codes(logits)
        beside = {"logits": logits, "codes": codes}
        known = {name: value for name, value in beside.items() if value is not None}
        self._note([("beside", name) for name in known] + [("layer", name) for name in layers])
        return [*known.values(), *layers.values()]


def capture(
    adapter: Any,
    batch: Batch,
    trace: TorchTrace,
    layers: Sequence[str],
    read: LayerReading,
) -> CapturedNetwork:
    """The network of an adapter as one graph, for any number of samples.

    Raises
    ------
    ExportError
        If torch cannot trace it, or it draws random numbers or computes in mixed precision.
    """
    _refuse(adapter, trace)
    inputs = adapter._to_inputs(batch, trace.integers)
    names = list(inputs) if isinstance(inputs, Mapping) else None
    values = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    # No attribute of the module, as torch puts these back after it has traced.
    noted: list[list[tuple[str, str]]] = []
    reading = _Reading(adapter, trace, layers, read, names, noted.append)
    graph, token_axes = _export(reading, values, _token_axes(inputs, trace))
    return CapturedNetwork(graph, noted[-1], [value.dtype for value in values], token_axes)


def _refuse(adapter: Any, trace: TorchTrace) -> None:
    if trace.draws:
        raise ExportError(
            "The network cannot be exported: it draws random numbers in evaluation mode, so that "
            "each call gives other values."
        )
    if adapter.precision:
        raise ExportError(
            f"The network cannot be exported as it is extracted, in mixed precision "
            f"({adapter.precision}): use autocast=False, and fit again."
        )


def _token_axes(inputs: Inputs, trace: TorchTrace) -> list[tuple[int, ...]]:
    """Of each input, its axis of tokens, if it may have another size."""
    values = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    if not trace.takes_any_length:
        return [()] * len(values)
    sequence = inputs.get(trace.sequence) if isinstance(inputs, Mapping) else inputs
    length = None if sequence is None else sequence.shape[1]
    return [(1,) if value.ndim > 1 and value.shape[1] == length else () for value in values]


def _export(
    reading: _Reading, values: list[Tensor], token_axes: list[tuple[int, ...]]
) -> tuple[Any, list[tuple[int, ...]]]:
    """The graph, for sequences of any length if that is possible, and the axes of these."""
    n_samples, n_tokens = map(torch.export.Dim, ("n_samples", "n_tokens"))
    of_one_length: list[tuple[int, ...]] = [()] * len(values)
    errors = []
    for axes in [token_axes, of_one_length] if any(token_axes) else [of_one_length]:
        shapes = tuple({0: n_samples} | dict.fromkeys(each, n_tokens) for each in axes)
        try:
            with warnings.catch_warnings(), _symbolic_lengths(reading.network):
                warnings.simplefilter("ignore")  # of torch's, about what it does
                program = torch.export.export(
                    reading, tuple(values), dynamic_shapes=(shapes,), strict=False
                )
                return _as_module(program), axes
        except Exception as error:
            errors.append(error)
    raise ExportError(
        "The network cannot be exported: torch.export cannot trace it for any number of samples: "
        f"{_first_lines(errors[-1])}"
    ) from errors[-1]


@contextmanager
def _symbolic_lengths(network: nn.Module) -> Iterator[None]:
    """Let ``len`` of a tensor, in the code of a network, be the size of its first axis.

    What torch traces may have a size that stands for any number, and Python's ``len`` makes one
    number of it. All else has the length that it has, and torch's own code Python's ``len``.
    """
    namespaces = _namespaces(network)
    for names in namespaces:
        names["len"] = _length
    try:
        yield
    finally:
        for names in namespaces:
            names.pop("len", None)


def _length(held: Any, /) -> Any:
    is_traced = isinstance(held, Tensor) and held.ndim and not isinstance(held.shape[0], int)
    return held.shape[0] if is_traced else len(held)


def _namespaces(network: nn.Module) -> list[dict[str, Any]]:
    """Global names of the files in which the classes of a network are written."""
    classes = {cls for module in network.modules() for cls in type(module).__mro__}
    functions = (value for cls in classes for value in vars(cls).values())
    found = {id(f.__globals__): f.__globals__ for f in functions if isinstance(f, FunctionType)}
    packages = "torch", __name__.partition(".")[0]
    return [
        names
        for names in found.values()
        if "len" not in names and str(names.get("__name__")).partition(".")[0] not in packages
    ]


def _as_module(program: Any) -> Any:
    """A copy without guards, which are about the shapes of a first call, if they can be left out.

    It takes and returns plain tensors: what describes nested inputs warns when it is copied.
    """
    if "check_guards" in inspect.signature(program.module).parameters:
        module = program.module(check_guards=False)
    else:
        module = program.module()
    module.graph.set_codegen(CodeGen())
    module.graph._tracer_cls = CodeTracer  # That of torch.export is not made again from a pickle.
    module.recompile()
    copied: Any = copy.deepcopy(module)
    return copied.requires_grad_(False)


def _first_lines(error: Exception) -> str:
    text = str(error).strip().partition("\n\n")[0]
    return f"{type(error).__name__}: {text[:500]}"
