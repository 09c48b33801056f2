"""What a report says, in sections of words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import beta

from .._conformal import conformal_rank
from .._monitor_view import TARGETS, listed
from ._report_fields import ReportFields
from ._report_markup import Block, Bullets, Paragraph, Picture, Section, Table
from ._report_shares import CONFIDENCE, CONFIDENCE_TEXT, interval, percent

_SHOWN, _DETECTORS_SHOWN = 30, 60
"""As many classes and detectors have a row of a table; the attributes of the report hold all."""

FIGURES = {
    "scores": "Histograms of the scores of the test rows and of each other set",
    "calibration_curve": "Measured rates of false alarms against the rates that were asked for",
    "risk_coverage": "Errors among the accepted rows against the share that is accepted",
}
"""What each figure shows."""

_PASSING = {
    False: "in-distribution rows of the test",
    True: "rows of the test that the network classifies correctly",
}
"""The rows whose rejection is a false alarm, by whether errors are looked for and known."""


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
    lines = [_alarms_in_short(report), f"Threshold: {_origin(report.threshold)}."]
    if report.errors is not None and report.target != "ood":
        errors = report.errors
        lines.append(
            f"Errors of the network: {percent(errors['rejected'])} of {errors['n_rows']} are "
            f"rejected; the accuracy is {percent(errors['accuracy'])} on all rows and "
            f"{percent(errors['accuracy_of_accepted'])} on those accepted."
        )
    if report.out_sets:
        lines.append(f"Out-of-distribution sets: rejected are {_found(report.out_sets)}.")
    return [Bullets(lines)]


def _found(sets: Sequence[Mapping[str, Any]]) -> str:
    """What is rejected of each set, or of very many sets of the extreme ones."""
    ascending = sorted(sets, key=lambda entry: entry["rejected"])
    shares = [f'{percent(entry["rejected"])} of "{entry["name"]}"' for entry in ascending]
    if len(shares) <= 5:
        return ", ".join(shares)
    return f"from {shares[0]} to {shares[-1]} ({len(shares)} sets)"


def _alarms_in_short(report: ReportFields) -> str:
    alarms = report.false_alarms
    measured = (
        f"False alarms: {percent(alarms['rejected'])} of {alarms['n_rows']} rows "
        f"({CONFIDENCE_TEXT} interval {interval(alarms)})"
    )
    if alarms["asked"] is None:
        return f"{measured}; no rate was asked for."
    several = ", all detectors together" if len(report.threshold["false_alarm_rate"]) > 1 else ""
    asked = f"{percent(alarms['asked'])} that were asked for{several}"
    return f"{measured}, {_verdict(alarms)} the {asked}."


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
        ["rows that fit was given", _count(data["n_fitted"])],
        ["rows that set the threshold", _count(threshold["n_rows"])],
        ["rows of the test, in-distribution", _count(data["n_tested"])],
        ["rows of the test, in other sets", _count(n_others)],
        ["classes of the network", _classes(data["classes"])],
    ]
    if data["accuracy"] is not None:
        rows.append(["accuracy of the network on the test", percent(data["accuracy"])])
    return [Table(["", ""], rows)]


def _count(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"


def _classes(classes: Sequence[Any] | None) -> str:
    if classes is None:
        return "none"
    return f"{len(classes)}: {listed(list(map(str, classes)), 10)}"


def _origin(threshold: Mapping[str, Any]) -> str:
    """Where a threshold comes from, in words that promise no more than is known."""
    n_rows, confidence = _count(threshold["n_rows"]), threshold["confidence"]
    if threshold["origin"] == "estimate":
        return "an estimate from the rows of fit, which are no guarantee for new ones"
    if threshold["origin"] == "own":
        return "chosen by the detector in fit, without a rate of false alarms that was asked for"
    if threshold["origin"] == "risk-controlled":
        return (
            f"set by {n_rows} held-out rows, so that at most {percent(threshold['alpha'])} of the "
            f"rows accepted are misclassified, with a confidence of {100 * confidence:g} %"
        )
    if threshold["origin"] == "held-out":
        return (
            f"set by {n_rows} rows of fit that the detector has not learnt from, so that the rate "
            "holds on average over draws of these rows, if the network has not learnt from them"
        )
    promise = (
        "the rate holds on average over draws of these rows"
        if threshold["guarantee"] == "marginal"
        else f"the rate holds for {100 * confidence:g} % of draws of these rows"
    )
    by_class = " in each predicted class" if threshold["group_by"] else ""
    return f"calibrated on {n_rows} held-out rows, so that {promise}{by_class}"


def _threshold(report: ReportFields) -> list[Block]:
    threshold = report.threshold
    offsets = [
        [str(name) or "all", f"{offset:.6g}"] for name, offset in threshold["offsets"].items()
    ]
    rates = threshold["false_alarm_rate"]
    facts = [
        ["threshold", _origin(threshold)],
        ["rate of false alarms asked for", _asked(rates)],
        *([["guarantee", threshold["guarantee"]]] if threshold["guarantee"] else []),
        *_realised(threshold, rates),
    ]
    blocks: list[Block] = [Table(["", ""], facts, n_texts=2)]
    if offsets:
        cut = _cut(min(len(offsets), _SHOWN), len(offsets))
        blocks.append(Paragraph(f"Rows with a score below the threshold are rejected{cut}:"))
        blocks.append(Table(["of", "threshold"], offsets[:_SHOWN]))
    return blocks


def _asked(rates: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{name} {'none' if rate is None else percent(rate)}".strip()
        for name, rate in rates.items()
    )


def _realised(
    threshold: Mapping[str, Any], rates: Mapping[str, float | None]
) -> Iterator[list[str]]:
    """Between which rates a threshold of so many rows mostly lies."""
    n_rows, rate = threshold["n_rows"], next(iter(rates.values()))
    if threshold["guarantee"] is None or threshold["group_by"] or len(rates) > 1 or rate is None:
        return
    rank = conformal_rank(
        n_rows, rate, guarantee=threshold["guarantee"], confidence=threshold["confidence"] or 0.95
    )
    if rank:
        low, high = beta.interval(0.9, rank, n_rows + 1 - rank)
        yield [
            "rate that such a threshold has",
            f"between {100 * low:.1f} and {percent(high)} for 90 % of draws of {n_rows:,} rows",
        ]


def _false_alarms(report: ReportFields, pictures: Mapping[str, Picture]) -> list[Block]:
    looked_for = report.errors is not None and report.target != "ood"
    blocks: list[Block] = [
        Paragraph(f"False alarms are rejected {_PASSING[looked_for]}. {_alarms_in_short(report)}"),
        Paragraph(f"All intervals are exact (Clopper-Pearson), with {CONFIDENCE_TEXT} confidence."),
        *_curve(report, pictures),
    ]
    for by, entries in (
        ("predicted class", report.false_alarms_by_prediction),
        ("label", report.false_alarms_by_label),
    ):
        # Of rows that are classified correctly, both tables are the same.
        if entries is not None and (by != "label" or entries != report.false_alarms_by_prediction):
            blocks += _by_class(by, entries)
    return blocks


def _curve(report: ReportFields, pictures: Mapping[str, Picture]) -> Iterator[Block]:
    if report.calibration_curve is None:
        yield Paragraph(
            "There is no calibration curve: the detector keeps no scores from which thresholds for "
            "other rates could be taken."
        )
        return
    yield Paragraph(
        "The calibration curve: false alarms at the thresholds that other rates would have given."
    )
    yield Table(
        ["asked for", "measured", "interval", "measured is"],
        [
            [percent(entry["asked"]), percent(entry["rejected"]), interval(entry), _judged(entry)]
            for entry in report.calibration_curve
        ],
        n_texts=0,
    )
    if report.threshold["guarantee"]:
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


def _by_class(by: str, entries: Sequence[Mapping[str, Any]]) -> list[Block]:
    """A table of classes; of very many, those with the most false alarms for certain."""
    which = ""
    shown = list(entries)
    if len(entries) > _SHOWN:
        shown = sorted(entries, key=lambda entry: -entry["low"])[:_SHOWN]
        which = f", for the {_SHOWN} of {len(entries)} with the highest lower ends of the interval"
    return [
        Paragraph(
            f"False alarms by {by}{which}. Each interval misses the true rate by chance once in "
            f"{1 / (1 - CONFIDENCE):.0f} times."
        ),
        Table(
            [by, "rows", "false alarms", "rate", "interval"],
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
    if report.target == "ood":
        return []
    if (errors := report.errors) is None:
        return [Paragraph(f"Not known: {report.data['why_no_accuracy']}.")]
    rows = [
        ["errors of the network, on the rows of the test", f"{errors['n_rows']:,}"],
        ["errors that are rejected", f"{percent(errors['rejected'])} ({interval(errors)})"],
        ["accuracy on all rows", percent(errors["accuracy"])],
        ["accuracy on accepted rows", percent(errors["accuracy_of_accepted"])],
        ["share of the rows that is accepted (coverage)", percent(errors["coverage"])],
        ["area under the risk-coverage curve", _number(errors["area_under_risk_coverage"])],
        [
            "its excess over that of perfect scores",
            _number(errors["excess_area_under_risk_coverage"]),
        ],
        ["AUROC, errors against rows classified correctly", _number(errors["auroc"])],
    ]
    return [Table(["", ""], rows), *_picture(pictures, "risk_coverage")]


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
                    [entry["name"], entry["detector"], *_share_cells(entry)]
                    for entry in report.rejected_by_detector
                ],
                n_texts=2,
            ),
        ]
    return [*blocks, *_picture(pictures, "scores")]


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
                entry["name"],
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
