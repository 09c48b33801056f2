"""Folders of ``.npy`` files and a manifest, which hold one whole save at any time.

A new folder is filled under another name and then renamed. In a folder that exists, a save writes
files under names that no other save uses, then replaces the manifest, and only then deletes what
the manifest no longer names. A process that is killed leaves files behind, which the next save
deletes; it knows them by their names, and by a lock that the system releases with the process.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ._batches import rows_of_block
from ._disk import fcntl, new_locked, sync
from ._manifest import LATER_FILE, MANIFEST, SAVE_ID, Manifest
from ._patterns import PackedBits
from ._rows import Rows, resolve, take

_ROWS_PER_WRITE = 4096

Stored = Mapping[str, Any]
"""Arrays, some rows of arrays, or packed bits, by the first part of their file's name."""


def write_folder(path: Path, manifest: Manifest, arrays: Stored, *, overwrite: bool) -> None:
    """Store arrays and what they are.

    Parameters
    ----------
    path : Path
        The folder to make, or to fill anew.
    manifest : Manifest
        What the arrays are.
    arrays : dict of str to array, LazyRows or PackedBits
        The layers ``layer_0``, ``layer_1``, ... and the other parts.
    overwrite : bool
        Whether ``path`` may be there.

    Raises
    ------
    FileExistsError
        If ``path`` exists and ``overwrite`` is False, or holds anything else than what was
        saved here before.
    TypeError
        If an array holds Python objects.
    """
    for stem, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"Cannot save {stem} of dtype {array.dtype}: it would need pickle.")
    if not os.path.lexists(path) and _make(path, manifest, arrays):
        return
    if not overwrite:
        raise FileExistsError(f"{path} exists already; pass overwrite=True to replace it.")
    _refill(path, manifest, arrays)


def _make(path: Path, manifest: Manifest, arrays: Stored) -> bool:
    """Make the folder; False where another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _at_work(path.parent, f".{path.name}-") as save_id:
            scratch = path.parent / f".{path.name}-{save_id}"
            scratch.mkdir()
            try:
                return _fill_and_rename(scratch, path, manifest, arrays)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    finally:
        sweep_beside(path)


def _fill_and_rename(scratch: Path, path: Path, manifest: Manifest, arrays: Stored) -> bool:
    _write_arrays(scratch, manifest, arrays)
    _write_manifest(scratch / MANIFEST, manifest)
    sync(scratch)
    try:
        scratch.rename(path)
    except OSError:
        if not os.path.lexists(path):
            raise
        return False
    sync(path.parent)
    return True


def _refill(path: Path, manifest: Manifest, arrays: Stored) -> None:
    """Exchange what the folder holds."""
    _check_holds_nothing_else(path)
    try:
        with _at_work(path, "save.") as save_id:
            manifest = replace(manifest, save_id=save_id)
            _write_arrays(path, manifest, arrays)
            manifest = replace(manifest, replaces=_first_files(path))
            new = path / f"manifest.{save_id}.json"
            _write_manifest(new, manifest)
            # Before the manifest names them, the files have to be there after a power cut too.
            sync(path)
            new.replace(path / MANIFEST)
            sync(path)
    finally:
        _sweep(path)
        sweep_beside(path)


def _check_holds_nothing_else(path: Path) -> None:
    try:
        manifest = read_manifest(path)
    except (OSError, ValueError) as error:
        raise FileExistsError(
            f"{path} is not overwritten, as it holds something else than activations that can be "
            f"loaded: {error}"
        ) from error
    known = {MANIFEST, *manifest.files.values(), *manifest.replaces}
    foreign = [
        entry.name
        for entry in os.scandir(path)
        if not entry.is_file(follow_symlinks=False)
        or (entry.name not in known and not LATER_FILE.fullmatch(entry.name))
    ]
    if foreign:
        raise FileExistsError(f"{path} holds something else than saved activations: {foreign}.")


def _first_files(path: Path) -> tuple[str, ...]:
    """Names of what the save that made the folder has left, to be deleted by a later one."""
    manifest = read_manifest(path)
    names = manifest.replaces if manifest.save_id else tuple(manifest.files.values())
    return tuple(name for name in names if (path / name).exists())


# Writing


def _write_arrays(folder: Path, manifest: Manifest, arrays: Stored) -> None:
    for stem, array in arrays.items():
        held, rows = resolve(array, range(len(array)))
        with new_file(folder / manifest.file_of(stem)) as file:
            _write_array(file, held.words if isinstance(held, PackedBits) else held, rows)


def _write_array(file: IO[bytes], array: Any, rows: Rows) -> None:
    """Write the given rows of an array, a few thousand at a time."""
    np.lib.format.write_array_header_1_0(
        file,
        {
            "descr": np.lib.format.dtype_to_descr(array.dtype),
            "fortran_order": False,
            "shape": (len(rows), *array.shape[1:]),
        },
    )
    n_at_once = min(_ROWS_PER_WRITE, rows_of_block(prod(array.shape[1:])))
    for start in range(0, len(rows), n_at_once):
        batch = take(array, rows[start : start + n_at_once])
        # Not through a memory map, for which a full disk is the end of the process.
        np.ascontiguousarray(batch).tofile(file)


def _write_manifest(file: Path, manifest: Manifest) -> None:
    with new_file(file) as stream:
        stream.write(manifest.to_json().encode())


@contextmanager
def new_file(file: Path) -> Iterator[IO[bytes]]:
    """A file to write, which is on the disk when it is closed."""
    with open(file, "xb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


# Cleaning up


@contextmanager
def _at_work(folder: Path, prefix: str) -> Iterator[str]:
    """An id for a new save, for which `_has_ended` is False until it ends, however it ends."""
    save_id, file = hold_lock(folder, prefix)
    try:
        yield save_id
    finally:
        file.close()
        (folder / f"{prefix}{save_id}.lock").unlink(missing_ok=True)


def hold_lock(folder: Path, prefix: str) -> tuple[str, IO[bytes]]:
    """A new id, and the open file whose lock others can tell a process at work by."""
    while True:
        save_id = secrets.token_hex(8)
        name = folder / f"{prefix}{save_id}.lock"
        # Without locks on this file system, `_has_ended` does not know either, and returns False.
        file = new_locked(name)
        if name.exists():
            return save_id, file
        file.close()  # another save came in between, and took it for that of a dead process


def _has_ended(lock: Path) -> bool:
    """Whether a save is over, well or not; its lock is deleted then."""
    try:
        if fcntl is None:
            lock.unlink()
            return True
        with open(lock, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def sweep_beside(path: Path) -> None:
    """Delete what killed processes have left of folders that were to get the name ``path``."""
    name = re.compile(rf"\.{re.escape(path.name)}-({SAVE_ID})(?:\.lock)?")
    found: list[str] = []
    with suppress(OSError):  # a folder that may be searched, but not listed
        found = os.listdir(path.parent)
    for save_id in {match[1] for match in map(name.fullmatch, found) if match}:
        scratch = path.parent / f".{path.name}-{save_id}"
        _sweep_scratch(scratch, scratch.with_name(f"{scratch.name}.lock"))


def _sweep_scratch(scratch: Path, lock: Path) -> None:
    """Delete a scratch folder whose lock nobody holds; one without a lock is not of our making."""
    try:
        with open(lock, "r+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The lock goes last, so that whoever is killed here leaves it to the next.
                shutil.rmtree(scratch, ignore_errors=True)
                lock.unlink()
    except OSError:
        return
    if fcntl is None and _has_ended(lock):
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Delete the files in a folder that belong to saves which are over and have been replaced."""
    files = {file: match[1] for file in os.listdir(path) if (match := LATER_FILE.fullmatch(file))}
    ended = {id_ for id_ in set(files.values()) if _has_ended(path / f"save.{id_}.lock")}
    # Read after that, for a save that ended well in the meantime.
    manifest = read_manifest(path)
    replaced = [file for file, id_ in files.items() if id_ in ended - {manifest.save_id}]
    for file in (*replaced, *manifest.replaces):
        # Windows keeps a file that is memory-mapped; a later save deletes it.
        with suppress(OSError):
            (path / file).unlink()


# Reading


def read_folder(path: Path, mmap_mode: str | None) -> tuple[Manifest, dict[str, NDArray]]:
    """Manifest and arrays of a folder, by the first part of their file's name.

    The layers may stay on disk.

    Raises
    ------
    ValueError
        If the folder was not written by `write_folder`, or by another version of it, or the files
        are not what the manifest says.
    FileNotFoundError
        If the folder or one of its files is missing.
    """
    manifest = read_manifest(path)
    while True:
        try:
            return manifest, _read_arrays(path, manifest, mmap_mode)
        except FileNotFoundError as error:
            newer = read_manifest(path)
            if newer == manifest:
                name = Path(error.filename).name
                raise FileNotFoundError(
                    f"{path} is not complete: {name}, which its manifest names, is missing."
                ) from error
            manifest = newer  # a save has replaced the files while they were read


def _read_arrays(path: Path, manifest: Manifest, mmap_mode: str | None) -> dict[str, NDArray]:
    arrays = {}
    for stem, file in manifest.files.items():
        mode = mmap_mode if stem in manifest.layer_stems else None
        n_rows = manifest.n_samples if stem in manifest.column_stems else None
        arrays[stem] = _read_array(path / file, mode, n_rows)
    return arrays


def _read_array(file: Path, mmap_mode: str | None, n_rows: int | None) -> NDArray:
    _check_is_ours(file)
    try:
        if mmap_mode is None:
            with open(file, "rb") as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
        else:
            array = np.lib.format.open_memmap(file, mode=mmap_mode)
    except (ValueError, EOFError, OverflowError, MemoryError) as error:
        raise ValueError(f"{file} holds no array that can be read: {error}") from error
    if n_rows is not None and array.shape[:1] != (n_rows,):
        raise ValueError(
            f"{file} holds an array of shape {array.shape}, but the manifest speaks of "
            f"{n_rows} samples."
        )
    return array


def _check_is_ours(file: Path) -> None:
    try:
        mode = file.lstat().st_mode
    except OSError:  # opening the file raises a clearer error
        return
    if stat.S_ISLNK(mode):
        raise ValueError(
            f"{file} is a symbolic link, which `save` does not make: copy the folder with what "
            "its links point at."
        )
    if not stat.S_ISREG(mode):
        raise ValueError(f"{file} is not a file.")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest.

    Raises
    ------
    ValueError
        If it is not ours, of a later version, or broken.
    FileNotFoundError
        If there is no such folder.
    """
    file = folder / MANIFEST
    _check_is_ours(file)
    if folder.exists() and not file.exists():
        raise ValueError(f"{folder} was not written by `save`: it holds no {MANIFEST}.")
    try:
        return Manifest.from_json(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    except ValueError as error:
        raise ValueError(f"{file} was not written by `save`: {error}") from error
