"""Groups of samples with one predicted class: how soon strangers among them are noticed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skood import Activations
from skood.detectors import GaussianActivationDetector

from .._common.networks import predicted_classes
from .._common.quality import BySet, compare
from .net import MONITORED
from .sets import Watched

SIZES = (5, 10, 50)
STRANGERS = (0, 1, 2, 3, 5, 10, 15, 25, 50)
"""How many of the 50 samples of a group are from outside."""
N_GROUPS = 20
"""Groups drawn for each predicted class."""
FALSE_ALARM_RATE = 0.05
DIVERGENCE, MEAN_SCORE = "divergence", "mean score"
DIGITS = "test digits"

Measured = dict[str, NDArray]
"""For each measure, its value for every group; higher is more usual."""


@dataclass(frozen=True)
class Groups:
    quality: dict[str, BySet]
    """Of each size and measure: groups of test digits against groups of other images."""
    divergences: dict[str, NDArray]
    """Of groups of the largest size, by set."""
    noticed: dict[str, dict[str, list[float]]]
    """By measure and set: share of groups that are noticed, for each number of strangers."""


def compare_groups(watched: Watched, seed: int) -> Groups:
    """Half of the test digits show what is usual; groups are drawn from the other half."""
    watched = watched.select(MONITORED)
    detector = GaussianActivationDetector().fit(*watched.learnt)
    middle = len(watched.test) // 2
    usual, digits = watched.test[:middle], watched.test[middle:]
    pure = {size: measure_pure(detector, digits, watched.outside, size, seed) for size in SIZES}
    largest = max(SIZES)
    thresholds = {
        measure: np.quantile(values, FALSE_ALARM_RATE)
        for measure, values in measure_groups(detector, usual, usual, 0, largest, seed).items()
    }
    return Groups(
        quality={
            f"{measure}, groups of {size}": {
                name: compare(by_set[DIGITS][measure], by_set[name][measure])
                for name in watched.outside
            }
            for size, by_set in pure.items()
            for measure in (DIVERGENCE, MEAN_SCORE)
        },
        divergences={name: -found[DIVERGENCE] for name, found in pure[largest].items()},
        noticed=notice_strangers(detector, digits, watched.outside, thresholds, largest, seed),
    )


def measure_pure(
    detector: GaussianActivationDetector,
    digits: Activations,
    outside: dict[str, Activations],
    size: int,
    seed: int,
) -> dict[str, Measured]:
    """Groups of digits alone, and of each other kind alone."""
    return {
        DIGITS: measure_groups(detector, digits, digits, 0, size, seed),
        **{
            name: measure_groups(detector, digits, A, size, size, seed)
            for name, A in outside.items()
        },
    }


def notice_strangers(
    detector: GaussianActivationDetector,
    digits: Activations,
    outside: dict[str, Activations],
    thresholds: dict[str, float],
    size: int,
    seed: int,
) -> dict[str, dict[str, list[float]]]:
    noticed: dict[str, dict[str, list[float]]] = {m: {n: [] for n in outside} for m in thresholds}
    for name, A in outside.items():
        for n_strangers in STRANGERS:
            found = measure_groups(detector, digits, A, n_strangers, size, seed + 1)
            for measure, threshold in thresholds.items():
                noticed[measure][name].append(float(np.mean(found[measure] < threshold)))
    return noticed


def measure_groups(
    detector: GaussianActivationDetector,
    digits: Activations,
    strangers: Activations,
    n_strangers: int,
    size: int,
    seed: int,
) -> Measured:
    """Groups of one predicted class each; classes that have too few images are left out."""
    rng = np.random.default_rng(seed)
    measured: dict[str, list[float]] = {DIVERGENCE: [], MEAN_SCORE: []}
    predicted, predicted_strangers = predicted_classes(digits), predicted_classes(strangers)
    for label in np.unique(predicted):
        known = np.flatnonzero(predicted == label)
        foreign = np.flatnonzero(predicted_strangers == label)
        if len(known) < size - n_strangers or len(foreign) < n_strangers:
            continue
        for _ in range(N_GROUPS):
            group = Activations.concatenate(
                [
                    digits[rng.choice(known, size - n_strangers, replace=False)],
                    strangers[rng.choice(foreign, n_strangers, replace=False)],
                ]
            )
            (divergence,) = detector.kl_divergence(group).values()
            measured[DIVERGENCE].append(-divergence)
            measured[MEAN_SCORE].append(float(detector.score_samples(group).mean()))
    return {measure: np.array(values) for measure, values in measured.items()}
