"""Applying a reducer to activations."""

from __future__ import annotations

from functools import partial
from typing import Any

from sklearn.base import clone

from .._block_transform import in_blocks_if_larger
from ..activations import Activations


def reduce_activations(reducer: Any, activations: Activations) -> Activations:
    """Apply a reducer, whose ``fit`` learns nothing; block by block to what memory does not hold.

    Raises
    ------
    TypeError
        If it does not return Activations.
    """
    reduced: Activations = in_blocks_if_larger(activations, partial(_reduce, reducer))
    return reduced


def _reduce(reducer: Any, activations: Activations) -> Activations:
    reduced = clone(reducer).fit(activations).transform(activations)
    if not isinstance(reduced, Activations):
        raise TypeError(
            f"reducer must turn Activations into Activations, but {type(reducer).__name__} "
            f"returned {type(reduced).__name__}."
        )
    return reduced
