"""The network of the layer pattern experiment, and the sets of images that it is shown."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from torch import nn

from skood import ActivationExtractor, Activations
from skood.calibration import prediction_confidence
from skood.datasets import make_noise
from skood.training import TrainingRecorder

from .._common.image_sets import read_images
from .._common.networks import predicted_classes, train_epoch

DIGITS = np.array([0, 2, 3, 4, 6, 7, 8, 9])
"""What the network learns. Its classes are the positions of the digits in this array."""
N_PIXELS = 28 * 28
CONFIDENT = 0.8
"""Confidence above which noise is kept."""


@dataclass(frozen=True)
class Experiment:
    """A trained network and what it makes of each set of images."""

    network: nn.Module
    recorder: TrainingRecorder
    train: Activations
    normal: Activations
    labels: NDArray
    outside: dict[str, Activations]
    images: dict[str, NDArray]
    """Pixels of the normal digits and of each set of other images."""
    n_noise_drawn: int
    n_noise_confident: int

    @property
    def is_correct(self) -> NDArray[np.bool_]:
        """Which of the normal test digits the network classifies right."""
        return np.equal(predicted_classes(self.normal), self.labels)

    @property
    def accuracy(self) -> float:
        return float(self.is_correct.mean())

    @property
    def sets(self) -> dict[str, Activations]:
        """All test samples, with the normal ones divided by what became of them."""
        return {
            "correct": self.normal[self.is_correct],
            "misclassified": self.normal[~self.is_correct],
            **self.outside,
        }

    def transform(self, transformer: TransformerMixin) -> Experiment:
        """The same samples after a transformer that learns nothing."""
        return replace(
            self,
            train=transformer.fit_transform(self.train),
            normal=transformer.transform(self.normal),
            outside={name: transformer.transform(A) for name, A in self.outside.items()},
        )


@dataclass(frozen=True)
class Settings:
    """Sizes of the network and of the sets."""

    widths: Sequence[int] = (256, 256, 256, 256, 256)
    """Of three hidden layers or more."""
    pre_activations: bool = False
    """Whether the values before the ReLU are looked at."""
    n_test: int | None = None
    """Test digits, all by default."""
    n_fit: int = 20_000
    """Training digits that detectors learn."""
    n_noise_drawn: int = 5_000
    n_noise: int = 2_000
    """Noise images used, at most: those on which the network is confident."""
    n_per_source: int = 500
    """Images of each kind that classifiers of the progression learn from, at most."""


QUICK = Settings(
    widths=(64, 64, 64), n_test=800, n_fit=400, n_noise_drawn=200, n_noise=60, n_per_source=20
)


def run_network(settings: Settings, seed: int) -> Experiment:
    """Train the network and extract the activations of all sets."""
    X, y = load_digits("train")
    X_test, y_test = load_digits("test", settings.n_test)
    is_known, is_normal = np.isin(y, DIGITS), np.isin(y_test, DIGITS)
    X, classes = X[is_known], np.searchsorted(DIGITS, y[is_known])
    torch.manual_seed(seed)
    network = fully_connected(settings.widths)
    recorder = train(network, X, classes)
    layers = "fc*" if settings.pre_activations else "relu*"
    extractor = ActivationExtractor(network, layers=layers).fit(X[:1])
    pixels = make_noise("uniform", (settings.n_noise_drawn, N_PIXELS), random_state=seed)
    noise = extractor.transform(pixels)
    confident = np.flatnonzero(prediction_confidence(noise) > CONFIDENT)
    images = {
        "normal": X_test[is_normal],
        "ones": X_test[y_test == 1],
        "fives": X_test[y_test == 5],
        "noise": pixels[confident[: settings.n_noise]],
    }
    return Experiment(
        network=network,
        recorder=recorder,
        train=extractor.transform(X[: settings.n_fit]),
        normal=extractor.transform(images["normal"]),
        labels=np.searchsorted(DIGITS, y_test[is_normal]),
        outside={name: extractor.transform(images[name]) for name in ("ones", "fives", "noise")},
        images=images,
        n_noise_drawn=len(noise),
        n_noise_confident=len(confident),
    )


def load_digits(
    subset: str, n_images: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    X, y = read_images("mnist", subset)
    return X[:n_images].reshape(-1, N_PIXELS), y[:n_images]


def fully_connected(widths: Sequence[int]) -> nn.Sequential:
    """Dense layers "fc1", "relu1", "fc2", ..., all biases 1."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    n_inputs = N_PIXELS
    for number, width in enumerate(widths, start=1):
        modules[f"fc{number}"] = nn.Linear(n_inputs, width)
        modules[f"relu{number}"] = nn.ReLU()
        n_inputs = width
    modules["output"] = nn.Linear(n_inputs, len(DIGITS))
    for module in modules.values():
        if isinstance(module, nn.Linear):
            nn.init.ones_(module.bias)
    return nn.Sequential(modules)


def train(network: nn.Module, X: NDArray, classes: NDArray) -> TrainingRecorder:
    """Train for one epoch, and record what the neurons do meanwhile."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    with TrainingRecorder(network) as recorder:
        train_epoch(network, optimizer, X, classes, batch_size=100)
    network.eval()
    return recorder
