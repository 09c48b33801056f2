"""Calibration scores, and how new scores compare with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._conformal import count_not_above
from .._values import Floats


@dataclass(frozen=True)
class RankedScores:
    """Calibration scores of one or more detectors, each with rows of its own, and a threshold.

    New samples are scored by all of the detectors, in arrays of shape (n_detectors, n_samples).

    Attributes
    ----------
    by_detector : tuple of ndarray
        Ascending scores, one array a detector.
    lowest : tuple of ndarray
        The same less rounding: what is not below counts as equal.
    rank : int
        The rank of the threshold among all of them, 0 where there is none.
    """

    by_detector: tuple[Floats, ...]
    lowest: tuple[Floats, ...]
    rank: int

    @property
    def threshold(self) -> float:
        """The calibration score at the rank, over all detectors; -inf at rank 0."""
        return self._smallest(self.rank) if self.rank else -np.inf

    def _smallest(self, rank: int) -> float:
        return float(np.sort(np.concatenate(self.by_detector))[rank - 1])

    def __len__(self) -> int:
        return sum(map(len, self.by_detector))

    def ranks(self, scores: Floats) -> NDArray[np.intp]:
        """1 + the number of calibration scores that are not above, each detector's by its own."""
        pairs = zip(self.lowest, scores, strict=True)
        return 1 + np.sum([count_not_above(*pair) for pair in pairs], axis=0)

    def decisions(self, scores: Floats) -> Floats:
        """By how much samples are above the threshold: negative where ``ranks(scores) <= rank``."""
        if self.rank == 0:
            return np.full(scores.shape[1], np.inf)
        return self._margins(scores, self.rank)

    def one_score(self, scores: Floats) -> Floats:
        """One score of those by several detectors, of which the decision is that less a threshold.

        Where there is no threshold, that of the lowest rank takes its place; of an infinite one,
        the nearest finite calibration score does.
        """
        if len(scores) == 1:
            return scores[0]
        if (rank := self.rank_of_one_score) is None:
            return np.sort(scores, axis=0)[len(scores) // 2]
        return self._margins(scores, rank) + self._smallest(rank)

    @property
    def rank_of_one_score(self) -> int | None:
        """The rank of the finite calibration score nearest to the threshold, if there is one."""
        finite = np.flatnonzero(np.isfinite(np.sort(np.concatenate(self.by_detector)))) + 1
        return int(finite[np.abs(finite - max(self.rank, 1)).argmin()]) if len(finite) else None

    def _margins(self, scores: Floats, rank: int) -> Floats:
        """The ``rank``-th largest difference of a score and the detector's calibration scores.

        Of one detector, that is the score less the threshold.
        """
        if len(scores) == 1:
            of_one = self.by_detector[0][rank - 1], self.lowest[0][rank - 1]
            return differences(scores[0], *of_one)
        pairs = list(zip(self.by_detector, self.lowest, strict=True))
        pairs = [(ascending[:rank], lowest[:rank]) for ascending, lowest in pairs]
        margins = np.empty(scores.shape[1])
        for rows in row_batches(len(margins), sum(len(lowest) for _, lowest in pairs)):
            columns = zip(scores[:, rows, np.newaxis], pairs, strict=True)
            found = np.concatenate([differences(s, *pair) for s, pair in columns], axis=1)
            margins[rows] = np.partition(found, -rank, axis=1)[:, -rank]
        return margins


def rows_by_class(classes: NDArray) -> Iterator[tuple[Any, NDArray[np.intp]]]:
    """The rows of each class, by ascending classes."""
    labels, numbers = np.unique(classes, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers))[:-1]
    yield from zip(labels.tolist(), np.split(order, ends), strict=True)


def differences(scores: Floats, others: Floats | float, lowest: Floats | float) -> Floats:
    """Scores less others: 0 where they are below these by rounding, or both the same infinity."""
    is_equal = (lowest <= scores) & (scores <= others)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(is_equal, 0.0, np.subtract(scores, others))
