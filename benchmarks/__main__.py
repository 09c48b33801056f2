"""How fast skood is beside the network and beside other libraries, as ratios.

    python -m benchmarks            # some minutes
    python -m benchmarks --quick    # small sizes
    python -m benchmarks --check    # smaller still: does everything run, and agree?

Prints Markdown, and writes the tables of the site, and speed.json with all of them. What is
compared takes turns within the one run, so that the ratios hold where absolute times vary, and its
results are compared before it is timed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from experiments._common.tables import (
    SITE,
    Measured,
    Table,
    describe_machine,
    describe_versions,
    write_tables,
)

from .extractors import compare_extractors
from .families import compare_families
from .gpu import compare_on_device
from .latency import compare_latency
from .line import compare_line
from .measure import Comparison, Line, Sizes, tabulate_ratios
from .monitor import compare_monitor
from .network import compare_extraction, compare_grid
from .patterns import N_BITS, compare_sizes, draw, tabulate
from .peaks import compare_peaks
from .peers import compare_methods
from .progression import compare_progression
from .recorder import compare_recorder
from .search import compare_search, tabulate_few
from .service import compare_service
from .unchanged import compare_looks

QUICK = Sizes(
    n_images=512,
    n_stored=4_000,
    n_queries=1_000,
    n_slow_queries=100,
    n_patterns=(1_000, 10_000, 100_000),
    n_asked=50,
    n_progressions=2_000,
    n_neighbors=60,
    n_scored=2_000,
    n_units=128,
    n_classes=20,
    large_head=(200, 512),
    n_calls=50,
    n_processes=1,
    n_seconds=2,
    repetitions=3,
    n_device_images=512,
    n_device_patterns=20_000,
    n_device_queries=256,
)
CHECK = Sizes(
    n_images=64,
    n_stored=1_000,
    n_queries=200,
    n_slow_queries=20,
    n_few_queries=(1, 20),
    n_patterns=(500, 2_000),
    n_asked=20,
    n_progressions=200,
    n_neighbors=10,
    n_scored=200,
    n_units=16,
    n_classes=5,
    large_head=(20, 32),
    n_calls=3,
    n_processes=1,
    loads=((2, (4,)),),
    n_seconds=0.5,
    repetitions=1,
    device="cpu",
    n_device_images=64,
    n_device_patterns=500,
    n_device_queries=20,
)
PACKAGES = (
    "skood",
    "torch",
    "faiss-cpu",
    "scikit-learn",
    "numpy",
    "numkong",
    "pytorch-ood",
    "oodeel",
    "pyod",
    "fastapi",
    "uvicorn",
)


class Outcome(NamedTuple):
    """What a comparison prints, the tables of the site by their names, and what draws figures."""

    comparisons: Sequence[Comparison]
    tables: dict[str, Table]
    draw: Callable[[Path], None] | None = None


def measure_ratios(*comparisons: Comparison) -> Outcome:
    return Outcome(comparisons, {"ratios": tabulate_ratios(comparisons)})


def measure_search(sizes: Sizes) -> Outcome:
    comparisons = [
        *(compare_search(n_classes, sizes) for n_classes in (1, 10, 100)),
        *(
            compare_search(n_classes, replace(sizes, n_stored=sizes.n_stored // divisor))
            for divisor in (5, 50)
            for n_classes in (1, 10)
        ),
    ]
    tables = {"ratios": tabulate_ratios(comparisons)}
    if find_spec("faiss") is not None:
        tables["few"] = tabulate_few(sizes)
        print(tables["few"].to_markdown(), flush=True)
    return Outcome(comparisons, tables)


def measure_methods(sizes: Sizes) -> Outcome:
    return Outcome(*compare_methods(sizes))


def measure_line(sizes: Sizes) -> Outcome:
    comparison, table = compare_line(sizes)
    return Outcome([comparison], {"memory": table})


def measure_peaks(sizes: Sizes) -> Outcome:
    comparison, table = compare_peaks(sizes)
    return Outcome([comparison], {"peaks": table})


def measure_service(sizes: Sizes) -> Outcome:
    comparison, table = compare_service(sizes)
    return Outcome([comparison], {"latency": table})


def measure_patterns(sizes: Sizes) -> Outcome:
    costs = compare_sizes(sizes)
    numbers = ", ".join(f"{n:,}" for n in sizes.n_patterns)
    comparison = Comparison(
        "Nearest patterns among ever more",
        f"{sizes.n_asked} queries among {numbers} patterns of {N_BITS} bits, one class.",
        "times skood's, in memory",
        [
            Line(
                f"{cost.name}, {cost.n_patterns:,}",
                cost.batch,
                cost.ratio,
                note=f"{cost.memory:.0f} MiB",
            )
            for cost in costs
        ],
    )
    table = tabulate(costs, sizes)
    return Outcome([comparison], {"costs": table}, lambda folder: draw(costs, folder))


def measure_on_device(sizes: Sizes) -> Outcome:
    comparisons = compare_on_device(sizes)
    ratios = tabulate_ratios(comparisons)
    return Outcome(comparisons, {"ratios": ratios} if ratios.rows else {})


RUNS: dict[str, Callable[[Sizes], Outcome]] = {
    "extraction": lambda sizes: measure_ratios(compare_extraction(sizes)),
    "extractors": lambda sizes: measure_ratios(compare_extractors(sizes)),
    "families": lambda sizes: measure_ratios(compare_families(sizes)),
    "search": measure_search,
    "patterns": measure_patterns,
    "progression": lambda sizes: measure_ratios(compare_progression(sizes)),
    "unchanged": lambda sizes: measure_ratios(compare_looks(sizes)),
    "grid": lambda sizes: measure_ratios(compare_grid(sizes)),
    "latency": lambda sizes: measure_ratios(compare_latency(sizes)),
    "recorder": lambda sizes: measure_ratios(compare_recorder(sizes)),
    "monitor": lambda sizes: measure_ratios(compare_monitor(sizes)),
    "methods": measure_methods,
    "peaks": measure_peaks,
    "line": measure_line,
    "gpu": measure_on_device,
    "service": measure_service,
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes")
    size.add_argument("--check", action="store_true", help="the smallest sizes, one repetition")
    parser.add_argument("--only", choices=RUNS, nargs="+", help="run some of the comparisons")
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        help="where `gpu` runs; by default on a CUDA device, where there is one, and with --check "
        "on the CPU",
    )
    parser.add_argument(
        "--tables",
        type=Path,
        help="folder for the CSV files that the site shows, by default docs/results/speed; with "
        "--quick, --check and --device cpu they are not written by default",
    )
    return parser.parse_args()


def find_folder(arguments: argparse.Namespace) -> Path | None:
    """Where the tables go; None for nowhere."""
    if arguments.tables is not None:
        return arguments.tables
    is_full = not (arguments.quick or arguments.check or arguments.device == "cpu")
    return SITE / "speed" if is_full else None


def describe(outcome: Outcome) -> Measured:
    settings = list(dict.fromkeys(comparison.settings for comparison in outcome.comparisons))
    return Measured(
        data="random",
        samples=" ".join(settings),
        settings="what is compared takes turns; ratios are medians over the turns",
        packages=PACKAGES,
    )


def write_all(file: Path, name: str, outcome: Outcome) -> None:
    """Put times, ratios, and how they were measured, into the one file of all comparisons."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    known[name] = {
        "about": {row[0]: row[1] for row in describe(outcome).to_table().rows},
        "comparisons": [asdict(comparison) for comparison in outcome.comparisons],
    }
    file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    arguments = parse_arguments()
    folder = find_folder(arguments)
    sizes = CHECK if arguments.check else QUICK if arguments.quick else Sizes()
    sizes = replace(sizes, device=arguments.device or sizes.device)
    print(f"# Speed\n\n{describe_machine()}; {describe_versions(PACKAGES)}.\n")
    for name in arguments.only or RUNS:
        outcome = RUNS[name](sizes)
        for comparison in outcome.comparisons:
            print(comparison.to_markdown(), flush=True)
        if folder is not None and outcome.tables:
            write_tables(folder / name, describe(outcome), outcome.tables)
            write_all(folder / "speed.json", name, outcome)
            if outcome.draw is not None:
                outcome.draw(folder / name)


if __name__ == "__main__":
    main()
