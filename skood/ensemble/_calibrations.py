"""Scores of in-distribution samples by several detectors, which others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .._conformal import count_not_above, starts_of_equal_scores, ties_less_rounding
from .._values import Floats

EQUAL = 1e-6
"""As a share of the largest one: scores may have been computed in float32."""
LOWEST, HIGHEST = -30.0, 10.0
TAIL = 0.1
"""Below this quantile of in-distribution scores, p-values come from an exponential tail."""


class Calibration:
    """Scores of in-distribution samples that were not learnt from, to compare others with.

    Of a member whose scores differ by rounding only, what is as near to their mean is the mean.

    Parameters
    ----------
    scores : ndarray of shape (n_calibration, n_members)
        The scores, higher for in-distribution samples.
    """

    _by_member: tuple[str, ...] = ("_mean", "_rounding", "_is_constant", "_spread")

    def __init__(self, scores: NDArray) -> None:
        self._mean = scores.mean(axis=0)
        self._rounding = EQUAL * np.abs(scores).max(axis=0)
        self._is_constant = np.ptp(scores, axis=0) <= self._rounding
        self._spread = np.where(self._is_constant, 1.0, scaled_std(scores))

    @classmethod
    def side_by_side(cls, parts: Sequence[Self]) -> Self:
        """Those of several ensembles as one of all their members."""
        joint = cls.__new__(cls)
        for name in cls._by_member:
            setattr(joint, name, np.concatenate([getattr(part, name) for part in parts]))
        return joint

    def _without_rounding(self, scores: NDArray) -> NDArray:
        if not self._is_constant.any():
            return scores
        near = self._is_constant & (np.abs(scores - self._mean) <= self._rounding)
        return np.where(near, self._mean, scores)

    def standardize(self, scores: NDArray) -> NDArray[np.floating]:
        """Scores in standard deviations of the calibration scores above their mean, within bounds.

        One member shall not decide a mean of many: more than ten standard deviations above the mean
        are ten, and of more than thirty below it only the logarithm of the excess counts, which
        keeps the order of far samples.

        Parameters
        ----------
        scores : ndarray of shape (n_samples, n_members)
            Scores of all members.

        Returns
        -------
        standardized : ndarray of shape (n_samples, n_members)
            Standardised scores.
        """
        deviations = (self._without_rounding(scores) - self._mean) / self._spread
        return np.minimum(_softly_above(deviations), HIGHEST)


class RankCalibration(Calibration):
    """The same, to rank others among them.

    Parameters
    ----------
    scores : ndarray of shape (n_calibration, n_members)
        The scores, higher for in-distribution samples.
    """

    def __init__(self, scores: NDArray) -> None:
        super().__init__(scores)
        ascending = np.sort(self._without_rounding(scores), axis=0)
        self._lowest = [ties_less_rounding(column) for column in ascending.T]

    def p_values(self, scores: NDArray, *, left_out: bool = False) -> NDArray[np.floating]:
        """Conformal p-value of each score.

        Parameters
        ----------
        scores : ndarray of shape (n_samples, n_members)
            Scores of all members.
        left_out : bool, default=False
            Whether these are the calibration scores, each of which is compared with the others.

        Returns
        -------
        p : ndarray of shape (n_samples, n_members)
            ``(1 + #{calibration <= score}) / (1 + n_calibration)``, or for scores left out
            ``#{calibration <= score} / n_calibration``, which counts the score itself.
        """
        columns = zip(self._lowest, self._without_rounding(scores).T, strict=True)
        n_not_above = np.array([count_not_above(*pair) for pair in columns]).T
        return (n_not_above + (not left_out)) / (len(self._lowest[0]) + (not left_out))


class TailCalibration(Calibration):
    """The same, to say how unusual others are: also those that are below all of them.

    Ranks alone do not tell samples apart that are below all calibration scores: the lowest tenth of
    these make an exponential tail, of their mean excess. Above it, ranks rise evenly between some
    of n scores, one of about sqrt(n) / 4. They would jump otherwise: scores of the same sample that
    differ in their last bits, in a batch of another size or by another program, would be as far
    apart as those of two samples.

    Parameters
    ----------
    scores : ndarray of shape (n_calibration, n_members)
        The scores, higher for in-distribution samples.

    Attributes
    ----------
    tops : ndarray of shape (n_members,)
        The score at the 10 % quantile, where the tail ends.
    feet : ndarray of shape (n_members,)
        A score below it, from which the tail rises to the p-value of its top.
    levels : ndarray of shape (n_levels,)
        Scores of each member from the top on, and infinity, one member after the other.
    counts : ndarray of shape (n_levels,), dtype int
        For each of them, how many calibration scores of its member are at most the level before.
    ends : ndarray of shape (n_members,), dtype int
        Where each member has its infinity.
    """

    _by_member = (*Calibration._by_member, "_edges", "_excess", "_n_scores", "tops", "feet")

    def __init__(self, scores: NDArray) -> None:
        super().__init__(scores)
        ascending = np.sort(self._without_rounding(scores), axis=0)
        edge = int(TAIL * len(scores))
        self._edges = ascending[edge]
        self._excess = self._mean_excess(ascending)
        self._n_scores = np.full(len(self._edges), len(scores))
        apart = ceil(np.sqrt(len(scores)) / 4)
        starts, counts = zip(*(_levels(s, edge, apart) for s in ascending.T), strict=True)
        columns = [*zip(ascending.T, starts, strict=True)]
        self.levels = np.concatenate([np.append(s[at], np.inf) for s, at in columns])
        self.counts = np.concatenate([np.append(0, n_not_above) for n_not_above in counts])
        self.ends = np.cumsum([len(at) + 1 for at in starts]) - 1
        self.tops = np.array([s[at[0]] for s, at in columns])
        below = [s[max(at[0] - apart, 0)] if at[0] else -np.inf for s, at in columns]
        self.feet = np.where(np.isfinite(below), below, self.tops - self._excess)

    @classmethod
    def side_by_side(cls, parts: Sequence[Self]) -> Self:
        """Those of several ensembles as one of all their members."""
        joint = super().side_by_side(parts)
        joint.levels = np.concatenate([part.levels for part in parts])
        joint.counts = np.concatenate([part.counts for part in parts])
        before = np.cumsum([0] + [len(part.levels) for part in parts[:-1]])
        pairs = zip(parts, before, strict=True)
        joint.ends = np.concatenate([part.ends + n for part, n in pairs])
        return joint

    def _mean_excess(self, ascending: Floats) -> NDArray[np.floating]:
        """How far scores below the edge are below it on average; their spread if none is."""
        excess = np.maximum(self._edges - ascending, 0)
        n_below = (excess > 0).sum(axis=0)
        mean = excess.sum(axis=0) / np.maximum(n_below, 1)
        return np.where(mean > 0, mean, self._spread)

    def log_p_values(self, scores: NDArray, *, left_out: bool = False) -> Floats:
        """Logarithm of the p-value of each score, of an exponential tail where it is below 0.1.

        Of log p-values below -30 only the logarithm of the excess counts: no member decides alone.

        Parameters
        ----------
        scores : ndarray of shape (n_samples, n_members)
            Scores of all members.
        left_out : bool, default=False
            Whether these are the calibration scores, each of which is compared with the others.

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_members)
            The logarithms.
        """
        scores = self._without_rounding(scores)
        first = self.starts()
        usual = self._log_p_of_counts(self._count_not_above(scores), left_out=left_out)
        at_tops = self._log_p_of_counts(self.counts[first + 1], left_out=left_out)
        rise = at_tops - self._log_p_of_tail(self.tops)
        above_feet = np.maximum(scores - self.feet, 0) / (self.tops - self.feet)
        below = self._log_p_of_tail(scores) + above_feet * rise
        return _softly_above(np.where(scores < self.tops, below, usual))

    def starts(self) -> NDArray[np.intp]:
        """Where the levels of each member begin."""
        return np.append(0, self.ends[:-1] + 1)

    def _log_p_of_tail(self, scores: Floats) -> Floats:
        return np.asarray(np.log(TAIL) - (self._edges - scores) / self._excess)

    def _log_p_of_counts(self, n_not_above: NDArray, *, left_out: bool) -> Floats:
        p = (n_not_above + (not left_out)) / (self._n_scores + (not left_out))
        return np.log(np.maximum(p, TAIL))

    def _count_not_above(self, scores: Floats) -> Floats:
        """How many calibration scores are at most each; from level to level it rises evenly."""
        first = self.starts()
        bounds = zip(first.tolist(), self.ends.tolist(), scores.T, strict=True)
        found = [self.levels[a:b].searchsorted(column, side="right") for a, b, column in bounds]
        above = np.maximum(np.array(found).T, 1) + first
        low, high = self.levels[above - 1], self.levels[above]
        share = np.maximum(scores - low, 0) / (high - low)
        n_low, n_high = self.counts[above], self.counts[np.minimum(above + 1, self.ends)]
        return np.asarray(n_low + share * (n_high - n_low))


def _levels(ascending: Floats, edge: int, apart: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of sorted scores are levels, and how many scores are not above each.

    From that of the edge on, they are at least so many scores apart. As many equal ones are a step:
    they are one level, and that before them is another.
    """
    n = len(ascending)
    starts = starts_of_equal_scores(ascending)
    ends = np.append(starts[1:], n)
    is_step = (ends - starts >= apart) & (ends > edge)
    starts, ends = starts[is_step], ends[is_step]
    n_not_above = np.arange(1, n + 1)
    n_not_above[starts] = ends
    is_level = np.zeros(n, dtype=bool)
    is_level[edge::apart] = is_level[-1] = is_level[starts[starts > edge] - 1] = True
    for start, end in zip(starts, ends, strict=True):
        is_level[max(start - apart, edge + 1) : start - 1] = False
        is_level[start:end] = False
    is_level[starts] = True
    return np.flatnonzero(is_level), n_not_above[is_level]


def _softly_above(values: Floats) -> Floats:
    """Values, of which only the logarithm counts of how far they are below the lowest."""
    return np.asarray(np.maximum(values, LOWEST) - np.log1p(np.maximum(LOWEST - values, 0.0)))


def scaled_std(values: NDArray) -> NDArray[np.floating]:
    """Standard deviation of each column, of values whose squares may leave the range of floats."""
    largest = np.abs(values).max(axis=0)
    scale = np.where(largest > 0, largest, 1.0)
    return scale * (values / scale).std(axis=0)
