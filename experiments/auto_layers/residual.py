"""Small residual networks: blocks alone, and the activation functions beside them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from skood import ActivationExtractor, PoolingReducer

from .deep import measure

UNKNOWN = (8, 9)
N_EPOCHS = 20


class Block(nn.Module):
    """Two convolutions and a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.relu = nn.ReLU()
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.second(self.relu(self.first(x))))


def make_network() -> nn.Module:
    """Two blocks between plain convolutions."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        Block(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        Block(32),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 32),
        nn.ReLU(),
        nn.Linear(32, 8),
    )


def compare_rules(n_seeds: int) -> list[list[str]]:
    """A line for each rule, means over the seeds."""
    lines: dict[str, list[list[float]]] = {}
    for seed in range(n_seeds):
        for rule, values in compare_once(seed).items():
            lines.setdefault(rule, []).append(values)
    return [
        [rule, *(f"{mean:.{digits}f}" for mean, digits in zip(means, (0, 1, 1, 2, 2), strict=True))]
        for rule, values in lines.items()
        for means in [np.mean(values, axis=0)]
    ]


def compare_once(seed: int) -> dict[str, list[float]]:
    images, digits = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    known = ~np.isin(digits, UNKNOWN)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(known))
    learnt, tested = order[:1000], order[1000:]
    network = train(images[learnt], digits[learnt], seed)
    extractor = ActivationExtractor(network, layers="all", reducer=PoolingReducer())
    extract = extractor.fit(images).transform
    sets = {"near": extract(images[~known]), "far": extract(np.rot90(images[tested], axes=(2, 3)))}
    auto = ActivationExtractor(network, reducer=PoolingReducer()).fit(images).layers_
    blocks = [name for name, module in network.named_modules() if isinstance(module, Block)]
    A = extract(images[learnt])
    assert A.head is not None
    rules = {
        "blocks alone": [*blocks, A.head.input_layer],
        "blocks, and activation functions outside of them": auto,
        "all activation functions, also in blocks": [*auto, *(f"{n}.relu[0]" for n in blocks)],
    }
    results = {}
    for rule, layers in rules.items():
        names = [str(c.name) for c in A.columns if c.role == "layer" and c.layer in layers]
        results[rule] = list(map(float, measure(network, names, A, extract(images[tested]), sets)))
    return results


def train(images: NDArray, digits: NDArray, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    X, y = torch.from_numpy(images), torch.from_numpy(digits)
    for _ in range(N_EPOCHS):
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
            optimizer.step()
    return network.eval()
