"""Timing side by side, and tables of the ratios."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    n_images: int = 1024
    n_stored: int = 20_000
    n_queries: int = 4_000
    n_slow_queries: int = 400  # where all of them would take minutes
    n_progressions: int = 10_000  # samples followed through the layers, among as many
    n_neighbors: int = 300
    n_scored: int = 5_000  # by the methods of several libraries, after learning from as many
    n_units: int = 512
    n_classes: int = 100
    large_head: tuple[int, int] = (1000, 2048)  # classes and units
    n_calls: int = 200  # of a single image
    n_processes: int = 3  # that measure memory
    repetitions: int = 9


@dataclass(frozen=True)
class Line:
    """One line of a table. ``seconds`` and ``ratio`` are None where nothing was measured."""

    name: str
    seconds: float | None
    ratio: float | None
    aim: str = ""
    note: str = ""

    def to_markdown(self) -> str:
        """The line, cell by cell."""
        ratio = "-" if self.ratio is None else f"{self.ratio:.3g}"
        return f"| {self.name} | {format_time(self.seconds)} | {ratio} | {self.aim} | {self.note} |"


@dataclass(frozen=True)
class Table:
    """One comparison."""

    title: str
    settings: str
    ratio: str
    lines: list[Line]

    def to_markdown(self) -> str:
        """The table under its title."""
        head = [f"| | median time | {self.ratio} | aim | |", "| --- | ---: | ---: | --- | --- |"]
        table = "\n".join([*head, *(line.to_markdown() for line in self.lines)])
        return f"## {self.title}\n\n{self.settings}\n\n{table}\n"


class Timings:
    """Times of some tasks, which took turns.

    A machine that is slow for a while is then slow for all of them. The first turn is not counted.

    Parameters
    ----------
    tasks : dict of str to callable
        What to run.
    repetitions : int
        How many turns.
    """

    def __init__(self, tasks: dict[str, Callable[[], Any]], repetitions: int) -> None:
        self._seconds: dict[str, list[float]] = {name: [] for name in tasks}
        for turn in range(repetitions + 1):
            for name, task in tasks.items():
                start = perf_counter()
                task()
                if turn > 0:
                    self._seconds[name].append(perf_counter() - start)

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


def format_time(seconds: float | None) -> str:
    """Three digits, in a unit that suits."""
    if seconds is None:
        return "-"
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
