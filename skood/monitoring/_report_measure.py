"""The numbers of a report, each counted on rows of a test set or of a set of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from .._values import Floats
from ..activations import Activations
from ..metrics import (
    area_under_risk_coverage_score,
    excess_area_under_risk_coverage_score,
    fpr_at_tpr_score,
    ood_roc_auc_score,
    risk_coverage_curve,
)
from ._report_rows import Labels
from ._report_shares import rejected_by_class, rejected_share
from ._report_threshold import Judged, Rule

Entry = dict[str, Any]

RATES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Rates of false alarms at which the calibration curve is measured."""


@dataclass(frozen=True, eq=False)
class KnownRows:
    """In-distribution rows of the test set, and what the monitor says of them.

    Attributes
    ----------
    A : Activations
        What the network computes of them.
    judged : Judged
        Their scores, and which of them are rejected.
    labels : Labels
        What their labels tell.
    should_pass : ndarray of shape (n_samples,), dtype bool
        The rows whose rejection is a false alarm; the monitor looks for the others.
    """

    A: Activations
    judged: Judged
    labels: Labels
    should_pass: NDArray[np.bool_]


def calibration_curve(rule: Rule, rows: KnownRows, asked: float | None) -> list[Entry] | None:
    """False alarms by the rate that is asked for, among others the one of the monitor."""
    rates = sorted({*RATES, *([] if asked is None else [asked])})
    at_rates = rule.rejected_at(rows.A, rates)
    if at_rates is None:
        return None
    return [
        {"asked": rate, **rejected_share(rejected[rows.should_pass])}
        for rate, rejected in zip(rates, at_rates, strict=True)
    ]


def false_alarms_by(classes: NDArray | None, rows: KnownRows) -> list[Entry] | None:
    """False alarms by predicted classes or labels, where these are known."""
    if classes is None:
        return None
    return rejected_by_class(classes[rows.should_pass], rows.judged.rejected[rows.should_pass])


def rejected_errors(rows: KnownRows) -> Entry | None:
    """What the monitor does for a classifier that errs, where it is known which rows it errs on."""
    is_correct = rows.labels.is_correct
    if is_correct is None:
        return None
    scores, rejected = _ranked(rows.judged.scores), rows.judged.rejected
    accepted = ~rejected
    return {
        "accuracy": float(is_correct.mean()),
        "accuracy_interval": _interval(is_correct),
        "n_accepted": int(accepted.sum()),
        "coverage": float(accepted.mean()),
        "coverage_interval": _interval(accepted),
        "accuracy_of_accepted": float(is_correct[accepted].mean()) if accepted.any() else np.nan,
        "accuracy_of_accepted_interval": _interval(is_correct[accepted]),
        "area_under_risk_coverage": area_under_risk_coverage_score(is_correct, scores),
        "excess_area_under_risk_coverage": excess_area_under_risk_coverage_score(
            is_correct, scores
        ),
        "auroc": _auroc(scores[is_correct], scores[~is_correct]),
        **rejected_share(rejected[~is_correct]),
    }


def _interval(is_true: NDArray[np.bool_]) -> tuple[float, float]:
    share = rejected_share(is_true)
    return share["low"], share["high"]


def risk_coverage(rows: KnownRows) -> dict[str, Floats] | None:
    """The error rate of the rows that every other threshold would accept."""
    if rows.labels.is_correct is None:
        return None
    curve = risk_coverage_curve(rows.labels.is_correct, _ranked(rows.judged.scores))
    return {"coverage": curve.coverage, "risk": curve.risk}


def out_set(name: str, judged: Judged, rows: KnownRows) -> Entry:
    """How a set of other rows is told from the rows of the test that should pass."""
    inside = rows.judged.scores[rows.should_pass]
    return {
        "name": name,
        "auroc": _auroc(inside, judged.scores),
        "fpr95": _fpr95(inside, judged.scores),
        **rejected_share(judged.rejected),
    }


def _auroc(inside: Floats, outside: Floats) -> float:
    if len(inside) == 0 or len(outside) == 0:
        return float("nan")
    return ood_roc_auc_score(*_marked(inside, outside))


def _fpr95(inside: Floats, outside: Floats) -> float:
    if len(inside) == 0:
        return float("nan")
    return fpr_at_tpr_score(*_marked(inside, outside), tpr=0.95)


def _marked(inside: Floats, outside: Floats) -> tuple[NDArray[np.int64], Floats]:
    scores = np.concatenate([inside, outside])
    return np.where(np.arange(len(scores)) < len(inside), 1, -1), _ranked(scores)


def _ranked(scores: Floats) -> Floats:
    """Finite numbers in the order of the scores, of which some may be infinite."""
    return rankdata(scores, method="dense").astype(np.float64)
