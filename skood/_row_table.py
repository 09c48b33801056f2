"""Columns that are filled batch by batch: in memory, or in blocks on disk where that is wanted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._batches import block_bytes
from ._blocks import BlockWriter, n_bytes_of_row
from ._spill import Spill

OF_LAYER = "layers/"
"""How the names of layers begin, so that none is that of another column."""

_BYTES_OF_BLOCK = 2**25
_SHARE_OF_BLOCK = 1 / 4
"""Of the memory that a block of rows may take, for those that wait to be written."""


class RowTable:
    """Columns to which batches of rows are added.

    They go to temporary files as soon as memory would not hold them, or from the start to where a
    writer puts them. At no time are more than one block and one batch of them in memory.

    Parameters
    ----------
    n_samples : int or None
        Number of samples to expect, where it is known.
    writer : BlockWriter, default=None
        Writes all rows, in blocks; those that it has written before come first.

    Attributes
    ----------
    n_rows : int
        Number of rows that came, with those written before.
    """

    def __init__(self, n_samples: int | None, writer: BlockWriter | None = None) -> None:
        self._n_expected = n_samples
        self._writer = writer
        self._buffers: dict[str, _RowBuffer] = {}
        self._n_written = sum(block.n_samples for block in writer.blocks) if writer else 0
        self._about: dict[str, list[Any]] = {}
        self._allowed: int | None = None
        self.n_rows = self._n_written

    def append(self, name: str, rows: NDArray, token_axis: int | None = None) -> None:
        """Add the rows of a column in the current batch; fewer tokens are padded by zeros.

        Raises
        ------
        ValueError
            If they have another shape than those before.
        """
        if name not in self._buffers:
            self._buffers[name] = _RowBuffer(name.removeprefix(OF_LAYER), rows)
        self._buffers[name].append(rows, token_axis)

    def n_rows_of(self, name: str) -> int:
        """Number of rows of a column that came."""
        buffer = self._buffers.get(name)
        return self._n_written + (0 if buffer is None else buffer.n_rows)

    def end_batch(self, n_rows: int, about: Mapping[str, Any] | None = None) -> None:
        """Close a batch of so many rows; what is said about it goes to the block that it is in.

        Raises
        ------
        MemoryError
            If neither memory nor the folder for temporary files can hold the rows to expect.
        """
        self.n_rows += n_rows
        for key, value in (about or {}).items():
            self._about.setdefault(key, []).append(value)
        if self._writer is None:
            self._stay_in_memory()
        elif self._n_held >= self._rows_of_block():
            self._write()

    @property
    def _n_held(self) -> int:
        return self.n_rows - self._n_written

    def _row_bytes(self) -> float:
        return n_bytes_of_row([buffer.held() for buffer in self._buffers.values()])

    def _rows_of_block(self) -> int:
        allowed = min(_BYTES_OF_BLOCK, _SHARE_OF_BLOCK * block_bytes())
        return max(1, int(allowed / max(1, self._row_bytes())))

    def _stay_in_memory(self) -> None:
        """Go on in memory where it holds what is to be expected, or else in temporary files."""
        is_first = self._allowed is None
        # Looked at once: what is allocated here is no longer left later.
        allowed = self._allowed = block_bytes() if self._allowed is None else self._allowed
        n_expected, row_bytes = self._n_expected or 0, self._row_bytes()
        # What grows is copied now and then.
        needed = row_bytes * (n_expected if n_expected >= self.n_rows else 2 * self.n_rows)
        if needed > allowed:
            self._writer = Spill()
            _check_disk(needed, self._writer)
            self._write()
        elif is_first:
            for buffer in self._buffers.values():
                buffer.reserve(n_expected)

    def _write(self) -> None:
        assert self._writer is not None
        n_held = self._n_held
        arrays = {
            name: buffer.held() for name, buffer in self._buffers.items() if buffer.n_rows == n_held
        }
        self._writer.write(arrays, self._about)
        self._n_written, self._about = self.n_rows, {}
        for buffer in self._buffers.values():
            buffer.clear()

    def finish(self) -> dict[str, Any]:
        """The columns that came with all rows, by name: arrays, or columns of blocks."""
        if self._writer is None:
            return {
                name: buffer.finish()
                for name, buffer in self._buffers.items()
                if buffer.n_rows == self.n_rows
            }
        if self._n_held:
            self._write()
        self._buffers.clear()
        blocks = self._writer.close()
        return {name: blocks.column(name) for name in blocks.names}


def _check_disk(n_bytes: float, spill: Spill) -> None:
    """Raise a MemoryError where temporary files cannot hold what memory cannot."""
    free = shutil.disk_usage(spill.folder).free
    if n_bytes > free:
        raise MemoryError(
            f"The layers take {n_bytes / 2**30:.1f} GiB or more, which memory does not hold, and "
            f"the folder for temporary files, {spill.folder.parent}, has room for "
            f"{free / 2**30:.1f} GiB: pass reducer=PoolingReducer(), or name fewer layers; or pass "
            "a folder on a larger disk, as in extractor.transform(X, out=folder)."
        )


class _RowBuffer:
    """An array that is filled row by row."""

    def __init__(self, name: str, first: NDArray) -> None:
        self._name = name
        self._array = np.empty(first.shape, first.dtype)
        self.n_rows = 0

    def append(self, rows: NDArray, token_axis: int | None = None) -> None:
        """Add rows; fewer tokens, or those that are there already, are padded by zeros."""
        if token_axis is not None and self._array.ndim == rows.ndim:
            length = max(rows.shape[token_axis], self._array.shape[token_axis])
            rows = _padded(rows, token_axis, length)
            self._array = _padded(self._array, token_axis, length)
        if rows.shape[1:] != self._array.shape[1:]:
            raise ValueError(
                f"Layer {self._name!r} has shape {self._array.shape[1:]} for some samples and "
                f"{rows.shape[1:]} for others: bring the inputs to the same size, or pass "
                "reducer=PoolingReducer(), which makes one size of sequences."
            )
        end = self.n_rows + len(rows)
        if end > len(self._array):
            self._resize(max(end, 2 * len(self._array)))
        if rows.dtype != self._array.dtype:  # of text, the longest
            self._array = self._array.astype(np.result_type(self._array, rows), copy=False)
        self._array[self.n_rows : end] = rows
        self.n_rows = end

    def reserve(self, n_rows: int) -> None:
        """Allocate at once what will be needed."""
        if n_rows > len(self._array):
            self._resize(n_rows)

    def held(self) -> NDArray:
        """The rows that came; not a copy."""
        return self._array[: self.n_rows]

    def clear(self) -> None:
        """Begin anew, in the same memory."""
        self.n_rows = 0

    def finish(self) -> NDArray:
        """The rows that came; nothing follows."""
        self._resize(self.n_rows)
        return self._array

    def _resize(self, n_rows: int) -> None:
        if n_rows != len(self._array):
            # In place, so that no second copy is needed; nobody else refers to the array yet.
            self._array.resize((n_rows, *self._array.shape[1:]), refcheck=False)


def _padded(array: NDArray, axis: int, length: int) -> NDArray:
    if array.shape[axis] == length:
        return array
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, length - array.shape[axis])
    return np.pad(array, padding)
