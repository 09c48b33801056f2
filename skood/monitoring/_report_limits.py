"""What a monitor cannot do, as far as the rows of a report tell."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log
from typing import Any

from ._report_origin import decides_nothing, impossible
from ._report_shares import percent

_NAMED = 10
"""As many classes are named in a sentence."""


def limits(fields: dict[str, Any]) -> list[str]:
    """Sentences for the fields of a report."""
    parts = (_of_threshold, _of_rows, _of_classes, _of_target, _of_sets)
    return [sentence for part in parts for sentence in part(fields)]


def _of_threshold(fields: dict[str, Any]) -> Iterator[str]:
    threshold = fields["threshold"]
    yield from impossible(threshold)
    if decides_nothing(threshold):
        return
    if threshold["origin"] in ("estimate", "own"):
        yield (
            "Nothing is promised of the rate of false alarms: the threshold comes from rows that "
            "the detector, and perhaps the network, has learnt from. On new inputs the rate may be "
            "several times higher. Monitor.calibrate sets the threshold by rows that neither has "
            "seen."
        )
        return
    if threshold["origin"] == "risk-controlled":
        yield (
            "Nothing is promised of the rate of false alarms. The bound on the errors among "
            "accepted inputs holds for such as are exchangeable with the rows that set the "
            "threshold, which the network must not have learnt from: not after a drift, and not "
            "among inputs of other kinds."
        )
        return
    rate = "The rate of false alarms" if threshold["n_folds"] == 1 else "What is said of the rate"
    yield (
        f"{rate} holds for inputs that are exchangeable with the rows that set "
        "the threshold: from the same source, recorded and prepared in the same way, in no "
        "particular order. After a change of cameras, users, seasons or of the network it has to "
        "be set anew."
    )
    yield (
        "It also takes for granted that the network has not learnt from the rows that set the "
        "threshold. Where it has, it knows them too well, and new inputs are rejected more often."
    )
    if threshold["n_folds"] > 1:
        yield (
            f"The threshold is by {threshold['n_folds']} detectors, each calibrated by the rows "
            "that it has not learnt from. Rates come out near the one asked for, but what is "
            "proven is about twice that one."
        )
    elif threshold["guarantee"] == "marginal":
        yield (
            "The rate holds on average over draws of the rows that set the threshold: that of this "
            "one threshold may be somewhat higher or lower."
        )
    if threshold["group_by"] is None:
        yield (
            "The rate holds over all inputs together, not for each class, nor for any other group."
        )


def _of_rows(fields: dict[str, Any]) -> Iterator[str]:
    data = fields["data"]
    for share, what in (
        (data["share_fitted"], "the monitor was fitted on"),
        (data["share_calibrating"], "the threshold was calibrated on"),
    ):
        if share > 0.05:
            yield (
                f"{percent(share)} of the rows of the test are among those that {what}: what is "
                "counted on them says little of new inputs."
            )
    yield (
        "The intervals hold for rows that are independent of each other: frames of one film or "
        "copies of one image count as far fewer. They also take for granted that neither the "
        "network nor the monitor has learnt from the rows of the test."
    )
    if (alarms := fields["false_alarms"])["n_rows"] < 100:
        yield (
            f"The rate of false alarms is measured on {alarms['n_rows']} row(s) only, too few to "
            "say much."
        )


def _of_classes(fields: dict[str, Any]) -> Iterator[str]:
    entries = fields["false_alarms_by_prediction"]
    if entries is None:
        yield (
            "The network predicts no classes, so that nothing is said of single kinds of inputs."
        )
        return
    needed = _rows_needed(fields["false_alarms"]["asked"] or 0.05)
    rows = {entry["class"]: entry["n_rows"] for entry in entries}
    few = [label for label in fields["data"]["classes"] if rows.get(label, 0) < needed]
    if few:
        yield (
            f"Classes with fewer than {needed} rows of the test say little of their own rate of "
            f"false alarms: {_listed(few)}."
        )


def _rows_needed(rate: float) -> int:
    """So many rows without any alarm have the rate itself as the upper end of their interval."""
    return ceil(log(0.025) / log(1 - rate))


def _of_target(fields: dict[str, Any]) -> Iterator[str]:
    target, knows_errors = fields["target"], fields["errors"] is not None
    if target == "ood":
        yield (
            "The monitor looks for inputs from another distribution. An input that looks like the "
            "others and is classified wrongly is not what it is made to find."
        )
        return
    if target == "misclassified":
        yield (
            "The monitor looks for inputs that the network classifies wrongly. Inputs of other "
            "kinds are found only as far as the network is unsure of them."
        )
    if not knows_errors:
        yield (
            "Whether the monitor finds errors of the network is not known: "
            f"{fields['data']['why_no_accuracy']}. Rejected rows that the network classifies "
            "wrongly are counted as false alarms."
        )


def _of_sets(fields: dict[str, Any]) -> Iterator[str]:
    sets = fields["out_sets"]
    if not sets:
        yield (
            "No set of out-of-distribution inputs was tested: nothing is said of what the monitor "
            "finds."
        )
    else:
        yield (
            "What is found in the sets tested holds for inputs like these. Nothing follows for "
            "inputs of another kind."
        )
        worst = min(sets, key=lambda entry: entry["rejected"])
        if worst["rejected"] < 0.95:
            yield (
                f'Of the sets tested, "{worst["name"]}" is found least: '
                f"{percent(1 - worst['rejected'])} of it is accepted."
            )
    yield (
        "Near inputs, such as those of a new class that resembles a known one, are found less "
        "often than far ones, such as noise. Inputs made to deceive were not tested."
    )


def _listed(labels: list[Any]) -> str:
    shown = ", ".join(map(str, labels[:_NAMED]))
    return shown if len(labels) <= _NAMED else f"{shown} and {len(labels) - _NAMED} more"
