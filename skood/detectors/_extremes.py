"""The smallest and the largest values of classes, with and without any one sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._classes import check_same_kind
from .._values import Floats

EndsOf = Callable[[Any], tuple[Floats, Floats]]
"""Gives the lower and the upper ends of the ranges of samples by their rows."""


@dataclass(frozen=True)
class Extremes:
    """The two smallest and the two largest values of each class, unit by unit.

    A sample that sets one end of a range leaves the second value to the others. One that does not
    is inside of the range with or without it, and beyond neither second value: so the second values
    serve for all samples of a class.

    Attributes
    ----------
    labels : ndarray of shape (n_classes,)
        The classes, ascending.
    counts : ndarray of shape (n_classes,)
        How many samples each has.
    smallest, negated_largest : ndarray of shape (2, n_classes, ...)
        The two smallest values, and minus the two largest ones; the second infinite where a class
        has one sample.
    """

    labels: NDArray
    counts: NDArray[np.intp]
    smallest: Floats
    negated_largest: Floats

    @classmethod
    def of(
        cls,
        batches: Iterable[tuple[NDArray[np.intp], Floats]],
        labels: NDArray,
        shape: tuple[int, ...],
    ) -> Extremes:
        """Of batches of samples: the number of the class of each, or -1, and values of a shape."""
        counts = np.zeros(len(labels), dtype=np.intp)
        smallest, negated = np.full((2, 2, len(labels), *shape), np.inf)
        for codes, values in batches:
            for code in np.unique(codes[codes >= 0]):
                members = values[codes == code]
                counts[code] += len(members)
                _keep_two_smallest(smallest[:, code], members)
                _keep_two_smallest(negated[:, code], -members)
        return cls(labels, counts, smallest, negated)

    @property
    def lower(self) -> Floats:
        # A copy, which does not keep the second values.
        return self.smallest[0].copy()

    @property
    def upper(self) -> Floats:
        return -self.negated_largest[0]

    def ends_of(self, codes: NDArray[np.intp], is_own: NDArray[np.bool_]) -> EndsOf:
        """The ends for samples of some classes, without a sample where it is one of them."""

        def ends(rows: Any) -> tuple[Floats, Floats]:
            at = is_own[rows].astype(np.intp), codes[rows]
            return self.smallest[at], -self.negated_largest[at]

        return ends

    def pooled(self, label: NDArray) -> Extremes:
        """Those of the same samples as samples of one class."""
        if not len(self.labels):
            return self
        pools = (np.concatenate(ends) for ends in (self.smallest, self.negated_largest))
        smallest, negated = (_two_smallest(pool)[:, np.newaxis] for pool in pools)
        return Extremes(label, self.counts.sum(keepdims=True), smallest, negated)

    def merge(self, other: Extremes) -> Extremes:
        """Those of the samples of both."""
        check_same_kind(self.labels, other.labels)
        if not len(self.labels) or not len(other.labels):
            return self if len(self.labels) else other
        labels = np.union1d(self.labels, other.labels)
        counts = np.zeros(len(labels), dtype=np.intp)
        ends = np.full((2, 2, 2, len(labels), *self.smallest.shape[2:]), np.inf)
        for part, found in zip((self, other), ends, strict=True):
            places = np.searchsorted(labels, part.labels)
            counts[places] += part.counts
            found[0][:, places], found[1][:, places] = part.smallest, part.negated_largest
        pools = (np.concatenate(pair) for pair in zip(*ends, strict=True))
        return Extremes(labels, counts, *map(_two_smallest, pools))


def ends_by_class(lower: Floats, upper: Floats, codes: NDArray[np.intp]) -> EndsOf:
    """The ends for samples of some classes, of arrays of shape (n_classes, ...)."""
    return lambda rows: (lower[codes[rows]], upper[codes[rows]])


def _keep_two_smallest(smallest: Floats, values: Floats) -> None:
    smallest[:] = _two_smallest(np.concatenate([smallest, values]))


def _two_smallest(values: Floats) -> Floats:
    """The two smallest of each column, in order; by passes, which sort whole columns sooner."""
    smallest = values.min(axis=0)
    is_smallest = values == smallest
    others = np.where(is_smallest, np.inf, values).min(axis=0)
    is_shared = np.count_nonzero(is_smallest, axis=0) > 1
    return np.array([smallest, np.where(is_shared, smallest, others)])
