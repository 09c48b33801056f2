"""Findings 6 to 10 of the thesis: clusters and groups of patterns, and the detectors compared."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from skood import ClusterDistanceDetector
from skood.ensemble import LayerEnsembleDetector

from .._common.networks import predicted_classes
from .detectors import COLUMNS, OOD_COLUMNS, Followed, Lines, compare
from .findings import Finding
from .net import DIGITS, Experiment

HIGH = 0.9
"""Matching percentages above it are called high."""
FEW = 20
"""From fewer samples than these no AUROC is computed."""


def find_clusters(clusters: LayerEnsembleDetector) -> Finding:
    n_classes = len(DIGITS)
    found = {
        layer: (member.n_clusters_, len(np.unique(member.dominant_classes_)))
        for layer, member in zip(clusters.layers_, clusters.estimators_, strict=True)
    }
    return Finding(
        6,
        "k = 8 in every layer, one cluster a class.",
        "Number of clusters by the silhouette is 8; each of the 8 classes dominates a cluster: "
        "each layer.",
        [check == n_classes for pair in found.values() for check in pair],
        "clusters (classes that dominate one): "
        + ", ".join(f"{layer} {k} ({dominant})" for layer, (k, dominant) in found.items()),
        "6_silhouettes.png",
    )


def find_noise_classes(experiment: Experiment) -> Finding:
    shares = predicted_shares(experiment)["noise"]
    first, second = np.argsort(-shares, kind="stable")[:2]
    return Finding(
        7,
        "Noise falls into one or two classes.",
        "At least 95 % of it in the two most frequent ones.",
        [shares[first] + shares[second] >= 0.95],
        f"predicted as {DIGITS[first]}: {shares[first]:.1%}, as {DIGITS[second]}: "
        f"{shares[second]:.1%}",
        "7_predicted_classes.png",
    )


def predicted_shares(experiment: Experiment) -> dict[str, NDArray[np.float64]]:
    """Share of each predicted class, by set of other images."""
    return {
        name: np.bincount(predicted_classes(A), minlength=len(DIGITS)) / len(A)
        for name, A in experiment.outside.items()
    }


def find_best_cluster_layer(patterns: Experiment, clusters: LayerEnsembleDetector) -> Finding:
    members = dict(zip(clusters.layers_, clusters.estimators_, strict=True))
    aurocs = {layer: divided_aurocs(member, patterns, layer) for layer, member in members.items()}
    means = {layer: np.nanmean(list(matching.values())) for layer, (matching, _) in aurocs.items()}
    best = max(means, key=means.__getitem__)
    second = list(members)[1]
    matching, mismatching = aurocs[second]
    return Finding(
        8,
        "The cluster distance works best at layer 2, among matching samples.",
        f"Mean AUROC among matching samples highest in {second}; there higher among matching than "
        "among mismatching samples: ones + fives, noise, misclassified (where there are "
        f"{FEW} of each).",
        [
            best == second,
            *(
                matching[column] > mismatching[column]
                for column in COLUMNS
                if not np.isnan(matching[column] + mismatching[column])
            ),
        ],
        "mean AUROC among matching: "
        + ", ".join(f"{layer} {mean:.2f}" for layer, mean in means.items())
        + f"; {second}, matching | mismatching: "
        + "; ".join(f"{c} {matching[c]:.2f} | {mismatching[c]:.2f}" for c in COLUMNS).replace(
            "nan", f"fewer than {FEW}"
        ),
        "8_cluster_distance.png",
    )


def divided_aurocs(
    detector: ClusterDistanceDetector, patterns: Experiment, layer: str
) -> tuple[dict[str, float], dict[str, float]]:
    """AUROC of one layer's cluster distance among matching, and among mismatching samples."""
    scores: dict[str, NDArray] = {}
    matches: dict[str, NDArray] = {}
    for name, A in {"normal": patterns.normal, **patterns.outside}.items():
        scores[name] = detector.score_samples(A[[layer]])
        matches[name] = detector.matches(A[[layer]])
    is_correct = patterns.is_correct
    for table in (scores, matches):
        table["ones + fives"] = np.concatenate([table["ones"], table["fives"]])
        table["correct"] = table["normal"][is_correct]
        table["misclassified"] = table["normal"][~is_correct]
    reference = {**dict.fromkeys(OOD_COLUMNS, "normal"), "misclassified": "correct"}
    matching, mismatching = (
        {
            column: auroc_or_nan(
                scores[inside][matches[inside] == wanted],
                scores[column][matches[column] == wanted],
            )
            for column, inside in reference.items()
        }
        for wanted in (True, False)
    )
    return matching, mismatching


def auroc_or_nan(inside: NDArray, outside: NDArray) -> float:
    return compare(inside, outside).auroc if min(len(inside), len(outside)) >= FEW else np.nan


def find_progression(samples: Followed) -> Finding:
    names = samples.set_names
    means = {
        name: samples.matching[names == name].mean(axis=0) for name in dict.fromkeys(names.tolist())
    }
    stays_high = {name: matching.min() >= HIGH for name, matching in means.items()}
    return Finding(
        9,
        "The matching percentage stays high, going back through the layers, only for correct "
        "in-distribution samples.",
        f"The mean is at least {HIGH:.0%} in every layer for correct digits, and in some layer "
        "lower for misclassified, ones, fives, noise.",
        [is_high == (name == "correct") for name, is_high in stays_high.items()],
        "first to last layer: "
        + "; ".join(
            f"{name} " + ", ".join(f"{100 * share:.0f}" for share in matching)
            for name, matching in means.items()
        ),
        "9_progression.png",
    )


def find_best_detectors(lines: Lines) -> Finding:
    """Compare the progression detectors of the thesis, which learn from all kinds of samples."""
    checks = compare_progression(lines, ", perceptron, sources known")
    alone = compare_progression(lines, "")
    return Finding(
        10,
        "Both progression detectors beat cluster distance and number of active neurons, and all "
        "beat MSP for OOD.",
        "Higher AUROC, for ones + fives and for noise: either progression detector (perceptron, "
        "sources known) than either other, and each of the four than MSP.",
        checks,
        f"the progression detectors that learn from no OOD samples pass {sum(alone)} of "
        f"{len(alone)}; AUROCs in the table below",
        "10_roc_curves.png",
    )


def compare_progression(lines: Lines, kind: str) -> list[bool]:
    progression = [f"progression, {name}{kind}" for name in ("distance", "percentage")]
    older = ["number of active neurons", "cluster distance, mean of layers"]
    pairs = [*product(progression, older), *product([*progression, *older], ["MSP"])]
    return [
        lines[name][column].auroc > lines[other][column].auroc
        for name, other in pairs
        for column in OOD_COLUMNS
    ]
