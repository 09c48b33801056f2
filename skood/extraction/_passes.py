"""Several passes of a network in which chance has a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._layer_names import check_layers_exist
from ..activations import Activations

PASSES = "passes"
"""Name of the layer that holds the logits of the passes."""


@dataclass(frozen=True)
class Passes:
    """How many passes to run with dropout, and what makes them reproducible."""

    n_passes: int
    seed: int
    batch_size: int
    """A batch draws its numbers at once, so that its size is part of what they depend on."""

    def batch_seed(self, number: int) -> int:
        """The seed of the batch of the given number."""
        sequence = np.random.SeedSequence((self.seed, number))
        return int(sequence.generate_state(1, np.uint32)[0])


def draw_seed(random_state: int | np.random.RandomState | None) -> int:
    """A seed by a ``random_state``; the global one is not drawn from."""
    if random_state is None:
        return np.random.default_rng().integers(2**32).item()
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.uint32))
    return int(random_state)


def check_name_is_free(layers: list[str]) -> None:
    """Raise a ValueError where a layer of the network has the name of that of the passes."""
    if PASSES in layers:
        raise ValueError(
            f"n_passes adds a layer {PASSES!r}, but the network has one of this name among the "
            f"extracted layers {layers}: rename it, or leave it out of `layers`."
        )


def with_passes(layers: Activations, X: Activations, n_passes: int) -> Activations:
    """The layers, and after them the passes that ``X`` holds.

    Raises
    ------
    ValueError
        If it holds none, or another number.
    """
    check_layers_exist(X, [PASSES])
    passes: Any = X[PASSES]
    if passes.shape[1] != n_passes:
        raise ValueError(
            f"n_passes={n_passes}, but the layer {PASSES!r} of X has {passes.shape[1]} passes."
        )
    return layers.assign({PASSES: passes})
