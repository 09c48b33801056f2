"""Folders of ``.npy`` files and a manifest, written whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import gen_batches

from ._rows import Rows, take

FORMAT = "skood.Activations"
FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
_ROWS_PER_WRITE = 4096


def write_folder(path: Path, write: Callable[[Path], None], *, overwrite: bool) -> None:
    """Let ``write`` fill a new folder, and put it in place when it is complete.

    Raises
    ------
    FileExistsError
        If ``path`` exists and ``overwrite`` is False, or holds anything else than what was
        saved here before.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; pass overwrite=True to replace it.")
    if path.exists() and not _holds_nothing_else(path):
        raise FileExistsError(f"{path} holds something else than saved activations.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f".{path.name}-", ignore_cleanup_errors=True
    ) as scratch:
        # The old folder goes only when the new one is complete: it may back what is written.
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        write(new)
        if not path.exists():
            new.replace(path)
            return
        path.replace(old)
        try:
            new.replace(path)
        except BaseException:
            old.replace(path)
            raise


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest, which says what the files of the folder are."""
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, **content}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest.

    Raises
    ------
    ValueError
        If it is not ours, or of a later version.
    """
    manifest = json.loads((folder / _MANIFEST).read_text())
    if manifest.get("format") != FORMAT or manifest.get("version", 0) > FORMAT_VERSION:
        raise ValueError(
            f"{folder} holds format {manifest.get('format')!r} version "
            f"{manifest.get('version')}; expected {FORMAT!r} up to version {FORMAT_VERSION}."
        )
    return manifest


def save_rows(file: Path, array: Any, rows: Rows | None) -> None:
    """Write the given rows of an array, by default all, a few thousand at a time.

    Raises
    ------
    TypeError
        If the array holds Python objects.
    """
    rows = range(len(array)) if rows is None else rows
    if array.dtype.hasobject:
        raise TypeError(f"Cannot save {file.stem} of dtype {array.dtype}: it would need pickle.")
    shape = (len(rows), *array.shape[1:])
    if 0 in shape:
        np.save(file, np.empty(shape, array.dtype))
        return
    target = np.lib.format.open_memmap(file, mode="w+", dtype=array.dtype, shape=shape)
    for batch in gen_batches(len(rows), _ROWS_PER_WRITE):
        target[batch] = take(array, rows[batch])
    target.flush()


def _holds_nothing_else(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        saved = {layer["file"] for layer in manifest["layers"]}
        saved.update(f"{part}.npy" for part in manifest["parts"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    found = {file.name for file in folder.iterdir()}
    return manifest.get("format") == FORMAT and found <= {_MANIFEST, *saved}
