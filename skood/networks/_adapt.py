"""Which adapter reads a network."""

from __future__ import annotations

import sys
from typing import Any

from sklearn.frozen import FrozenEstimator

from ._base import NetworkAdapter


def adapt(network: Any, device: Any = "auto", logits: Any = "auto") -> NetworkAdapter:
    """Choose the adapter of a network; only the library of the network is imported.

    Raises
    ------
    TypeError
        If the network is of no known kind.
    NotFittedError
        If it is not trained yet.
    ValueError
        If ``logits`` chooses an output of a network that has only one.
    """
    while isinstance(network, FrozenEstimator):
        network = network.estimator
    torch, skorch = sys.modules.get("torch"), sys.modules.get("skorch")
    if torch is not None and isinstance(network, torch.nn.Module):
        from ._torch import TorchAdapter

        return TorchAdapter(network, device, logits)
    if skorch is not None and isinstance(network, skorch.NeuralNet):
        from ._skorch import adapt_skorch

        return adapt_skorch(network, device, logits)

    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if isinstance(network, MLPClassifier | MLPRegressor):
        from ._sklearn_mlp import MLPAdapter

        if logits != "auto":
            raise ValueError(
                f"logits={logits!r} is for networks of torch: a {type(network).__name__} has one "
                'output, with nothing to choose. Leave logits="auto".'
            )
        return MLPAdapter(network)
    raise TypeError(
        "network must be a torch.nn.Module, a fitted skorch NeuralNet or a fitted scikit-learn "
        "MLPClassifier or MLPRegressor, or one of these in a FrozenEstimator; "
        f"got {network!r}."
    )
