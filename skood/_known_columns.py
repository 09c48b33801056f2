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
        columns = layer_columns(X)
        return cls(
            {str(column.name): column.metadata() for column in columns if not column.is_plain}
        )

    def check(self, X: Activations, fitted: str) -> None:
        """Raise a ValueError where the layers of ``X`` are others, as far as is said."""
        if self.said:
            self.check_same(KnownColumns.of(X), "X", fitted)

    def check_same(self, new: KnownColumns, of: str, fitted: str) -> None:
        """Raise a ValueError where layers of something new are others, as far as is said."""
        for name, known in self.said.items():
            came = new.said.get(name, known)
            if came != known:
                differ = [key for key in known if came[key] != known[key]]
                raise ValueError(
                    f"Layer {name!r} of {of} has {_listed(came, differ)}, but {fitted} was fitted "
                    f"on one with {_listed(known, differ)}."
                )

    def completed(self, new: KnownColumns) -> KnownColumns:
        """These, with what is said of the layers later alone."""
        return KnownColumns({**new.said, **self.said})


def _listed(what: Mapping[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key}={what[key]!r}" for key in keys)
