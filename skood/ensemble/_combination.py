"""Ways to make one score of the scores of several detectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from .._conformal import count_not_above, ties_less_rounding
from .._values import Floats

_ROUNDING = 1e-6  # scores may have been computed in float32
LOWEST, HIGHEST = -30.0, 10.0
TAIL = 0.1
"""Below this quantile of in-distribution scores, p-values come from an exponential tail."""
EDGE = 0.01
"""p-value below which a layer is heard whatever it knows of the classes."""


class Calibration:
    """Scores of in-distribution samples that were not learnt from, to compare others with.

    Of a member whose scores differ by rounding only, what is as near to their mean is the mean.

    Parameters
    ----------
    scores : ndarray of shape (n_calibration, n_members)
        The scores, higher for in-distribution samples.
    """

    def __init__(self, scores: NDArray) -> None:
        self._mean = scores.mean(axis=0)
        self._rounding = _ROUNDING * np.abs(scores).max(axis=0)
        self._is_constant = np.ptp(scores, axis=0) <= self._rounding
        self._spread = np.where(self._is_constant, 1.0, _scaled_std(scores))
        self._ascending = np.sort(self._without_rounding(scores), axis=0)
        self._lowest = [ties_less_rounding(column) for column in self._ascending.T]
        edge = int(TAIL * len(scores))
        self._edges = self._ascending[edge]
        self._lowest_edges = np.array([column[edge] for column in self._lowest])
        self._excess = self._mean_excess()

    def _mean_excess(self) -> NDArray[np.floating]:
        """How far scores below the edge are below it on average; their spread if none is."""
        excess = np.maximum(self._edges - self._ascending, 0)
        n_below = (excess > 0).sum(axis=0)
        mean = excess.sum(axis=0) / np.maximum(n_below, 1)
        return np.where(mean > 0, mean, self._spread)

    def _without_rounding(self, scores: NDArray) -> NDArray:
        if not self._is_constant.any():
            return scores
        near = self._is_constant & (np.abs(scores - self._mean) <= self._rounding)
        return np.where(near, self._mean, scores)

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
        return self._p_values(self._without_rounding(scores), left_out=left_out)

    def _p_values(self, scores: NDArray, *, left_out: bool) -> NDArray[np.floating]:
        columns = zip(self._lowest, scores.T, strict=True)
        n_not_above = np.array([count_not_above(*pair) for pair in columns]).T
        return (n_not_above + (not left_out)) / (self._sizes() + (not left_out))

    def _sizes(self) -> int | NDArray[np.intp]:
        """How many scores there are, of all members or of each."""
        return len(self._ascending)

    def log_p_values(self, scores: NDArray, *, left_out: bool = False) -> Floats:
        """Logarithm of the p-value of each score, of an exponential tail where it is below 0.1.

        Ranks alone do not tell samples apart that are below all calibration scores. The tail
        has the mean excess of the lowest tenth of these. Of log p-values below -30 only the
        logarithm of the excess counts: no member decides alone.

        Parameters
        ----------
        scores : ndarray of shape (n_samples, n_members)
            Scores of all members.
        left_out : bool, default=False
            As in ``p_values``.

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_members)
            The logarithms.
        """
        scores = self._without_rounding(scores)
        p = self._p_values(scores, left_out=left_out)
        beyond = (self._edges - scores) / self._excess
        is_beyond = scores < self._lowest_edges
        log_p = np.where(is_beyond, np.log(TAIL) - beyond, np.log(np.maximum(p, TAIL)))
        excess = np.maximum(LOWEST - log_p, 0.0)
        return np.maximum(log_p, LOWEST) - np.log1p(excess)

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
        excess = np.maximum(LOWEST - deviations, 0.0)
        return np.clip(deviations, LOWEST, HIGHEST) - np.log1p(excess)


class CalibrationsSideBySide(Calibration):
    """Those of several ensembles as one of all their members.

    Parameters
    ----------
    parts : sequence of Calibration
        Those of the ensembles.
    """

    def __init__(self, parts: Sequence[Calibration]) -> None:
        for name in _BY_MEMBER:
            setattr(self, name, np.concatenate([getattr(part, name) for part in parts]))
        self._lowest = [*chain.from_iterable(part._lowest for part in parts)]
        n_members = [len(part._mean) for part in parts]
        self._n_scores = np.repeat([part._sizes() for part in parts], n_members)

    def _sizes(self) -> NDArray[np.intp]:
        return self._n_scores


_BY_MEMBER = (
    "_mean",
    "_rounding",
    "_is_constant",
    "_spread",
    "_edges",
    "_lowest_edges",
    "_excess",
)


def mean_of_members(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean over the last axis, which is added up in its order whatever lies where in memory.

    So equal samples have equal means, alone and among others, which ranks depend on.
    """
    total = scores[..., 0].copy()
    for member in range(1, scores.shape[-1]):
        total += scores[..., member]
    return np.asarray(total / scores.shape[-1])


def informed_sum(log_p: Floats, knowledge: Floats) -> Floats:
    """Weighted mean of log p-values of layers, each by what it knows, and in the tail in full.

    A layer that does not tell the classes apart says nothing about samples that look ordinary to
    it; those that are far from everything in training, it sees as well as any.

    Parameters
    ----------
    log_p : ndarray of shape (n_samples, n_layers)
        Log p-values.
    knowledge : ndarray of shape (n_layers,)
        How well each layer tells the predicted classes apart, from 0 to 1.

    Returns
    -------
    scores : ndarray of shape (n_samples,)
        The sum of ``knowledge * log_p`` and of ``1 - knowledge`` times how far log p-values are
        below log 0.01, divided by the sum of ``knowledge``.
    """
    plain, beyond = informed_weights(knowledge)
    return log_p @ plain + below_edge(log_p) @ beyond


def informed_weights(knowledge: Floats) -> tuple[Floats, Floats]:
    """What log p-values, and how far these are below the edge, are multiplied by."""
    if not knowledge.any():
        knowledge = np.ones_like(knowledge)
    return knowledge / knowledge.sum(), (1 - knowledge) / knowledge.sum()


def below_edge(log_p: Floats) -> Floats:
    """How far log p-values are below log 0.01, as numbers of at most 0."""
    return np.asarray(np.minimum(log_p - np.log(EDGE), 0))


def informative_members(
    calibration: NDArray, groups: NDArray, errors: NDArray
) -> NDArray[np.bool_]:
    """Which members separate samples of a group.

    Parameters
    ----------
    calibration : ndarray of shape (n_calibration, n_members)
        Scores of in-distribution samples that were not learnt from.
    groups : ndarray of shape (n_calibration,)
        Predicted class of each sample: a score that follows from the class alone
        does not separate samples.
    errors : ndarray of shape (n_members,)
        Standard error of the scores of each member, where that is known, or 0.

    Returns
    -------
    informative : ndarray of shape (n_members,)
        False where scores differ within the groups by no more than rounding or chance.
    """
    _, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes)
    means = np.column_stack([np.bincount(codes, column) / sizes for column in calibration.T])
    within = _scaled_std(calibration - means[codes])
    rounding = _ROUNDING * np.abs(calibration).max(axis=0)
    return within > np.maximum(rounding, 2 * errors)


def _scaled_std(values: NDArray) -> NDArray[np.floating]:
    """Standard deviation of each column, of values whose squares may leave the range of floats."""
    largest = np.abs(values).max(axis=0)
    scale = np.where(largest > 0, largest, 1.0)
    return scale * (values / scale).std(axis=0)
