"""Findings 1 to 5 of the thesis: which neurons are active, and what they are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from skood import Activations, NeuronCountDetector
from skood.inspection import NeuronStatistics

from .detectors import COLUMNS, Lines, Scores, assess, compare, score
from .findings import Finding
from .net import Experiment

SAME = 0.01
"""AUROCs that differ by less are taken for equal."""


def find_active_neurons(experiment: Experiment) -> Finding:
    means = {name: count_active(A).sum(axis=1).mean() for name, A in experiment.sets.items()}
    expected = means.pop("correct")
    return Finding(
        1,
        "OOD and misclassified samples activate more neurons.",
        "Mean number of active neurons, over all layers, above that of correct digits: "
        "misclassified, ones, fives, noise.",
        [mean > expected for mean in means.values()],
        f"correct {expected:.0f}; " + "; ".join(f"{name} {n:.0f}" for name, n in means.items()),
        "1_active_neurons.png",
    )


def count_active(A: Activations) -> NDArray[np.intp]:
    """Number of active neurons, of shape (n_samples, n_layers)."""
    return np.column_stack(
        [np.count_nonzero(np.asarray(layer) > 0, axis=1) for _, layer in A.items()]
    )


def find_what_coefficient_adds(scores: dict[str, Scores], lines: Lines) -> Finding:
    names = "number of active neurons", "activation coefficient"
    count, coefficient = (
        np.concatenate([scores[name].normal, *scores[name].outside.values()]) for name in names
    )
    correlation = spearmanr(count, coefficient).statistic
    pairs = {column: [lines[name][column].auroc for name in names] for column in COLUMNS}
    return Finding(
        2,
        "The number of active neurons alone explains the result of the activation coefficient.",
        "Rank correlation of the two, over all test samples, at least 0.9; AUROC of the "
        f"coefficient at most {SAME} above that of the number: ones + fives, noise, misclassified.",
        [correlation >= 0.9, *(b <= a + SAME for a, b in pairs.values())],
        f"rank correlation {correlation:.2f}; AUROC of number | coefficient: "
        + "; ".join(f"{column} {a:.2f} | {b:.2f}" for column, (a, b) in pairs.items()),
        "2_count_and_coefficient.png",
    )


def find_mean_counts(experiment: Experiment, statistics: NeuronStatistics) -> Finding:
    by_layer = mean_activation_counts(experiment, statistics)
    middle = list(by_layer)[1:-1]
    aurocs = {
        layer: {
            name: compare(by_layer[layer].normal, outside).auroc
            for name, outside in by_layer[layer].outside.items()
        }
        for layer in middle
    }
    return Finding(
        3,
        "The mean activation count of active neurons is higher for OOD samples in the middle "
        "layers.",
        "AUROC of the mean activation count (high = in-distribution) below 0.5: "
        f"ones, fives, noise in each of {', '.join(middle)}.",
        [auroc < 0.5 for sources in aurocs.values() for auroc in sources.values()],
        "; ".join(
            f"{layer} " + ", ".join(f"{name} {auroc:.2f}" for name, auroc in sources.items())
            for layer, sources in aurocs.items()
        ),
        "3_mean_activation_count.png",
    )


def mean_activation_counts(
    experiment: Experiment, statistics: NeuronStatistics
) -> dict[str, Scores]:
    """Mean activation count of the neurons that each sample activates, layer by layer."""
    counts = statistics.by_layer("training_count")
    return {
        layer: score(
            NeuronCountDetector(
                statistic="mean_activation_count", activation_counts={layer: counts[layer]}
            ).fit(experiment.train[[layer]]),
            experiment,
            layer,
        )
        for layer in statistics.layer_names
    }


def find_neuron_accuracies(statistics: NeuronStatistics, accuracy: float) -> Finding:
    is_known = ~np.isnan(statistics["accuracy"])
    accuracies = statistics["accuracy"][is_known]
    counts = statistics["training_count"][is_known]
    share_below = np.mean(accuracies < accuracy)
    correlation = spearmanr(counts, accuracies).statistic
    is_frequent = counts > np.median(counts)
    seldom, often = accuracies[~is_frequent].std(), accuracies[is_frequent].std()
    return Finding(
        4,
        "Most neuron accuracies lie below that of the network, and they rise and spread less as "
        "the activation count grows.",
        "More than half of the neurons below; rank correlation with the count above 0; smaller "
        "standard deviation among the half with the higher counts.",
        [share_below > 0.5, correlation > 0, often < seldom],
        f"{share_below:.0%} below {accuracy:.3f}; rank correlation {correlation:.2f}; standard "
        f"deviation {seldom:.3f} (low counts), {often:.3f} (high counts)",
        "4_neuron_accuracy.png",
    )


def find_weak_neurons(experiment: Experiment, statistics: NeuronStatistics) -> Finding:
    weak = statistics.by_layer("weak")
    n_weak = {layer: int(is_weak.sum()) for layer, is_weak in weak.items()}
    largest = max(n_weak.values()) / max(1, sum(n_weak.values()))
    strong = {layer: ~is_weak for layer, is_weak in weak.items()}
    everything = {layer: np.ones_like(is_weak) for layer, is_weak in weak.items()}
    of_all, of_strong, of_weak = (
        assess(score_counts(experiment, chosen), experiment.is_correct)
        for chosen in (everything, strong, weak)
    )
    return Finding(
        5,
        "Weak neurons appear in one layer and do not help detection.",
        "At least 90 % of them in one layer; for the number of active neurons and each of "
        f"ones + fives, noise, misclassified: AUROC without them less than {SAME} lower than with "
        "all, AUROC of them alone lower than of all.",
        [
            largest >= 0.9,
            *(of_strong[column].auroc > of_all[column].auroc - SAME for column in COLUMNS),
            *(of_weak[column].auroc < of_all[column].auroc for column in COLUMNS),
        ],
        ", ".join(f"{n} in {layer}" for layer, n in n_weak.items())
        + "; AUROC with all | without | alone: "
        + "; ".join(
            f"{column} "
            + " | ".join(f"{line[column].auroc:.2f}" for line in (of_all, of_strong, of_weak))
            for column in COLUMNS
        ),
        "5_weak_neurons.png",
    )


def score_counts(experiment: Experiment, chosen: dict[str, NDArray[np.bool_]]) -> Scores:
    """Score by the number of those of the chosen neurons that are active."""
    layers = [layer for layer, is_chosen in chosen.items() if is_chosen.any()]

    def select(A: Activations) -> Activations:
        return A.replace({layer: A[layer][:, chosen[layer]] for layer in layers})

    detector = NeuronCountDetector().fit(select(experiment.train))
    return Scores(
        detector.score_samples(select(experiment.normal)),
        {name: detector.score_samples(select(A)) for name, A in experiment.outside.items()},
    )
