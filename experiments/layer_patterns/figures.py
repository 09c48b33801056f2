"""The figures of the layer pattern experiment, one for each finding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skood import Activations, PercentileBinarizer
from skood.ensemble import LayerEnsembleDetector
from skood.inspection import (
    ClusterDistanceDisplay,
    MeanActivationDisplay,
    NeuronMeasureDisplay,
    NeuronStatistics,
    OODRocCurveDisplay,
    ProgressionDisplay,
)

from .._common.figures import save_figures
from .detectors import OOD_COLUMNS, Followed, Scores
from .groups import predicted_shares
from .net import DIGITS, Experiment
from .neurons import count_active, mean_activation_counts
from .results import Results

COLORS = {
    "correct": "#0072b2",
    "misclassified": "#d55e00",
    "ones": "#009e73",
    "fives": "#cc79a7",
    "noise": "#e69f00",
}

MEASURES = (
    ("average_gradient", "training_count", "influence_l2"),
    ("influence_l2", "training_count", "average_gradient"),
    ("influence_l2", "average_gradient", "training_count"),
    ("accuracy", "training_count", "influence_l2"),
    ("accuracy", "average_gradient", "training_count"),
    ("accuracy", "influence_l2", "training_count"),
)
"""Measures of neurons that are drawn together: as heights of bars, their order and their colour."""


def draw_all(results: Results, folder: Path) -> None:
    """Draw every figure and write it to the folder."""
    experiment, statistics = results.experiment, results.statistics
    figures = {
        "1_active_neurons": draw_active_neurons(experiment),
        "2_count_and_coefficient": draw_coefficient(experiment, results.scores),
        "3_mean_activation_count": draw_mean_counts(experiment, statistics),
        "4_neuron_accuracy": draw_accuracies(statistics, experiment.accuracy),
        "5_weak_neurons": draw_weak_neurons(statistics),
        "6_silhouettes": draw_silhouettes(results.clusters),
        "7_predicted_classes": draw_predicted_classes(experiment),
        "8_cluster_distance": draw_cluster_distance(results.patterns, results.clusters),
        "9_progression": draw_progression(results.samples),
        "10_roc_curves": draw_roc_curves(results.scores),
        "active_by_training_count": draw_active_by_count(experiment, statistics),
        **{
            f"{height}_by_{sort_by}": draw_measures(statistics, height, sort_by, color)
            for height, sort_by, color in MEASURES
        },
    }
    save_figures(figures, folder)


def stack(sets: Mapping[str, Activations]) -> tuple[Activations, NDArray[np.str_]]:
    """All sets as one, and the name of the set that each sample belongs to."""
    names = np.repeat(list(sets), [len(A) for A in sets.values()])
    return Activations.concatenate(list(sets.values())), names


def draw_by_layer(
    axes: Axes, values: Mapping[str, NDArray], layers: tuple[str, ...], label: str
) -> None:
    """Mean of each set in each layer; bars from the 25th to the 75th percentile."""
    for number, (name, table) in enumerate(values.items()):
        places = np.arange(len(layers)) + 0.1 * (number - (len(values) - 1) / 2)
        low, high = np.percentile(table, [25, 75], axis=0)
        axes.plot(places, table.mean(axis=0), marker="o", color=COLORS[name], label=name)
        axes.vlines(places, low, high, color=COLORS[name], linewidth=6, alpha=0.3)
    axes.set_xticks(range(len(layers)), layers)
    axes.set_ylabel(label)
    axes.legend(fontsize="small")


def draw_active_neurons(experiment: Experiment) -> Figure:
    figure, (by_layer, first, last) = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    counts = {name: count_active(A) for name, A in experiment.sets.items()}
    layers = experiment.normal.layer_names
    draw_by_layer(by_layer, counts, layers, "active neurons")
    active = experiment.transform(PercentileBinarizer(rule="zero"))
    shown = {name: active.sets[name] for name in ("correct", "ones", "noise")}
    X, names = stack(shown)
    for axes, layer in ((first, layers[0]), (last, layers[-1])):
        display = MeanActivationDisplay.from_activations(
            X, names, layer=layer, ax=axes, marker="o", linestyle="none"
        )
        for name, line in display.lines_.items():
            line.set_color(COLORS[name])
        axes.legend(fontsize="small", loc="lower left")
    return figure


def draw_active_by_count(experiment: Experiment, statistics: NeuronStatistics) -> Figure:
    """How often each neuron is active, those that were so most often in training first."""
    counts = statistics.by_layer("training_count")
    X, names = stack(experiment.transform(PercentileBinarizer(rule="zero")).sets)
    figure, panels = plt.subplots(
        len(COLORS), len(counts), figsize=(4 * len(counts), 13), sharey=True, layout="constrained"
    )
    for column, layer in zip(panels.T, counts, strict=True):
        display = MeanActivationDisplay.from_activations(
            X,
            names,
            layer=layer,
            sort_by=counts,
            sorted_by="training count",
            separate=True,
            ax=column,
            marker=".",
            linestyle="none",
        )
        for name, line in display.lines_.items():
            line.set_color(COLORS[name])
    return figure


def draw_measures(statistics: NeuronStatistics, height: str, sort_by: str, color: str) -> Figure:
    return NeuronMeasureDisplay.from_statistics(
        statistics, height, sort_by=sort_by, color=color
    ).figure_


def draw_coefficient(experiment: Experiment, scores: dict[str, Scores]) -> Figure:
    figure, (scatter, *panels) = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
    names = "number of active neurons", "activation coefficient"
    count, coefficient = (scores[name] for name in names)
    normal = {"correct": experiment.is_correct, "misclassified": ~experiment.is_correct}
    for name, color in COLORS.items():
        if name in normal:
            x, y = (-part.normal[normal[name]] for part in (count, coefficient))
        else:
            x, y = (-part.outside[name] for part in (count, coefficient))
        scatter.scatter(x[:500], y[:500], s=5, color=color, alpha=0.5, label=name)
    scatter.set(xlabel=names[0], ylabel=names[1])
    scatter.legend(fontsize="small", markerscale=3)
    draw_roc(panels, {name: scores[name] for name in (*names, "mean activation count")})
    return figure


def draw_roc(panels: list[Axes], scores: Mapping[str, Scores]) -> None:
    """ROC curves for each kind of OOD samples."""
    for axes, (column, sources) in zip(panels, OOD_COLUMNS.items(), strict=True):
        outside = {
            name: np.concatenate([part.outside[source] for source in sources])
            for name, part in scores.items()
        }
        n_inside = len(next(iter(scores.values())).normal)
        n_outside = len(next(iter(outside.values())))
        OODRocCurveDisplay.from_predictions(
            np.repeat([1, -1], [n_inside, n_outside]),
            {name: np.r_[part.normal, outside[name]] for name, part in scores.items()},
            positive="id",
            mark_tpr=0.95,
            ax=axes,
        )
        axes.set_title(f"normal digits against {column}")
        axes.legend(fontsize="small", loc="best")


def draw_mean_counts(experiment: Experiment, statistics: NeuronStatistics) -> Figure:
    by_layer = mean_activation_counts(experiment, statistics)
    is_correct = experiment.is_correct
    normal = np.column_stack([part.normal for part in by_layer.values()])
    values = {"correct": normal[is_correct], "misclassified": normal[~is_correct]}
    for name in experiment.outside:
        values[name] = np.column_stack([part.outside[name] for part in by_layer.values()])
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    draw_by_layer(axes, values, tuple(by_layer), "mean activation count of active neurons")
    return figure


def draw_accuracies(statistics: NeuronStatistics, accuracy: float) -> Figure:
    layers = statistics.layer_names
    figure, axes = plt.subplots(
        2, len(layers), figsize=(3 * len(layers), 6), sharey="row", layout="constrained"
    )
    NeuronMeasureDisplay.from_statistics(
        statistics,
        "accuracy",
        sort_by="training_count",
        color="average_gradient",
        ax=axes[0],
    )
    counts, accuracies = (statistics.by_layer(c) for c in ("training_count", "accuracy"))
    for panel, layer in zip(axes[1], layers, strict=True):
        panel.scatter(counts[layer], accuracies[layer], s=6, color="#0072b2")
        panel.axhline(accuracy, color="black", linestyle=":", linewidth=1.2)
        panel.set_xlabel("activation count in training")
    axes[1, 0].set_ylabel("neuron accuracy (share of samples)")
    # All but a few neurons are near the accuracy of the network.
    axes[0, 0].set_ylim(accuracy - 0.06, 1)
    return figure


def draw_weak_neurons(statistics: NeuronStatistics) -> Figure:
    display = NeuronMeasureDisplay.from_statistics(statistics, "influence_l2", color="weak")
    for axes, (layer, is_weak) in zip(
        display.axes_, statistics.by_layer("weak").items(), strict=True
    ):
        axes.set_title(f"{layer}, {is_weak.sum()} weak")
    return display.figure_


def draw_silhouettes(clusters: LayerEnsembleDetector) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for layer, member in zip(clusters.layers_, clusters.estimators_, strict=True):
        (line,) = axes.plot(
            member.silhouettes_.keys(),
            member.silhouettes_.values(),
            marker="o",
            markersize=3,
            label=f"{layer}, best {member.n_clusters_}",
        )
        best = member.n_clusters_
        axes.plot(best, member.silhouettes_[best], marker="o", color=line.get_color())
    axes.axvline(len(DIGITS), color="#777777", linestyle=":", label="number of classes")
    axes.set(xlabel="number of clusters", ylabel="mean silhouette")
    axes.legend()
    return figure


def draw_predicted_classes(experiment: Experiment) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, (name, shares) in enumerate(predicted_shares(experiment).items()):
        places = np.arange(len(DIGITS)) + 0.27 * (number - 1)
        axes.bar(places, 100 * shares, width=0.25, color=COLORS[name], label=name)
    axes.set_xticks(range(len(DIGITS)), DIGITS)
    axes.set(xlabel="predicted digit", ylabel="samples of the set (%)")
    axes.legend()
    return figure


def draw_cluster_distance(patterns: Experiment, clusters: LayerEnsembleDetector) -> Figure:
    layer, detector = clusters.layers_[1], clusters.estimators_[1]
    figure, panels = plt.subplots(2, 1, figsize=(11, 9), sharey=True, layout="constrained")
    X, names = stack(patterns.sets)
    X = X[[layer]]
    matches = detector.matches(X)
    for axes, rows, kind in zip(
        panels, (matches, ~matches), ("matching", "mismatching"), strict=True
    ):
        ClusterDistanceDisplay.from_estimator(detector, X[rows], groups=names[rows], ax=axes)
        axes.set_title(f"{layer}, {kind} samples")
    return figure


def draw_progression(samples: Followed) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained")
    ProgressionDisplay.from_predictions(
        samples.matching, samples.layers, samples.set_names, feature="matching", ax=panels[0]
    )
    ProgressionDisplay.from_predictions(
        samples.distance, samples.layers, samples.set_names, widths=samples.widths, ax=panels[1]
    )
    return figure


def draw_roc_curves(scores: dict[str, Scores]) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
    shown = ("MSP", "number of active neurons", "cluster distance, mean of layers",
             "progression, distance", "progression, percentage", "progression, both")  # fmt: skip
    draw_roc(list(panels), {name: scores[name] for name in shown})
    return figure
