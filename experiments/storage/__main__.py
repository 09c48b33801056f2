"""Formats for activations on disk: written block by block, read in order and at random rows.

    python -m experiments.storage

makes its values, and needs no files and no network. It takes a minute.
"""

from __future__ import annotations

import json
import subprocess
import sys

from .._common.arguments import find_folders, make_parser
from .._common.tables import Measured, Table, write_tables
from .formats import FORMATS
from .measure import N_AT_ONCE, N_RANDOM, N_UNITS, REPETITIONS

HEADER = (
    "Format",
    "Write, s",
    "Read in order, s",
    f"{N_RANDOM} random rows, s",
    "Size, MB",
    "Address space, MiB",
    "Threads more",
)


def main() -> None:
    arguments = make_parser("storage", __doc__).parse_args()
    output, folder = find_folders(arguments)
    n_samples = 2 * N_AT_ONCE if arguments.quick else 40 * N_AT_ONCE
    table = Table(HEADER, [row_of(name, n_samples) for name in FORMATS])
    about = Measured(
        data=(
            f"a layer of {N_UNITS} float32 units, half of them zero, "
            f"{4 * N_UNITS * n_samples / 1e6:.0f} MB"
        ),
        samples=f"{n_samples} rows in blocks of {N_AT_ONCE}",
        settings=(
            f"each format in a process of its own, medians of {REPETITIONS}; what is read was just "
            "written, so that the system has it in memory; random rows right after opening"
        ),
        packages=("skood", "numpy", "pyarrow", "zarr"),
    )
    text = table.to_markdown()
    print(text)
    (output / "report.md").write_text(text, encoding="utf-8")
    write_tables(folder, about, {"formats": table})


def row_of(name: str, n_samples: int) -> list[str]:
    command = [sys.executable, "-m", "experiments.storage.measure", name, str(n_samples)]
    found = json.loads(subprocess.check_output(command, text=True))
    if not found:
        return [name, *["not installed"] * (len(HEADER) - 1)]
    times = [f"{found[what]:.3f}" for what in ("write", "read", "random")]
    return [name, *times, *(f"{found[what]:.0f}" for what in ("size", "space", "threads"))]


if __name__ == "__main__":
    main()
