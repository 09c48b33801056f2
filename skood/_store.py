"""Folders of activations in Arrow files, which are written block by block and read row by row.

A block is a file of the Arrow IPC format with one record batch, uncompressed. It is written under
another name, and renamed when it is whole and on the disk; then a line of the journal says where
its columns are. A process that is killed so leaves whole blocks, which the journal names, and the
next one writes those that come after them. Reading needs no package: the journal says where in a
file the values of a column begin.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ._blocks import Arrays, Block, Blocks, Piece, checksum_of
from ._disk import fcntl, sync
from ._memory import has_limit
from ._optional import import_optional
from ._rows import contiguous
from ._storage import new_file

FORMAT = "skood.Activations.blocks"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
_LOCK = "extraction.lock"
_POOL = "ARROW_DEFAULT_MEMORY_POOL"
_ARRAYS = ("classes", "head_weight", "head_bias")

MadeFrom = Mapping[str, Any]
"""What decides the values of an extraction, as JSON holds it."""
Said = Callable[[str], list[Any]]
"""What was said of each batch in a folder, given what is asked for."""


class StoreWriter:
    """Writes blocks to a folder, after those that are there.

    Attributes
    ----------
    blocks : list of Block
        What is in the folder, in order.
    """

    def __init__(self, folder: Path, journal: IO[bytes], lines: list[dict[str, Any]]) -> None:
        self._folder = folder
        self._journal = journal
        self._about: list[Mapping[str, Sequence[Any]]] = [line["about"] for line in lines]
        self.blocks = [_block_of(line) for line in lines]
        self.n_samples = sum(block.n_samples for block in self.blocks)
        self.n_batches = len(self.said("n_samples"))

    def said(self, what: str) -> list[Any]:
        """What was said of each batch."""
        return _said(self._about, what)

    def total(self, what: str) -> int:
        """Sum of numbers that were said of all batches that others have written."""
        return sum(self.said(what))

    def write(self, arrays: Arrays, about: Mapping[str, Sequence[Any]]) -> None:
        """Write the next block, and what there is to say of each of its batches."""
        name = f"block_{len(self.blocks):06d}.arrow"
        file, n_samples = self._folder / name, len(next(iter(arrays.values())))
        new = _fresh(file)
        first = sum(block.n_samples for block in self.blocks)
        _write_arrow(new, arrays, {"format": FORMAT, "first_sample": first})
        block = Block(name, n_samples, _places(new, arrays))
        size = new.stat().st_size
        new.replace(file)
        sync(self._folder)
        line = {"file": name, "size": size, "n_samples": n_samples, "about": about}
        line["columns"] = {key: astuple(piece) for key, piece in block.pieces.items()}
        self._journal.write(json.dumps(line).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self.blocks.append(block)

    def close(self) -> Blocks:
        """All that is in the folder, to read from; nothing follows."""
        return Blocks(self._folder, self.blocks)

    def finish(self, contents: Mapping[str, Any], arrays: Arrays) -> None:
        """Say what the blocks are, which makes the folder one that can be loaded."""
        for name, array in arrays.items():
            new = _fresh(self._folder / f"{name}.npy")
            with new_file(new) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
            new.replace(self._folder / f"{name}.npy")
        manifest = _read_manifest(self._folder)
        contents = {**contents, "arrays": list(arrays), "n_blocks": len(self.blocks)}
        _write_manifest(self._folder, {**manifest, "contents": contents})


@dataclass(frozen=True)
class Stored:
    """What a folder holds."""

    contents: Mapping[str, Any]
    """What was given to :meth:`StoreWriter.finish`."""
    blocks: Blocks
    arrays: dict[str, NDArray]


def is_store(folder: Path) -> bool:
    """Whether a folder was written block by block, whole or not."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def said_in(folder: Path, what: str) -> list[Any]:
    """What was said of each batch that is in a folder."""
    return _said([line["about"] for line in _read_journal(folder)], what)


def _said(abouts: Sequence[Mapping[str, Sequence[Any]]], what: str) -> list[Any]:
    return [value for about in abouts for value in about.get(what, [])]


def read_store(folder: Path) -> Stored:
    """What a folder holds, of which no block is read.

    Raises
    ------
    ValueError
        If the folder was written by another version, or is not whole or damaged.
    FileNotFoundError
        If a file is missing.
    """
    contents = _read_manifest(folder)["contents"]
    lines = _read_journal(folder)
    if contents is None:
        n_done = sum(line["n_samples"] for line in lines)
        raise ValueError(
            f"{folder} is not complete, but holds the first {n_done} samples: the same call of the "
            "extractor that began it, with out= this folder, goes on."
        )
    try:
        n_blocks, n_samples = contents["n_blocks"], contents["n_samples"]
        arrays = {name: _read_array(folder, name) for name in contents["arrays"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / MANIFEST} is damaged: it lacks {error}.") from error
    if len(lines) != n_blocks or sum(line["n_samples"] for line in lines) != n_samples:
        raise ValueError(
            f"{folder / JOURNAL} is damaged: it should name {n_blocks} blocks of {n_samples} "
            f"samples, but names {len(lines)}. Delete the folder and extract anew."
        )
    for line in lines:
        _check_size(folder, line)
    return Stored(contents, Blocks(folder, list(map(_block_of, lines))), arrays)


@contextmanager
def begin_store(folder: Path, made_from: MadeFrom) -> Iterator[StoreWriter | None]:
    """Go on with a folder, or make it; None where it is complete.

    Raises
    ------
    FileExistsError
        If it holds something else.
    ValueError
        If it was made from something else, or a finished block is damaged.
    BlockingIOError
        If another process writes to it.
    ImportError
        If pyarrow is not installed.
    """
    if is_store(folder) and _read_manifest(folder)["contents"] is not None:
        _check_made_from(folder, made_from)
        yield None
        return
    _arrow()
    _check_may_be_filled(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if is_store(folder):
            _check_made_from(folder, made_from)
        else:
            content = {"format": FORMAT, "version": FORMAT_VERSION, "made_from": made_from}
            _write_manifest(folder, {**content, "contents": None})
        if _read_manifest(folder)["contents"] is not None:  # by another process, meanwhile
            yield None
            return
        lines = _read_journal(folder)
        for line in lines:
            _check_size(folder, line)
        with open(folder / JOURNAL, "ab") as journal:
            journal.truncate(_n_bytes_of_whole_lines(folder))
            yield StoreWriter(folder, journal, lines)


# Checks


def _check_may_be_filled(folder: Path) -> None:
    if not os.path.lexists(folder) or is_store(folder):
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is no folder.")
    ours = {_LOCK, f"{MANIFEST}.new"}  # of a process that was killed in the beginning
    if foreign := sorted(entry.name for entry in folder.iterdir() if entry.name not in ours):
        raise FileExistsError(
            f"{folder} holds something else than an extraction that could go on, such as "
            f"{foreign[0]!r}: choose a new folder."
        )


def _check_made_from(folder: Path, made_from: MadeFrom) -> None:
    """Raise a ValueError where a folder was made from something else, as far as is known."""
    before = _read_manifest(folder)["made_from"]
    now = json.loads(json.dumps(made_from))
    differing = [
        key
        for key in now
        if now[key] != before.get(key) and not _is_unknown(key, now[key], before.get(key))
    ]
    if not differing:
        return
    said = ", ".join(
        f"{key} ({_short(before.get(key))} there, {_short(now.get(key))} here)" for key in differing
    )
    raise ValueError(
        f"{folder} belongs to another extraction: these differ: {said}. Choose another folder, or "
        "delete this one."
    )


def _is_unknown(key: str, *values: Any) -> bool:
    return key in ("number of samples", "inputs") and None in values


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_size(folder: Path, line: Mapping[str, Any]) -> None:
    file = folder / line["file"]
    try:
        size = file.stat().st_size
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{file}, which {JOURNAL} names, is missing. Delete the folder and extract anew, or "
            "copy it anew."
        ) from error
    if size != line["size"]:
        raise ValueError(
            f"{file} is damaged: it has {size} bytes instead of {line['size']}. Delete the folder "
            "and extract anew, or copy it anew."
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Block in which no other process writes to a folder."""
    name = folder / _LOCK
    while True:
        with open(name, "ab") as lock:
            if fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BlockingIOError(
                        f"Another process writes to {folder}: wait for it, or choose another "
                        "folder."
                    ) from None
                except OSError:  # a file system without locks
                    pass
            if not name.exists() or not os.path.samestat(os.fstat(lock.fileno()), name.stat()):
                continue  # the one that held it has ended, and deleted it, in between
            try:
                yield
            finally:
                with suppress(OSError):  # of Windows, while it is open
                    name.unlink()
            return


# Files


def _fresh(file: Path) -> Path:
    """The name under which a file is written; what a killed process left there is deleted."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    return new


def _write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    new = _fresh(folder / MANIFEST)
    with new_file(new) as stream:
        stream.write(json.dumps(content, indent=1).encode())
    new.replace(folder / MANIFEST)
    sync(folder)


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{file} holds version {content.get('version')!r} of {FORMAT!r}; expected "
            f"{FORMAT_VERSION}."
        )
    if missing := [key for key in ("made_from", "contents") if key not in content]:
        raise ValueError(f"{file} is damaged: it lacks {missing}.")
    return dict(content)


def _read_journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of the journal; without one that a killed process has begun."""
    file = folder / JOURNAL
    if not file.exists():
        return []
    with open(file, "rb") as stream:
        octets = stream.read(_n_bytes_of_whole_lines(folder))
    try:
        lines = [json.loads(line) for line in octets.splitlines()]
        for line in lines:
            _block_of(line)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged: {error!r}. Delete the folder and extract anew, or copy it anew."
        ) from error
    return lines


def _n_bytes_of_whole_lines(folder: Path) -> int:
    file = folder / JOURNAL
    return file.read_bytes().rfind(b"\n") + 1 if file.exists() else 0


def _block_of(line: Mapping[str, Any]) -> Block:
    pieces = {
        key: Piece(offset, tuple(shape), dtype, checksum, ends)
        for key, (offset, shape, dtype, checksum, ends) in line["columns"].items()
    }
    return Block(line["file"], line["n_samples"], pieces)


def _read_array(folder: Path, name: str) -> NDArray:
    file = folder / f"{name}.npy"
    if name not in _ARRAYS:
        raise ValueError(f"{folder / MANIFEST} is damaged: it names {name!r}.")
    try:
        return np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file} holds no array that can be read: {error}") from error


# Arrow


def _arrow() -> Any:
    """The module pyarrow."""
    if "pyarrow" in sys.modules or not has_limit() or _POOL in os.environ:
        return import_optional("pyarrow", "store", "ActivationExtractor.transform(X, out=...)")
    # Its own pool of memory would take up to a gigabyte at once of what the process may take.
    os.environ[_POOL] = "system"
    try:
        arrow = import_optional("pyarrow", "store", "ActivationExtractor.transform(X, out=...)")
        arrow.default_memory_pool()
    finally:
        del os.environ[_POOL]
    return arrow


def _write_arrow(file: Path, arrays: Arrays, about: Mapping[str, Any]) -> None:
    pa = _arrow()
    columns = [_as_arrow(name, array) for name, array in arrays.items()]
    fields = [pa.field(name, column.type) for name, column in zip(arrays, columns, strict=True)]
    schema = pa.schema(fields, metadata={"skood": json.dumps(about)})
    batch = pa.record_batch(columns, schema=schema)
    options = pa.ipc.IpcWriteOptions(use_threads=False)
    with new_file(file) as stream, pa.ipc.new_file(stream, schema, options=options) as writer:
        writer.write_batch(batch)


def _as_arrow(name: str, array: NDArray) -> Any:
    """An array of Arrow that shares the values, except of text."""
    pa = _arrow()
    if array.dtype.kind == "U":
        return pa.array(array.tolist(), pa.string())
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} of dtype {array.dtype} cannot be stored: convert it to numbers.")
    values = contiguous(array)
    # Bits would have to be unpacked, so that a boolean is a byte.
    kind = np.dtype(np.uint8) if array.dtype == bool else values.dtype
    buffer = pa.py_buffer(values.view(np.uint8).reshape(-1))
    flat = pa.Array.from_buffers(pa.from_numpy_dtype(kind), values.size, [None, buffer])
    if array.ndim == 1:
        return flat
    rows = pa.FixedSizeListArray.from_arrays(flat, values.size // len(values))
    tensor = pa.fixed_shape_tensor(flat.type, values.shape[1:])
    return pa.ExtensionArray.from_storage(tensor, rows)


def _places(file: Path, arrays: Arrays) -> dict[str, Piece]:
    """Where the values of columns are in a file."""
    pa = _arrow()
    with pa.memory_map(str(file)) as mapped:
        whole = mapped.read_buffer()
        batch = pa.ipc.open_file(pa.BufferReader(whole)).get_batch(0)
        return {
            name: _place(batch.column(number), arrays[name], whole.address)
            for number, name in enumerate(arrays)
        }


def _place(column: Any, array: NDArray, start: int) -> Piece:
    buffers = column.buffers()
    values = buffers[-1]
    offset = 0 if values is None else values.address - start
    if array.dtype.kind != "U":
        return Piece(offset, array.shape, array.dtype.str, checksum_of(array))
    ends = buffers[1]
    limits = np.frombuffer(ends, "<i4", len(array) + 1)
    octets = np.frombuffer(values or b"", np.uint8, int(limits[-1]))
    checksum = checksum_of(octets, checksum_of(limits))
    return Piece(offset, array.shape, array.dtype.str, checksum, ends.address - start)
