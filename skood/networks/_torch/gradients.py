"""Gradients of a torch network, computed without leaving a mark on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import compress
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from .._base import check_reached

Inputs = Tensor | dict[str, Tensor]
"""What a network is called with."""

_ONLY = ""


@contextmanager
def recording(network: nn.Module) -> Iterator[None]:
    """Record the graph even where gradients are off outside; to be used in ``untouched``."""
    # With the library's own kernels, recurrent layers have no gradient in evaluation mode.
    is_recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    kernels = torch.backends.cudnn.flags(enabled=False) if is_recurrent else nullcontext()
    with torch.inference_mode(False), torch.enable_grad(), kernels:
        try:
            yield
        finally:
            # A buffer that was written to would keep alive all that it was computed from.
            for buffer in network.buffers():
                if buffer.grad_fn is not None:
                    buffer.detach_()


@contextmanager
def weights_recorded(network: nn.Module) -> Iterator[None]:
    """Record the graph from the first weights on, where inputs have no gradient."""
    frozen = [
        weight
        for weight in network.parameters()
        if weight.is_floating_point() and not weight.requires_grad
    ]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def recorded(inputs: Inputs) -> tuple[dict[str, Tensor], Inputs]:
    """The inputs to differentiate by, by name, and copies to call the network with.

    Copies, since a network cannot overwrite a tensor that gradients are computed for.
    """
    named = inputs if isinstance(inputs, dict) else {_ONLY: inputs}
    leaves = {
        name: values.requires_grad_()
        for name, values in named.items()
        if values.is_floating_point()
    }
    return leaves, exchange(inputs, {name: values.clone() for name, values in leaves.items()})


def exchange(inputs: Inputs, changed: dict[str, Tensor]) -> Inputs:
    """The inputs, with changed ones in place of those of the same names."""
    return {**inputs, **changed} if isinstance(inputs, dict) else changed.get(_ONLY, inputs)


class Mark(NamedTuple):
    """The place of a value in the graph, so that it may be overwritten later."""

    edge: GradientEdge | None
    value: Tensor
    version: int

    @classmethod
    def at(cls, value: Tensor) -> Mark:
        """That of a value as it is now."""
        return cls(get_gradient_edge(value) if value.requires_grad else None, value, value._version)

    @property
    def is_lost(self) -> bool:
        """Whether it was a view that is overwritten: the graph leads around it."""
        return self.value._is_view() and self.value._version != self.version


class LayerGradients:
    """Marks the values of layers in a forward pass, to compute the gradients at them afterwards."""

    def __init__(self) -> None:
        self._marks: dict[str, Mark] = {}

    def mark(self, layer: str, mark: Mark) -> None:
        """Remember the place of a value."""
        self._marks[layer] = mark

    def compute(self, logits: Tensor, at_logits: Tensor) -> dict[str, Tensor]:
        """Gradient at each layer, from the gradient at the logits.

        Raises
        ------
        ValueError
            If the logits do not depend on one of the layers.
        """
        check_reached([layer for layer, mark in self._marks.items() if mark.is_lost])
        edges = {layer: m.edge for layer, m in self._marks.items() if m.edge is not None}
        if not (edges and logits.requires_grad):
            check_reached(list(self._marks))
        found = torch.autograd.grad(logits, list(edges.values()), at_logits, allow_unused=True)
        gradients = dict(zip(edges, found, strict=True))
        check_reached([layer for layer in self._marks if gradients.get(layer) is None])
        return gradients


def input_gradients(
    leaves: dict[str, Tensor], outputs: list[Tensor], at_outputs: list[Tensor]
) -> dict[str, Tensor]:
    """Gradient at each input that has one, from the gradients at outputs.

    Raises
    ------
    ValueError
        If no output depends on any input.
    """
    has_gradient = [output.requires_grad for output in outputs]
    found: Iterable[Tensor | None] = ()
    if any(has_gradient):
        found = torch.autograd.grad(
            list(compress(outputs, has_gradient)),
            list(leaves.values()),
            list(compress(at_outputs, has_gradient)),
            allow_unused=True,
        )
    gradients = {name: g for name, g in zip(leaves, found, strict=False) if g is not None}
    if not gradients:
        raise ValueError(
            "No gradient reaches the inputs, and so they cannot be perturbed: the network detaches "
            "what it computes from them."
        )
    return gradients
