"""Virtual-logit matching."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import row_norms

from .._config import working_dtype
from .._sklearn import Interval, StrOptions
from .._values import Floats
from .._warnings import warn_user
from ..activations import Activations, LinearHead
from ._base_head import BaseHeadDetector, HeadBatch, head_batches
from ._softmax import log_sum_exp, row_maxima

_EPS = np.finfo(np.float64).eps
_LEAST_PRECISE_SHARE = 0.03
"""Smaller residuals, relative to the features, show the rounding of single precision."""


class ViMDetector(BaseHeadDetector):
    """Energy of the logits minus the part of the features outside of their principal subspace.

    Virtual-logit matching (ViM) [1]_ finds the principal subspace of the training features. What a
    sample has outside of it, the residual, makes one more logit, scaled to be as large as the
    largest logit is on average. The score is ``logsumexp(logits) - alpha * norm(residual)``.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Dimension of the principal subspace, at most the number of units, for which there is no
        residual. "auto" is the authors' choice: 1,000 for 2,048 units or more, 512 for 768 or more,
        otherwise half of the units.

    Attributes
    ----------
    n_components_ : int
        Dimension of the principal subspace: ``n_components``, or fewer where the training samples
        do not span so many dimensions.
    components_ : ndarray of shape (`n_components_`, `n_features_in_`)
        Orthonormal axes of the principal subspace, the one with the largest moment first.
    origin_ : ndarray of shape (`n_features_in_`,)
        The point that the features are taken relative to: ``-pinv(weight) @ bias``, where the
        logits are as near to 0 as they get.
    alpha_ : float
        Weight of the norm of the residual, alpha in the score above.

    See Also
    --------
    EnergyDetector : The score without the residual.
    MahalanobisDetector : Weighs all directions by the spread of the training samples.
    NNGuideDetector : Energy guided by the nearest training samples.

    Notes
    -----
    Reads the logits of ``Activations``, their head, and the layer that it reads. An ordinary array
    is taken as logits: as features of a head that passes them on unchanged.

    The moments are not centred, but taken about the origin. Where the training samples lie in the
    principal subspace altogether, as they do if they are few, any residual at all outweighs the
    energy. Where the largest logit is negative on average, its absolute value sets the scale, so
    that a residual always lowers the score.

    There is neither ``partial_fit`` nor ``merge``. The weight of residuals is made of their norms
    outside of a subspace that is known once all samples are: ``fit`` reads these twice, as many at
    a time as scikit-learn's ``working_memory`` holds.

    References
    ----------
    .. [1] H. Wang, Z. Li, L. Feng, W. Zhang, "ViM: Out-of-distribution with virtual-logit
       matching", CVPR 2022. arXiv:2203.10807

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.detectors import ViMDetector
    >>> features = [[4.0, 0.0, 1.0], [0.0, 4.0, -1.0], [4.0, 0.0, -1.0], [0.0, 4.0, 1.0]]
    >>> head = LinearHead(np.eye(3)[:2], input_layer="fc")
    >>> A = Activations({"fc": features}, head=head)
    >>> detector = ViMDetector(n_components=2).fit(A)
    >>> round(detector.alpha_, 6)
    4.0
    >>> others = Activations({"fc": [[5.0, 0.0, 0.0], [5.0, 0.0, 3.0]]}, head=head)
    >>> detector.score_samples(others).round(2)
    array([ 5.01, -6.99])
    """

    _parameter_constraints: dict = {
        **BaseHeadDetector._parameter_constraints,
        "n_components": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        *,
        n_components: int | str = "auto",
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.n_components = n_components

    def _fit(self, X: Activations, y: NDArray | None) -> Floats:
        n_components = self._n_components(X.shape[1])
        self.origin_ = _origin(self.head_)
        moments, axes = np.linalg.eigh(self._second_moments(X))
        moments, axes = moments[::-1], axes[:, ::-1]
        # Which of the directions without any moment come first is chance.
        n_spanned = int((moments > len(moments) * _EPS * moments[0]).sum())
        self.n_components_ = min(n_components, n_spanned)
        self.components_ = axes[:, : self.n_components_].T.copy()
        self._residual_axes = axes[:, self.n_components_ :].copy()
        # A smaller residual than this is rounding.
        self._least_norm = np.sqrt(_EPS * moments.clip(0).sum())
        return self._score_weighed(X)

    def _n_components(self, n_units: int) -> int:
        if isinstance(self.n_components, str):
            return 1000 if n_units >= 2048 else 512 if n_units >= 768 else n_units // 2
        if self.n_components > n_units:
            raise ValueError(
                f"n_components={self.n_components} must be at most {n_units}, the number of units "
                "that the head reads."
            )
        return self.n_components

    def _second_moments(self, X: Activations) -> Floats:
        moments = np.zeros((X.shape[1], X.shape[1]))
        for _, features, _ in head_batches(X, lambda dtype: np.float64, are_products=True):
            relative = features - self.origin_
            moments += relative.T @ relative
        return moments / len(X)

    def _score_weighed(self, X: Activations) -> Floats:
        """Find the weight of residuals and return the scores."""
        norms, energies, largest = np.empty((3, len(X)))
        for rows, features, logits in self._batches_to_score(X):
            norms[rows] = self._residual_norms(features)
            energies[rows] = log_sum_exp(logits)
            largest[rows] = row_maxima(logits)
        norm = max(norms.mean(), self._least_norm)
        if norm == 0:
            warn_user(
                "The features of all training samples are where the logits vanish: there is no "
                "residual to compare with, and the score of ViMDetector is the energy alone."
            )
        self.alpha_ = float(abs(largest.mean()) / norm) if norm > 0 else 0.0
        return energies - self.alpha_ * norms

    def _computes_in(self, dtype: np.dtype) -> type[np.floating]:
        return working_dtype(dtype)

    def _batches_to_score(self, X: Activations) -> Iterator[HeadBatch]:
        return head_batches(X, self._computes_in)

    def _residual_norms(self, features: NDArray[np.floating]) -> Floats:
        origin, axes = (
            part.astype(features.dtype, copy=False) for part in (self.origin_, self._residual_axes)
        )
        norms = row_norms((features - origin) @ axes).astype(np.float64, copy=False)
        if features.dtype != np.float64:
            sizes = row_norms(features) + np.linalg.norm(origin)
            is_small = norms < _LEAST_PRECISE_SHARE * sizes
            norms[is_small] = self._residual_norms(features[is_small].astype(np.float64))
        return norms

    def _score_rows(self, features: Floats, logits: Floats) -> Floats:
        return log_sum_exp(logits) - self.alpha_ * self._residual_norms(features)


def _origin(head: LinearHead) -> Floats:
    """The shortest vector of features at which the logits are as near to 0 as they get."""
    rounding = max(head.shape) * np.finfo(np.result_type(head.weight, np.float32)).eps
    weight, bias = (np.asarray(part, dtype=np.float64) for part in (head.weight, head.bias))
    origin = np.linalg.lstsq(weight, -bias, rcond=rounding)[0]
    return np.asarray(origin, dtype=np.float64)
