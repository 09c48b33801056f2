"""What experiments do with networks: train them, and count what they get right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from numpy.typing import NDArray
from torch import nn

from skood import Activations


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    X: NDArray,
    y: NDArray,
    *,
    batch_size: int,
    after_step: Callable[[], None] | None = None,
) -> list[float]:
    """One pass over all samples in random order; the cross entropy of each batch."""
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
    losses = []
    for rows in torch.randperm(len(X)).split(batch_size):
        loss = nn.functional.cross_entropy(network(inputs[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if after_step is not None:
            after_step()
        losses.append(loss.item())
    return losses


def predicted_classes(A: Activations) -> NDArray:
    """The predictions, which every classifier gives."""
    assert A.predictions is not None
    return A.predictions
