"""Samples of sets of any kind: how many they are, and some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from ._sklearn import safe_indexing


def n_samples_of(X: Any) -> int | None:
    """Number of samples; None where only an extractor can tell."""
    if hasattr(X, "shape"):  # sparse matrices of keys are mappings, too
        return int(X.shape[0])
    if isinstance(X, Mapping):
        return n_samples_of(next(iter(X.values()), []))
    if hasattr(X, "__array__"):
        return len(np.asarray(X))
    # A loader counts its batches.
    return len(X) if isinstance(X, Sequence) else None


def n_rows_of(X: Any) -> int:
    """Number of samples of a set whose rows can be selected.

    Raises
    ------
    TypeError
        If it is another one, such as a loader.
    """
    n_samples = n_samples_of(X)
    if n_samples is None:
        raise TypeError(
            f"Rows of {type(X).__name__} cannot be selected: pass arrays, or Activations that an "
            "ActivationExtractor has made of it before, to a detector without an extractor."
        )
    return n_samples


def take_samples(X: Any, rows: NDArray[np.intp]) -> Any:
    """Some samples of a set; the set itself where they are all."""
    if np.array_equal(rows, np.arange(n_rows_of(X))):
        return X
    if issparse(X):
        return X.tocsr()[rows]  # of other formats, rows cannot be selected
    if isinstance(X, Mapping):
        return {key: take_samples(values, rows) for key, values in X.items()}
    if isinstance(X, list | tuple) or hasattr(X, "iloc"):
        return safe_indexing(X, rows)
    return X[rows] if hasattr(X, "shape") else np.asarray(X)[rows]
