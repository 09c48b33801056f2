"""Inputs of another size than those that are given, to see what depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from .._base import Batch
from .inputs import Integers, holds_integers

_STEPS = (2, 4, 8, 16, 32)


class Sizes(NamedTuple):
    """What inputs of another size show."""

    sequence: str | None
    """A sequence that may have another length, if any."""
    unit_axes: dict[str, int]
    """The axis of the units of each layer."""
    token_steps: dict[str, int] = {}
    """As in the trace."""


class Shorter(NamedTuple):
    """The first half of all sequences in a batch."""

    batch: Batch
    name: str
    """Of an input that is a sequence; empty where there is one input without a name."""
    is_certain: bool
    """Whether it is a sequence; a row of numbers may be a vector."""


def halve_sequences(batch: Batch, integers: Integers) -> Shorter | None:
    """The first half of arrays of vectors or matrices of integers, or else of matrices of numbers.

    None where there are none, or they differ in length.
    """
    named = batch if isinstance(batch, Mapping) else {"": batch}
    matrices = [name for name, values in named.items() if values.ndim == 2]
    certain = [name for name, values in named.items() if values.ndim == 3]
    if integers is not Integers.AS_FLOATS:
        certain += [name for name in matrices if holds_integers(named[name])]
    halved = _halve(named, certain or matrices)
    if halved is None:
        return None
    name = (certain or matrices)[0]
    return Shorter(halved if isinstance(batch, Mapping) else halved[""], name, bool(certain))


def _halve(named: Mapping[str, Any], names: list[str]) -> dict[str, Any] | None:
    lengths = {named[name].shape[1] for name in names}
    if len(lengths) != 1 or (length := lengths.pop()) < 2:
        return None
    return {**named, **{name: named[name][:, : length // 2] for name in names}}


def length_of(batch: Batch, name: str) -> int:
    """Number of tokens of a sequence among the inputs."""
    return int((batch[name] if isinstance(batch, Mapping) else batch).shape[1])


def find_token_steps(
    values: Mapping[str, Tensor],
    shorter: Mapping[str, Tensor],
    unit_axes: Mapping[str, int],
    lengths: tuple[int, int],
) -> dict[str, int]:
    """How many tokens of inputs of two lengths a token of each layer stands for.

    Layers with as many tokens as the inputs, or always the same number, are left out.
    """
    found = {}
    for name in values.keys() & shorter.keys():
        if not values[name].ndim == shorter[name].ndim == 3:
            continue
        axis = 3 - unit_axes.get(name, 1)
        sizes = values[name].shape[axis], shorter[name].shape[axis]
        if sizes[0] != sizes[1] and sizes != lengths:
            found[name] = next((s for s in _STEPS if _are_steps(sizes, lengths, s)), 0)
    return found


def _are_steps(sizes: tuple[int, int], lengths: tuple[int, int], step: int) -> bool:
    pairs = zip(sizes, lengths, strict=True)
    return all(size in (length // step, -(-length // step)) for size, length in pairs)


def halve_images(batch: Batch) -> Batch | None:
    """A corner of all images, half as high and as wide; None where there are none."""
    named = batch if isinstance(batch, Mapping) else {"": batch}
    images = [name for name, values in named.items() if values.ndim > 3]
    if not images:
        return None
    halved = dict(named)
    for name in images:
        sizes = named[name].shape[2:]
        halved[name] = named[name][(slice(None), slice(None), *(slice(-(-n // 2)) for n in sizes))]
    return halved if isinstance(batch, Mapping) else halved[""]
