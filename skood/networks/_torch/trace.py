"""What one forward pass tells about a torch network: its layers, its head, its logits."""

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
class Tap:
    """Where in a forward pass a value is to be had: at a call, before or after it."""

    call: tuple[str, int]
    before: bool = False

    def read(self, call: Call) -> Tensor | None:
        """The value, from the call that has this tap's key."""
        return call.inputs[0] if self.before else call.output


class Integers(Enum):
    """How a network takes integer inputs."""

    AS_THEY_ARE = auto()
    AS_INT64 = auto()
    AS_FLOATS = auto()
    NOT_TRIED = auto()
    """It was given floats so far."""


@dataclass(frozen=True, kw_only=True)
class TorchTrace(Trace):
    """What is to be known to run a torch network again and find the same layers."""

    taps: dict[str, Tap]
    """Where to find each layer, in forward order."""
    functions: frozenset[str]
    """Names of the calls that are calls of functions."""
    logits: Tap | None
    """Where to find the logits; None where the network returns them."""
    head: str | None
    """Name of the linear module that yields the logits."""
    output: Path | None
    """Which output counts as the logits, where the user's function does not compute it."""
    n_classes: int | None = None
    """Number of columns of the logits, or None where there are none."""
    written: Written = field(default=Written())
    """Attributes of the modules that a pass changes."""
    integers: Integers = Integers.AS_FLOATS
    """How the network takes integer inputs."""


class Traced(NamedTuple):
    """What a pass tells, and its values."""

    trace: TorchTrace
    values: dict[str, Tensor]
    """Of each layer, in forward order."""
    logits: Tensor | None
    """What counts as the logits, whatever its shape."""


def trace_calls(
    network: nn.Module,
    run: Callable[[], Any],
    n_samples: int,
    *,
    wanted: Wanted = AUTO,
    fits: Callable[[Tensor], bool],
    known: Collection[str] | None = None,
) -> Traced:
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
    seen: list[_Seen] = []
    with CallListener(network, lambda call: seen.append(_Seen(call, n_samples))):
        returned = run()
    path = _find_path(returned, wanted, fits, seen)
    logits = wanted(returned) if callable(wanted) else find_output(returned, path)
    squashing, candidate = _find_source(seen, logits)
    why_no_head = _why_no_head(seen, logits, candidate)
    head = None if why_no_head else candidate
    layers = _name_layers(seen, head)
    if known is not None:
        layers = {name: layer for name, layer in layers.items() if name in known}
    features = [name for name, layer in layers.items() if layer.feeds(head)]
    trace = TorchTrace(
        auto=_choose_layers(layers, features, squashing, _find_residual_blocks(network, seen)),
        features=features,
        n_axes={name: layer.value.ndim for name, layer in layers.items()},
        taps={name: layer.tap for name, layer in layers.items()},
        functions=frozenset(s.call.name for s in seen if isinstance(s.call.called, str)),
        logits=None if squashing is None else Tap(squashing.call.key, before=True),
        head=None if head is None else head.call.name,
        why_no_head=why_no_head,
        head_rounding=LEAST_ROUNDING if head is None else head.rounding,
        output=path,
    )
    source = logits if squashing is None else squashing.input
    return Traced(trace, {name: layer.value for name, layer in layers.items()}, source)


def _find_path(
    returned: Any, wanted: Wanted, fits: Callable[[Tensor], bool], seen: list[_Seen]
) -> Path | None:
    if callable(wanted):
        return None
    if wanted not in (AUTO, BINARY):
        return name_output(returned, wanted)

    def last_linear(output: Tensor) -> _Seen | None:
        squashing, reader = _find_source(seen, output)
        if reader is None or any(s.reads_on(reader) for s in seen if s is not squashing):
            return None
        return reader

    return choose_output(returned, fits, last_linear)


def _find_source(seen: list[_Seen], output: Tensor | None) -> tuple[_Seen | None, _Seen | None]:
    """The softmax or sigmoid that yields an output, and the linear layer that yields the logits."""
    if output is None:
        return None, None
    key: tuple | None = _content_key(output)
    squashing = _last(seen, lambda s: s.is_squashing and s.output_key == key)
    if squashing is not None:
        key = squashing.input_key
    return squashing, _last(seen, lambda s: s.reads_features and s.output_key == key)


def _why_no_head(seen: list[_Seen], logits: Tensor | None, candidate: _Seen | None) -> str:
    """Why no linear layer is the head; empty where one is."""
    if logits is None:
        return "the network returns nothing that could be the logits"
    if candidate is None:
        last = _last(seen, lambda s: s.reads_features)
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


class _Seen:
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

    def reads_on(self, other: _Seen) -> bool:
        """Whether it makes something of what another call yields."""
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

    seen: _Seen
    tap: Tap
    value: Tensor

    def feeds(self, head: _Seen | None) -> bool:
        """Whether the head is given this very value."""
        key = self.seen.input_key if self.tap.before else self.seen.output_key
        return head is not None and key == head.input_key and self.value.ndim == 2


def _name_layers(seen: list[_Seen], head: _Seen | None) -> dict[str, _Layer]:
    counts = Counter(s.call.name for s in seen)
    layers: dict[str, _Layer] = {}
    for s in seen:
        if s is head and s.input is not None:
            name = PENULTIMATE if PENULTIMATE not in counts else f"{PENULTIMATE}_input"
            layers[name] = _Layer(s, Tap(s.call.key, before=True), s.input.flatten(1))
        if s.output is not None and (isinstance(s.call.called, nn.Module) or s.is_activation):
            name, number = s.call.key
            name = f"{name}[{number}]" if counts[name] > 1 else name
            layers[name] = _Layer(s, Tap(s.call.key), s.output)
    return layers


def _choose_layers(
    layers: dict[str, _Layer], features: list[str], squashing: _Seen | None, blocks: set[str]
) -> list[str]:
    """The layers that "auto" stands for."""
    outputs = {name: layer.seen for name, layer in layers.items() if not layer.tap.before}
    chosen = {name for name, s in outputs.items() if s.call.name in blocks}
    if not chosen:
        chosen = {n for n, s in outputs.items() if s.is_activation and s is not squashing}
    if chosen.isdisjoint(features):
        chosen.update(name for name in features if layers[name].tap.before)
    return [name for name in layers if name in chosen]


def _find_residual_blocks(network: nn.Module, seen: list[_Seen]) -> set[str]:
    """Names of the modules whose own ``forward`` adds a skip, and that return what it yields."""
    weights = {_storage(tensor) for tensor in chain(network.parameters(), network.buffers())}
    calls: dict[str, list[_Seen]] = {}
    for s in seen:
        # What is fed integers adds embeddings.
        if s.call.inputs and s.call.inputs[0].is_floating_point():
            calls.setdefault(s.call.name, []).append(s)
    blocks = set()
    for skip in (s for s in seen if s.is_skip(weights)):
        name = skip.call.name.rpartition(".")[0]
        inner = [s for s in seen if s.call.name.startswith(f"{name}.")]
        if any(_is_residual(block, skip, inner) for block in calls.get(name, ())):
            blocks.add(name)
    return blocks


def _is_residual(block: _Seen, skip: _Seen, inner: list[_Seen]) -> bool:
    """Whether a block adds its input, or a projection of it, to what its modules make of it.

    ``inner`` are the calls inside the block. Sums that are a part of another formula, such as that
    of an activation function, are neither made of a module's output nor returned.
    """
    modules = [s for s in inner if isinstance(s.call.called, nn.Module)]
    given, added = set(map(_place, block.call.inputs)), set(map(_place, skip.call.inputs))
    if not modules or block.call.output is None or skip.call.output is None:
        return False
    if given.isdisjoint(added):
        # Without an activation function, a sum of projections is but another linear layer.
        bends = any(s.is_activation for s in inner)
        if not bends or _reached(given, modules).isdisjoint(added):
            return False
    return _place(block.call.output) in _reached({_place(skip.call.output)}, inner)


def _reached(places: set[tuple], calls: list[_Seen]) -> set[tuple]:
    """Places of values, and of all that calls make of them."""
    reached = set(places)
    for s in calls:
        if s.call.output is not None and not reached.isdisjoint(map(_place, s.call.inputs)):
            reached.add(_place(s.call.output))
    return reached


def _place(value: Tensor) -> tuple:
    """Where a tensor that is alive lies, whatever is written there."""
    return (value.data_ptr(), value.numel()) if _is_plain(value) else (id(value),)


def _storage(tensor: Tensor) -> int:
    """Tells apart the memory that tensors are views of."""
    return tensor.untyped_storage().data_ptr() if _is_plain(tensor) else id(tensor)


def _copy_rows(value: Tensor, n_samples: int) -> Tensor | None:
    """A copy of a value that has a row of values for each sample; None for another."""
    if not _is_plain(value) or value.ndim < 2 or len(value) != n_samples:
        return None
    return value.detach().clone()


def _content_key(value: Tensor) -> tuple:
    """Equal for two tensors that are alive at once if they hold the same values in memory.

    So a view is told from a copy, a flattening counts as the same, and what a tensor held
    before an operation in place counts as something else.
    """
    if not _is_plain(value):
        return (id(value),)
    version = 0 if value.is_inference() else value._version
    order = None if value.is_contiguous() else (tuple(value.shape), value.stride())
    return (value.data_ptr(), value.numel(), version, order)


def _is_plain(value: Tensor) -> bool:
    return value.layout is torch.strided and not value.is_nested


def _last(seen: list[_Seen], condition: Callable[[_Seen], bool]) -> _Seen | None:
    return next((s for s in reversed(seen) if condition(s)), None)
