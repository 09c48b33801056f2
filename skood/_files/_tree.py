"""A tree of JSON for objects of known types, and back.

None, booleans, integers, finite floats and texts stand for themselves. All else is a node, a JSON
object whose "type" names a :class:`Kind` that writes and reads such values. What occurs twice is
written once: its node has an "id", to which nodes of the type "same" refer, so that one object
stays one, also where it holds itself. Equal texts are one object where they were one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ._errors import FileFormatError, reading

Node = Any
"""None, a boolean, an integer, a float, a text, or a dictionary."""
Fields = dict[str, Any]
Keep = Callable[[Any], Any]
"""Takes an object before what it holds is read, which may refer to it."""

_DEEPEST = 100
"""So many nodes may lie in each other; the limit of Python's stack is not much further."""
_MOST_DIGITS = 10**18
"""Integers beyond are written as text: other readers of JSON would round them, if no worse."""


@dataclass(frozen=True)
class Kind:
    """How values of one type are written and read.

    Attributes
    ----------
    name : str
        The "type" of their nodes.
    write : callable
        Given a value and an encoder, returns the fields of its node.
    read : callable
        Given the fields, a decoder and where to keep what is begun, returns the value.
    """

    name: str
    write: Callable[[Any, Encoder], Fields]
    read: Callable[[Fields, Decoder, Keep], Any]


class Kinds(Protocol):
    """Which kind a value, or a node, is of."""

    def of(self, value: Any) -> Kind | None:
        """The kind of a value; None where values of its type are not written."""

    def named(self, name: str) -> Kind | None:
        """The kind of nodes of a type; None where there is none."""


class Encoder:
    """Makes nodes of objects.

    Parameters
    ----------
    kinds : Kinds
        What can be written.
    files : object
        Takes what is no JSON: arrays, folders, networks.
    """

    def __init__(self, kinds: Kinds, files: Any) -> None:
        self._kinds = kinds
        self.files = files
        self._known: dict[int, tuple[Any, Node]] = {}
        self._texts: dict[str, str] = {}
        """Of equal texts the first object, which stands for itself."""
        self._n_ids = 0
        self._place: list[str] = []

    @property
    def place(self) -> str:
        """Where the object is that is being written."""
        return "".join(self._place).removeprefix(".") or "the estimator itself"

    def node(self, value: Any) -> Node:
        """The node of an object.

        Raises
        ------
        TypeError
            If it, or something in it, is of a type that is not written.
        ValueError
            If it holds objects in objects beyond all measure.
        """
        if type(value) in (int, float):
            return _number(value)
        is_text = type(value) is str and self._texts.setdefault(value, value) is value
        if is_text or value is None or type(value) is bool:
            return value
        if id(value) in self._known:
            return self._again(self._known[id(value)][1])
        return self._new(value)

    def _again(self, node: Node) -> Node:
        if "id" not in node:
            self._n_ids += 1
            node["id"] = self._n_ids
        return {"type": "same", "as": node["id"]}

    def name(self, attribute: str) -> str:
        """The name of an attribute, which is a text like others."""
        return self._texts.setdefault(attribute, attribute)

    def _new(self, value: Any) -> Node:
        kind = self._kinds.of(value)
        if kind is None:
            raise TypeError(
                f"{self.place} is a {type(value).__module__}.{type(value).__qualname__}, which "
                "skood does not write into files: these hold the estimators of skood, many of "
                "scikit-learn, plain values and arrays, and no code. Where it has to be there, "
                "save the whole by cloudpickle."
            )
        if len(self._place) > _DEEPEST:
            raise ValueError(f"{self.place} lies too deep in other objects to be saved.")
        node: dict[str, Any] = {"type": kind.name}
        self._known[id(value)] = value, node
        node.update(kind.write(value, self))
        return node

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Block that writes a part of the object that is being written."""
        self._place.append(place)
        try:
            yield
        finally:
            self._place.pop()

    def part(self, value: Any, place: str) -> Node:
        """The node of a part of the object that is being written."""
        with self.at(place):
            return self.node(value)

    def parts(self, values: Sequence[Any]) -> list[Node]:
        """Those of its items."""
        return [self.part(value, f"[{number}]") for number, value in enumerate(values)]


class Decoder:
    """Makes objects of nodes.

    Parameters
    ----------
    kinds : Kinds
        What can be read.
    files : object
        Yields what is no JSON: arrays, folders, networks.
    """

    def __init__(self, kinds: Kinds, files: Any) -> None:
        self._kinds = kinds
        self.files = files
        self._known: dict[int, Any] = {}
        self._texts: dict[str, str] = {}
        self._depth = 0

    def value(self, node: Node) -> Any:
        """The object of a node.

        Raises
        ------
        FileFormatError
            If it is no node that an encoder makes.
        """
        if node is None or isinstance(node, bool | int | float | str):
            return self._texts.setdefault(node, node) if isinstance(node, str) else node
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            raise FileFormatError(f"Expected a value or a typed node, got {_short(node)}.")
        name = node["type"]
        if name in _SPECIAL:
            with reading("A number in the file"):
                return _SPECIAL[name](node)
        return self._same(node) if name == "same" else self._made(name, node)

    def _same(self, node: Fields) -> Any:
        known = node.get("as")
        if not isinstance(known, int) or known not in self._known:
            raise FileFormatError(f"A node refers to the object {known!r}, which is not there.")
        return self._known[known]

    def _made(self, name: str, node: Fields) -> Any:
        kind = self._kinds.named(name)
        if kind is None:
            raise FileFormatError(f"The file holds a node of the type {name!r}, which is unknown.")
        if self._depth > 2 * _DEEPEST:
            raise FileFormatError("The file holds nodes in nodes beyond all measure.")

        def keep(value: Any) -> Any:
            if "id" in node:
                self._known[node["id"]] = value
            return value

        self._depth += 1
        with reading(f"A {node.get('class', name)} in the file"):
            value = kind.read(node, self, keep)
        self._depth -= 1
        return keep(value)

    def name(self, attribute: str) -> str:
        """The name of an attribute, the same object wherever it is written."""
        return self._texts.setdefault(attribute, sys.intern(attribute))

    def values(self, nodes: Any) -> list[Any]:
        """The objects of a list of nodes."""
        if not isinstance(nodes, list):
            raise FileFormatError(f"Expected a list of nodes, got {_short(nodes)}.")
        return [self.value(node) for node in nodes]


def text_of(node: Fields, name: str) -> str:
    """A field of a node that is a text."""
    if not isinstance(text := node.get(name), str):
        raise FileFormatError(
            f"{name!r} of a node {node.get('type')!r} must be a text, got {text!r}."
        )
    return text


def _special_float(node: Fields) -> float:
    if (text := text_of(node, "value")) not in ("inf", "-inf", "nan"):
        raise FileFormatError(f"{text!r} is no special number.")
    return float(text)


def _large_integer(node: Fields) -> int:
    return int(text_of(node, "hex"), 16)


_SPECIAL: dict[str, Callable[[Fields], Any]] = {"float": _special_float, "integer": _large_integer}
"""How numbers are read that do not stand for themselves."""


def _number(value: Any) -> Node:
    if type(value) is int:
        return value if abs(value) < _MOST_DIGITS else {"type": "integer", "hex": hex(value)}
    return value if math.isfinite(value) else {"type": "float", "value": repr(value)}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
