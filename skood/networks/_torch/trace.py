"""The layers, the head and the logits of a torch network, found in one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import LEAST_ROUNDING, PENULTIMATE, Trace
from .calls import (
    ACTIVATION_FUNCTIONS,
    ACTIVATION_MODULES,
    ADDITION,
    SQUASHING_FUNCTIONS,
    SQUASHING_MODULES,
    Call,
    CallListener,
)
from .fingerprint import Written
from .outputs import AUTO, BINARY, Path, Wanted, choose_output, find_output, name_output


@dataclass(frozen=True)
class Location:
    """Where in a forward pass a value is available: before or after a call."""

    call: tuple[str, int]
    before: bool = False

    def read(self, call: Call) -> Tensor | None:
        """The value, given the call of this key."""
        return call.inputs[0] if self.before else call.output


class Integers(Enum):
    """How a network takes integer inputs."""

    UNCHANGED = auto()
    AS_INT64 = auto()
    AS_FLOATS = auto()
    NOT_TRIED = auto()
    """It was only given floats so far."""


@dataclass(frozen=True, kw_only=True)
class TorchTrace(Trace):
    """What is needed to run a torch network again and find the same layers."""

    locations: dict[str, Location]
    """Where to find each layer, in forward order."""
    functions: frozenset[str]
    """Names of the calls that are calls of functions."""
    logits: Location | None
    """Where to find the logits; None where the network returns them."""
    head: str | None
    """Name of the linear module that yields the logits."""
    output: Path | None
    """Which output counts as the logits, where the user's function does not compute it."""
    n_classes: int | None = None
    """Number of columns of the logits, or None where there are none."""
    written: Written = field(default=Written())
    """Attributes of modules that a pass changes."""
    integers: Integers = Integers.AS_FLOATS
    """How the network takes integer inputs."""


class TraceResult(NamedTuple):
    """Trace of a pass, and its values."""

    trace: TorchTrace
    values: dict[str, Tensor]
    """Of each layer, in forward order."""
    logits: Tensor | None
    """What counts as the logits, of any shape."""


def trace_calls(
    network: nn.Module,
    run: Callable[[], Any],
    n_samples: int,
    *,
    wanted: Wanted = AUTO,
    fits: Callable[[Tensor], bool],
    known: Collection[str] | None = None,
) -> TraceResult:
    """Trace a network while ``run`` feeds it ``n_samples`` samples.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    run : callable
        Returns what the network returns.
    n_samples : int
        Number of samples.
    wanted : str, int or callable, default="auto"
        Which output holds the logits.
    fits : callable
        Whether a tensor may be the logits.
    known : collection of str, default=None
        Names of the only values that may be layers.
    """
    calls: list[_RecordedCall] = []
    with CallListener(network, lambda call: calls.append(_RecordedCall(call, n_samples))):
        returned = run()
    path = _find_path(returned, wanted, fits, calls)
    logits = wanted(returned) if callable(wanted) else find_output(returned, path)
    squashing, candidate = _find_source(calls, logits)
    why_no_head = _why_no_head(calls, logits, candidate)
    head = None if why_no_head else candidate
    layers = _name_layers(calls, head)
    if known is not None:
        layers = {name: layer for name, layer in layers.items() if name in known}
    features = [name for name, layer in layers.items() if layer.feeds(head)]
    trace = TorchTrace(
        auto=_choose_layers(layers, features, squashing, _find_residual_blocks(network, calls)),
        features=features,
        n_axes={name: layer.value.ndim for name, layer in layers.items()},
        locations={name: layer.location for name, layer in layers.items()},
        functions=frozenset(c.call.name for c in calls if isinstance(c.call.called, str)),
        logits=None if squashing is None else Location(squashing.call.key, before=True),
        head=None if head is None else head.call.name,
        why_no_head=why_no_head,
        head_rounding=LEAST_ROUNDING if head is None else head.rounding,
        output=path,
    )
    source = logits if squashing is None else squashing.input
    return TraceResult(trace, {name: layer.value for name, layer in layers.items()}, source)


def _find_path(
    returned: Any, wanted: Wanted, fits: Callable[[Tensor], bool], calls: list[_RecordedCall]
) -> Path | None:
    if callable(wanted):
        return None
    if wanted not in (AUTO, BINARY):
        return name_output(returned, wanted)

    def last_linear(output: Tensor) -> _RecordedCall | None:
        squashing, reader = _find_source(calls, output)
        if reader is None or any(c.reads_on(reader) for c in calls if c is not squashing):
            return None
        return reader

    return choose_output(returned, fits, last_linear)


def _find_source(
    calls: list[_RecordedCall], output: Tensor | None
) -> tuple[_RecordedCall | None, _RecordedCall | None]:
    """The softmax or sigmoid that yields an output, and the linear layer that yields the logits."""
    if output is None:
        return None, None
    key: tuple | None = _content_key(output)
    squashing = _last(calls, lambda c: c.is_squashing and c.output_key == key)
    if squashing is not None:
        key = squashing.input_key
    return squashing, _last(calls, lambda c: c.reads_features and c.output_key == key)


def _why_no_head(
    calls: list[_RecordedCall], logits: Tensor | None, candidate: _RecordedCall | None
) -> str:
    """Why no linear layer is the head; empty where one is."""
    if logits is None:
        return "the network returns nothing that could be the logits"
    if candidate is None:
        last = _last(calls, lambda c: c.reads_features)
        if last is None:
            return "no module of the class Linear is called with one vector for each sample"
        return (
            f"the network does not return what its last linear layer {last.call.name!r} yields, "
            "but something computed from it or beside it"
        )
    if not candidate.yields_product:
        return (
            f"the last linear layer {candidate.call.name!r} does not yield the product of its "
            "weight and input plus its bias: its class computes something else, or a hook "
            "changes it"
        )
    return ""


def linear_map(module: Any) -> tuple[Tensor, Tensor | None]:
    """Weight, (n_outputs, n_inputs), and bias of a linear layer or convolution of one position."""
    return module.weight.detach().flatten(1), module.bias


def _pads(convolution: Any) -> bool:
    return not isinstance(convolution.padding, str) and any(convolution.padding)


class _RecordedCall:
    """A call, with copies of what it was given and returned, which may be overwritten later."""

    def __init__(self, call: Call, n_samples: int) -> None:
        self.call = call
        self.input_key = _content_key(call.inputs[0]) if call.inputs else None
        self.input = _copy_rows(call.inputs[0], n_samples) if call.inputs else None
        self.output_key = None if call.output is None else _content_key(call.output)
        self.output = None if call.output is None else _copy_rows(call.output, n_samples)

    @property
    def is_activation(self) -> bool:
        called = self.call.called
        return isinstance(called, ACTIVATION_MODULES) or called in ACTIVATION_FUNCTIONS

    @property
    def is_squashing(self) -> bool:
        called = self.call.called
        return isinstance(called, SQUASHING_MODULES) or called in SQUASHING_FUNCTIONS

    @property
    def reads_features(self) -> bool:
        """Whether it is a linear layer that is given one vector for each sample.

        A convolution of one position with a kernel of one position is one too.
        """
        called, given = self.call.called, self.input
        if given is None:
            return False
        if isinstance(called, nn.Linear):
            return given.ndim == 2
        is_pointwise = isinstance(called, nn.Conv1d | nn.Conv2d | nn.Conv3d) and (
            called.groups == 1 and set(called.kernel_size) == {1} and not _pads(called)
        )
        return is_pointwise and given[0, 0].numel() == 1

    @property
    def yields_product(self) -> bool:
        """Whether a linear layer yields its weight times its input, plus its bias, at all."""
        if self.input is None or self.output is None or not self.output.is_floating_point():
            return False
        weight, bias = linear_map(self.call.called)
        given, got = self.input.flatten(1), self.output.flatten(1)
        if weight.shape != (got.shape[1], given.shape[1]) or not weight.is_floating_point():
            return False
        given, weight = given.to(got.dtype), weight.to(got.dtype)
        bias = torch.zeros_like(got[0]) if bias is None else bias.detach().to(got.dtype)
        wide = torch.promote_types(got.dtype, torch.float32)
        difference = (F.linear(given, weight, bias) - got).abs().to(wide)
        # What the sum would be without signs, for what rounding may do to it.
        scale = F.linear(*(term.abs().to(wide) for term in (given, weight, bias)))
        return bool((difference <= self.rounding * scale).all())

    @property
    def rounding(self) -> float:
        """Relative error that a product of this precision may have."""
        return max(4 * torch.finfo(cast(Tensor, self.output).dtype).eps, LEAST_ROUNDING)

    def reads_on(self, other: _RecordedCall) -> bool:
        """Whether it is given the output of another call and yields something else."""
        return other.output_key == self.input_key != self.output_key and not self.is_squashing

    def is_skip(self, weights: set[int]) -> bool:
        """Whether two activations of the same shape are added."""
        if self.call.called != ADDITION or len(self.call.inputs) != 2 or self.input is None:
            return False
        one, other = self.call.inputs
        return one.shape == other.shape and weights.isdisjoint([_storage(one), _storage(other)])


@dataclass(frozen=True)
class _Layer:
    """A value that can be extracted."""

    source: _RecordedCall
    location: Location
    value: Tensor

    def feeds(self, head: _RecordedCall | None) -> bool:
        """Whether the head is given this very value."""
        key = self.source.input_key if self.location.before else self.source.output_key
        return head is not None and key == head.input_key and self.value.ndim == 2


def _name_layers(calls: list[_RecordedCall], head: _RecordedCall | None) -> dict[str, _Layer]:
    counts = Counter(c.call.name for c in calls)
    layers: dict[str, _Layer] = {}
    for c in calls:
        if c is head and c.input is not None:
            name = PENULTIMATE if PENULTIMATE not in counts else f"{PENULTIMATE}_input"
            layers[name] = _Layer(c, Location(c.call.key, before=True), c.input.flatten(1))
        if c.output is not None and (isinstance(c.call.called, nn.Module) or c.is_activation):
            name, number = c.call.key
            name = f"{name}[{number}]" if counts[name] > 1 else name
            layers[name] = _Layer(c, Location(c.call.key), c.output)
    return layers


def _choose_layers(
    layers: dict[str, _Layer],
    features: list[str],
    squashing: _RecordedCall | None,
    blocks: set[str],
) -> list[str]:
    """The layers that "auto" stands for."""
    outputs = {name: layer.source for name, layer in layers.items() if not layer.location.before}
    chosen = {name for name, c in outputs.items() if c.call.name in blocks}
    if not chosen:
        chosen = {n for n, c in outputs.items() if c.is_activation and c is not squashing}
    if chosen.isdisjoint(features):
        chosen.update(name for name in features if layers[name].location.before)
    return [name for name in layers if name in chosen]


def _find_residual_blocks(network: nn.Module, calls: list[_RecordedCall]) -> set[str]:
    """Names of the modules whose own ``forward`` adds a skip, and that return what it yields."""
    weights = {_storage(tensor) for tensor in chain(network.parameters(), network.buffers())}
    by_name: dict[str, list[_RecordedCall]] = {}
    for c in calls:
        # What is fed integers adds embeddings.
        if c.call.inputs and c.call.inputs[0].is_floating_point():
            by_name.setdefault(c.call.name, []).append(c)
    blocks = set()
    for skip in (c for c in calls if c.is_skip(weights)):
        name = skip.call.name.rpartition(".")[0]
        inner = [c for c in calls if c.call.name.startswith(f"{name}.")]
        if any(_is_residual(block, skip, inner) for block in by_name.get(name, ())):
            blocks.add(name)
    return blocks


def _is_residual(block: _RecordedCall, skip: _RecordedCall, inner: list[_RecordedCall]) -> bool:
    """Whether a block adds its input, or a projection of it, to what its modules compute from it.

    ``inner`` are the calls inside the block. Sums that are a part of another formula, such as that
    of an activation function, are neither computed from a module's output nor returned.
    """
    modules = [c for c in inner if isinstance(c.call.called, nn.Module)]
    given, added = set(map(_place, block.call.inputs)), set(map(_place, skip.call.inputs))
    if not modules or block.call.output is None or skip.call.output is None:
        return False
    if given.isdisjoint(added):
        # Without an activation function, a sum of projections is just another linear layer.
        bends = any(c.is_activation for c in inner)
        if not bends or _reached(given, modules).isdisjoint(added):
            return False
    return _place(block.call.output) in _reached({_place(skip.call.output)}, inner)


def _reached(places: set[tuple], calls: list[_RecordedCall]) -> set[tuple]:
    """Places of values, and of all that calls compute from them."""
    reached = set(places)
    for c in calls:
        if c.call.output is not None and not reached.isdisjoint(map(_place, c.call.inputs)):
            reached.add(_place(c.call.output))
    return reached


def _place(value: Tensor) -> tuple:
    """Memory of a tensor that is alive, independent of its content."""
    return (value.data_ptr(), value.numel()) if _is_plain(value) else (id(value),)


def _storage(tensor: Tensor) -> int:
    """Equal for tensors that are views of the same memory."""
    return tensor.untyped_storage().data_ptr() if _is_plain(tensor) else id(tensor)


def _copy_rows(value: Tensor, n_samples: int) -> Tensor | None:
    """A copy of a value that has a row of values for each sample; None for another."""
    if not _is_plain(value) or value.ndim < 2 or len(value) != n_samples:
        return None
    return value.detach().clone()


def _content_key(value: Tensor) -> tuple:
    """Equal for two tensors that are alive at once if they hold the same values in memory.

    So a copy has another key than a view, a flattening has the same, and an operation in place
    changes the key.
    """
    if not _is_plain(value):
        return (id(value),)
    version = 0 if value.is_inference() else value._version
    order = None if value.is_contiguous() else (tuple(value.shape), value.stride())
    return (value.data_ptr(), value.numel(), version, order)


def _is_plain(value: Tensor) -> bool:
    return value.layout is torch.strided and not value.is_nested


def _last(
    calls: list[_RecordedCall], condition: Callable[[_RecordedCall], bool]
) -> _RecordedCall | None:
    return next((c for c in reversed(calls) if condition(c)), None)
