"""Finding the layers of an extractor among those of activations extracted before."""

from __future__ import annotations

from collections.abc import Sequence

from .._column import Column, usual_name
from .._layer_names import layer_columns, layer_list, match_layers
from ..activations import Activations
from ._mode import Source
from ._plan import AUTO


def refuse_numbers(layers: object) -> None:
    """Raise a ValueError where a layer of a network is given by its number."""
    if numbers := [item for item in layer_list(layers) if not isinstance(item, str)]:
        raise ValueError(
            "The layers of a network are given by name or glob pattern, since a number could "
            f"count modules, calls or activation functions; got {numbers}. Extract them by name, "
            "or all of them, and then select by number with LayerSelector."
        )


def match_extracted(
    patterns: str | Sequence[str], X: Activations, *, gradients: bool
) -> list[Column]:
    """The columns that patterns select, in the order of ``X``.

    A pattern is one of the names in ``X``, or of the layers of the network. Gradients are selected
    with their layers, and only where they are wanted. Stochastic passes are no layer of the network
    and are not selected.

    Raises
    ------
    ValueError
        If a pattern selects nothing, or a layer lacks its gradient.
    """
    columns = layer_columns(X)
    values = [column for column in columns if column.kind == "value"]
    if isinstance(patterns, str) and patterns == AUTO:
        patterns = "all"
    known = [str(name) for column in values for name in (column.name, column.layer)]
    matched = set(match_layers(patterns, list(dict.fromkeys(known))))
    chosen = [column for column in values if {column.name, column.layer} & matched]
    if not gradients:
        return chosen
    with_gradient = {_origin(column) for column in columns if column.kind == "gradient"}
    if lacking := [column.name for column in chosen if _origin(column) not in with_gradient]:
        raise ValueError(
            f"gradients=True needs the gradients of the layers {lacking}, but X has only the "
            f"layers {list(X.layer_names)}: extract them from the inputs."
        )
    origins = {_origin(column) for column in chosen}
    return [
        column
        for column in columns
        if column in chosen or (column.kind == "gradient" and _origin(column) in origins)
    ]


def _origin(column: Column) -> tuple[str | None, str | None]:
    """What a value and its gradient have in common."""
    return column.layer, column.pooling


def find_extracted(sources: Sequence[Source], X: Activations) -> list[str]:
    """Names in ``X`` of what an extractor extracts, before any pooling where that is there.

    Raises
    ------
    ValueError
        If something is missing.
    """
    names: list[str] = []
    missing = []
    for layer, kind in sources:
        found = [c for c in layer_columns(X) if (c.layer, c.kind) == (layer, kind)]
        unpooled = [column for column in found if column.pooling is None]
        names += [str(column.name) for column in unpooled or found]
        if not found:
            missing.append(usual_name(layer, kind))
    if missing:
        raise ValueError(f"X has no layers {missing}; it has {list(X.layer_names)}.")
    return names
