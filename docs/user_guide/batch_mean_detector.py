"""Distance to the mean activations of the classes, learnt in batches."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import pairwise_distances

from skood.detectors import BaseIncrementalDetector


@dataclass(frozen=True)
class ClassSums:
    """What samples teach: their number and the sum of their activations, by predicted class."""

    by_class: dict

    def merge(self, other):
        """The sums over the samples of both; neither is changed."""
        both = dict(self.by_class)
        for label, (count, total) in other.by_class.items():
            known_count, known_total = both.get(label, (0, 0.0))
            both[label] = known_count + count, known_total + total
        return ClassSums(both)


class BatchMeanDetector(BaseIncrementalDetector):
    """Euclidean distance to the nearest class mean.

    Attributes
    ----------
    means_ : ndarray of shape (n_groups, n_features)
        Mean of the training samples of each predicted class.

    Examples
    --------
    >>> detector = BatchMeanDetector().partial_fit([[0.0, 0.0]]).partial_fit([[2.0, 0.0]])
    >>> detector.score_samples([[1.0, 0.0], [1.0, 3.0]])
    array([-0., -3.])
    """

    def _learn(self, X, y):
        values, predicted = np.asarray(X, dtype=np.float64), self._lookup_classes(X)
        groups = {label: values[predicted == label] for label in np.unique(predicted).tolist()}
        return ClassSums({label: (len(rows), rows.sum(axis=0)) for label, rows in groups.items()})

    def _finish(self, summary):
        # In a fixed order, whichever class came first.
        known = sorted(summary.by_class)
        self.means_ = np.array([np.divide(*summary.by_class[label][::-1]) for label in known])

    def _score_samples(self, X):
        values = np.asarray(X, dtype=np.float64)
        return -pairwise_distances(values, self.means_).min(axis=1)
