"""What it costs to monitor some of the layers of a network, and not all.

    SKOOD_DATA=folder python -m experiments.auto_layers

The detector of ``make_monitor`` is fitted to some of the layers of a DenseNet for CIFAR-10 with 99
activation functions, evenly spread over its depth, and to the blocks of small residual networks,
which are trained on scikit-learn's digits, with and without the activation functions beside them.
It takes some minutes.
"""

from __future__ import annotations

import torch

from .._common.arguments import find_folders, make_parser
from .._common.tables import Measured, Table, write_tables
from .deep import COUNTS, compare_counts
from .residual import compare_rules

HEADER = ("Layers", "Number", "AUROC near", "AUROC far", "Fit of the detector, s", "Predict, s")


def main() -> None:
    arguments = make_parser("auto_layers", __doc__).parse_args()
    output, folder = find_folders(arguments)
    torch.set_num_threads(1)
    n_samples, seeds = (60, 1) if arguments.quick else (400, 3)
    about = Measured(
        data="CIFAR-10 and the digits of scikit-learn; near: CIFAR-100, and two digits left out; "
        "far: textures, and turned digits",
        samples=f"{2 * n_samples} to learn from and {n_samples} of each set with the DenseNet; "
        f"{seeds} seeds with the digits",
        settings=f"max of each map, {COUNTS} layers; seconds of the process, one thread, for all "
        "samples of a set",
    )
    tables = {
        "densenet": Table(HEADER, compare_counts(n_samples)),
        "digits": Table(HEADER, compare_rules(seeds)),
    }
    report = "\n\n".join(table.to_markdown() for table in (about.to_table(), *tables.values()))
    print(report)
    (output / "report.md").write_text(report, encoding="utf-8")
    write_tables(folder, about, tables)


if __name__ == "__main__":
    main()
