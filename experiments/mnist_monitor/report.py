"""The tables of the MNIST experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from skood.inspection import SettingAccuracyDisplay

from .._common.tables import Table
from .outcomes import BySet, mean_of

MEASURES = {"auroc": "AUROC", "fpr95": "FPR95", "accuracy": "accuracy"}


class Configured(NamedTuple):
    """What came of a configuration on one kind of other images, the validation."""

    validation: str
    by_detector: dict[str, BySet]
    settings: dict[str, SettingAccuracyDisplay]
    """Of single settings, on each kind but the validation."""


def make_tables(runs: Sequence[Configured]) -> dict[str, Table]:
    return {
        "detectors": tabulate_detectors(runs),
        "sets": tabulate_sets(runs),
        "correlations": tabulate_correlations(runs),
    }


def tabulate_detectors(runs: Sequence[Configured]) -> Table:
    """Means over the sets that detectors were not configured on."""
    header = ["Detector"]
    header += [f"{name}, {run.validation} seen" for run in runs for name in MEASURES.values()]
    rows = []
    for detector in runs[0].by_detector:
        means = (
            mean_of(run.by_detector[detector], measure, run.validation)
            for run in runs
            for measure in MEASURES
        )
        rows.append([detector, *(f"{mean:.3f}" for mean in means)])
    return Table(header, rows)


def tabulate_sets(runs: Sequence[Configured]) -> Table:
    """AUROC of each set; a set that a detector was configured on counts as seen."""
    sets = list(next(iter(runs[0].by_detector.values())))
    rows = [
        [detector, run.validation, *(f"{by_set[name].auroc:.3f}" for name in sets)]
        for run in runs
        for detector, by_set in run.by_detector.items()
    ]
    return Table(["Detector", "Seen", *sets], rows)


def tabulate_correlations(runs: Sequence[Configured]) -> Table:
    """Correlations of the accuracies of single settings with those on the validation."""
    measures = {"Pearson": "pearson_", "Spearman": "spearman_"}
    header = ["Test on"]
    header += [f"{name}, validation on {run.validation}" for run in runs for name in measures]
    sets = list(dict.fromkeys(name for run in runs for name in run.settings))
    rows = [
        [name, *(correlation(run.settings, name, m) for run in runs for m in measures.values())]
        for name in sets
    ]
    return Table(header, rows)


def correlation(displays: Mapping[str, SettingAccuracyDisplay], name: str, measure: str) -> str:
    """Empty for the set of the validation itself."""
    return f"{getattr(displays[name], measure):.2f}" if name in displays else ""


def write_report(about: Table, tables: Mapping[str, Table]) -> str:
    titles = {
        "detectors": "Means over the sets that detectors were not configured on. FPR95 is the "
        "share of other images accepted where 95 % of the digits are; the accuracy is that at the "
        "detector's own threshold, digits and other images counting alike.",
        "sets": "AUROC of each set.",
        "correlations": "Correlation of validation and test accuracy over single settings.",
    }
    parts = ["# A convolutional net on MNIST", about.to_markdown()]
    for name, table in tables.items():
        parts += [titles[name], table.to_markdown()]
    return "\n\n".join(parts) + "\n"
