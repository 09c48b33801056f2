"""Clipping of large activations."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._head import head_features
from .._sklearn import Interval
from ..activations import Activations
from ._base import FeatureShaper, warn_if_all_clipped
from ._percentile import interpolated_percentile


class ReAct(FeatureShaper):
    """Clip the features from above.

    Out-of-distribution samples often excite a few units far beyond what training samples do, and
    these units then dominate the logits. ReAct replaces a feature ``h`` by ``min(h, c)``, where
    ``c`` is a high percentile of the training features [1]_.

    Parameters
    ----------
    percentile : float in [0, 100], default=90
        ``c`` is this percentile of all features of all in-distribution training samples taken
        together. Not used where ``threshold`` is given.
    threshold : float, default=None
        ``c`` itself.

    Attributes
    ----------
    threshold_ : float
        ``c``.

    See Also
    --------
    VRA : Also removes small features.
    DICE : Keeps the important weights of the head; often used behind ReAct.

    References
    ----------
    .. [1] Y. Sun, C. Guo, Y. Li, "ReAct: Out-of-distribution detection with rectified
       activations", NeurIPS 2021. arXiv:2111.12797

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.shaping import ReAct
    >>> head = LinearHead(np.array([[1.0, 0.0], [0.0, 1.0]]), input_layer="fc")
    >>> A = Activations({"fc": np.array([[0.0, 1.0], [2.0, 9.0]])}, head=head)
    >>> shaped = ReAct(threshold=3).fit_transform(A)
    >>> shaped.logits
    array([[0., 1.],
           [2., 3.]])
    """

    _parameter_constraints: dict[str, Any] = {
        "percentile": [Interval(Real, 0, 100, closed="both")],
        "threshold": [Interval(Real, None, None, closed="neither"), None],
    }

    def __init__(self, *, percentile: float = 90, threshold: float | None = None) -> None:
        self.percentile = percentile
        self.threshold = threshold

    def _fit(self, X: Activations, y: NDArray | None) -> None:
        if self.threshold is not None:
            self.threshold_ = float(self.threshold)
        else:
            features = head_features(X)
            self.threshold_ = float(interpolated_percentile(features, self.percentile))
            warn_if_all_clipped(self, features, self.threshold_, "a higher percentile")

    def _shape_into(self, out: NDArray[np.floating], features: NDArray[np.floating]) -> None:
        np.minimum(features, self.threshold_, out=out)
