"""What is wrong with a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class FileFormatError(ValueError):
    """What was to be loaded is no whole file of :func:`skood.save`, or of a newer version.

    The message says which part is wrong, and how. See :func:`skood.load`.

    Examples
    --------
    >>> import tempfile
    >>> import skood
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         skood.load(folder)
    ...     except skood.FileFormatError as error:
    ...         print(str(error).replace(folder, "folder"))
    folder was not written by skood.save, or not to its end: it has no manifest.json.
    """

    __module__ = "skood"  # where it is public, as tracebacks show it


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Block that reads a part of a file, in which any failure is one of the file."""
    try:
        yield
    except (FileFormatError, ImportError):
        raise
    except Exception as error:  # whatever is in a file, and whatever it makes fail
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise FileFormatError(f"{what} cannot be read: {said}") from error
