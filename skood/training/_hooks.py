"""Hooks that record activations and gradients during training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.utils.hooks import RemovableHandle

from ..networks import WeightLayer
from ._record import Record

_MAX_WAITING = 64

GradientHook = Callable[[Tensor], None]


class TrainingHooks:
    """Adds activations and gradients of the passes of a network to a record, until closed.

    Parameters
    ----------
    network : torch.nn.Module
        The network. Passes count where its ``training`` is True.
    hidden : list of WeightLayer
        Its hidden layers with weights.
    output : WeightLayer
        Its output layer.
    record : Record
        Where the counts and gradients go.
    """

    def __init__(
        self,
        network: nn.Module,
        hidden: list[WeightLayer],
        output: WeightLayer,
        record: Record,
    ) -> None:
        self._outputs = [ActivationCounter(network, layer, record) for layer in hidden]
        gradients = GradientCollector(hidden, record)
        with ExitStack() as hooks:
            for layer, hook in zip(hidden, self._outputs, strict=True):
                hooks.enter_context(layer.last_module.register_forward_hook(hook))
            # The output layer too: all hidden layers may be frozen.
            for layer in (*hidden, output):
                for parameter in ("weight", "bias")[: 1 + record.reads_bias(layer)]:
                    take = partial(gradients.take, layer.name, parameter)
                    hooks.enter_context(hook_gradient(layer.module, parameter, take))
            self._hooks = hooks.pop_all()

    def close(self) -> None:
        """Remove the hooks."""
        self._hooks.close()
        self.flush()

    def flush(self) -> None:
        """Add the counts that are still waiting."""
        for hook in self._outputs:
            hook.flush()


class ForwardHook:
    """A forward hook. In copies of the network, also those that are pickled, it does nothing."""

    def __call__(self, module: nn.Module, args: tuple, output: Any) -> None:
        pass

    def __reduce__(self) -> tuple:
        return ForwardHook, ()


class ActivationCounter(ForwardHook):
    """Counts how often the units of a layer are active, in the first sample of a batch.

    Outputs wait until there are 64, which takes half the time of counting each at once. For units
    that no sample has activated before, soon a few or none, all samples are read.
    """

    def __init__(self, network: nn.Module, layer: WeightLayer, record: Record) -> None:
        self._network = network
        self._layer = layer.name
        self._n_axes = layer.n_axes
        self._has_units_first = layer.has_units_first
        self._record = record
        self._waiting: list[Tensor] = []
        self._find_silent()

    def __call__(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        if not (self._network.training and torch.is_grad_enabled()) or output.numel() == 0:
            return
        values = output.detach()
        is_batch = values.ndim > self._n_axes
        if len(self._silent):
            self._look_for_active(values if is_batch else values[None])
        if is_batch:
            values = values[0]
        if values.ndim == 1:
            values = values.clone()  # the activation function may work in place
        elif self._has_units_first:
            values = values.flatten(1).amax(1)
        else:
            values = values.flatten(0, -2).amax(0)
        self._waiting.append(values)
        if len(self._waiting) == _MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Count the outputs that are waiting."""
        if self._waiting:
            n_active = (torch.stack(self._waiting) > 0).sum(0)
            self._record.add_counts(self._layer, n_active)
            self._waiting.clear()
            self._record.add_active(self._layer, self._silent[self._largest > 0].cpu())
            self._find_silent()

    def _find_silent(self) -> None:
        self._silent = self._record.never_active(self._layer)
        self._largest = torch.zeros(len(self._silent))

    def _look_for_active(self, batch: Tensor) -> None:
        """See which of the silent units a sample of the batch activates."""
        if self._silent.device != batch.device:
            self._silent = self._silent.to(batch.device)
            self._largest = self._largest.to(batch.device)
        axis = 1 if self._has_units_first else batch.ndim - 1
        is_all = len(self._silent) == batch.shape[axis]
        values = batch if is_all else batch.index_select(axis, self._silent)
        others = [other for other in range(batch.ndim) if other != axis]
        # Much faster than testing whether any value is above 0.
        self._largest = torch.fmax(self._largest, values.amax(others))


class ComputedWeightHook(ForwardHook):
    """Hooks the weight that every forward pass computes anew."""

    def __init__(self, parameter: str, hook: GradientHook) -> None:
        self._parameter = parameter
        self._hook = hook

    def __call__(self, module: Any, args: tuple, output: Tensor) -> None:
        # Older ways to normalise or prune a weight do not return it but put it into the layer.
        is_output = isinstance(module, ParametrizationList)
        weights = output if is_output else getattr(module, self._parameter)
        if weights.requires_grad:
            weights.register_hook(self._hook)


class GradientCollector:
    """Collects the gradients of one backward pass and adds them to a record when it ends.

    Adding them one by one would take longer: each time, the backward pass has displaced the
    code and data for it from the processor's cache.
    """

    def __init__(self, hidden: list[WeightLayer], record: Record) -> None:
        self._hidden = {layer.name: layer for layer in hidden}
        self._record = record
        self._reached: set[tuple[str, str]] = set()
        self._is_read = True
        self._waiting: dict[tuple[str, str], Tensor] = {}

    def take(self, layer: str, parameter: str, gradient: Tensor) -> None:
        """Take the gradient of the weights or the bias of a layer."""
        # A backward pass reaches nothing twice: at the second time it is the next one. It need
        # not reach all layers.
        key = layer, parameter
        if not self._reached or key in self._reached:
            self._reached.clear()
            self._waiting.clear()  # of a pass that failed
            self._is_read = self._record.gradients.begin_iteration()
        self._reached.add(key)
        if self._is_read and layer in self._hidden:
            if not self._waiting:
                Variable._execution_engine.queue_callback(self._add)
            # Not the gradient itself: torch would have to copy it for the optimizer.
            self._waiting[key] = gradient.detach()

    def _add(self) -> None:
        device = next(iter(self._waiting.values())).device
        sums = [self._sum(layer).to(device) for layer in self._hidden.values()]
        self._record.gradients.add(torch.cat(sums))
        self._waiting.clear()

    def _sum(self, layer: WeightLayer) -> Tensor:
        """Sums over incoming weights of each unit; 0 if frozen or not reached by the pass."""
        weights, bias = (self._waiting.get((layer.name, part)) for part in ("weight", "bias"))
        signed = self._record.settings.signed
        sums = torch.zeros(layer.n_units)
        if weights is not None:
            sums = layer.sum_by_unit(weights if signed else weights.abs())
        if bias is not None:
            sums = sums.to(bias.device) + (bias if signed else bias.abs())
        return sums


def hook_gradient(module: Any, parameter: str, hook: GradientHook) -> RemovableHandle:
    """Have a hook called with the gradient of a layer's weight or bias in every backward pass."""
    computed = ComputedWeightHook(parameter, hook)
    if is_parametrized(module, parameter):
        return module.parametrizations[parameter].register_forward_hook(computed)
    weights = getattr(module, parameter)
    if not isinstance(weights, nn.Parameter):
        return module.register_forward_hook(computed)
    # Frozen weights take no hook, but may be unfrozen during the training.
    requires_grad = weights.requires_grad
    try:
        return weights.requires_grad_(True).register_hook(hook)
    finally:
        weights.requires_grad_(requires_grad)
