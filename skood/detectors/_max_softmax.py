"""Largest softmax probability."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from .._sklearn import Interval
from .._values import Floats
from ._base_logit import BaseLogitDetector
from ._base_sample_wise import BaseSampleWiseDetector
from ._softmax import Logits, all_plain, are_plain, exp_of_others, log_sum_exp, row_sums, tempered


class MaxSoftmaxDetector(BaseLogitDetector, BaseSampleWiseDetector):
    """Largest softmax probability, as log-odds.

    The score ``log(p / (1 - p))`` ranks samples as the maximum softmax probability p (MSP) [1]_
    does, but keeps apart the samples for which p rounds to 1.

    Parameters
    ----------
    temperature : float, default=1.0
        T, by which the logits are divided.

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

    Only the threshold is learnt: in batches, too, by ``partial_fit`` and ``merge``.

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
        **BaseLogitDetector._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, *, temperature: float = 1.0, false_alarm_rate: float = 0.05, validation: Any = None
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.temperature = temperature

    def _score_logits(self, logits: Logits) -> Floats:
        logits = tempered(logits, self.temperature)
        others, largest = exp_of_others(logits)
        sums = row_sums(others)
        if all_plain(sums, logits.dtype):
            return largest.astype(np.float64, copy=False) - np.log(sums)
        is_plain = are_plain(sums, logits.dtype)
        sums[~is_plain] = 1
        scores = largest.astype(np.float64, copy=False) - np.log(sums)
        largest_last = np.partition(logits[~is_plain].astype(np.float64), -1, axis=1)
        scores[~is_plain] = largest_last[:, -1] - log_sum_exp(largest_last[:, :-1])
        return scores
