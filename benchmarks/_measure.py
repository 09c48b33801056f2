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

    n_images: int = 2048
    n_stored: int = 20_000
    n_queries: int = 4_000
    n_slow_queries: int = 200  # where all of them would take minutes
    n_calls: int = 200  # of a single image
    n_processes: int = 3  # that measure memory
    repetitions: int = 7


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


def interleave(tasks: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """Median seconds of each task.

    The tasks take turns, so that a machine that is slow for a while is slow for all of them. The
    first turn is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repetitions + 1):
        for name, task in tasks.items():
            start = perf_counter()
            task()
            if turn > 0:
                seconds[name].append(perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def format_time(seconds: float | None) -> str:
    """Three digits, in a unit that suits."""
    if seconds is None:
        return "-"
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
