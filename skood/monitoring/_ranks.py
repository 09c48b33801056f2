"""p-values of a stream that are independent and uniform, as long as nothing changes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .._levels import Levels
from .._values import Floats


class OnlineRanks:
    """Ranks of scores among the calibration scores and all scores before.

    The n calibration scores divide the line into n + 1 gaps; equal ones are ordered by random
    numbers, which every new score gets as well; scores that rounding may tell apart are equal. What
    is kept of a score is its gap. If all scores are exchangeable, the next one is in each gap with
    a probability proportional to 1 + the number of scores there, whatever the gaps before were. So
    the share of the gaps below it, and a uniform share of its own, is uniform and independent of
    all before. Memory and time do not grow with the stream.

    Parameters
    ----------
    calibration_scores : ndarray of shape (n,)
        Scores of the calibration rows, in any order.
    rng : Generator
        Orders equal calibration scores.
    """

    def __init__(self, calibration_scores: Floats, rng: np.random.Generator) -> None:
        self._levels = Levels.of_ties(calibration_scores)
        # Sorted first: the order in which the rows came decides nothing.
        self._ascending = np.sort(self._levels.values_of(calibration_scores))
        ties = rng.random(len(calibration_scores))
        self._ties: list[float] = ties[np.lexsort((ties, self._ascending))].tolist()
        self.counts = [1] * (len(calibration_scores) + 1)

    @property
    def counts(self) -> list[int]:
        """1 + the number of scores of the stream in each gap."""
        return self._counts

    @counts.setter
    def counts(self, counts: list[int]) -> None:
        self._counts = list(counts)
        self._total = sum(counts)
        self._sums = _tree_of(counts)

    def p_values(self, scores: Floats, ties: Floats, shares: Floats) -> Iterator[float]:
        """Add scores one by one; small where a score is low.

        Parameters
        ----------
        scores : ndarray of shape (n_samples,)
            New scores.
        ties : ndarray of shape (n_samples,)
            A uniform number for each, its place among equal calibration scores.
        shares : ndarray of shape (n_samples,)
            A uniform number above 0 for each, its place in its gap.

        Yields
        ------
        p_value : float
            Above 0 and at most 1.
        """
        for gap, share in zip(self._gaps(scores, ties), shares.tolist(), strict=True):
            below, own = self._sum_below(gap), self._counts[gap]
            yield (below + share * own) / self._total
            self._add(gap)

    def _gaps(self, scores: Floats, ties: Floats) -> Iterator[int]:
        scores = self._levels.values_of(scores)
        first = np.searchsorted(self._ascending, scores, side="left").tolist()
        after = np.searchsorted(self._ascending, scores, side="right").tolist()
        for low, high, tie in zip(first, after, ties.tolist(), strict=True):
            yield low if low == high else bisect_left(self._ties, tie, low, high)

    def _sum_below(self, gap: int) -> int:
        total = 0
        while gap:
            total += self._sums[gap]
            gap &= gap - 1
        return total

    def _add(self, gap: int) -> None:
        self._counts[gap] += 1
        self._total += 1
        node = gap + 1
        while node < len(self._sums):
            self._sums[node] += 1
            node += node & -node


def _tree_of(counts: list[int]) -> list[int]:
    """Sums of runs of counts (a Fenwick tree): of the last ``i & -i`` before i, for each i."""
    ends: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    places = np.arange(len(ends))
    return (ends - ends[places - (places & -places)]).tolist()
