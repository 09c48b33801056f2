"""Units that leave the intervals in which they were during training."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._classes import GROUP_BY, find_classes
from .._estimator_checks import LEFT_OUT, failed_outlier_checks
from .._sklearn import Interval, StrOptions
from .._values import ROUNDING, Floats
from ..activations import Activations
from ._base import BaseOneClassDetector

_N_LEVELS = 4


class ActivationIntervalDetector(BaseOneClassDetector):
    """Share of units outside the intervals of the predicted class.

    Each class has an interval for each unit, in which the activations of its training samples
    lie. The score of a sample is minus the share of units that are outside those of its predicted
    class [1]_.

    Parameters
    ----------
    intervals : {"minmax", "quantile", "levels"}, default="minmax"
        From the smallest to the largest value in training; between two quantiles; or those of
        four levels that occurred in training: at most 0, and then up to one third, up to two thirds
        and above two thirds of the largest activation of the unit in any class [2]_.
    quantile : float in [0, 0.5), default=0.01
        With ``intervals="quantile"``, the share of training values below the interval, and
        of those above.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of the in-distribution training samples that the threshold rejects, each scored with
        itself left out. At most this share, because many scores are equal.

    Attributes
    ----------
    lower_ : ndarray of shape (n_classes, `n_features_in_`)
        Lower ends of the intervals, which belong to them. Not with ``intervals="levels"``.
    upper_ : ndarray of shape (n_classes, `n_features_in_`)
        Upper ends, which belong to them too.
    level_counts_ : ndarray of shape (n_classes, `n_features_in_`, 4)
        With ``intervals="levels"``: number of training samples in each level.
    unit_maxima_ : ndarray of shape (`n_features_in_`,)
        With ``intervals="levels"``: largest training activation of each unit, or 0.
    class_labels_ : ndarray of shape (n_classes,)
        The classes, ascending; one class 0 where ``fit`` saw no predictions.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each with itself left out.

    See Also
    --------
    GaussianActivationDetector : Density under a Gaussian of each class and unit.
    HammingNAPDetector : Distance between binary patterns, two levels.

    Notes
    -----
    Several layers are put side by side. The ends of intervals are training values: of ``n`` samples
    of a class, the largest whole number up to ``quantile * n`` is left out at either end. A
    predicted class that has no training samples has no intervals, and all units are outside. Such a
    score of -1 is always below the threshold; where more training samples have it than the
    threshold rejects, they are all that it rejects.

    The score has as many values as there are units, and one more. Samples with equal scores
    are separated neither by the threshold nor by a ROC curve.

    No training sample leaves an interval that it has set an end of. The threshold is therefore
    set by intervals of the other samples, unit maxima aside.

    References
    ----------
    .. [1] T. A. Henzinger, A. Lukina, C. Schilling, "Outside the box: abstraction-based monitoring
       of neural networks", ECAI 2020. arXiv:1911.09032
    .. [2] C.-H. Cheng, G. Nührenberg, H. Yasuoka, "Runtime monitoring neuron activation
       patterns", DATE 2019. arXiv:1809.06573

    Examples
    --------
    >>> from skood.detectors import ActivationIntervalDetector
    >>> detector = ActivationIntervalDetector().fit([[0, 3], [1, 5], [2, 9]])
    >>> detector.lower_, detector.upper_
    (array([[0., 3.]]), array([[2., 9.]]))
    >>> detector.score_samples([[1, 4], [1, 10], [-1, 10]])
    array([-0. , -0.5, -1. ])
    """

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
        "intervals": [StrOptions({"minmax", "quantile", "levels"})],
        "quantile": [Interval(Real, 0, 0.5, closed="left")],
        "group_by": GROUP_BY,
    }

    def __init__(
        self,
        *,
        intervals: str = "minmax",
        quantile: float = 0.01,
        group_by: str = "prediction",
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.intervals = intervals
        self.quantile = quantile
        self.group_by = group_by

    def _fit(self, X: Activations, y: NDArray | None) -> NDArray[np.float64]:
        classes = self._training_classes(X, y)
        self._check_any_counts(int(classes.counts.sum()))
        self.unknown_class_score_ = -1.0
        self.class_labels_ = np.unique(classes.own[classes.counts])
        rows = np.asarray(X, dtype=np.float64)
        members = [
            np.flatnonzero(classes.counts & (classes.own == label)) for label in self.class_labels_
        ]
        if self.intervals == "levels":
            left_out = self._fit_levels(rows, members)
        else:
            left_out = self._fit_ranges(rows, members)
        return np.where(classes.finds_itself, left_out, self._score_samples(X))

    def _fit_ranges(self, rows: Floats, members: list[NDArray[np.intp]]) -> Floats:
        quantile = self.quantile if self.intervals == "quantile" else 0.0
        shape = len(members), rows.shape[1]
        self.lower_, self.upper_ = np.empty(shape), np.empty(shape)
        scores = np.full(len(rows), np.nan)  # of samples that do not count
        for position, own in enumerate(members):
            ordered = np.sort(rows[own], axis=0)
            n_cut = _n_cut(quantile, len(own))
            self.lower_[position] = ordered[n_cut]
            self.upper_[position] = ordered[-1 - n_cut]
            scores[own] = _left_out_range_scores(rows[own], ordered, quantile)
        return scores

    def _fit_levels(self, rows: Floats, members: list[NDArray[np.intp]]) -> Floats:
        self.unit_maxima_ = np.maximum(rows.max(axis=0), 0.0)
        levels = self._levels(rows)
        self.level_counts_ = np.array(
            [[np.sum(levels[own] == k, axis=0) for k in range(_N_LEVELS)] for own in members]
        ).transpose(0, 2, 1)
        scores = np.full(len(rows), np.nan)  # of samples that do not count
        for position, own in enumerate(members):
            # The only sample of a level takes the level with it.
            scores[own] = -np.mean(self._counts(levels[own], position) == 1, axis=1)
        return scores

    def _levels(self, samples: Floats) -> NDArray[np.intp]:
        edges = (0.0, self.unit_maxima_ / 3, 2 * self.unit_maxima_ / 3)
        return np.sum([samples > edge for edge in edges], axis=0, dtype=np.intp)

    def _counts(
        self, levels: NDArray[np.intp], position: int | NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Number of training samples of the class that are in the level of a sample."""
        units = np.arange(levels.shape[1])
        return self.level_counts_[np.reshape(position, (-1, 1)), units, levels]

    def _score_samples(self, X: Activations) -> Floats:
        position, has_intervals = find_classes(self._lookup_classes(X), self.class_labels_)
        scores = np.empty(len(X))
        for rows in row_batches(len(X), 2 * X.shape[1]):
            samples = np.asarray(X[rows], dtype=np.float64)
            scores[rows] = -np.mean(self._is_outside(samples, position[rows]), axis=1)
        return self._reject_unknown(scores, has_intervals)

    def _is_outside(self, samples: Floats, position: NDArray[np.intp]) -> NDArray[np.bool_]:
        if self.intervals == "levels":
            return self._counts(self._levels(samples), position) == 0
        return _are_outside(samples, self.lower_[position], self.upper_[position])

    def _expected_failed_checks(self) -> dict[str, str]:
        return {} if self.intervals == "quantile" else failed_outlier_checks(LEFT_OUT)


def _left_out_range_scores(rows: Floats, ordered: Floats, quantile: float) -> Floats:
    """Scores of the samples of a class by the ranges of the others.

    Without a sample that is below the lower end, the next larger value is the end; a sample
    that is not below is inside with or without itself. So one pair of ends serves all.
    """
    n_others = len(rows) - 1
    if n_others == 0:
        return np.array([-1.0])
    n_cut = _n_cut(quantile, n_others)
    is_outside = _are_outside(rows, ordered[n_cut + 1], ordered[n_others - 1 - n_cut])
    return -np.mean(is_outside, axis=1)


def _are_outside(values: Floats, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
    """Which values are outside of intervals by more than rounding."""
    is_below = values < lower - ROUNDING * np.abs(lower)
    return is_below | (values > upper + ROUNDING * np.abs(upper))


def _n_cut(quantile: float, n_samples: int) -> int:
    """Largest whole number up to the product, which may be rounded to just below it."""
    return int(quantile * n_samples + 1e-9)
