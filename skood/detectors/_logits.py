"""Detectors that read the logits alone."""

from abc import abstractmethod
from numbers import Real

import numpy as np
from scipy.special import logsumexp
from sklearn.utils._param_validation import Interval

from .._validation import ARRAY_LAYER, check_activations
from ..activations import Activations
from ._base import BaseOneClassDetector


class LogitDetector(BaseOneClassDetector):
    """Base class of the detectors whose score is a function of one sample's logits."""

    _min_classes = 1

    def _validate(self, X, *, reset):
        if isinstance(X, Activations):
            if X.logits is None:
                raise ValueError(f"{type(self).__name__} needs logits, but {X!r} carries none.")
            # Layers that are not read here may stay on disk.
            X = Activations({"logits": X.logits}, predictions=X.predictions)
        return check_activations(
            self, X, reset=reset, ensure_min_features=self._min_classes if reset else 1
        )

    def _fit(self, X, y):
        """Nothing to learn: the score depends on the sample alone."""

    def _score_samples(self, X):
        logits = X["logits" if "logits" in X else ARRAY_LAYER]
        return self._score_logits(np.asarray(logits, dtype=np.float64))

    @abstractmethod
    def _score_logits(self, logits):
        """Scores of logits of shape (n_samples, n_classes), in float64."""


class MaxSoftmaxDetector(LogitDetector):
    """Largest softmax probability, as log-odds.

    The score ``log(p / (1 - p))`` ranks samples as the maximum softmax probability p (MSP) [1]_
    does, but keeps apart the samples for which p rounds to 1.

    Parameters
    ----------
    contamination : float in (0, 0.5], default=0.05
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

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits. The threshold
    comes from the training samples, on which a network is more confident than on new
    ones: fit on samples that the network was not trained on where false alarms matter.

    References
    ----------
    .. [1] D. Hendrycks, K. Gimpel, "A baseline for detecting misclassified and
       out-of-distribution examples in neural networks", ICLR 2017. arXiv:1610.02136

    Examples
    --------
    >>> from skood.detectors import MaxSoftmaxDetector
    >>> logits = [[0.0, 50.0], [0.0, 80.0], [1.0, 1.0]]
    >>> MaxSoftmaxDetector().fit(logits).score_samples(logits)
    array([50., 80.,  0.])
    """

    _min_classes = 2

    def _score_logits(self, logits):
        ordered = np.sort(logits, axis=1)
        return ordered[:, -1] - logsumexp(ordered[:, :-1], axis=1)


class EnergyDetector(LogitDetector):
    """Negative free energy of the logits.

    The score is ``T * logsumexp(logits / T)`` [1]_.

    Parameters
    ----------
    temperature : float, default=1.0
        T, by which the logits are divided.
    contamination : float in (0, 0.5], default=0.05
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

    def __init__(self, temperature=1.0, *, contamination=0.05):
        super().__init__(contamination=contamination)
        self.temperature = temperature

    def _score_logits(self, logits):
        return self.temperature * logsumexp(logits / self.temperature, axis=1)
