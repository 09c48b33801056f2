"""Which layers of a torch network "auto" stands for."""

from __future__ import annotations

from itertools import chain

from torch import nn

from .calls import ADDITION
from .recorded import Layer, RecordedCall, place, storage


def choose_layers(
    layers: dict[str, Layer],
    features: list[str],
    squashing: RecordedCall | None,
    blocks: set[str],
) -> list[str]:
    """The layers that "auto" stands for."""
    outputs = {name: layer.source for name, layer in layers.items() if not layer.location.before}
    chosen = {name for name, c in outputs.items() if c.call.name in blocks}
    if not chosen:
        chosen = {n for n, c in outputs.items() if c.is_activation and c is not squashing}
    if chosen.isdisjoint(features):
        chosen.update(name for name in features if layers[name].location.before)
    return [name for name in layers if name in chosen]


def find_residual_blocks(network: nn.Module, calls: list[RecordedCall]) -> set[str]:
    """Names of the modules whose own ``forward`` adds a skip, and that return what it yields."""
    weights = {storage(tensor) for tensor in chain(network.parameters(), network.buffers())}
    by_name: dict[str, list[RecordedCall]] = {}
    for c in calls:
        # What is fed integers adds embeddings.
        if c.call.inputs and c.call.inputs[0].is_floating_point():
            by_name.setdefault(c.call.name, []).append(c)
    blocks = set()
    for skip in (c for c in calls if _is_skip(c, weights)):
        name = skip.call.name.rpartition(".")[0]
        inner = [c for c in calls if c.call.name.startswith(f"{name}.")]
        if any(_is_residual(block, skip, inner) for block in by_name.get(name, ())):
            blocks.add(name)
    return blocks


def _is_residual(block: RecordedCall, skip: RecordedCall, inner: list[RecordedCall]) -> bool:
    """Whether a block adds its input, or a projection of it, to what its modules compute from it.

    ``inner`` are the calls inside the block. Sums that are a part of another formula, such as that
    of an activation function, are neither computed from a module's output nor returned.
    """
    modules = [c for c in inner if isinstance(c.call.called, nn.Module)]
    given, added = set(map(place, block.call.inputs)), set(map(place, skip.call.inputs))
    if not modules or block.call.output is None or skip.call.output is None:
        return False
    if given.isdisjoint(added):
        # Without an activation function, a sum of projections is just another linear layer.
        bends = any(c.is_activation for c in inner)
        if not bends or _reached(given, modules).isdisjoint(added):
            return False
    return place(block.call.output) in _reached({place(skip.call.output)}, inner)


def _reached(places: set[tuple], calls: list[RecordedCall]) -> set[tuple]:
    """Places of values, and of all that calls compute from them."""
    reached = set(places)
    for c in calls:
        if c.call.output is not None and not reached.isdisjoint(map(place, c.call.inputs)):
            reached.add(place(c.call.output))
    return reached


def _is_skip(recorded: RecordedCall, weights: set[int]) -> bool:
    """Whether two activations of the same shape are added."""
    if recorded.call.called != ADDITION or len(recorded.call.inputs) != 2 or recorded.input is None:
        return False
    one, other = recorded.call.inputs
    return one.shape == other.shape and weights.isdisjoint([storage(one), storage(other)])
