"""Fitted skorch nets as networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetRegressor
from torch import Tensor

from ._torch.adapter import TorchAdapter
from ._torch.autocast import Autocast
from ._torch.outputs import AUTO, Wanted


def adapt_skorch(
    net: NeuralNet, device: Any = "auto", logits: Wanted = AUTO, autocast: Autocast = False
) -> SkorchAdapter:
    """The adapter for the kind of net.

    Raises
    ------
    NotFittedError
        If the net has no module yet.
    """
    if not hasattr(net, "module_"):
        raise NotFittedError(
            f"This {type(net).__name__} instance is not fitted yet: fit it, or initialize it and "
            "load its parameters. Clones, such as a search over networks makes, are not fitted: "
            "there, wrap each net in sklearn.frozen.FrozenEstimator."
        )
    if isinstance(net, NeuralNetBinaryClassifier):
        return _BinaryAdapter(net, device, logits, autocast)
    if isinstance(net, NeuralNetRegressor):
        return _RegressorAdapter(net, device, logits, autocast)
    return SkorchAdapter(net, device, logits, autocast)


class SkorchAdapter(TorchAdapter):
    """Runs the trained module of a net."""

    def __init__(
        self,
        net: NeuralNet,
        device: Any,
        logits: Wanted = AUTO,
        autocast: Autocast = False,
    ) -> None:
        super().__init__(net.module_, device, logits, autocast)
        # A classifier fitted without labels, on a data set, does not know its classes.
        classes = getattr(net, "classes_", None)
        self.classes = None if classes is None else np.asarray(classes)


class _BinaryAdapter(SkorchAdapter):
    """The net's one output per sample is the log-odds of the second class."""

    def __init__(
        self,
        net: NeuralNet,
        device: Any,
        logits: Wanted = AUTO,
        autocast: Autocast = False,
    ) -> None:
        super().__init__(net, device, logits, autocast)
        self._is_binary = True


class _RegressorAdapter(SkorchAdapter):
    """What the net yields are no logits."""

    def _may_be_logits(self, output: Tensor) -> bool:
        return self._wanted != AUTO and super()._may_be_logits(output)
