"""The detectors that `make_monitor` builds, by what they are to find."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import make_pipeline

from .detectors import HammingNAPDetector, MaxSoftmaxDetector
from .ensemble import AnyAlarmDetector, LayerEnsembleDetector
from .preprocessing import PercentileBinarizer


def ood_detector(false_alarm_rate: float) -> Any:
    """The detector of out-of-distribution inputs; it needs none of them, nor a head or logits."""
    of_one_layer = LayerEnsembleDetector(
        [make_pipeline(PercentileBinarizer(percentile=p), HammingNAPDetector()) for p in _PERCENT],
        combine="mean",
    )
    return LayerEnsembleDetector(of_one_layer, combine="mean", false_alarm_rate=false_alarm_rate)


def error_detector(false_alarm_rate: float) -> Any:
    """The detector of misclassified inputs; it needs logits."""
    return MaxSoftmaxDetector(false_alarm_rate=false_alarm_rate)


def default_detector(target: str, false_alarm_rate: float) -> Any:
    """The detector for a target: "ood", "misclassified", or "both" with one threshold each."""
    if target == "ood":
        return ood_detector(false_alarm_rate)
    if target == "misclassified":
        return error_detector(false_alarm_rate)
    return AnyAlarmDetector(
        [
            ("ood", ood_detector(false_alarm_rate)),
            ("misclassified", error_detector(false_alarm_rate)),
        ]
    )


_PERCENT = (30, 50, 70)
