"""Which code reads the objects of a library, found by the library's name without importing it."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .._warnings import warn_user

Kind = type | str
"""A class, the dotted name of one, the name of a library or module, or the suffix of a file."""

_NAME = re.compile(r"\.?\w[\w-]*(\.\w[\w-]*)*")


class Registry:
    """Finds what was registered for the kind of an object.

    Parameters
    ----------
    group : str
        Name of the entry points by which other packages register theirs.
    defaults : mapping of str to str
        What counts where neither a program nor a package has registered anything for the kind.
    what : str, default="networks"
        What the objects are called in messages.
    """

    def __init__(self, group: str, defaults: Mapping[str, str], what: str = "networks") -> None:
        self._group = group
        self._what = what
        self._registered: dict[Kind, Any] = {}
        self._registered.update(defaults)
        self._own: set[Kind] = set()
        self._found_entry_points = False

    def register(self, kind: Kind, target: Callable[..., Any] | str) -> None:
        """Register a callable, or its place as "module:name", which is imported when needed."""
        if not (isinstance(kind, type) or (isinstance(kind, str) and _NAME.fullmatch(kind))):
            raise TypeError(
                "kind must be a class, the dotted name of one, the name of a library or a suffix "
                f"such as '.onnx'; got {kind!r}."
            )
        is_place = isinstance(target, str) and all(target.partition(":"))
        if not (callable(target) or is_place):
            raise TypeError(
                f"What is registered must be a callable or 'module:name'; got {target!r}."
            )
        self._own.add(kind)
        self._put(kind, target)

    def _put(self, kind: Kind, target: Any) -> None:
        # At the end: of several that fit equally well, the last one counts.
        self._registered.pop(kind, None)
        self._registered[kind] = target

    def kinds(self) -> list[str]:
        """Names of all kinds that are registered."""
        self._read_entry_points()
        return sorted(
            kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            for kind in self._registered
        )

    def find(self, value: Any) -> Callable[..., Any] | None:
        """What was registered for the most specific kind of an object; None for none.

        Raises
        ------
        ImportError
            If it cannot be imported.
        """
        return next(self.find_all(value), None)

    def find_all(self, value: Any) -> Iterator[Callable[..., Any]]:
        """What was registered for the kinds of an object, the most specific first."""
        self._read_entry_points()
        ranks = {
            kind: rank
            for kind in reversed(self._registered)
            if (rank := _rank(kind, value)) is not None
        }
        yield from map(self._load, sorted(ranks, key=ranks.__getitem__))

    def _load(self, kind: Kind) -> Callable[..., Any]:
        target = self._registered[kind]
        if not isinstance(target, EntryPoint | str):
            return target
        try:
            loaded = target.load() if isinstance(target, EntryPoint) else _import(target)
        except Exception as error:
            raise ImportError(
                f"{_describe(target)} is registered for {self._what} of the kind {kind!r}, but "
                f"cannot be imported: {type(error).__name__}: {error} Repair or remove it, or "
                "register another one for this kind."
            ) from error
        self._registered[kind] = loaded
        return loaded

    def _read_entry_points(self) -> None:
        if self._found_entry_points:
            return
        self._found_entry_points = True
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self._group):
            if (other := found.setdefault(point.name, point)) != point:
                warn_user(
                    f"{_describe(other)} and {_describe(point)} are both registered for "
                    f"{self._what} of the kind {point.name!r}: the first one counts. "
                    "Remove one of the packages."
                )
        for kind, point in found.items():
            # What a program registers itself counts more.
            if kind not in self._own:
                self._put(kind, point)


def _import(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _describe(target: EntryPoint | str) -> str:
    if isinstance(target, str):
        return repr(target)
    package = (
        "of an unknown package" if target.dist is None else f"of the package {target.dist.name!r}"
    )
    return f"{target.value!r} {package}"


def _rank(kind: Kind, value: Any) -> tuple[int, ...] | None:
    """How far an object is from a kind: the less, the more specific; None where it is of another.

    A class counts by its place among the parents of the object's own class; a library by the last
    parent that it defines, and less than this class itself.
    """
    if isinstance(kind, str) and kind.startswith("."):
        return _rank_of_suffix(kind, value)
    parents = type(value).__mro__
    classes = [n for n, parent in enumerate(parents) if _is_class(kind, parent)]
    if classes:
        return classes[0], 0
    if isinstance(kind, type):  # one that knows its instances in another way
        return (len(parents), 0) if isinstance(value, kind) else None
    defined = [n for n, p in enumerate(parents) if f"{p.__module__}.".startswith(f"{kind}.")]
    return (defined[-1], 1, -len(kind)) if defined else None


def _rank_of_suffix(suffix: str, value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, str | os.PathLike):
        return None
    path = os.fsdecode(value).lower()
    return (-len(suffix),) if path.endswith(suffix.lower()) else None


def _is_class(kind: Kind, parent: type) -> bool:
    if isinstance(kind, type):
        return kind is parent
    if kind == f"{parent.__module__}.{parent.__qualname__}":
        return True
    module, _, name = kind.rpartition(".")
    # Known under this name too, wherever it is defined; of a library that is imported.
    return bool(module) and getattr(sys.modules.get(module), name, None) is parent
