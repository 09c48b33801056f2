"""What each part of the default rule is worth, and what the rule gives where it was not chosen.

    SKOOD_DATA=folder python -m experiments.default_rule

The detector of ``make_monitor`` without each of its members, with others added, and beside single
methods: on the networks of ``od_test``, whose activations it keeps or takes from there, and on
perceptrons and transformers that are trained in seconds. Sets and networks that the rule was chosen
on are kept apart from those that confirm it. It takes about a quarter of an hour after the
activations.
"""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import torch
from joblib import Parallel, delayed

from .._common.arguments import OUTPUT, find_folders, make_parser
from .._common.tables import write_tables
from .networks import QUICK, Sizes, all_cases
from .scores import score_case


def _kept(case, output):
    import pickle
    file = output / f"{case.kind}-{case.seed}.pkl"
    if not file.exists():
        found = score_case(case)
        file.write_bytes(pickle.dumps(([tuple(c) for c in found[0]], found[1])))
    cells, share = pickle.loads(file.read_bytes())
    from .scores import Cell
    return [Cell(*c) for c in cells], share


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
    start = time.perf_counter()
    found = Parallel(n_jobs=arguments.n_jobs)(
        delayed(_kept)(case, output) for case in all_cases(sizes, kept, is_quick=arguments.quick)
    )
    seconds = time.perf_counter() - start
    cells = pd.DataFrame([cell for some, _ in found for cell in some])
    shares = pd.DataFrame([one for _, shares in found for one in shares.items()])
    cells.to_csv(output / "cells.csv", index=False)
    shares.to_csv(output / "shares.csv", index=False)
    from .report import describe, make_tables, write_report
    about = describe(sizes, seconds)
    tables = make_tables(cells, shares)
    (output / "report.md").write_text(write_report(about.to_table(), tables), encoding="utf-8")
    write_tables(folder, about, tables)


if __name__ == "__main__":
    main()
