"""What the validation tells of single settings, and what a percentile trades for another."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from skood import Activations
from skood.ensemble import AutoNAPDetector
from skood.inspection import HammingDistanceDisplay, SettingAccuracyDisplay

SPARSE, DENSE = 90, 30
Singles = Mapping[tuple[str, int], list[dict[str, Any]]]


def compare_settings(
    detector: AutoNAPDetector,
    inside: Activations,
    outside: Mapping[str, Activations],
    validation: str,
    stem: Path,
) -> dict[str, SettingAccuracyDisplay]:
    """Accuracies of all settings on each set, against those on the set of the validation.

    Writes them to the file ``stem`` with the suffix ".csv", and a figure to the one with ".png".
    """
    names = [name for name in outside if name != validation]
    figure, panels = plt.subplots(3, 3, figsize=(13, 12), layout="constrained")
    displays, accuracies = {}, {}
    for name, ax in zip(names, panels.flat, strict=True):
        A = Activations.concatenate([inside, outside[name]])
        y = np.repeat([1, -1], [len(inside), len(outside[name])])
        display = SettingAccuracyDisplay.from_estimator(detector, A, y, s=16, ax=ax)
        ax.set_title(
            f"{name}: Pearson {display.pearson_:.2f}, Spearman {display.spearman_:.2f}", fontsize=11
        )
        displays[name], accuracies[name] = display, detector.score_settings(A, y)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=8)
    for ax in panels.flat:
        ax.get_legend().remove()
    figure.suptitle(f"Single settings: validation on {validation}, test on each other set")
    figure.savefig(stem.with_suffix(".png"), dpi=70)
    plt.close(figure)
    save_settings({**detector.results_, **accuracies}, stem.with_suffix(".csv"))
    return displays


def save_settings(columns: Mapping[str, np.ndarray], file: Path) -> None:
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def print_correlations(displays: Mapping[str, SettingAccuracyDisplay], validation: str) -> None:
    """A Markdown table."""
    n_settings = len(next(iter(displays.values())).test_accuracy)
    print(
        f"\nCorrelation of validation and test accuracy over {n_settings} single settings. "
        f"Validation on {validation}.\n"
    )
    print("| test on |", " | ".join(displays), "|")
    print("| --- |", " --- |" * len(displays))
    for measure in ("pearson_", "spearman_"):
        values = [f"{getattr(display, measure):.2f}" for display in displays.values()]
        print(f"| {measure.strip('_').title()} |", " | ".join(values), "|")


class Trade(NamedTuple):
    """A layer, a set that the low percentile finds better, and one that the high one does."""

    layer: str
    for_dense: str
    for_sparse: str
    gain: float
    """The smaller of the two differences in AUROC."""
    is_found: bool
    """Whether either set is found well, AUROC above .8, by its better percentile."""


def find_trade(singles: Singles) -> Trade:
    """The layer and the two sets for which a percentile gains most here and loses there."""
    aurocs = {
        setting: {row["set"]: row["AUROC"] for row in rows} for setting, rows in singles.items()
    }
    trades = []
    for layer in dict.fromkeys(layer for layer, _ in singles):
        dense, sparse = aurocs[layer, DENSE], aurocs[layer, SPARSE]
        for one, other in permutations(dense, 2):
            gain = min(dense[one] - sparse[one], sparse[other] - dense[other])
            is_found = min(dense[one], sparse[other]) > 0.8
            trades.append(Trade(layer, one, other, gain, is_found))
    return max(trades, key=lambda trade: (trade.is_found and trade.gain > 0, trade.gain))


def draw_trade(
    trade: Trade,
    singles: Singles,
    fit: Callable[[str, int], Any],
    inside: Activations,
    outside: Mapping[str, Activations],
    file: Path,
) -> None:
    """Distances of the digits and of the two sets, for both percentiles."""
    sets = {"digits": inside, **{name: outside[name] for name in trade[1:3]}}
    A = Activations.concatenate(list(sets.values()))
    sizes = [len(part) for part in sets.values()]
    figure, panels = plt.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
    for percentile, ax in zip((DENSE, SPARSE), panels, strict=True):
        HammingDistanceDisplay.from_estimator(
            fit(trade.layer, percentile),
            A,
            np.repeat([1, -1, -1], sizes),
            groups=np.repeat(list(sets), sizes),
            ax=ax,
        )
        aurocs = {row["set"]: row["AUROC"] for row in singles[trade.layer, percentile]}
        found = ", ".join(f"{name} {aurocs[name]:.3f}" for name in trade[1:3])
        ax.set_title(f"layer {trade.layer}, p = {percentile}\nAUROC: {found}", fontsize=11)
    figure.savefig(file, dpi=90)
    plt.close(figure)
