"""Inputs of another size than those that are given, to see what depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .._base import Batch
from .inputs import Integers, holds_integers


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
