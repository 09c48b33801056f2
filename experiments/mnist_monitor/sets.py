"""The images: digits for the net, for the monitors and for the test, and other kinds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from skood.datasets import make_noise

from .._common.image_sets import read_images

Images = NDArray[np.float32]

NOISE = "uniform noise"
IMAGES: dict[str, tuple[str, str]] = {
    "Fashion-MNIST": ("fashion_mnist", "test"),
    "notMNIST": ("notmnist", "all"),
    "KMNIST": ("kmnist", "all"),
    "USPS": ("usps", "all"),
    "textures": ("textures", "all"),
    "CIFAR-10": ("cifar10", "test"),
    "street characters": ("streetview_chars", "all"),
    "traffic signs": ("gtsrb", "all"),
    "scenes": ("scenes", "all"),
}
"""What ``read_images`` takes for each set."""
OUTSIDE = (NOISE, *IMAGES)


class Sizes(NamedTuple):
    """How many images are used for what."""

    n_net: int = 50_000
    """The net is trained on the first of the training images."""
    n_fit: int = 20_000
    """Of these, the monitors learn the first."""
    n_validation: int = 2_000
    """The images after those of the net, on which detectors are configured."""
    n_per_set: int = 2_000
    """Test digits, and images of each other kind, at most."""
    n_test: int | None = None
    """Digits that the net is tested on; all by default."""


QUICK = Sizes(n_net=1_000, n_fit=300, n_validation=80, n_per_set=50, n_test=200)


def load_outside(n_per_set: int, rng: np.random.Generator) -> dict[str, Images]:
    """Images of every other kind, shape (n, 1, 28, 28), at most ``n_per_set`` of each."""
    outside = {NOISE: make_noise("uniform", (n_per_set, 1, 28, 28), random_state=0)}
    for name, image_set in IMAGES.items():
        images, _ = read_images(*image_set)
        rows = rng.permutation(len(images))[:n_per_set]
        outside[name] = to_grey_28(images[np.sort(rows)])
    return outside


def to_grey_28(images: Images) -> Images:
    """Mean of the colours, reduced to 28 x 28 pixels."""
    grey = images.mean(axis=1, keepdims=True)
    if grey.shape[2:] == (28, 28):
        return grey
    return zoom(grey, (1, 1, 28 / grey.shape[2], 28 / grey.shape[3]), order=1).clip(0, 1)
