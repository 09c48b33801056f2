"""The network that is monitored."""

from __future__ import annotations

from pathlib import Path

import torch
from numpy.typing import NDArray
from torch import nn

from .._common.networks import train_epoch

BATCH_SIZE = 128


def small_vgg(n_classes: int = 10) -> nn.Sequential:
    """Five convolutions of 16 to 64 channels with batch norm and ReLU, one hidden layer of 128."""

    def convolution(n_in: int, n_out: int) -> list[nn.Module]:
        return [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]

    return nn.Sequential(
        *convolution(1, 16),
        *convolution(16, 32),
        nn.MaxPool2d(2),
        *convolution(32, 32),
        *convolution(32, 64),
        nn.MaxPool2d(2),
        *convolution(64, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 9, 128),
        nn.ReLU(),
        nn.Linear(128, n_classes),
    )


def train(net: nn.Module, X: NDArray, y: NDArray, *, epochs: int, seed: int) -> None:
    """Train by Adam with a learning rate that falls to zero."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    n_steps = epochs * -(-len(X) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    net.train()
    for epoch in range(epochs):
        losses = train_epoch(net, optimizer, X, y, batch_size=BATCH_SIZE, after_step=schedule.step)
        print(f"epoch {epoch + 1} of {epochs}: loss of the last batch {losses[-1]:.4f}")
    net.eval()


def trained_net(
    X: NDArray, y: NDArray, *, epochs: int, seed: int, weights: Path | None
) -> nn.Module:
    """A trained net, read from the file ``weights`` where it exists, or else kept there."""
    torch.manual_seed(seed)
    net = small_vgg()
    if weights is not None and weights.exists():
        net.load_state_dict(torch.load(weights, weights_only=True))
        return net.eval()
    train(net, X, y, epochs=epochs, seed=seed)
    if weights is not None:
        torch.save(net.state_dict(), weights)
    return net
