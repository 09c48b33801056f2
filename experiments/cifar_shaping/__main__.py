"""Outputs, features, shaping and LINe on the DenseNets of CIFAR-10 and CIFAR-100.

    python -m experiments.cifar_shaping

reads the image files in the folder that SKOOD_DATA names, and the networks in its folder
``models``. Detectors separate test images from other kinds of images; the tables show how
well each does, beside the published figures. The tables of the site, a report and figures are
written. Activations are kept in the folder ``--output`` too, about a gigabyte: the first run takes
about half an hour, a second one a few minutes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib as mpl

from .._common.arguments import find_folders, make_parser
from .._common.figures import save_figures
from .._common.tables import write_tables
from .activations import Settings
from .data import TASKS
from .figures import draw_all, draw_sharing
from .report import (
    describe,
    describe_sharing,
    make_tables,
    report_sharing,
    tabulate_sharing,
    write_report,
)
from .results import compute, compute_sharing

mpl.use("Agg")

SHOWN = ("line_delta",)
"""The figures that the site shows."""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("cifar_shaping", __doc__)
    parser.add_argument("--net", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument("--samples", type=int, default=2_000, help="images of each set, at most")
    parser.add_argument(
        "--train-samples", type=int, default=10_000, help="images that detectors learn, at most"
    )
    parser.add_argument("--odin-samples", type=int, default=500, help="images of each set for ODIN")
    parser.add_argument(
        "--sharing", action="store_true", help="only what the classes share, to `sharing.md`"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_settings(arguments: argparse.Namespace, folder: Path) -> Settings:
    quick = arguments.quick
    return Settings(
        folder=folder,
        n_train=120 if quick else arguments.train_samples,
        n_samples=10 if quick else arguments.samples,
        n_odin=2 if quick else arguments.odin_samples,
        seed=arguments.seed,
    )


def run_sharing(names: list[str], settings: Settings, folder: Path) -> None:
    """A part of the experiment that needs the training images alone."""
    by_net = {TASKS[name].title: compute_sharing(TASKS[name], settings) for name in names}
    table = tabulate_sharing(by_net)
    report = "\n\n".join(report_sharing(table)) + "\n"
    print("\n" + report)
    (settings.folder / "sharing.md").write_text(report, encoding="utf-8")
    save_figures({"shared_neurons": draw_sharing(by_net)}, settings.folder)
    write_tables(folder / "sharing", describe_sharing(by_net, settings), {"shares": table})


def run_all(names: list[str], settings: Settings, folder: Path) -> None:
    start = time.perf_counter()
    all_results = [compute(TASKS[name], settings) for name in names]
    abouts = [describe(results, settings) for results in all_results]
    all_tables = [make_tables(results) for results in all_results]
    by_net = {results.task.title: results.sharing for results in all_results}
    sharing = tabulate_sharing(by_net)
    report = write_report(
        all_results,
        [about.to_table() for about in abouts],
        all_tables,
        sharing,
        time.perf_counter() - start,
    )
    print("\n" + report)
    (settings.folder / "report.md").write_text(report, encoding="utf-8")
    for name, about, tables in zip(names, abouts, all_tables, strict=True):
        write_tables(folder / name, about, tables)
    write_tables(folder / "sharing", describe_sharing(by_net, settings), {"shares": sharing})
    figures = draw_all(all_results)
    save_figures({name: figures[name] for name in SHOWN}, folder)
    save_figures(figures, settings.folder)


def main() -> None:
    arguments = parse_arguments()
    output, folder = find_folders(arguments)
    names = arguments.net[:1] if arguments.quick else arguments.net
    run = run_sharing if arguments.sharing else run_all
    run(names, make_settings(arguments, output), folder)


if __name__ == "__main__":
    main()
