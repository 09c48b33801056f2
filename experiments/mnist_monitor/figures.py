"""The figures of the MNIST experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from skood import Activations
from skood.ensemble import AutoNAPDetector
from skood.inspection import HammingDistanceDisplay, SettingAccuracyDisplay

from .detectors import PERCENTILES
from .outcomes import Singles
from .settings import DENSE, SPARSE, Trade, compare_settings


def draw_single_layers(singles: Singles) -> Figure:
    """AUROC of each layer at its best percentile for each set: no layer is best for all."""
    sets = list(next(iter(singles.values())))
    layers = list(dict.fromkeys(layer for layer, _ in singles))
    best = np.array(
        [
            [max(singles[layer, p][name].auroc for p in PERCENTILES) for name in sets]
            for layer in layers
        ]
    )
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    image = axes.imshow(best, cmap="cividis", vmin=0.5, vmax=1, aspect="auto")
    axes.set_xticks(range(len(sets)), sets, rotation=40, ha="right")
    axes.set_yticks(range(len(layers)), layers)
    for row, column in np.ndindex(best.shape):
        winner = best[row, column] == best[:, column].max()
        axes.text(
            column, row, f"{best[row, column]:.2f}", ha="center", va="center",
            color="black" if best[row, column] > 0.75 else "white",
            weight="bold" if winner else "normal", fontsize=8,
        )  # fmt: skip
    axes.set_title("Single layers at their best percentile (bold: the best for the set)")
    figure.colorbar(image, label="AUROC")
    return figure


def draw_settings(
    detector: AutoNAPDetector,
    inside: Activations,
    outside: Mapping[str, Activations],
    validation: str,
) -> tuple[Figure, dict[str, SettingAccuracyDisplay]]:
    """Accuracies of all settings on each set that is not the one of the validation."""
    figure, panels = plt.subplots(3, 3, figsize=(13, 12), layout="constrained")
    others = {name: A for name, A in outside.items() if name != validation}
    displays = compare_settings(detector, inside, others, panels)
    for (name, display), ax in zip(displays.items(), panels.flat, strict=True):
        ax.set_title(
            f"{name}: Pearson {display.pearson_:.2f}, Spearman {display.spearman_:.2f}", fontsize=11
        )
    figure.legend(*panels.flat[-1].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    for ax in panels.flat:
        ax.get_legend().remove()
    figure.suptitle(f"Single settings: validation on {validation}, test on each other set")
    return figure, displays


def draw_trade(
    trade: Trade,
    singles: Singles,
    fit: Callable[[str, int], Any],
    inside: Activations,
    outside: Mapping[str, Activations],
) -> Figure:
    """Distances of the digits and of the two sets, for both percentiles."""
    names = [trade.for_dense, trade.for_sparse]
    sets = {"digits": inside, **{name: outside[name] for name in names}}
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
        outcomes = singles[trade.layer, percentile]
        found = ", ".join(f"{name} {outcomes[name].auroc:.3f}" for name in names)
        ax.set_title(f"layer {trade.layer}, p = {percentile}\nAUROC: {found}", fontsize=11)
    return figure
