"""From a fitted monitor and rows to all that a report tells."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from .._foreign import detector_of
from .._monitor_view import Watcher, network_name
from .._versions import installed_versions
from ..activations import Activations
from ._report_limits import limits
from ._report_measure import (
    Entry,
    KnownRows,
    calibration_curve,
    false_alarms_by,
    out_set,
    rejected_by_detector,
    rejected_errors,
)
from ._report_rows import Labels, checked_sets, naming, run_network
from ._report_shares import rejected_share
from ._report_threshold import Judged, Rejected, Rule, rule_of

MARKED = "marked -1 in y_test"
"""Name of the set of the rows of the test set that are marked."""


def measure(
    monitor: Any, X_test: Any, out_sets: Mapping[str, Any] | None, y_test: ArrayLike | None
) -> dict[str, Any]:
    """All fields of a report; the network runs once over each set."""
    sets = checked_sets(out_sets)
    rule = rule_of(monitor)
    looks_for_errors = monitor.target != "ood"
    with naming("X_test"):
        A, given = run_network(monitor, X_test)
        labels = Labels.of(A, y_test, needs_errors=monitor.target == "misclassified")
        rows = _known_rows(rule, A, given, labels, looks_for_errors=looks_for_errors)
        each = {"X_test": _of_each(rule, rows.given, rows.should_pass)}
        judged = {}
        if not labels.is_in.all():
            outside = given[~labels.is_in]
            judged[MARKED], each[MARKED] = rule.judge(outside), rule.rejected_each(outside)
    for name, X in sets.items():
        with naming(f"out_sets[{name!r}]"):
            outside = run_network(monitor, X)[1]
            judged[name], each[name] = rule.judge(outside), rule.rejected_each(outside)
    fields = {
        **_of_monitor(monitor, rule),
        **_of_rows(rule, rows, A),
        **_of_sets(rows, judged, each),
        "versions": installed_versions(),
        "date": date.today().isoformat(),
    }
    return {**fields, "limits": limits(fields)}


def _known_rows(
    rule: Rule, A: Activations, given: Any, labels: Labels, *, looks_for_errors: bool
) -> KnownRows:
    if not labels.is_in.all():
        A, given = A[labels.is_in], given[labels.is_in]
    should_pass = np.ones(len(A), dtype=bool)
    if looks_for_errors and labels.is_correct is not None:
        should_pass = labels.is_correct
    return KnownRows(given, rule.judge(given), A.predictions, labels, should_pass)


def _of_each(rule: Rule, given: Any, kept: Rejected) -> dict[str, Rejected]:
    return {name: rejected[kept] for name, rejected in rule.rejected_each(given).items()}


def _of_monitor(monitor: Any, rule: Rule) -> dict[str, Any]:
    rows = Watcher.of(monitor.steps[-1][0], monitor[-1]).rows()
    return {
        "network": network_name(monitor.network),
        "target": monitor.target,
        "layers": list(monitor.layers_),
        "detectors": [_detector_entry(depth, watcher) for depth, watcher in rows],
        "threshold": rule.facts(),
    }


def _detector_entry(depth: int, watcher: Watcher) -> Entry:
    return {
        "depth": depth,
        "detector": watcher.name,
        "kind": watcher.kind,
        "layers": watcher.layers,
        "weight": watcher.weight,
        "left_out": watcher.left_out,
    }
