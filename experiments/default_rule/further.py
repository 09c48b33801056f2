"""Networks of other kinds than those that the rule was made on, as others may bring them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_blobs, make_classification
from torch import nn

from .._common.networks import train_epoch
from .tables import TableData, digits, learn_perceptron, synthetic

MakeNetwork = Callable[[int, int], nn.Module]
"""From the numbers of columns and of classes."""
EPOCHS = 25
EPOCHS_OF_IMAGES = 12


def convolutional(
    n_columns: int,
    n_classes: int,
    *,
    activation: type[nn.Module] = nn.ReLU,
    batch_norm: bool = False,
) -> nn.Module:
    """Three convolutions of small images, whose size is halved after two of them."""
    layers: list[nn.Module] = []
    n_channels = 1
    for width, is_halved in ((16, False), (32, True), (32, True)):
        layers.append(nn.Conv2d(n_channels, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width)] if batch_norm else []
        layers.append(activation())
        layers += [nn.MaxPool2d(2)] if is_halved else []
        n_channels = width
    head = (nn.Linear(n_columns * 32 // 16, 64), activation(), nn.Linear(64, n_classes))
    return nn.Sequential(*layers, nn.Flatten(), *head)


def perceptron(
    n_columns: int,
    n_classes: int,
    *,
    widths: tuple[int, ...],
    activation: type[nn.Module] = nn.ReLU,
    layer_norm: bool = False,
) -> nn.Module:
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Linear(n_columns, width))
        layers += [nn.LayerNorm(width)] if layer_norm else []
        layers.append(activation())
        n_columns = width
    return nn.Sequential(*layers, nn.Linear(n_columns, n_classes))


IMAGE_NETWORKS: dict[str, MakeNetwork] = {
    "digits CNN": convolutional,
    "digits CNN, BatchNorm": partial(convolutional, batch_norm=True),
    "digits CNN, BatchNorm, GELU": partial(convolutional, batch_norm=True, activation=nn.GELU),
}
PERCEPTRONS: dict[str, MakeNetwork] = {
    "tanh perceptron": partial(perceptron, widths=(128, 128, 128), activation=nn.Tanh),
    "LayerNorm, GELU perceptron": partial(
        perceptron, widths=(96, 96, 48), activation=nn.GELU, layer_norm=True
    ),
    "six-layer perceptron": partial(perceptron, widths=(64,) * 6),
}
NARROW = "perceptron of 16 units"


def blobs(seed: int) -> TableData:
    """Ten round clusters, two of which are held out."""
    X, y = make_blobs(2000, 10, centers=10, cluster_std=2.5, random_state=seed)
    held_out = [seed % 10, (seed + 3) % 10]
    return TableData(X, y, ~np.isin(y, held_out), learn_perceptron(seed))


def one_hot(seed: int) -> TableData:
    """Classes of unequal size, and twenty columns of which one is 1; a rare class is held out."""
    X, y = make_classification(
        4000, 10, n_informative=8, n_redundant=1, n_classes=6, n_clusters_per_class=1,
        weights=[0.35, 0.25, 0.2, 0.1, 0.06, 0.04], random_state=seed,
    )  # fmt: skip
    noise = np.random.default_rng(seed).normal(size=len(X))
    kinds = np.digitize(X[:, 0] + 0.5 * noise, np.linspace(-2, 2, 19))
    X = np.column_stack([X, np.eye(20)[kinds]])
    return TableData(X, y, y != 3 + seed % 3, learn_perceptron(seed))


DATA: dict[str, Callable[[int], TableData]] = {
    "digits": digits,
    "synthetic": synthetic,
    "blobs": blobs,
    "one-hot columns": one_hot,
}


def makers(data: str) -> dict[str, Callable[[int], TableData]]:
    """By kind of network, what makes its data and the way to train it from a seed."""
    found: dict[str, Callable[[int], TableData]] = {}
    if data == "digits":
        found |= {
            kind: partial(_of_images, DATA[data], make) for kind, make in IMAGE_NETWORKS.items()
        }
    found |= {kind: partial(_of_rows, DATA[data], make) for kind, make in PERCEPTRONS.items()}
    return {**found, NARROW: partial(_narrow, DATA[data])}


def _of_images(
    make_data: Callable[[int], TableData], make_network: MakeNetwork, seed: int
) -> TableData:
    data = _of_rows(make_data, make_network, seed, epochs=EPOCHS_OF_IMAGES)
    return data._replace(X=data.X.reshape(-1, 1, 8, 8))


def _of_rows(
    make_data: Callable[[int], TableData],
    make_network: MakeNetwork,
    seed: int,
    *,
    epochs: int = EPOCHS,
) -> TableData:
    data = make_data(seed)
    classes = np.unique(data.y[data.is_known])
    network = partial(make_network, data.X.shape[1], len(classes))
    return data._replace(
        X=data.X.astype(np.float32),
        # As the network numbers them; those that are held out are not asked for.
        y=np.searchsorted(classes, data.y),
        learn=partial(_train, network, seed, epochs),
    )


def _train(
    make_network: Callable[[], nn.Module], seed: int, epochs: int, X: NDArray, y: NDArray
) -> Any:
    torch.manual_seed(seed)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(epochs):
        train_epoch(network, optimizer, X, y, batch_size=64)
    return network.eval()


def _narrow(make_data: Callable[[int], TableData], seed: int) -> TableData:
    return make_data(seed)._replace(learn=learn_perceptron(seed, widths=(16,)))
