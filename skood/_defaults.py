"""The detectors that `make_monitor` builds, by what they are to find."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline, make_pipeline

from .detectors import (
    EnergyDetector,
    FDBDDetector,
    HammingNAPDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxSoftmaxDetector,
    ViMDetector,
)
from .ensemble import AnyAlarmDetector, LayerEnsembleDetector
from .model_selection import DetectorSearchCV
from .preprocessing import LayerSelector, PercentileBinarizer


def ood_detector(false_alarm_rate: float) -> Any:
    """The detector of out-of-distribution inputs; it needs none of them, nor a head or logits."""
    return LayerEnsembleDetector(
        nap_of_one_layer(), combine="mean", false_alarm_rate=false_alarm_rate
    )


def error_detector(false_alarm_rate: float) -> Any:
    """The detector of misclassified inputs; it needs logits."""
    return MaxSoftmaxDetector(false_alarm_rate=false_alarm_rate)


def default_detector(target: str, false_alarm_rate: float, *, search: bool = False) -> Any:
    """The detector for a target: "ood", "misclassified", or "both" with one threshold each.

    With ``search``, that of out-of-distribution inputs is one of several, by what rows marked so
    say.
    """
    if target == "misclassified":
        return error_detector(false_alarm_rate)
    of_ood = DetectorSearchCV(candidates(false_alarm_rate)) if search else None
    of_ood = of_ood or ood_detector(false_alarm_rate)
    if target == "ood":
        return of_ood
    return AnyAlarmDetector([("ood", of_ood), ("misclassified", error_detector(false_alarm_rate))])


def candidates(false_alarm_rate: float) -> list[tuple[str, Any]]:
    """What a search chooses from, the default first.

    AutoNAPDetector is not among them: its threshold is no rate of false alarms.
    """
    rate: dict[str, Any] = {"false_alarm_rate": false_alarm_rate}
    return [
        ("default", ood_detector(false_alarm_rate)),
        ("errors", error_detector(false_alarm_rate)),
        ("energy", EnergyDetector(**rate)),
        ("fdbd", FDBDDetector(**rate)),
        ("vim", ViMDetector(**rate)),
        ("knn", _on_last_layer(KNNDetector(n_neighbors=5, **rate))),
        (
            "relative_mahalanobis",
            _on_last_layer(MahalanobisDetector(relative=True, normalize=True, **rate)),
        ),
        (
            "weighted_nap",
            LayerEnsembleDetector(nap_of_one_layer(), combine="weighted", **rate),
        ),
    ]


def nap_of_one_layer() -> LayerEnsembleDetector:
    """Activation patterns of a layer: no percentile is best for every network and every input."""
    return LayerEnsembleDetector(
        [
            make_pipeline(PercentileBinarizer(percentile=percentile), HammingNAPDetector())
            for percentile in (30, 50, 70)
        ],
        combine="mean",
    )


def _on_last_layer(detector: Any) -> Pipeline:
    return make_pipeline(LayerSelector(layers=-1), detector)
