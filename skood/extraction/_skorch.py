"""Fitted skorch nets as networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetRegressor
from torch import Tensor

from ._adapter import two_class_head
from ._torch import TorchAdapter
from ._torch_trace import TorchTrace


def adapt_skorch(net: NeuralNet, device: Any) -> SkorchAdapter:
    """The adapter for the kind of net.

    Raises
    ------
    NotFittedError
        If the net has no module yet.
    """
    if not hasattr(net, "module_"):
        raise NotFittedError(
            f"This {type(net).__name__} instance is not fitted yet: fit it, or initialize it and "
            "load its parameters."
        )
    if isinstance(net, NeuralNetBinaryClassifier):
        return _BinaryAdapter(net, device)
    if isinstance(net, NeuralNetRegressor):
        return _RegressorAdapter(net, device)
    return SkorchAdapter(net, device)


class SkorchAdapter(TorchAdapter):
    """Runs the trained module of a net."""

    def __init__(self, net: NeuralNet, device: Any) -> None:
        super().__init__(net.module_, device)
        # A classifier fitted without labels, on a data set, does not know its classes.
        classes = getattr(net, "classes_", None)
        self.classes = None if classes is None else np.asarray(classes)


class _BinaryAdapter(SkorchAdapter):
    """The net's one output per sample is the log-odds of the second class."""

    def _as_logits(self, output: Tensor | None) -> Tensor | None:
        if output is None or output.numel() != len(output):
            return None
        log_odds = output.reshape(-1, 1)
        return torch.cat([torch.zeros_like(log_odds), log_odds], dim=1)

    def head(self, trace: TorchTrace) -> tuple[NDArray, NDArray | None] | None:
        head = super().head(trace)
        return None if head is None else two_class_head(*head)


class _RegressorAdapter(SkorchAdapter):
    """What the net yields are no logits."""

    def _as_logits(self, output: Tensor | None) -> Tensor | None:
        return None
