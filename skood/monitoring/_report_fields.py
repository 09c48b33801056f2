"""What a report holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._values import Floats


@dataclass(frozen=True, eq=False, repr=False)
class ReportFields:
    """The fields of a report, which :class:`MonitorReport` describes."""

    network: str
    target: str
    layers: list[str]
    detectors: list[dict[str, Any]]
    data: dict[str, Any]
    threshold: dict[str, Any]
    false_alarms: dict[str, Any]
    calibration_curve: list[dict[str, Any]] | None
    false_alarms_by_prediction: list[dict[str, Any]] | None
    false_alarms_by_label: list[dict[str, Any]] | None
    errors: dict[str, Any] | None
    risk_coverage: dict[str, Floats] | None
    out_sets: list[dict[str, Any]]
    rejected_by_detector: list[dict[str, Any]]
    scores: list[tuple[str, Floats]]
    limit: float | None
    limits: list[str]
    versions: dict[str, str]
    date: str


def looks_for_errors(report: ReportFields) -> bool:
    """Whether errors of the network are what the monitor looks for, or what it has to bound."""
    return report.target != "ood" or report.threshold["origin"] == "risk-controlled"
