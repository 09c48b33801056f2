"""What each part of the default rule is worth, and what the rule gives where it was not chosen.

    SKOOD_DATA=folder python -m experiments.default_rule

The detector of ``make_monitor`` without each of its members, with others added, and beside single
methods: on the networks of ``od_test``, whose activations it keeps or takes from there, and on
perceptrons, small convolutional networks and transformers that are trained in seconds. Sets and
networks that the rule was chosen on are kept apart from those that confirm it. It takes about
twenty minutes after the activations.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from joblib import Parallel, delayed

from .._common.arguments import OUTPUT, find_folders, make_parser
from .._common.tables import write_tables
from .networks import QUICK, Sizes, all_cases
from .report import describe, make_tables, write_report
from .scores import score_case


def main() -> None:
    parser = make_parser("default_rule", __doc__)
    parser.add_argument(
        "--activations",
        type=Path,
        help="folder of the networks and activations, by default that of od_test",
    )
    parser.add_argument("--n-jobs", type=int, default=1, help="how many networks at once")
    arguments = parser.parse_args()
    output, folder = find_folders(arguments)
    torch.set_num_threads(1)
    sizes = QUICK if arguments.quick else Sizes()
    kept = arguments.activations or (output if arguments.quick else OUTPUT / "od_test")
    found = Parallel(n_jobs=arguments.n_jobs)(
        delayed(score_case)(case) for case in all_cases(sizes, kept, is_quick=arguments.quick)
    )
    cells = pd.DataFrame([cell for some, _ in found for cell in some])
    shares = pd.DataFrame([one for _, shares in found for one in shares.items()])
    cells.to_csv(output / "cells.csv", index=False)
    shares.to_csv(output / "shares.csv", index=False)
    about = describe(sizes)
    tables = make_tables(cells, shares)
    (output / "report.md").write_text(write_report(about.to_table(), tables), encoding="utf-8")
    write_tables(folder, about, tables)


if __name__ == "__main__":
    main()
