"""Detectors that read the logits alone."""

from abc import abstractmethod
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._sklearn import Interval
from .._validation import ARRAY_LAYER, check_activations
from .._values import ON_LOGITS
from ..activations import Activations
from ._base import BaseOneClassDetector


def logits_of(X: Activations) -> NDArray[np.float64]:
    """Logits of what :class:`LogitDetector` has validated."""
    return np.asarray(X["logits" if "logits" in X else ARRAY_LAYER], dtype=np.float64)


def predictions_of(X: Activations) -> NDArray:
    """The network's own predictions; for an ordinary array, the columns of the largest logits."""
    predictions = X.predictions
    return logits_of(X).argmax(axis=1) if predictions is None else predictions


def log_sum_exp(logits: NDArray) -> NDArray:
    """Logarithm of the sum of exponentials of each row; faster than SciPy's, which does more."""
    largest = logits.max(axis=1, keepdims=True)
    below = logits - largest
    return largest[:, 0] + np.log(np.exp(below, out=below).sum(axis=1))


def below_largest(logits: NDArray) -> tuple[NDArray, NDArray]:
    """Logits less the largest of their row, and exponentials of these: 0 for the largest itself."""
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    below = logits - logits[rows, top, np.newaxis]
    others = np.exp(below)
    others[rows, top] = 0
    return below, others


class LogitDetector(BaseOneClassDetector):
    """Base class of the detectors whose score is a function of one sample's logits."""

    _min_classes = 1

    def _validate(self, X, *, reset):
        if isinstance(X, Activations):
            if X.logits is None:
                raise ValueError(
                    f"{type(self).__name__} needs logits, but {X!r} carries none: {ON_LOGITS}."
                )
            # Layers that are not read here may stay on disk.
            X = X.replace({"logits": X.logits})
        return check_activations(
            self, X, reset=reset, ensure_min_features=self._min_classes if reset else 1
        )

    def _fit(self, X, y):
        """Nothing to learn: the score depends on the sample alone."""

    def _score_samples(self, X):
        logits = X["logits" if "logits" in X else ARRAY_LAYER]
        scores = np.empty(len(logits))
        for rows in row_batches(*logits.shape):
            scores[rows] = self._score_logits(np.asarray(logits[rows], dtype=np.float64))
        return scores

    @abstractmethod
    def _score_logits(self, logits):
        """Scores of logits of shape (n_samples, n_classes), in float64."""


class MaxSoftmaxDetector(LogitDetector):
    """Largest softmax probability, as log-odds.

    The score ``log(p / (1 - p))`` ranks samples as the maximum softmax probability p (MSP) [1]_
    does, but keeps apart the samples for which p rounds to 1.

    Parameters
    ----------
    temperature : float, default=1.0
        T, by which the logits are divided.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of the in-distribution training samples that the threshold rejects.

    Attributes
    ----------
    training_rows_ : ndarray of shape (n_in_distribution_samples,)
        Rows of ``X`` in ``fit`` that were learnt from: those not marked -1.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores.
    offset_ : float
        Threshold on ``score_samples``.
    n_samples_seen_ : int
        Number of rows of ``X`` in ``fit``.
    n_features_in_ : int
        Number of classes.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where ``fit`` saw a data frame with string names.
    layer_shapes_ : dict of str to tuple
        Shape of one sample's logits, where ``fit`` saw ``Activations``.

    See Also
    --------
    EnergyDetector : Free energy of the logits.
    GENDetector : An entropy that weighs small probabilities more.
    MaxLogitDetector : Largest logit.
    skood.extraction.ODIN : Perturbs inputs, for ``temperature=1000``.

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits. The threshold
    comes from the training samples, on which a network is more confident than on new
    ones: fit on samples that the network was not trained on where false alarms matter.

    With ``temperature=1000`` this is the score of ODIN [2]_, once the inputs are perturbed.

    References
    ----------
    .. [1] D. Hendrycks, K. Gimpel, "A baseline for detecting misclassified and
       out-of-distribution examples in neural networks", ICLR 2017. arXiv:1610.02136
    .. [2] S. Liang, Y. Li, R. Srikant, "Enhancing the reliability of out-of-distribution image
       detection in neural networks", ICLR 2018. arXiv:1706.02690

    Examples
    --------
    >>> from skood.detectors import MaxSoftmaxDetector
    >>> logits = [[0.0, 50.0], [0.0, 80.0], [1.0, 1.0]]
    >>> MaxSoftmaxDetector().fit(logits).score_samples(logits)
    array([50., 80.,  0.])
    """

    _min_classes = 2

    _parameter_constraints: dict = {
        **LogitDetector._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, temperature=1.0, *, false_alarm_rate=0.05):
        super().__init__(false_alarm_rate=false_alarm_rate)
        self.temperature = temperature

    def _score_logits(self, logits):
        logits = logits / self.temperature
        others = below_largest(logits)[1].sum(axis=1)
        # Where the exponentials are too small for a float, relative to the second largest.
        is_small = others < 1e-280
        others[is_small] = 1
        scores = 0.0 - np.log(others)  # not -0.0
        if is_small.any():
            largest_last = np.partition(logits[is_small], -1, axis=1)
            scores[is_small] = largest_last[:, -1] - log_sum_exp(largest_last[:, :-1])
        return scores


class MaxLogitDetector(LogitDetector):
    """Largest logit.

    Unlike the softmax, it does not fall where two classes are likely at once, which is common with
    many classes [1]_.

    Parameters
    ----------
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of the in-distribution training samples that the threshold rejects.

    Attributes
    ----------
    training_rows_ : ndarray of shape (n_in_distribution_samples,)
        Rows of ``X`` in ``fit`` that were learnt from: those not marked -1.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores.
    offset_ : float
        Threshold on ``score_samples``.
    n_samples_seen_ : int
        Number of rows of ``X`` in ``fit``.
    n_features_in_ : int
        Number of classes.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where ``fit`` saw a data frame with string names.
    layer_shapes_ : dict of str to tuple
        Shape of one sample's logits, where ``fit`` saw ``Activations``.

    See Also
    --------
    EnergyDetector : Its smooth counterpart.
    MaxSoftmaxDetector : Compares the largest logit with the others.

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits.

    References
    ----------
    .. [1] D. Hendrycks, S. Basart, M. Mazeika, A. Zou, J. Kwon, M. Mostajabi, J. Steinhardt,
       D. Song, "Scaling out-of-distribution detection for real-world settings", ICML 2022.
       arXiv:1911.11132

    Examples
    --------
    >>> from skood.detectors import MaxLogitDetector
    >>> MaxLogitDetector().fit([[0.0, 5.0], [9.0, 1.0]]).score_samples([[0.0, 2.0]])
    array([2.])
    """

    def _score_logits(self, logits):
        return logits.max(axis=1)


class EnergyDetector(LogitDetector):
    """Negative free energy of the logits.

    The score is ``T * logsumexp(logits / T)`` [1]_.

    Parameters
    ----------
    temperature : float, default=1.0
        T, by which the logits are divided.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of the in-distribution training samples that the threshold rejects.

    Attributes
    ----------
    training_rows_ : ndarray of shape (n_in_distribution_samples,)
        Rows of ``X`` in ``fit`` that were learnt from: those not marked -1.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores.
    offset_ : float
        Threshold on ``score_samples``.
    n_samples_seen_ : int
        Number of rows of ``X`` in ``fit``.
    n_features_in_ : int
        Number of classes.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where ``fit`` saw a data frame with string names.
    layer_shapes_ : dict of str to tuple
        Shape of one sample's logits, where ``fit`` saw ``Activations``.

    See Also
    --------
    MaxLogitDetector : The limit of a small temperature.
    MaxSoftmaxDetector : Confidence of the prediction.

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits.

    References
    ----------
    .. [1] W. Liu, X. Wang, J. D. Owens, Y. Li, "Energy-based out-of-distribution detection",
       NeurIPS 2020. arXiv:2010.03759

    Examples
    --------
    >>> from skood.detectors import EnergyDetector
    >>> EnergyDetector().fit([[0.0, 5.0], [9.0, 1.0]]).score_samples([[0.0, 0.0]]).round(3)
    array([0.693])
    """

    _parameter_constraints: dict = {
        **LogitDetector._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, temperature=1.0, *, false_alarm_rate=0.05):
        super().__init__(false_alarm_rate=false_alarm_rate)
        self.temperature = temperature

    def _score_logits(self, logits):
        return self.temperature * log_sum_exp(logits / self.temperature)
