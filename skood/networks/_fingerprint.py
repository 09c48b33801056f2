"""Hashes of what determines the values that a network computes."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import importlib.metadata
import os
import platform
import site
import sys
import sysconfig
import types
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._notes import is_note

SCALARS = (bool, int, float, complex, str, bytes, type(None), type(...), range, slice)
_COMPILED_FUNCTIONS = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
# They change no value, or differ between processes.
_CLASS_ATTRIBUTES_LEFT_OUT = frozenset(
    {
        "__abstractmethods__",
        "__annotations__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__slotnames__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    }
)
_LIBRARY_FOLDERS = tuple(
    {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)
_N_SAMPLED = 1000
_DEEPEST = 30
"""How many objects may lie in each other before the inner ones are read later, one by one."""
_LOOK_UPS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_IMPORTS = frozenset({"IMPORT_NAME"})


@dataclass(frozen=True)
class Fingerprint:
    """Hash of what decides the values that a network computes.

    The digest is enough. By its parts, others can say what has changed.

    Parameters
    ----------
    digest : str
        The hash.
    unread : list of str, default=[]
        Places of objects that may influence the values and that could not be read.
    weights : dict of str to bytes, default={}
        Hash of each array of learnt or computed numbers.
    settings : dict of str to bytes, default={}
        Hash of each other part, such as attributes, hooks and code.
    versions : dict of str to str, default={}
        Those of the libraries whose code takes part, which is not read.
    left_out : frozenset of str, default=frozenset()
        Places of what has no part in it, since the network writes there as it runs.

    Examples
    --------
    >>> from skood.networks import ContentReader, Fingerprint
    >>> reader = ContentReader()
    >>> weights = [[1.0, 0.5], [0.0, 2.0]]
    >>> print(Fingerprint(reader.digest(weights).hex(), reader.unread).unread)
    []
    """

    digest: str
    unread: list[str] = field(default_factory=list)
    weights: dict[str, bytes] = field(default_factory=dict)
    settings: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()


def fingerprint_of_parts(
    reader: ContentReader,
    weights: Mapping[str, Any],
    settings: Iterable[tuple[str, Any]],
    left_out: Set[str] = frozenset(),
) -> Fingerprint:
    """Fingerprint of objects in places of a network.

    Parameters
    ----------
    reader : ContentReader
        Reads them.
    weights : dict of str to object
        Arrays of numbers, by place.
    settings : iterable of (str, object)
        All others.
    left_out : set of str, default=frozenset()
        Places to leave out.
    """
    hashed_weights: dict[str, bytes] = {}
    hashed_settings: dict[str, bytes] = {}
    content = hashlib.blake2b(digest_size=16)
    for hashes, values in ((hashed_weights, weights.items()), (hashed_settings, settings)):
        for place, value in values:
            if place not in left_out:
                reader.place = place
                digest = reader.digest(value)
                content.update(f"{place}\0{digest!r}\0".encode())
                hashes[place] = hashlib.blake2b(digest, digest_size=8).digest()
    content.update(repr(sorted(reader.versions.items())).encode())
    return Fingerprint(
        content.hexdigest(),
        reader.unread,
        hashed_weights,
        hashed_settings,
        reader.versions,
        frozenset(left_out),
    )


def with_settings(
    inner: Fingerprint, reader: ContentReader, settings: Iterable[tuple[str, Any]]
) -> Fingerprint:
    """Fingerprint of a network that has more settings around it."""
    around = fingerprint_of_parts(reader, {}, settings)
    has_parts = bool(inner.weights or inner.settings)
    return replace(
        inner,
        digest=reader.digest([inner.digest, around.digest]).hex(),
        unread=[*inner.unread, *around.unread],
        weights=inner.weights if has_parts else {"network": inner.digest.encode()},
        settings=inner.settings | around.settings,
        versions=inner.versions | around.versions,
    )


class Unreadable:
    """In place of what failed to say what it holds."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise self._error


class ContentReader:
    """Hashes objects by their content: attributes, and the code of functions and classes.

    Copies have the same hash, in every process. Of installed libraries only names are hashed;
    their versions are collected.

    Attributes
    ----------
    place : str
        Where in the network the object is that is being read, to be set for ``unread``.
    unread : list of str
        Places of objects that could not be read.
    versions : dict of str to str
        Of Python and the installed libraries whose code was met.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.networks import ContentReader
    >>> weights = np.ones((2, 3))
    >>> ContentReader().digest(weights) == ContentReader().digest(weights.copy())
    True
    >>> ContentReader().digest(weights) == ContentReader().digest(2 * weights)
    False
    """

    def __init__(self) -> None:
        self.place = ""
        self.unread: list[str] = []
        self.versions: dict[str, str] = {}
        # The objects are kept alive, since others could get their addresses.
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._depth = 0
        self._later: list[Any] = []
        """What lies too deep in the object that is being read, and is read after it."""
        self._failed: set[int] = set()

    def met(self) -> list[Any]:
        """All objects that were read, but for numbers, texts and their like.

        Returns
        -------
        objects : list of object
            Each once, without those that failed to say what they hold.
        """
        known = self._known.items()
        return [value for key, (value, _) in known if key not in self._failed]

    def know(self, value: Any, label: str) -> None:
        """Take a label for the content of an object.

        Parameters
        ----------
        value : object
            It is not read.
        label : str
            Counts in its place.
        """
        self._known[id(value)] = (value, label.encode())

    def digest(self, value: Any) -> bytes:
        """Hash of an object, or its text where this is short and complete.

        Parameters
        ----------
        value : object
            Arrays, containers, functions, classes, and all that can be pickled.

        Returns
        -------
        digest : bytes
            The hash. What could not be read has no part in it, and is added to ``unread``.
        """
        if type(value) in SCALARS:
            return f"{type(value).__name__} {value!r}".encode()
        if id(value) not in self._known:
            if self._depth < _DEEPEST:
                self.know(value, "itself")  # where it holds itself
                self._known[id(value)] = (value, self._hash(value))
            else:
                self._later.append(value)
                self.know(value, f"number {len(self._later)} in {self.place}")
        return self._known[id(value)][1]

    def _hash(self, value: Any) -> bytes:
        digest = self._hash_parts(value)
        if self._depth or not self._later:
            return digest
        # The list grows as they are read.
        later = b"".join(map(self._hash_parts, self._later))
        self._later = []
        return hashlib.blake2b(digest + later, digest_size=16).digest()

    def _hash_parts(self, value: Any) -> bytes:
        name = type(value).__name__.encode()
        content = hashlib.blake2b(name, digest_size=16)
        self._depth += 1
        try:
            for part in self._parts(value):
                text = part.encode() if isinstance(part, str) else part
                content.update(len(text).to_bytes(8, "little") + text)
        except Exception:  # objects of others may do anything where they are looked at
            self._failed.add(id(value))
            self.unread.append(f"{self.place} ({type(value).__name__})")
            return hashlib.blake2b(name, digest_size=16).digest()
        finally:
            self._depth -= 1
        return content.digest()

    def _all(self, values: Iterable[Any]) -> Iterator[bytes]:
        return map(self.digest, values)

    # One branch for each kind of object, in the order in which they are to be tried.
    def _parts(self, value: Any) -> Iterator[str | bytes]:  # noqa: C901, PLR0912, PLR0915
        """What distinguishes an object from others of its type."""
        if isinstance(value, SCALARS):
            yield repr(value)
        elif isinstance(value, np.ndarray | np.generic):
            yield from self._array(np.asarray(value))
        elif isinstance(value, Enum | np.dtype):
            yield str(value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.MethodType):
            yield from self._all([value.__func__, value.__self__])
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, types.ModuleType):
            yield from self._module(value)
        elif isinstance(value, property):
            yield from self._all([value.fget])
        elif isinstance(value, functools.cached_property):
            yield from self._all([value.func])
        elif isinstance(value, staticmethod | classmethod):
            yield from self._all([value.__func__])
        elif isinstance(value, functools.partial):
            yield from self._all([value.func, value.args, value.keywords])
        elif isinstance(value, weakref.ref):
            yield from self._all([value()])
        elif isinstance(value, dict | types.MappingProxyType):
            yield from self._all([item for pair in items_of(value) for item in pair])
            yield from self._attributes_of(value)
        elif isinstance(value, Set):
            yield from sorted(self._all(value))
            yield from self._attributes_of(value)
        elif isinstance(value, list | tuple | deque):
            yield from self._all(value)
            yield from self._attributes_of(value)
        elif isinstance(value, _COMPILED_FUNCTIONS):
            yield value.__qualname__
            yield from self._all(_owner(value))
        elif hasattr(value, "__wrapped__"):
            yield from self._all([value.__wrapped__])
        else:
            yield from self._reduced(value)

    def _array(self, array: NDArray) -> Iterator[str | bytes]:
        yield f"{array.dtype} {array.shape}"
        if array.dtype.hasobject:
            yield from self._all(array.ravel().tolist())
        elif array.dtype.names is not None:  # between its fields there may be anything
            yield from self._all(array[name] for name in array.dtype.names)
        else:
            yield hash_octets(array)

    def _function(self, function: types.FunctionType) -> Iterator[str | bytes]:
        code = function.__code__
        module = str(function.__globals__.get("__name__"))
        if _is_library(module, code.co_filename):
            yield f"{self._library(function.__module__)} {function.__qualname__}"
        else:
            # Its octets differ between versions.
            self.versions["Python"] = platform.python_version()
            yield describe_code(code)
            for holder, name in used_by(function):
                yield name
                yield self.digest(holder[name])
        yield from self._all([function.__defaults__, function.__kwdefaults__])
        yield from self._all(map(held_by, function.__closure__ or ()))

    def _module(self, module: types.ModuleType) -> Iterator[str | bytes]:
        """All that a module holds but for other modules, since any of it may be used."""
        if _is_library(module.__name__):
            yield self._library(module.__name__)
        else:
            yield module.__name__
            for name, value in sorted(vars(module).items()):
                if not (name.startswith("__") or isinstance(value, types.ModuleType)):
                    yield name
                    yield self.digest(value)

    def _class(self, kind: type) -> Iterator[str | bytes]:
        if _is_library(kind.__module__):
            yield f"{self._library(kind.__module__)} {kind.__qualname__}"
            return
        yield kind.__name__
        yield from self._all(kind.__bases__)
        for name, value in self._attributes_of_class(kind):
            yield name
            yield self.digest(value)

    def _attributes_of_class(self, kind: type) -> list[tuple[str, Any]]:
        return attributes_of_class(kind)

    def _library(self, module_name: str | None) -> str:
        """Name of a module, whose version is noted, and a hash of its file if it may be edited."""
        root = (module_name or "").partition(".")[0]
        if (version := version_of(root)) is not None:
            self.versions[root] = version
        if _is_installed(root, file := _file_of(str(module_name))):
            return str(module_name)
        return f"{module_name} {_hash_file(file)}"

    def _attributes_of(self, container: Any) -> Iterator[bytes]:
        """What one of a derived class holds beside its items."""
        if attributes := getattr(container, "__dict__", None):
            yield self.digest(attributes)

    def _reduced(self, value: Any) -> Iterator[str | bytes]:
        """What pickle would keep."""
        reduce = copyreg.dispatch_table.get(type(value))
        parts = value.__reduce_ex__(4) if reduce is None else reduce(value)
        if isinstance(parts, str):
            yield parts
        else:
            yield from self._all(_without_notes(type(value), part) for part in parts)


def _without_notes(kind: type, part: Any) -> Any:
    """A part of what pickle would keep, without what has no part in what a network computes."""
    if isinstance(part, dict):
        return {name: value for name, value in part.items() if not is_note(kind, name, value)}
    return list(part) if isinstance(part, Iterator) else part


def attributes_of_class(kind: type) -> list[tuple[str, Any]]:
    """Names and values of what a class defines itself; empty for one of an installed library."""
    if _is_library(kind.__module__):
        return []
    names = vars(kind).keys() - _CLASS_ATTRIBUTES_LEFT_OUT
    return [(name, vars(kind)[name]) for name in sorted(names)]


def hash_octets(array: NDArray) -> bytes:
    """Hash of the memory of an array."""
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()


def sample_octets(array: NDArray) -> tuple[Any, ...]:
    """Some of the values of an array of numbers, evenly spread; all of a small one."""
    flat = array.reshape(-1)
    step = max(1, flat.size // _N_SAMPLED)
    return array.shape, array.dtype.str, flat[::step].tobytes()


# Codes never change, and a fingerprint is taken several times.
@functools.lru_cache(maxsize=50_000)
def describe_code(code: types.CodeType) -> str:
    """Text that changes with what the code of a function does."""
    constants = [
        describe_code(c) if isinstance(c, types.CodeType) else _describe_constant(c)
        for c in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return f"{code.co_code!r} {names} {constants}"


def _describe_constant(constant: Any) -> str:
    # The order of a set differs between processes.
    return str(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)


def used_by(function: types.FunctionType) -> Iterator[tuple[dict[str, Any], str]]:
    """Where what a function looks up by name is held: the variables of a module, and the name.

    Of an installed library it is the module; of another one what is used of it.
    """
    looked_up, imported, attributes = _names_in(function.__code__)
    yield from _used(function.__globals__, looked_up, attributes, set())
    yield from _used(sys.modules, imported, attributes, set())


def _used(
    holder: Mapping[str, Any], names: Set[str], attributes: Set[str], seen: set[int]
) -> Iterator[tuple[dict[str, Any], str]]:
    for name in sorted(names & holder.keys()):
        value = holder[name]
        if not isinstance(value, types.ModuleType) or _is_library(value.__name__):
            yield holder, name  # type: ignore[misc]
        elif id(value) not in seen:
            seen.add(id(value))
            yield from _used(vars(value), attributes, attributes, seen)


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Code, and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes_in(constant)


@functools.lru_cache(maxsize=50_000)
def _names_in(code: types.CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Names that code looks up, imports, or has at all, among which are those of attributes."""
    codes = list(_codes_in(code))
    instructions = [i for inner in codes for i in dis.get_instructions(inner)]
    looked_up = frozenset(i.argval for i in instructions if i.opname in _LOOK_UPS)
    imported = frozenset(i.argval for i in instructions if i.opname in _IMPORTS)
    return looked_up, imported, frozenset(name for inner in codes for name in inner.co_names)


def held_by(cell: types.CellType) -> Any:
    """What a function has of the function around it."""
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _owner(function: Any) -> list[Any]:
    """What a compiled method is bound to, where this is an object."""
    owner = getattr(function, "__self__", None)
    return [] if isinstance(owner, types.ModuleType | type) else [owner]


def items_of(mapping: Any) -> Iterable[tuple[Any, Any]]:
    """Pairs in a dictionary, without the code of a derived class, which may compute them anew."""
    if isinstance(mapping, OrderedDict):
        return OrderedDict.items(mapping)
    return dict.items(mapping) if isinstance(mapping, dict) else mapping.items()


def _is_library(module_name: str, file: str | None = None) -> bool:
    """Whether a module, or code of it in some file, is not the user's own.

    Packages with a version count as libraries wherever they are, since they may be large.
    """
    root = module_name.partition(".")[0]
    # Of other processes, it is a file of the library that has started them.
    if root == "__main__":
        return False
    file = _file_of(module_name) if file is None else file
    if _is_installed(root, file):
        return True
    place = _place_of(root)
    return place.endswith(os.sep) and file.startswith(place) and version_of(root) is not None


def _is_installed(root: str, file: str) -> bool:
    """Whether a file came with Python or a distribution, so that versions tell what is in it."""
    if not file or file.startswith(("<frozen", *_LIBRARY_FOLDERS)):
        return True
    folder = os.path.dirname(_place_of(root).rstrip(os.sep))
    return file.startswith(folder) and root in _distributed_in(folder)


def _place_of(root: str) -> str:
    """Folder of a package, or file of a module."""
    module = sys.modules.get(root)
    for folder in getattr(module, "__path__", None) or ():
        return os.path.join(folder, "")
    return getattr(module, "__file__", None) or "<no file>"


@functools.cache
def _distributed_in(folder: str) -> frozenset[str]:
    """Names of the modules and packages that distributions have put into a folder."""
    installed = importlib.metadata.distributions(path=[folder])
    files = [d.files or [] for d in installed if d.read_text("RECORD")]
    return frozenset(path.parts[0].partition(".")[0] for path in chain.from_iterable(files))


def version_of(root: str) -> str | None:
    """What a module says is its version."""
    module = sys.modules.get(root)
    version = getattr(module, "__dict__", {}).get("__version__")
    if version is None:
        # Some compute it when they are asked, and say that one should not ask.
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = getattr(module, "__version__", None)
    return None if version is None else str(version)


def _hash_file(file: str) -> str:
    """Hash of what a file holds, if it can be read."""
    try:
        status = os.stat(file)
        return _hash_file_of(file, status.st_mtime_ns, status.st_size)
    except OSError:
        return ""


@functools.lru_cache(maxsize=10_000)
def _hash_file_of(file: str, changed: int, size: int) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _file_of(module_name: str) -> str:
    """File of the code of a module; empty for one that is built into Python."""
    root = module_name.partition(".")[0]
    if root in sys.builtin_module_names:
        return ""
    files = (getattr(sys.modules.get(name), "__file__", None) for name in (module_name, root))
    return next(filter(None, files), "<no file>")
