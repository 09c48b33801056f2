"""What a report says, in sections of words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._monitor_view import TARGETS, listed
from ._report_fields import ReportFields, looks_for_errors
from ._report_markup import Block, Bullets, Paragraph, Picture, Section, Table
from ._report_origin import asked, count, impossible, origin_of, realised, rows_by_name
from ._report_rows import TEST
from ._report_shares import CONFIDENCE, CONFIDENCE_TEXT, between, exact_percent, interval, percent

_SHOWN, _DETECTORS_SHOWN = 30, 60
"""As many classes and detectors have a row of a table; the attributes of the report hold all."""

FIGURES = {
    "scores": "Histograms of the scores of the test rows and of each other set",
    "calibration_curve": "Measured rates of false alarms against the rates that were asked for",
    "risk_coverage": "Errors among the accepted rows against the share that is accepted",
}
"""What each figure shows."""

_NO_NAME = "(without a name)"

_PASSING = {
    False: "in-distribution rows of the test",
    True: "rows of the test that the network classifies correctly",
}
"""The rows whose rejection is a false alarm, by whether errors are looked for."""


def title_of(report: ReportFields) -> str:
    return f"Report of a monitor of {report.network}"


def sections_of(
    report: ReportFields, sources: Mapping[str, str], why_none: str = ""
) -> list[Section]:
    """All sections, with figures at the addresses in ``sources``, or why there are none."""
    pictures = {name: Picture(source, FIGURES[name]) for name, source in sources.items()}
    sections: dict[str, list[Block]] = {
        "In short": _in_short(report),
        "The monitor": _monitor(report),
        "Data": _data(report),
        "Threshold": _threshold(report),
        "False alarms": _false_alarms(report, pictures),
        "Errors of the network": _errors(report, pictures),
        "Out-of-distribution sets": _out_sets(report, pictures),
        "What this monitor cannot do": [Bullets(report.limits)],
        "What watches what": _detectors(report),
        "Versions": _versions(report, why_none),
    }
    return [Section(title, blocks) for title, blocks in sections.items() if blocks]


def _in_short(report: ReportFields) -> list[Block]:
    lines = [
        *impossible(report.threshold),
        _alarms_in_short(report),
        f"Threshold: {origin_of(report.threshold)}.",
    ]
    if report.errors is not None and looks_for_errors(report):
        lines.append(_errors_in_short(report.errors))
        lines += _risk_in_short(report.errors, report.threshold)
    if report.out_sets:
        lines.append(f"Out-of-distribution sets: rejected are {_found(report.out_sets)}.")
    return [Bullets(lines)]


def _risk_in_short(errors: Mapping[str, Any], threshold: Mapping[str, Any]) -> Iterator[str]:
    """The error rate among accepted rows beside the one that is promised."""
    if threshold["origin"] != "risk-controlled" or errors["n_accepted"] == 0:
        return
    low, high = (1 - end for end in reversed(errors["accuracy_of_accepted_interval"]))
    verdict = "more than" if low > threshold["alpha"] else "in agreement with"
    yield (
        f"Errors among accepted rows: {percent(1 - errors['accuracy_of_accepted'])} of "
        f"{errors['n_accepted']} ({CONFIDENCE_TEXT} interval {between(low, high)}), {verdict} the "
        f"{exact_percent(threshold['alpha'])} that they are to have at most."
    )


def _errors_in_short(errors: Mapping[str, Any]) -> str:
    rejected = "there are none"
    if errors["n_rows"]:
        rejected = f"{percent(errors['rejected'])} of {errors['n_rows']} are rejected"
    accepted = ", and no row is accepted"
    if errors["n_accepted"]:
        accepted = f" and {percent(errors['accuracy_of_accepted'])} on those accepted"
    accuracy = percent(errors["accuracy"])
    return f"Errors of the network: {rejected}; the accuracy is {accuracy} on all rows{accepted}."


def _found(sets: Sequence[Mapping[str, Any]]) -> str:
    """What is rejected of each set, or of very many sets of the extreme ones."""
    ascending = sorted(sets, key=lambda entry: entry["rejected"])
    shares = [f'{percent(entry["rejected"])} of "{entry["name"]}"' for entry in ascending]
    if len(shares) <= 5:
        return ", ".join(shares)
    return f"from {shares[0]} to {shares[-1]} ({len(shares)} sets)"


def _alarms_in_short(report: ReportFields) -> str:
    alarms, mixed = report.false_alarms, _holds_errors(report)
    if alarms["n_rows"] == 0:
        return "False alarms: not known, since the test has no rows that should pass."
    measured = (
        f"{'Alarms' if mixed else 'False alarms'}: {percent(alarms['rejected'])} of "
        f"{alarms['n_rows']} rows ({CONFIDENCE_TEXT} interval {interval(alarms)})"
    )
    if mixed:
        measured += ", among them right ones, on errors of the network, of which no number is known"
    if alarms["asked"] is None:
        return f"{measured}; no rate was asked for."
    several = ", all detectors together" if len(report.threshold["false_alarm_rate"]) > 1 else ""
    wanted = f"{exact_percent(alarms['asked'])} that were asked for{several}"
    if mixed:
        return f"{measured}. They do not compare with the {wanted}, which are of false alarms."
    return f"{measured}, {_verdict(alarms)} the {wanted}."


def _holds_errors(report: ReportFields) -> bool:
    """Whether rows that the monitor looks for may be among those that seem to be false alarms."""
    return report.target != "ood" and report.errors is None


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["low"] > entry["asked"]:
        return "more than"
    return "fewer than" if entry["high"] < entry["asked"] else "in agreement with"


def _monitor(report: ReportFields) -> list[Block]:
    facts = [
        ["network", report.network],
        ["looks for", TARGETS[report.target]],
        ["layers", listed(report.layers, 8)],
        ["date of the report", report.date],
    ]
    return [Table(["", ""], facts, n_texts=2)]


def _detectors(report: ReportFields) -> list[Block]:
    are_weighed = any(entry["weight"] is not None for entry in report.detectors)
    shown = _outer(report.detectors)
    table = Table(
        ["detector", "kind", "watches", *(["weight"] if are_weighed else [])],
        [_detector_row(entry, are_weighed=are_weighed) for entry in shown],
        n_texts=3,
    )
    if len(shown) == len(report.detectors):
        return [table]
    n_inner = len(report.detectors) - len(shown)
    return [table, Paragraph(f"{n_inner} members of these ensembles are not shown.")]


def _outer(detectors: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """All detectors, or those members of ensembles that are not too deep inside to have a row."""
    depth = max(entry["depth"] for entry in detectors)
    while depth > 1 and sum(entry["depth"] <= depth for entry in detectors) > _DETECTORS_SHOWN:
        depth -= 1
    return [entry for entry in detectors if entry["depth"] <= depth][:_DETECTORS_SHOWN]


def _detector_row(entry: Mapping[str, Any], *, are_weighed: bool) -> list[str]:
    without = f", without {listed(entry['left_out'])}" if entry["left_out"] else ""
    name = "·\N{NO-BREAK SPACE}" * entry["depth"] + entry["detector"]
    row = [name, entry["kind"] + without, listed(entry["layers"], 3)]
    if are_weighed:
        row.append("" if entry["weight"] is None else f"{entry['weight']:.3g}")
    return row


def _cut(n_shown: int, n_all: int) -> str:
    return "" if n_shown == n_all else f" ({n_shown} of {n_all})"


def _data(report: ReportFields) -> list[Block]:
    data, threshold = report.data, report.threshold
    n_others = sum(entry["n_rows"] for entry in report.out_sets)
    rows = [
        ["rows that fit was given", count(data["n_fitted"])],
        ["rows that set the threshold", rows_by_name(threshold)],
        ["rows of the test, in-distribution", count(data["n_tested"])],
        ["rows of the test, in other sets", count(n_others)],
        ["classes of the network", _classes(data["classes"])],
    ]
    if data["accuracy"] is not None:
        rows.append(["accuracy of the network on the test", percent(data["accuracy"])])
    return [Table(["", ""], rows)]


def _classes(classes: Sequence[Any] | None) -> str:
    if classes is None:
        return "none"
    return f"{len(classes)}: {listed(list(map(str, classes)), 10)}"


def _threshold(report: ReportFields) -> list[Block]:
    threshold = report.threshold
    offsets = [
        [str(name) or "all", f"{offset:.6g}"] for name, offset in threshold["offsets"].items()
    ]
    facts = [
        ["threshold", origin_of(threshold)],
        ["rate of false alarms asked for", asked(threshold)],
        *([["guarantee", threshold["guarantee"]]] if threshold["guarantee"] else []),
        *realised(threshold),
    ]
    blocks: list[Block] = [Table(["", ""], facts, n_texts=2)]
    if offsets:
        cut = _cut(min(len(offsets), _SHOWN), len(offsets))
        blocks.append(Paragraph(f"Rows with a score below the threshold are rejected{cut}:"))
        blocks.append(Table(["of", "threshold"], offsets[:_SHOWN]))
    return blocks


def _false_alarms(report: ReportFields, pictures: Mapping[str, Picture]) -> list[Block]:
    passing = f"False alarms are rejected {_PASSING[report.target != 'ood']}."
    blocks: list[Block] = [Paragraph(f"{passing} {_alarms_in_short(report)}")]
    if report.false_alarms["n_rows"] == 0:
        return blocks
    blocks += [
        Paragraph(f"All intervals are exact (Clopper-Pearson), with {CONFIDENCE_TEXT} confidence."),
        *_curve(report, pictures),
    ]
    for by, entries in (
        ("predicted class", report.false_alarms_by_prediction),
        ("label", report.false_alarms_by_label),
    ):
        # Of rows that are classified correctly, both tables are the same.
        if entries is not None and (by != "label" or entries != report.false_alarms_by_prediction):
            blocks += _by_class(by, entries, "Alarms" if _holds_errors(report) else "False alarms")
    return blocks


def _curve(report: ReportFields, pictures: Mapping[str, Picture]) -> Iterator[Block]:
    if report.calibration_curve is None:
        yield Paragraph(
            "There is no calibration curve: the detector keeps no scores from which thresholds for "
            "other rates could be taken."
        )
        return
    mixed = _holds_errors(report)
    yield Paragraph(
        f"The calibration curve: {'all' if mixed else 'false'} alarms at the thresholds that other "
        "rates would have given."
    )
    columns = ["asked for", "measured", "interval", *([] if mixed else ["measured is"])]
    rows = [
        [exact_percent(entry["asked"]), percent(entry["rejected"]), interval(entry), _judged(entry)]
        for entry in report.calibration_curve
    ]
    yield Table(columns, [row[: len(columns)] for row in rows], n_texts=0)
    if report.threshold["guarantee"] and report.threshold["n_folds"] == 1:
        yield Paragraph(
            "With n rows that set a threshold, rates below 1 / (n + 1) reject nothing; a "
            "training-conditional guarantee needs more rows for them."
        )
    yield from _picture(pictures, "calibration_curve")


def _judged(entry: Mapping[str, Any]) -> str:
    return {"more than": "above", "fewer than": "below"}.get(_verdict(entry), "in agreement")


def _picture(pictures: Mapping[str, Picture], name: str) -> Iterator[Picture]:
    if name in pictures:
        yield pictures[name]


def _by_class(by: str, entries: Sequence[Mapping[str, Any]], what: str) -> list[Block]:
    """A table of classes; of very many, those with the most false alarms for certain."""
    which = ""
    shown = list(entries)
    if len(entries) > _SHOWN:
        shown = sorted(entries, key=lambda entry: -entry["low"])[:_SHOWN]
        which = f", for the {_SHOWN} of {len(entries)} with the highest lower ends of the interval"
    return [
        Paragraph(
            f"{what} by {by}{which}. Each interval misses the true rate by chance once in "
            f"{1 / (1 - CONFIDENCE):.0f} times."
        ),
        Table(
            [by, "rows", what.lower(), "rate", "interval"],
            [[str(entry["class"]), *_share_cells(entry)] for entry in shown],
        ),
    ]


def _share_cells(entry: Mapping[str, Any]) -> list[str]:
    return [
        f"{entry['n_rows']:,}",
        f"{entry['n_rejected']:,}",
        percent(entry["rejected"]),
        interval(entry),
    ]


def _errors(report: ReportFields, pictures: Mapping[str, Picture]) -> list[Block]:
    if not looks_for_errors(report):
        return []
    if (errors := report.errors) is None:
        return [Paragraph(f"Not known: {report.data['why_no_accuracy']}.")]
    rows = [
        ["errors of the network, on the rows of the test", f"{errors['n_rows']:,}"],
        ["errors that are rejected", f"{percent(errors['rejected'])} ({interval(errors)})"],
        ["accuracy on all rows", _with_interval(errors, "accuracy")],
        ["accuracy on accepted rows", _with_interval(errors, "accuracy_of_accepted")],
        ["share of the rows that is accepted (coverage)", _with_interval(errors, "coverage")],
        ["area under the risk-coverage curve", _number(errors["area_under_risk_coverage"])],
        [
            "its excess over that of perfect scores",
            _number(errors["excess_area_under_risk_coverage"]),
        ],
        ["AUROC, errors against rows classified correctly", _number(errors["auroc"])],
    ]
    return [Table(["", ""], rows), *_picture(pictures, "risk_coverage")]


def _with_interval(errors: Mapping[str, Any], name: str) -> str:
    if np.isnan(errors[name]):
        return "-"
    return f"{percent(errors[name])} ({between(*errors[f'{name}_interval'])})"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _out_sets(report: ReportFields, pictures: Mapping[str, Picture]) -> list[Block]:
    blocks: list[Block] = [Paragraph("None was tested.")]
    if report.out_sets:
        blocks = [_out_sets_table(report), Paragraph(_OUT_SETS)]
    if report.rejected_by_detector:
        blocks += [
            Paragraph("What each detector rejects:"),
            Table(
                ["set", "detector", "rows", "rejected", "share", "interval"],
                [
                    [_shown_name(report, entry["name"]), entry["detector"], *_share_cells(entry)]
                    for entry in report.rejected_by_detector
                ],
                n_texts=2,
            ),
        ]
    return [*blocks, *_picture(pictures, "scores")]


def _shown_name(report: ReportFields, name: str) -> str:
    is_of_right = name == TEST and report.target != "ood" and report.errors is not None
    return f"{name} classified correctly" if is_of_right else name or _NO_NAME


_OUT_SETS = (
    "AUROC: how well scores tell the rows of the set from those of the test that should pass, 1 "
    "where they always do, 0.5 by chance. FPR95: share of the rows that should pass which is "
    "rejected where 95 % of the set is."
)


def _out_sets_table(report: ReportFields) -> Table:
    return Table(
        ["set", "rows", "AUROC", "FPR95", "rejected", "interval"],
        [
            [
                entry["name"] or _NO_NAME,
                f"{entry['n_rows']:,}",
                _number(entry["auroc"]),
                _number(entry["fpr95"]),
                percent(entry["rejected"]),
                interval(entry),
            ]
            for entry in report.out_sets
        ],
    )


def _versions(report: ReportFields, why_none: str) -> list[Block]:
    table = Table(["package", "version"], list(report.versions.items()), n_texts=2)
    return [table, *([Paragraph(why_none)] if why_none else [])]
