"""Entropies of the softmax."""

from numbers import Integral, Real

import numpy as np

from .._sklearn import Interval
from ._logits import LogitDetector, below_largest, log_sum_exp


class EntropyDetector(LogitDetector):
    """Minus the entropy of the softmax.

    The score ``sum(p * log(p))`` is 0 for a certain prediction and ``-log(n_classes)`` where all
    classes are equally likely.

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
    GENDetector : Weighs small probabilities more.
    MaxSoftmaxDetector : Considers the largest probability alone.

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits. The entropy is
    in nats, and keeps its relative precision however near to 0 it is: confident samples keep
    their order until the largest logit is some 700 above the others, where float64 ends.

    Examples
    --------
    >>> from skood.detectors import EntropyDetector
    >>> logits = [[0.0, 50.0], [0.0, 80.0], [1.0, 1.0]]
    >>> for score in EntropyDetector().fit(logits).score_samples(logits):
    ...     print(f"{score:.2e}")
    -9.84e-21
    -1.46e-33
    -6.93e-01
    """

    _min_classes = 2

    def _score_logits(self, logits):
        below, others = below_largest(logits)
        total = others.sum(axis=1)
        # The two terms have the same sign: nothing cancels.
        return np.einsum("sk,sk->s", others, below) / (1 + total) - np.log1p(total)


class GENDetector(LogitDetector):
    """Minus the generalised entropy of the softmax.

    The score is minus the sum of ``p ** gamma * (1 - p) ** gamma`` over the largest probabilities
    p [1]_. A small ``gamma`` makes much of small deviations from a certain prediction.

    Parameters
    ----------
    gamma : float, default=0.1
        Exponent. The entropy is concave, as the authors ask, for values below 1.
    n_largest : int, default=100
        How many of the largest probabilities to sum over; all where there are fewer classes.
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
    EntropyDetector : Shannon's entropy.

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits. The complement
    ``1 - p`` of the largest probability comes from the other logits, so that it does not
    round to 0.

    References
    ----------
    .. [1] X. Liu, Y. Lochman, C. Zach, "GEN: Pushing the limits of softmax-based
       out-of-distribution detection", CVPR 2023.

    Examples
    --------
    >>> from skood.detectors import GENDetector
    >>> logits = [[0.0, 50.0], [0.0, 80.0], [1.0, 1.0]]
    >>> for score in GENDetector().fit(logits).score_samples(logits):
    ...     print(f"{score:.2e}")
    -1.35e-02
    -6.71e-04
    -1.74e+00
    """

    _min_classes = 2

    _parameter_constraints: dict = {
        **LogitDetector._parameter_constraints,
        "gamma": [Interval(Real, 0, None, closed="neither")],
        "n_largest": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, *, gamma: float = 0.1, n_largest: int = 100, false_alarm_rate: float = 0.05
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate)
        self.gamma = gamma
        self.n_largest = n_largest

    def _score_logits(self, logits):
        n_others = min(self.n_largest, logits.shape[1]) - 1
        ascending = np.partition(logits, [-1 - n_others, -1], axis=1)
        below = ascending[:, :-1] - ascending[:, -1:]
        log_odds_against = log_sum_exp(below)
        log_largest = -np.logaddexp(0, log_odds_against)
        largest = np.exp(self.gamma * (2 * log_largest + log_odds_against))

        log_others = below[:, below.shape[1] - n_others :] + log_largest[:, None]
        # At most 1/2 each: their complements lose nothing to rounding.
        others = np.exp(self.gamma * (log_others + np.log1p(-np.exp(log_others))))
        return -(largest + others.sum(axis=1))
