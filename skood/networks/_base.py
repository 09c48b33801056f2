"""The interface of a network, independent of the library that it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._fingerprint import Fingerprint

PENULTIMATE = "penultimate"
"""Name of the input of the head, where no other layer holds it."""

LEAST_ROUNDING = 4e-6
"""Relative error that a product in single precision may have, summed in any order."""

Batch = Any
"""An array, a tensor, or a mapping of names to these."""

LayerCallback = Callable[[str, Any], None]
"""Called with the name of a layer and its value."""


@dataclass(frozen=True)
class Trace:
    """What a run on a few samples reveals about a network."""

    auto: list[str]
    """Layers that ``layers="auto"`` stands for, in forward order."""
    features: list[str] = field(default_factory=list)
    """Layers whose values are, unchanged, the input of the head."""
    n_axes: dict[str, int] = field(default_factory=dict)
    """Number of axes of each layer, with that of the samples."""
    why_no_head: str = "networks of this kind have none"
    """Where no head yields the logits, the reason; otherwise empty."""
    head_rounding: float = LEAST_ROUNDING
    """Relative error that the product of features and weights may have."""
    unit_axes: dict[str, int] = field(default_factory=dict)
    """The axis of the units of each layer that has them in another than the second axis."""
    takes_any_length: bool = False
    """Whether the second axis of the inputs may have another size."""
    sequence: str = ""
    """Name of an input of which this is so, where the inputs are a mapping."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Values that ``layers="auto"`` might stand for and does not, with the reasons."""


@dataclass(frozen=True)
class LossGradients:
    """Gradient of a loss with respect to what a network yields, up to a factor per sample."""

    logits: NDArray[np.float64] | None
    means: dict[str, NDArray[np.float64]]
    """Of layers, averaged over space, (n_samples, n_units)."""


class Perturbation(Protocol):
    """Change of the inputs against the sign of the gradient of a loss."""

    def layers(self) -> list[str]:
        """Names of the layers whose spatial means the loss depends on."""

    def gradients(self, logits: NDArray | None, means: Mapping[str, NDArray]) -> LossGradients:
        """Gradients of the loss with respect to logits and spatial means, sample by sample."""

    def steps(self, shape: Sequence[int]) -> NDArray[np.float64]:
        """Size of the change of each channel, in a shape that broadcasts to the given one."""


CAPABILITIES = frozenset({"gradients", "dropout", "perturbation"})
"""What an adapter may be able to do beside what it must."""


class NetworkAdapter(ABC):
    """One kind of network, read without leaving a mark on it.

    A subclass must implement ``trace``, ``forward``, ``head`` and ``fingerprint``. What else it
    implements, it names in ``capabilities``, by which others know. Values may be
    arrays of the network's own kind, such as tensors, until ``to_numpy`` is called on them. Each
    kind of network makes and reads its own kind of trace, a :class:`Trace` or one derived from it.
    """

    capabilities: frozenset[str] = frozenset()
    """Of "gradients" (``forward_with_gradients``), "dropout" (``forward_with_dropout``) and
    "perturbation" (``perturb``), those that are implemented."""

    classes: NDArray | None = None
    """Label of each column of the logits, where the network knows them."""

    @property
    def kind(self) -> str:
        """What the network is called in messages."""
        return f"a network read by {type(self).__name__}"

    def supports(self, capability: str) -> bool:
        """Whether the network can be asked for "gradients", "dropout" or "perturbation".

        Raises
        ------
        ValueError
            If there is no such capability.
        """
        if capability not in CAPABILITIES:
            raise ValueError(
                f"capability must be among {sorted(CAPABILITIES)}, got {capability!r}."
            )
        return capability in self.capabilities

    def untouched(self) -> AbstractContextManager[None]:
        """Context in which the network may be run; it leaves everything as it was before."""
        return nullcontext()

    def prepare(self, X: Any) -> Any:
        """What the network is run on, of what the user gives; by default the same."""
        return X

    def stamp(self, trace: Any = None) -> Any:
        """Something that compares equal as long as the network seems not to have changed.

        It may be cheaper than the fingerprint, which decides where stamps differ.
        """
        return self.fingerprint(trace).digest

    def predictions(self, logits: Any) -> NDArray | None:
        """Number of the predicted class of each sample; None where the largest logit says it."""
        return None

    @abstractmethod
    def fingerprint(self, trace: Any = None) -> Fingerprint:
        """Hash of what decides the values, equal for copies of the network.

        What passes leave behind in the network counts, unless their trace is given.
        """

    @abstractmethod
    def trace(self, batch: Batch) -> tuple[Trace, dict[str, Any]]:
        """Run on a batch; also return the value of every layer, in forward order."""

    @abstractmethod
    def forward(
        self, batch: Batch, trace: Any, layers: Sequence[str], keep: LayerCallback
    ) -> Any | None:
        """Run on a batch and return the logits, or None where the network has none.

        ``keep`` is called the moment a layer has its value, which the network may overwrite
        afterwards.
        """

    def forward_with_gradients(
        self,
        batch: Batch,
        trace: Any,
        layers: Sequence[str],
        keep: LayerCallback,
        keep_gradient: LayerCallback,
    ) -> Any:
        """Run as ``forward`` does, and pass the gradient at each layer to ``keep_gradient``.

        It is that of the KL divergence from the uniform distribution to the predicted
        probabilities.

        Raises
        ------
        ValueError
            If there are no logits, they do not depend on one of the layers, or the framework
            computes no gradients.
        """
        raise ValueError(f"gradients=True needs gradients at the layers, but {self.kind} has none.")

    def forward_with_dropout(self, batch: Batch, trace: Any, n_passes: int, seed: int) -> Any:
        """Run several times with dropout; return logits (n_samples, n_passes, n_classes).

        Nothing but the dropout layers is in training mode.

        Raises
        ------
        ValueError
            If there are no dropout layers, as where the framework has none, or no logits.
        """
        raise ValueError(f"n_passes={n_passes} needs dropout layers, but {self.kind} has none.")

    def perturb(
        self, batch: Batch, trace: Any, perturbation: Perturbation
    ) -> tuple[Batch, Any | None]:
        """Return the perturbed batch, and the logits from before, or None.

        Raises
        ------
        ValueError
            If inputs have no gradient, the network does not let it through, or the framework
            computes no gradients.
        """
        raise ValueError(
            f"{type(perturbation).__name__} needs gradients at the inputs, but {self.kind} has "
            "none."
        )

    @abstractmethod
    def head(self, trace: Any) -> tuple[NDArray, NDArray | None] | None:
        """Copies of weight and bias of the linear layer that yields the logits, if one does.

        To be called in ``untouched``: weights may be computed when they are read.
        """

    def to_numpy(self, value: Any) -> NDArray:
        """Convert a value to an array, which may share its memory."""
        return np.asarray(value)


def count_samples(batch: Batch) -> int:
    """Number of samples."""
    return len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)


def take_samples(batch: Batch, rows: slice | list[int]) -> Batch:
    """Some of the samples."""
    if isinstance(batch, Mapping):
        return {key: values[rows] for key, values in batch.items()}
    return batch[rows]


def two_class_head(weight: NDArray, bias: NDArray | None) -> tuple[NDArray, NDArray | None]:
    """The head that yields 0 beside the one output, the log-odds of the second class."""
    zeros = np.zeros_like(weight)
    return np.concatenate([zeros, weight]), None if bias is None else np.append(zeros[:1, 0], bias)


def check_reached(unreached: list[str]) -> None:
    """Raise a ValueError where there are layers that the logits do not depend on."""
    if unreached:
        raise ValueError(
            f"No gradient of the logits reaches the layers {unreached}: they come after the "
            "logits, are overwritten, or the network detaches what it computes from them. Name "
            "other layers."
        )
