"""From a fitted monitor and rows to all that a report tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._monitor_view import Watcher, network_name
from .._values import Floats
from .._versions import installed_versions
from .._warnings import warn_user, warning_once
from ..activations import Activations
from ._report_limits import limits
from ._report_measure import (
    Entry,
    KnownRows,
    calibration_curve,
    false_alarms_by,
    out_set,
    rejected_errors,
    risk_coverage,
)
from ._report_rows import ERRORS, MARKED, TEST, Labels, checked_sets, naming, split_at_network
from ._report_shares import rejected_share
from ._report_threshold import Judged, Rejected, Rule, rule_of


class OutSet(NamedTuple):
    """Rows that are not in-distribution, what the monitor says of them, and each detector."""

    name: str
    judged: Judged
    each: dict[str, Rejected]


def _refuse_wrappers(monitor: Any) -> None:
    if not hasattr(monitor, "steps") or not hasattr(monitor, "network"):
        raise TypeError(
            f"A report is of a Monitor, got {type(monitor).__name__}. Where it calibrates a "
            "monitor, make it the last step of one instead, as in Monitor([('extract', "
            "ActivationExtractor(network)), ('detect', RiskControlledDetector(...))]); or call "
            "monitor.calibrate and monitor.report."
        )


def measure(
    monitor: Any, X_test: Any, out_sets: Mapping[str, Any] | None, y_test: ArrayLike | None
) -> dict[str, Any]:
    """All fields of a report; the network runs once over each set, and warnings come once."""
    with warning_once():
        return _measure(monitor, X_test, out_sets, y_test)


def _measure(
    monitor: Any, X_test: Any, out_sets: Mapping[str, Any] | None, y_test: ArrayLike | None
) -> dict[str, Any]:
    sets = checked_sets(out_sets)
    _refuse_wrappers(monitor)
    network, from_extractor = split_at_network(monitor)
    rule = rule_of(from_extractor)
    with naming("X_test"):
        A = network.transform(X_test)
        labels = Labels.of(A, y_test, monitor.target)
        rows = _known_rows(monitor.target, rule, A, labels)
        outside = [_out_set(MARKED, rule, A[~labels.is_in])] if not labels.is_in.all() else []
    for name, X in sets.items():
        with naming(f"out_sets[{name!r}]"):
            outside.append(_out_set(name, rule, network.transform(X)))
    data = _of_data(rule, rows)
    data["share_fitted"] = _share_fitted(monitor, from_extractor[:-1].transform(A))
    _warn_of_known_rows(data)
    fields = {
        **_of_monitor(monitor, rule, data["classes"]),
        "data": data,
        **_of_test(rule, rows),
        **_of_sets(rule, rows, outside),
        "versions": installed_versions(),
        "date": date.today().isoformat(),
    }
    return {**fields, "limits": limits(fields)}


def _known_rows(target: str, rule: Rule, A: Activations, labels: Labels) -> KnownRows:
    A = A if labels.is_in.all() else A[labels.is_in]
    should_pass = np.ones(len(A), dtype=bool)
    if target != "ood" and labels.is_correct is not None:
        should_pass = labels.is_correct
    return KnownRows(A, rule.judge(A), labels, should_pass)


def _out_set(name: str, rule: Rule, A: Activations) -> OutSet:
    return OutSet(name, rule.judge(A), rule.rejected_each(A))


def _of_monitor(monitor: Any, rule: Rule, classes: list[Any] | None) -> dict[str, Any]:
    watchers = Watcher.of(monitor.steps[-1][0], monitor[-1]).rows()
    return {
        "network": network_name(monitor.network),
        "target": monitor.target,
        "layers": list(monitor.layers_),
        "detectors": [
            {
                "depth": depth,
                "detector": watcher.name,
                "kind": watcher.kind,
                "layers": watcher.layers,
                "weight": watcher.weight,
                "left_out": watcher.left_out,
            }
            for depth, watcher in watchers
        ],
        "threshold": rule.facts(classes),
    }


def _of_data(rule: Rule, rows: KnownRows) -> dict[str, Any]:
    labels = rows.labels
    return {
        "n_fitted": rule.n_fitted(),
        "n_tested": len(rows.judged.scores),
        "classes": _classes(rows.A),
        "accuracy": None if labels.is_correct is None else float(labels.is_correct.mean()),
        "why_no_accuracy": labels.why_unknown,
        "share_calibrating": rule.share_calibrating(rows.A),
    }


def _share_fitted(monitor: Any, given: Any) -> float:
    """Share of rows that are among those of ``fit``, as far as the monitor knows them again."""
    seen = getattr(getattr(monitor, "_learnt", None), "seen", None)
    return 0.0 if seen is None else float(seen.share_among(given))


def _warn_of_known_rows(data: dict[str, Any]) -> None:
    for share, what in ((data["share_fitted"], "fit"), (data["share_calibrating"], "calibrate")):
        if share > 0.05:
            warn_user(
                f"{share:.0%} of the rows of X_test are among those that {what} got: rates that "
                "are counted on them say little of new inputs. Pass rows that neither the network "
                "nor the monitor has learnt from."
            )


def _classes(A: Activations) -> list[Any] | None:
    """Classes of the network, as far as they are known; None where it predicts none."""
    if A.classes is not None:
        return A.classes.tolist()
    return None if A.predictions is None else np.unique(A.predictions).tolist()


def _of_test(rule: Rule, rows: KnownRows) -> dict[str, Any]:
    rates = list(rule.facts()["false_alarm_rate"].values())
    asked = None if None in rates else float(sum(rates))
    return {
        "false_alarms": {"asked": asked, **rejected_share(rows.judged.rejected[rows.should_pass])},
        "calibration_curve": calibration_curve(rule, rows, asked),
        "false_alarms_by_prediction": false_alarms_by(rows.A.predictions, rows),
        "false_alarms_by_label": false_alarms_by(rows.labels.classes, rows),
        "errors": rejected_errors(rows),
        "risk_coverage": risk_coverage(rows),
        "limit": rule.limit,
    }


def _of_sets(rule: Rule, rows: KnownRows, outside: list[OutSet]) -> dict[str, Any]:
    return {
        "out_sets": [out_set(name, judged, rows) for name, judged, _ in outside],
        "scores": list(_scores(rows, outside)),
        "rejected_by_detector": list(_by_detector(rule, rows, outside)),
    }


def _scores(rows: KnownRows, outside: list[OutSet]) -> Iterator[tuple[str, Floats]]:
    for name, kept in _parts(rows):
        yield name, rows.judged.scores[kept]
    for name, judged, _ in outside:
        yield name, judged.scores


def _by_detector(rule: Rule, rows: KnownRows, outside: list[OutSet]) -> Iterator[Entry]:
    """Shares of each set that each of several detectors rejects."""
    each = rule.rejected_each(rows.A)
    for name, kept in _parts(rows):
        yield from _entries(name, {detector: found[kept] for detector, found in each.items()})
    for name, _, found_each in outside:
        yield from _entries(name, found_each)


def _parts(rows: KnownRows) -> Iterator[tuple[str, Rejected]]:
    """The rows of the test that should pass, and the others where there are any."""
    yield TEST, rows.should_pass
    if not rows.should_pass.all():
        yield ERRORS, ~rows.should_pass


def _entries(name: str, each: Mapping[str, Rejected]) -> Iterator[Entry]:
    for detector, rejected in each.items():
        yield {"name": name, "detector": detector, **rejected_share(rejected)}
