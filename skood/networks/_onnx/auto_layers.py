"""Which values of an ONNX graph "auto" stands for."""

from __future__ import annotations

from collections.abc import Collection

from .._spread import spread_beside
from .blocks import earlier_steps, find_blocks
from .functions import find_activations
from .graph import Graph
from .heads import Head, made_of_single_values

_LOGITS = "the logits, or made of them"
_ONE_VALUE = "the one value a sample that the model returns, or what becomes it"


def choose_layers(
    graph: Graph,
    shapes: dict[str, tuple[int, ...]],
    rows: Collection[str],
    logits: str | None,
    head: Head,
    one_values: Collection[str] = (),
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
    one_values : collection of str, default=()
        Outputs with one value a sample, which are no logits.

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
    found = ends | set(activations)
    candidates = [v for v in graph.data_outputs() if v in found]
    of_logits = _made_of_logits(graph, logits, one_values)
    if head.weight is None and of_logits.keys() >= set(candidates):
        of_logits = {}  # a model without another activation function than that of its output
    earlier = earlier_steps(graph, candidates)
    left_out = {}
    for value in candidates:
        reason = of_logits.get(value) or _reason(value, rows, earlier)
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


def _made_of_logits(
    graph: Graph, logits: str | None, one_values: Collection[str]
) -> dict[str, str]:
    """What the logits, or outputs of one value a sample, are made of alone, with the reasons."""
    found = dict.fromkeys(set() if logits is None else graph.after(logits), _LOGITS)
    for output in one_values:
        found |= dict.fromkeys(made_of_single_values(graph, output), _ONE_VALUE)
    return found


def _reason(value: str, rows: Collection[str], earlier: set[str]) -> str | None:
    if value not in rows:
        return "has no row for each sample"
    return "an earlier step of a loop that ends in another layer" if value in earlier else None


def _spread(values: list[str], head: Head) -> list[str]:
    """At most as many as "auto" takes, evenly spread, with the first, the last and the features."""
    features = [value for value in values if value in head.same]
    others = [value for value in values if value not in features]
    kept = spread_beside(others, len(features) or int(head.weight is not None))
    return [value for value in values if value in kept.union(features)]
