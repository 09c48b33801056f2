"""What was seen of the hidden neurons of a network in training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..networks import WeightLayer
from ._gradient_history import GradientHistory


class Settings(NamedTuple):
    """What is recorded: the parameters of a ``TrainingRecorder``."""

    last_share: float
    signed: bool
    include_bias: bool
    read_share: float


class Record:
    """Activation counts and gradients so far.

    Parameters
    ----------
    hidden : list of WeightLayer
        The hidden layers with weights.
    settings : Settings
        What is recorded.
    """

    def __init__(self, hidden: list[WeightLayer], settings: Settings) -> None:
        self.settings = settings
        self.n_units = {layer.name: layer.n_units for layer in hidden}
        self.gradients = GradientHistory(
            sum(self.n_units.values()),
            last_share=settings.last_share,
            read_share=settings.read_share,
        )
        self._n_incoming = {
            layer.name: layer.n_weights + self.reads_bias(layer) for layer in hidden
        }
        self._counts = {
            layer: torch.zeros(width, dtype=torch.int64) for layer, width in self.n_units.items()
        }
        self._was_active = {
            layer: torch.zeros(width, dtype=torch.bool) for layer, width in self.n_units.items()
        }

    def is_of(self, hidden: list[WeightLayer], settings: Settings) -> bool:
        """Whether it can go on with such layers."""
        n_units = {layer.name: layer.n_units for layer in hidden}
        return (self.n_units, self.settings) == (n_units, settings)

    def reads_bias(self, layer: WeightLayer) -> bool:
        """Whether the layer has a bias whose gradient is recorded."""
        return self.settings.include_bias and layer.module.bias is not None

    def add_counts(self, layer: str, n_active: Tensor) -> None:
        """Add numbers of batches on which the neurons of a layer were active."""
        self._counts[layer] = self._counts[layer].to(n_active.device) + n_active

    def never_active(self, layer: str) -> Tensor:
        """Which units of a layer no sample has activated yet, of shape (n_never,)."""
        return torch.nonzero(~self._was_active[layer]).flatten()

    def add_active(self, layer: str, units: Tensor) -> None:
        """Tell that samples have activated units of a layer."""
        self._was_active[layer][units] = True

    def ever_active(self) -> dict[str, NDArray[np.bool_]]:
        """Whether any sample activated each neuron, by layer."""
        return {layer: active.numpy().copy() for layer, active in self._was_active.items()}

    def activation_counts(self) -> dict[str, NDArray[np.int64]]:
        """How often each neuron was active, by layer."""
        return {layer: counts.cpu().numpy().copy() for layer, counts in self._counts.items()}

    def average_gradients(self, last_share: float) -> dict[str, NDArray[np.float64]]:
        """Mean magnitude, or sum, of the gradients of each neuron's incoming weights, by layer."""
        mean, n_iterations = self.gradients.last(last_share)
        signed = self.settings.signed
        by_layer = np.split(mean, np.cumsum(list(self.n_units.values()))[:-1])
        return {
            layer: values * (n_iterations if signed else 1 / self._n_incoming[layer])
            for layer, values in zip(self.n_units, by_layer, strict=True)
        }

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled on a machine with an accelerator is read on one without.
        counts = {layer: counts.cpu() for layer, counts in self._counts.items()}
        return {**self.__dict__, "_counts": counts}
