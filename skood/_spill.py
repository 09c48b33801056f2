"""Rows that memory does not hold, in files that are deleted when nobody holds them any more."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import IO, Any

from joblib.externals.loky.backend import reduction as loky

from ._blocks import Arrays, Block, BlockColumn, Blocks, write_raw
from ._rows import LazyArray, LazyRows, Stacked, by_reference, held_in
from ._storage import hold_lock, sweep_beside

_NAME = "skood-rows"


class Spill:
    """Writes blocks to a folder for temporary files, that of :func:`tempfile.gettempdir`.

    What a killed process has left there is deleted by the next one.
    """

    def __init__(self) -> None:
        beside = Path(tempfile.gettempdir())
        sweep_beside(beside / _NAME)
        save_id, lock = hold_lock(beside, f".{_NAME}-")
        self._folder = beside / f".{_NAME}-{save_id}"
        self._folder.mkdir()
        self._owner = _Owner(self._folder, lock)
        self.blocks: list[Block] = []

    @property
    def folder(self) -> Path:
        """Where the blocks are."""
        return self._folder

    def total(self, what: str) -> int:
        """Nothing: there are no blocks of others."""
        return 0

    def write(self, arrays: Arrays, about: Mapping[str, Sequence[Any]]) -> None:
        """Write the next block."""
        file = f"block_{len(self.blocks):06d}"
        pieces = write_raw(self._folder / file, arrays)
        self.blocks.append(Block(file, len(next(iter(arrays.values()))), pieces))

    def close(self) -> Blocks:
        """All that was written; the files are deleted with it."""
        return Blocks(self._folder, self.blocks, is_kept=False, owner=self._owner)


class _Owner:
    """Deletes a folder when nobody holds this any more, and in the end of the process."""

    def __init__(self, folder: Path, lock: IO[bytes]) -> None:
        weakref.finalize(self, _delete, folder, lock, os.getpid())


def _delete(folder: Path, lock: IO[bytes], process: int) -> None:
    if os.getpid() != process:  # a fork, which has a copy of what holds the folder
        return
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()
    folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


def _reduce(array: LazyArray) -> Any:
    """How an array is sent to a process of this machine, which reads the same files."""
    is_lazy = isinstance(held_in(array), LazyArray)
    return by_reference(array) if is_lazy else array.__reduce__()


for _kind in (LazyRows, Stacked, BlockColumn):
    ForkingPickler.register(_kind, _reduce)
    loky.register(_kind, _reduce)
