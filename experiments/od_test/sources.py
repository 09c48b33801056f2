"""The sources, the sets that are foreign to each, and which of both the default was chosen on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from skood.datasets import make_noise

from .._common.image_sets import read_images
from .._common.images import draw_rows
from ..cifar_shaping.data import scale

Images = NDArray[np.float32]

SETS: dict[str, tuple[str, str]] = {
    "MNIST": ("mnist", "test"),
    "Fashion-MNIST": ("fashion_mnist", "test"),
    "KMNIST": ("kmnist", "test"),
    "notMNIST": ("notmnist", "all"),
    "USPS": ("usps", "test"),
    "CIFAR-10": ("cifar10", "test"),
    "CIFAR-100": ("cifar100", "test"),
    "Tiny ImageNet": ("tiny_imagenet", "all"),
    "scenes": ("scenes", "all"),
    "textures": ("textures", "all"),
    "traffic signs": ("gtsrb", "all"),
    "street characters": ("streetview_chars", "all"),
}
"""What ``read_images`` takes for each set."""
NOISES = {"uniform noise": "uniform", "blobs": "blobs"}
ALL_SETS = (*SETS, *NOISES)

CHOICE = frozenset(
    {"Fashion-MNIST", "KMNIST", "Tiny ImageNet", "CIFAR-10", "traffic signs", "textures"}
    | {"uniform noise"}
)
"""The sets that the default rule was chosen on. The others were looked at when it stood."""


SEARCHED = ("Tiny ImageNet", "textures", "uniform noise", "MNIST", "street characters", "blobs")
"""The sets that a search is tried on where it takes minutes: on the DenseNets."""


class Sizes(NamedTuple):
    """How many images of a source are seen, and of each other set, at most."""

    n_train: int = 5_000
    n_test: int = 4_000
    n_outside: int = 1_000
    n_network: int = 50_000
    """That a network is trained on, where it is trained here."""
    epochs: int = 4


QUICK = Sizes(n_train=200, n_test=100, n_outside=40, n_network=600, epochs=1)
QUICK_SETS = ("notMNIST", "uniform noise")
"""Near and far; the rule was chosen on one of them."""


@dataclass(frozen=True)
class Source:
    """A set of images, and a network that was trained on it."""

    name: str
    """Of the set: a key of ``SETS``."""
    network: str
    """A key of ``nets.TRAINED``, or "DenseNet"."""
    n_classes: int
    near: tuple[str, ...]
    """Sets that resemble it; the others are far."""
    unused: tuple[str, ...] = ()
    """Sets that hold images of its classes."""
    is_chosen_on: bool = True
    """Whether the default rule was chosen on this network."""

    @property
    def title(self) -> str:
        return f"{self.name}, {self.network}"

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.network}".lower()

    @property
    def is_grey(self) -> bool:
        return "MNIST" in self.name

    @property
    def outside(self) -> tuple[str, ...]:
        """Names of all OOD sets."""
        return tuple(name for name in ALL_SETS if name not in (self.name, *self.unused))

    @property
    def searched(self) -> tuple[str, ...]:
        """Sets that a search is configured by, and tested on."""
        is_slow = self.network == "DenseNet"
        return tuple(name for name in self.outside if name in SEARCHED or not is_slow)

    @property
    def far(self) -> tuple[str, ...]:
        return tuple(name for name in self.outside if name not in self.near)


# USPS shows digits too. Scenes, and some images of Tiny ImageNet, show what CIFAR-100 has classes
# for; of Tiny ImageNet it is few.
SOURCES = (
    Source("MNIST", "VGG", 10, ("KMNIST", "notMNIST", "Fashion-MNIST"), ("USPS",)),
    Source("MNIST", "ResNet", 10, ("KMNIST", "notMNIST", "Fashion-MNIST"), ("USPS",),
           is_chosen_on=False),
    Source("Fashion-MNIST", "VGG", 10, ("MNIST", "KMNIST", "notMNIST", "USPS")),
    Source("Fashion-MNIST", "ResNet", 10, ("MNIST", "KMNIST", "notMNIST", "USPS"),
           is_chosen_on=False),
    Source("CIFAR-10", "DenseNet", 10, ("CIFAR-100", "Tiny ImageNet", "scenes")),
    Source("CIFAR-100", "DenseNet", 100, ("CIFAR-10", "Tiny ImageNet"), ("scenes",)),
)  # fmt: skip


def load_source(source: Source, subset: str, n_images: int) -> tuple[Images, NDArray[np.int64]]:
    """Images of the set of the source, "train" or "test", as its network takes them."""
    X, y = read_images(SETS[source.name][0], subset)
    # Of the set that the network learnt from, the first; their order is random already.
    rows = np.arange(len(X))[:n_images] if subset == "train" else draw_rows(len(X), n_images, 0)
    return _as_inputs(source, X[rows]), y[rows]


def load_outside(source: Source, name: str, n_images: int) -> Images:
    """Images of an OOD set, a random ``n_images`` of them at most."""
    if name in NOISES:
        shape = (n_images, 1, 28, 28) if source.is_grey else (n_images, 3, 32, 32)
        return _as_inputs(source, make_noise(NOISES[name], shape, random_state=0))
    X, _ = read_images(*SETS[name])
    return _as_inputs(source, X[draw_rows(len(X), n_images, 0)])


def _as_inputs(source: Source, X: Images) -> Images:
    if source.is_grey:
        return _resize(X.mean(axis=1, keepdims=True), 28)
    return scale(_resize(np.broadcast_to(X, (len(X), 3, *X.shape[2:])), 32))


def _resize(X: Images, size: int) -> Images:
    if X.shape[2:] == (size, size):
        return X
    return zoom(X, (1, 1, size / X.shape[2], size / X.shape[3]), order=1).clip(0, 1)
