"""Selecting rows, for all that has a row for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._values import without_mask

Rows = range | NDArray[np.intp]


def row_index(item: Any, n_samples: int) -> slice | NDArray:
    """Check what was put in brackets to select rows, and bring it to one of two kinds.

    Raises
    ------
    IndexError
        If it does not select rows, or is a mask of another length.
    ValueError
        If it is a masked array.
    """
    if isinstance(item, tuple) and len(item) == 2 and item[1] is Ellipsis:
        item = item[0]  # scikit-learn indexes X[rows, ...]
    if isinstance(item, slice):
        return item
    rows = np.asarray(without_mask(item, "rows"))
    if isinstance(item, tuple) or rows.ndim != 1 or (rows.size and rows.dtype.kind not in "biu"):
        raise IndexError(
            "Rows are selected by a slice, a 1-D array of integers or a boolean mask (one row is "
            f"A[[i]]), layers by a name or a list of names; got {item!r}."
        )
    if rows.dtype.kind != "b":
        if rows.dtype == np.uint64:  # of which the largest would turn negative
            rows = np.minimum(rows, np.uint64(np.iinfo(np.intp).max))
        return rows.astype(np.intp)
    if len(rows) != n_samples:
        raise IndexError(f"The boolean mask has {len(rows)} entries for {n_samples} samples.")
    return rows


@dataclass(frozen=True)
class RowsOf:
    """Some rows of an array, cut out when they are read and not before."""

    array: Any
    rows: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.array.shape[1:])

    @property
    def ndim(self) -> int:
        return self.array.ndim

    def __len__(self) -> int:
        return len(self.rows)


def origin(array: Any, rows: Rows) -> tuple[Any, Rows]:
    """The array that holds the given rows of ``array``, and which of its rows they are."""
    if not isinstance(array, RowsOf):
        return array, rows
    if isinstance(rows, range):
        return array.array, array.rows[_as_slice(rows)]
    return array.array, np.asarray(array.rows, dtype=np.intp)[rows]


def take(array: Any, rows: Rows) -> Any:
    """The given rows; a view of the array where they are a range."""
    array, rows = origin(array, rows)
    if are_all(array, rows):
        return array
    return array[_as_slice(rows) if isinstance(rows, range) else rows]


def are_all(array: Any, rows: Rows) -> bool:
    """Whether ``rows`` are those of the whole array, in order."""
    return isinstance(rows, range) and rows == range(len(array))


def n_bytes(array: Any, rows: Rows) -> int:
    """Size of the given rows of an array, which is not read."""
    array, rows = origin(array, rows)
    return len(rows) * prod(array.shape[1:]) * array.dtype.itemsize


def _as_slice(rows: range) -> slice:
    if not rows:
        return slice(0)
    # The stop of a descending range may be negative, which a slice counts from the end.
    return slice(rows.start, rows.stop if rows.stop >= 0 else None, rows.step)
