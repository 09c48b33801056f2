"""Names of the layers that hold gradients with respect to other layers."""

from __future__ import annotations

from collections.abc import Iterable

_SUFFIX = ":gradient"


def gradient_name(layer: str) -> str:
    """Name of the layer that holds the gradient of another one."""
    return layer + _SUFFIX


def with_gradients(layers: Iterable[str]) -> list[str]:
    """Names of layers, each one followed by that of its gradient."""
    return [name for layer in layers for name in (layer, gradient_name(layer))]


def is_gradient(name: str) -> bool:
    """Whether a layer holds a gradient, pooled in one of several ways or not."""
    return f"{_SUFFIX}:" in f"{name}:"


def owner_of(name: str) -> str:
    """Name of the layer, pooled or not, whose gradient a layer holds."""
    return f"{name}:".replace(f"{_SUFFIX}:", ":").removesuffix(":")
