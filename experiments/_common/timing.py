"""Timing side by side."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from statistics import median
from time import perf_counter
from typing import Any


class Timings:
    """Times of some tasks, which took turns.

    A machine that is slow for a while is then slow for all of them. Each turn has an order of its
    own, as one that runs after another finds what both read in the processor's cache. The first
    turn is not counted.

    Parameters
    ----------
    tasks : dict of str to callable
        What to run.
    repetitions : int
        How many turns.
    clock : callable
        What tells the seconds; ``time.process_time`` is that of the work of this process alone.
    """

    def __init__(
        self,
        tasks: dict[str, Callable[[], Any]],
        repetitions: int,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._seconds: dict[str, list[float]] = {name: [] for name in tasks}
        shuffle = Random(0).sample
        for turn in range(repetitions + 1):
            for name in shuffle(list(tasks), len(tasks)):
                start = clock()
                tasks[name]()
                if turn > 0:
                    self._seconds[name].append(clock() - start)

    @property
    def names(self) -> list[str]:
        """The tasks, in order."""
        return list(self._seconds)

    def seconds(self, name: str) -> float:
        """Median time of a task."""
        return median(self._seconds[name])

    def ratio(self, name: str, reference: str) -> float:
        """Median ratio of the times of two tasks in the same turn."""
        pairs = zip(self._seconds[name], self._seconds[reference], strict=True)
        return median(time / other for time, other in pairs)


def format_number(value: float, n_digits: int = 3) -> str:
    """As many digits, and noughts up to the point: 0.0123, 1.05, 1,050."""
    text = f"{value:.{n_digits}g}"
    return f"{float(text):,.0f}" if "e+" in text else text


def format_time(seconds: float | None) -> str:
    """Three digits, in a unit that suits."""
    if seconds is None:
        return "-"
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{format_number(seconds * factor)} {unit}"
    return f"{format_number(seconds * 1e6)} µs"
