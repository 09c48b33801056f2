"""Drift monitors: false alarms of long streams in which nothing changes, delays after a change.

    python -m experiments.drift

simulates scores, and needs no files and no network. It writes the tables of the site and a report,
in about a quarter of an hour.
"""

from __future__ import annotations

import time

from .._common.arguments import find_folders, make_parser
from .._common.tables import write_tables
from .measure import QUICK, Sizes, count_false_alarms, measure_delays, start_report
from .report import describe, make_tables, write_report


def main() -> None:
    arguments = make_parser("drift", __doc__).parse_args()
    output, folder = find_folders(arguments)
    sizes = QUICK if arguments.quick else Sizes()
    start, report = time.perf_counter(), start_report()
    tables = make_tables(count_false_alarms(sizes, report), measure_delays(sizes, report))
    about = describe(sizes)
    text = write_report(about.to_table(), tables, time.perf_counter() - start)
    print("\n" + text)
    (output / "report.md").write_text(text, encoding="utf-8")
    write_tables(folder, about, tables)


if __name__ == "__main__":
    main()
