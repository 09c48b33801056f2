"""Which values of an ONNX graph "auto" stands for."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from .blocks import earlier_steps, find_blocks
from .functions import find_activations
from .graph import Graph
from .heads import Head

MOST_LAYERS = 64
"""So many layers "auto" stands for at most."""
_LOGITS = "the logits, or made of them"


def choose_layers(
    graph: Graph,
    shapes: dict[str, tuple[int, ...]],
    rows: Collection[str],
    logits: str | None,
    head: Head,
) -> tuple[list[str], dict[str, str]]:
    """What residual blocks and the activation functions outside of them yield.

    Parameters
    ----------
    graph : Graph
        The graph.
    shapes : dict of str to tuple of int
        Shape of each value of floating point numbers.
    rows : collection of str
        Values that have a row for each sample.
    logits : str or None
        The value that holds the logits.
    head : Head
        The last linear layer, whose input is taken too.

    Returns
    -------
    chosen : list of str
        Values in forward order.
    left_out : dict of str to str
        The others of these, with the reasons.
    """
    activations = find_activations(graph)
    blocks = find_blocks(graph, shapes, activations)
    ends = {block.output for block in blocks}
    of_logits = set() if logits is None else graph.after(logits)
    found = ends | set(activations)
    candidates = [v for v in graph.data_outputs() if v in found]
    earlier = earlier_steps(graph, candidates)
    left_out = {}
    for value in candidates:
        reason = _LOGITS if value in of_logits else _reason(value, rows, earlier)
        inside = next((block.output for block in blocks if value in block.inner), None)
        if reason is None and inside is not None and value not in ends:
            reason = f"inside the residual block that ends in {graph.names[inside]!r}"
        if reason is not None:
            left_out[value] = reason
    chosen = [value for value in candidates if value not in left_out]
    kept = _spread(chosen, head)
    reason = f"one of {len(chosen)} layers, of which {len(kept)} are taken"
    left_out.update((value, reason) for value in chosen if value not in kept)
    return kept, left_out


def _reason(value: str, rows: Collection[str], earlier: set[str]) -> str | None:
    if value not in rows:
        return "has no row for each sample"
    return "an earlier step of a loop that ends in another layer" if value in earlier else None


def _spread(values: list[str], head: Head) -> list[str]:
    """At most as many as "auto" takes, evenly spread, with the first, the last and the features."""
    features = [value for value in values if value in head.same]
    others = [value for value in values if value not in features]
    n_others = MOST_LAYERS - (len(features) or (head.weight is not None))
    if len(others) > n_others:
        places = np.linspace(0, len(others) - 1, n_others).round().astype(int)
        others = [others[place] for place in places]
    return [value for value in values if value in {*features, *others}]
