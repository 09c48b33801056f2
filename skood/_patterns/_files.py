"""Files that belong to an object, and go when it goes."""

from __future__ import annotations

import os
import shutil
import weakref
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_N_MAPPED = 8
"""How many files are mapped at a time; more would only take address space."""


class OwnedFolder:
    """A folder that is deleted when nobody holds this object any more.

    It stays where a copy of the object has been made, by pickling or otherwise: nobody can tell
    then when the last copy is gone.

    Parameters
    ----------
    root : Path
        Where the folder is.
    name : str
        Its name there.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        # A process that is forked must not delete what its parent holds.
        self._delete = weakref.finalize(self, _delete, root / name, os.getpid())

    @property
    def path(self) -> Path:
        """Where the folder is now."""
        return self.root / self.name

    def move_to(self, root: Path) -> None:
        """Look for the folder under its name in another place, if it is there."""
        if root != self.root and (root / self.name).is_dir():
            self.keep()
            self.root = root

    def keep(self) -> None:
        """Leave the folder where it is, whoever holds this object."""
        delete = self.__dict__.pop("_delete", None)
        if delete is not None:
            delete.detach()

    def __getstate__(self) -> dict[str, Any]:
        self.keep()
        return {"root": self.root, "name": self.name}


def _delete(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        mapped.cache_clear()  # Some systems delete no file that is mapped.
        shutil.rmtree(path, ignore_errors=True)


@lru_cache(maxsize=_N_MAPPED)
def mapped(path: str) -> NDArray:
    """The array of a file that is never changed, mapped into memory."""
    return np.load(path, mmap_mode="r")


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the system can tell."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
