"""Hashes of what determines the values that a network computes."""

from __future__ import annotations

import dis
import functools
import hashlib
import platform
import site
import sys
import sysconfig
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
# Attributes of the vectorizers of scikit-learn, which differ in each copy and process.
_ADDRESSES = frozenset({"_stop_words_id"})
_LIBRARY_FOLDERS = tuple(
    {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)
_N_SAMPLED = 1000
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

    def met(self) -> list[Any]:
        """All objects that were read, but for numbers, texts and their like.

        Returns
        -------
        objects : list of object
            Each once.
        """
        return [value for value, _ in self._known.values()]

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
        if isinstance(value, SCALARS):
            return f"{type(value).__name__} {value!r}".encode()
        if id(value) not in self._known:
            self.know(value, "itself")  # where it holds itself
            content = hashlib.blake2b(type(value).__qualname__.encode(), digest_size=16)
            for part in self._parts(value):
                text = part.encode() if isinstance(part, str) else part
                content.update(len(text).to_bytes(8, "little") + text)
            self._known[id(value)] = (value, content.digest())
        return self._known[id(value)][1]

    def _all(self, values: Iterable[Any]) -> Iterator[bytes]:
        return map(self.digest, values)

    # One branch for each kind of object, in the order in which they are to be tried.
    def _parts(self, value: Any) -> Iterator[str | bytes]:  # noqa: C901, PLR0912, PLR0915
        """What distinguishes an object from others of its type."""
        if isinstance(value, np.ndarray | np.generic):
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
        elif isinstance(value, Mapping):
            yield from self._all([item for pair in value.items() for item in pair])
        elif isinstance(value, Set):
            yield from sorted(self._all(value))
        elif isinstance(value, list | tuple | deque):
            yield from self._all(value)
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
        if _is_library(code.co_filename):
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
        yield self._library(module.__name__)
        if not _is_library(_file_of(module.__name__)):
            for name, value in sorted(vars(module).items()):
                if not (name.startswith("__") or isinstance(value, types.ModuleType)):
                    yield name
                    yield self.digest(value)

    def _class(self, kind: type) -> Iterator[str | bytes]:
        if _is_library(_file_of(kind.__module__)):
            yield f"{self._library(kind.__module__)} {kind.__qualname__}"
            return
        yield kind.__qualname__
        yield from self._all(kind.__bases__)
        for name, value in self._attributes_of_class(kind):
            yield name
            yield self.digest(value)

    def _attributes_of_class(self, kind: type) -> list[tuple[str, Any]]:
        return attributes_of_class(kind)

    def _library(self, module_name: str | None) -> str:
        """Name of a module, whose version is noted."""
        root = (module_name or "").partition(".")[0]
        version = getattr(sys.modules.get(root), "__version__", None)
        if version is not None:
            self.versions[root] = str(version)
        return str(module_name)

    def _reduced(self, value: Any) -> Iterator[str | bytes]:
        """What pickle would keep."""
        try:
            parts = value.__reduce_ex__(4)
        except Exception:
            self.unread.append(f"{self.place} ({type(value).__name__})")
            return
        if isinstance(parts, str):
            yield parts
        else:
            yield from self._all(_lasting(part) for part in parts)


def _lasting(part: Any) -> Any:
    """A part of what pickle would keep, without the addresses of objects."""
    if isinstance(part, dict) and not _ADDRESSES.isdisjoint(part):
        return {name: value for name, value in part.items() if name not in _ADDRESSES}
    return list(part) if isinstance(part, Iterator) else part


def attributes_of_class(kind: type) -> list[tuple[str, Any]]:
    """Names and values of what a class defines itself; empty for one of an installed library."""
    if _is_library(_file_of(kind.__module__)):
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
    codes = list(_codes_in(function.__code__))
    attributes = {name for code in codes for name in code.co_names}
    looked_up = _names_of(codes, _LOOK_UPS)
    yield from _used(function.__globals__, looked_up, attributes, set())
    yield from _used(sys.modules, _names_of(codes, _IMPORTS), attributes, set())


def _used(
    holder: Mapping[str, Any], names: Set[str], attributes: set[str], seen: set[int]
) -> Iterator[tuple[dict[str, Any], str]]:
    for name in sorted(names & holder.keys()):
        value = holder[name]
        if not isinstance(value, types.ModuleType) or _is_library(_file_of(value.__name__)):
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


def _names_of(codes: list[types.CodeType], operations: Set[str]) -> set[str]:
    """Names that operations are done with. Those of attributes may be variables of others too."""
    return {
        instruction.argval
        for code in codes
        for instruction in dis.get_instructions(code)
        if instruction.opname in operations
    }


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


def _is_library(file: str) -> bool:
    return not file or file.startswith(("<frozen", *_LIBRARY_FOLDERS))


def _file_of(module_name: str) -> str:
    """File of the code of a module; empty for one that is built into Python."""
    root = module_name.partition(".")[0]
    if root in sys.builtin_module_names:
        return ""
    files = (getattr(sys.modules.get(name), "__file__", None) for name in (module_name, root))
    return next(filter(None, files), "<no file>")
