"""How much is measured, and tables of times and their ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments._common.tables import Table
from experiments._common.timing import format_number, format_time


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    n_images: int = 1024
    n_stored: int = 20_000
    n_queries: int = 4_000
    n_slow_queries: int = 400  # where all of them would take minutes
    n_few_queries: tuple[int, ...] = (1, 10, 100, 1000)  # in one call
    n_patterns: tuple[int, ...] = (10**4, 10**5, 10**6, 10**7)  # stored in one class
    n_asked: int = 200  # queries among them
    n_progressions: int = 10_000  # samples followed through the layers, among as many
    n_neighbors: int = 300
    n_scored: int = 5_000  # by the methods of several libraries, after learning from as many
    n_units: int = 512
    n_classes: int = 100
    large_head: tuple[int, int] = (1000, 2048)  # classes and units
    n_calls: int = 200  # of a single image
    n_processes: int = 3  # that measure memory
    loads: tuple[tuple[int, tuple[int, ...]], ...] = ((1, (1, 8)), (2, (8,)))  # processes, clients
    n_seconds: float = 5  # of each of these
    repetitions: int = 9
    device: str = "cuda"
    n_device_images: int = 20_000
    n_device_patterns: int = 10**6
    n_device_queries: int = 1024


@dataclass(frozen=True)
class Line:
    """One line of a table. ``seconds`` and ``ratio`` are None where nothing was measured.

    ``reference`` is what the ratio compares with, empty for the reference itself.
    """

    name: str
    seconds: float | None
    ratio: float | None
    aim: str = ""
    note: str = ""
    reference: str = ""

    def to_markdown(self) -> str:
        """The line, cell by cell."""
        ratio = "-" if self.ratio is None else format_number(self.ratio)
        cells = (self.name, format_time(self.seconds), ratio, self.reference, self.aim, self.note)
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Comparison:
    """Lines that are compared with each other."""

    title: str
    settings: str
    ratio: str
    lines: list[Line]

    def to_markdown(self) -> str:
        """The table under its title."""
        head = [
            f"| | median time | {self.ratio} | compared with | aim | |",
            "| --- | ---: | ---: | --- | --- | --- |",
        ]
        table = "\n".join([*head, *(line.to_markdown() for line in self.lines)])
        return f"## {self.title}\n\n{self.settings}\n\n{table}\n"


def tabulate_ratios(comparisons: Sequence[Comparison]) -> Table:
    """The ratios alone, for the site: times differ more between machines."""
    rows = [
        [line.name.replace("`", ""), line.reference, format_number(line.ratio), line.note]
        for comparison in comparisons
        for line in comparison.lines
        if line.ratio is not None and line.reference
    ]
    return Table(["What", "Compared with", "Ratio of times", "Note"], rows)
