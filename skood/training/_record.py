"""What was seen of the hidden neurons of a network in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..extraction._weight_layers import WeightLayer
from ._tail_mean import TailMean


class Record:
    """Activation counts and gradients so far.

    Parameters
    ----------
    hidden : list of WeightLayer
        The hidden layers with weights.
    signed : bool
        Whether gradients are added with their signs.
    """

    def __init__(self, hidden: list[WeightLayer], *, signed: bool) -> None:
        self.n_units = {layer.name: layer.n_units for layer in hidden}
        self.signed = signed
        self.gradients = TailMean(sum(self.n_units.values()))
        self._n_weights = {layer.name: layer.n_weights for layer in hidden}
        self._counts = {
            layer: torch.zeros(width, dtype=torch.int64) for layer, width in self.n_units.items()
        }

    def is_of(self, hidden: list[WeightLayer], signed: bool) -> bool:
        """Whether it can go on with such layers."""
        n_units = {layer.name: layer.n_units for layer in hidden}
        return (self.n_units, self.signed) == (n_units, signed)

    def add_counts(self, layer: str, n_active: Tensor) -> None:
        """Add numbers of batches on which the neurons of a layer were active."""
        self._counts[layer] = self._counts[layer].to(n_active.device) + n_active

    def activation_counts(self) -> dict[str, NDArray[np.int64]]:
        """How often each neuron was active, by layer."""
        return {layer: counts.cpu().numpy().copy() for layer, counts in self._counts.items()}

    def average_gradients(self, last_share: float) -> dict[str, NDArray[np.float64]]:
        """Mean magnitude, or sum, of the gradients of each neuron's incoming weights, by layer."""
        mean, n_iterations = self.gradients.last(last_share)
        by_layer = mean.split(list(self.n_units.values()))
        return {
            layer: values.numpy() * (n_iterations if self.signed else 1 / self._n_weights[layer])
            for layer, values in zip(self.n_units, by_layer, strict=True)
        }

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled on a machine with an accelerator is read on one without.
        counts = {layer: counts.cpu() for layer, counts in self._counts.items()}
        return {**self.__dict__, "_counts": counts}
