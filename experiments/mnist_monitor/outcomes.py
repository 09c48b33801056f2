"""How well a detector separates each kind of other images from the digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from skood import Activations
from skood.metrics import detection_accuracy_score, fpr_at_tpr_score, ood_roc_auc_score

from .detectors import PERCENTILES, fit_single_layer


class Outcome(NamedTuple):
    """Of one detector and one kind of other images, shares from 0 to 1."""

    auroc: float
    fpr95: float
    """Share of the other images accepted where 95 % of the digits are."""
    best_accuracy: float
    accuracy: float
    """At the detector's own threshold, digits and other images counting alike."""


BySet = dict[str, Outcome]
Singles = Mapping[tuple[str, int], BySet]
"""Outcomes of single layers, by layer and percentile."""


def evaluate(detector: Any, inside: Activations, outside: Mapping[str, Activations]) -> BySet:
    inside_scores = detector.decision_function(inside)
    outcomes = {}
    for name, A in outside.items():
        scores = np.concatenate([inside_scores, detector.decision_function(A)])
        y = np.repeat([1, -1], [len(inside), len(A)])
        outcomes[name] = Outcome(
            auroc=ood_roc_auc_score(y, scores),
            fpr95=fpr_at_tpr_score(y, scores, positive="id"),
            best_accuracy=detection_accuracy_score(y, scores),
            accuracy=0.5 * ((scores[y == 1] >= 0).mean() + (scores[y == -1] < 0).mean()),
        )
    return outcomes


def evaluate_single_layers(
    train: Activations, inside: Activations, outside: Mapping[str, Activations]
) -> Singles:
    """Every setting of a single layer on every set: what hindsight would choose."""
    return {
        (layer, percentile): evaluate(fit_single_layer(train, layer, percentile), inside, outside)
        for layer in train.layer_names
        for percentile in PERCENTILES
    }


def mean_of(by_set: BySet, measure: str, left_out: str) -> float:
    """Mean over all sets but the one that the detector was configured on."""
    values = [getattr(outcome, measure) for name, outcome in by_set.items() if name != left_out]
    return float(np.mean(values))
