"""Scores from Hamming distances and from Gaussians, on real values and on patterns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood.detectors import (
    ActivationIntervalDetector,
    GaussianActivationDetector,
    MaxSoftmaxDetector,
)
from skood.preprocessing import NeuronSelector

from .._common.quality import BySet, Quality, compare
from .._common.timing import Timings
from .alarms import PUBLISHED_OMISSION
from .net import MONITORED
from .sets import Watched, flatten_maps

MISCLASSIFIED = "misclassified"

Shares = dict[str, NDArray]


class EqualityDetector(BaseEstimator):
    """Minus the share of values that are not equal, to the last bit, in the nearest sample.

    The experiment that went wrong: Hamming distance of real values, to some training samples of the
    predicted class.
    """

    def __init__(self, n_compared: int) -> None:
        self.n_compared = n_compared

    def fit(self, X: Activations, y: NDArray) -> EqualityDetector:
        self.stored_ = {
            label: np.asarray(X[np.flatnonzero(y == label)[: self.n_compared]])
            for label in np.unique(y)
        }
        return self

    def score_samples(self, X: Activations) -> NDArray:
        scores = np.full(len(X), -1.0)
        for label, stored in self.stored_.items():
            rows = np.flatnonzero(X.predictions == label)
            if len(rows):
                scores[rows] = -cdist(np.asarray(X[rows]), stored, "hamming").min(axis=1)
        return scores


def boolean_scores(*steps: BaseEstimator) -> Any:
    return make_pipeline(
        *steps, PercentileBinarizer(rule="zero"), HammingNAPDetector(group_by="correct")
    )


def compare_all(watched: Watched, n_compared: int) -> tuple[dict[str, BySet], dict[str, Shares]]:
    """Quality of all scores, and the shares of differing values in each kind of layer."""
    units = watched.select(MONITORED)
    maps = watched.convert(lambda A: flatten_maps(A, rectified=False))
    rectified = watched.convert(lambda A: flatten_maps(A, rectified=True))
    layers = {"maps before the ReLU": maps, "maps after the ReLU": rectified, "40 units": units}
    selector = NeuronSelector(threshold=PUBLISHED_OMISSION, by_prediction=True)
    quality = {"MSP": evaluate(MaxSoftmaxDetector(), units)}
    shares = {}
    for name, layer in layers.items():
        equality = EqualityDetector(n_compared)
        quality[f"Hamming, real values, {name}"] = evaluate(equality, layer)
        shares[name] = find_shares(equality, layer)
    # A value is above 0 before the ReLU where it is so after it: the patterns are the same.
    quality["Hamming, patterns, maps"] = evaluate(boolean_scores(), maps)
    quality["Hamming, patterns, 40 units"] = evaluate(boolean_scores(), units)
    quality["Hamming, patterns, units of the class"] = evaluate(boolean_scores(selector), units)
    for name, layer in layers.items():
        quality[f"Gaussians, {name}"] = evaluate(GaussianActivationDetector(), layer)
    for intervals in ("levels", "minmax", "quantile"):
        detector = ActivationIntervalDetector(intervals=intervals)
        quality[f"intervals, {intervals}, 40 units"] = evaluate(detector, units)
    return quality, shares


def evaluate(detector: Any, watched: Watched) -> BySet:
    """How well it separates right digits from wrong ones, and all digits from each other kind."""
    detector.fit(*watched.learnt)
    test, is_wrong = detector.score_samples(watched.test), watched.is_wrong
    quality: dict[str, Quality] = {MISCLASSIFIED: compare(test[~is_wrong], test[is_wrong])}
    for name, A in watched.outside.items():
        quality[name] = compare(test, detector.score_samples(A))
    return quality


def find_shares(equality: EqualityDetector, watched: Watched) -> Shares:
    sets = {"test digits": watched.test, **watched.outside}
    return {name: -equality.score_samples(A) for name, A in sets.items()}


def time_queries(net: Any, images: NDArray, watched: Watched) -> dict[str, tuple[float, float]]:
    """Seconds for all the images at once, and for one: the network, and what comes after it."""
    units = watched.select(MONITORED)
    monitors: dict[str, Any] = {
        "Boolean monitor": boolean_scores(),
        "Gaussians": GaussianActivationDetector(),
        "intervals, levels": ActivationIntervalDetector(intervals="levels"),
    }
    for monitor in monitors.values():
        monitor.fit(*units.learnt)
    seconds = []
    for n_images, repetitions in ((len(images), 5), (1, 50)):
        A = units.test[:n_images]
        tasks: dict[str, Callable[[], Any]] = {"network": partial(net.transform, images[:n_images])}
        tasks |= {name: partial(monitor.predict, A) for name, monitor in monitors.items()}
        timings = Timings(tasks, repetitions)
        seconds.append({name: timings.seconds(name) for name in timings.names})
    return {name: (seconds[0][name], seconds[1][name]) for name in seconds[0]}
