"""A folder with a manifest that names its files, and how it is replaced as a whole.

All but the manifest lies in one folder inside, whose name belongs to one save alone. A save fills
such a folder under another name beside, moves it in, and then exchanges the manifest, by which the
whole is another one. At any time there is one whole save, whenever a process is killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from .._disk import fcntl, sync
from .._storage import hold_lock, new_file, sweep_beside
from ._errors import FileFormatError, reading
from ._tree import Fields

FORMAT = "skood"
VERSION = 1
MANIFEST = "manifest.json"
_DATA = re.compile(r"data-[0-9a-f]{16}")
_FILE = re.compile(r"(?:[a-z][a-z0-9-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Names of files in it, at most one folder deep, none of which leads out of it."""
_INSIDE = "save"
_UNFINISHED = re.compile(r"\.save-[0-9a-f]{16}(?:\.lock)?|data-[0-9a-f]{16}|lost\+found")
"""What lies in a folder that a save has not filled; the last, in an empty file system."""
_CHUNK = 2**22
_LARGEST_MANIFEST = 2**28


def write_json(file: Path, value: Any, indent: int | None = None) -> None:
    """Write a file of JSON, which is on the disk when this returns."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, allow_nan=False, indent=indent, separators=separators)
    with new_file(file) as stream:
        stream.write(text.encode("ascii"))


def read_json(octets: bytes, what: str) -> Any:
    """What a text of JSON says; no object has two entries of one name."""
    with reading(what):
        return json.loads(
            octets.decode("ascii"), object_pairs_hook=_entries, parse_constant=_refuse_constant
        )


def _entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise FileFormatError("An object has several entries of one name.")
    return entries


def _refuse_constant(text: str) -> Any:
    raise FileFormatError(f"{text} is no number of JSON.")


def _checksum(manifest: Fields) -> str:
    said = {name: value for name, value in manifest.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _digest(stream: IO[bytes]) -> tuple[str, int]:
    content, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        content.update(chunk)
        size += len(chunk)
    return content.hexdigest(), size


# Writing


@contextmanager
def new_save(folder: Path, about: Fields) -> Iterator[Path]:
    """A folder to fill, which is that of the save when the block ends; ``about`` may be added to.

    Raises
    ------
    FileExistsError
        If the folder is there and holds something else than a save.
    """
    check_free(folder)
    # Inside a folder that is there, which may be a mounted volume: all is on one file system.
    place = folder / _INSIDE if folder.is_dir() else folder
    place.parent.mkdir(parents=True, exist_ok=True)
    sweep_beside(place)
    save_id, lock = hold_lock(place.parent, f".{place.name}-")
    scratch = place.with_name(f".{place.name}-{save_id}")
    try:
        data = scratch / f"data-{save_id}"
        data.mkdir(parents=True)
        yield data
        _write_manifest(scratch, data, about)
        _put_in_place(scratch, data.name, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.close()
        scratch.with_name(f"{scratch.name}.lock").unlink(missing_ok=True)


def check_free(folder: Path) -> None:
    """Raise a FileExistsError where a folder holds something else than a save."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is there and no folder: choose another name.")
    with unchanged(folder):
        if all(map(_UNFINISHED.fullmatch, os.listdir(folder))):
            return
        try:
            manifest = read_manifest(folder)
            _refuse_foreign(folder, manifest["data"])
        except FileFormatError as error:
            raise FileExistsError(
                f"{folder} is not overwritten, since it holds something else than what skood.save "
                f"writes: {error}"
            ) from error


def _write_manifest(scratch: Path, data: Path, about: Fields) -> None:
    files = {}
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        with open(path, "rb") as stream:
            digest, size = _digest(stream)
        files[path.relative_to(data).as_posix()] = {"sha256": digest, "size": size}
    manifest = {"format": FORMAT, "version": VERSION, **about, "data": data.name, "files": files}
    write_json(scratch / MANIFEST, {**manifest, "checksum": _checksum(manifest)}, indent=1)
    for inner in (*(path for path in data.rglob("*") if path.is_dir()), data, scratch):
        sync(inner)


def _put_in_place(scratch: Path, name: str, folder: Path) -> None:
    with suppress(OSError):
        if scratch.parent == folder.parent:
            scratch.rename(folder)  # where there is none
            sync(folder.parent)
            return
    check_free(folder)
    with _alone(folder):
        (scratch / name).rename(folder / name)
        sync(folder)
        (scratch / MANIFEST).replace(folder / MANIFEST)
        sync(folder)
        for old in os.listdir(folder):
            if _DATA.fullmatch(old) and old != name:
                shutil.rmtree(folder / old, ignore_errors=True)


@contextmanager
def _locked(folder: Path, *, shared: bool) -> Iterator[None]:
    """Block that holds the lock of a folder, where the system has such."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Block in which no other process exchanges or reads what a folder holds."""
    return _locked(folder, shared=False)


def unchanged(folder: Path) -> AbstractContextManager[None]:
    """Block in which no process exchanges what a folder holds, if it is there."""
    return _locked(folder, shared=True) if folder.is_dir() else nullcontext()


# Reading


class SavedFolder:
    """A whole save, of which each file is compared with its checksum when it is opened.

    Parameters
    ----------
    folder : Path
        The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.data = folder / self.manifest["data"]
        self._files: dict[str, Fields] = self.manifest["files"]
        _refuse_foreign(folder, self.data.name)
        self._check_names()

    def _check_names(self) -> None:
        found = {path.relative_to(self.data).as_posix(): path for path in self.data.rglob("*")}
        for name, path in found.items():
            _refuse_links(path)
            if path.is_file() and name not in self._files:
                raise FileFormatError(
                    f"{path} is not named in the {MANIFEST}: delete it, if it was put there since."
                )
        for name in self._files:
            if name not in found or not found[name].is_file():
                raise FileFormatError(f"{self.data / name} is missing, which {MANIFEST} names.")

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file, once it was compared with its checksum."""
        if name not in self._files:
            raise FileFormatError(f"{self.folder} holds no {name!r}, to which it refers.")
        said = self._files[name]
        with open(self.data / name, "rb") as stream:
            digest, size = _digest(stream)
            if (digest, size) != (said.get("sha256"), said.get("size")):
                raise FileFormatError(
                    f"{self.data / name} is damaged: it has {size} bytes and other contents than "
                    f"the {said.get('size')} bytes that were saved."
                )
            stream.seek(0)
            yield stream

    def read(self, name: str) -> bytes:
        """What a file holds, compared with its checksum."""
        with self.open(name) as stream:
            return stream.read()

    def names_in(self, inner: str) -> list[str]:
        """Names of the files in an inner folder."""
        return [name for name in self._files if name.startswith(f"{inner}/")]


def read_manifest(folder: Path) -> Fields:
    """What the manifest of a folder says.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    FileFormatError
        If it has none, or one of another format or a newer version, or it is damaged.
    """
    if not os.path.lexists(folder):
        raise FileNotFoundError(f"There is no folder {folder}.")
    if not folder.is_dir():
        raise FileFormatError(f"{folder} is no folder, as skood.save makes them.")
    file = folder / MANIFEST
    if not os.path.lexists(file):
        raise FileFormatError(
            f"{folder} was not written by skood.save, or not to its end: it has no {MANIFEST}."
        )
    _refuse_links(file)
    if not file.is_file() or file.stat().st_size > _LARGEST_MANIFEST:
        raise FileFormatError(f"{file} is no manifest.")
    with reading(str(file)):
        octets = file.read_bytes()
    return _checked(read_json(octets, str(file)), file)


def _checked(manifest: Any, file: Path) -> Fields:
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise FileFormatError(
            f"{file} is the manifest of something else than an estimator that skood.save has "
            "written. Activations are loaded by Activations.load."
        )
    version = manifest.get("version")
    if type(version) is not int or version < 1:
        raise FileFormatError(f"{file} has no version that is known, but {version!r}.")
    if version > VERSION:
        raise FileFormatError(
            f"{file.parent} has the version {version} of the format, written by skood "
            f"{manifest.get('skood')!r}; this one reads versions up to {VERSION}. Install a newer "
            "version of skood."
        )
    if manifest.get("checksum") != _checksum(manifest):
        raise FileFormatError(f"{file} is damaged or was changed by hand: its checksum differs.")
    with reading(str(file)):
        names = [manifest["data"], *manifest["files"]]
        if not _DATA.fullmatch(names[0]) or not all(map(_FILE.fullmatch, names[1:])):
            raise FileFormatError(f"{file} names files that skood does not write: {names}.")
        networks = manifest["networks"]
        if not isinstance(networks, list) or not all(map(_is_network_entry, networks)):
            raise FileFormatError(f"{file} does not say what networks there are.")
    return manifest


def _is_network_entry(entry: Any) -> bool:
    names = ("called", "kind", "kept")
    return isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in names)


def _refuse_foreign(folder: Path, data: str) -> None:
    """Raise where something lies beside the manifest that no save has put there."""
    for name in os.listdir(folder):
        if name.startswith(".") or _UNFINISHED.fullmatch(name):
            continue
        if name != MANIFEST:
            raise FileFormatError(f"{folder} holds {name!r} beside what skood.save has written.")
    _refuse_links(folder / data)
    if not (folder / data).is_dir():
        raise FileFormatError(f"{folder / data}, which the {MANIFEST} names, is missing.")


def _refuse_links(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # which is missing, as the one who opens it says
    if stat.S_ISLNK(mode):
        raise FileFormatError(
            f"{path} is a symbolic link, which skood.save does not make: copy the folder with what "
            "its links point at."
        )
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FileFormatError(f"{path} is neither a file nor a folder.")


def new_name(stem: str) -> str:
    """A name that no other object has."""
    return f"{stem}-{secrets.token_hex(4)}"
