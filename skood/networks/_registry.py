"""Which code reads the objects of a library, found by the library's name without importing it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

Kind = type | str
"""A class, the dotted name of one, the name of a library, or the suffix of a file."""


class Registry:
    """Finds what was registered for the kind of an object.

    Parameters
    ----------
    group : str
        Name of the entry points by which other packages register theirs.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._registered: dict[Kind, Any] = {}
        self._found_entry_points = False

    def register(self, kind: Kind, target: Callable[..., Any] | str) -> None:
        """Register a callable, or its place as "module:name", which is imported when needed."""
        if not isinstance(kind, type | str) or kind == "":
            raise TypeError(
                "kind must be a class, the dotted name of one, the name of a library or a suffix "
                f"such as '.onnx'; got {kind!r}."
            )
        is_place = isinstance(target, str) and all(target.partition(":"))
        if not (callable(target) or is_place):
            raise TypeError(
                f"What is registered must be a callable or 'module:name'; got {target!r}."
            )
        self._registered[kind] = target

    def kinds(self) -> list[Kind]:
        """All kinds that are registered."""
        self._read_entry_points()
        return list(self._registered)

    def find(self, value: Any) -> Callable[..., Any] | None:
        """What was registered for the most specific kind of an object; None for none."""
        return next(self.find_all(value), None)

    def find_all(self, value: Any) -> Iterator[Callable[..., Any]]:
        """What was registered for the kinds of an object, the most specific first."""
        self._read_entry_points()
        for kind in _kinds_of(value, list(self._registered)):
            yield self._load(kind)

    def _load(self, kind: Kind) -> Callable[..., Any]:
        target = self._registered[kind]
        if isinstance(target, EntryPoint):
            target = target.load()
        elif isinstance(target, str):
            module, _, name = target.partition(":")
            target = getattr(importlib.import_module(module), name)
        self._registered[kind] = target
        return target

    def _read_entry_points(self) -> None:
        if self._found_entry_points:
            return
        self._found_entry_points = True
        for point in entry_points(group=self._group):
            # What a program registers itself counts more.
            self._registered.setdefault(point.name, point)


def _kinds_of(value: Any, registered: list[Kind]) -> Iterator[Kind]:
    """The registered kinds of an object, the most specific first."""
    if isinstance(value, str | os.PathLike):
        suffix = os.path.splitext(os.fspath(value))[1].lower()
        yield from (kind for kind in registered if kind == suffix)
    for parent in type(value).__mro__:
        yield from (kind for kind in registered if _is_class(kind, parent))
        yield from (kind for kind in registered if kind == parent.__module__.partition(".")[0])


def _is_class(kind: Kind, parent: type) -> bool:
    if isinstance(kind, type):
        return kind is parent
    module, _, name = kind.rpartition(".")
    # A class that is known under this name, wherever it is defined; of an imported library.
    return bool(module) and getattr(sys.modules.get(module), name, None) is parent
