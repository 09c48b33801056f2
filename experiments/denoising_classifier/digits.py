"""The images: digits to train on, digits that set the thresholds, and the test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._common.image_sets import read_images

UNKNOWN = 0
"""The digit that the network does not learn."""


class Sizes(NamedTuple):
    """How many images are used for what, and how often the network sees them."""

    n_held_out: int = 5_000
    """Training images that set the thresholds."""
    n_train: int | None = None
    """Of the others, those to train on; all by default."""
    n_test: int | None = None
    n_ablation: int = 15_000
    """To train on where one loss or another is left out; none of this where it is 0."""
    epochs: int = 8
    ablation_epochs: int = 4
    width: int = 16
    """Channels of the first stage."""


QUICK = Sizes(
    n_held_out=200,
    n_train=600,
    n_test=300,
    n_ablation=200,
    epochs=1,
    ablation_epochs=1,
    width=4,
)


@dataclass(frozen=True)
class Digits:
    """Images and labels; the first training images set the thresholds."""

    X_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    n_held_out: int

    @property
    def X_held_out(self) -> NDArray[np.float32]:
        return self.X_train[: self.n_held_out]

    @property
    def n_train(self) -> int:
        """How many images a network is trained on."""
        return len(self.X_train) - self.n_held_out


def load_digits(sizes: Sizes, n_train: int | None, seed: int) -> Digits:
    """All that are known, in random order, ``n_train`` of them to train on."""
    X, y = read_images("mnist", "train")
    X_test, y_test = read_images("mnist", "test")
    known = np.random.default_rng(seed).permutation(np.flatnonzero(y != UNKNOWN))
    known = known[: None if n_train is None else sizes.n_held_out + n_train]
    X_test, y_test = X_test[: sizes.n_test], y_test[: sizes.n_test]
    return Digits(X[known], y[known], X_test, y_test, sizes.n_held_out)
