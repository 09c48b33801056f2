"""Applying a reducer to activations."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from ..activations import Activations


def reduce_activations(reducer: Any, activations: Activations) -> Activations:
    """Apply a reducer, whose ``fit`` learns nothing.

    Raises
    ------
    TypeError
        If it does not return Activations.
    """
    reduced = clone(reducer).fit(activations).transform(activations)
    if not isinstance(reduced, Activations):
        raise TypeError(
            f"reducer must turn Activations into Activations, but {type(reducer).__name__} "
            f"returned {type(reduced).__name__}."
        )
    return reduced
