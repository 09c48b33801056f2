"""Every method on every triple of a source, a validation set and a test set.

    SKOOD_DATA=folder python -m experiments.od_test --n-jobs 2

A VGG-like and a residual network for MNIST and for Fashion-MNIST are trained, and the given
DenseNets for CIFAR-10 and CIFAR-100 read. All other sets of images and two noises serve as
validation and as test sets. Activations and finished cells are kept, by default in the folder of
the report: extraction takes about half an hour, the test as long, and a run that was stopped goes
on where it was.

Detectors of PyOD, pytorch-ood and oodeel take part where they are installed.

The protocol is that of A. Shafaei, M. Schmidt, J. J. Little, "A less biased evaluation of
out-of-distribution sample detectors", BMVC 2019, arXiv:1809.04729.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import torch

from .._common.arguments import find_folders, make_parser
from .._common.figures import save_figures
from .._common.tables import write_tables
from .figures import draw_all
from .methods import GROUPS, SEARCHES
from .report import describe, make_tables, write_report
from .results import Run, join_runs, test_all
from .sources import ALL_SETS, CHOICE, QUICK, QUICK_SETS, SOURCES, Sizes, Source

mpl.use("Agg")

SHOWN = ("means", "validation_and_test")
"""The figures that the site shows."""
N_QUICK = 2
"""How many of the sources ``--quick`` tries."""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("od_test", __doc__)
    parser.add_argument(
        "--sources",
        nargs="*",
        choices=[source.folder_name for source in SOURCES],
        help="by default all; rows and columns of the others stay empty",
    )
    parser.add_argument(
        "--earlier",
        nargs="+",
        type=Path,
        default=[],
        help="the files `cells.csv` of other runs, which the tables show too: a later one, and "
        "this run, replace the same methods and sources; "
        "`--sources` without a name tries nothing more",
    )
    parser.add_argument(
        "--activations",
        type=Path,
        help="folder of the networks and activations, by default that of the report",
    )
    parser.add_argument(
        "--groups",
        nargs="+",
        choices=(*GROUPS, SEARCHES),
        default=(*GROUPS, SEARCHES),
        help="of methods, by default all",
    )
    parser.add_argument("--n-jobs", type=int, help="how many fits run at once")
    parser.add_argument(
        "--chosen-on",
        action="store_true",
        help="only the networks and sets that the default rule was chosen on",
    )
    return parser.parse_args()


def find_sources(arguments: argparse.Namespace) -> list[Source]:
    names = arguments.sources
    found = [source for source in SOURCES if names is None or source.folder_name in names]
    if arguments.chosen_on:
        found = [source for source in found if source.is_chosen_on]
    return found[:N_QUICK] if arguments.quick else found


def find_sets(arguments: argparse.Namespace) -> Collection[str]:
    """Names of the OOD sets to try."""
    if arguments.quick:
        return QUICK_SETS
    return CHOICE if arguments.chosen_on else ALL_SETS


def main() -> None:
    arguments = parse_arguments()
    output, folder = find_folders(arguments)
    torch.set_num_threads(1)
    sizes = QUICK if arguments.quick else Sizes()
    sources = find_sources(arguments)
    start = time.perf_counter()
    run = Run(
        sizes=sizes,
        folder=arguments.activations or output,
        results=output / "cells",
        n_jobs=arguments.n_jobs,
        sets=find_sets(arguments),
        groups=arguments.groups,
    )
    cells = join_runs([*map(pd.read_csv, arguments.earlier), test_all(sources, run)])
    cells.to_csv(output / "cells.csv", index=False)
    about, tables = describe(cells, sizes, time.perf_counter() - start), make_tables(cells)
    report = write_report(about.to_table(), tables)
    (output / "report.md").write_text(report, encoding="utf-8")
    write_tables(folder, about, tables)
    figures = draw_all(cells)
    save_figures({name: figures[name] for name in SHOWN}, folder)
    save_figures(figures, output)


if __name__ == "__main__":
    main()
