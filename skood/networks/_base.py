"""What the extractor asks of a network, whatever library it comes from."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from ._fingerprint import Fingerprint
from ._perturbation import BasePerturbation

PENULTIMATE = "penultimate"
"""Name of the input of the head, where no other layer holds it."""

LEAST_ROUNDING = 4e-6
"""Relative error that a product in single precision may have, summed in any order."""

Keep = Callable[[str, Any], None]


@dataclass(frozen=True)
class Trace:
    """What running a network on two samples tells about it."""

    auto: list[str]
    """Layers that ``layers="auto"`` stands for, in forward order."""
    features: list[str]
    """Layers whose values are, as they are, the input of the head."""
    n_axes: dict[str, int]
    """Number of axes of each layer, with that of the samples."""
    why_no_head: str
    """Where no head yields the logits, the reason; otherwise empty."""
    head_rounding: float = LEAST_ROUNDING
    """Relative error that the product of features and weights may have."""
    units_last: frozenset[str] = frozenset()
    """Layers that have a vector of units for each token, (n_samples, n_tokens, n_units)."""
    takes_any_length: bool = False
    """Whether the second axis of the inputs may have another size."""


class NetworkAdapter(ABC):
    """One kind of network.

    Values may be arrays of the network's own kind, such as tensors, until ``to_numpy`` is
    called on them. Each kind of network makes and reads its own kind of trace.
    """

    classes: NDArray | None = None
    """Label of each column of the logits, where the network knows them."""

    def reading(self) -> AbstractContextManager:
        """Context in which the network may be run; it leaves all as it was before."""
        return nullcontext()

    @abstractmethod
    def fingerprint(self, trace: Any = None) -> Fingerprint:
        """Hash of what decides the values, equal for copies of the network.

        What passes leave behind in the network counts, unless their trace is given.
        """

    @abstractmethod
    def trace(self, batch: Any) -> tuple[Trace, dict[str, Any]]:
        """Run on a batch; also return the value of every layer, in forward order."""

    @abstractmethod
    def forward(self, batch: Any, trace: Any, layers: Sequence[str], keep: Keep) -> Any:
        """Run on a batch and return the logits, or None where it has none.

        ``keep(layer, value)`` is called the moment a layer has its value, which the network may
        overwrite afterwards.
        """

    @abstractmethod
    def forward_with_gradients(
        self, batch: Any, trace: Any, layers: Sequence[str], keep: Keep
    ) -> Any:
        """Run as ``forward`` does, and keep the gradient at each layer too.

        It is that of the KL divergence from uniform to predicted probabilities, kept under
        the ``gradient_name`` of the layer.

        Raises
        ------
        ValueError
            If there are no logits, or they do not depend on one of the layers.
        """

    @abstractmethod
    def forward_with_dropout(self, batch: Any, trace: Any, n_passes: int, seed: int) -> Any:
        """Run several times with dropout; return logits (n_samples, n_passes, n_classes).

        Nothing but the dropout layers is in training mode.

        Raises
        ------
        ValueError
            If there are no dropout layers, or no logits.
        """

    @abstractmethod
    def perturb(self, batch: Any, trace: Any, perturbation: BasePerturbation) -> tuple[Any, Any]:
        """The batch as a perturbation changes it, and the logits from before, or None.

        Raises
        ------
        ValueError
            If inputs have no gradient, or the network does not let it through.
        """

    @abstractmethod
    def head(self, trace: Any) -> tuple[NDArray, NDArray | None] | None:
        """Copies of weight and bias of the linear layer that yields the logits, if one does.

        To be asked while reading: weights may be computed when they are looked at.
        """

    @abstractmethod
    def to_numpy(self, value: Any) -> NDArray:
        """A value as an array; it may share its memory."""


def two_class_head(weight: NDArray, bias: NDArray | None) -> tuple[NDArray, NDArray | None]:
    """The head that yields 0 beside the one output, the log-odds of the second class."""
    zeros = np.zeros_like(weight)
    return np.concatenate([zeros, weight]), None if bias is None else np.append(zeros[:1, 0], bias)


def adapt(network: Any, device: Any = "auto", logits: Any = "auto") -> NetworkAdapter:
    """Choose the adapter of a network, importing no library that the network does not use.

    Raises
    ------
    TypeError
        If the network is of no known kind.
    NotFittedError
        If it is not trained yet.
    ValueError
        If ``logits`` says which output holds them, for a network that has only one.
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
                "output, which is read for what it is."
            )
        return MLPAdapter(network)
    raise TypeError(
        "network must be a torch.nn.Module, a fitted skorch NeuralNet or a fitted scikit-learn "
        "MLPClassifier or MLPRegressor, or one of these in a FrozenEstimator; "
        f"got {network!r}."
    )
