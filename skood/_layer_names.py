"""Layers of `Activations`: selecting them by name, pattern, number or kind; where units are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any

import numpy as np

from ._column import Column
from ._sklearn import InvalidParameterError
from .activations import Activations


def check_layers_exist(X: Activations, names: Sequence[str]) -> None:
    """Raise a ValueError that lists the known layers where one of ``names`` is not among them."""
    if missing := [name for name in names if name not in X]:
        raise ValueError(f"X has no layers {missing}; it has {list(X.layer_names)}.")


def layer_columns(X: Activations) -> list[Column]:
    """The columns of the layers, in forward order."""
    return [column for column in X.columns if column.role == "layer"]


def value_names(X: Activations) -> list[str]:
    """Names of the layers that hold activations: no gradients, and no stochastic passes."""
    return [str(column.name) for column in layer_columns(X) if column.kind == "value"]


def unit_axes(X: Activations) -> dict[str, int]:
    """The axis of the units of each layer."""
    return {str(column.name): column.unit_axis for column in layer_columns(X)}


def units_second(X: Activations) -> Activations:
    """The same samples with the units of each layer in the second axis; nothing is copied."""
    moved = {
        str(column.name): Column(
            np.moveaxis(X[str(column.name)], column.unit_axis, 1),
            **{**column.metadata(), "unit_axis": 1},
        )
        for column in layer_columns(X)
        if column.unit_axis != 1
    }
    return X.assign(moved) if moved else X


def gradient_names(X: Activations) -> dict[str, str]:
    """Names of the layers that come with their gradients, and the names of these.

    Raises
    ------
    ValueError
        If a layer has several gradients.
    """
    columns = layer_columns(X)
    gradients: dict[tuple[Any, Any], str] = {}
    for column in columns:
        if column.kind == "gradient":
            first = gradients.setdefault((column.layer, column.pooling), str(column.name))
            if first != column.name:
                raise ValueError(
                    f"Both {first!r} and {column.name!r} are gradients of the layer "
                    f"{column.layer!r}, pooling {column.pooling!r}: leave one of them out."
                )
    return {
        str(column.name): gradients[column.layer, column.pooling]
        for column in columns
        if column.kind == "value" and (column.layer, column.pooling) in gradients
    }


def find_passes(X: Activations) -> Column | None:
    """The column of stochastic forward passes, or None where there is none.

    Raises
    ------
    ValueError
        If there are several.
    """
    found = [column for column in layer_columns(X) if column.kind == "pass"]
    if len(found) > 1:
        names = [column.name for column in found]
        raise ValueError(f"X holds several layers of stochastic passes, {names}: select one.")
    return found[0] if found else None


def layer_list(layers: Any) -> list[Any]:
    """Names, patterns, numbers and slices that select layers, as a list of plain Python objects.

    Raises
    ------
    ValueError, TypeError
        If one of them is of another kind; it is an error of both types.
    """
    several = isinstance(layers, Iterable) and not isinstance(layers, str)
    return [_as_plain(item) for item in (layers if several else [layers])]


def _as_plain(item: Any) -> Any:
    if isinstance(item, str):
        return str(item)
    if isinstance(item, slice):
        return item
    # A mask of layers would be read as the numbers 0 and 1.
    if not isinstance(item, Integral) or isinstance(item, bool):
        raise InvalidParameterError(
            "Layers are given by name, glob pattern, number or slice of numbers; "
            f"got {item!r} of type {type(item).__name__}."
        )
    return int(item)


def match_layers(layers: Any, known: Sequence[str]) -> list[str]:
    """Names among ``known`` that are selected, in the order of ``known``.

    Parameters
    ----------
    layers : str, int, slice or sequence of them
        Names or glob patterns; "all" by itself selects every name. A known name is taken literally,
        special characters included. Numbers and slices are positions in ``known``, from
        the end where negative; a number that is text is a name.
    known : sequence of str
        Names of the layers.

    Returns
    -------
    list of str
        The names.

    Raises
    ------
    ValueError
        If one of ``layers`` selects nothing; the message lists the known names.
    """
    wanted = layer_list(layers)
    if isinstance(layers, str) and layers == "all" and layers not in known:
        wanted = ["*"]
    matches = [_matches(item, known) for item in wanted]
    if not matches or not all(matches):
        unmatched = [item for item, found in zip(wanted, matches, strict=True) if not found]
        numbered = any(not isinstance(item, str) for item in unmatched)
        numbers = f", numbered from 0 to {len(known) - 1}" if numbered else ""
        raise ValueError(f"No layers match {unmatched}; known are {list(known)}{numbers}.")
    selected = set().union(*matches)
    return [name for name in known if name in selected]


def _matches(item: str | int | slice, known: Sequence[str]) -> list[str]:
    if isinstance(item, slice):
        return list(known[item])
    if isinstance(item, int) or item in known:
        found = find_layer(item, known)
        return [] if found is None else [found]
    return [name for name in known if fnmatchcase(name, item)]


def find_layer(layer: Any, known: Sequence[str]) -> str | None:
    """Name of the layer that is given by its name, or its number in ``known``; None for none."""
    (layer,) = layer_list([layer])
    if isinstance(layer, int):
        return known[layer] if -len(known) <= layer < len(known) else None
    return layer if layer in known else None
