"""The members of the default rule, by what it is to find."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import make_pipeline

from ..detectors import (
    ActivationNormDetector,
    EnergyDetector,
    FDBDDetector,
    HammingNAPDetector,
    MaxSoftmaxDetector,
)
from ..preprocessing import PercentileBinarizer
from ._knowledge import distances
from ._layers import LayerEnsembleDetector

Named = list[tuple[str, Any]]

PERCENTILES = (30, 50, 70)
"""None alone is best for every network and every kind of input."""


def layer_detectors(target: str, *, have_classes: bool) -> Named:
    """What watches every layer: distances of its values, and of its patterns."""
    # What all classes have in common says nothing about which of them is right.
    relative = target == "misclassified" and have_classes
    patterns = [
        make_pipeline(PercentileBinarizer(percentile=p), HammingNAPDetector()) for p in PERCENTILES
    ]
    return [
        ("distances", distances(relative=relative)),
        ("patterns", LayerEnsembleDetector(patterns, combine="mean")),
    ]


def head_detectors(target: str) -> Named:
    """What watches the logits and the boundaries between classes."""
    if target == "misclassified":
        return [("softmax", MaxSoftmaxDetector())]
    return [("boundaries", FDBDDetector()), ("energy", EnergyDetector())]


def feature_detectors(target: str) -> Named:
    """What watches the features that the head reads."""
    return [] if target == "misclassified" else [("features", distances())]


def joint_detectors(target: str) -> Named:
    """What watches all layers at once: their norms, which the other detectors divide by."""
    if target == "misclassified":
        return []
    return [("norms", ActivationNormDetector(group_by="prediction"))]
