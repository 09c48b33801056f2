"""Removal of small activations and clipping of large ones."""

from numbers import Real

import numpy as np

from .._head import head_features
from .._sklearn import Interval
from ._base import FeatureShaper, warn_if_all_clipped


class VRA(FeatureShaper):
    """Set small features to 0 and clip large ones.

    A feature below ``alpha`` becomes 0, one above ``beta`` becomes ``beta``, and those between
    stay [1]_. Both are percentiles of the training features.

    Parameters
    ----------
    low : float in [0, 100], default=60
        ``alpha`` is this percentile of all features of all in-distribution training samples taken
        together.
    high : float in [0, 100], default=95
        The same for ``beta``.

    Attributes
    ----------
    thresholds_ : tuple of float
        ``alpha`` and ``beta``.
    head_ : LinearHead
        The head that ``fit`` saw.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where ``fit`` saw a data frame with string names.
    layer_shapes_ : dict of str to tuple
        Shape of one sample's features, where ``fit`` saw ``Activations``.

    Raises
    ------
    ValueError
        In ``fit``, if ``low`` is above ``high``.

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
    >>> VRA(low=50, high=75).fit_transform(A)["fc"]
    array([[0., 0., 2., 3., 3.]])
    """

    _parameter_constraints: dict = {
        "low": [Interval(Real, 0, 100, closed="both")],
        "high": [Interval(Real, 0, 100, closed="both")],
    }

    def __init__(self, low=60, high=95):
        self.low = low
        self.high = high

    def _fit(self, X, y):
        if self.low > self.high:
            raise ValueError(f"low must not be above high, got low={self.low}, high={self.high}.")
        percentiles = np.array([self.low, self.high], dtype=np.float64)
        features = head_features(X)
        alpha, beta = np.percentile(features, percentiles)
        warn_if_all_clipped(self, features, beta, "a larger high")
        self.thresholds_ = float(alpha), float(beta)

    def _shape_features(self, features):
        alpha, beta = self.thresholds_
        return np.minimum(np.where(features < alpha, 0, features), beta)
