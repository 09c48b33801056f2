"""Distance of the norms of all layers to those of training samples."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import NDArray

from .._classes import GROUP_BY
from .._sklearn import Interval
from .._values import Floats
from ..activations import Activations, PackedBits
from ._base import BaseOneClassDetector
from ._mahalanobis import MahalanobisDetector
from ._row_lengths import row_lengths

_SILENCE = 1e-6
"""Added to norms in units of their mean: samples without any activation need a logarithm, too."""


class ActivationNormDetector(BaseOneClassDetector):
    r"""Distance of the norms of all layers to those of training samples.

    Networks answer to what they do not know by activations that are smaller than usual [1]_, and to
    inputs on a wrong scale by such that are larger. The logarithms of the Euclidean norms of all
    layers are one vector for each sample; the score is minus half its squared Mahalanobis distance
    to the nearest class. It sees what detectors on normalised activations cannot, and costs one
    number a layer and sample.

    Parameters
    ----------
    shrinkage : float, default=0.1
        Share of the covariance of the logarithms, from 0 to below 1, that is replaced by their mean
        variance on the diagonal.

    Attributes
    ----------
    mean_norms_ : dict of str to float
        Mean norm of the training samples in each layer, of those layers where it is not 0.
    distances_ : MahalanobisDetector
        The distances of the logarithms, as one layer "norms".
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Scores of the training samples, each with itself left out.

    See Also
    --------
    MahalanobisDetector : Distances of the activations themselves.
    skood.ensemble.AdaptiveEnsembleDetector : Listens to this detector where it is alarmed.

    Notes
    -----
    Of the norm :math:`r` of a layer whose mean norm in training is :math:`m`, the logarithm is
    :math:`\log(r / m + 10^{-6})`, which is finite for samples without any activation. Layers that
    no training sample activates are left out.

    References
    ----------
    .. [1] J. Park, J. C. L. Chai, J. Yoon, A. B. J. Teoh, "Understanding the feature norm for
       out-of-distribution detection", ICCV 2023. arXiv:2310.05316

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.detectors import ActivationNormDetector
    >>> rng = np.random.default_rng(0)
    >>> relu1, relu2 = rng.random((200, 8)), rng.random((200, 4))
    >>> detector = ActivationNormDetector().fit(Activations({"relu1": relu1, "relu2": relu2}))
    >>> new = Activations({"relu1": [relu1[0], 4 * relu1[0]], "relu2": [relu2[0], 4 * relu2[0]]})
    >>> detector.predict(new)
    array([ 1, -1])
    """

    _labels_optional_for = "label"
    _looks_up_classes = False

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
        "shrinkage": [Interval(Real, 0, 1, closed="left")],
        "group_by": GROUP_BY,
    }

    def __init__(
        self, *, shrinkage: float = 0.1, group_by: str = "label", false_alarm_rate: float = 0.05
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate)
        self.shrinkage = shrinkage
        self.group_by = group_by

    def _fit(self, X: Activations, y: NDArray | None) -> NDArray[np.float64]:
        means = {name: _mean(_norms(layer)) for name, layer in X.items()}
        self.mean_norms_ = {name: mean for name, mean in means.items() if mean > 0}
        if not self.mean_norms_:
            raise ValueError(
                "All activations of the training samples are 0 in the layers "
                f"{list(X.layer_names)}: there are no norms to compare with."
            )
        self.distances_ = MahalanobisDetector(shrinkage=self.shrinkage, group_by=self.group_by)
        return self.distances_.fit(self._log_norms(X), y).training_scores_

    def _log_norms(self, X: Activations) -> Activations:
        """Logarithms of the norms of all layers as one layer, with what is known of classes."""
        relative = [_norms(X[name]) / mean for name, mean in self.mean_norms_.items()]
        norms = np.log(np.column_stack(relative) + _SILENCE)
        return Activations({"norms": norms}, predictions=X.predictions)

    def _score_samples(self, X: Activations) -> Floats:
        return self.distances_.score_samples(self._log_norms(X))


def _norms(layer: NDArray | PackedBits) -> Floats:
    rows = np.asarray(layer).astype(np.float64, copy=False)
    rows = rows.reshape(len(rows), -1)
    # The squares of what is left stay in the range of floats.
    largest = max(float(np.abs(rows).max(initial=0)), np.finfo(np.float64).tiny)
    return largest * row_lengths(rows / largest)


def _mean(norms: Floats) -> float:
    """The mean, also where the sum leaves the range of floats."""
    largest = norms.max()
    return float(largest * (norms / largest).mean()) if largest > 0 else 0.0
