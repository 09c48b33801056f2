"""The template of the detectors that read the last linear layer and what goes into it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._docstrings import OF_HEAD
from .._head import as_head_features, head_blocks, validate_head_input
from .._values import SQUARABLE
from ..activations import Activations, LinearHead
from ._base import BaseOneClassDetector
from ._row_lengths import row_lengths

HeadBatch = tuple[slice, NDArray[Any], NDArray[np.float64]]
"""Rows, what the head reads of them, and their logits."""


class BaseHeadDetector(BaseOneClassDetector):
    """Base class of the detectors that need features, logits and the head between them.

    ``_fit`` or ``_learn`` get Activations with one layer, what the head reads, of which
    ``float64_batches`` gives features and logits. ``head_`` is the head that ``fit`` saw.
    """

    head_: LinearHead
    _min_classes = 1
    _entries = OF_HEAD
    _sizes_of_values = (0.0, SQUARABLE[1])

    def _validate(self, X: Any, *, reset: bool) -> Activations:
        return validate_head_input(
            self, X, reset=reset, ensure_min_classes=self._min_classes, in_blocks=True
        )

    def _layers_to_read(self) -> set[str]:
        return {str(self.head_.input_layer)}

    def _score_samples(self, X: Activations) -> NDArray[np.float64]:
        scores = np.empty(len(X))
        for rows, features, logits in self._batches_to_score(X):
            scores[rows] = self._score_rows(features, logits)
        return scores

    def _score_few(self, X: Activations) -> NDArray[np.float64] | None:
        logits = X.logits
        if logits is None:
            return None
        features = as_head_features(X[str(self.head_.input_layer)])
        computed: Any = np.asarray(features, dtype=self._computes_in(features.dtype))
        return self._score_rows(computed, np.asarray(logits, dtype=np.float64))

    def _computes_in(self, dtype: np.dtype) -> type[np.floating]:
        """The type of floats in which features of a type are computed with."""
        return np.float64

    def _batches_to_score(self, X: Activations) -> Iterator[HeadBatch]:
        """Slices of rows, their features in the type that is computed with, and logits."""
        # What is computed of features is as large as they are, several times.
        return head_batches(X, self._computes_in, n_copies=4)

    @abstractmethod
    def _score_rows(
        self, features: NDArray[np.float64], logits: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Scores of float64 features (n_samples, n_units), logits (n_samples, n_classes)."""


def float64_batches(X: Activations) -> Iterator[HeadBatch]:
    """Iterate over row slices of what ``validate_head_input`` gave, their features and logits."""
    return head_batches(X, lambda dtype: np.float64)


def head_batches(
    X: Activations,
    dtype_for: Callable[[np.dtype], type[np.floating]],
    *,
    are_products: bool = False,
    n_copies: int = 1,
) -> Iterator[HeadBatch]:
    """The same, with features of the type that is computed with for the type that they have.

    ``are_products`` and ``n_copies`` are as for :func:`row_batches`.
    """
    for block, features, logits in head_blocks(X):
        dtype = dtype_for(features.dtype)
        n_values = max(features.shape[1], logits.shape[1])
        for rows in row_batches(
            len(logits), n_values, are_products=are_products, n_copies=n_copies
        ):
            of_all = slice(block.start + rows.start, block.start + rows.stop)
            yield of_all, np.asarray(features[rows], dtype=dtype), logits[rows]


@dataclass
class FeatureSums:
    """Number of samples, the sum of their features and that of the norms of these."""

    count: int
    total: NDArray[np.float64]
    total_norm: float

    @classmethod
    def of(cls, X: Activations) -> FeatureSums:
        sums = cls(len(X), np.zeros(X.shape[1]), 0.0)
        for _, features, _ in float64_batches(X):
            sums.total += features.sum(axis=0)
            sums.total_norm += row_lengths(features).sum()
        return sums

    def merge(self, other: FeatureSums) -> FeatureSums:
        """The sums over the samples of both."""
        return FeatureSums(
            self.count + other.count,
            self.total + other.total,
            self.total_norm + other.total_norm,
        )

    def mean(self) -> NDArray[np.float64]:
        """Mean of the features."""
        return self.total / self.count

    def rounding(self) -> float:
        """The smallest distance to the mean that is more than rounding."""
        return float(np.finfo(np.float64).eps * self.total_norm / self.count) or 1.0
