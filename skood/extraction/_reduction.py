"""Applying a reducer to activations."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from .._layer_names import layer_columns
from ..activations import Activations, Column


def reduce_activations(reducer: Any, activations: Activations) -> Activations:
    """Apply a reducer, whose ``fit`` learns nothing; it is given units in the second axis.

    Raises
    ------
    TypeError
        If it does not return Activations.
    """
    activations = _units_second(activations)
    reduced = clone(reducer).fit(activations).transform(activations)
    if not isinstance(reduced, Activations):
        raise TypeError(
            f"reducer must turn Activations into Activations, but {type(reducer).__name__} "
            f"returned {type(reduced).__name__}."
        )
    return reduced


def _units_second(activations: Activations) -> Activations:
    moved = {}
    for column in layer_columns(activations):
        if column.unit_axis != 1:
            array = np.moveaxis(activations[str(column.name)], column.unit_axis, 1)
            moved[str(column.name)] = Column(array, **{**column.metadata(), "unit_axis": 1})
    return activations.assign(moved) if moved else activations
