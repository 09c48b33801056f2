"""Euclidean norms, and rows of norm 1, that neither overflow nor vanish."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import row_norms

LEAST_PRECISE = 1e-140
"""Below this, the squares that a norm is made of begin to lose digits."""


def row_lengths(rows: NDArray) -> NDArray[np.float64]:
    """Euclidean norm of each row of floating-point numbers or bits, of shape (n_rows,)."""
    lengths = np.sqrt(np.einsum("rf,rf->r", rows, rows, dtype=np.float64))
    if (lengths >= LEAST_PRECISE).all():
        return np.asarray(lengths)
    small = np.flatnonzero(lengths < LEAST_PRECISE)
    largest = np.abs(rows[small]).max(axis=1, initial=0).astype(np.float64)
    # Rows of zeros stay out.
    small, largest = small[largest > 0], largest[largest > 0]
    relative = rows[small] / largest[:, np.newaxis]
    lengths[small] = largest * np.sqrt(np.einsum("rf,rf->r", relative, relative))
    return lengths


def squared_lengths(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared Euclidean norm of each row, as scikit-learn's ``row_norms`` computes it."""
    # Of one row, what that function looks at before takes ten times as long.
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def unit_rows(rows: NDArray) -> NDArray[np.float64]:
    """Rows of floating-point numbers divided by their Euclidean norm; rows of zeros stay so."""
    # Long doubles are not for linear algebra.
    units = rows.astype(np.float64)
    lengths = np.sqrt(squared_lengths(units))
    is_precise = (lengths > LEAST_PRECISE) & (lengths < np.inf)
    units /= np.where(is_precise, lengths, 1)[:, np.newaxis]
    if not is_precise.all():
        units[~is_precise] = _unit_rows_of_any_size(units[~is_precise])
    return units


def _unit_rows_of_any_size(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    # First by the largest value, as squares of very large or small ones leave the range of floats.
    largest = np.abs(rows).max(axis=1, initial=0, keepdims=True)
    relative = rows / np.where(largest > 0, largest, 1)
    return relative / np.where(largest > 0, row_norms(relative)[:, np.newaxis], 1)
