"""All that is computed of one network, before findings are looked for in it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from skood import PercentileBinarizer
from skood.ensemble import LayerEnsembleDetector
from skood.inspection import NeuronStatistics

from .classifiers import score_with_classifiers
from .detectors import (
    Followed,
    Lines,
    Scores,
    assess,
    fit_detectors,
    follow,
    score_all,
)
from .net import Experiment, Settings, run_network


@dataclass(frozen=True)
class Results:
    """A network, its detectors and what they say of every set."""

    experiment: Experiment
    patterns: Experiment
    statistics: NeuronStatistics
    clusters: LayerEnsembleDetector
    scores: dict[str, Scores]
    samples: Followed
    lines: Lines
    accuracies: dict[str, float]


def compute(settings: Settings, seed: int) -> Results:
    """Train the network, fit the detectors and score all sets."""
    start = time.perf_counter()

    def report(done: str) -> None:
        print(f"seed {seed}, {time.perf_counter() - start:.0f} s: {done}", flush=True)

    experiment = run_network(settings, seed)
    report(f"network trained, accuracy {experiment.accuracy:.4f}")
    patterns = experiment.transform(PercentileBinarizer(percentile=50, rule="rank"))
    statistics = NeuronStatistics.from_activations(
        experiment.normal,
        experiment.labels,
        network=experiment.network,
        recorder=experiment.recorder,
    )
    fitted = fit_detectors(experiment, patterns, statistics, seed)
    report("detectors fitted")
    scores = score_all(fitted, experiment, patterns)
    samples = follow(fitted.progression["both"], patterns)
    report("test samples scored")
    classified, accuracies = score_with_classifiers(samples, settings, seed)
    report("classifiers of the progression trained")
    lines = {name: assess(part, experiment.is_correct) for name, part in scores.items()}
    return Results(
        experiment=experiment,
        patterns=patterns,
        statistics=statistics,
        clusters=fitted.clusters,
        scores=scores,
        samples=samples,
        lines=lines | classified,
        accuracies=accuracies,
    )
