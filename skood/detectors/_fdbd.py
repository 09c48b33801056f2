"""Distance to the boundaries between the predicted class and the others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from .._sklearn import StrOptions
from .._values import Floats
from ..activations import Activations
from ._base_head import BaseHeadDetector, FeatureSums
from ._base_incremental import BaseIncrementalDetector
from ._row_lengths import row_lengths


class FDBDDetector(BaseHeadDetector, BaseIncrementalDetector):
    """Mean distance of the features to the decision boundaries of the predicted class.

    The fast decision boundary detector (fDBD) [1]_ asks how far the features would have to move for
    the network to predict another class. For the predicted class c and another class k this is
    ``|logit[c] - logit[k]| / norm(weight[c] - weight[k])``. The score is the mean over all k,
    divided by how far the features are from the mean of the training samples. In-distribution
    samples are farther from the boundaries than others that are as far from the mean.

    Parameters
    ----------
    center : {"mean", "origin"}, default="mean"
        What distances to the boundaries are divided by: the distance to the mean of the training
        features, or the norm of the features, their distance to 0.

    Attributes
    ----------
    mean_ : ndarray of shape (`n_features_in_`,)
        Mean of the training features.

    See Also
    --------
    MaxSoftmaxDetector : Margin of the prediction in the logits.
    MahalanobisDetector : Distance to the class means.

    Notes
    -----
    Reads the logits of ``Activations``, their head, and the layer that it reads. An ordinary array
    is taken as logits: as features of a head that passes them on unchanged.

    The predicted class is that of the largest logit of ``X``, not ``X.predictions``: where shaping
    has changed the logits, the boundaries of the network's own prediction may lie elsewhere.

    Two classes with the same weights have no boundary; it is left out of the mean, which is 0 if
    there is no other. Distances to the mean count as no smaller than what rounding can tell from
    0, so that scores are finite.

    Batches, by ``partial_fit`` and ``merge``, add to the sums that the mean is made of. Whatever
    their order and sizes, the result is that of one ``fit``, to rounding.

    References
    ----------
    .. [1] L. Liu, Y. Qin, "Fast decision boundary based out-of-distribution detector", ICML 2024.
       arXiv:2312.11536

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.detectors import FDBDDetector
    >>> head = LinearHead(np.array([[0.0, 3.0], [0.0, -3.0]]), input_layer="fc")
    >>> A = Activations({"fc": [[0.0, 2.0], [0.0, -2.0]]}, head=head)
    >>> detector = FDBDDetector().fit(A)
    >>> others = Activations({"fc": [[0.0, 5.0], [4.0, 3.0], [3.0, 0.0]]}, head=head)
    >>> detector.score_samples(others)
    array([1. , 0.6, 0. ])
    """

    _min_classes = 2

    _parameter_constraints: dict = {
        **BaseHeadDetector._parameter_constraints,
        "center": [StrOptions({"mean", "origin"})],
    }

    def __init__(
        self, *, center: str = "mean", false_alarm_rate: float = 0.05, validation: Any = None
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.center = center

    def _learn(self, X: Activations, y: NDArray | None) -> FeatureSums:
        return FeatureSums.of(X)

    def _finish(self, summary: FeatureSums) -> None:
        self.mean_, self._least_distance = summary.mean(), summary.rounding()
        weight = self.head_.weight.astype(np.float64)
        apart = cdist(weight, weight)
        # 0, which leaves a pair out, where there is no boundary.
        self._per_logit = np.divide(1, apart, out=np.zeros_like(apart), where=apart > 0)
        self._n_boundaries = np.maximum((apart > 0).sum(axis=1), 1)

    def _score_rows(self, features: Floats, logits: Floats) -> Floats:
        predicted = logits.argmax(axis=1)
        margins = logits.max(axis=1, keepdims=True) - logits
        to_boundaries = np.einsum("sk,sk->s", margins, self._per_logit[predicted])
        center = self.mean_ if self.center == "mean" else 0.0
        distances = row_lengths(features - center)
        to_boundaries /= self._n_boundaries[predicted]
        return to_boundaries / np.maximum(distances, self._least_distance)
