"""The network and its training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from torch.utils.data import Subset

from skood.training import DenoisingClassifier

from .digits import Digits


class Training(NamedTuple):
    epochs: int
    width: int
    batch_size: int
    lr: float
    """The highest learning rate."""
    seed: int
    device: str


def hold_out_first(dataset: Any, y: Any, n_held_out: int) -> tuple[Subset, Subset]:
    rows = range(len(dataset))
    return Subset(dataset, rows[n_held_out:]), Subset(dataset, rows[:n_held_out])


def make_net(digits: Digits, training: Training, **params: Any) -> DenoisingClassifier:
    n_batches = -(-digits.n_train // training.batch_size)
    schedule = LRScheduler(
        policy=torch.optim.lr_scheduler.OneCycleLR,
        max_lr=training.lr,
        total_steps=training.epochs * n_batches,
        step_every="batch",
    )
    return DenoisingClassifier(
        **{"module__width": training.width} | params,
        max_epochs=training.epochs,
        batch_size=training.batch_size,
        # They are in random order already.
        iterator_train__shuffle=False,
        train_split=partial(hold_out_first, n_held_out=digits.n_held_out),
        callbacks=[("schedule", schedule)],
        device=training.device,
        random_state=training.seed,
    )


def trained_net(digits: Digits, training: Training, weights: Path | None) -> DenoisingClassifier:
    """A trained net, its weights read from a file where it exists, or else kept there."""
    if weights is not None and weights.exists():
        classes = np.unique(digits.y_train)
        sizes = {"module__n_channels": 1, "module__n_classes": len(classes)}
        net = make_net(digits, training, classes=classes, **sizes).initialize()
        net.load_params(weights)
        return net
    net = make_net(digits, training).fit(digits.X_train, digits.y_train)
    if weights is not None:
        net.save_params(weights)
    return net
