"""Logits that a method needs, and the gradient of a loss with respect to them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ._values import on_logits

Logits = TypeVar("Logits")


class MissingPartError(ValueError):
    """A method needs a part of a network that the network does not have."""


class MissingLogitsError(MissingPartError):
    """A method needs the logits of a classifier, and there are none."""


def require_logits(logits: Logits | None, needed_by: str, why: str = "") -> Logits:
    """The logits; a ValueError where a network yields none, with the reason if that is given."""
    if logits is None:
        raise ValueError(
            f"{needed_by} needs the logits of a classifier, but the network has none: "
            f"{on_logits(why)}."
        )
    return logits


def uniform_kl_gradient(logits: NDArray) -> NDArray[np.float64]:
    """Gradient of KL(uniform || softmax) with respect to logits (n_samples, n_classes)."""
    return softmax(logits.astype(np.float64), axis=1) - 1 / logits.shape[1]
