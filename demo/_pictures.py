"""The pictures of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

mpl.use("Agg")

# Colours that stay apart for colour-blind eyes.
COLOURS = ("#332288", "#ddaa33", "#117733", "#cc3311", "#33bbee", "#888888")
INSIDE, OUTSIDE = "#33bbee", "#cc3311"
MARKERS = {"max": "^", "avg": "o", "none": "s"}


def draw_distances(
    file: Path,
    distances: NDArray,
    threshold: float,
    rows: dict[str, slice],
    kinds: list[str],
    title: str,
) -> None:
    """Histograms of the Hamming distances of test images and of each kind of OOD images."""
    figure, axes = plt.subplots(
        3, 3, figsize=(10, 7.5), sharex=True, sharey=True, layout="constrained"
    )
    bins = np.arange(distances.max() + 2) - 0.5
    for axis, kind in zip(axes.flat, kinds, strict=True):
        for name, colour in (("test", INSIDE), (kind, OUTSIDE)):
            values = distances[rows[name]]
            share = np.full(len(values), 1 / len(values))
            axis.hist(values, bins, weights=share, color=colour, alpha=0.6)
        axis.axvline(threshold, color="black", linestyle=":")
        axis.set_title(kind, color=OUTSIDE)
    figure.suptitle(title)
    figure.supxlabel(
        "Hamming distance to the nearest pattern of the predicted class "
        "(blue: in-distribution test images, red: OOD images, dotted: threshold)"
    )
    figure.supylabel("share of images")
    _save(figure, file)


def draw_settings(
    file: Path, settings: list[dict[str, Any]], references: dict[str, dict[str, float]]
) -> None:
    """Each setting on the validation images against its mean over unseen kinds."""
    metrics = list(settings[0]["test"])
    figure, axes = plt.subplots(1, len(metrics), figsize=(12, 6), layout="constrained")
    for axis, metric in zip(axes, metrics, strict=True):
        _scatter_settings(axis, settings, metric)
        for (name, values), style in zip(references.items(), ("-", "--", "-."), strict=True):
            axis.axhline(values[metric], color="black", linewidth=1, linestyle=style, label=name)
        axis.set_xlabel(f"{metric} in the search, against the digit 1")
        axis.set_ylabel(f"{metric} on unseen images, mean over their kinds")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    figure.suptitle("All settings of the search: a layer, a pooling and a percentile each")
    _save(figure, file)


def _scatter_settings(axis: Axes, settings: list[dict[str, Any]], metric: str) -> None:
    layers = list(dict.fromkeys(setting["layer"] for setting in settings))
    for layer, colour in zip(layers, COLOURS, strict=True):
        for pooling, marker in MARKERS.items():
            chosen = [s for s in settings if (s["layer"], s["pooling"]) == (layer, pooling)]
            if chosen:
                axis.scatter(
                    [s["validation"][metric] for s in chosen],
                    [s["test"][metric] for s in chosen],
                    c=colour,
                    marker=marker,
                    alpha=0.8,
                    label=layer if pooling == "none" else f"{layer}, {pooling}",
                )
    best = next(s for s in settings if s["chosen"])
    point = best["validation"][metric], best["test"][metric]
    axis.scatter(*point, s=220, facecolors="none", edgecolors="black", label="chosen by AUROC")


def draw_roc_curves(
    file: Path, decisions: dict[str, NDArray], rows: dict[str, slice], kinds: list[str]
) -> None:
    """ROC curves of all detectors, one panel for each kind of OOD images."""
    figure, axes = plt.subplots(
        2, 4, figsize=(13, 7), sharex=True, sharey=True, layout="constrained"
    )
    for axis, kind in zip(axes.flat, kinds, strict=True):
        y = np.repeat([0, 1], [len(np.r_[rows[name]]) for name in ("test", kind)])
        for (name, values), colour in zip(decisions.items(), COLOURS, strict=True):
            rejected, found, _ = roc_curve(y, -values[np.r_[rows["test"], rows[kind]]])
            axis.plot(rejected, found, color=colour, label=name)
        axis.set_title(kind)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.supxlabel("share of in-distribution test images rejected")
    figure.supylabel("share of OOD images found")
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=120)
    plt.close(figure)
