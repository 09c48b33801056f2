"""Training the networks, and what their layers hold of all samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from skood import ActivationExtractor, make_monitor

from .._common.networks import predicted_classes
from .data import LENGTH, N_WORDS, Data, make_images, make_texts
from .nets import Swin, TextNet, VisionTransformer
from .poolings import DEFAULT, auroc, compare


@dataclass(frozen=True)
class Kind:
    """A network and its data."""

    make_data: Callable[[int, int, int], Data]
    make_network: Callable[[int], nn.Module]
    n_train: int
    epochs: int


class Sizes(NamedTuple):
    """How much is trained, and on how many seeds."""

    choice_seeds: tuple[int, ...] = (0, 1, 2)
    report_seeds: tuple[int, ...] = (3, 4, 5)
    n_test: int = 400
    share: float = 1.0
    """Of the samples and epochs that each network is trained on."""


QUICK = Sizes((0,), (1,), n_test=60, share=0.15)

KINDS = {
    "text": Kind(make_texts, lambda n: TextNet(N_WORDS, LENGTH, n), 1500, 12),
    "vision transformer": Kind(make_images, VisionTransformer, 1000, 25),
    "Swin": Kind(make_images, Swin, 1000, 25),
}

AurocBySet = dict[str, float]


class Run(NamedTuple):
    """What one network gave."""

    accuracy: float
    by_pooling: dict[str, AurocBySet]


def run(kind: Kind, seed: int, sizes: Sizes) -> Run:
    """Train a network, and compare what may be kept of its tokens."""
    torch.manual_seed(seed)
    data = kind.make_data(seed, int(sizes.share * kind.n_train), sizes.n_test)
    network = kind.make_network(data.n_classes)
    train(network, data, max(1, round(sizes.share * kind.epochs)))
    extractor = ActivationExtractor(network).fit(data.X_train)
    train_set, test = (extractor.transform(X) for X in (data.X_train, data.X_test))
    outside = {name: extractor.transform(X) for name, X in data.outside.items()}
    by_pooling = compare(train_set, test, outside)
    by_pooling[DEFAULT] = score_by_default(network, data)
    right = predicted_classes(test) == data.y_test
    return Run(float(right.mean()), by_pooling)


def score_by_default(network: nn.Module, data: Data) -> AurocBySet:
    """AUROC of a monitor that is given the inputs."""
    monitor = make_monitor(network).fit(data.X_train)
    inside = monitor.score_samples(data.X_test)
    return {name: auroc(inside, monitor.score_samples(X)) for name, X in data.outside.items()}


def train(network: nn.Module, data: Data, epochs: int, *, batch_size: int = 64) -> None:
    """Adam with one cycle of learning rates."""
    y = torch.from_numpy(data.y_train)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    n_steps = epochs * -(-len(y) // batch_size)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=n_steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(batch_size):
            loss = nn.functional.cross_entropy(call(network, data.X_train, rows), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
    network.eval()


def call(network: nn.Module, X: Any, rows: torch.Tensor) -> torch.Tensor:
    if isinstance(X, Mapping):
        return network(**{name: torch.from_numpy(values)[rows] for name, values in X.items()})
    return network(torch.from_numpy(X)[rows])
