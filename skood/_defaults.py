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
    ViMDetector,
)
from .ensemble import AdaptiveEnsembleDetector, AnyAlarmDetector, LayerEnsembleDetector
from .model_selection import DetectorSearchCV
from .preprocessing import LayerSelector, PercentileBinarizer


def default_detector(
    target: str, false_alarm_rate: float, *, search: bool = False, validation: Any = None
) -> Any:
    """The detector for a target: "ood", "misclassified", or "both" with one threshold each.

    With ``search``, that of out-of-distribution inputs is one of several, by what rows marked so
    say.
    """
    if target == "both":
        of_ood = default_detector("ood", false_alarm_rate, search=search)
        of_errors = default_detector("misclassified", false_alarm_rate)
        named = [("ood", of_ood), ("misclassified", of_errors)]
        return AnyAlarmDetector(named, validation=validation)
    settings: Any = {"false_alarm_rate": false_alarm_rate, "validation": validation}
    if search:
        return DetectorSearchCV(candidates(), **settings)
    return AdaptiveEnsembleDetector(target=target, **settings)


def candidates() -> list[tuple[str, Any]]:
    """What a search chooses from, the default first.

    AutoNAPDetector is not among them: its threshold is no rate of false alarms.
    """
    return [
        ("default", AdaptiveEnsembleDetector()),
        ("errors", AdaptiveEnsembleDetector(target="misclassified")),
        ("energy", EnergyDetector()),
        ("fdbd", FDBDDetector()),
        ("vim", ViMDetector()),
        ("knn", _on_last_layer(KNNDetector(n_neighbors=5))),
        (
            "relative_mahalanobis",
            _on_last_layer(MahalanobisDetector(relative=True, normalize=True)),
        ),
        (
            "weighted_nap",
            LayerEnsembleDetector(nap_of_one_layer(), combine="weighted"),
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
