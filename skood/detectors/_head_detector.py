"""The template of the detectors that read the last linear layer and what goes into it."""

from .._head import check_head_input
from ._base import BaseOneClassDetector


class HeadDetector(BaseOneClassDetector):
    """Base class of the detectors that need features, logits and the head between them.

    ``_fit`` and ``_score_samples`` get Activations with one layer, what the head reads
    (``head_features``), and with float64 logits. ``head_`` is the head that ``fit`` saw.
    """

    _min_features = 1

    def _validate(self, X, *, reset):
        return check_head_input(self, X, reset=reset, ensure_min_features=self._min_features)
