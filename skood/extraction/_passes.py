"""Stochastic forward passes (Monte Carlo dropout)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._column import usual_name
from .._layer_names import find_passes
from ..activations import Activations


@dataclass(frozen=True)
class Passes:
    """How many stochastic forward passes to run, and what makes them reproducible."""

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


def with_passes(layers: Activations, X: Activations, n_passes: int) -> Activations:
    """The layers, and after them the passes that ``X`` holds.

    Raises
    ------
    ValueError
        If it holds none, or another number.
    """
    if (column := find_passes(X)) is None:
        raise ValueError(
            f"X has no layers [{usual_name('', 'pass')!r}]; it has {list(X.layer_names)}."
        )
    if column.shape[1] != n_passes:
        raise ValueError(
            f"n_passes={n_passes}, but the layer {column.name!r} of X has {column.shape[1]} passes."
        )
    return layers.assign({str(column.name): column})
