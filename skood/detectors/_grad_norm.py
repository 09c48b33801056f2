"""Size of the gradient of the last layer."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from scipy.special import softmax

from .._sklearn import Interval
from .._values import Floats
from ._base_head import BaseHeadDetector
from ._base_sample_wise import BaseSampleWiseDetector


class GradNormDetector(BaseHeadDetector, BaseSampleWiseDetector):
    """Size of the gradient that would make the prediction of a sample uniform.

    The score is the L1 norm of the gradient of ``KL(uniform || softmax(logits / T))`` with respect
    to the weight of the last layer [1]_, which is larger for in-distribution samples. It is
    ``sum(|features|) * sum(|softmax(logits / T) - 1 / n_classes|) / T``: no network is needed to
    compute it.

    Parameters
    ----------
    temperature : float, default=1.0
        T, by which the logits are divided.

    See Also
    --------
    MaxSoftmaxDetector : Confidence alone, without the size of the features.
    NACDetector : How usual the gradient of each unit is, times its activation.

    Notes
    -----
    Reads the logits of ``Activations``, their head, and the layer that it reads. An ordinary array
    is taken as logits: as features of a head that passes them on unchanged.

    Only the threshold is learnt: in batches, too, by ``partial_fit`` and ``merge``.

    References
    ----------
    .. [1] R. Huang, A. Geng, Y. Li, "On the importance of gradients for detecting distributional
       shifts in the wild", NeurIPS 2021. arXiv:2110.00218

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.detectors import GradNormDetector
    >>> head = LinearHead(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), input_layer="fc")
    >>> A = Activations({"fc": [[3.0, 0.0, 1.0], [0.0, 4.0, 1.0], [1.0, 1.0, 0.0]]}, head=head)
    >>> GradNormDetector().fit(A).score_samples(A).round(2)
    array([3.62, 4.82, 0.  ])
    """

    _min_classes = 2

    _parameter_constraints: dict = {
        **BaseHeadDetector._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, *, temperature: float = 1.0, false_alarm_rate: float = 0.05, validation: Any = None
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.temperature = temperature

    def _score_rows(self, features: Floats, logits: Floats) -> Floats:
        gradients = softmax(logits / self.temperature, axis=1) - 1 / logits.shape[1]
        size = np.abs(features).sum(axis=1) * np.abs(gradients).sum(axis=1)
        return size / self.temperature
