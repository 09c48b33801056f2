"""The network that the CIFAR experiment monitors: a DenseNet of 100 layers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

GROWTH = 12
N_LAYERS = 16
"""Bottleneck layers in each of the three blocks."""


class Bottleneck(nn.Module):
    """Adds ``GROWTH`` channels to those that it is given."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(n_in, 4 * GROWTH, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * GROWTH)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.relu1(self.bn1(x)))
        new = self.conv2(self.relu2(self.bn2(new)))
        return torch.cat([x, new], dim=1)


class DenseBlock(nn.Module):
    """Bottleneck layers, each of which reads what all those before it gave."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(Bottleneck(n_in + GROWTH * i) for i in range(N_LAYERS)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Transition(nn.Module):
    """Halves the number of channels, the height and the width."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(n_in, n_in // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(self.conv1(self.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    """Three dense blocks for images of 32 x 32 pixels; its head reads 342 features.

    Parameters and modules with parameters have the names of the published checkpoints.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        grown = GROWTH * N_LAYERS
        n_first = 2 * GROWTH
        n_second = (n_first + grown) // 2
        n_third = (n_second + grown) // 2
        n_features = n_third + grown
        self.conv1 = nn.Conv2d(3, n_first, 3, padding=1, bias=False)
        self.block1 = DenseBlock(n_first)
        self.trans1 = Transition(n_first + grown)
        self.block2 = DenseBlock(n_second)
        self.trans2 = Transition(n_second + grown)
        self.block3 = DenseBlock(n_third)
        self.bn1 = nn.BatchNorm2d(n_features)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(n_features, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trans1(self.block1(self.conv1(x)))
        x = self.trans2(self.block2(x))
        x = self.relu(self.bn1(self.block3(x)))
        return self.fc(x.mean(dim=(2, 3)))


def load_densenet(file: Path, n_classes: int) -> DenseNet:
    """A trained network, from a file that holds its state dict and nothing else."""
    network = DenseNet(n_classes)
    network.load_state_dict(torch.load(file, weights_only=True))
    # Processors run this network about one and a half times as fast with the channels last.
    nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()
