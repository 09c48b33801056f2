"""The detectors of the layer pattern experiment, and how well they separate the sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skood import ActivationExtractor, Activations
from skood.detectors import (
    ClusterDistanceDetector,
    GroupProgressionDetector,
    MaxSoftmaxDetector,
    NeuronCountDetector,
)
from skood.ensemble import LayerEnsembleDetector
from skood.extraction import ODIN
from skood.inspection import NeuronStatistics
from skood.metrics import fpr_at_tpr_score, ood_roc_auc_score

from .net import Experiment

FEATURES = {"distance": "distance", "percentage": "matching", "both": "both"}
"""What the progression detectors are called here, and their parameter ``features``."""
OOD_COLUMNS = {"ones + fives": ["ones", "fives"], "noise": ["noise"]}
COLUMNS = (*OOD_COLUMNS, "misclassified")


EPSILONS = (0.0, 0.0014, 0.004)
"""How far ODIN moves a pixel: not at all, as far as by default, and to the end of its grid."""


class Quality(NamedTuple):
    """How well scores separate two sets: normal or correct digits, and others."""

    auroc: float
    fpr95_id_positive: float
    """Share of the others accepted where 95 % of the digits are."""
    fpr95_ood_positive: float
    """Share of the digits flagged where 95 % of the others are: those to be found are positive."""


Lines = dict[str, dict[str, Quality]]
"""The comparison table: for each detector, a line with a quality in every column."""


class Scores(NamedTuple):
    """Scores of one detector for normal digits, and for every set of other images."""

    normal: NDArray
    outside: dict[str, NDArray]


@dataclass(frozen=True)
class Followed:
    """The groups of all test samples, row by row: their progression through the layers."""

    layers: list[str]
    widths: list[int]
    source: NDArray[np.str_]
    is_correct: NDArray[np.bool_]
    distance: NDArray[np.float64]
    matching: NDArray[np.float64]

    @property
    def is_ood(self) -> NDArray[np.bool_]:
        return self.source != "normal"

    @property
    def set_names(self) -> NDArray[np.str_]:
        """Source of each sample, with the normal ones divided by what became of them."""
        outcome = np.where(self.is_correct, "correct", "misclassified")
        return np.where(self.is_ood, self.source, outcome)

    def features(self, name: str) -> NDArray[np.float64]:
        """What a classifier learns from."""
        tables = {"distance": [self.distance], "percentage": [self.matching]}
        return np.concatenate(tables.get(name, [self.distance, self.matching]), axis=1)


@dataclass(frozen=True)
class Fitted:
    """Everything that was learnt from the training digits."""

    msp: MaxSoftmaxDetector
    neurons: dict[str, NeuronCountDetector]
    clusters: LayerEnsembleDetector
    progression: dict[str, GroupProgressionDetector]


def fit_detectors(
    experiment: Experiment, patterns: Experiment, statistics: NeuronStatistics, seed: int
) -> Fitted:
    """Fit the detectors that use no out-of-distribution samples."""
    counts = statistics.by_layer("training_count")
    return Fitted(
        msp=MaxSoftmaxDetector().fit(experiment.train),
        neurons={
            "two-sided": NeuronCountDetector(two_sided=True).fit(experiment.train),
            **{
                statistic: NeuronCountDetector(statistic=statistic, activation_counts=counts).fit(
                    experiment.train
                )
                for statistic in ("count", "coefficient", "mean_activation_count")
            },
        },
        clusters=LayerEnsembleDetector(
            ClusterDistanceDetector(random_state=seed), combine="mean"
        ).fit(patterns.train),
        progression={
            name: GroupProgressionDetector(features=features).fit(patterns.train)
            for name, features in FEATURES.items()
        },
    )


def score(detector: Any, experiment: Experiment, layer: str | None = None) -> Scores:
    """Scores of all test samples, in one layer where it is named."""

    def score_set(A: Activations) -> NDArray:
        return detector.score_samples(A if layer is None else A[[layer]])

    return Scores(
        score_set(experiment.normal),
        {name: score_set(A) for name, A in experiment.outside.items()},
    )


def score_odin(experiment: Experiment, epsilon: float) -> Scores:
    """Largest softmax output at temperature 1000, of images that were moved towards their class."""
    odin = ODIN(epsilon)
    extractor = ActivationExtractor(
        experiment.network, layers=experiment.normal.layer_names[-1:], perturbation=odin
    ).fit(experiment.images["normal"][:1])
    detector = MaxSoftmaxDetector(temperature=odin.temperature).fit(experiment.train)
    scores = {
        name: detector.score_samples(extractor.transform(X))
        for name, X in experiment.images.items()
    }
    return Scores(scores.pop("normal"), scores)


def score_all(fitted: Fitted, experiment: Experiment, patterns: Experiment) -> dict[str, Scores]:
    """Scores by the names that the comparison table shows."""
    scores = {
        "MSP": score(fitted.msp, experiment),
        **{f"ODIN, epsilon {epsilon}": score_odin(experiment, epsilon) for epsilon in EPSILONS},
        "number of active neurons": score(fitted.neurons["count"], experiment),
        "number of active neurons, two-sided": score(fitted.neurons["two-sided"], experiment),
        "activation coefficient": score(fitted.neurons["coefficient"], experiment),
        "mean activation count": score(fitted.neurons["mean_activation_count"], experiment),
    }
    for layer, detector in zip(fitted.clusters.layers_, fitted.clusters.estimators_, strict=True):
        scores[f"cluster distance, {layer}"] = score(detector, patterns, layer)
    scores["cluster distance, mean of layers"] = score(fitted.clusters, patterns)
    for name, detector in fitted.progression.items():
        scores[f"progression, {name}"] = score(detector, patterns)
    return scores


def follow(detector: GroupProgressionDetector, patterns: Experiment) -> Followed:
    """Follow the groups of all test samples through the layers."""
    sets = {"normal": patterns.normal, **patterns.outside}
    progressions = [detector.progression(A) for A in sets.values()]
    source = np.repeat(list(sets), [len(A) for A in sets.values()])
    is_correct = np.zeros(len(source), dtype=bool)
    is_correct[source == "normal"] = patterns.is_correct
    return Followed(
        layers=detector.layers_,
        widths=[width for (width,) in patterns.train.layer_shapes.values()],
        source=source,
        is_correct=is_correct,
        distance=np.concatenate([progression.distance for progression in progressions]),
        matching=np.concatenate([progression.matching for progression in progressions]),
    )


def compare(inside: NDArray, outside: NDArray) -> Quality:
    """How far the scores of one set lie above those of another."""
    y = np.repeat([1, -1], [len(inside), len(outside)])
    values = np.concatenate([inside, outside])
    return Quality(
        ood_roc_auc_score(y, values),
        fpr_at_tpr_score(y, values, positive="id"),
        fpr_at_tpr_score(y, values, positive="ood"),
    )


def assess(scores: Scores, is_correct: NDArray[np.bool_]) -> dict[str, Quality]:
    """One line of the comparison table."""
    line = {
        column: compare(scores.normal, np.concatenate([scores.outside[name] for name in names]))
        for column, names in OOD_COLUMNS.items()
    }
    line["misclassified"] = compare(scores.normal[is_correct], scores.normal[~is_correct])
    return line
