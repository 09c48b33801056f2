"""Finding the layers of an extractor among those of activations extracted before."""

from __future__ import annotations

from collections.abc import Sequence

from .._layer_names import layer_list, match_layers
from ._gradients import is_gradient, owner_of
from ._passes import PASSES
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
    patterns: str | Sequence[str], layers: Sequence[str], *, gradients: bool
) -> tuple[list[str], dict[str, str]]:
    """The names that patterns select among ``layers``.

    A pattern may be of either name: "relu1" selects "relu1:max" and "relu1:avg". Gradients are
    selected with their layers, and only where they are wanted. The passes are no layer of the
    network and are not selected.

    Returns
    -------
    names : list of str
        All that is selected, in the order of ``layers``.
    origins : dict of str to str
        The names that are not those of gradients, with the names they had before several
        poolings.

    Raises
    ------
    ValueError
        If a pattern selects nothing, or a layer lacks its gradient.
    """
    layers = [name for name in layers if name != PASSES]
    values = [name for name in layers if not is_gradient(name)]
    origins = {name: name.rpartition(":")[0] or name for name in values}
    if isinstance(patterns, str) and patterns == AUTO:
        patterns = "all"
    matched = set(match_layers(patterns, list(dict.fromkeys([*values, *origins.values()]))))
    origins = {name: origin for name, origin in origins.items() if {name, origin} & matched}
    if not gradients:
        return list(origins), origins
    owners = {owner_of(name) for name in layers if is_gradient(name)}
    if lacking := [name for name in origins if name not in owners]:
        raise ValueError(
            f"gradients=True needs the gradients of the layers {lacking}, but X has only the "
            f"layers {list(layers)}: extract them from the inputs."
        )
    return [name for name in layers if owner_of(name) in origins], origins
