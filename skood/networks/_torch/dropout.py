"""Monte Carlo dropout: stochastic forward passes with only the dropout layers active."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

_DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


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


@contextmanager
def dropping_out(layers: Sequence[nn.Module], seed: int) -> Iterator[None]:
    """Put dropout layers into training mode and seed torch; to be used in ``untouched``.

    The latter restores the random states.
    """
    # Not torch.manual_seed, which would also seed a device that is first used later.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer in layers:
            layer.training = False
