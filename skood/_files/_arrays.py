"""Arrays in a zip archive of ``.npy`` files, which NumPy reads as an ``.npz``, without pickle."""

from __future__ import annotations

import zipfile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ._errors import FileFormatError

_CHUNK = 2**24
_READERS: dict[tuple[int, int], Any] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def is_writable(dtype: np.dtype) -> bool:
    """Whether arrays of a type can be written so that they have the same type when read."""
    if dtype.hasobject or not dtype.itemsize:
        return False
    try:
        return npy.descr_to_dtype(npy.dtype_to_descr(dtype)) == dtype
    except (TypeError, ValueError):
        return False


class ArrayWriter:
    """Writes arrays into an archive, one by one.

    Parameters
    ----------
    file : binary file
        Opened to be written.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)

    def write(self, key: str, array: NDArray) -> None:
        """Add an array under a name; its last axis varies fastest."""
        header = {
            "descr": npy.dtype_to_descr(array.dtype),
            "fortran_order": False,
            "shape": array.shape,
        }
        # A fixed date, so that equal arrays make equal files.
        member = zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0))
        with self._archive.open(member, "w", force_zip64=True) as stream:
            npy.write_array_header_1_0(stream, header)
            flat = np.ascontiguousarray(array).reshape(-1)
            if flat.size and flat.itemsize:
                octets = flat.view(np.uint8)
                for start in range(0, len(octets), _CHUNK):
                    stream.write(octets[start : start + _CHUNK].data)

    def close(self) -> None:
        """Write the list of all."""
        self._archive.close()


class ArrayReader:
    """Reads the arrays of an archive.

    Parameters
    ----------
    file : binary file
        Opened to be read.
    name : str
        What it is called in messages.

    Raises
    ------
    FileFormatError
        If an array is missing, is not of the size that it says, or needs pickle. Other errors of
        what is no archive come as they are.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._name, self._size = name, file.seek(0, 2)
        self._archive = zipfile.ZipFile(file)
        self.keys = [self._checked(member) for member in self._archive.infolist()]

    def _checked(self, member: zipfile.ZipInfo) -> str:
        is_plain = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
        if not is_plain or member.file_size != member.compress_size:
            raise FileFormatError(
                f"{self._name} holds {member.filename!r} compressed or encrypted, which skood does "
                "not write."
            )
        return member.filename.removesuffix(".npy")

    def read(self, key: str) -> NDArray:
        """The array of a name, in memory of its own."""
        try:
            member = self._archive.getinfo(f"{key}.npy")
        except KeyError:
            raise FileFormatError(f"{self._name} has no array {key!r}.") from None
        with self._archive.open(member) as stream:
            shape, dtype = self._header(stream, key)
            array: NDArray = np.empty(shape, dtype)
            n_left = member.file_size - stream.tell()
            if n_left != array.nbytes:
                raise self._wrong_size(key, shape, dtype, n_left)
            octets = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
            for start in range(0, len(octets), _CHUNK):
                part = octets[start : start + _CHUNK]
                part[:] = np.frombuffer(stream.read(len(part)), np.uint8)
            stream.read(1)  # the end, where the sum in the archive is compared
        return array

    def _header(self, stream: Any, key: str) -> tuple[tuple[int, ...], np.dtype]:
        version = npy.read_magic(stream)
        if version not in _READERS:
            raise FileFormatError(
                f"{key!r} in {self._name} is an array of version {version}, expected one of "
                f"{sorted(_READERS)}."
            )
        shape, is_fortran, dtype = _READERS[version](stream)
        if dtype.hasobject or is_fortran:
            raise FileFormatError(
                f"{key!r} in {self._name} has the type {dtype} in the order "
                f"{'F' if is_fortran else 'C'}, which skood does not write: objects would need "
                "pickle, which runs what it reads."
            )
        size = dtype.itemsize
        for length in shape:  # of Python's integers, which do not overflow
            size *= length
        # Before so much memory is asked for.
        if size > self._size:
            raise self._wrong_size(key, shape, dtype, 0)
        return shape, dtype

    def _wrong_size(
        self, key: str, shape: tuple[int, ...], dtype: np.dtype, n_bytes: int
    ) -> FileFormatError:
        return FileFormatError(
            f"{key!r} in {self._name} says that it has the shape {shape} and the type {dtype}, "
            f"but holds {n_bytes} bytes."
        )
