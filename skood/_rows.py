"""Selecting rows, for all that has a row for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

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
class LazyRows:
    """Some rows of an array, cut out when they are read and not before."""

    array: Any
    rows: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.array.shape[1:])

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled is these rows, not all of the array.
        rows = range(len(self))
        return {"array": take(self, rows), "rows": rows}

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        if copy is False:
            raise ValueError("Rows that are cut out when they are read need a copy.")
        return np.asarray(take(self, range(len(self))), dtype=dtype)


def resolve(array: Any, rows: Rows) -> tuple[Any, Rows]:
    """The array that holds the given rows of ``array``, and which of its rows they are."""
    if not isinstance(array, LazyRows):
        return array, rows
    if isinstance(rows, range):
        return array.array, array.rows[_as_slice(rows)]
    return array.array, np.asarray(array.rows, dtype=np.intp)[rows]


def take(array: Any, rows: Rows) -> Any:
    """The given rows; a view of the array where they are a range."""
    array, rows = resolve(array, rows)
    if is_everything(array, rows):
        return array
    return array[_as_slice(rows) if isinstance(rows, range) else rows]


def is_everything(array: Any, rows: Rows) -> bool:
    """Whether ``rows`` are those of the whole array, in order."""
    return isinstance(rows, range) and rows == range(len(array))


def read_only(array: Any) -> Any:
    """The same array, or rows of it, seen so that nothing can be written into it."""
    if isinstance(array, LazyRows):
        return LazyRows(read_only(array.array), array.rows)
    if not isinstance(array, np.ndarray):  # packed bits, whose words nobody writes into
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def n_bytes(array: Any, rows: Rows) -> int:
    """Size of the given rows of an array or of packed bits, which is not read."""
    array, rows = resolve(array, rows)
    array = getattr(array, "words", array)
    return len(rows) * prod(array.shape[1:]) * array.dtype.itemsize


def contiguous(array: NDArray) -> NDArray:
    """A plain array of the same values, whose strides are those of a new one."""
    # Unlike `ascontiguousarray`, this also gives an axis of length 1 the strides of a new array.
    return np.asarray(array).ravel().reshape(array.shape)


def _as_slice(rows: range) -> slice:
    if not rows:
        return slice(0)
    # The stop of a descending range may be negative, which a slice counts from the end.
    return slice(rows.start, rows.stop if rows.stop >= 0 else None, rows.step)
