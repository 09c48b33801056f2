"""Blocks of rows in files, of which columns read the rows that they are asked for."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._rows import LazyArray, Rows, contiguous, gather, take

_ALIGNMENT = 64
"""Of the places of arrays in a file, in bytes."""

Arrays = Mapping[str, NDArray]
"""Some rows of columns, by name."""


@dataclass(frozen=True)
class Piece:
    """Where some rows of a column are in a file.

    Attributes
    ----------
    offset : int
        Of the values, in bytes. Text is stored as UTF-8, one after the other.
    shape : tuple of int
        Shape of the values.
    dtype : str
        Their type, as NumPy writes it.
    checksum : int or None
        CRC-32 of their bytes; None where nobody else could have changed them.
    ends : int or None
        Of text, the offset of 32-bit integers that say where each begins, and where the last ends.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: str
    checksum: int | None = None
    ends: int | None = None

    def map(self, file: Path) -> NDArray:
        """All of the values, mapped; text in an array of its own.

        Raises
        ------
        OSError, ValueError
            If the file is missing or too short.
        """
        if self.ends is None:
            return _map(file, self.dtype, self.offset, self.shape)
        ends = self._ends(file)
        octets = self._octets(file).tobytes()
        texts = [octets[i:j].decode() for i, j in pairwise(ends)]
        return np.array(texts, dtype=self.dtype)

    def is_intact(self, file: Path) -> bool:
        """Whether the bytes are those that were written, as far as a checksum tells."""
        if self.checksum is None:
            return True
        before = 0 if self.ends is None else checksum_of(self._ends(file))
        return checksum_of(self._octets(file), before) == self.checksum

    def _octets(self, file: Path) -> NDArray[np.uint8]:
        if self.ends is None:
            size = prod(self.shape) * np.dtype(self.dtype).itemsize
        else:
            size = int(self._ends(file)[-1])
        return _map(file, "u1", self.offset, (size,))

    def _ends(self, file: Path) -> NDArray[np.int32]:
        assert self.ends is not None
        return _map(file, "<i4", self.ends, (self.shape[0] + 1,))


def _map(file: Path, dtype: str, offset: int, shape: tuple[int, ...]) -> NDArray:
    if not prod(shape):
        return np.empty(shape, dtype)  # nothing can be mapped
    # One column of one block at a time: all of it would count against a limit of address space.
    # Blocks are read often, and np.memmap takes three times as long, to find the file's real name.
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    kind, n_values = np.dtype(dtype), prod(shape)
    length = offset - start + n_values * kind.itemsize
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        mapped = mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=start)
    finally:
        os.close(descriptor)
    return np.frombuffer(mapped, kind, n_values, offset - start).reshape(shape)


@dataclass(frozen=True)
class Block:
    """A file that holds some rows of several columns."""

    file: str
    n_samples: int
    pieces: Mapping[str, Piece]
    """By name of the column."""


@dataclass(eq=False)
class Blocks:
    """Files of one folder, whose rows follow each other.

    Attributes
    ----------
    folder : Path
        Where the files are.
    blocks : list of Block
        The files, in order.
    is_kept : bool
        Whether the folder outlives the process.
    owner : object
        What deletes the folder when nobody holds it any more; None where nobody does.
    """

    folder: Path
    blocks: list[Block]
    is_kept: bool = True
    owner: Any = None
    _intact: set[tuple[int, str]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        sizes = [block.n_samples for block in self.blocks]
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.intp)])

    def column(self, name: str) -> BlockColumn:
        """A column that every block has."""
        return BlockColumn(self, name)

    @property
    def names(self) -> list[str]:
        """The columns that every block has, in order."""
        return [
            name for name in self.blocks[0].pieces if all(name in b.pieces for b in self.blocks)
        ]

    def read(self, name: str, number: int, rows: Rows) -> NDArray:
        """Rows of a block, counted from its first one.

        Raises
        ------
        ValueError
            If the file is not what was written.
        FileNotFoundError
            If it is missing.
        """
        block = self.blocks[number]
        file, piece = self.folder / block.file, block.pieces[name]
        try:
            if (number, name) not in self._intact and not piece.is_intact(file):
                raise ValueError("its checksum is another one")
            values = take(piece.map(file), rows)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{file} is missing.{self._advice()}") from error
        except (ValueError, OSError, IndexError) as error:
            raise ValueError(
                f"{file} is damaged: {name!r} of the samples {self.starts[number]} to "
                f"{self.starts[number + 1] - 1} cannot be read, since {error}.{self._advice()}"
            ) from error
        self._intact.add((number, name))
        return values

    def _advice(self) -> str:
        if self.is_kept:
            return " Delete the folder and extract anew, or copy it anew."
        return (
            " It was a temporary file of the process that extracted these activations: pass a "
            "folder, as in extractor.transform(X, out=folder), to keep them."
        )

    def __getstate__(self) -> dict[str, Any]:
        # A copy deletes nothing, and looks at the files itself.
        return {**vars(self), "owner": None, "_intact": set()}


def _is_alike(name: str, pieces: Mapping[str, Piece], other: Mapping[str, Piece]) -> bool:
    """Whether both have a column, and numbers there or text."""
    return name in other and (pieces[name].dtype[1] == "U") == (other[name].dtype[1] == "U")


class BlockColumn(LazyArray):
    """A column whose rows are in files, and are read when they are asked for."""

    def __init__(self, blocks: Blocks, name: str) -> None:
        self.blocks, self.name = blocks, name
        pieces = [block.pieces[name] for block in blocks.blocks]
        inner = [max(sizes) for sizes in zip(*(p.shape[1:] for p in pieces), strict=True)]
        self.shape = (int(blocks.starts[-1]), *inner)
        self.dtype = np.result_type(*{np.dtype(piece.dtype) for piece in pieces})

    @property
    def is_kept(self) -> bool:  # type: ignore[override]
        return self.blocks.is_kept

    def read(self, rows: Rows) -> NDArray:
        def of_block(number: int, rows: Rows) -> NDArray:
            return self.blocks.read(self.name, number, rows)

        return gather(rows, self.blocks.starts, self.shape[1:], self.dtype, of_block)


class BlockWriter(Protocol):
    """Writes blocks of rows, one file each, perhaps after those of another process."""

    blocks: list[Block]
    """What is written, in order."""

    def write(self, arrays: Arrays, about: Mapping[str, Sequence[Any]]) -> None:
        """Write the next block, and perhaps what there is to say of each of its batches."""

    def total(self, what: str) -> int:
        """Sum of numbers that were said of all batches that others have written."""

    def close(self) -> Blocks:
        """All that was written, to read from; nothing follows."""


def write_raw(file: Path, arrays: Arrays) -> dict[str, Piece]:
    """Write arrays one after the other; returns where they are."""
    pieces = {}
    with open(file, "xb") as stream:
        for name, array in arrays.items():
            stream.seek(-(-stream.tell() // _ALIGNMENT) * _ALIGNMENT)
            pieces[name] = Piece(stream.tell(), array.shape, array.dtype.str)
            np.ascontiguousarray(array).tofile(stream)
    return pieces


def n_bytes_of_row(arrays: Sequence[NDArray]) -> float:
    """How many bytes a row takes."""
    return sum(array.nbytes / max(1, len(array)) for array in arrays)


def checksum_of(array: NDArray, before: int = 0) -> int:
    """CRC-32 of the bytes of an array, which come after others."""
    if not array.size:
        return before
    return zlib.crc32(contiguous(array).view(np.uint8).reshape(-1).data, before)
