"""Selecting rows, for all that has a row for each sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
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


class LazyArray(ABC):
    """An array whose rows are read when they are asked for, and not before.

    A subclass has a ``shape`` and a ``dtype``, and reads rows.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    is_kept = False
    """Whether what it reads outlives the process, so that a pickle need only say where it is."""

    @abstractmethod
    def read(self, rows: Rows) -> NDArray:
        """The given rows, from 0, in an array of their own."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, item: Any) -> NDArray:
        index = row_index(item, len(self))
        if isinstance(index, slice):
            return self.read(range(len(self))[index])
        return self.read(rows_at(range(len(self)), index))

    # Python would otherwise ask for row 0, 1, ... and take the refusal as the end.
    __iter__ = None

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        if copy is False:
            raise ValueError("Rows that are read when they are asked for need a copy.")
        return np.asarray(self.read(range(len(self))), dtype=dtype)

    def __reduce__(self) -> Any:
        return by_reference(self) if self.is_kept else self._by_content()

    def _by_content(self) -> Any:
        """How it is pickled where what it reads may be gone when it is unpickled."""
        return np.asarray, (contiguous(self.read(range(len(self)))),)


def by_reference(array: LazyArray) -> Any:
    """How it is pickled for whoever reads it while what it reads is there."""
    return _rebuild, (type(array), vars(array))


def _rebuild(kind: type[LazyArray], attributes: dict[str, Any]) -> LazyArray:
    array = object.__new__(kind)
    vars(array).update(attributes)
    return array


class LazyRows(LazyArray):
    """Some rows of an array, cut out when they are read and not before."""

    def __init__(self, array: Any, rows: Rows) -> None:
        self.array, self.rows = array, rows

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (len(self.rows), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:  # type: ignore[override]
        return self.array.dtype

    @property
    def is_kept(self) -> bool:  # type: ignore[override]
        return is_kept(self.array)

    def read(self, rows: Rows) -> Any:
        return take(*resolve(self, rows))

    def _by_content(self) -> Any:
        # What is pickled is these rows, not all of the array.
        rows = range(len(self))
        return LazyRows, (take(self, rows), rows)


class Unread(LazyArray):
    """In place of an array that nobody reads, and that was not made."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype

    def read(self, rows: Rows) -> NDArray:
        raise RuntimeError(
            f"Values of the shape {self.shape} were not extracted, as a detector did not say that "
            "it reads them: a fault of its _layers_to_read."
        )


class Stacked(LazyArray):
    """The rows of several arrays, one after the other, which stay where they are.

    Where one is shorter than another along another axis, zeros follow; text is as long as the
    longest.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = tuple(parts)
        lengths = [len(part) for part in parts]
        self.starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.intp)])
        inner = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
        self.shape = (sum(lengths), *inner)
        self.dtype = np.result_type(*(part.dtype for part in parts))

    @property
    def is_kept(self) -> bool:  # type: ignore[override]
        return any(map(is_kept, self.parts))

    def read(self, rows: Rows) -> NDArray:
        def of_part(number: int, rows: Rows) -> NDArray:
            return np.asarray(take(self.parts[number], rows))

        return gather(rows, self.starts, self.shape[1:], self.dtype, of_part)


def gather(
    rows: Rows,
    starts: NDArray[np.intp],
    shape: tuple[int, ...],
    dtype: np.dtype,
    read: Callable[[int, Rows], NDArray],
) -> NDArray:
    """Rows of parts that follow each other, in one array, with zeros where a part is smaller.

    Parameters
    ----------
    rows : range or ndarray of int
        The rows, from 0.
    starts : ndarray of shape (n_parts + 1,)
        The first row of each part, and the number of all rows.
    shape : tuple of int
        Shape of one row.
    dtype : dtype
        Type of the values.
    read : callable
        Given the number of a part, and rows counted from its first one, returns these.
    """
    gathered = np.zeros((len(rows), *shape), dtype)
    for part, places, its_rows in _by_part(rows, starts):
        values = read(part, its_rows)
        gathered[(places, *map(slice, values.shape[1:]))] = values
    return gathered


def _by_part(
    rows: Rows, starts: NDArray[np.intp]
) -> Iterator[tuple[int, slice | NDArray[np.intp], Rows]]:
    """The parts that hold some rows, where among the rows theirs are, and which of theirs."""
    if len(rows) == 0:
        return
    if isinstance(rows, range) and rows.step == 1:
        first, last = np.searchsorted(starts, [rows.start, rows.stop - 1], side="right") - 1
        for part in range(first, last + 1):
            begin, end = max(rows.start, starts[part]), min(rows.stop, starts[part + 1])
            if begin < end:
                among = slice(begin - rows.start, end - rows.start)
                yield part, among, range(begin - starts[part], end - starts[part])
        return
    wanted = np.asarray(rows, dtype=np.intp)
    of_part = np.searchsorted(starts, wanted, side="right") - 1
    order = np.argsort(of_part, kind="stable")
    parts, begins = np.unique(of_part[order], return_index=True)
    for part, places in zip(parts.tolist(), np.split(order, begins[1:]), strict=True):
        yield part, places, wanted[places] - starts[part]


def resolve(array: Any, rows: Rows) -> tuple[Any, Rows]:
    """The array that holds the given rows of ``array``, and which of its rows they are."""
    if not isinstance(array, LazyRows):
        return array, rows
    if isinstance(rows, range):
        return array.array, array.rows[_as_slice(rows)]
    return array.array, rows_at(array.rows, rows)


def rows_at(rows: Rows, index: NDArray) -> NDArray[np.intp]:
    """Some of the rows, by their places or a mask; those of a range without a list of all of them.

    Raises
    ------
    IndexError
        If there is no such place.
    """
    if not isinstance(rows, range):
        return np.asarray(rows, dtype=np.intp)[index]
    places = np.flatnonzero(index) if index.dtype.kind == "b" else index
    n_rows = len(rows)
    if (beyond := (places < -n_rows) | (places >= n_rows)).any():
        raise IndexError(
            f"Index {places[beyond][0]} is out of bounds for {n_rows} rows, counted from 0."
        )
    return np.asarray(rows.start + rows.step * np.where(places < 0, places + n_rows, places))


def take(array: Any, rows: Rows) -> Any:
    """The given rows; a view of the array where they are a range."""
    if type(array) is np.ndarray and is_everything(array, rows):
        return array
    array, rows = resolve(array, rows)
    if is_everything(array, rows) and not isinstance(held_in(array), LazyArray):
        return array
    return array[_as_slice(rows) if isinstance(rows, range) else rows]


def held_in(array: Any) -> Any:
    """What holds the values of an array: the words of packed bits, and the array of its rows."""
    array = array.array if isinstance(array, LazyRows) else array
    return getattr(array, "words", array)


def is_kept(array: Any) -> bool:
    """Whether the values of an array are kept elsewhere, so that a pickle says where they are."""
    held = held_in(array)
    return isinstance(held, LazyArray) and held.is_kept


def is_on_disk(array: Any) -> bool:
    """Whether the values of an array are not in memory until they are read."""
    return isinstance(held_in(array), LazyArray | np.memmap)


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
    array = held_in(array)
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


def partition_rows(array: NDArray, ranks: Sequence[int]) -> NDArray:
    """``np.partition(array, ranks, axis=1)``, for ascending ranks, of which the last may be -1.

    By one rank after the other: by several at once, it takes NumPy several times as long.
    """
    ordered, start = array.copy(), 0
    for rank in ranks:
        place = rank % array.shape[1]
        ordered[:, start:].partition(place - start, axis=1)
        start = place
    return ordered
