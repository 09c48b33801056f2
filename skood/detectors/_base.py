"""The template that all detectors share."""

from abc import ABCMeta, abstractmethod
from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted

from .._fit_context import fit_context
from .._marks import (
    IN_A_SEARCH,
    check_mark_is_no_class,
    in_distribution_mask,
    in_distribution_rows,
    take_rows,
)
from .._sklearn import Interval
from .._validation import check_activations
from .._values import ANY_SIZE, check_finite
from .._warnings import warn_user


class BaseDetector(OutlierMixin, BaseEstimator, metaclass=ABCMeta):
    """What all detectors share once they are fitted.

    A subclass fits, which sets ``offset_``, and says how to score validated input
    (``_score_samples``, higher for in-distribution samples).
    """

    _sizes_of_values = ANY_SIZE
    """Bounds of the largest value of a layer, for detectors that compute squares."""

    @abstractmethod
    def fit(self, X, y=None):
        """Fit the detector.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations by layer, or those of one layer.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution sample.

        Returns
        -------
        self : object
            Fitted detector.
        """

    def _validate(self, X, *, reset):
        return check_activations(self, X, reset=reset)

    @abstractmethod
    def _score_samples(self, X):
        """Scores of validated Activations, ndarray of shape (n_samples,)."""

    def score_samples(self, X):
        """Score samples: the higher, the more in-distribution.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Scores.

        Raises
        ------
        ValueError
            If values are not finite, the layers or the classes of the network are not those of
            ``fit``, or a score is not finite, because values are too large.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        with without_overflow_warnings():
            scores = self._score_samples(X)
        self._check_scores(scores)
        return scores

    def _check_scores(self, scores):
        check_finite(
            scores,
            f"The score of {type(self).__name__}",
            "The values of these samples are too large or too small for it: look at them, or "
            "divide the layers by a constant.",
        )

    def decision_function(self, X):
        """Score samples relative to the threshold: negative for out-of-distribution.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Tell in-distribution (1) from out-of-distribution (-1) samples.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def fit_predict(self, X, y=None):
        """Fit, then predict the same samples.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations by layer, or those of one layer.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return self.fit(X, y).predict(X)

    def score(self, X, y):
        """Area under the ROC curve of telling in- from out-of-distribution samples.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.
        y : array-like of shape (n_samples,)
            -1 for out-of-distribution samples, anything else for in-distribution ones.

        Returns
        -------
        auroc : float
            1 where every in-distribution sample scores higher, 0.5 for chance. NaN, with
            scikit-learn's ``UndefinedMetricWarning``, where ``y`` holds one kind only.
        """
        check_mark_is_no_class(X)
        scores = self.decision_function(X)
        is_in = in_distribution_mask(y, len(scores))
        if is_in.all() or not is_in.any():
            warn_user(
                f"There is no area under a ROC curve of {is_in.sum()} in-distribution and "
                f"{(~is_in).sum()} OOD rows (y == -1): the score is NaN. {IN_A_SEARCH}",
                UndefinedMetricWarning,
            )
            return np.nan
        return float(roc_auc_score(is_in, scores))


class BaseOneClassDetector(BaseDetector):
    """Template of the detectors that learn from in-distribution samples alone.

    A subclass says what to learn (``_fit``) and how to score (``_score_samples``). Validation,
    rows marked out-of-distribution and the threshold are here. A detector that stores its
    training samples also says how to score each of them with itself left out
    (``_score_training_samples``). One that learns by class sets ``_unknown_class_score``, the score
    of samples of a class that nothing was learnt of, below those of all others: the threshold is
    above it, however many training samples are of such a class.

    Parameters
    ----------
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of in-distribution samples that the threshold rejects.

    Attributes
    ----------
    training_rows_ : ndarray of shape (n_in_distribution_samples,)
        Rows of ``X`` in ``fit`` that were learnt from: those not marked -1.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, which set the threshold.
    offset_ : float
        Threshold on ``score_samples``.
    n_samples_seen_ : int
        Number of rows of ``X`` in ``fit``.
    """

    _parameter_constraints: dict = {"false_alarm_rate": [Interval(Real, 0, 0.5, closed="right")]}
    _unknown_class_score = -np.inf
    _score_error = 0.0
    """Standard error of the scores by which rows there happen to be in training, where known."""

    def __init__(self, *, false_alarm_rate=0.05):
        self.false_alarm_rate = false_alarm_rate

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn from the in-distribution samples and set the threshold.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations by layer, or those of one layer.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution sample, which is left out.

        Returns
        -------
        self : object
            Fitted detector.

        Raises
        ------
        ValueError
            If values are not finite, no sample is in-distribution, or the score of a training
            sample is not finite.
        """
        X, y, _ = self._split_by_kind(self._validate(X, reset=True), y)
        with without_overflow_warnings():
            self._fit(X, y)
            training_scores = self._score_training_samples(X)
        self._set_threshold(training_scores)
        return self

    def _split_by_kind(self, X, y):
        """In-distribution samples, their labels, and out-of-distribution samples."""
        self.n_samples_seen_ = len(X)
        self.training_rows_ = in_distribution_rows(y, len(X))
        outside = X[np.setdiff1d(np.arange(len(X)), self.training_rows_)]
        return *take_rows(X, y, self.training_rows_), outside

    @abstractmethod
    def _fit(self, X, y):
        """Learn from validated in-distribution Activations; ``y`` may be None."""

    def _score_training_samples(self, X):
        return self._score_samples(X)

    def _reject_unknown(self, scores):
        """Scores with ``_unknown_class_score`` in place of -inf, the mark of unknown classes."""
        return np.where(np.isneginf(scores), self._unknown_class_score, scores)

    def _set_threshold(self, training_scores):
        self._check_scores(training_scores)
        self.training_scores_ = training_scores
        self.offset_ = self._threshold(training_scores)

    def _threshold(self, training_scores):
        threshold = float(np.percentile(training_scores, 100.0 * self.false_alarm_rate))
        return max(threshold, self._smallest_known(training_scores))

    def _smallest_known(self, training_scores):
        """Smallest training score of a class that something was learnt of.

        Where more training samples than the threshold rejects are of other classes, these are all
        that it rejects.
        """
        unknown = self._unknown_class_score
        known = training_scores[training_scores > unknown]
        return float(known.min() if known.size else np.nextafter(unknown, np.inf))


def without_overflow_warnings():
    """Context for computations whose result is refused if it is not finite."""
    return np.errstate(over="ignore", invalid="ignore")
