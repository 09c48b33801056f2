"""Negative free energy of the logits."""

from __future__ import annotations

from numbers import Real
from typing import Any

from .._sklearn import Interval
from .._values import Floats
from ._base_logit import BaseLogitDetector
from ._base_sample_wise import BaseSampleWiseDetector
from ._softmax import Logits, log_sum_exp, tempered


class EnergyDetector(BaseLogitDetector, BaseSampleWiseDetector):
    """Negative free energy of the logits.

    The score is ``T * logsumexp(logits / T)`` [1]_.

    Parameters
    ----------
    temperature : float, default=1.0
        T, by which the logits are divided.

    See Also
    --------
    MaxLogitDetector : The limit of a small temperature.
    MaxSoftmaxDetector : Confidence of the prediction.

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits.

    Only the threshold is learnt: in batches, too, by ``partial_fit`` and ``merge``.

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
        **BaseLogitDetector._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, *, temperature: float = 1.0, false_alarm_rate: float = 0.05, validation: Any = None
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.temperature = temperature

    def _score_logits(self, logits: Logits) -> Floats:
        return self.temperature * log_sum_exp(tempered(logits, self.temperature))
