"""What the network makes of the training digits, the test digits and the other images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skood import ActivationExtractor, Activations
from skood.datasets import make_noise, make_triangles

from .._common.image_sets import read_images
from .._common.images import draw_rows
from .._common.networks import predicted_classes
from .net import MAPS, MONITORED, Net

IMAGES: dict[str, tuple[str, str]] = {
    "Fashion-MNIST": ("fashion_mnist", "test"),
    "KMNIST": ("kmnist", "all"),
    "notMNIST": ("notmnist", "all"),
}
"""What ``read_images`` takes for each set."""
NOISE, TRIANGLES = "uniform noise", "triangles"


class Sizes(NamedTuple):
    """How many images of each kind, at most."""

    n_train: int = 60_000
    n_test: int = 10_000
    n_outside: int = 2_000
    n_compared: int = 500
    """Training digits of each class that real values are compared with, one by one."""


QUICK = Sizes(n_train=3_000, n_test=1_000, n_outside=200, n_compared=20)


@dataclass(frozen=True)
class Watched:
    """One or more layers of a network, for each set of images."""

    train: Activations
    y_train: NDArray[np.int64]
    test: Activations
    y_test: NDArray[np.int64]
    outside: dict[str, Activations]

    @property
    def is_wrong(self) -> NDArray[np.bool_]:
        """Which of the test digits the network misclassifies."""
        return np.not_equal(predicted_classes(self.test), self.y_test)

    @property
    def learnt(self) -> tuple[Activations, NDArray[np.int64]]:
        """The training digits that it classifies right, which detectors learn from."""
        return self.train[self.is_learnt], self.y_train[self.is_learnt]

    @property
    def is_learnt(self) -> NDArray[np.bool_]:
        """Which of the training digits it classifies right."""
        return np.equal(predicted_classes(self.train), self.y_train)

    def select(self, layer: str) -> Watched:
        return self.convert(lambda A: A[[layer]])

    def convert(self, function: Callable[[Activations], Activations]) -> Watched:
        return Watched(
            function(self.train),
            self.y_train,
            function(self.test),
            self.y_test,
            {name: function(A) for name, A in self.outside.items()},
        )


def watch(net: Net, X: NDArray, y: NDArray, sizes: Sizes, seed: int) -> Watched:
    """Run the network once over all images."""
    X_test, y_test = read_images("mnist", "test")
    extractor = ActivationExtractor(net.module, [MAPS, MONITORED]).fit(X[:2])
    return Watched(
        extractor.transform(X),
        y,
        extractor.transform(X_test[: sizes.n_test]),
        y_test[: sizes.n_test],
        {
            name: extractor.transform(images)
            for name, images in load_outside(sizes.n_outside, seed).items()
        },
    )


def load_outside(n_images: int, seed: int) -> dict[str, NDArray]:
    outside = {}
    for name, image_set in IMAGES.items():
        images, _ = read_images(*image_set)
        outside[name] = images[draw_rows(len(images), n_images, seed)]
    shape = (n_images, 1, 28, 28)
    outside[NOISE] = make_noise("uniform", shape, random_state=seed)
    outside[TRIANGLES] = make_triangles(shape, random_state=seed)
    return outside


def flatten_maps(A: Activations, *, rectified: bool) -> Activations:
    """The maps as one row of values, before or after their ReLU."""
    values = A[MAPS].reshape(len(A), -1)
    return A.replace({MAPS: np.maximum(values, 0) if rectified else values})
