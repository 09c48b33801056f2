"""Objects of known classes, by their attributes."""

from __future__ import annotations

import copyreg
import re
from fractions import Fraction
from typing import Any

from .._sklearn import without_callbacks_in
from ._errors import FileFormatError
from ._names import COMPILED, class_of, name_of
from ._tree import Decoder, Encoder, Fields, Keep, Kind

_CACHE = "memory"
"""Parameter for a folder of pickles, which is no part of what was learnt."""
_RATIO = re.compile(r"-?\d{1,1000}(?:/\d{1,1000})?")
_NEW = getattr(copyreg, "__newobj__")  # noqa: B009 - which type checkers do not know


def _write(value: Any, encoder: Encoder) -> Fields:
    """What pickle would keep of an object: arguments of its class, and attributes."""
    kind = type(value)
    make, arguments, *more = value.__reduce_ex__(4)
    if make is _NEW:
        arguments = arguments[1:]
    elif make is not kind:
        raise TypeError(
            f"{encoder.place} is a {kind.__qualname__} that is made by {make!r}, which is not "
            "written into files."
        )
    state = more[0] if more else None
    if any(part is not None for part in more[1:]):
        raise TypeError(f"{encoder.place} is a container of the class {kind.__qualname__}.")
    return {
        "class": name_of(kind),
        **({"arguments": encoder.parts(arguments)} if arguments else {}),
        **({} if state is None else _write_state(value, state, encoder)),
    }


def _write_state(value: Any, state: Any, encoder: Encoder) -> Fields:
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        return {"state": encoder.part(state, " (its state)")}
    attributes = {
        encoder.name(name): _write_attribute(value, name, held, encoder)
        for name, held in without_callbacks_in(state).items()
    }
    return {"attributes": attributes}


def _write_attribute(owner: Any, name: str, held: Any, encoder: Encoder) -> Any:
    if name == _CACHE:
        return None
    with encoder.at(f".{name}"):
        if encoder.files.is_network_of(owner, name):
            return {"type": "network", "number": encoder.files.put_network(held, owner)}
        return encoder.node(held)


def _read(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    if node["class"] in COMPILED:
        raise FileFormatError(f"A {node['class']} is not made of attributes.")
    kind = class_of(node["class"])
    arguments = decoder.values(node.get("arguments", []))
    made = keep(_make(kind, arguments))
    if "attributes" in node:
        attributes = node["attributes"].items()
        _set_state(made, {decoder.name(name): decoder.value(held) for name, held in attributes})
    elif "state" in node:
        _set_state(made, decoder.value(node["state"]))
    decoder.files.note(made)
    return made


def _is_integral(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and bool(_RATIO.fullmatch(value)))


def _make(kind: Any, arguments: list[Any]) -> Any:
    """An object without attributes; of arguments, by its own ``__init__``."""
    if not arguments:
        return kind.__new__(kind)
    if issubclass(kind, tuple):
        return kind.__new__(kind, *arguments)
    if kind is Fraction and not all(map(_is_integral, arguments)):  # such as 1e1000000000
        raise FileFormatError(f"{arguments} makes no fraction of two integers.")
    return kind(*arguments)


def _set_state(made: Any, state: Any) -> None:
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
    else:
        vars(made).update(state)
    if getattr(made, "__dict__", {}).get(_CACHE) is not None:
        vars(made)[_CACHE] = None  # in a file that was made on purpose


OBJECT = Kind("object", _write, _read)
