"""Networks that saved monitors watch, which whoever loads them makes anew, and questions."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from skood import Activations
from skood.activations import LinearHead

METHODS = ("score_samples", "decision_function", "predict", "p_values", "transform")


class SmallNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        return self.head(torch.mean(x, (2, 3)))


def classes_of(n, n_features, seed):
    """Rows of three classes, and their labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return rng.normal(size=(3, n_features))[y] + rng.normal(size=(n, n_features)), y


def few_activations():
    """Two small layers, of which the head reads one, and labels; the last rows are marked."""
    values, y = classes_of(66, 10, 2)
    values = np.maximum(values, 0).astype(np.float32)
    means = np.stack([values[y == c, 5:].mean(0) for c in range(3)])
    head = LinearHead(means - means.mean(0), np.zeros(3), "second")
    values[60:] = np.maximum(1 - values[60:], 0)
    layers = {"first": values[:, :5], "second": values[:, 5:]}
    A = Activations(layers, logits=head.logits(layers["second"]), head=head)
    return A, np.where(np.arange(66) < 60, y, -1)


def responses(estimator, X):
    """What an estimator says of rows, by the name of the method."""
    found = {}
    for name in METHODS:
        try:
            found[name] = np.asarray(getattr(estimator, name)(X))
        except (AttributeError, ValueError):  # which it has not, or not without calibration
            continue
    assert found
    return found
