"""Files that belong to an object, and go when it goes, or at the latest with its process."""

from __future__ import annotations

import glob
import os
import platform
import secrets
import shutil
import weakref
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .._disk import fcntl, new_locked

_OWNER = "owner"
"""File in a folder that names the process that will delete it."""
_LOCK = ".owner.lock"
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
        self._owner = _Owner.of(root)
        # A process that is forked must not delete what its parent holds.
        self._delete = weakref.finalize(self, _delete, root / name, os.getpid(), self._owner)

    def sign(self, folder: Path) -> None:
        """Say in a folder, which will be this one, that it goes with this process."""
        (folder / _OWNER).write_text(self._owner.name)

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
            del self._owner
            with suppress(OSError):
                (self.path / _OWNER).unlink()

    def __getstate__(self) -> dict[str, Any]:
        self.keep()
        return {"root": self.root, "name": self.name}


class _Owner:
    """What says that this process lives, to others that find its folders in a place.

    It holds a lock, which the system lets go of with the process, however that ends, and goes with
    the last folder.
    """

    _known: weakref.WeakValueDictionary[tuple[Path, int], _Owner] = weakref.WeakValueDictionary()

    def __init__(self, root: Path) -> None:
        # Another machine may see the file, but not whether it is locked.
        self.name = f"{platform.node()}-{secrets.token_hex(8)}"
        lock = new_locked(root / f"{self.name}{_LOCK}")
        self._end = weakref.finalize(self, _unlock, root / f"{self.name}{_LOCK}", lock, os.getpid())

    @classmethod
    def of(cls, root: Path) -> _Owner:
        """That of this process in a place."""
        owner = cls._known.get((root, os.getpid()))
        if owner is None:
            owner = cls._known[root, os.getpid()] = cls(root)
        return owner


def _unlock(path: Path, lock: IO[bytes], owner: int) -> None:
    lock.close()
    if os.getpid() == owner:
        with suppress(OSError):
            path.unlink()


def sweep_of_killed(root: Path) -> None:
    """Delete the folders of processes of this machine that have ended before they could."""
    for lock in root.glob(f"{glob.escape(platform.node())}-*{_LOCK}"):
        with suppress(OSError):
            _refuse_living(lock)
            for signed in root.glob(f"*/{_OWNER}"):
                if signed.read_text() == lock.name.removesuffix(_LOCK):
                    shutil.rmtree(signed.parent, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _refuse_living(lock: Path) -> None:
    """Raise an OSError where the process that holds a lock has not ended."""
    if fcntl is None:
        lock.unlink()
        return
    with open(lock, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _delete(path: Path, owner: int, _: _Owner) -> None:
    if os.getpid() == owner:
        mapped.cache_clear()  # Some systems delete no file that is mapped.
        shutil.rmtree(path, ignore_errors=True)


@lru_cache(maxsize=_N_MAPPED)
def mapped(path: str) -> NDArray:
    """The array of a file that is never changed, mapped into memory."""
    return np.load(path, mmap_mode="r")
