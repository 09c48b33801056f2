"""The report of the run-time monitor experiment, and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._common.quality import BySet
from .._common.tables import Measured, Table
from .._common.timing import format_number
from .alarms import AlarmTable
from .groups import SIZES as GROUP_SIZES
from .groups import STRANGERS, Groups
from .net import Net
from .scores import Shares
from .sets import Sizes, Watched

PUBLISHED = {0: (7.66, 10.70), 1: (2.01, 21.89), 2: (0.60, 31.67)}
"""Alarms in percent of the test digits, and the percentage of the alarms that is misclassified."""


@dataclass(frozen=True)
class Results:
    net: Net
    watched: Watched
    alarms: AlarmTable
    quality: dict[str, BySet]
    shares: dict[str, Shares]
    groups: Groups
    seconds: dict[str, tuple[float, float]]


def make_tables(results: Results) -> dict[str, Table]:
    return {
        "alarms": tabulate_alarms(results),
        "published": compare_with_published(results),
        "shares": tabulate_shares(results.shares),
        "fpr95": tabulate(results.quality, "fpr95", "Score"),
        "auroc": tabulate(results.quality, "auroc", "Score"),
        "divergences": tabulate_divergences(results.groups),
        "groups": tabulate(results.groups.quality, "auroc", "Groups"),
        "noticed": tabulate_noticed(results.groups),
        "seconds": tabulate_seconds(results.seconds),
    }


def write_report(
    results: Results, about: Table, tables: Mapping[str, Table], seconds: float
) -> str:
    titles = {
        "alarms": "Alarms, in percent: test digits with an alarm; alarms that are about a "
        "misclassified digit; misclassified digits with an alarm; other images with one.",
        "published": "The published figures beside the first monitor's. "
        + explain_difference(results),
        "shares": "Share of the values of a layer that are not equal to those of the nearest "
        "training digit of the predicted class, in percent: median.",
        "fpr95": "FPR95 in percent: the share of the other samples accepted where 95 % of the "
        "digits are. In the column of misclassified digits, the right ones are the "
        "in-distribution. Hamming distances of patterns break ties by how common the nearest "
        "pattern was.",
        "auroc": "AUROC in percent, of the same.",
        "divergences": f"Divergences of groups of {max(GROUP_SIZES)} with one predicted class, in "
        "nats.",
        "groups": "AUROC in percent: groups of test digits against groups of other images.",
        "noticed": f"Share of groups of {max(GROUP_SIZES)} that are noticed, in percent, by the "
        "number of images from outside in them. The threshold rejects 5 % of the groups of the "
        "half of the test digits that is not drawn from.",
        "seconds": "Milliseconds for `predict`.",
    }
    parts = ["# Run-time monitors on MNIST", about.to_markdown(), f"{seconds:.0f} s in all."]
    for name, table in tables.items():
        parts += [titles[name], table.to_markdown()]
    return "\n\n".join(parts) + "\n"


def describe(results: Results, sizes: Sizes) -> Measured:
    is_wrong, is_learnt = results.watched.is_wrong, results.watched.is_learnt
    return Measured(
        data="MNIST; Fashion-MNIST, KMNIST, notMNIST, uniform noise and drawn triangles",
        samples=f"learnt from: the {is_learnt.mean():.2%} of {len(is_learnt):,} training digits "
        f"that are classified right; test {len(is_wrong):,} digits, of which {is_wrong.sum()} are "
        f"misclassified, and up to {sizes.n_outside:,} images of each other kind; "
        f"{sizes.n_compared} training digits of each class that real values are compared with",
        settings=f"two convolutions and four linear layers, {results.net.origin}; watched are the "
        "40 units after the ReLU of the third linear layer",
    )


def tabulate_alarms(results: Results) -> Table:
    rows = [
        [
            name,
            str(gamma),
            f"{100 * found.rate:.2f}",
            f"{100 * found.precision:.2f}" if found.is_alarm.any() else "",
            f"{100 * found.recall:.2f}",
            *(f"{100 * rate:.1f}" for rate in found.outside.values()),
        ]
        for name, by_gamma in results.alarms.items()
        for gamma, found in by_gamma.items()
    ]
    header = ["Monitor", "Gamma", "Alarms", "Misclassified", "Caught", *results.watched.outside]
    return Table(header, rows)


def compare_with_published(results: Results) -> Table:
    """The published table beside the first monitor's."""
    by_gamma = next(iter(results.alarms.values()))
    rows = [
        [
            str(gamma),
            *(f"{value:.2f}" for value in values),
            f"{100 * by_gamma[gamma].rate:.2f}",
            f"{100 * by_gamma[gamma].precision:.2f}",
        ]
        for gamma, values in PUBLISHED.items()
    ]
    header = ["Gamma", "Alarms, published", "Misclassified, published", "Alarms", "Misclassified"]
    return Table(header, rows)


def explain_difference(results: Results) -> str:
    by_gamma = next(iter(results.alarms.values()))
    agrees = all(
        np.allclose([100 * by_gamma[g].rate, 100 * by_gamma[g].precision], PUBLISHED[g], atol=0.005)
        for g in PUBLISHED
    )
    if agrees:
        return "The published figures are reproduced to the last digit: same weights, same images."
    if results.net.is_published:
        return "The weights are the published ones, but not all of the images are used."
    return (
        "The figures differ because the network does: it has the published architecture, but was "
        "trained anew. How often patterns are new depends on the training run."
    )


def tabulate_shares(shares: dict[str, Shares]) -> Table:
    rows = [
        [layer, *(f"{100 * np.median(found):.1f}" for found in by_set.values())]
        for layer, by_set in shares.items()
    ]
    return Table(["Layer", *next(iter(shares.values()))], rows)


def tabulate(quality: Mapping[str, BySet], measure: str, first: str) -> Table:
    rows = [
        [name, *(f"{getattr(value, measure):.1f}" for value in by_set.values())]
        for name, by_set in quality.items()
    ]
    return Table([first, *next(iter(quality.values()))], rows)


def tabulate_divergences(groups: Groups) -> Table:
    rows = [
        [name, *(f"{value:.1f}" for value in (np.median(found), found.min(), found.max()))]
        for name, found in groups.divergences.items()
    ]
    return Table(["Groups of", "Median", "Lowest", "Highest"], rows)


def tabulate_noticed(groups: Groups) -> Table:
    rows = [
        [measure, name, *(f"{100 * rate:.0f}" for rate in rates)]
        for measure, by_set in groups.noticed.items()
        for name, rates in by_set.items()
    ]
    return Table(["Measure", "Images from outside", *map(str, STRANGERS)], rows)


def tabulate_seconds(seconds: dict[str, tuple[float, float]]) -> Table:
    rows = [
        [name, *(format_number(1e3 * time) for time in times)] for name, times in seconds.items()
    ]
    return Table(["Step", "1,000 images, ms", "One image, ms"], rows)
