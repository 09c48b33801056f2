"""A head that keeps only its important weights."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from .._head import head_logits, network_features
from .._sklearn import Interval
from .._warnings import warn_user
from ..activations import Activations, LinearHead
from ._base import BaseShaper
from ._percentile import percentile_below


class DICE(BaseShaper):
    """Keep the weights of the head that contribute most to the logits, and set the others to 0.

    The contribution of unit ``d`` to class ``k`` is its weight times its mean over the training
    samples, ``weight[k, d] * mean[d]``, sign included. Weights are kept whose contribution is above
    a percentile of those of all weights; biases are kept [1]_. The features do not change.

    Parameters
    ----------
    sparsity : float in [0, 100], default=90
        The percentile, by the name that it has in [1]_: share of the weights that become 0, in per
        cent. Published with 90 for CIFAR and 70 for ImageNet.
    mean_features : array-like of shape (n_units,), default=None
        Mean of each unit over the training samples of the network, where these are not the samples
        of ``fit``. By default the mean over the in-distribution samples of ``fit``.

    Attributes
    ----------
    mean_features_ : ndarray of shape (n_units,)
        Mean of each unit.
    weight_mask_ : ndarray of shape (n_classes, n_units)
        True for weights that are kept.
    sparse_head_ : LinearHead
        The head with these weights only.

    Raises
    ------
    ValueError
        In ``fit``, if ``mean_features`` has not one value for each unit.

    See Also
    --------
    ReAct : Clips features; as published, in front of DICE.
    LINe : Chooses weights and units for each class.

    Notes
    -----
    The mean is that of the features of the network itself, ``A.features``, also behind another
    shaping transformer. So ``make_pipeline(ReAct(), DICE())`` chooses the weights by unclipped
    features, as published, and gives the same logits as ``make_pipeline(DICE(), ReAct())``. The
    ``head`` of the activations that ``transform`` returns is the sparse one.

    References
    ----------
    .. [1] Y. Sun, Y. Li, "DICE: Leveraging sparsification for out-of-distribution detection",
       ECCV 2022. arXiv:2111.09805

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.shaping import DICE
    >>> head = LinearHead(np.array([[1.0, 2.0], [3.0, -1.0]]), input_layer="fc")
    >>> A = Activations({"fc": np.array([[1.0, 0.0], [3.0, 8.0]])}, head=head)
    >>> shaped = DICE(sparsity=50).fit_transform(A)
    >>> shaped.head.weight
    array([[0., 2.],
           [3., 0.]])
    >>> shaped.logits
    array([[ 0.,  3.],
           [16.,  9.]])
    """

    _parameter_constraints: dict[str, Any] = {
        "sparsity": [Interval(Real, 0, 100, closed="both")],
        "mean_features": ["array-like", None],
    }

    def __init__(self, *, sparsity: float = 90, mean_features: ArrayLike | None = None) -> None:
        self.sparsity = sparsity
        self.mean_features = mean_features

    def _fit(self, X: Activations, y: NDArray | None) -> None:
        self.mean_features_ = self._mean_features(X)
        head = self.head_
        contributions = self.mean_features_ * head.weight
        self.weight_mask_ = contributions > percentile_below(contributions, self.sparsity)
        if not contributions.any():
            warn_user(
                "DICE keeps no weight: no feature contributes to any class in training, and all "
                "samples get the biases as logits. Check whether the layer is dead."
            )
        weight = np.where(self.weight_mask_, head.weight, 0)
        self.sparse_head_ = LinearHead(weight, head.bias, head.input_layer)

    def _mean_features(self, X: Activations) -> NDArray[np.float64]:
        if self.mean_features is None:
            return network_features(X).mean(axis=0, dtype=np.float64)
        means: NDArray[np.float64] = check_array(
            self.mean_features, ensure_2d=False, dtype=np.float64, input_name="mean_features"
        )
        if means.shape != self.head_.shape[1:]:
            raise ValueError(
                f"mean_features must have shape {self.head_.shape[1:]}, one value for each unit, "
                f"but got {means.shape}."
            )
        return means

    def _shape(
        self, features: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return features, head_logits(self.sparse_head_, features)

    def _shaped_head(self) -> LinearHead:
        return self.sparse_head_
