"""Gradients with respect to layers: what they are called, and where they start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from .._values import ON_LOGITS

Logits = TypeVar("Logits")

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


def uniform_kl_slope(logits: NDArray) -> NDArray[np.float64]:
    """Gradient of KL(uniform || softmax) with respect to logits (n_samples, n_classes)."""
    return softmax(logits.astype(np.float64), axis=1) - 1 / logits.shape[1]


def require_logits(logits: Logits | None, needed_by: str) -> Logits:
    """The logits; a ValueError where a network yields none."""
    if logits is None:
        raise ValueError(
            f"{needed_by} needs the logits of a classifier, but the network has none: {ON_LOGITS}."
        )
    return logits


def check_reached(unreached: list[str]) -> None:
    """Raise a ValueError where there are layers that the logits do not depend on."""
    if unreached:
        raise ValueError(
            f"No gradient of the logits reaches the layers {unreached}: they come after the "
            "logits, are overwritten, or the network detaches what it computes from them. Name "
            "other layers."
        )
