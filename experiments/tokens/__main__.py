"""What a monitor should keep of tokens: of text, and of images.

    python -m experiments.tokens

trains small transformers on made-up texts and on scikit-learn's digits, two of which are held out,
and fits the detector of ``make_monitor`` to what is left of their tokens after one pooling or
another. Some seeds are there to choose by, others to report. It
takes a few minutes and no files.
"""

from __future__ import annotations

import time

import torch

from .._common.arguments import find_folders, make_parser
from .._common.tables import write_tables
from .report import describe, make_tables, write_report
from .training import KINDS, QUICK, Run, Sizes, run


def main() -> None:
    arguments = make_parser("tokens", __doc__).parse_args()
    output, folder = find_folders(arguments)
    sizes = QUICK if arguments.quick else Sizes()
    torch.set_num_threads(1)
    start = time.process_time()
    chosen, reported = (run_all(seeds, sizes) for seeds in (sizes.choice_seeds, sizes.report_seeds))
    about = describe(sizes, chosen, reported)
    tables = make_tables(chosen, reported)
    report = write_report(about.to_table(), tables, time.process_time() - start)
    print("\n" + report)
    (output / "report.md").write_text(report, encoding="utf-8")
    write_tables(folder, about, tables)


def run_all(seeds: tuple[int, ...], sizes: Sizes) -> dict[str, list[Run]]:
    runs = {}
    for name, kind in KINDS.items():
        print(f"{name}, seeds {seeds}", flush=True)
        runs[name] = [run(kind, seed, sizes) for seed in seeds]
    return runs


if __name__ == "__main__":
    main()
