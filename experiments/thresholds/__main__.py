"""False alarms of thresholds from training rows and from held-out rows, and what else is promised.

    SKOOD_DATA=folder python -m experiments.thresholds

Five detectors of the networks for MNIST, CIFAR-10 and CIFAR-100 of ``od_test``, whose activations
it keeps or takes from there, are fitted and asked once. Then 200 sets of calibration rows are drawn
for every promise: the mean rate of false alarms, that of each predicted class, the rate of nearly
every single set, the share of false alarms in a selection, and the error rate among accepted
samples. Scores with ties, with few values and of unequal classes are drawn, too. It takes some
minutes after the activations.
"""

from __future__ import annotations

from pathlib import Path

import torch

from .._common.arguments import OUTPUT, find_folders, make_parser
from .._common.tables import write_tables
from .cases import QUICK, Sizes, all_cases
from .measures import measure_all
from .report import describe, make_tables, write_report


def main() -> None:
    parser = make_parser("thresholds", __doc__)
    parser.add_argument(
        "--activations",
        type=Path,
        help="folder of the networks and activations, by default that of od_test",
    )
    parser.add_argument("--n-jobs", type=int, default=1, help="how many detectors at once")
    arguments = parser.parse_args()
    output, folder = find_folders(arguments)
    torch.set_num_threads(1)
    sizes = QUICK if arguments.quick else Sizes()
    kept = arguments.activations or (output if arguments.quick else OUTPUT / "od_test")
    cases = all_cases(sizes, kept, output / "scores")
    found = measure_all(cases, sizes, n_jobs=arguments.n_jobs)
    about, tables = describe(sizes), make_tables(found)
    (output / "report.md").write_text(write_report(about.to_table(), tables), encoding="utf-8")
    write_tables(folder, about, tables)


if __name__ == "__main__":
    main()
