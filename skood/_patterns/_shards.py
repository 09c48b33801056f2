"""Distinct patterns in shards on disk: how they are written, and how they are mapped.

A folder holds the files of one store: shards of patterns with their counts, the numbers of the
training rows, and a list of what there is, which is written last. Patterns are sorted by class and
then by their octets, and cut into shards; within a shard, those of each class are put in the order
of search, the most common first. It is filled under another name and then renamed, so that a
process that is killed leaves nothing that could be taken for a store.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._disk import sync
from ._files import OwnedFolder, mapped, sweep_of_killed
from ._lists import Words
from ._runs import Distinct

MANIFEST = "patterns.json"
FORMAT = "skood patterns"
VERSION = 1
_UNDER_WORK = ".work"
_ROWS = "rows.npy"
_AGAIN = " Copy the folder anew from where it is whole, or fit the detector again."


class Segment(NamedTuple):
    """Some patterns of one class that lie together in a shard."""

    shard: int
    start: int
    stop: int


class ClassTable(NamedTuple):
    """What a folder holds of one class."""

    label: Any
    n_rows: int
    n_patterns: int
    squared_share_error: float
    segments: list[Segment]


@contextmanager
def new_folder(root: Path, kind: str) -> Iterator[tuple[Path, OwnedFolder]]:
    """A folder to fill, and what it becomes in ``root`` when it is whole.

    What processes that were killed have left in ``root`` is deleted.
    """
    _make(root)
    sweep_of_killed(root)
    folder = OwnedFolder(root, f"{kind}-{secrets.token_hex(8)}")
    scratch = root / f"{folder.name}{_UNDER_WORK}"
    try:
        scratch.mkdir()
        folder.sign(scratch)
        yield scratch, folder
        sync(scratch)
        scratch.rename(folder.path)
        sync(root)
    except OSError as error:
        if error.errno is not None:
            raise
        # NumPy says how many values a file took, and no more.
        raise OSError(
            f"The patterns could not be written into {root} ({error}): is there space left?"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise type(error)(
            f"store={str(root)!r} is no folder, and none can be made there: choose another place."
        ) from error


class ShardWriter:
    """Writes distinct patterns, class after class, a shard at a time.

    Parameters
    ----------
    folder : Path
        An empty folder.
    n_words : int
        Number of words of a pattern.
    shard_bytes : int
        Size of the patterns of a shard; one has at least one pattern.
    """

    def __init__(self, folder: Path, n_words: int, shard_bytes: int) -> None:
        self._folder = folder
        self._n_words = n_words
        self._n_per_shard = max(1, shard_bytes // (8 * max(1, n_words)))
        self._pending: list[tuple[Words, NDArray, NDArray]] = []
        self._n_pending = 0
        self._in_shard: list[tuple[int, int, int]] = []
        self._n_shards = 0
        self._n_rows = 0
        self.classes: list[ClassTable] = []
        self._row_file = open(folder / _ROWS, "xb")  # noqa: SIM115 - closed by `close`
        _write_header(self._row_file, 0)

    def add_class(self, label: Any, merged: Iterable[Distinct]) -> None:
        """Write the patterns of a class, ascending by their octets."""
        number = len(self.classes)
        n_rows = n_patterns = squares = 0
        cubes = 0.0
        self.classes.append(ClassTable(label, 0, 0, 0.0, []))
        for part in merged:
            n_rows += int(part.counts.sum())
            n_patterns += len(part.counts)
            squares += int((part.counts**2).sum())
            cubes += float((part.counts.astype(np.float64) ** 3).sum())
            firsts = self._n_rows + np.cumsum(part.counts) - part.counts
            self._add(number, part.words, part.counts, firsts)
            for rows in part.rows:
                np.ascontiguousarray(rows, dtype="<i8").tofile(self._row_file)
            self._n_rows += int(part.counts.sum())
        error = float(squares / n_rows**2 - cubes / n_rows**3) / n_rows
        segments = self.classes[number].segments
        self.classes[number] = ClassTable(label, n_rows, n_patterns, error, segments)

    def _add(self, number: int, words: Words, counts: NDArray, firsts: NDArray) -> None:
        start = 0
        while start < len(words):
            stop = min(len(words), start + self._n_per_shard - self._n_pending)
            self._pending.append((words[start:stop], counts[start:stop], firsts[start:stop]))
            begin = self._n_pending
            self._n_pending += stop - start
            if self._in_shard and self._in_shard[-1][0] == number:
                begin = self._in_shard.pop()[1]
            self._in_shard.append((number, begin, self._n_pending))
            if self._n_pending == self._n_per_shard:
                self._write_shard()
            start = stop

    def _write_shard(self) -> None:
        words, counts, firsts = (np.concatenate(p) for p in zip(*self._pending, strict=True))
        order = np.concatenate(
            [b + np.argsort(-counts[b:e], kind="stable") for _, b, e in self._in_shard]
        )
        for name, array in (("words", words), ("counts", counts), ("firsts", firsts)):
            file = self._folder / shard_file(self._n_shards, name)
            np.save(file, array[order].astype(array.dtype.newbyteorder("<"), copy=False))
            sync(file)
        for number, begin, end in self._in_shard:
            self.classes[number].segments.append(Segment(self._n_shards, begin, end))
        self._n_shards += 1
        self._pending, self._in_shard, self._n_pending = [], [], 0

    def finish(self, n_bits: int) -> None:
        """Write what is left, and the list of all."""
        if self._pending:
            self._write_shard()
        self._row_file.seek(0)
        _write_header(self._row_file, self._n_rows)
        self._row_file.close()
        sync(self._folder / _ROWS)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "n_bits": n_bits,
            "n_shards": self._n_shards,
            "classes": [table._asdict() for table in self.classes],
        }
        file = self._folder / MANIFEST
        file.write_text(json.dumps(manifest))
        sync(file)

    def close(self) -> None:
        self._row_file.close()


def _write_header(file: IO[bytes], n_rows: int) -> None:
    """The header of a ``.npy`` file, padded to the same size for any number of rows."""
    header = {"descr": "<i8", "fortran_order": False, "shape": (n_rows,)}
    np.lib.format.write_array_header_1_0(file, header)


def shard_file(shard: int, name: str) -> str:
    """Name of a file of a shard."""
    return f"shard-{shard:05d}.{name}.npy"


def read_manifest(path: Path) -> dict[str, Any]:
    """What a folder holds.

    Raises
    ------
    FileNotFoundError
        If it is no whole store.
    ValueError
        If it is one of another version.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is no whole store of patterns: it has no {MANIFEST}, which is written last."
        ) from error
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise ValueError(
            f"{path} holds {manifest.get('format')!r} of version {manifest.get('version')!r}, "
            f"expected {FORMAT!r} of version {VERSION}."
        )
    manifest["classes"] = [
        ClassTable(**{**table, "segments": [Segment(*part) for part in table["segments"]]})
        for table in manifest["classes"]
    ]
    return manifest


class ShardFolder:
    """A folder of shards, of which few are mapped at a time.

    Parameters
    ----------
    files : OwnedFolder
        Where it is.
    """

    def __init__(self, files: OwnedFolder) -> None:
        self.files = files

    def read(self, shard: int, name: str, shape: tuple[int, ...]) -> NDArray:
        """A file of a shard, mapped into memory, with the rows of ``shape`` and maybe more.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it holds something else.
        """
        file = shard_file(shard, name)
        array = self._map(file)
        if len(array) < shape[0] or array.shape[1:] != shape[1:]:
            raise ValueError(
                f"{self.files.path / file} is damaged, or of another store: expected {shape[0]} "
                f"rows or more of shape {shape[1:]}, got {len(array)} of {array.shape[1:]}."
                f"{_AGAIN}"
            )
        return array

    def rows(self) -> NDArray[np.int64]:
        """The numbers of the training rows, pattern after pattern."""
        return self._map(_ROWS)

    def _map(self, name: str) -> NDArray:
        try:
            return mapped(os.fspath(self.files.path / name))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"The stored patterns were in {self.files.path}, of which {name} is missing. Where "
                "the folder has been moved, set the parameter 'store' to where it is now."
            ) from error
        except ValueError as error:
            raise ValueError(
                f"{self.files.path / name} is damaged: it cannot be read ({error}).{_AGAIN}"
            ) from error
