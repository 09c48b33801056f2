"""Generalised entropy of the softmax."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from .._rows import partition_rows
from .._sklearn import Interval
from .._values import Floats
from ._base_logit import BaseLogitDetector
from ._base_sample_wise import BaseSampleWiseDetector
from ._softmax import Logits, log_sum_exp


class GENDetector(BaseLogitDetector, BaseSampleWiseDetector):
    """Minus the generalised entropy of the softmax.

    The score is minus the sum of ``p ** gamma * (1 - p) ** gamma`` over the largest probabilities
    p [1]_. A small ``gamma`` makes much of small deviations from a certain prediction.

    Parameters
    ----------
    gamma : float, default=0.1
        Exponent. The entropy is concave, as the authors ask, for values below 1.
    n_largest : int, default=100
        How many of the largest probabilities to sum over; all where there are fewer classes.

    See Also
    --------
    EntropyDetector : Shannon's entropy.

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits. The complement
    ``1 - p`` of the largest probability comes from the other logits, so that it does not
    round to 0.

    Only the threshold is learnt: in batches, too, by ``partial_fit`` and ``merge``.

    References
    ----------
    .. [1] X. Liu, Y. Lochman, C. Zach, "GEN: Pushing the limits of softmax-based
       out-of-distribution detection", CVPR 2023. https://openreview.net/forum?id=Sie7oeTABS

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
        **BaseLogitDetector._parameter_constraints,
        "gamma": [Interval(Real, 0, None, closed="neither")],
        "n_largest": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        gamma: float = 0.1,
        n_largest: int = 100,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.gamma = gamma
        self.n_largest = n_largest

    def _score_logits(self, logits: Logits) -> Floats:
        n_others = min(self.n_largest, logits.shape[1]) - 1
        first = logits.shape[1] - 1 - n_others
        ascending = partition_rows(logits, [first, -1] if first else [-1])
        ascending = ascending.astype(np.float64, copy=False)
        below = ascending[:, :-1] - ascending[:, -1:]
        log_odds_against = log_sum_exp(below)
        log_largest = -np.logaddexp(0, log_odds_against)
        largest = np.exp(self.gamma * (2 * log_largest + log_odds_against))

        log_others = below[:, below.shape[1] - n_others :] + log_largest[:, None]
        # At most 1/2 each: their complements lose nothing to rounding.
        others = np.exp(self.gamma * (log_others + np.log1p(-np.exp(log_others))))
        return -(largest + others.sum(axis=1))
