"""Activation counts and gradients of the hidden neurons of a network in training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._side_by_side import split_layers
from ..networks import WeightLayer

_MAX_WAITING = 64
_GOLDEN_RATIO = 0.6180339887498949


class Settings(NamedTuple):
    """What is recorded: the parameters of a ``TrainingRecorder``."""

    last_fraction: float
    signed: bool
    include_bias: bool
    read_fraction: float


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
            last_fraction=settings.last_fraction,
            read_fraction=settings.read_fraction,
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
        """Whether recording can go on with such layers and settings."""
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
        """Record that samples have activated units of a layer."""
        self._was_active[layer][units] = True

    def ever_active(self) -> dict[str, NDArray[np.bool_]]:
        """Whether any sample activated each neuron, by layer."""
        return {layer: active.numpy().copy() for layer, active in self._was_active.items()}

    def activation_counts(self) -> dict[str, NDArray[np.int64]]:
        """How often each neuron was active, by layer."""
        return {layer: counts.cpu().numpy().copy() for layer, counts in self._counts.items()}

    def average_gradients(self, last_fraction: float) -> dict[str, NDArray[np.float64]]:
        """Mean magnitude, or sum, of the gradients of each neuron's incoming weights, by layer."""
        mean, n_iterations = self.gradients.last(last_fraction)
        signed = self.settings.signed
        return {
            layer: values * (n_iterations if signed else 1 / self._n_incoming[layer])
            for layer, values in split_layers(mean, self.n_units).items()
        }

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled on a machine with an accelerator is read on one without.
        counts = {layer: counts.cpu() for layer, counts in self._counts.items()}
        return {**self.__dict__, "_counts": counts}


class GradientHistory:
    """Vectors of iterations, kept as long as the last iterations may include them.

    Where the last share of the iterations begins is known at the end only, so each vector is kept
    until that beginning, which only moves forward, has passed it.

    Parameters
    ----------
    length : int
        Length of the vectors.
    last_fraction : float
        The largest share of the iterations, the last ones, that ``last`` is called with.
    read_fraction : float
        Share of the iterations whose vector is read. They follow no period, as the iterations
        themselves may.
    """

    def __init__(self, length: int, *, last_fraction: float, read_fraction: float) -> None:
        self.length = length
        self.last_fraction = last_fraction
        self.read_fraction = read_fraction
        self.n_iterations = 0
        self._chunks: list[tuple[NDArray[np.int64], NDArray[np.floating]]] = []
        self._waiting: list[tuple[int, Tensor]] = []

    def begin_iteration(self) -> bool:
        """Count one more iteration; return whether its vector is read."""
        self.n_iterations += 1
        return bool(self._is_read(self.n_iterations - 1))

    def add(self, values: Tensor) -> None:
        """Add to the vector of the present iteration, which is zeros if nothing is added."""
        if self._waiting and self._waiting[0][1].device != values.device:
            self.flush()
        self._waiting.append((self.n_iterations - 1, values))
        if len(self._waiting) == _MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Move waiting vectors out of the device's memory, and delete those no longer needed."""
        if not self._waiting:
            return
        numbers, vectors = zip(*self._waiting, strict=True)
        self._chunks.append((np.array(numbers), torch.stack(vectors).cpu().numpy()))
        self._waiting.clear()
        first = self._first_read(self.last_fraction)
        self._chunks = [chunk for chunk in self._chunks if chunk[0][-1] >= first]

    def last(self, share: float) -> tuple[NDArray[np.float64], int]:
        """The mean over the last share of the iterations, one at least, and their number.

        Raises
        ------
        ValueError
            If the share is larger than what was kept.
        """
        if share > self.last_fraction:
            raise ValueError(
                f"Gradients were recorded for last_fraction={self.last_fraction}, those before are "
                f"not kept: last_fraction can be lowered afterwards but not raised, got {share}."
            )
        self.flush()
        first = self._first_read(share)
        total = np.zeros(self.length)
        for numbers, vectors in self._chunks:
            total += vectors[numbers >= first].sum(axis=0, dtype=np.float64)
        n_read = np.count_nonzero(self._is_read(np.arange(first, self.n_iterations)))
        return total / n_read, self._n_last(share)

    def _n_last(self, share: float) -> int:
        return max(1, round(share * self.n_iterations))

    def _first_read(self, share: float) -> int:
        """The first iteration of the last share, or a read one before where it has none."""
        first = self.n_iterations - self._n_last(share)
        while first > 0 and not self._is_read(np.arange(first, self.n_iterations)).any():
            first -= 1
        return first

    def _is_read(self, number: Any) -> Any:
        # The very first is always read.
        return number * _GOLDEN_RATIO % 1 < self.read_fraction

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled on a machine with an accelerator is read on one without.
        self.flush()
        return self.__dict__.copy()
