"""What the hidden neurons of a network do in training, and the hooks that collect it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.hooks import RemovableHandle

from ..extraction._weight_layers import WeightLayer
from ._tail_sums import TailSums, add_to, to_cpu


class Record:
    """Activation counts and gradients of a network so far.

    Parameters
    ----------
    hidden : list of WeightLayer
        Its hidden layers with weights.
    signed : bool
        Whether to sum gradients with their signs.
    """

    def __init__(self, hidden: list[WeightLayer], *, signed: bool) -> None:
        self._network: nn.Module | None = None
        self._signed = signed
        self._n_units = {layer.name: layer.n_units for layer in hidden}
        self._n_weights = {layer.name: layer.n_weights for layer in hidden}
        self._counts: dict[str, Tensor] = {}
        self._gradients = TailSums()

    @property
    def n_iterations(self) -> int:
        """Number of backward passes."""
        return self._gradients.n_iterations

    def activation_counts(self) -> dict[str, NDArray[np.int64]]:
        """How often each neuron was active, by layer."""
        counts = to_cpu(self._counts)
        return {
            layer: counts[layer].numpy().copy() if layer in counts else np.zeros(width, np.int64)
            for layer, width in self._n_units.items()
        }

    def average_gradients(self, last_share: float) -> dict[str, NDArray[np.float64]]:
        """Mean magnitude, or sum, of the gradients of each neuron's incoming weights."""
        sums, n_iterations = self._gradients.last(last_share)
        averages = {}
        for layer, width in self._n_units.items():
            total = sums[layer].double().numpy() if layer in sums else np.zeros(width)
            n_gradients = n_iterations * self._n_weights[layer]
            averages[layer] = total if self._signed else total / n_gradients
        return averages

    def is_of(self, network: nn.Module, hidden: list[WeightLayer], *, signed: bool) -> bool:
        """Whether it can go on with a network; one that was pickled tells it by its layers."""
        same_network = self._network is None or self._network is network
        n_units = {layer.name: layer.n_units for layer in hidden}
        return same_network and (self._n_units, self._signed) == (n_units, signed)

    def listen(
        self, network: nn.Module, hidden: list[WeightLayer], output: WeightLayer
    ) -> ExitStack:
        """Set the hooks; they are removed when what is returned is closed."""
        self._network = network
        with ExitStack() as hooks:
            for layer in hidden:
                count = _Hook(partial(self._count, layer))
                hooks.enter_context(layer.last_module.register_forward_hook(count))
                add = partial(self._add_gradient, layer)
                hooks.enter_context(_hook_gradient(layer.module, add))
            # All hidden layers may be frozen.
            reach = partial(self._reach, output)
            hooks.enter_context(_hook_gradient(output.module, reach))
            return hooks.pop_all()

    def _reach(self, layer: WeightLayer, gradient: Tensor) -> None:
        self._gradients.reach(layer.name)

    def _count(self, layer: WeightLayer, module: nn.Module, args: tuple, output: Tensor) -> None:
        network = cast(nn.Module, self._network)
        if not (network.training and torch.is_grad_enabled()):
            return
        values = output.detach()
        if values.ndim > layer.n_axes:
            if len(values) == 0:
                return
            values = values[0]
        active = values > 0
        if active.ndim > 1:
            first = layer.has_units_first
            active = active.flatten(1).any(1) if first else active.flatten(0, -2).any(0)
        add_to(self._counts, layer.name, active)

    def _add_gradient(self, layer: WeightLayer, gradient: Tensor) -> None:
        self._gradients.reach(layer.name)
        gradient = gradient.detach()
        by_unit = layer.by_unit(gradient if self._signed else gradient.abs())
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        self._gradients.add(layer.name, by_unit.sum((2, 3), dtype=dtype).flatten())

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled on a machine with an accelerator is read on one without.
        return {**self.__dict__, "_network": None, "_counts": to_cpu(self._counts)}


class _Hook:
    """Calls a function; in a copy of the module that it is a hook of, it does nothing."""

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> None:
        self._function(*args)

    def __reduce__(self) -> tuple:
        return _Hook, (_do_nothing,)


def _do_nothing(*args: Any) -> None:
    pass


def _hook_gradient(module: Any, function: Callable[[Tensor], None]) -> RemovableHandle:
    """Call a function with the gradient of the weight of a layer in every backward pass."""
    if is_parametrized(module, "weight"):
        return module.parametrizations["weight"].register_forward_hook(
            _Hook(lambda parametrization, args, weight: _hook_computed(weight, function))
        )
    if not isinstance(module.weight, nn.Parameter):
        # As by older ways to normalise or prune weights, which put it there in each pass.
        return module.register_forward_hook(
            _Hook(lambda module, args, output: _hook_computed(module.weight, function))
        )
    # Frozen weights take no hook, but may be thawed in the course of the training.
    requires_grad = module.weight.requires_grad
    try:
        return module.weight.requires_grad_(True).register_hook(function)
    finally:
        module.weight.requires_grad_(requires_grad)


def _hook_computed(weight: Tensor, function: Callable[[Tensor], None]) -> None:
    if weight.requires_grad:
        weight.register_hook(function)
