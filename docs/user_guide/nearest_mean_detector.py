"""Distance to the mean activations of the classes."""

import numpy as np
from sklearn.metrics import pairwise_distances

from skood.detectors import BaseOneClassDetector


class NearestMeanDetector(BaseOneClassDetector):
    """Euclidean distance to the nearest class mean.

    Parameters
    ----------
    metric : str, default="euclidean"
        Distance, as in :func:`sklearn.metrics.pairwise_distances`.

    Attributes
    ----------
    means_ : ndarray of shape (n_groups, n_features)
        Mean of the training samples of each predicted class.

    Examples
    --------
    >>> detector = NearestMeanDetector().fit([[0.0, 0.0], [2.0, 0.0]])
    >>> detector.score_samples([[1.0, 0.0], [1.0, 3.0]])
    array([-0., -3.])
    """

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
        "metric": [str],
    }

    def __init__(self, *, metric="euclidean", false_alarm_rate=0.05):
        super().__init__(false_alarm_rate=false_alarm_rate)
        self.metric = metric

    def _fit(self, X, y):
        values, predicted = np.asarray(X, dtype=np.float64), self._lookup_classes(X)
        groups = [values[predicted == label] for label in np.unique(predicted)]
        self.means_ = np.array([group.mean(axis=0) for group in groups])

    def _score_samples(self, X):
        values = np.asarray(X, dtype=np.float64)
        return -pairwise_distances(values, self.means_, metric=self.metric).min(axis=1)
