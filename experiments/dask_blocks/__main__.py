"""What rows in blocks of Dask gain on two processor cores, and what they cost.

    python -m experiments.dask_blocks

draws its images and its network, and needs no files. It takes some minutes. With ``--quick`` it
starts no workers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
import dask.array as da
import numpy as np
import torch
from distributed import Client, LocalCluster
from torch import nn

from skood import Monitor, make_monitor

from .._common.arguments import find_folders, make_parser
from .._common.tables import Measured, Table, write_tables

SHAPE = (3, 32, 32)
REPETITIONS = 3
STEPS = ("Extraction", "Fit", "Scores")


def main() -> None:
    arguments = make_parser("dask_blocks", __doc__).parse_args()
    output, folder = find_folders(arguments)
    torch.set_num_threads(1)
    n_samples, n_times = (80, 1) if arguments.quick else (2000, REPETITIONS)
    X = np.random.default_rng(0).normal(size=(n_samples, *SHAPE)).astype(np.float32)
    network = make_network()
    rows, one = [], None
    for name, block_size, engine in cases(n_samples, with_workers=not arguments.quick):
        with engine() as is_here:
            given = X if is_here else da.from_array(X, chunks=(block_size, *SHAPE)).persist()
            seconds = measure(network, given, n_times)
        one = seconds if one is None else one
        ratios = [f"{first / now:.2f}" for first, now in zip(one, seconds, strict=True)]
        rows.append([name, *(f"{each:.2f}" for each in seconds), *ratios])
    header = ("Rows", *(f"{step}, s" for step in STEPS), *(f"{step}, gain" for step in STEPS))
    table = Table(header, rows)
    print(table.to_markdown())
    (output / "report.md").write_text(table.to_markdown(), encoding="utf-8")
    about = Measured(
        data=f"random images of {' x '.join(map(str, SHAPE))} values, an untrained network of four "
        "convolutions, the default monitor",
        samples=f"{n_samples} rows",
        settings=f"one thread in torch and in each worker, least of {REPETITIONS} repetitions; the "
        "images lie where they are computed with, and workers have imported skood and have the "
        "network",
        packages=("skood", "dask", "distributed", "torch", "numpy"),
    )
    write_tables(folder, about, {"seconds": table})


def cases(n_samples: int, *, with_workers: bool) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """What is measured: a name, the size of a block, and what computes."""
    yield "An array in one process", n_samples, in_this_process
    for n_blocks in (8, 80) if with_workers else (8,):
        size = n_samples // n_blocks
        yield f"{n_blocks} blocks, one thread", size, one_thread
        yield f"{n_blocks} blocks, two threads", size, two_threads
        if with_workers:
            yield f"{n_blocks} blocks, two workers", size, two_workers


def make_network() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n_in, n_out, stride in ((3, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2)):
        layers += [nn.Conv2d(n_in, n_out, 3, stride, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)).eval()


@contextmanager
def in_this_process() -> Iterator[bool]:
    yield True


@contextmanager
def one_thread() -> Iterator[bool]:
    with dask.config.set(scheduler="synchronous"):
        yield False


@contextmanager
def two_threads() -> Iterator[bool]:
    with dask.config.set(scheduler="threads", num_workers=2):
        yield False


@contextmanager
def two_workers() -> Iterator[bool]:
    settings: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        # Of a user's cluster, which lives longer than one computation.
        client.run(make_network)
        yield False


def measure(network: nn.Module, X: Any, n_times: int) -> list[float]:
    """Least seconds of extraction, fit, and scores, where the network runs in each."""
    monitor = make_monitor(network)
    steps = (
        lambda: _computed(monitor[:1].fit(X).transform(X)),
        lambda: _fitted(monitor, X),
        lambda: _computed(monitor.score_samples(X)),
    )
    return [min(_seconds(step) for _ in range(n_times)) for step in steps]


def _computed(found: Any) -> None:
    """Wait until blocks are computed, and leave them where they are."""
    if not hasattr(found, "__dask_graph__"):
        return
    kept = found.persist()
    if hasattr(kept, "compute_chunk_sizes"):
        kept.compute_chunk_sizes()


def _fitted(monitor: Monitor, X: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a threshold that nobody uses
        monitor.fit(X)


def _seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
