"""What batches of samples teach by sums: of all samples, or of those of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .._classes import check_same_kind
from .._values import Floats


@dataclass
class ClassSums:
    """Number of samples of each class, and the sum of their rows.

    Attributes
    ----------
    labels : ndarray of shape (n_classes,)
        Classes of which there are samples, ascending.
    counts : ndarray of shape (n_classes,)
        How many.
    sums : ndarray of shape (n_classes, n_units)
        Sums of their rows.
    """

    labels: NDArray
    counts: NDArray[np.intp]
    sums: Floats

    _add: ClassVar[np.ufunc] = np.add
    _nothing: ClassVar[float] = 0.0

    @classmethod
    def of(cls, rows: NDArray, labels: NDArray, codes: NDArray[np.intp]) -> Self:
        """Sums of rows of shape (n_rows, n_units) by the place of their class among ``labels``.

        Rows with the code -1 do not count. All labels are those of some row.
        """
        counts = np.bincount(codes + 1, minlength=1 + len(labels))
        _, *members = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
        sums = [cls._sum(rows[places]) for places in members]
        return cls(labels, counts[1:], np.reshape(sums, (len(labels), rows.shape[1])))

    @staticmethod
    def _sum(rows: NDArray) -> Floats:
        return np.add.reduce(rows, axis=0, dtype=np.float64)

    def merge(self, other: Self) -> Self:
        """The sums over the samples of both."""
        check_same_kind(self.labels, other.labels)
        both = np.concatenate([self.labels, other.labels])
        labels, codes = np.unique(both, return_inverse=True)
        mine, theirs = np.split(codes, [len(self.labels)])
        counts = np.zeros(len(labels), dtype=np.intp)
        sums = np.full((len(labels), self.sums.shape[1]), self._nothing)
        for part, places in ((self, mine), (other, theirs)):
            counts[places] += part.counts
            sums[places] = self._add(sums[places], part.sums)
        return type(self)(labels, counts, sums)
