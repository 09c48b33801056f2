"""The options that every experiment has."""

from __future__ import annotations

import argparse
from pathlib import Path

from .tables import SITE

OUTPUT = Path("experiments") / "output"


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Of ``python -m experiments.name``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the smallest sizes, in less than a minute: does everything run?",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT / name,
        help="folder for the report and the figures, by default %(default)s",
    )
    parser.add_argument(
        "--tables",
        type=Path,
        help=f"folder for the CSV files that the site shows, by default docs/results/{name}, and "
        "with --quick the folder `tables` in that of the report",
    )
    parser.set_defaults(name=name)
    return parser


def find_folders(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The folder of the report, which is made where it is missing, and that of the tables."""
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    site = output / "tables" if arguments.quick else SITE / arguments.name
    return output, arguments.tables or site
