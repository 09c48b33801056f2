"""The rule without each of its parts, with others added, and single methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from skood import Activations
from skood.detectors import (
    ActivationNormDetector,
    COREDetector,
    EnergyDetector,
    FDBDDetector,
    GENDetector,
    KNNDetector,
    MaxSoftmaxDetector,
    ViMDetector,
)
from skood.ensemble import AdaptiveEnsembleDetector, LayerEnsembleDetector, _adaptive, _layers
from skood.ensemble._adaptive_members import (
    feature_detectors,
    joint_detectors,
    layer_detectors,
)
from skood.ensemble._knowledge import class_knowledge, distances

from .remembered import Remembered, fingerprint

WHOLE = "whole rule"
MOST_LAYERS = 64
"""That the rule watches here: what fewer of them do is among the questions."""
ENERGY = ("energy", Remembered("energy", EnergyDetector()))
BOUNDARIES = ("boundaries", Remembered("boundaries", FDBDDetector()))
SOFTMAX = ("softmax", Remembered("softmax", MaxSoftmaxDetector()))
VIM = ("vim", Remembered("vim", ViMDetector()))
GEN = ("gen", Remembered("gen", GENDetector()))
CORE = ("core", Remembered("core", COREDetector()))
KNN = ("knn", Remembered("knn", KNNDetector(n_neighbors=5)))
RELATIVE = ("relative", Remembered("relative distances", distances(relative=True)))


class EqualVoices(AdaptiveEnsembleDetector):
    """Layers against head as in the rule, but all layers alike."""

    def _of_all_layers(
        self, detector: Any, knowledge: NDArray[np.float64] | None
    ) -> LayerEnsembleDetector:
        equal = np.ones(len(self.layers_))
        return LayerEnsembleDetector(detector, combine="informed", knowledge=equal)

    def _fit_layers(
        self, X: Activations, y: NDArray | None, told: Any
    ) -> list[NDArray[np.float64]]:
        scores = super()._fit_layers(X, y, told)
        # What decides how much all of them count together stays.
        self.knowledge_ = class_knowledge(X[self.layers_])
        return scores


def members_of_layers(target: str, *, have_classes: bool) -> list[tuple[str, Any]]:
    """Distances and patterns of the default, the first by the name of their kind."""
    members = layer_detectors(target, have_classes=have_classes)
    is_relative = target == "misclassified" and have_classes
    names = ("relative distances" if is_relative else "distances", "patterns")
    return [
        (name, Remembered(kind, detector))
        for kind, (name, detector) in zip(names, members, strict=True)
    ]


def rules_for_ood(*, have_classes: bool) -> dict[str, AdaptiveEnsembleDetector]:
    """The default rule, and what it is without each part and with others, not fitted."""
    layers = members_of_layers("ood", have_classes=have_classes)
    default: dict[str, Any] = {
        "layer_detectors": layers,
        "feature_detectors": [(n, Remembered("distances", d)) for n, d in feature_detectors("ood")],
        "joint_detectors": [(name, Remembered(name, d)) for name, d in joint_detectors("ood")],
        "head_detectors": [BOUNDARIES, ENERGY],
        "max_layers": MOST_LAYERS,
    }
    rule = AdaptiveEnsembleDetector
    by_name = {name: (name, detector) for name, detector in layers}
    features, head = default["feature_detectors"], default["head_detectors"]
    return {
        WHOLE: rule(**default),
        "without distances": rule(**{**default, "layer_detectors": [by_name["patterns"]]}),
        "without patterns": rule(**{**default, "layer_detectors": [by_name["distances"]]}),
        "without features": rule(**{**default, "feature_detectors": []}),
        "without boundaries": rule(**{**default, "head_detectors": [ENERGY]}),
        "without energy": rule(**{**default, "head_detectors": [BOUNDARIES]}),
        WITHOUT_NORMS: rule(**{**default, "joint_detectors": []}),
        "layers alone": rule(**{**default, "feature_detectors": [], "head_detectors": []}),
        HEAD_ALONE: rule(
            **{**default, "layer_detectors": [], "feature_detectors": [], "joint_detectors": []}
        ),
        "all layers of equal voice": EqualVoices(**default),
        RELATIVE_ADDED: rule(**{**default, "layer_detectors": [*layers, RELATIVE]}),
        "KNN of features added": rule(**{**default, "feature_detectors": [*features, KNN]}),
        "ViM added to the head": rule(**{**default, "head_detectors": [*head, VIM]}),
        "GEN added to the head": rule(**{**default, "head_detectors": [*head, GEN]}),
        "CORE added to the head": rule(**{**default, "head_detectors": [*head, CORE]}),
        **{f"{n} layers at most": rule(**{**default, "max_layers": n}) for n in (32, 16, 8)},
    }


WITHOUT_NORMS = "without norms"
HEAD_ALONE = "head alone"
RELATIVE_ADDED = "relative distances of layers added"
NEED_HEAD = (
    "without features",
    "without boundaries",
    "without energy",
    "layers alone",
    HEAD_ALONE,
    RELATIVE_ADDED,
    "KNN of features added",
    "ViM added to the head",
    "GEN added to the head",
    "CORE added to the head",
)
"""Variants that are the whole rule, or nothing, where there is no head and are no classes."""


def rules_for_errors(*, have_classes: bool) -> dict[str, AdaptiveEnsembleDetector]:
    layers = members_of_layers("misclassified", have_classes=have_classes)
    default: dict[str, Any] = {
        "target": "misclassified",
        "layer_detectors": layers,
        "feature_detectors": [],
        "head_detectors": [SOFTMAX],
        "max_layers": MOST_LAYERS,
    }
    rule = AdaptiveEnsembleDetector
    return {
        WHOLE: rule(**default),
        "without distances": rule(**{**default, "layer_detectors": layers[1:]}),
        "without patterns": rule(**{**default, "layer_detectors": layers[:1]}),
    }


NAP_OF_LAYERS = "NAP, all layers, mean"
NORMS = "norms of all layers"
NEED_LAYERS_ONLY = (
    "Mahalanobis++, all layers, mean",
    NAP_OF_LAYERS,
    NORMS,
    "KNN 5",
    "Mahalanobis++",
)
SOFTMAX_ALONE = "MSP"
RELATIVE_ALONE = "relative Mahalanobis++"


def single_methods() -> dict[str, Any]:
    """Methods by themselves: of logits and head, of the features, and of all layers."""
    layers = dict(members_of_layers("ood", have_classes=True))
    return {
        SOFTMAX_ALONE: SOFTMAX[1],
        "energy": ENERGY[1],
        "GEN": GEN[1],
        "fDBD": BOUNDARIES[1],
        "ViM": VIM[1],
        "KNN 5": KNN[1],
        "Mahalanobis++": Remembered("distances", distances()),
        RELATIVE_ALONE: RELATIVE[1],
        NEED_LAYERS_ONLY[0]: LayerEnsembleDetector(layers["distances"], combine="mean"),
        NAP_OF_LAYERS: LayerEnsembleDetector(layers["patterns"], combine="mean"),
        NORMS: Remembered("norms", ActivationNormDetector(group_by="prediction")),
    }


OF_FEATURES = ("KNN 5", "Mahalanobis++", RELATIVE_ALONE)


def features_of(X: Activations) -> Activations:
    """What the head reads; without a head the last layer."""
    if X.features is None:
        return X[[X.layer_names[-1]]]
    return Activations({"features": np.asarray(X.features)}, predictions=X.predictions)


@contextmanager
def knowledge_kept() -> Iterator[None]:
    """Find out what layers know of the classes once for each network, not for each rule."""
    known: dict[tuple, Any] = {}

    def remember(X: Activations) -> Any:
        key = fingerprint(X)
        if key not in known:
            known[key] = class_knowledge(X)
        return known[key]

    with (
        patch.object(_adaptive, "class_knowledge", remember),
        patch.object(_layers, "class_knowledge", remember),
    ):
        yield
