"""Fitted skorch nets as networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetRegressor
from torch import Tensor

from ._base import Batch
from ._torch.adapter import TorchAdapter
from ._torch.chosen_head import WantedHead
from ._torch.outputs import AUTO, Wanted
from ._torch.trace import TorchTrace


def adapt_skorch(
    net: NeuralNet, device: Any = "auto", logits: Wanted = AUTO, head: WantedHead = AUTO
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
        return _BinaryAdapter(net, device, logits, head)
    if isinstance(net, NeuralNetRegressor):
        return _RegressorAdapter(net, device, logits, head)
    return SkorchAdapter(net, device, logits, head)


class SkorchAdapter(TorchAdapter):
    """Runs the trained module of a net."""

    def __init__(
        self, net: NeuralNet, device: Any, logits: Wanted = AUTO, head: WantedHead = AUTO
    ) -> None:
        super().__init__(net.module_, device, logits, head)
        # A classifier fitted without labels, on a data set, does not know its classes.
        classes = getattr(net, "classes_", None)
        self.classes = None if classes is None else np.asarray(classes)


class _BinaryAdapter(SkorchAdapter):
    """The net's one output per sample is the log-odds of the second class."""

    def __init__(
        self, net: NeuralNet, device: Any, logits: Wanted = AUTO, head: WantedHead = AUTO
    ) -> None:
        super().__init__(net, device, logits, head)
        self._is_binary = True


class _RegressorAdapter(SkorchAdapter):
    """What the net yields are no logits."""

    def _may_be_logits(self, output: Tensor) -> bool:
        is_auto = isinstance(self._wanted, str) and self._wanted == AUTO
        return not is_auto and super()._may_be_logits(output)

    def trace(self, batch: Batch) -> tuple[TorchTrace, dict[str, Tensor]]:
        trace, values = super().trace(batch)
        if trace.n_classes is None:
            trace = replace(trace, why_no_logits="a regressor has none unless logits= names them")
        return trace, values
