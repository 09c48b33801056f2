"""Tables of results: Markdown for a report, and the CSV files that the site shows.

A folder below ``docs/results`` holds the tables of one run, and ``about.csv``, which says how they
were measured. A run overwrites all of them.
"""

from __future__ import annotations

import csv
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SITE = Path(__file__).parents[2] / "docs" / "results"
ABOUT = ("Entry", "Value")
PACKAGES = ("skood", "torch", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Table:
    """A header and rows of as many cells, numbers written out as the site shows them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def write(self, file: Path) -> None:
        """Write the table as CSV."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8", newline="") as target:
            csv.writer(target, lineterminator="\n").writerows([self.header, *self.rows])


@dataclass(frozen=True)
class Measured:
    """What is measured, and by how much of it."""

    data: str
    samples: str
    settings: str
    packages: Sequence[str] = PACKAGES

    def to_table(self) -> Table:
        """All that a reader needs to repeat the measurement, with today's date."""
        return Table(
            ABOUT,
            [
                ["Command", describe_command()],
                ["Date", date.today().isoformat()],
                ["Data", self.data],
                ["Samples", self.samples],
                ["Settings", self.settings],
                ["Versions", describe_versions(self.packages)],
                ["Machine", describe_machine()],
            ],
        )


def write_tables(folder: Path, about: Measured, tables: Mapping[str, Table]) -> None:
    """Write all tables of a run, by their names without the suffix, and ``about.csv``."""
    about.to_table().write(folder / "about.csv")
    for name, table in tables.items():
        table.write(folder / f"{name}.csv")
    print(f"{len(tables)} tables written to {folder}")


def describe_command() -> str:
    """The command line that started this program, by the name of its package."""
    spec = sys.modules["__main__"].__spec__
    name = "" if spec is None else spec.name.removesuffix(".__main__")
    return shlex.join(["python", "-m", name, *sys.argv[1:]])


def describe_versions(packages: Sequence[str]) -> str:
    versions = ", ".join(f"{package} {find_version(package)}" for package in packages)
    return f"Python {platform.python_version()}, {versions}"


def find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def describe_machine() -> str:
    """Its class; and how busy it was, on which times depend."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    threads = torch.get_num_threads()
    return f"{os.cpu_count()} cores ({platform.machine()}), {gpu}, {threads} threads{load}"


def list_lines(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
