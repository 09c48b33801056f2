"""Monitors that alarm where more than gamma neurons are not as in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.pipeline import make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood.detectors import ActivationIntervalDetector
from skood.preprocessing import NeuronSelector

from .net import MONITORED
from .sets import Watched

GAMMAS = (0, 1, 2, 3)
PUBLISHED_OMISSION = 0.45
"""Neurons are ignored whose weight for the class is at most this share of the largest one."""

IsAlarm = Callable[[Activations], NDArray[np.bool_]]


@dataclass(frozen=True)
class Alarms:
    """How often a monitor alarms, and how often it is right."""

    is_alarm: NDArray[np.bool_]
    is_wrong: NDArray[np.bool_]
    outside: dict[str, float]
    """Share of the images of each other kind that raise an alarm."""

    @property
    def rate(self) -> float:
        return float(self.is_alarm.mean())

    @property
    def n_caught(self) -> int:
        return int(np.sum(self.is_alarm & self.is_wrong))

    @property
    def precision(self) -> float:
        """Share of the alarms that are about a misclassified digit; NaN without alarms."""
        return self.n_caught / self.is_alarm.sum() if self.is_alarm.any() else np.nan

    @property
    def recall(self) -> float:
        """Share of the misclassified digits that raise an alarm."""
        return self.n_caught / self.is_wrong.sum()


AlarmTable = dict[str, dict[int, Alarms]]
"""For each monitor, the alarms at each gamma."""


def count_all_alarms(watched: Watched) -> AlarmTable:
    """All monitors of the layer of 40 units."""
    layer = watched.select(MONITORED)
    levels = layer.convert(make_level_patterns(layer))
    selector = NeuronSelector(threshold=PUBLISHED_OMISSION, by_prediction=True)
    return {
        "on or off, all units": count_by_gamma(layer, boolean_monitor),
        "on or off, units of the class": count_by_gamma(layer, boolean_monitor, selector),
        "patterns of four levels": count_by_gamma(levels, boolean_monitor),
        **{
            f"intervals, {intervals}": count_by_gamma(layer, interval_monitor, intervals)
            for intervals in ("levels", "minmax", "quantile")
        },
    }


def count_by_gamma(watched: Watched, make_monitor: Callable, *settings: object) -> dict:
    return {
        gamma: count_alarms(make_monitor(watched, gamma, *settings), watched) for gamma in GAMMAS
    }


def count_alarms(is_alarm: IsAlarm, watched: Watched) -> Alarms:
    outside = {name: float(is_alarm(A).mean()) for name, A in watched.outside.items()}
    return Alarms(is_alarm(watched.test), watched.is_wrong, outside)


def boolean_monitor(watched: Watched, gamma: int, *steps: TransformerMixin) -> IsAlarm:
    """The published monitor: the pattern is not within Hamming distance gamma of a stored one."""
    monitor = make_pipeline(
        *steps, PercentileBinarizer(rule="zero"), HammingNAPDetector(tau=gamma, group_by="correct")
    ).fit(watched.train, watched.y_train)
    return lambda A: monitor.predict(A) == -1


def interval_monitor(watched: Watched, gamma: int, intervals: str) -> IsAlarm:
    """More than gamma units are outside the intervals of the predicted class."""
    detector = ActivationIntervalDetector(intervals=intervals)
    detector.fit(*watched.learnt)
    n_units = watched.train.shape[1]
    return lambda A: np.rint(-n_units * detector.score_samples(A)) > gamma


def make_level_patterns(watched: Watched) -> Callable[[Activations], Activations]:
    """Bits "above 0", "above a third of the largest training value" and "above two thirds".

    The Hamming distance of such patterns is the number of levels by which two samples differ, and
    at 0 the published monitor of level patterns.
    """
    maxima = np.asarray(watched.learnt[0]).max(axis=0)

    def describe_levels(A: Activations) -> Activations:
        values = A[MONITORED]
        bits = np.hstack([values > edge for edge in (0 * maxima, maxima / 3, 2 * maxima / 3)])
        return A.replace({"levels": bits.astype(np.float32)})

    return describe_levels
