"""The pictures of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from skood import Activations
from skood.inspection import HammingDistanceDisplay

mpl.use("Agg")

# Colours that stay apart for colour-blind eyes.
COLOURS = ("#332288", "#ddaa33", "#117733", "#cc3311", "#33bbee", "#888888")
# By pooling; "" is a layer without feature maps.
MARKERS = {"max": "^", "avg": "o", "": "s"}


def draw_distances(
    file: Path,
    detector: Any,
    A: Activations,
    *,
    rows: dict[str, slice],
    kinds: list[str],
    title: str,
) -> None:
    """Histograms of the Hamming distances of test images and of each kind of OOD images."""
    figure, axes = plt.subplots(
        3, 3, figsize=(14, 10), sharex=True, sharey=True, layout="constrained"
    )
    known = A[rows["test"]]
    for axis, kind in zip(axes.flat, kinds, strict=True):
        unknown = A[rows[kind]]
        HammingDistanceDisplay.from_estimator(
            detector,
            Activations.concatenate([known, unknown]),
            np.repeat([1, -1], [len(known), len(unknown)]),
            ax=axis,
        )
        axis.set(title=kind, xlabel="", ylabel="")
    figure.suptitle(title)
    figure.supxlabel("Hamming distance to the nearest pattern of the predicted class")
    figure.supylabel("images (%)")
    _save(figure, file)


def draw_settings(
    file: Path,
    settings: list[dict[str, Any]],
    references: dict[str, dict[str, float]],
    *,
    searched: str,
) -> None:
    """Each setting's metrics in the search against their means over unseen kinds of images."""
    metrics = list(settings[0]["search"])
    figure, axes = plt.subplots(1, len(metrics), figsize=(12, 6), layout="constrained")
    for axis, metric in zip(axes, metrics, strict=True):
        _scatter_settings(axis, settings, metric)
        for (name, means), style in zip(references.items(), ("-", "--"), strict=True):
            axis.axhline(means[metric], color="black", linewidth=1, linestyle=style, label=name)
        axis.set_xlabel(f"{metric} in the search, against {searched}")
        axis.set_ylabel(f"mean {metric} over unseen kinds of images")
    figure.suptitle(
        "All settings of the search; those of one colour and shape differ in percentile"
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    _save(figure, file)


def _scatter_settings(axis: Axes, settings: list[dict[str, Any]], metric: str) -> None:
    layers = list(dict.fromkeys(setting["layer"] for setting in settings))
    colours = dict(zip(layers, COLOURS, strict=True))
    for layer, pooling in dict.fromkeys((s["layer"], s["pooling"]) for s in settings):
        points = [
            (s["search"][metric], s["unseen"][metric])
            for s in settings
            if (s["layer"], s["pooling"]) == (layer, pooling)
        ]
        axis.scatter(
            *np.transpose(points),
            color=colours[layer],
            marker=MARKERS[pooling],
            alpha=0.8,
            label=f"{layer}, {pooling}" if pooling else layer,
        )
    best = next(setting for setting in settings if setting["chosen"])
    point = best["search"][metric], best["unseen"][metric]
    axis.scatter(*point, s=200, facecolors="none", edgecolors="black", label="chosen by AUROC")


def draw_roc_curves(
    file: Path, scores: dict[str, NDArray], rows: dict[str, slice], kinds: list[str]
) -> None:
    """ROC curves of all detectors, one panel for each kind of OOD images."""
    figure, axes = plt.subplots(
        2, 4, figsize=(13, 7), sharex=True, sharey=True, layout="constrained"
    )
    for axis, kind in zip(axes.flat, kinds, strict=True):
        both = np.r_[rows["test"], rows[kind]]
        is_ood = np.arange(len(both)) >= len(np.r_[rows["test"]])
        for (name, values), colour in zip(scores.items(), COLOURS, strict=True):
            rejected, found, _ = roc_curve(is_ood, -values[both], drop_intermediate=False)
            axis.step(rejected, found, where="post", color=colour, label=name)
        axis.set_xscale("log")
        axis.set_xlim(1 / np.sum(~is_ood), 1)
        axis.set_title(kind)
    figure.supxlabel("share of in-distribution test images rejected (logarithmic)")
    figure.supylabel("share of OOD images found")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=120)
    plt.close(figure)
