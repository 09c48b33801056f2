"""What is compared: every kind of detector of skood, its default monitor, and other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from torch import nn

from skood import Activations, HammingNAPDetector, PercentileBinarizer, make_monitor
from skood.detectors import (
    ActivationIntervalDetector,
    ClusterDistanceDetector,
    COREDetector,
    EnergyDetector,
    EntropyDetector,
    FDBDDetector,
    GaussianActivationDetector,
    GENDetector,
    GradNormDetector,
    GramDetector,
    GroupProgressionDetector,
    KLMatchingDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxLogitDetector,
    MaxSoftmaxDetector,
    NACDetector,
    NCIDetector,
    NeuronCountDetector,
    NNGuideDetector,
    OpenMaxDetector,
    SHEDetector,
    ViMDetector,
)
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.preprocessing import LayerSelector
from skood.shaping import ASH, DICE, SCALE, VRA, LINe, ReAct

from .peers import make_peers, peer_names
from .sources import SOURCES, Source

Methods = dict[str, Any]
"""Detectors, not fitted, by the names of the tables."""

GROUPS = ("outputs", "last layer", "shaping", "layers", "configured", "peers", "monitors")
"""Of methods, in the order of the tables."""
MONITORS = GROUPS[-1]
SEARCHES = "search"
"""The group of the default that searches, of which there is a table of its own."""
N_SOME_LAYERS = 15
"""How many layers methods read that take long for each."""
LINE_PERCENTILES = {"CIFAR-100": (10, 90), "CIFAR-10": (90, 90)}
"""Of activations and of weights, as published for these networks; skood's default for others."""
DEFAULT, ERROR_DEFAULT = "monitor", "monitor, target misclassified"
VARIANTS = {
    DEFAULT: "ood",
    ERROR_DEFAULT: "misclassified",
    "monitor, target both": "both",
}
"""The monitors that need no OOD data, and their targets."""
SEARCH = "monitor, search"


def make_methods(source: Source, network: nn.Module, train: Activations) -> dict[str, Methods]:
    """All methods that need no OOD data, by group."""
    features, some = features_of(train), some_layers(train)
    return {
        "outputs": on_outputs(),
        "last layer": _after(LayerSelector(layers=features), on_features()),
        "shaping": _after(LayerSelector(layers=features), by_shaping(source)),
        "layers": on_layers(some),
        "peers": {
            **_after(LayerSelector(layers=features), of_scikit_learn()),
            **make_peers(features, some),
        },
        "monitors": {
            name: make_monitor(network, target=target).named_steps["detect"]
            for name, target in VARIANTS.items()
        },
    }


def make_configured(source: Source, network: nn.Module, train: Activations) -> dict[str, Methods]:
    """All methods that OOD data configure, by group."""
    search = make_monitor(network, search=True).named_steps["detect"]
    return {
        "configured": by_validation(published_layers(source, train), some_layers(train)),
        SEARCHES: {SEARCH: search},
    }


def method_groups() -> dict[str, str]:
    """The group of each method, in the order of the tables."""
    names: Sequence[Iterable[str]] = (
        on_outputs(),
        on_features(),
        by_shaping(SOURCES[0]),
        on_layers([]),
        by_validation([], []),
        [*of_scikit_learn(), *peer_names()],
        VARIANTS,
    )
    members = zip(GROUPS, names, strict=True)
    return {name: group for group, of_group in members for name in of_group}


def _after(step: Any, methods: Methods) -> Methods:
    return {name: make_pipeline(step, detector) for name, detector in methods.items()}


def on_outputs() -> Methods:
    return {
        "MSP": MaxSoftmaxDetector(),
        "MaxLogit": MaxLogitDetector(),
        "energy": EnergyDetector(),
        "entropy": EntropyDetector(),
        "GEN": GENDetector(),
        "KL matching": KLMatchingDetector(),
        "OpenMax": OpenMaxDetector(),
    }


def on_features() -> Methods:
    """Detectors that read the last layer, and perhaps the head."""
    return {
        "fDBD": FDBDDetector(),
        "NCI": NCIDetector(),
        "CORE": COREDetector(),
        "ViM": ViMDetector(),
        "NNGuide": NNGuideDetector(),
        "SHE": SHEDetector(),
        "GradNorm": GradNormDetector(),
        "NAC": NACDetector(),
        "KNN, 5": KNNDetector(n_neighbors=5),
        "KNN, 50": KNNDetector(),
        "Mahalanobis": MahalanobisDetector(),
        "relative Mahalanobis": MahalanobisDetector(relative=True),
        "Mahalanobis++": MahalanobisDetector(normalize=True),
        "relative Mahalanobis++": MahalanobisDetector(normalize=True, relative=True),
        "NAP": nap_of(30),
        "Gaussian": GaussianActivationDetector(),
        "intervals": ActivationIntervalDetector(),
        "neuron count": NeuronCountDetector(),
        "cluster distance": make_pipeline(
            PercentileBinarizer(rule="rank"), ClusterDistanceDetector(random_state=0)
        ),
    }


def by_shaping(source: Source) -> Methods:
    """What changes the features or weights; the energy score follows."""
    activations, weights = LINE_PERCENTILES.get(source.name, (10, 90))
    shapers = {
        "ReAct": [ReAct()],
        "ASH-P": [ASH(variant="p")],
        "ASH-B": [ASH(variant="b")],
        "ASH-S": [ASH(variant="s")],
        "SCALE": [SCALE()],
        "DICE": [DICE()],
        "DICE + ReAct": [ReAct(), DICE()],
        "LINe": [LINe(activation_percentile=activations, weight_percentile=weights)],
        "VRA": [VRA()],
    }
    return {name: make_pipeline(*steps, EnergyDetector()) for name, steps in shapers.items()}


def on_layers(some: list[str]) -> Methods:
    """One kind of member for all layers, or for some where that would take long."""
    some_of = LayerSelector(layers=some)
    return {
        "NAP, layers, mean": LayerEnsembleDetector(
            LayerEnsembleDetector([nap_of(p) for p in (30, 50, 70)], combine="mean"),
            combine="mean",
        ),
        "NAP 30, layers, Fisher": LayerEnsembleDetector(nap_of(30)),
        "Gaussian, layers, Fisher": LayerEnsembleDetector(GaussianActivationDetector()),
        "KNN, some layers, Fisher": make_pipeline(some_of, LayerEnsembleDetector(KNNDetector())),
        "Mahalanobis, layers, Fisher": LayerEnsembleDetector(MahalanobisDetector()),
        "relative Mahalanobis, layers, Fisher": LayerEnsembleDetector(
            MahalanobisDetector(relative=True)
        ),
        "Mahalanobis++, layers, Fisher": LayerEnsembleDetector(MahalanobisDetector(normalize=True)),
        "relative Mahalanobis++, layers, Fisher": LayerEnsembleDetector(
            MahalanobisDetector(normalize=True, relative=True)
        ),
        "Gram": GramDetector(),
        "intervals, layers": ActivationIntervalDetector(),
        "neuron coefficient, layers": NeuronCountDetector(statistic="coefficient", two_sided=True),
        "NAC without gradients, some layers": make_pipeline(some_of, NACDetector(gradients=False)),
        "group progression, some layers": make_pipeline(
            some_of, PercentileBinarizer(rule="rank"), GroupProgressionDetector(random_state=0)
        ),
    }


def by_validation(nap_layers: list[str], some: list[str]) -> Methods:
    """Methods that rows marked -1 configure."""
    nap = LayerSelector(layers=nap_layers)
    return {
        "NAP, published, weighted": make_pipeline(nap, AutoNAPDetector(random_state=0)),
        "NAP, published, vote": make_pipeline(nap, AutoNAPDetector(combine="vote", random_state=0)),
        "NAP, published, threshold criterion, 3 votes": make_pipeline(
            nap,
            AutoNAPDetector(combine="vote", criterion="threshold", n_layers=3, random_state=0),
        ),
        "NAP 30, best layer": best_layer(nap_of(30)),
        "Mahalanobis++, best layer": best_layer(MahalanobisDetector(normalize=True)),
        "KNN, 50, best of some layers": make_pipeline(
            LayerSelector(layers=some), best_layer(KNNDetector())
        ),
        "NAP 30, layers, weighted": LayerEnsembleDetector(nap_of(30), combine="weighted"),
        "Mahalanobis, layers, regression": MahalanobisDetector(),
    }


def of_scikit_learn() -> Methods:
    return {
        "scikit-learn: IsolationForest": IsolationForest(random_state=0),
        "scikit-learn: LocalOutlierFactor": LocalOutlierFactor(novelty=True),
    }


def nap_of(percentile: float) -> Pipeline:
    return make_pipeline(PercentileBinarizer(percentile=percentile), HammingNAPDetector())


def best_layer(detector: Any) -> LayerEnsembleDetector:
    """The one that separates the OOD rows of ``fit`` best."""
    return LayerEnsembleDetector(detector, combine="weighted", n_layers=1)


def features_of(A: Activations) -> str:
    """Name of the layer that the head reads."""
    assert A.head is not None
    assert A.head.input_layer is not None
    return A.head.input_layer


def some_layers(A: Activations) -> list[str]:
    """Mean-pooled layers, evenly spread over the depth, and the one that the head reads."""
    features = features_of(A)
    averaged = [str(c.name) for c in A.columns if c.pooling == "avg" and c.name != features]
    n_kept = min(len(averaged), N_SOME_LAYERS - 1)
    kept = [averaged[round((i + 1) * len(averaged) / n_kept) - 1] for i in range(n_kept)]
    return [*kept, features]


def published_layers(source: Source, A: Activations) -> list[str]:
    """What its authors monitor: every ReLU of a net without skips, the blocks of a residual one."""
    if source.network == "ResNet":
        return [name for name in A.layer_names if name.startswith("blocks.")]
    if source.network == "DenseNet":
        return [name for name in A.layer_names if name != features_of(A)]
    return list(A.layer_names)
