"""Files that have to be on the disk, and files that a process at work is told by."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, which does not delete a file that is open
    fcntl = None  # type: ignore[assignment]

__all__ = ["fcntl", "new_locked", "sync"]


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the system can tell.

    A power cut may otherwise undo a renaming. Some systems do not open or sync folders.
    """
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def new_locked(file: Path) -> IO[bytes]:
    """A new file that is open, and locked until it is closed or the process ends."""
    stream = open(file, "xb")  # noqa: SIM115
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_EX)
    return stream
