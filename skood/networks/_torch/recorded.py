"""The calls of a forward pass with copies of their values, and which values are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .calls import (
    ACTIVATION_FUNCTIONS,
    ACTIVATION_MODULES,
    SQUASHING_FUNCTIONS,
    SQUASHING_MODULES,
    Call,
)


@dataclass(frozen=True)
class Location:
    """Where in a forward pass a value is available: before or after a call."""

    call: tuple[str, int]
    before: bool = False

    def read(self, call: Call) -> Tensor | None:
        """The value, given the call of this key."""
        return call.inputs[0] if self.before else call.output


class RecordedCall:
    """A call, with copies of what it was given and returned, which may be overwritten later."""

    def __init__(self, call: Call, n_samples: int) -> None:
        self.call = call
        self.input_key = content_key(call.inputs[0]) if call.inputs else None
        self.input = _copy_rows(call.inputs[0], n_samples) if call.inputs else None
        self.output_key = None if call.output is None else content_key(call.output)
        self.output = None if call.output is None else _copy_rows(call.output, n_samples)

    @property
    def is_function(self) -> bool:
        return isinstance(self.call.called, str)

    @property
    def is_activation(self) -> bool:
        called = self.call.called
        return isinstance(called, ACTIVATION_MODULES) or called in ACTIVATION_FUNCTIONS

    @property
    def is_squashing(self) -> bool:
        called = self.call.called
        return isinstance(called, SQUASHING_MODULES) or called in SQUASHING_FUNCTIONS


@dataclass(frozen=True)
class Layer:
    """A value that can be extracted."""

    source: RecordedCall
    location: Location
    value: Tensor

    def feeds(self, head: RecordedCall | None) -> bool:
        """Whether the head is given this very value."""
        key = self.source.input_key if self.location.before else self.source.output_key
        return head is not None and key == head.input_key and self.value.ndim == 2


def place(value: Tensor) -> tuple:
    """Memory of a tensor that is alive, independent of its content."""
    return (value.data_ptr(), value.numel()) if _is_plain(value) else (id(value),)


def storage(tensor: Tensor) -> int:
    """Equal for tensors that are views of the same memory."""
    return tensor.untyped_storage().data_ptr() if _is_plain(tensor) else id(tensor)


def _copy_rows(value: Tensor, n_samples: int) -> Tensor | None:
    """A copy of a value that has a row of values for each sample; None for another."""
    if not _is_plain(value) or value.ndim < 2 or len(value) != n_samples:
        return None
    return value.detach().clone()


def content_key(value: Tensor) -> tuple:
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


def last(
    calls: list[RecordedCall], condition: Callable[[RecordedCall], bool]
) -> RecordedCall | None:
    return next((c for c in reversed(calls) if condition(c)), None)
