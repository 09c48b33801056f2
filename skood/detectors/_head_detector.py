"""The template of the detectors that read the last linear layer and what goes into it."""

from abc import abstractmethod

import numpy as np

from .._batches import row_batches
from .._head import head_features, validate_head_input
from .._values import SQUARABLE
from ._base import BaseOneClassDetector
from ._row_lengths import row_lengths


class HeadDetector(BaseOneClassDetector):
    """Base class of the detectors that need features, logits and the head between them.

    ``_fit`` gets Activations with one layer, what the head reads (``head_features``), and with
    float64 logits. ``head_`` is the head that ``fit`` saw.
    """

    _min_classes = 1
    _sizes_of_values = (0.0, SQUARABLE[1])

    def _validate(self, X, *, reset):
        return validate_head_input(self, X, reset=reset, ensure_min_classes=self._min_classes)

    def _score_samples(self, X):
        scores = np.empty(len(X))
        for rows, features, logits in float64_batches(X):
            scores[rows] = self._score_rows(features, logits)
        return scores

    @abstractmethod
    def _score_rows(self, features, logits):
        """Scores of float64 features (n_samples, n_units), logits (n_samples, n_classes)."""


def float64_batches(X):
    """Iterate over row slices of what ``validate_head_input`` gave, their features and logits."""
    features, logits = head_features(X), X.logits
    widest = max(features.shape[1], logits.shape[1])
    for rows in row_batches(len(X), widest):
        yield rows, np.asarray(features[rows], dtype=np.float64), logits[rows]


def mean_and_rounding(X):
    """Mean of the features, and the smallest distance to it that is more than rounding."""
    total, total_norm = 0.0, 0.0
    for _, features, _ in float64_batches(X):
        total += features.sum(axis=0)
        total_norm += row_lengths(features).sum()
    return total / len(X), np.finfo(np.float64).eps * total_norm / len(X) or 1.0
