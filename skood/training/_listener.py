"""The hooks by which a network in training tells of its neurons."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.hooks import RemovableHandle

from ..extraction._weight_layers import WeightLayer
from ._record import Record

_MAX_WAITING = 64


class Listener:
    """Adds to a record what the passes of a network show, until it is closed.

    The hooks only put things aside, to be added up together: gradients when the backward
    pass ends, outputs of a layer when there are 64. To do it in every hook takes twice the
    time, since the network's own work drives other code and data out of the processor's cache.

    Parameters
    ----------
    network : torch.nn.Module
        The network. Its ``training`` tells which passes count.
    hidden : list of WeightLayer
        Its hidden layers with weights.
    output : WeightLayer
        Its output layer.
    record : Record
        What to add to.
    """

    def __init__(
        self,
        network: nn.Module,
        hidden: list[WeightLayer],
        output: WeightLayer,
        record: Record,
    ) -> None:
        self._network = network
        self._record = record
        self._layers = {layer.name: layer for layer in hidden}
        self._outputs: dict[str, list[Tensor]] = {layer.name: [] for layer in hidden}
        self._gradients: dict[str, Tensor] = {}
        self._reached: set[str] = set()
        self._scratch = torch.empty(0)
        with ExitStack() as hooks:
            for layer in hidden:
                take = _Hook(partial(self._take_output, layer.name))
                hooks.enter_context(layer.last_module.register_forward_hook(take))
            # The output layer too: all hidden layers may be frozen.
            for layer in (*hidden, output):
                take_gradient = partial(self._take_gradient, layer.name)
                hooks.enter_context(_hook_gradient(layer.module, take_gradient))
            self._hooks = hooks.pop_all()

    def close(self) -> None:
        """Remove the hooks."""
        self._hooks.close()
        self.add_outputs()

    def add_outputs(self) -> None:
        """Add all outputs that were put aside."""
        for layer in self._layers:
            self._add_outputs_of(layer)

    def _take_output(self, name: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        if not (self._network.training and torch.is_grad_enabled()) or output.numel() == 0:
            return
        layer, values = self._layers[name], output.detach()
        if values.ndim > layer.n_axes:
            values = values[0]
        if values.ndim == 1:
            values = values.clone()  # the activation function may work in place
        elif layer.has_units_first:
            values = values.flatten(1).amax(1)
        else:
            values = values.flatten(0, -2).amax(0)
        self._outputs[name].append(values)
        if len(self._outputs[name]) == _MAX_WAITING:
            self._add_outputs_of(name)

    def _add_outputs_of(self, layer: str) -> None:
        if outputs := self._outputs[layer]:
            self._record.add_counts(layer, (torch.stack(outputs) > 0).sum(0))
            outputs.clear()

    def _take_gradient(self, layer: str, gradient: Tensor) -> None:
        # A backward pass reaches no layer twice: at the second time it is the next one. It need
        # not reach all layers.
        if not self._reached or layer in self._reached:
            self._reached.clear()
            self._gradients.clear()  # of a pass that failed
            self._record.gradients.begin_iteration()
        self._reached.add(layer)
        if layer in self._layers:
            if not self._gradients:
                Variable._execution_engine.queue_callback(self._add_gradients)
            # Not the gradient itself: torch then copies it for the optimizer.
            self._gradients[layer] = gradient.detach()

    def _add_gradients(self) -> None:
        device = next(iter(self._gradients.values())).device
        sums = [
            layer.sum_by_unit(self._prepare(self._gradients[name])).to(device)
            if name in self._gradients
            else torch.zeros(layer.n_units, device=device)
            for name, layer in self._layers.items()
        ]
        self._record.gradients.add(torch.cat(sums))
        self._gradients.clear()

    def _prepare(self, gradient: Tensor) -> Tensor:
        if self._record.signed:
            return gradient
        # To take fresh memory each time would cost more than the rest.
        size = gradient.numel()
        if not (self._scratch.numel() >= size and _is_alike(self._scratch, gradient)):
            self._scratch = torch.empty(size, dtype=gradient.dtype, device=gradient.device)
        return torch.abs(gradient, out=self._scratch[:size].view(gradient.shape))


def _is_alike(one: Tensor, other: Tensor) -> bool:
    return (one.dtype, one.device) == (other.dtype, other.device)


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
    """Call a function with the gradient of a layer's weight in every backward pass."""
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
