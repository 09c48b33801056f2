"""The tables of the site, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from skood.model_selection import compare, summarize

from .._common.tables import PACKAGES, Measured, Table
from .methods import DEFAULT, ERROR_DEFAULT, SEARCH, method_groups
from .published import PUBLISHED, SOURCE
from .results import PARTS, part_of
from .sources import ALL_SETS, CHOICE, SOURCES, Sizes, Source

SINGLE = ("outputs", "last layer", "shaping")
"""Groups of methods that look at one place of a network."""
OTHERS = (*SINGLE, "layers", "configured", "peers")
"""All groups but the monitors."""

MeanError = tuple[float, float]
"""In percent, with the standard error."""


def make_tables(cells: pd.DataFrame) -> dict[str, Table]:
    """All tables; methods and sources that were not tried have empty cells."""
    all_ood, errors = (cells[cells["target"] == target] for target in ("ood", "misclassified"))
    ood = all_ood[all_ood["detector"] != SEARCH]
    by_set = mean_by_set(ood)
    return {
        "methods": tabulate_methods(ood),
        "auroc": tabulate_by_source(ood, "auroc"),
        "accuracy": tabulate_by_source(ood, "accuracy"),
        "fpr95": tabulate_by_source(ood, "fpr95_in"),
        "near_and_far": tabulate_near_and_far(ood),
        "parts": tabulate_parts(ood),
        "differences": tabulate_differences(ood),
        "differences_by_source": tabulate_differences_by_source(ood),
        "closest": tabulate_closest(ood),
        "search": tabulate_search(all_ood),
        "errors": tabulate_errors(errors),
        "closest_errors": tabulate_closest_errors(errors),
        "published": tabulate_published(ood),
        "cells": tabulate_cells(by_set),
        "seconds": tabulate_seconds(ood),
        **{
            f"sets_{source.folder_name.replace('-', '_')}": tabulate_sets(by_set, source)
            for source in SOURCES
        },
    }


def describe(cells: pd.DataFrame, sizes: Sizes, seconds: float) -> Measured:
    titles = [source.title for source in SOURCES if source.is_chosen_on]
    sources = [source.title for source in SOURCES if source.title in set(cells["source"])]
    sets = [name for name in ALL_SETS if name in set(cells["test"])]
    return Measured(
        data=f"sources {'; '.join(sources)}; sets for validation and for testing: "
        f"{', '.join(sets)}; the default was "
        f"chosen on {'; '.join(titles)} with the sets "
        f"{', '.join(name for name in ALL_SETS if name in CHOICE)}",
        samples=f"detectors {sizes.n_train:,} training images, test {sizes.n_test:,} images, up to "
        f"{sizes.n_outside:,} of each other set; equal numbers of both kinds in each cell; "
        f"networks that are trained here up to {sizes.n_network:,} images, {sizes.epochs} epochs",
        settings="parameters are the defaults of each library, but for the percentile 30 of NAP, "
        "n_neighbors of KNN where it is said, the percentiles of LINe that are published for "
        "CIFAR, and no perturbation of inputs in oodeel; `some layers` are 15 at most, averaged "
        f"over each map; {seconds:.0f} s, without what an earlier run kept",
        packages=[*PACKAGES, "pyod", "pytorch-ood", "oodeel"],
    )


def write_report(about: Table, tables: Mapping[str, Table]) -> str:
    parts = [
        "# Every triple of source, validation and test set",
        about.to_markdown(),
        f"Published: {SOURCE}.",
    ]
    for name, table in tables.items():
        parts += [f"## {name.replace('_', ' ')}", table.to_markdown()]
    return "\n\n".join(parts) + "\n"


def tabulate_methods(ood: pd.DataFrame) -> Table:
    """Means over everything that was tried."""
    metrics = {"auroc": "AUROC", "accuracy": "Accuracy", "fpr95_in": "FPR95", "aupr_in": "AUPR-In"}
    header = [name for title in metrics.values() for name in (title, f"{title}, error")]
    means = means_by(ood, ["detector"], [*metrics])
    return _by_method(
        ["Group", *header],
        lambda name: [
            method_groups()[name],
            *(cell for metric in metrics for cell in _write(means.get((name, metric)))),
        ],
    )


def tabulate_by_source(ood: pd.DataFrame, metric: str) -> Table:
    """Means over the triples of each source."""
    means = means_by(ood, ["detector", "source"], [metric])
    header = [name for s in SOURCES for name in (s.title, f"{s.title}, error")]
    return _by_method(
        header,
        lambda name: [cell for s in SOURCES for cell in _write(means.get((name, s.title, metric)))],
    )


def tabulate_near_and_far(ood: pd.DataFrame) -> Table:
    """Mean AUROC over sets that resemble each source, and over others."""
    means = means_by(ood, ["detector", "source", "near"], ["auroc"])
    overall = means_by(ood, ["detector", "near"], ["auroc"])
    kinds = {"near": True, "far": False}
    titles = ["all", *(source.title for source in SOURCES)]
    header = [f"{title}, {kind}" for title in titles for kind in kinds]

    def describe_method(name: str) -> list[str]:
        found = [overall.get((name, is_near, "auroc")) for is_near in kinds.values()]
        found += [means.get((name, s.title, k, "auroc")) for s in SOURCES for k in kinds.values()]
        return [_write(mean)[0] for mean in found]

    return _by_method(header, describe_method)


def tabulate_parts(ood: pd.DataFrame) -> Table:
    """Means over what the default was chosen on, and over what it was not."""
    metrics = {"auroc": "AUROC", "accuracy": "Accuracy"}
    means = means_by(ood, ["detector", "part"], [*metrics])
    keys = [(part, metric) for part in PARTS for metric in metrics]
    header = [
        name
        for part, metric in keys
        for name in (f"{metrics[metric]}, {part}", f"{metrics[metric]}, {part}, error")
    ]
    return _by_method(
        header, lambda name: [cell for key in keys for cell in _write(means.get((name, *key)))]
    )


def tabulate_differences(ood: pd.DataFrame) -> Table:
    """How much better the default is than each method on the same triples."""
    header = ["Difference", "Error", "Triples won", "Worst difference", "Worst for"]
    found = differences(ood, ["detector"])

    def describe_method(name: str) -> list[str]:
        if (name,) not in found:
            return [""] * len(header)
        row = found[name,]
        cell = [row[f"worst_{key}"] for key in ("source", "validation", "test")]
        return [
            *_write_difference(row),
            f"{100 * row['won']:.1f}",
            f"{100 * row['worst']:+.2f}",
            "{}: {}, {}".format(*cell),
        ]

    return _by_method(header, describe_method)


def tabulate_differences_by_source(ood: pd.DataFrame) -> Table:
    """The same for each source, without the worst triple."""
    header = [name for s in SOURCES for name in (s.title, f"{s.title}, error")]
    found = differences(ood, ["detector", "source"])
    return _by_method(
        header,
        lambda name: [
            cell for s in SOURCES for cell in _write_difference(found.get((name, s.title)))
        ],
    )


def tabulate_closest(ood: pd.DataFrame) -> Table:
    """On each source, the best of the other methods, and how far the default is ahead of it."""
    means = means_by(ood, ["source", "detector"], ["auroc"])
    found = differences(ood, ["source", "detector"])
    groups = method_groups()
    rows = []
    for source in SOURCES:
        title = source.title
        tried = [name for name in groups if (title, name, "auroc") in means]
        cells = []
        for kinds in (SINGLE, OTHERS):
            rivals = [name for name in tried if groups[name] in kinds]
            best = max(rivals, key=lambda name: means[title, name, "auroc"][0], default="")
            cells += [best, _write(means.get((title, best, "auroc")))[0]]
            cells += _write_difference(found.get((title, best)))
        rows.append([title, *_write(means.get((title, DEFAULT, "auroc"))), *cells])
    header = [
        f"{what}, {kind}"
        for kind in ("single methods", "all methods")
        for what in ("Best", "AUROC", "Difference", "Error of it")
    ]
    return Table(["Source", "AUROC of the monitor", "Error", *header], rows)


def tabulate_search(ood: pd.DataFrame) -> Table:
    """The default that is configured by each validation set, beside the default, on each source."""
    both = ood[ood["detector"].isin([DEFAULT, SEARCH])].dropna(subset="auroc")
    searched = both.loc[both["detector"] == SEARCH, ["source", "validation", "test"]]
    same = both.merge(searched, on=["source", "validation", "test"])
    means = means_by(same, ["source", "detector"], ["auroc"])
    found = {}
    if {DEFAULT, SEARCH} <= set(same["detector"]):
        table = compare(same, DEFAULT, metric="auroc", by=["source", "detector"])
        found = {row["source"]: row for _, row in table.iterrows()}
    rows = []
    for title in (source.title for source in SOURCES):
        cells = [_write(means.get((title, n, "auroc")))[0] for n in (DEFAULT, SEARCH)]
        cells += _write_difference(found.get(title))
        if title in found:
            row, of_source = found[title], searched["source"] == title
            cells += [
                f"{100 * row['worst']:+.2f}",
                f"{row['worst_validation']}, {row['worst_test']}",
            ]
            cells = [str(of_source.sum()), *cells]
        else:
            cells = ["", *cells, "", ""]
        rows.append([title, *cells])
    header = ["Triples", "AUROC, monitor", "AUROC, search", "Difference", "Error of it"]
    return Table(["Source", *header, "Worst difference", "Worst for"], rows)


def tabulate_errors(errors: pd.DataFrame) -> Table:
    """How well misclassified test images are found."""
    metrics = {"auroc": "AUROC", "aurc": "area under risk and coverage"}
    found = {metric: by_source(errors, metric) for metric in metrics}
    titles = ["mean", *(source.title for source in SOURCES)]
    return _by_method(
        [f"{name}, {title}" for name in metrics.values() for title in titles],
        lambda name: [
            _number(found[metric].get(name, {}).get(title), 3)
            for metric in metrics
            for title in titles
        ],
    )


def tabulate_closest_errors(errors: pd.DataFrame) -> Table:
    """The default for errors beside the best of the others, by the area under the ROC curve."""
    groups = method_groups()
    aurocs = by_source(errors, "auroc")
    rows = []
    for title in [*(source.title for source in SOURCES), "mean"]:
        known = {
            name: row[title] for name, row in aurocs.items() if not np.isnan(row.get(title, np.nan))
        }
        default = known.get(ERROR_DEFAULT, np.nan)
        cells = [_number(default)]
        for kinds in (SINGLE, OTHERS):
            rivals = [name for name in known if groups[name] in kinds]
            best = max(rivals, key=known.__getitem__, default="")
            auroc = known.get(best, np.nan)
            cells += [best, _number(auroc), _number(default - auroc, sign=True)]
        rows.append([title, *cells])
    header = [
        f"{what}, {kind}"
        for kind in ("single methods", "all methods")
        for what in ("Best", "AUROC", "Difference")
    ]
    return Table(["Source", "AUROC of the monitor", *header], rows)


def by_source(errors: pd.DataFrame, metric: str) -> dict[str, dict[str, float]]:
    """A metric of errors in percent, of each method on each source, and its mean over them."""
    values = 100 * errors.pivot(index="detector", columns="source", values=metric)
    values = values.assign(mean=values.mean(axis=1, skipna=False))
    return {str(name): dict(row) for name, row in values.iterrows()}


def tabulate_published(ood: pd.DataFrame) -> Table:
    """Figures of the authors beside the same method, and the default, on networks like theirs."""
    titles = {s.title: s.network for s in SOURCES}
    of_network = ood.assign(network=ood["source"].map(titles))
    means = means_by(of_network, ["detector", "network"], ["accuracy", "auroc"])
    rows = []
    for published in PUBLISHED:
        cells = [_number(published.accuracy), _number(published.auroc)]
        for name in (published.method, DEFAULT):
            for metric in ("accuracy", "auroc"):
                cells.append(_write(means.get((name, published.network, metric)))[0])
        rows.append([f"{published.network}: {published.method}", *cells])
    kinds = ("published", "here", "of the monitor here")
    header = [f"{metric}, {kind}" for kind in kinds for metric in ("Accuracy", "AUROC")]
    return Table(["Network and method", *header], rows)


def mean_by_set(ood: pd.DataFrame) -> pd.DataFrame:
    """Mean AUROC over the validation sets, in percent, with a column for each method."""
    means = ood.groupby(["source", "test", "detector"], sort=False)["auroc"].mean() * 100
    return means.unstack("detector")


def tabulate_cells(by_set: pd.DataFrame) -> Table:
    """Of every test set, the default beside the best of the others, which is so in hindsight."""
    rows = []
    for source in SOURCES:
        for test in source.outside:
            kind = "near" if test in source.near else "far"
            tried = (source.title, test) in by_set.index
            cells = _compare_cell(by_set.loc[source.title, test]) if tried else [""] * 7
            rows.append([f"{source.title}: {test}", kind, part_of(source, test), *cells])
    header = ["Source and test set", "Kind", "Part", "Monitor"]
    for which in ("Best single method", "Best method"):
        header += [which, f"{which}, AUROC", f"{which}, difference"]
    return Table(header, rows)


def _compare_cell(aurocs: pd.Series) -> list[str]:
    """The default, then of the single methods and of all others the best, and the difference."""
    groups = method_groups()
    default = aurocs.get(DEFAULT, np.nan)
    cells = [_number(default)]
    for kinds in (SINGLE, OTHERS):
        rivals = aurocs[[name for name in aurocs.index if groups[name] in kinds]]
        best = rivals.idxmax() if rivals.notna().any() else ""
        auroc = rivals.get(best, np.nan)
        cells += [best, _number(auroc), _number(default - auroc, sign=True)]
    return cells


def tabulate_sets(by_set: pd.DataFrame, source: Source) -> Table:
    """AUROC of each set."""
    found = by_set[by_set.index.get_level_values("source") == source.title].droplevel("source")
    return _by_method(
        list(source.outside),
        lambda name: [
            _number(found[name].get(test, np.nan)) if name in found else ""
            for test in source.outside
        ],
    )


def tabulate_seconds(ood: pd.DataFrame) -> Table:
    """Seconds for a fit, and to score a thousand images."""
    sizes = ood["n_in"] + ood["n_out"]
    times = ood.assign(score_time=1000 * ood["score_time"] / sizes)
    means = times.groupby(["detector", "source"])[["fit_time", "score_time"]].mean()
    header = [f"{s.title}, {what}" for s in SOURCES for what in ("fit", "score 1,000")]

    def describe_method(name: str) -> list[str]:
        cells = []
        for source in SOURCES:
            known = (name, source.title) in means.index
            cells += [f"{v:.3g}" for v in means.loc[name, source.title]] if known else ["", ""]
        return cells

    return _by_method(header, describe_method)


def means_by(table: pd.DataFrame, by: list[str], metrics: list[str]) -> dict[tuple, MeanError]:
    """Means and standard errors by the values of some columns and the metric."""
    known = table.dropna(subset=metrics, how="all")
    if known.empty:
        return {}
    found = summarize(known, by=by, metrics=metrics)
    return {
        (*(row[key] for key in by), metric): (100 * row[metric], 100 * row[f"{metric}_se"])
        for _, row in found.iterrows()
        for metric in metrics
    }


def differences(ood: pd.DataFrame, by: list[str]) -> dict[tuple, pd.Series]:
    """By how much the default is better in AUROC than others, and where it is least so."""
    known = ood.dropna(subset="auroc")
    if DEFAULT not in set(known["detector"]):
        return {}
    # Of methods' differences to the default, these are what the default is better by.
    turned = compare(known.assign(auroc=-known["auroc"]), DEFAULT, metric="auroc", by=by)
    return {tuple(row[key] for key in by): row for _, row in turned.iterrows()}


def _by_method(header: Sequence[str], describe_method: Callable[[str], list[str]]) -> Table:
    """A row for each method, whether it was tried or not."""
    rows = [[name, *describe_method(name)] for name in method_groups()]
    return Table(["Method", *header], rows)


def _write(mean: MeanError | None, *, sign: bool = False) -> tuple[str, str]:
    if mean is None:
        return "", ""
    value, error = mean
    return _number(value, sign=sign), _number(error)


def _write_difference(row: pd.Series | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    return _write((100 * row["difference"], 100 * row["difference_se"]), sign=True)


def _number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    if value is None or np.isnan(value):
        return ""
    # Rounded first, so that there is no -0.00.
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"
