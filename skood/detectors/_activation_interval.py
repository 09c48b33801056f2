"""Units that leave the intervals in which they were during training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._classes import GROUP_BY
from .._estimator_checks import LEFT_OUT, failed_outlier_checks
from .._labels import find_classes
from .._sklearn import Interval, StrOptions
from .._values import ROUNDING, Floats
from ..activations import Activations
from ._base_incremental import BaseIncrementalDetector
from ._extremes import EndsOf, Extremes, ends_by_class

_N_LEVELS = 4

IsOutside = Callable[[slice, Floats], NDArray[np.bool_]]
"""Tells of rows, and values of theirs in one layer, which of these are outside."""


class ActivationIntervalDetector(BaseIncrementalDetector):
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

    With ``intervals="minmax"``, ends of batches are those of all their samples, bit by bit:
    ``partial_fit`` and ``merge`` are there. Quantiles and levels need all values of a unit, and
    ``fit`` reads one layer at a time.

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
        **BaseIncrementalDetector._parameter_constraints,
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

    def _why_not_in_batches(self) -> str:
        if self.intervals == "minmax":
            return ""
        return f"intervals={self.intervals!r} come from all values of a unit; 'minmax' do not."

    def _learn(self, X: Activations, y: NDArray | None) -> _Intervals:
        labels, codes = self._training_classes(X, y).numbered()
        layers = {}
        for name in X.layer_names:
            rows = np.asarray(X[name], dtype=np.float64)
            layers[name] = self._learn_layer(rows, codes, labels)
        return _Intervals(layers)

    def _learn_layer(
        self, rows: Floats, codes: NDArray[np.intp], labels: NDArray
    ) -> Extremes | _Levels:
        if self.intervals == "levels":
            return _Levels.of(rows, codes, labels)
        if self.intervals == "quantile":
            return _quantiles(rows, codes, labels, self.quantile)
        return Extremes.of([(codes, rows)], labels, rows.shape[1:])

    def _finish(self, summary: _Intervals) -> None:
        layers = list(summary.layers.values())
        self.class_labels_ = layers[0].labels
        self._check_any_counts(len(self.class_labels_))
        self.unknown_class_score_ = -1.0
        if self.intervals == "levels":
            self.unit_maxima_ = np.concatenate([found.maxima for found in layers])
            self.level_counts_ = np.concatenate([found.level_counts for found in layers], axis=1)
        else:
            self.lower_ = np.concatenate([found.lower for found in layers], axis=1)
            self.upper_ = np.concatenate([found.upper for found in layers], axis=1)

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        classes = self._training_classes(X, y)
        position, has_intervals = find_classes(classes.lookup, self.class_labels_)
        learnt, is_own = list(self._summary.layers.values()), classes.finds_itself
        if self.intervals == "levels":
            are_outside = [
                _missing(found.maxima, found.level_counts, position, is_own) for found in learnt
            ]
        else:
            are_outside = [_beyond(found.ends_of(position, is_own)) for found in learnt]
        scores = _scores(X, are_outside)
        # The only sample of its class leaves no intervals.
        is_alone = is_own & (learnt[0].counts[position] == 1)
        return self._reject_unknown(scores, has_intervals & ~is_alone)

    def _score_samples(self, X: Activations) -> Floats:
        position, has_intervals = find_classes(self._lookup_classes(X), self.class_labels_)
        starts = np.cumsum([shape[0] for shape in X.layer_shapes.values()])[:-1]
        if self.intervals == "levels":
            counts = np.split(self.level_counts_, starts, axis=1)
            learnt = zip(np.split(self.unit_maxima_, starts), counts, strict=True)
            nobody = np.zeros(len(X), dtype=bool)
            are_outside = [_missing(maxima, count, position, nobody) for maxima, count in learnt]
        else:
            lower, upper = (np.split(ends, starts, axis=1) for ends in (self.lower_, self.upper_))
            ends = zip(lower, upper, strict=True)
            are_outside = [_beyond(ends_by_class(low, high, position)) for low, high in ends]
        return self._reject_unknown(_scores(X, are_outside), has_intervals)

    def _expected_failed_checks(self) -> dict[str, str]:
        return {} if self.intervals == "quantile" else failed_outlier_checks(LEFT_OUT)


@dataclass(frozen=True)
class _Intervals:
    """What there is to know of each layer."""

    layers: dict[str, Any]

    def merge(self, other: _Intervals) -> _Intervals:
        """What the samples of both teach."""
        return _Intervals(
            {name: own.merge(other.layers[name]) for name, own in self.layers.items()}
        )


@dataclass(frozen=True)
class _Levels:
    """Largest values of units, and how many samples of each class are in each of four levels."""

    labels: NDArray
    counts: NDArray[np.intp]
    maxima: Floats
    level_counts: NDArray[np.intp]

    @classmethod
    def of(cls, rows: Floats, codes: NDArray[np.intp], labels: NDArray) -> _Levels:
        """Of all samples of a layer, whose number of a class is -1 where they do not count."""
        maxima = np.maximum(rows.max(axis=0), 0.0)
        levels = _levels(rows, maxima)
        level_counts = [
            [np.sum(levels[codes == code] == level, axis=0) for level in range(_N_LEVELS)]
            for code in range(len(labels))
        ]
        counts = np.bincount(codes[codes >= 0])
        return cls(labels, counts, maxima, np.array(level_counts).transpose(0, 2, 1))


def _quantiles(rows: Floats, codes: NDArray[np.intp], labels: NDArray, quantile: float) -> Extremes:
    """Quantiles of all samples of a layer, and those that any one sample leaves to the others.

    Without a sample that is below the lower end, the next larger value is the end; a sample
    that is not below is inside with or without itself. So one pair of ends serves all.
    """
    smallest, negated = np.full((2, 2, len(labels), rows.shape[1]), np.inf)
    counts = np.bincount(codes[codes >= 0])
    for code, n_own in enumerate(counts):
        ordered = np.sort(rows[codes == code], axis=0)
        n_cut, n_cut_of_others = _n_cut(quantile, n_own), _n_cut(quantile, n_own - 1)
        smallest[0, code], negated[0, code] = ordered[n_cut], -ordered[-1 - n_cut]
        if n_own > 1:
            smallest[1, code] = ordered[n_cut_of_others + 1]
            negated[1, code] = -ordered[n_own - 2 - n_cut_of_others]
    return Extremes(labels, counts, smallest, negated)


def _scores(X: Activations, are_outside: list[IsOutside]) -> Floats:
    """Minus the share of units that are outside, one function a layer."""
    n_outside = np.zeros(len(X))
    for name, is_outside in zip(X.layer_names, are_outside, strict=True):
        layer = X[name]
        for rows in row_batches(len(X), 2 * layer.shape[1]):
            values = np.asarray(layer[rows], dtype=np.float64)
            n_outside[rows] += is_outside(rows, values).sum(axis=1)
    return -(n_outside / X.shape[1])


def _beyond(ends_of: EndsOf) -> IsOutside:
    """Whether values of some rows are beyond the ends of their ranges."""
    return lambda rows, values: _are_outside(values, *ends_of(rows))


def _missing(
    maxima: Floats,
    level_counts: NDArray[np.intp],
    position: NDArray[np.intp],
    is_own: NDArray,
) -> IsOutside:
    """Whether no training sample of the class but the row itself is in the level of a value."""
    units = np.arange(len(maxima))

    def is_missing(rows: slice, values: Floats) -> NDArray[np.bool_]:
        levels = _levels(values, maxima)
        counts = level_counts[position[rows, np.newaxis], units, levels]
        return counts <= is_own[rows, np.newaxis]

    return is_missing


def _levels(values: Floats, maxima: Floats) -> NDArray[np.intp]:
    return np.sum(
        [values > edge for edge in (0.0, maxima / 3, 2 * maxima / 3)], axis=0, dtype=np.intp
    )


def _are_outside(values: Floats, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
    """Which values are outside of intervals by more than rounding."""
    is_below = values < lower - ROUNDING * np.abs(lower)
    return is_below | (values > upper + ROUNDING * np.abs(upper))


def _n_cut(quantile: float, n_samples: int) -> int:
    """Largest whole number up to the product, which may be rounded to just below it."""
    return int(quantile * n_samples + 1e-9)
