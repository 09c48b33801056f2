"""Changing activations block by block, so that no more of them is in memory than a block."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._blocks import BlockWriter, checksum_of
from ._column import Column, Role
from ._row_table import OF_LAYER, RowTable
from ._rows import take
from .activations import Activations, PackedBits, copy_of

_N_COMPARED = 8
"""Samples by which activations are told from others: each may be in another file, read whole."""


def in_blocks_if_larger(X: Any, change: Callable[[Any], Any]) -> Any:
    """What a function that treats each sample on its own makes of any input.

    Activations that are on disk, and larger than memory, are changed block by block.
    """
    is_larger = isinstance(X, Activations) and X._is_larger_than_memory
    return in_blocks(X, change) if is_larger else change(X)


def in_blocks(
    X: Activations,
    change: Callable[[Activations], Activations],
    *,
    dtype: np.dtype | None = None,
    writer: BlockWriter | None = None,
) -> Activations:
    """What a function that treats each sample on its own makes of all of them.

    Parameters
    ----------
    X : Activations
        The samples.
    change : callable
        Makes ``Activations`` of some of them.
    dtype : dtype, default=None
        Type of floating-point layers of what comes out; by default their own.
    writer : BlockWriter, default=None
        Where it goes; by default it stays in memory as long as this holds it. The samples of blocks
        that are there are not changed again.
    """
    table = RowTable(len(X), writer)
    template = None
    for batch in X[table.n_rows :].batches():
        with _saying_where(table.n_rows, len(batch)):
            changed = change(batch)
        template = copy_of(changed[:0], get_args(Role)) if template is None else template
        for column in changed.columns:
            table.append(_key(column), _values(column, dtype, table.n_rows))
        table.end_batch(len(changed), {"n_samples": len(changed)})
    if template is None:
        template = change(X[:1])[:0]
    return _collect(table.finish(), template)


def checksum_of_some_rows(X: Activations) -> int:
    """CRC-32 of a few rows of each column, the first and last ones among them."""
    checksum = 0
    rows = np.unique(np.linspace(0, len(X) - 1, min(_N_COMPARED, len(X)), dtype=np.intp))
    for column in X[rows].columns:
        values = _values(column, None, 0)
        said = f"{_key(column)} {values.shape} {values.dtype}"
        checksum = checksum_of(values, zlib.crc32(said.encode(), checksum))
    return checksum


@contextmanager
def _saying_where(first: int, n_samples: int) -> Iterator[None]:
    """Context in which rows that an error speaks of are those of a block, which it says."""
    try:
        yield
    except ValueError as error:
        last = first + n_samples - 1
        raise type(error)(f"Of the samples {first} to {last}, counted from 0: {error}") from error


def as_float_type(dtype: DTypeLike | None) -> np.dtype | None:
    """The type of floating-point numbers that is wanted, or None.

    Raises
    ------
    ValueError
        If it is another type.
    """
    if dtype is None:
        return None
    wanted = np.dtype(dtype)
    if wanted.kind != "f" or wanted.itemsize > 8:
        raise ValueError(f"dtype must be float16, float32 or float64, got {dtype!r}.")
    return wanted


def cast(name: str, values: NDArray, dtype: np.dtype | None, first_row: int) -> NDArray:
    """Floating-point values of a layer in another type; others, and None for a type, as they are.

    Raises
    ------
    ValueError
        If one is beyond its largest number; rows count from ``first_row``.
    """
    if dtype is None or values.dtype.kind != "f" or values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        wanted = values.astype(dtype)
    if (beyond := np.isinf(wanted) & np.isfinite(values)).any():
        row = int(np.flatnonzero(beyond.reshape(len(values), -1).any(axis=1))[0])
        raise ValueError(
            f"Layer {name!r} holds {values[beyond].flat[0]:.4g} in sample {first_row + row}, "
            f"beyond the largest number of {dtype}, {np.finfo(dtype).max:.4g}: pass another "
            "dtype, or leave the layer out."
        )
    return wanted


def _key(column: Column) -> str:
    return f"{OF_LAYER}{column.name}" if column.role == "layer" else str(column.name)


def _values(column: Column, dtype: np.dtype | None, first_row: int) -> NDArray:
    values = take(column.array, range(len(column.array)))
    if isinstance(values, PackedBits):
        return values.words
    is_layer = column.role == "layer"
    return cast(str(column.name), values, dtype if is_layer else None, first_row)


def _collect(arrays: dict[str, Any], template: Activations) -> Activations:
    layers, parts = {}, {}
    for column in template.columns:
        array = arrays[_key(column)]
        if column.role != "layer":
            parts[str(column.name)] = array
            continue
        values = PackedBits._of(array, column.n_units) if column.is_packed else array
        layers[str(column.name)] = column.with_array(values)
    collected = Activations(
        layers,
        **parts,
        head=template.head,
        classes=template._classes,
        why_missing=template.why_missing,
    )
    collected._order = template._order
    return collected
