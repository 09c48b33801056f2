"""The libraries that compute the methods skood computes, each behind the same two calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

from experiments._common.torchvision import import_torchvision
from skood import Activations, config_context
from skood.activations import LinearHead

from .pairs import LOGITS, MAPS, Pair

OODEEL_BATCH = 1000


@dataclass(frozen=True)
class Samples:
    """Training samples, and samples to score, with the head that turns features into logits."""

    train: Activations
    labels: NDArray[np.int64]
    new: Activations

    @classmethod
    def draw(cls, n_samples: int, n_units: int, n_classes: int) -> Samples:
        """As many of both kinds: ReLU features of overlapping classes, in single precision."""
        rng = np.random.default_rng(0)
        centers = 0.4 * rng.normal(size=(n_classes, n_units)).astype(np.float32)
        labels = rng.integers(n_classes, size=2 * n_samples)
        spread = rng.uniform(1, 3, size=(2 * n_samples, 1)).astype(np.float32)
        noise = rng.normal(size=(2 * n_samples, n_units)).astype(np.float32)
        features = np.maximum(centers[labels] + spread * noise, 0)
        # Logits that do not saturate a softmax in single precision, where ranks would be lost.
        weight = 0.7 * centers / np.linalg.norm(centers, axis=1, keepdims=True)
        head = LinearHead(weight, -weight @ features.mean(axis=0), "fc")
        A = Activations({"fc": features}, logits=head.logits(features), head=head)
        return cls(A[:n_samples], labels[:n_samples], A[n_samples:])

    def first(self, n_new: int) -> Samples:
        """The same training samples, and fewer to score."""
        return replace(self, new=self.new[:n_new])

    def of_one_class(self) -> Samples:
        """Features alone, all of one class."""
        train, new = (Activations({"fc": A["fc"]}) for A in (self.train, self.new))
        return Samples(train, np.zeros_like(self.labels), new)

    @property
    def layer(self) -> nn.Linear:
        """The head, as a layer of torch."""
        head = self.train.head
        assert head is not None
        linear = nn.Linear(head.shape[1], head.shape[0]).requires_grad_(False)
        linear.weight.copy_(torch.from_numpy(head.weight))
        linear.bias.copy_(torch.from_numpy(head.bias))
        return linear


class Contestant(Protocol):
    """A method of a library. Scores are large for in-distribution samples."""

    def fit(self) -> Any:
        """Learn from the training samples, and score them."""

    def score(self) -> NDArray:
        """Score the other samples."""


class Skood:
    """A detector, or a pipeline that ends in one."""

    def __init__(self, estimator: Any, samples: Samples) -> None:
        self._estimator = clone(estimator)
        self._samples = samples

    def fit(self) -> Any:
        return self._estimator.fit(self._samples.train, self._samples.labels)

    def score(self) -> NDArray:
        return self._estimator.score_samples(self._samples.new)


class PytorchOOD:
    """A detector of the module ``pytorch_ood.detector``."""

    def __init__(
        self, library: Any, pair: Pair, samples: Samples, dtype: torch.dtype = torch.float32
    ) -> None:
        detector, reads = pair.make(library, samples.layer), pair.reads
        self._fit = getattr(detector, f"fit_{reads}", None)
        # Of detectors that take gradients, the network is the head alone.
        self._predict = getattr(detector, f"predict_{reads}", detector.predict)
        self._train = self._tensor(samples.train, reads).to(dtype)
        self._new = self._tensor(samples.new, reads).to(dtype)
        self._labels = torch.from_numpy(samples.labels)

    @staticmethod
    def _tensor(A: Activations, reads: str) -> torch.Tensor:
        tensor = torch.from_numpy(A.logits if reads == LOGITS else A["fc"])
        return tensor[:, :, None, None] if reads == MAPS else tensor

    def fit(self) -> Any:
        if self._fit is not None:
            self._fit(self._train, self._labels)
        return self._score(self._train)

    def score(self) -> NDArray:
        return self._score(self._new)

    def _score(self, tensor: torch.Tensor) -> NDArray:
        with torch.no_grad():
            return -self._predict(tensor).numpy()


class Oodeel:
    """A detector of oodeel, for which the head alone is the network."""

    def __init__(self, make: Callable[[], Any], samples: Samples) -> None:
        self._make = make
        self._network = nn.Sequential(nn.Identity(), samples.layer)
        labels = torch.from_numpy(samples.labels)
        self._train = self._loader(torch.from_numpy(samples.train["fc"]), labels)
        self._new = self._loader(torch.from_numpy(samples.new["fc"]))

    @staticmethod
    def _loader(*tensors: torch.Tensor) -> DataLoader:
        rows = BatchSampler(SequentialSampler(tensors[0]), OODEEL_BATCH, drop_last=False)
        return DataLoader(TensorDataset(*tensors), sampler=rows, batch_size=None)

    def fit(self) -> Any:
        # One that is fitted again keeps what it learnt before.
        self._detector = self._make()
        # Each search for the threshold of ReAct leaves one more layer behind in this default.
        type(self._detector)._load_feature_extractor.__defaults__[0].clear()
        layers = ["0"] if self._detector.requires_internal_features else []
        self._detector.fit(self._network, self._train, feature_layers_id=layers)
        return self._detector.score(self._train)

    def score(self) -> NDArray:
        return -self._detector.score(self._new)[0]


class Plain:
    """An estimator that takes arrays, as those of PyOD and scikit-learn do.

    ``scores`` gives scores of an array by a fitted estimator, large for in-distribution samples.
    """

    def __init__(
        self, estimator: Any, scores: Callable[[Any, NDArray], NDArray], samples: Samples
    ) -> None:
        self._estimator, self._scores = estimator, scores
        self._train, self._new = np.asarray(samples.train), np.asarray(samples.new)

    def fit(self) -> Any:
        self._estimator.fit(self._train)
        return self._scores(self._estimator, self._train)

    def score(self) -> NDArray:
        return self._scores(self._estimator, self._new)


class InSinglePrecision:
    """A contestant that scores in single precision."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant

    def fit(self) -> Any:
        with config_context(precision="single"):
            return self._contestant.fit()

    def score(self) -> NDArray:
        with config_context(precision="single"):
            return self._contestant.score()


def import_pytorch_ood() -> Any:
    """The detectors of pytorch-ood, or None where it is not installed."""
    if find_spec("pytorch_ood") is None:
        return None
    import_torchvision()
    return import_module("pytorch_ood.detector")


def import_oodeel() -> Any:
    """The methods of oodeel, or None where it is not installed."""
    if find_spec("oodeel") is None:
        return None
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("oodeel.methods")
