"""Removal of small activations and clipping of large ones."""

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


class VRA(FeatureShaper):
    """Set small features to 0 and clip large ones.

    A feature below the threshold ``alpha`` becomes 0, one above the threshold ``beta`` becomes
    ``beta``, and those between do not change [1]_. Both are percentiles of the training features.

    Parameters
    ----------
    low_percentile : float in [0, 100], default=60
        ``alpha`` is this percentile of all features of all in-distribution training samples taken
        together.
    high_percentile : float in [0, 100], default=95
        The same for ``beta``.

    Attributes
    ----------
    thresholds_ : tuple of float
        ``alpha`` and ``beta``.

    Raises
    ------
    ValueError
        In ``fit``, if ``low_percentile`` is above ``high_percentile``.

    See Also
    --------
    ReAct : Clips large features only.
    ASH : Removes the features that are small within a sample.

    Notes
    -----
    The authors' code takes the percentiles 60 and 95 for a DenseNet on CIFAR-100, 60 and 90 on
    CIFAR-10. The rule is that of their code. Other libraries use the name for other rules: they
    raise what is below ``alpha`` to ``alpha``, and one has a pair of thresholds for each unit.

    References
    ----------
    .. [1] M. Xu, Z. Lian, B. Liu, J. Tao, "VRA: Variational rectified activation for
       out-of-distribution detection", NeurIPS 2023. arXiv:2302.11716

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.shaping import VRA
    >>> head = LinearHead(np.ones((1, 5)), input_layer="fc")
    >>> A = Activations({"fc": np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])}, head=head)
    >>> VRA(low_percentile=50, high_percentile=75).fit_transform(A)["fc"]
    array([[0., 0., 2., 3., 3.]])
    """

    _parameter_constraints: dict[str, Any] = {
        "low_percentile": [Interval(Real, 0, 100, closed="both")],
        "high_percentile": [Interval(Real, 0, 100, closed="both")],
    }

    def __init__(self, *, low_percentile: float = 60, high_percentile: float = 95) -> None:
        self.low_percentile = low_percentile
        self.high_percentile = high_percentile

    def _fit(self, X: Activations, y: NDArray | None) -> None:
        low, high = self.low_percentile, self.high_percentile
        if low > high:
            raise ValueError(
                "low_percentile must not be above high_percentile, got "
                f"low_percentile={low}, high_percentile={high}."
            )
        features = head_features(X)
        alpha, beta = (interpolated_percentile(features, percent) for percent in (low, high))
        warn_if_all_clipped(self, features, beta, "a higher high_percentile")
        self.thresholds_ = float(alpha), float(beta)

    def _shape_into(self, out: NDArray[np.floating], features: NDArray[np.floating]) -> None:
        alpha, beta = self.thresholds_
        np.minimum(np.where(features < alpha, 0, features), beta, out=out)
