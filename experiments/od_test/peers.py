"""Detectors of other libraries, behind the two calls of skood; those not installed are left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.pipeline import make_pipeline
from torch import Tensor, nn

from skood import Activations
from skood.activations import LinearHead
from skood.preprocessing import LayerSelector

from .._common.networks import predicted_classes
from .._common.torchvision import import_torchvision

LOGITS, FEATURES, MAPS = "logits", "features", "feature_maps"
"""What a detector of pytorch-ood reads."""
BATCH_SIZE = 128
FALSE_ALARM_RATE = 0.05
"""Share of the training rows that these detectors reject, as those of skood do."""

Make = Callable[[Any, nn.Linear], Any]

# Where the library has no default for a parameter, it is the one of skood.
OF_PYTORCH_OOD: dict[str, tuple[str, Make]] = {
    "MaxSoftmax": (LOGITS, lambda library, head: library.MaxSoftmax(None)),
    "MaxLogit": (LOGITS, lambda library, head: library.MaxLogit(None)),
    "EnergyBased": (LOGITS, lambda library, head: library.EnergyBased(None)),
    "Entropy": (LOGITS, lambda library, head: library.Entropy(None)),
    "GEN": (LOGITS, lambda library, head: library.GEN(None)),
    "KLMatching": (LOGITS, lambda library, head: library.KLMatching(None)),
    "OpenMax": (LOGITS, lambda library, head: library.OpenMax(None)),
    "KNN": (FEATURES, lambda library, head: library.KNN(None)),
    "Mahalanobis": (FEATURES, lambda library, head: library.Mahalanobis(None)),
    "RMD": (FEATURES, lambda library, head: library.RMD(None)),
    "GMM": (FEATURES, lambda library, head: library.GMM(None)),
    "PNML": (FEATURES, lambda library, head: library.PNML(None, head)),
    "SHE": (FEATURES, lambda library, head: library.SHE(None, head)),
    "NNGuide": (FEATURES, lambda library, head: library.NNGuide(None, head)),
    "fDBD": (FEATURES, lambda library, head: library.fDBD(None, head)),
    "NCI": (FEATURES, lambda library, head: library.NCI(None, head)),
    "LTS": (FEATURES, lambda library, head: library.LTS(None, head)),
    "ViM": (
        FEATURES,
        lambda library, head: library.ViM(
            None, max(head.in_features // 2, 1), head.weight, head.bias
        ),
    ),
    "DICE": (FEATURES, lambda library, head: library.DICE(None, head.weight, head.bias, 0.9)),
    "ReAct": (MAPS, lambda library, head: library.ReAct(None, _of_maps(head))),
    "ASH": (MAPS, lambda library, head: library.ASH(None, _of_maps(head))),
    "SCALE": (MAPS, lambda library, head: library.SCALE(None, _of_maps(head))),
    "VRA": (MAPS, lambda library, head: library.VRA(None, _of_maps(head))),
}
"""What each reads, and how it is made of the library and the head."""

OF_OODEEL: dict[str, dict[str, Any]] = {
    "Mahalanobis": {"eps": 0.0},
    "RMDS": {"eps": 0.0},
    "DKNN": {},
}
"""Methods that read several layers, without a perturbation of the inputs."""
AGGREGATORS = {"mean": "StdNormalizedAggregator", "Fisher": "FisherAggregator"}
"""oodeel's rules for several layers: the default, and Fisher's with Brown's correction."""

OF_PYOD: dict[str, dict[str, Any]] = {
    "IForest": {"random_state": 0},
    "ECOD": {},
    "COPOD": {},
    "HBOS": {},
    "KNN": {},
    "LOF": {},
}
"""Detectors of PyOD, and what they are given."""


def peer_names() -> list[str]:
    """All that are compared, whether they are installed or not."""
    return [
        *(f"pytorch-ood: {name}" for name in OF_PYTORCH_OOD),
        *(f"oodeel: {name}, layers, {rule}" for name in OF_OODEEL for rule in AGGREGATORS),
        *(f"PyOD: {name}" for name in OF_PYOD),
    ]


def make_peers(features: str, layers: list[str]) -> dict[str, Any]:
    """Detectors of the libraries that are installed.

    ``features`` is the layer that the head reads; ``layers`` are those of methods of several.
    """
    found: dict[str, Any] = {}
    if find_spec("pytorch_ood") is not None:
        found |= {f"pytorch-ood: {name}": PytorchOODDetector(name) for name in OF_PYTORCH_OOD}
    if find_spec("oodeel") is not None:
        found |= {
            f"oodeel: {name}, layers, {rule}": OodeelDetector(name, aggregator, layers)
            for name in OF_OODEEL
            for rule, aggregator in AGGREGATORS.items()
        }
    if find_spec("pyod") is not None:
        found |= {f"PyOD: {name}": _pyod(name, features) for name in OF_PYOD}
    return found


def _pyod(name: str, features: str) -> Any:
    detector = getattr(import_module(f"pyod.models.{name.lower()}"), name)
    return make_pipeline(LayerSelector(layers=features), detector(**OF_PYOD[name]))


def _of_maps(head: nn.Linear) -> nn.Module:
    """The head of features in the shape of maps with one pixel."""
    return nn.Sequential(nn.Flatten(), head)


def _as_layer(head: LinearHead | None) -> nn.Linear:
    """A head as a layer of torch."""
    assert head is not None
    linear = nn.Linear(head.shape[1], head.shape[0]).requires_grad_(False)
    linear.weight.copy_(torch.from_numpy(np.asarray(head.weight)))
    linear.bias.copy_(torch.from_numpy(np.asarray(head.bias)))
    return linear


class PeerDetector(OutlierMixin, BaseEstimator):
    """What detectors of libraries without a threshold lack: one that rejects training rows."""

    detector_: Any

    def fit(self, X: Activations, y: NDArray | None = None) -> Self:
        """Learn from all rows, by their labels, or else by the predicted classes."""
        import_torchvision()
        labels = torch.from_numpy(np.array(predicted_classes(X) if y is None else y))
        with _quiet():
            self._learn(X, labels)
        self.offset_ = float(np.quantile(self.score_samples(X), FALSE_ALARM_RATE))
        return self

    def score_samples(self, X: Activations) -> NDArray[np.floating]:
        """Minus the library's scores, which are large for out-of-distribution rows."""
        with torch.no_grad(), _quiet():
            return -np.asarray(self._rate(X), dtype=np.float64)

    def predict(self, X: Activations) -> NDArray[np.int64]:
        """-1 for rows that are rejected, and 1 for all others."""
        return np.where(self.score_samples(X) < self.offset_, -1, 1)

    def _learn(self, X: Activations, labels: Tensor) -> None:
        raise NotImplementedError

    def _rate(self, X: Activations) -> Any:
        raise NotImplementedError


class PytorchOODDetector(PeerDetector):
    """A detector of pytorch-ood, by its name."""

    def __init__(self, method: str) -> None:
        self.method = method

    def _learn(self, X: Activations, labels: Tensor) -> None:
        reads, make = OF_PYTORCH_OOD[self.method]
        self.detector_ = make(import_module("pytorch_ood.detector"), _as_layer(X.head))
        if hasattr(self.detector_, f"fit_{reads}"):
            getattr(self.detector_, f"fit_{reads}")(self._read(X), labels)

    def _rate(self, X: Activations) -> Tensor:
        reads, _ = OF_PYTORCH_OOD[self.method]
        return getattr(self.detector_, f"predict_{reads}")(self._read(X))

    def _read(self, X: Activations) -> Tensor:
        reads, _ = OF_PYTORCH_OOD[self.method]
        array = X.logits if reads == LOGITS else X.features
        tensor = torch.from_numpy(np.array(array, dtype=np.float32))
        return tensor[:, :, None, None] if reads == MAPS else tensor


class OodeelDetector(PeerDetector):
    """A method of oodeel on several layers, which a rule of that library puts together."""

    def __init__(self, method: str, aggregator: str, layers: list[str]) -> None:
        self.method = method
        self.aggregator = aggregator
        self.layers = layers

    def _learn(self, X: Activations, labels: Tensor) -> None:
        library, rules = import_module("oodeel.methods"), import_module("oodeel.aggregator")
        aggregator = getattr(rules, self.aggregator)()
        make = getattr(library, self.method)
        self.detector_ = make(aggregator=aggregator, **OF_OODEEL[self.method])
        rows = torch.utils.data.TensorDataset(self._read(X), labels)
        loader = torch.utils.data.DataLoader(rows, batch_size=BATCH_SIZE)
        network = _LayersAsNetwork([X.layer_shapes[name][0] for name in self.layers])
        names = [f"parts.{number}" for number in range(len(self.layers))]
        self.detector_.fit(network, loader, feature_layers_id=names, head_layer_id="head")

    def _rate(self, X: Activations) -> NDArray:
        batches = self._read(X).split(BATCH_SIZE)
        return np.concatenate([self.detector_.score(batch)[0] for batch in batches])

    def _read(self, X: Activations) -> Tensor:
        columns = [np.asarray(X[name], dtype=np.float32) for name in self.layers]
        return torch.from_numpy(np.hstack(columns))


class _LayersAsNetwork(nn.Module):
    """A network that reads what another one's layers gave, side by side, and shows it again."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = widths
        self.parts = nn.ModuleList(nn.Identity() for _ in widths)
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """What the head makes of the last layer, which these methods do not read."""
        shown = [
            part(values)
            for part, values in zip(self.parts, x.split(self.widths, dim=1), strict=True)
        ]
        return self.head(shown[-1])


def _quiet() -> warnings.catch_warnings:
    """Silence about what these libraries warn of, such as parts of theirs that get other names."""
    return warnings.catch_warnings(action="ignore")
