"""The network whose last hidden layer of 40 units the run-time monitors watch."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .._common.images import DATA
from .._common.networks import train_epoch

WEIGHTS = DATA / "models" / "mnist_cnn_kit.pt"
"""Published weights of this architecture, with which the published alarms were counted."""
MAPS = "conv2"
MONITORED = "relu_fc3"
"""Two of its layers: 20 maps of 8 x 8 pixels before their ReLU, and the 40 units watched."""


class Net(NamedTuple):
    module: nn.Module
    origin: str
    is_published: bool


def build() -> nn.Sequential:
    """Two convolutions and four linear layers; parameters are named as the weights are."""
    modules: list[tuple[str, nn.Module]] = [
        ("conv1", nn.Conv2d(1, 40, 5)),
        ("relu_conv1", nn.ReLU()),
        ("pool1", nn.MaxPool2d(2)),
        (MAPS, nn.Conv2d(40, 20, 5)),
        ("relu_conv2", nn.ReLU()),
        ("pool2", nn.MaxPool2d(2)),
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(320, 160)),
        ("relu_fc1", nn.ReLU()),
        ("fc2", nn.Linear(160, 80)),
        ("relu_fc2", nn.ReLU()),
        ("fc3", nn.Linear(80, 40)),
        (MONITORED, nn.ReLU()),
        ("fc4", nn.Linear(40, 10)),
    ]
    return nn.Sequential(OrderedDict(modules))


def get_net(X: NDArray, y: NDArray, *, train_anew: bool, epochs: int, seed: int) -> Net:
    """The network with its published weights, or, without these, trained here."""
    torch.manual_seed(seed)
    module = build()
    if WEIGHTS.exists() and not train_anew:
        module.load_state_dict(torch.load(WEIGHTS, weights_only=True))
        return Net(module.eval(), "published weights", is_published=True)
    train(module, X, y, epochs)
    origin = f"trained here: {epochs} epochs, Adam, learning rate 0.001, batches of 64, seed {seed}"
    return Net(module.eval(), origin, is_published=False)


def train(module: nn.Module, X: NDArray, y: NDArray, epochs: int) -> None:
    optimizer = torch.optim.Adam(module.parameters(), lr=0.001)
    for epoch in range(epochs):
        losses = train_epoch(module, optimizer, X, y, batch_size=64)
        print(f"epoch {epoch + 1} of {epochs}: mean loss {np.mean(losses):.4f}", flush=True)
