"""Proximity of the features to the weights of the predicted class."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._sklearn import Interval
from .._values import Floats
from ..activations import Activations
from ._base_head import BaseHeadDetector, FeatureSums
from ._base_incremental import BaseIncrementalDetector
from ._row_lengths import row_lengths
from ._softmax import row_maxima, row_sums


class NCIDetector(BaseHeadDetector, BaseIncrementalDetector):
    """Proximity of the features to the weights of the predicted class, and size of the features.

    Where training goes on long enough, features of a class gather, about their common mean, along
    the weights of that class (neural collapse). The neural collapse inspired detector (NCI) [1]_
    asks how far a sample points there: with the features f, the mean m of the training features
    and the weights w of the predicted class, the score is
    ``w @ (f - m) / norm(f - m) + alpha * sum(abs(f))``.

    Parameters
    ----------
    alpha : float, default=0.0001
        Weight of the L1 norm of the features, which is small for many out-of-distribution
        samples. The default is that of the authors' implementation in OpenOOD, where 0.0001,
        0.001, 0.01 and 0.1 are tried on out-of-distribution samples set apart; it has to suit the
        size of the features.

    Attributes
    ----------
    mean_ : ndarray of shape (`n_features_in_`,)
        Mean of the training features.

    See Also
    --------
    FDBDDetector : Relates the distances to the boundaries to the distance from the mean.
    COREDetector : Looks at what the weights of the classes do not read.

    Notes
    -----
    Reads the logits of ``Activations``, their head, and the layer that it reads. An ordinary array
    is taken as logits: as features of a head that passes them on unchanged.

    The predicted class is that of the largest logit of ``X``, not ``X.predictions``: where shaping
    has changed the logits, the network's own prediction may be another.

    The first term is not divided by the norm of w. Features at their mean, as near as rounding can
    tell, have no direction: for them it is 0.

    Batches, by ``partial_fit`` and ``merge``, add to the sums that the mean is made of. Whatever
    their order and sizes, the result is that of one ``fit``, to rounding.

    References
    ----------
    .. [1] L. Liu, Y. Qin, "Detecting out-of-distribution through the lens of neural collapse",
       CVPR 2025. arXiv:2311.01479

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.detectors import NCIDetector
    >>> head = LinearHead(np.array([[2.0, 0.0], [0.0, 2.0]]), input_layer="fc")
    >>> A = Activations({"fc": [[3.0, 1.0], [1.0, 3.0]]}, head=head)
    >>> detector = NCIDetector(alpha=0.1).fit(A)
    >>> detector.mean_
    array([2., 2.])
    >>> others = Activations({"fc": [[7.0, 2.0], [6.0, 5.0], [2.0, 2.0]]}, head=head)
    >>> detector.score_samples(others)
    array([2.9, 2.7, 0.4])
    """

    _parameter_constraints: dict = {
        **BaseHeadDetector._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self, *, alpha: float = 0.0001, false_alarm_rate: float = 0.05, validation: Any = None
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.alpha = alpha

    def _learn(self, X: Activations, y: NDArray | None) -> FeatureSums:
        return FeatureSums.of(X)

    def _finish(self, summary: FeatureSums) -> None:
        self.mean_, self._least_distance = summary.mean(), summary.rounding()

    def _score_rows(self, features: Floats, logits: Floats) -> Floats:
        weights = self.head_.weight[logits.argmax(axis=1)].astype(np.float64)
        from_mean = features - self.mean_
        distances = row_lengths(from_mean)
        near = np.flatnonzero(distances <= self._least_distance * np.sqrt(from_mean.shape[1]))
        from_mean[near[row_maxima(np.abs(from_mean[near])) <= self._least_distance]] = 0
        distances[distances == 0] = 1
        proximity = np.einsum("sf,sf->s", weights, from_mean) / distances
        return proximity + self.alpha * row_sums(np.abs(features))
