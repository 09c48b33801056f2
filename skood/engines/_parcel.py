"""Estimators and networks as they travel to workers: apart, and opened where they are used."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Sequence
from copy import copy
from threading import RLock
from typing import Any, Self

import cloudpickle
from sklearn.base import BaseEstimator

from .._versions import __version__

_ROWS = ("_summary", "_sample", "_learnt", "_calibration_rows")
"""Attributes of estimators that only learning more needs, and that may hold many rows."""


class Parcel:
    """An object that is pickled when it travels, and unpickled where it is used, once.

    What only passes it on, such as a scheduler, needs none of the libraries that it is made of.

    Parameters
    ----------
    content : object
        What is sent. In this process it is used as it is.
    """

    def __init__(self, content: Any) -> None:
        self._content: Any = content
        self._apart: Sequence[Any] = ()
        self._packed: bytes | None = None
        self._version = __version__
        self._lock = RLock()

    @classmethod
    def of_now(cls, content: Any, apart: Sequence[Any]) -> Self:
        """An object as it is now, without others that it refers to and that are sent apart."""
        parcel = cls(None)
        parcel._packed = _pack(content, apart)
        return parcel

    def open(self, apart: Sequence[Any] = ()) -> Any:
        """The object, the same in all calls within a process; ``apart`` is what it refers to.

        Raises
        ------
        RuntimeError
            If another version of skood has packed it, whose estimators may hold something else.
        """
        with self._lock:
            if self._packed is not None:
                self._check_version()
                self._content = _unpack(self._packed, apart)
                self._apart, self._packed = apart, None
            return self._content

    def _check_version(self) -> None:
        if self._version != __version__:
            raise RuntimeError(
                f"skood {self._version} has sent an estimator or a network to a process in which "
                f"skood {__version__} is installed: install the same version on all workers."
            )

    def __getstate__(self) -> tuple[str, bytes]:
        with self._lock:
            packed = _pack(self._content, self._apart) if self._packed is None else self._packed
            return self._version, packed

    def __setstate__(self, state: tuple[str, bytes]) -> None:
        self._version, self._packed = state
        self._content, self._apart, self._lock = None, (), RLock()

    def __sizeof__(self) -> int:
        # What is opened is not packed again only to be weighed.
        return object.__sizeof__(self) + len(self._packed or b"")


class _Pickler(cloudpickle.Pickler):
    """Writes numbers in place of what is sent apart, and of estimators what they score by."""

    def __init__(self, file: io.BytesIO, apart: Sequence[Any]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._numbers = {id(part): number for number, part in enumerate(apart)}

    def persistent_id(self, obj: Any) -> int | None:
        return self._numbers.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        if _is_program(obj):  # whose own pickles cannot be read
            return _read_program, (_written_program(obj),)
        rows = [name for name in _ROWS if name in getattr(obj, "__dict__", ())]
        if not rows or not isinstance(obj, BaseEstimator):
            return super().reducer_override(obj)
        light = copy(obj)
        for name in rows:
            delattr(light, name)
        return light.__reduce_ex__(pickle.HIGHEST_PROTOCOL)


class _Unpickler(pickle.Unpickler):
    """Finds what was sent apart by its number."""

    def __init__(self, file: io.BytesIO, apart: Sequence[Any]) -> None:
        super().__init__(file)
        self._apart = apart

    def persistent_load(self, pid: int) -> Any:
        return self._apart[pid]


def _is_program(obj: Any) -> bool:
    """Whether an object is a program of ``torch.export``; imports nothing."""
    export = sys.modules.get("torch.export")
    return export is not None and isinstance(obj, export.ExportedProgram)


def _written_program(program: Any) -> bytes:
    from torch.export import save

    file = io.BytesIO()
    save(program, file)
    return file.getvalue()


def _read_program(written: bytes) -> Any:
    from torch.export import load

    return load(io.BytesIO(written))


def _pack(content: Any, apart: Sequence[Any]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, apart).dump(content)
    return file.getvalue()


def _unpack(packed: bytes, apart: Sequence[Any]) -> Any:
    return _Unpickler(io.BytesIO(packed), apart).load()
