"""Euclidean norms, and rows of norm 1, that neither overflow nor vanish."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import row_norms

LEAST_PRECISE = 1e-140
"""Below this, the squares that a norm is made of begin to lose digits."""


def row_lengths(rows: NDArray) -> NDArray[np.float64]:
    """Euclidean norm of each row of floating-point numbers or bits, of shape (n_rows,)."""
    lengths = np.sqrt(np.einsum("rf,rf->r", rows, rows, dtype=np.float64))
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


def lengths_side_by_side(arrays: Sequence[NDArray]) -> NDArray[np.float64]:
    """The same of several arrays of the same rows, of shape (n_rows, n_arrays); fast for few."""
    rows = np.concatenate(arrays, axis=1, dtype=np.float64)
    starts = list(accumulate((array.shape[1] for array in arrays[:-1]), initial=0))
    lengths = np.sqrt(np.add.reduceat(np.square(rows, out=rows), starts, axis=1))
    if (lengths < LEAST_PRECISE).any():
        return np.column_stack([row_lengths(array) for array in arrays])
    return lengths


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
