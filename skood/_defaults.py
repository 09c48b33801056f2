"""The detectors that `make_monitor` builds, by what they are to find."""

from __future__ import annotations

from typing import Any

from .ensemble import AdaptiveEnsembleDetector, AnyAlarmDetector


def default_detector(target: str, false_alarm_rate: float) -> Any:
    """The detector for a target: "ood", "misclassified", or "both" with one threshold each."""
    if target != "both":
        return AdaptiveEnsembleDetector(target=target, false_alarm_rate=false_alarm_rate)
    return AnyAlarmDetector(
        [(name, default_detector(name, false_alarm_rate)) for name in ("ood", "misclassified")]
    )
