"""The calls of a forward pass with copies of their values, and which values are the same."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from .calls import (
    ACTIVATION_FUNCTIONS,
    ACTIVATION_MODULES,
    PRODUCTS,
    SQUASHING_FUNCTIONS,
    SQUASHING_MODULES,
    Call,
    first_tensor,
    tensors_in,
)


class Positions(Enum):
    """Which of several vectors of a sample count, where a linear layer is given several."""

    ONE = auto()
    """One of them, the last whose output is what the network goes on with."""
    RUN = auto()
    """The mean of those up to one of them, or from one on, as where padding is left out."""
    MEAN = auto()
    """Their mean."""

    @property
    def is_other_for_each(self) -> bool:
        """Whether it takes the logits to know which count."""
        return self is not Positions.MEAN


@dataclass(frozen=True)
class Location:
    """Where in a forward pass a value is available: before or after a call."""

    call: tuple[str, int]
    before: bool = False
    index: int = 0
    """Before a call, which of the tensors that it is given."""
    is_matrix: bool = False
    """Whether the value is brought to one vector for each sample."""
    positions: Positions | None = None
    """What becomes of several vectors for each sample, (n_samples, ..., n_units)."""
    has_units_first: bool = False
    """Whether the several vectors come as (n_samples, n_units, ...)."""
    n_calls: int = 0
    """How many calls of this name there were, where this follows the length of the inputs."""
    share: Fraction = Fraction(0)
    """How much of the calls that there are more for longer inputs come before this one."""

    def number_among(self, n_calls: int) -> int:
        """Which of so many calls of the name it is."""
        return self.call[1] + int((n_calls - self.n_calls) * self.share)

    def read(self, call: Call) -> Tensor | None:
        """The value, given the call of this key."""
        return _plain_numbers(call.inputs[self.index] if self.before else call.output)

    def rows_in(self, args: tuple, kwargs: dict, output: Any) -> Tensor | None:
        """The value as it is to be kept, given what the call of this key was given and returned."""
        if self.before:
            value = _plain_numbers(tensors_in(args, kwargs)[self.index])
        else:
            value = _plain_numbers(first_tensor(output))
        return value if value is None else self.rows_of(value)

    @property
    def is_certain(self) -> bool:
        """Whether the call alone tells what is to be kept, without later ones or the logits."""
        positions = self.positions
        return not self.n_calls and (positions is None or not positions.is_other_for_each)

    def rows_of(self, value: Tensor) -> Tensor:
        """A value as it is to be kept, except where one of several vectors is."""
        if self.positions is Positions.MEAN:
            return self.vectors_of(value).flatten(1, -2).mean(1)
        return value.flatten(1) if self.is_matrix and self.positions is None else value

    def rows_of_gradient(self, gradient: Tensor) -> Tensor:
        """The gradient at what is kept, from that at the value."""
        # That at each vector has the weight already with which the vector counts.
        if self.positions is None:
            return self.rows_of(gradient)
        return self.vectors_of(gradient).flatten(1, -2).sum(1)

    def vectors_of(self, value: Tensor) -> Tensor:
        """Several vectors for each sample as (n_samples, ..., n_units)."""
        return value.movedim(1, -1) if self.has_units_first else value


def _plain_numbers(value: Tensor | None) -> Tensor | None:
    return value.dequantize() if value is not None and value.is_quantized else value


class RecordedCall:
    """A call, with copies of what it was given and returned, which may be overwritten later.

    ``weights`` are the memories of the network's own tensors: of a product, the other factor is
    what it was given.
    """

    def __init__(self, call: Call, n_samples: int, weights: Collection[int] = ()) -> None:
        self.call = call
        is_weight = [storage(value) in weights for value in call.inputs] if weights else []
        self.has_weight = any(is_weight)
        self.index = _index_of_rows(call, n_samples, is_weight) if self.is_product else 0
        given, got = call.inputs[self.index] if call.inputs else None, call.output
        self.input_key = None if given is None else content_key(given)
        self.output_key = None if got is None else content_key(got)
        self.input = _copy_rows(_as_column(given), n_samples)
        self.output = _copy_rows(_as_column(got) if self.is_product else got, n_samples)

    @property
    def is_function(self) -> bool:
        return isinstance(self.call.called, str)

    @property
    def is_activation(self) -> bool:
        called = self.call.called
        return isinstance(called, ACTIVATION_MODULES) or called in ACTIVATION_FUNCTIONS

    @property
    def is_product(self) -> bool:
        return self.call.called in PRODUCTS

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


def _as_column(value: Tensor | None) -> Tensor | None:
    return value[:, None] if value is not None and value.ndim == 1 else value


def _copy_rows(value: Tensor | None, n_samples: int) -> Tensor | None:
    """A copy of a value that has a row of values for each sample; None for another."""
    if value is None or not _is_plain(value) or value.ndim < 2 or len(value) != n_samples:
        return None
    copied = value.detach().clone()
    return copied.dequantize() if copied.is_quantized else copied


def _index_of_rows(call: Call, n_samples: int, is_weight: list[bool]) -> int:
    """Which factor of a product holds a row for each sample, and is no weight of the network."""
    factors = [
        number
        for number, value in enumerate(call.inputs)
        if value.ndim > 1 and len(value) == n_samples and not (is_weight and is_weight[number])
    ]
    return factors[0] if factors else 0


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
    """Whether it has memory of its own, unlike those in a function that torch vectorises."""
    if value.layout is not torch.strided or value.is_nested:
        return False
    try:
        value.untyped_storage()
    except NotImplementedError:
        return False
    return True


def last(
    calls: list[RecordedCall], condition: Callable[[RecordedCall], bool]
) -> RecordedCall | None:
    return next((c for c in reversed(calls) if condition(c)), None)
