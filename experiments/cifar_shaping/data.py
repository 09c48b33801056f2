"""The networks of the CIFAR experiment, their data, and the images that are foreign to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skood.datasets import make_noise

from .._common.image_sets import read_images
from .._common.images import draw_rows

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
"""What the authors of the networks subtracted from each colour, and divided it by."""

TRAIN, TEST = "train", "test"

Images = NDArray[np.float32]


class Accuracy(NamedTuple):
    """Share of images that a network classifies right."""

    value: float
    n_images: int


@dataclass(frozen=True)
class Task:
    """A trained network and what it is tried on."""

    name: str
    """Of its images, its file of weights and the published features."""
    title: str
    n_classes: int
    accuracies: dict[str, Accuracy]
    """Of the network, on all training and all test images at hand."""
    near: tuple[str, ...]
    far: tuple[str, ...]
    line_percentiles: tuple[float, float]
    """Share of the activations and of the weights that LINe prunes, as published."""

    @property
    def outside(self) -> tuple[str, ...]:
        """Names of all sets of OOD images."""
        return (*self.near, *self.far, *NOISES)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Sets of OOD images that means are taken over."""
        return {
            "mean": (*self.near, *self.far),
            "near": self.near,
            "far": self.far,
            "noise": tuple(NOISES),
        }


OUTSIDE: dict[str, tuple[str, str]] = {
    "Tiny ImageNet": ("tiny_imagenet", "all"),
    "scenes": ("scenes", "all"),
    "CIFAR-100": ("cifar100", "test"),
    "CIFAR-10": ("cifar10", "test"),
    "street characters": ("streetview_chars", "all"),
    "traffic signs": ("gtsrb", "all"),
    "textures": ("textures", "all"),
}
"""What ``read_images`` takes for each set."""
NOISES = {"uniform noise": "uniform", "blobs": "blobs"}
N_NOISE = 500
"""Images of each kind of noise, at most: they are all alike."""
FAR = ("street characters", "traffic signs", "textures")

TASKS = {
    "cifar10": Task(
        name="cifar10",
        title="CIFAR-10",
        n_classes=10,
        accuracies={TRAIN: Accuracy(0.9999, 10_000), TEST: Accuracy(0.9454, 10_000)},
        near=("Tiny ImageNet", "CIFAR-100", "scenes"),
        far=FAR,
        line_percentiles=(90, 90),
    ),
    # Scenes are left out: sea, mountain, forest and road are among its classes.
    "cifar100": Task(
        name="cifar100",
        title="CIFAR-100",
        n_classes=100,
        accuracies={TRAIN: Accuracy(0.9944, 5_000), TEST: Accuracy(0.7504, 5_000)},
        near=("Tiny ImageNet", "CIFAR-10"),
        far=FAR,
        line_percentiles=(10, 90),
    ),
}


def load_images(
    task: Task, name: str, n_samples: int, seed: int
) -> tuple[Images, NDArray[np.int64]]:
    """Images of a set, scaled, and their classes; a random ``n_samples`` of them at most."""
    if name in NOISES:
        shape = (min(n_samples, N_NOISE), 3, 32, 32)
        X = make_noise(NOISES[name], shape, random_state=seed)
        return scale(X), np.full(len(X), -1)
    X, y = read_images(*((task.name, name) if name in (TRAIN, TEST) else OUTSIDE[name]))
    rows = draw_rows(len(X), n_samples, seed)
    return scale(X[rows]), y[rows]


def scale(X: Images) -> Images:
    """Images as the networks know them."""
    mean, std = (np.array(v, dtype=np.float32).reshape(3, 1, 1) for v in (MEAN, STD))
    return (X - mean) / std
