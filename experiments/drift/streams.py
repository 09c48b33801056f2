"""Scores of calibration rows and of streams, and what a drift monitor makes of many streams.

The parts of :class:`skood.monitoring.DriftMonitor` are run as they are, but for all streams at
once: its p-values, its bets and its limits. ``tests/test_drift_monitor.py`` checks that a stream
here has the evidence that it has there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from skood.monitoring._alarm_rate import rate_limit
from skood.monitoring._bets import ODDS_SHARES, P_VALUE_SHARES, alarm_factors, p_value_factors
from skood.monitoring._evidence import Evidence
from skood.monitoring._ranks import OnlineRanks

Draw = Callable[[Generator, tuple[int, ...]], NDArray[np.float64]]
FALSE_ALARM_RATE = 0.05
"""Of the detector, whose alarms are counted."""


def continuous(rng: Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return rng.normal(size=shape)


def rounded(rng: Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """About a dozen values, as distances in bits may have."""
    return np.round(2 * rng.normal(size=shape)) / 2


def half_equal(rng: Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Half of all scores are one value, as those of samples that match a pattern exactly."""
    return np.minimum(rng.normal(size=shape), 0)


NULLS: dict[str, Draw] = {
    "continuous": continuous,
    "about 13 values": rounded,
    "half of them equal": half_equal,
}


@dataclass(frozen=True)
class Streams:
    """Streams, each with a calibration set of its own."""

    p_values: NDArray[np.float64]
    """Of shape (n_rows, n_streams)."""
    fixed_p_values: NDArray[np.float64]
    """Those against the calibration rows alone, equal scores in random order."""
    is_alarm: NDArray[np.bool_]
    n_calibration: int

    @property
    def rank(self) -> int:
        """Of the threshold among the calibration scores."""
        return int(FALSE_ALARM_RATE * (self.n_calibration + 1) + 1e-9)


def watch(calibration: NDArray, scores: NDArray, seed: int) -> Streams:
    """What is computed of each score, of shape (n_streams, n) and (n_streams, n_rows)."""
    rng = np.random.default_rng(seed)
    n = calibration.shape[1]
    parts = [_watch_one(*pair, rng) for pair in zip(calibration, scores, strict=True)]
    p_values, fixed, is_alarm = (np.stack(part, axis=1) for part in zip(*parts, strict=True))
    return Streams(p_values, fixed, is_alarm, n)


def _watch_one(
    calibration: NDArray, scores: NDArray, rng: Generator
) -> tuple[NDArray, NDArray, NDArray]:
    ties, shares = rng.random((2, len(scores)))
    p_values = list(OnlineRanks(calibration, rng).p_values(scores, ties, 1 - shares))
    ascending = np.sort(calibration)
    first = np.searchsorted(ascending, scores, side="left")
    n_equal = np.searchsorted(ascending, scores, side="right") - first
    fixed = (first + (1 - shares) * (1 + n_equal)) / (len(ascending) + 1)
    rank = int(FALSE_ALARM_RATE * (len(ascending) + 1) + 1e-9)
    return np.array(p_values), fixed, scores < ascending[rank - 1]


def first_rows(values_of_rows: Callable[[int], NDArray], n_rows: int, needed: float) -> NDArray:
    """The row, from 1, at which the evidence of each stream first reaches a value; 0 for never."""
    found = None
    for row in range(n_rows):
        reached = values_of_rows(row) >= needed
        found = np.zeros(len(reached), dtype=np.int64) if found is None else found
        found[reached & (found == 0)] = row + 1
    assert found is not None
    return found


def ring_by_scores(p_values: NDArray, level: float) -> NDArray:
    """When the watch on scores rings, for each stream."""
    evidence = Evidence(P_VALUE_SHARES, p_values.shape[1:])
    return first_rows(
        lambda row: evidence.bet(p_value_factors(p_values[row])), len(p_values), 1 / level
    )


def ring_by_rate(streams: Streams, level: float) -> NDArray:
    """When the watch on the rate of alarms rings, whose limit and bound have a level each."""
    limit = max(FALSE_ALARM_RATE, rate_limit(streams.rank, streams.n_calibration, level))
    without, with_alarm = alarm_factors(np.array([limit]))
    evidence = Evidence(ODDS_SHARES, streams.is_alarm.shape[1:])

    def bet(row: int) -> NDArray:
        return evidence.bet(np.where(streams.is_alarm[row], with_alarm, without))

    return first_rows(bet, len(streams.is_alarm), 1 / level)


def either(*times: NDArray) -> NDArray:
    """The first of several times of which 0 stands for never."""
    never = np.iinfo(np.int64).max
    first = np.min([np.where(time == 0, never, time) for time in times], axis=0)
    return np.where(first == never, 0, first)


def ring(streams: Streams, alpha: float) -> dict[str, NDArray]:
    """When each watch of a drift monitor rings, and the monitor."""
    by_scores = ring_by_scores(streams.p_values, alpha / 2)
    by_rate = ring_by_rate(streams, alpha / 4)
    return {"scores": by_scores, "alarm rate": by_rate, "either": either(by_scores, by_rate)}
