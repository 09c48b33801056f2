"""Weibull tails of distances to class means."""

from __future__ import annotations

from functools import reduce
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from .._classes import GROUP_BY, class_columns
from .._sklearn import Interval
from .._streams import check_fitted
from .._values import SQUARABLE, Floats
from ..activations import Activations
from ._base_logit import BaseLogitDetector, logit_batches, logits_of, predictions_of
from ._class_sums import ClassSums
from ._softmax import Logits, log_sum_exp

TAIL_SHIFT = 10_000.0
"""Added to distances beyond the start of a tail before a Weibull is fitted, as libMR does."""


class OpenMaxDetector(BaseLogitDetector):
    """Minus the OpenMax probability of an unknown class, as log-odds.

    For each class, a Weibull distribution is fitted to the largest distances of training samples
    from the mean of their logits [1]_. It gives the probability that a new sample is farther away
    than the class reaches. That share of the largest logits moves to one more class, the unknown,
    before the softmax.

    Parameters
    ----------
    tail_size : int, default=20
        How many of the largest distances a Weibull is fitted to; all where a class has fewer. A
        small share of the samples of a class, or many of these are themselves beyond the tail.
    n_revised : int, default=3
        How many of a sample's largest logits are revised, the first one in full and each
        further one by 1 / ``n_revised`` less; all where there are fewer classes.
    cosine_weight : float in [0, 1], default=0.0
        Weight of the cosine distance; the Euclidean distance has the rest.

    Attributes
    ----------
    class_means_ : dict of str to ndarray of shape (n_classes, n_classes)
        Mean logits of each class; NaN for a class without training samples. The one layer is
        "logits", or "X" where ``fit`` saw an array.
    tails_ : ndarray of shape (n_classes, 3)
        Start, location and spread of each class's tail; NaN for a class without training samples.

    See Also
    --------
    KLMatchingDetector : Typical softmax distributions of the classes.
    MahalanobisDetector : Distances from class means in any layer.

    Notes
    -----
    Reads the logits of ``Activations``, and in ``fit`` the network's own predictions; an ordinary
    array is taken as the logits, and its columns as the classes 0, 1, ...

    A distance d is beyond the tail of a class with the probability ``1 - exp(-exp((s(d) - location)
    / spread))``, where ``s(d) = 10000 * log(1 + (d - start) / 10000)`` and the start is the
    smallest distance in the tail. In terms of ``10000 + d - start`` that is a Weibull distribution
    of shape ``10000 / spread`` and scale ``10000 * exp(location / 10000)``, which is what the
    authors' code fits, by maximum likelihood. A tail of equal distances takes the mean spread of
    the others, or 1. Any sample is beyond a class without training samples; where its largest logit
    is that of such a class, it scores below all training samples of other classes, and is rejected.

    There is neither ``partial_fit`` nor ``merge``. Which distances are largest is known once the
    means are, and these once all samples are: ``fit`` reads them several times, as many at a time
    as scikit-learn's ``working_memory`` holds.

    The authors' code adds 1 / 200 of the Euclidean distance to the cosine distance:
    ``cosine_weight=200 / 201``, up to a constant factor.

    References
    ----------
    .. [1] A. Bendale, T. E. Boult, "Towards open set deep networks", CVPR 2016. arXiv:1511.06233

    Examples
    --------
    >>> from skood.detectors import OpenMaxDetector
    >>> logits = [[9.0, 1.0], [8.0, 0.0], [8.0, 1.0], [1.0, 8.0], [0.0, 9.0], [1.0, 9.0]]
    >>> detector = OpenMaxDetector().fit(logits)
    >>> detector.openmax([[8.0, 1.0], [3.0, 3.0]]).round(2)
    array([[0.  , 1.  , 0.  ],
           [0.94, 0.01, 0.05]])
    """

    _min_classes = 2
    _sizes_of_values = (0.0, SQUARABLE[1])
    _labels_optional_for = "correct"

    _parameter_constraints: dict = {
        **BaseLogitDetector._parameter_constraints,
        "tail_size": [Interval(Integral, 1, None, closed="left")],
        "n_revised": [Interval(Integral, 1, None, closed="left")],
        "cosine_weight": [Interval(Real, 0, 1, closed="both")],
        "group_by": GROUP_BY,
    }

    def __init__(
        self,
        *,
        tail_size: int = 20,
        n_revised: int = 3,
        cosine_weight: float = 0.0,
        group_by: str = "correct",
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.tail_size = tail_size
        self.n_revised = n_revised
        self.cosine_weight = cosine_weight
        self.group_by = group_by

    def _fit(self, X: Activations, y: NDArray | None) -> NDArray[np.float64]:
        columns = self._columns(X, y)
        sums = self._sums(X, columns)
        known = np.flatnonzero(sums.counts)
        self._check_any_counts(len(known))
        self._means, self.tails_ = np.full_like(sums.sums, np.nan), np.full((X.shape[1], 3), np.nan)
        self._means[known] = sums.sums[known] / sums.counts[known, np.newaxis]
        distances = self._distances_to_own(X, columns)
        for column in known:
            own = distances[columns == column]
            self.tails_[column] = self._fit_tail(own, self._means[column])
        _lend_spreads(self.tails_)
        self.class_means_ = dict.fromkeys(X.layer_names, self._means)
        scores, has_tail = super()._score_samples(X), self._has_tail(X)
        self._set_unknown_class_score(scores, has_tail)
        return self._lowered(scores, has_tail)

    def _tells_classes(self, X: Activations) -> bool:
        return True  # the columns of an ordinary array are its classes

    def _columns(self, X: Activations, y: NDArray | None) -> NDArray[np.intp]:
        """Column of the class that each sample counts for, or -1."""
        layers = {str(column.name): column for column in X.columns if column.role == "layer"}
        X = Activations(layers, predictions=predictions_of(X), classes=X.classes)
        classes = self._training_classes(X, y)
        labels = np.arange(X.shape[1]) if X.classes is None else X.classes
        return np.where(classes.counts, class_columns(classes.own, labels), -1)

    def _sums(self, X: Activations, columns: NDArray[np.intp]) -> ClassSums:
        """Sums of the logits of the samples that count for each class, which may be none."""
        classes, start, parts = np.arange(X.shape[1]), 0, []
        for block in X.batches():
            stop = start + len(block)
            parts.append(ClassSums.of(logits_of(block), classes, columns[start:stop]))
            start = stop
        return reduce(ClassSums.merge, parts)

    def _distances_to_own(self, X: Activations, columns: NDArray[np.intp]) -> Floats:
        """Distance of each sample to the mean of the class that it counts for; NaN for none."""
        distances = np.full(len(X), np.nan)
        for rows, logits in logit_batches(X):
            means = self._means[columns[rows]]
            distances[rows] = _distances(logits, means, self.cosine_weight)
        return np.where(columns < 0, np.nan, distances)

    def _fit_tail(self, distances: Floats, mean: Floats) -> tuple[float, float, float]:
        distances = np.sort(distances)
        rounding = 1e-12 * ((1 - self.cosine_weight) * np.linalg.norm(mean) + self.cosine_weight)
        return _fit_weibull(distances[-self.tail_size :], rounding + 1e-12 * distances[-1])

    def _revise(self, logits: Floats) -> Floats:
        """Logits of shape (n_samples, 1 + n_classes), what moves to the unknown class first."""
        n_revised = min(self.n_revised, logits.shape[1])
        samples = np.arange(len(logits))
        remaining = logits.copy()
        revised = np.column_stack([np.zeros(len(logits)), logits])
        for rank in range(n_revised):
            columns = remaining.argmax(axis=1)
            remaining[samples, columns] = -np.inf
            distances = _distances(logits, self._means[columns], self.cosine_weight)
            share = (1 - rank / n_revised) * _beyond_tail(distances, self.tails_[columns])
            moved = share * logits[samples, columns]
            revised[:, 0] += moved
            revised[samples, 1 + columns] -= moved
        return revised

    def _score_samples(self, X: Activations) -> Floats:
        return self._lowered(super()._score_samples(X), self._has_tail(X))

    def _score_few(self, X: Activations) -> None:
        return None  # the classes of the largest logits are asked for, too

    def _has_tail(self, X: Activations) -> NDArray[np.bool_]:
        """Whether something was learnt of the class of the largest logit."""
        has_tail = ~np.isnan(self.tails_[:, 0])
        largest = [logits.argmax(axis=1) for _, logits in logit_batches(X)]
        return has_tail[np.concatenate(largest)]

    def _lowered(self, scores: Floats, has_tail: NDArray[np.bool_]) -> Floats:
        return np.where(has_tail, scores, np.minimum(scores, self.unknown_class_score_))

    def _score_logits(self, logits: Logits) -> Floats:
        revised = self._revise(logits.astype(np.float64, copy=False))
        return log_sum_exp(revised[:, 1:]) - revised[:, 0]

    def openmax(self, X: Activations | ArrayLike) -> Floats:
        """Compute the probabilities of the unknown class and of the known ones.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_classes)
            Activations with logits, or the logits.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 1 + n_classes)
            The first column is the unknown class. Rows sum to 1.
        """
        check_fitted(self)
        return softmax(self._revise(logits_of(self._validate(X, reset=False))), axis=1)


def _distances(rows: NDArray, means: NDArray, cosine_weight: float) -> NDArray:
    """Distance of each row to its mean; a row of zeros has the cosine 0."""
    euclidean = np.linalg.norm(rows - means, axis=1)
    if cosine_weight == 0:
        return euclidean
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(means, axis=-1)
    cosines = (rows * means).sum(axis=1) / np.where(lengths == 0, 1, lengths)
    return (1 - cosine_weight) * euclidean + cosine_weight * (1 - cosines)


def _shift(beyond_start: NDArray) -> NDArray:
    """``s(d)``, by ``d - start``; distances below ``-TAIL_SHIFT`` have no Weibull probability."""
    return TAIL_SHIFT * np.log1p(np.maximum(beyond_start / TAIL_SHIFT, np.nextafter(-1, 0)))


def _fit_weibull(tail: NDArray, rounding: float) -> tuple[float, float, float]:
    """Start, location and spread of the Weibull of largest likelihood for ascending distances.

    The spread is 0 where the distances differ by no more than ``rounding``.
    """
    shifted = _shift(tail - tail[0])
    below = shifted - shifted[-1]
    gap = -below.mean()
    if gap <= rounding:
        return tail[0], 0.0, 0.0

    def derivative(spread: float) -> float:
        weights = np.exp(below / spread)
        return below @ weights / weights.sum() + (gap - spread)

    # For any distances, the derivative is positive at one end and not at the other.
    spread = brentq(derivative, gap / (1 + len(tail)), gap, xtol=1e-15 * gap)
    return tail[0], shifted[-1] + spread * np.log(np.exp(below / spread).mean()), spread


def _lend_spreads(tails: NDArray) -> None:
    """Give tails of equal distances the mean spread of the others, or 1."""
    spreads = tails[:, 2]
    is_positive = spreads > 0
    spreads[spreads == 0] = spreads[is_positive].mean() if is_positive.any() else 1.0


def _beyond_tail(distances: NDArray, tails: NDArray) -> NDArray:
    """Probability that each distance is beyond its tail; 1 where there is no tail."""
    start, location, spread = tails.T
    exponent = (_shift(distances - start) - location) / spread
    # From e^700 on the probability is 1, and the exponential would overflow.
    beyond = -np.expm1(-np.exp(np.minimum(exponent, 700)))
    return np.where(np.isnan(exponent), 1.0, beyond)
