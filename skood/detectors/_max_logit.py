"""Largest logit."""

from __future__ import annotations

import numpy as np

from ._base_logit import BaseLogitDetector
from ._base_sample_wise import BaseSampleWiseDetector
from ._softmax import Logits, row_maxima


class MaxLogitDetector(BaseLogitDetector, BaseSampleWiseDetector):
    """Largest logit.

    Unlike the softmax, it does not fall where two classes are likely at once, which is common with
    many classes [1]_.

    See Also
    --------
    EnergyDetector : Its smooth counterpart.
    MaxSoftmaxDetector : Compares the largest logit with the others.

    Notes
    -----
    Reads the logits of ``Activations``; an ordinary array is taken as the logits.

    Only the threshold is learnt: in batches, too, by ``partial_fit`` and ``merge``.

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

    def _computes_in(self, dtype: np.dtype) -> np.dtype:
        # The largest of them is one of them.
        return np.result_type(dtype, np.float32) if dtype.kind == "f" else np.dtype(np.float64)

    def _score_logits(self, logits: Logits) -> Logits:
        return row_maxima(logits)
