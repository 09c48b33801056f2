"""Euclidean norms, and rows of norm 1, that neither overflow nor vanish."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import row_norms

from .._batches import row_batches

_LEAST_PRECISE = 1e-140
"""Below this, the squares that a norm is made of begin to lose digits."""


def row_lengths(rows: NDArray) -> NDArray[np.float64]:
    """Euclidean norm of each row of floating-point numbers or bits, of shape (n_rows,)."""
    lengths = np.sqrt(np.einsum("rf,rf->r", rows, rows, dtype=np.float64))
    small = np.flatnonzero(lengths < _LEAST_PRECISE)
    largest = np.abs(rows[small]).max(axis=1, initial=0).astype(np.float64)
    # Rows of zeros stay out.
    small, largest = small[largest > 0], largest[largest > 0]
    relative = rows[small] / largest[:, np.newaxis]
    lengths[small] = largest * np.sqrt(np.einsum("rf,rf->r", relative, relative))
    return lengths


def unit_rows(rows: NDArray) -> NDArray[np.float64]:
    """Rows of floating-point numbers divided by their Euclidean norm; rows of zeros stay so."""
    units = np.empty(rows.shape)
    for batch in row_batches(*rows.shape):
        _divide_by_norms(rows[batch], units[batch])
    return units


def _divide_by_norms(rows: NDArray, units: NDArray[np.float64]) -> None:
    # First by the largest value, as squares of very large or small ones leave the range of floats.
    largest = np.maximum(rows.max(axis=1, initial=0), -rows.min(axis=1, initial=0))
    largest = largest[:, np.newaxis].astype(np.float64)
    # Long doubles are not for linear algebra.
    np.divide(rows, np.where(largest > 0, largest, 1), out=units, casting="same_kind")
    units /= np.where(largest > 0, row_norms(units)[:, np.newaxis], 1)
