"""What one forward pass tells about a torch network: its layers, its head, its logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ._adapter import PENULTIMATE, Trace
from ._calls import (
    ACTIVATION_FUNCTIONS,
    ACTIVATION_MODULES,
    ADDITION,
    SQUASHING_FUNCTIONS,
    SQUASHING_MODULES,
    Call,
    CallListener,
    first_tensor,
)


@dataclass(frozen=True)
class Tap:
    """Where in a forward pass a value is to be had: at a call, before or after it."""

    call: tuple[str, int]
    before: bool = False

    def read(self, call: Call) -> Tensor | None:
        """The value, from the call that has this tap's key."""
        return call.inputs[0] if self.before else call.output


@dataclass(frozen=True)
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
    keeps_integers: bool = False
    """Whether integer inputs are fed as they are."""


def trace_calls(
    network: nn.Module, run: Callable[[], Any], n_samples: int
) -> tuple[TorchTrace, dict[str, Tensor]]:
    """Trace a network while ``run`` feeds it ``n_samples`` samples; also return all values."""
    seen: list[_Seen] = []
    with CallListener(network, lambda call: seen.append(_Seen(call, n_samples))):
        returned = find_logits(run())
    logits_key = None if returned is None else _content_key(returned)
    squashing = _last(seen, lambda s: s.is_squashing and s.output_key == logits_key)
    if squashing is not None:
        logits_key = squashing.input_key
    head = _last(seen, lambda s: s.reads_features and s.output_key == logits_key)
    reader = head or _last(seen, lambda s: s.reads_features)
    layers = _name_layers(seen, reader)
    features = [name for name, layer in layers.items() if layer.feeds(reader)]
    trace = TorchTrace(
        auto=_choose_layers(layers, features, squashing, _find_residual_blocks(network, seen)),
        features=features,
        taps={name: layer.tap for name, layer in layers.items()},
        functions=frozenset(s.call.name for s in seen if isinstance(s.call.called, str)),
        logits=None if squashing is None else Tap(squashing.call.key, before=True),
        head=None if head is None else head.call.name,
    )
    return trace, {name: layer.value for name, layer in layers.items()}


def find_logits(returned: Any) -> Tensor | None:
    """The tensor that counts as the output, in whatever a network returns.

    The first one in a tuple or list; what a mapping or another object calls "logits", or else
    its first 2-D tensor.
    """
    if isinstance(returned, Tensor):
        return returned
    named = returned if isinstance(returned, Mapping) else getattr(returned, "__dict__", {})
    logits = named.get("logits", getattr(returned, "logits", None))
    if isinstance(logits, Tensor):
        return logits
    if not named:
        return first_tensor(returned)
    return next((v for v in named.values() if isinstance(v, Tensor) and v.ndim == 2), None)


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
        """Whether it is a linear layer that is given one vector for each sample."""
        is_linear = isinstance(self.call.called, nn.Linear)
        return is_linear and self.input is not None and self.input.ndim == 2

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

    def feeds(self, reader: _Seen | None) -> bool:
        """Whether ``reader`` is given this very value."""
        key = self.seen.input_key if self.tap.before else self.seen.output_key
        return reader is not None and key == reader.input_key and self.value.ndim == 2


def _name_layers(seen: list[_Seen], reader: _Seen | None) -> dict[str, _Layer]:
    counts = Counter(s.call.name for s in seen)
    layers: dict[str, _Layer] = {}
    for s in seen:
        if s is reader and s.input is not None:
            name = PENULTIMATE if PENULTIMATE not in counts else f"{PENULTIMATE}_input"
            layers[name] = _Layer(s, Tap(s.call.key, before=True), s.input)
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
    """Names of the modules whose own ``forward`` adds a skip."""
    weights = {_storage(tensor) for tensor in chain(network.parameters(), network.buffers())}
    adding = {s.call.name.rpartition(".")[0] for s in seen if s.is_skip(weights)}
    # What is fed integers adds embeddings.
    fed_integers = {
        s.call.name for s in seen if s.call.inputs and not s.call.inputs[0].is_floating_point()
    }
    return adding - fed_integers


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
