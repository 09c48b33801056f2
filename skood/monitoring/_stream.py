"""All that is known of a stream of samples so far: evidence, counts, the last rows."""

from __future__ import annotations

from collections import deque
from math import log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._values import Floats
from ._alarm_rate import AlarmRate
from ._bets import P_VALUE_SHARES, p_value_factors
from ._evidence import Evidence
from ._ranks import OnlineRanks
from ._reference import Reference

MARTINGALE_SHARE = 0.5
"""Of alpha; the rest is for the rate of alarms, half of it for its limit and half for its bound."""
CAUSES = ("scores", "alarm rate")


class Row(NamedTuple):
    """What is kept of one of the last rows."""

    p_value: float
    is_alarm: bool
    martingale: float
    n_alarms: int
    rate_lower_bound: float


_DTYPE = np.dtype(
    [
        ("p_value", np.float64),
        ("is_alarm", np.bool_),
        ("martingale", np.float64),
        ("n_alarms", np.int64),
        ("rate_lower_bound", np.float64),
    ]
)


class Stream:
    """A stream of samples of which each adds to two kinds of evidence.

    Parameters
    ----------
    reference : Reference
        What the samples are compared with.
    alpha : float
        Probability of an alarm as long as nothing changes.
    n_history : int
        Number of rows to keep.
    seed : int
        Of all random numbers.
    """

    def __init__(self, reference: Reference, alpha: float, n_history: int, seed: int) -> None:
        of_calibration, of_stream = np.random.SeedSequence(seed).spawn(2)
        self.reference = reference
        self.seed = seed
        self.rng = np.random.default_rng(of_stream)
        self.ranks = OnlineRanks(reference.scores, np.random.default_rng(of_calibration))
        self.martingale_level = MARTINGALE_SHARE * alpha
        self.rate_level = (alpha - self.martingale_level) / 2
        self.martingale = Evidence(P_VALUE_SHARES)
        self.limit = reference.limit(self.rate_level)
        self.rate = AlarmRate(self.limit, self.rate_level)
        self.history: deque[Row] = deque(maxlen=n_history)
        self.n_samples = self.n_alarms = 0
        self.strengths = (0.0, 0.0)
        self.alarm_time: int | None = None
        self.cause: str | None = None

    def add(self, scores: Floats, is_alarm: NDArray[np.bool_]) -> None:
        """Take in samples in their order; any batches give what single samples give."""
        ties, shares = self.rng.random((len(scores), 2)).T
        p_values = self.ranks.p_values(scores, ties, 1 - shares)
        for p_value, alarm in zip(p_values, is_alarm.tolist(), strict=True):
            self._add_row(p_value, alarm)

    def _add_row(self, p_value: float, is_alarm: bool) -> None:
        martingale = float(self.martingale.bet(p_value_factors(p_value)))
        evidence, bound = self.rate.add(is_alarm)
        self.n_samples += 1
        self.n_alarms += is_alarm
        self.history.append(Row(p_value, is_alarm, martingale, self.n_alarms, bound))
        self.strengths = (
            log(martingale) / -log(self.martingale_level),
            log(evidence) / -log(self.rate_level),
        )
        if self.alarm_time is None and max(self.strengths) >= 1:
            self.alarm_time = self.n_samples
            self.cause = CAUSES[int(np.argmax(self.strengths))]

    @property
    def last_rows(self) -> dict[str, NDArray]:
        """What is kept of the last rows, and their numbers, from 1."""
        rows = np.array(list(self.history), dtype=_DTYPE)
        numbers = np.arange(1 + self.n_samples - len(rows), 1 + self.n_samples)
        return {
            "row": numbers,
            "p_value": rows["p_value"],
            "is_alarm": rows["is_alarm"],
            "martingale": rows["martingale"],
            "alarm_rate": rows["n_alarms"] / numbers,
            "rate_lower_bound": rows["rate_lower_bound"],
        }

    @property
    def state(self) -> dict[str, Any]:
        """All that changes with a row, in numbers, lists and strings."""
        return {
            "n_samples": self.n_samples,
            "n_alarms": self.n_alarms,
            "strengths": list(self.strengths),
            "alarm_time": self.alarm_time,
            "cause": self.cause,
            "gap_counts": self.ranks.counts,
            "martingale_capital": self.martingale.capital.tolist(),
            "rate_capital": self.rate.evidence.capital.tolist(),
            "random_state": self.rng.bit_generator.state,
            "history": [list(row) for row in self.history],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where another stream of the same parameters was.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the state is none of such a stream.
        """
        self.n_samples, self.n_alarms = map(_count, (state["n_samples"], state["n_alarms"]))
        by_scores, by_rate = map(float, state["strengths"])
        self.strengths = by_scores, by_rate
        alarm_time, self.cause = state["alarm_time"], state["cause"]
        self.alarm_time = None if alarm_time is None else _count(alarm_time)
        self.ranks.counts = _like(self.ranks.counts, state["gap_counts"], np.int64).tolist()
        self.rng.bit_generator.state = state["random_state"]
        self.history.extend(Row(*row) for row in state["history"])
        for evidence, name in (
            (self.martingale, "martingale_capital"),
            (self.rate.evidence, "rate_capital"),
        ):
            evidence.capital = _like(evidence.capital, state[name], np.float64)
            evidence.n_rows = self.n_samples
        self._check()

    def _check(self) -> None:
        """Refuse a state whose parts do not fit together."""
        n_gaps = len(self.ranks.counts)
        facts = {
            "every row has its gap": sum(self.ranks.counts) == n_gaps + self.n_samples,
            "gaps begin at 1": min(self.ranks.counts) >= 1,
            "alarms are rows": 0 <= self.n_alarms <= self.n_samples,
            "an alarm has a time and a cause": (self.alarm_time is None) == (self.cause is None),
            "the cause is known": self.cause in (None, *CAUSES),
            "the alarm was before now": 0 < (self.alarm_time or 1) <= max(self.n_samples, 1),
            "the last rows are rows": len(self.history) <= self.n_samples,
            "their numbers are finite": np.isfinite([list(row) for row in self.history]).all(),
        }
        if wrong := [fact for fact, holds in facts.items() if not holds]:
            raise ValueError(f"not true: {', '.join(wrong)}")


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no number of rows")
    return value


def _like(array: Any, values: Any, dtype: Any) -> NDArray:
    """Stored values, of the shape that they should have."""
    found, shape = np.asarray(values, dtype=dtype), np.shape(array)
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(f"expected finite values of shape {shape}, got shape {found.shape}")
    return found
