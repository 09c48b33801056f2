"""The report of the run-time monitor experiment: Markdown, and the alarms as a table of values."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn
import torch

import skood

from .._common.markdown import list_lines, table
from .._common.quality import BySet, cell
from .._common.timing import format_time
from .alarms import GAMMAS, AlarmTable
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


def write_report(results: Results, sizes: Sizes, seconds: float) -> str:
    parts = [
        "# Run-time monitors on MNIST",
        describe(results, sizes, seconds),
        "## Alarms",
        "In percent: test digits with an alarm; alarms that are about a misclassified digit; "
        "misclassified digits with an alarm (their number in brackets); other images with one.",
        tabulate_alarms(results),
        compare_with_published(results),
        "## Values that differ",
        "Share of the values of a layer that are not equal to those of the nearest of "
        f"{sizes.n_compared} training digits of the predicted class, in percent: median "
        "(5th to 95th percentile).",
        tabulate_shares(results.shares),
        "## Scores",
        "FPR95 / AUROC in percent; FPR95 is the share of the other samples accepted where 95 % "
        "of the digits are. In the column of misclassified digits, the right ones are the "
        "in-distribution. Hamming distances of patterns break ties by how common the "
        "nearest pattern was.",
        tabulate_quality(results.quality),
        "## Groups of one predicted class",
        "FPR95 / AUROC in percent: groups of test digits against groups of other images.",
        tabulate_quality(results.groups.quality),
        f"Divergences of groups of {max(GROUP_SIZES)}, in nats: "
        f"{list_divergences(results.groups)}.",
        f"Share of groups of {max(GROUP_SIZES)} that are noticed, in percent, by the number of "
        "images from outside in them. The threshold rejects 5 % of the groups of the half of the "
        "test digits that is not drawn from.",
        tabulate_noticed(results.groups),
        "## Time",
        tabulate_seconds(results.seconds),
    ]
    return "\n\n".join(parts) + "\n"


def describe(results: Results, sizes: Sizes, seconds: float) -> str:
    watched = results.watched
    is_wrong, is_learnt = watched.is_wrong, watched.is_learnt
    return list_lines(
        [
            f"Network: two convolutions and four linear layers, {results.net.origin}. The 40 units "
            "after the ReLU of the third linear layer are watched.",
            f"It classifies {is_learnt.mean():.2%} of {len(is_learnt):,} training digits right, "
            f"which the monitors learn from, and {1 - is_wrong.mean():.2%} of {len(is_wrong):,} "
            f"test digits: {is_wrong.sum()} are misclassified.",
            f"Other images: up to {sizes.n_outside:,} of each kind.",
            f"skood {skood.__version__}, torch {torch.__version__}, scikit-learn "
            f"{sklearn.__version__}, NumPy {np.__version__}; {seconds:.0f} s in all.",
        ]
    )


def tabulate_alarms(results: Results) -> str:
    header = ["monitor", "gamma", "alarms", "misclassified", "caught", *results.watched.outside]
    rows = [
        [
            name,
            str(gamma),
            f"{100 * found.rate:.2f}",
            f"{100 * found.precision:.2f}",
            f"{100 * found.recall:.2f} ({found.n_caught})",
            *(f"{100 * rate:.1f}" for rate in found.outside.values()),
        ]
        for name, by_gamma in results.alarms.items()
        for gamma, found in by_gamma.items()
    ]
    return table(header, rows)


def compare_with_published(results: Results) -> str:
    """The published table beside the first monitor's, and what explains a difference."""
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
    header = ["gamma", "published alarms", "misclassified", "alarms here", "misclassified here"]
    return f"{table(header, rows)}\n\n{explain_difference(results)}"


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


def tabulate_shares(shares: dict[str, Shares]) -> str:
    rows = []
    for layer, by_set in shares.items():
        quantiles = [100 * np.quantile(found, [0.5, 0.05, 0.95]) for found in by_set.values()]
        rows.append([layer, *(f"{m:.1f} ({low:.1f} to {high:.1f})" for m, low, high in quantiles)])
    return table(["layer", *next(iter(shares.values()))], rows)


def tabulate_quality(quality: dict[str, BySet]) -> str:
    rows = [[name, *map(cell, by_set.values())] for name, by_set in quality.items()]
    return table(["", *next(iter(quality.values()))], rows)


def list_divergences(groups: Groups) -> str:
    return "; ".join(
        f"{name} {np.median(found):.1f} ({found.min():.1f} to {found.max():.1f})"
        for name, found in groups.divergences.items()
    )


def tabulate_noticed(groups: Groups) -> str:
    rows = [
        [f"{measure}, {name}", *(f"{100 * rate:.0f}" for rate in rates)]
        for measure, by_set in groups.noticed.items()
        for name, rates in by_set.items()
    ]
    return table(["", *map(str, STRANGERS)], rows)


def tabulate_seconds(seconds: dict[str, tuple[float, float]]) -> str:
    rows = [[name, *map(format_time, times)] for name, times in seconds.items()]
    return table(["predict", "a batch of 1,000", "one image"], rows)


def save_alarms(results: Results, file: Path) -> None:
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        measures = ("rate", "precision", "recall", "n_caught")
        writer.writerow(["monitor", "gamma", *measures, *results.watched.outside])
        for name, by_gamma in results.alarms.items():
            for gamma in GAMMAS:
                found = by_gamma[gamma]
                values = (getattr(found, measure) for measure in measures)
                writer.writerow([name, gamma, *values, *found.outside.values()])
