"""Monte Carlo dropout: stochastic forward passes with only the dropout layers active."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

_DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
_OF_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)
_ALPHA = (nn.AlphaDropout, nn.FeatureAlphaDropout)
_N_AXES_OF_ONE = {nn.Dropout1d.forward: 2, nn.Dropout3d.forward: 4}
"""Number of axes by which a layer takes its input for that of one sample."""
_LIMIT = 1.7580993408473766
"""Minus the value that SELU approaches, the product of its scale and its alpha."""

Drop = Callable[[Tensor], Any]


def dropout_layers(network: nn.Module, needed_by: str) -> Sequence[nn.Module]:
    """The dropout layers of a network.

    Raises
    ------
    ValueError
        If it has none.
    """
    layers = [module for module in network.modules() if isinstance(module, _DROPOUT)]
    if not layers:
        looked_for = ", ".join(kind.__name__ for kind in _DROPOUT)
        raise ValueError(
            f"{needed_by} needs dropout layers, but {type(network).__name__} has no module of the "
            f"kinds {looked_for}. The function dropout does not count."
        )
    return layers


def draw_themselves(layers: Sequence[nn.Module]) -> bool:
    """Whether some layers draw by code of their own, and so from the global generators."""
    return not all(map(_is_torchs, layers))


def seed_global(seed: int) -> None:
    """Seed the generators of all devices in use."""
    # Not torch.manual_seed, which would also seed a device that is first used later.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def dropping_out(layers: Sequence[nn.Module], seed: int) -> Iterator[None]:
    """Let dropout layers leave out values in calls of this thread; to be used in ``untouched``.

    They stay in evaluation mode, as other threads may call them, and draw from a generator of
    their own what they would draw from the global one. Those of another class than torch's own run
    their own code in training mode.
    """
    generators: dict[torch.device, torch.Generator] = {}

    def generator_of(device: torch.device) -> torch.Generator:
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        return generators[device]

    with ExitStack() as stack:
        for layer in layers:
            if "forward" in vars(layer):  # what this is bound to, no copy can stand for
                stack.enter_context(_in_training(layer))
            elif _is_torchs(layer):
                stack.enter_context(_exchanging(layer, partial(_drop, layer, generator_of)))
            else:
                stack.enter_context(_exchanging(layer, None))
        yield


def _is_torchs(layer: nn.Module) -> bool:
    forwards = [kind.forward for kind in _DROPOUT]
    return type(layer).forward in forwards and "forward" not in vars(layer)


@contextmanager
def _in_training(layer: nn.Module) -> Iterator[None]:
    layer.training = True
    try:
        yield
    finally:
        layer.training = False


@contextmanager
def _exchanging(layer: nn.Module, drop: Drop | None) -> Iterator[None]:
    """Exchange what a layer returns to this thread; without ``drop``, for what it would train on.

    In evaluation mode, torch's own return what they are given.
    """
    reader, twin = threading.get_ident(), copy.copy(layer)
    twin.training = True

    def exchange(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        if threading.get_ident() != reader:
            return None
        return twin.forward(*args, **kwargs) if drop is None else drop(output)

    # What other hooks are given is what the layer would return in training mode.
    handle = layer.register_forward_hook(exchange, prepend=True, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _drop(
    layer: Any, generator_of: Callable[[torch.device], torch.Generator], values: Tensor
) -> Tensor:
    """What torch's own layers compute in training mode, number by number."""
    p = layer.p
    if p == 0 or values.numel() == 0:
        return values
    multiply = values.mul_ if layer.inplace else values.mul
    if p == 1:
        return multiply(torch.zeros((), dtype=values.dtype, device=values.device))
    kept = torch.empty_like(values)
    if isinstance(layer, _OF_CHANNELS):
        n_leading = 1 if values.ndim == _N_AXES_OF_ONE.get(type(layer).forward) else 2
        shape = (*values.shape[:n_leading], *[1] * (values.ndim - n_leading))
        kept = torch.empty(shape, dtype=values.dtype, device=values.device)
    kept.bernoulli_(1 - p, generator=generator_of(values.device))
    if not isinstance(layer, _ALPHA):
        return multiply(kept.div_(1 - p))
    # Mean and variance stay where what is left out becomes the value that SELU approaches.
    scale = 1 / sqrt((_LIMIT**2 * p + 1) * (1 - p))
    shift = kept.add(-1).mul_(_LIMIT * scale).add_(_LIMIT * scale * p)
    return multiply(kept.mul_(scale)).add_(shift)
