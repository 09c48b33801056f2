"""How fast skood is beside the network and beside other libraries, as ratios.

    python -m benchmarks            # some minutes
    python -m benchmarks --quick    # small sizes
    python -m benchmarks --check    # smaller still: does everything run, and agree?

Prints Markdown. What is compared takes turns within the one run, so that the ratios hold where
absolute times vary, and its results are compared before it is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from platform import machine, python_version

import torch

from .line import compare_line
from .measure import Sizes, Table
from .network import compare_extraction, compare_grid, compare_latency
from .peers import compare_methods
from .progression import compare_progression
from .recorder import compare_recorder
from .search import compare_search

QUICK = Sizes(
    n_images=512,
    n_stored=4_000,
    n_queries=1_000,
    n_slow_queries=100,
    n_progressions=2_000,
    n_neighbors=60,
    n_scored=2_000,
    n_units=128,
    n_classes=20,
    large_head=(200, 512),
    n_calls=50,
    n_processes=1,
    repetitions=3,
)
CHECK = Sizes(
    n_images=64,
    n_stored=1_000,
    n_queries=200,
    n_slow_queries=20,
    n_progressions=200,
    n_neighbors=10,
    n_scored=200,
    n_units=16,
    n_classes=5,
    large_head=(20, 32),
    n_calls=3,
    n_processes=1,
    repetitions=1,
)
COMPARISONS: dict[str, Callable[[Sizes], list[Table]]] = {
    "extraction": lambda sizes: [compare_extraction(sizes)],
    "search": lambda sizes: [compare_search(10, sizes), compare_search(1, sizes)],
    "progression": lambda sizes: [compare_progression(sizes)],
    "grid": lambda sizes: [compare_grid(sizes)],
    "latency": lambda sizes: [compare_latency(sizes)],
    "recorder": lambda sizes: [compare_recorder(sizes)],
    "methods": lambda sizes: [*compare_methods(sizes), compare_line(sizes)],
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes")
    size.add_argument("--check", action="store_true", help="the smallest sizes, one repetition")
    parser.add_argument("--only", choices=COMPARISONS, help="run one of the comparisons")
    return parser.parse_args()


def describe_machine() -> str:
    packages = ("skood", "torch", "faiss-cpu", "scikit-learn", "numpy")
    versions = ", ".join(f"{package} {find_version(package)}" for package in packages)
    return (
        f"{torch.get_num_threads()} threads on {machine()}; Python {python_version()}, {versions}."
    )


def find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    arguments = parse_arguments()
    sizes = CHECK if arguments.check else QUICK if arguments.quick else Sizes()
    print(f"# Speed\n\n{describe_machine()}\n")
    for name, compare in COMPARISONS.items():
        if arguments.only in (None, name):
            for table in compare(sizes):
                print(table.to_markdown(), flush=True)


if __name__ == "__main__":
    main()
