"""Progression detectors that learn from out-of-distribution samples, as those of the thesis.

Groups are made of training digits, as for the detectors that learn from nothing else. What a
classifier learns from is the progression of test samples through these groups: as many normal
digits as others. The classifiers are perceptrons, as in the thesis, and logistic regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood.model_selection import OODKFold

from .detectors import (
    FEATURES,
    OOD_COLUMNS,
    Followed,
    Lines,
    Quality,
    Scores,
    assess,
    compare,
)
from .net import Settings

Rows = NDArray[np.intp]


def score_with_classifiers(
    samples: Followed, settings: Settings, seed: int
) -> tuple[Lines, dict[str, float]]:
    """Lines of the table and, for known sources, accuracies, by the names that it shows."""
    kinds = {
        "perceptron": MLPClassifier(
            tuple(settings.widths), batch_size=100, max_iter=1000, random_state=seed
        ),
        "logistic regression": LogisticRegression(),
    }
    lines, accuracies = {}, {}
    for kind, estimator in kinds.items():
        classifiers = Classifiers(samples, estimator, seed, settings.n_per_source)
        known, accuracy = classifiers.known_sources()
        new = classifiers.new_sources()
        for name in FEATURES:
            accuracies[f"{name}, {kind}"] = accuracy[name]
            lines[f"progression, {name}, {kind}, sources known"] = known[name]
        for name in FEATURES:
            lines[f"progression, {name}, {kind}, source new"] = new[name]
    return lines, accuracies


@dataclass(frozen=True)
class Classifiers:
    """Trains classifiers on some of the test samples, and scores all."""

    samples: Followed
    estimator: ClassifierMixin
    seed: int
    n_per_source: int

    def known_sources(self) -> tuple[Lines, dict[str, float]]:
        """Learn from half of the balanced rows.

        Returns the lines of the table, about all rows that were not learnt from, and the
        accuracies on the other half of the balanced rows.
        """
        rows = self.balanced_rows()
        learnt, held_out = train_test_split(
            rows, test_size=0.5, stratify=self.samples.source[rows], random_state=self.seed
        )
        is_ood = self.samples.is_ood[held_out]
        lines, accuracies = {}, {}
        for name, (scores,) in self.score([learnt]).items():
            lines[name] = assess(*self.without(scores, learnt))
            accuracies[name] = float(np.mean((scores[held_out] < 0) == is_ood))
        return lines, accuracies

    def new_sources(self) -> Lines:
        """Learn from two sources of other images, and score the third: lines of the table."""
        rows = self.balanced_rows()
        source = self.samples.source[rows]
        n_sources = len(np.unique(source)) - 1
        folds = OODKFold(n_sources, shuffle=True, random_state=self.seed, ood_in_train=True)
        y = np.where(source == "normal", 1, -1)
        parts = [rows[learnt] for learnt, _ in folds.split(rows, y, groups=source)]
        return {
            name: self.average_over_folds(scores, parts)
            for name, scores in self.score(parts).items()
        }

    def balanced_rows(self) -> Rows:
        """Rows that may be learnt from: as many normal digits as others."""
        rng = np.random.default_rng(self.seed)
        source = self.samples.source
        rows = {name: rng.permutation(np.flatnonzero(source == name)) for name in np.unique(source)}
        normal = rows.pop("normal")
        others = np.concatenate([of_source[: self.n_per_source] for of_source in rows.values()])
        return np.sort(np.concatenate([normal[: len(others)], others]))

    def score(self, parts: Sequence[Rows]) -> dict[str, list[NDArray]]:
        """Scores of all rows, by features, from a classifier for each part that is learnt."""
        tasks = list(product(FEATURES, parts))
        scores = Parallel(n_jobs=-1)(
            delayed(fit_and_score)(
                self.estimator, self.samples.features(name), self.samples.is_ood, part
            )
            for name, part in tasks
        )
        by_features: dict[str, list[NDArray]] = {name: [] for name in FEATURES}
        for (name, _), of_part in zip(tasks, scores, strict=True):
            by_features[name].append(of_part)
        return by_features

    def average_over_folds(
        self, scores: Sequence[NDArray], parts: Sequence[Rows]
    ) -> dict[str, Quality]:
        """One line of the table, each source scored by a classifier that has not seen it."""
        by_source, misclassified = {}, []
        for of_fold, learnt in zip(scores, parts, strict=True):
            rest, is_correct = self.without(of_fold, learnt)
            (new,) = set(rest.outside).difference(self.samples.source[learnt])
            by_source[new] = compare(rest.normal, rest.outside[new])
            misclassified.append(compare(rest.normal[is_correct], rest.normal[~is_correct]))
        line = {
            column: average([by_source[source] for source in sources])
            for column, sources in OOD_COLUMNS.items()
        }
        return {**line, "misclassified": average(misclassified)}

    def without(self, scores: NDArray, learnt: Rows) -> tuple[Scores, NDArray[np.bool_]]:
        """Scores of the rows that were not learnt from, and which normal ones are correct."""
        is_left = np.ones(len(scores), dtype=bool)
        is_left[learnt] = False
        source = self.samples.source
        by_source = {name: scores[is_left & (source == name)] for name in np.unique(source)}
        normal = by_source.pop("normal")
        return Scores(normal, by_source), self.samples.is_correct[is_left & (source == "normal")]


def fit_and_score(
    estimator: ClassifierMixin, X: NDArray, is_ood: NDArray[np.bool_], learnt: Rows
) -> NDArray:
    """Log-odds of all rows for being in-distribution, from a classifier that learnt from some."""
    classifier = make_pipeline(StandardScaler(), clone(estimator)).fit(X[learnt], is_ood[learnt])
    # Probabilities of 0 would give infinite scores.
    inside, outside = np.maximum(classifier.predict_proba(X), np.finfo(float).tiny).T
    return np.log(inside) - np.log(outside)


def average(qualities: Sequence[Quality]) -> Quality:
    return Quality(*np.mean(qualities, axis=0).tolist())
