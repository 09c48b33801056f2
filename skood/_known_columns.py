"""What the columns of layers are, as an estimator remembers it from ``fit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._layer_names import layer_columns
from .activations import Activations


@dataclass(frozen=True)
class KnownColumns:
    """What is said of the layers that an estimator is fitted on.

    A plain array becomes the values of a layer of its own name, of which nothing is said: it may
    be anything.

    Attributes
    ----------
    said : dict of str to dict
        The ``layer``, ``kind``, ``pooling`` and ``unit_axis`` of each layer of which they are said.
    """

    said: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, X: Activations) -> KnownColumns:
        metadata = {str(column.name): column.metadata() for column in layer_columns(X)}
        return cls({name: what for name, what in metadata.items() if what != _plain(name)})

    def check_same(self, new: KnownColumns, of: str, fitted: str) -> None:
        """Raise a ValueError where layers of something new are others, as far as is said."""
        for name, known in self.said.items():
            came = new.said.get(name, known)
            if differ := [key for key in known if came[key] != known[key]]:
                raise ValueError(
                    f"Layer {name!r} of {of} has {_listed(came, differ)}, but {fitted} was fitted "
                    f"on one with {_listed(known, differ)}."
                )

    def completed(self, new: KnownColumns) -> KnownColumns:
        """These, with what is said of the layers later alone."""
        return KnownColumns({**new.said, **self.said})


def _plain(name: str) -> dict[str, Any]:
    return {"layer": name, "kind": "value", "pooling": None, "unit_axis": 1}


def _listed(what: Mapping[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key}={what[key]!r}" for key in keys)
