"""Times, sizes and address space of one format, in a process of its own.

python -m experiments.storage.measure FORMAT N_SAMPLES
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .formats import FORMATS

N_UNITS = 1024
N_AT_ONCE = 4096
N_RANDOM = 1000
REPETITIONS = 3


def blocks(n_samples: int) -> Iterator[NDArray]:
    """A layer after a ReLU, half of which is zero; made before the clock runs."""
    rng = np.random.default_rng(0)
    block = np.maximum(rng.normal(size=(N_AT_ONCE, N_UNITS)), 0).astype(np.float32)
    for start in range(0, n_samples, N_AT_ONCE):
        yield block[: min(N_AT_ONCE, n_samples - start)]


def measure(name: str, n_samples: int) -> dict[str, float]:
    """Seconds, MB and MiB, by what they are of; none where the package is not installed."""
    package, write, open_rows = FORMATS[name]
    if package is not None and find_spec(package) is None:
        return {}
    shape, before = (n_samples, N_UNITS), status()
    if package is not None:
        import_module(package)
    found: dict[str, list[float]] = {"write": [], "read": [], "random": []}
    for _ in range(REPETITIONS):
        with tempfile.TemporaryDirectory() as folder:
            found["write"].append(seconds(lambda: write(Path(folder), blocks(n_samples), shape)))
            rows = np.sort(np.random.default_rng(1).choice(n_samples, N_RANDOM, replace=False))
            found["random"].append(seconds(lambda: open_rows(Path(folder), shape)(rows)))
            reader = open_rows(Path(folder), shape)
            starts = range(0, n_samples, N_AT_ONCE)
            found["read"].append(
                seconds(lambda: [reader(slice(i, i + N_AT_ONCE))[-1, -1] for i in starts])
            )
            size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    after = status()
    medians = {what: float(np.median(times)) for what, times in found.items()}
    space = (after["VmPeak"] - before["VmPeak"]) / 2**10
    threads = after["Threads"] - before["Threads"]
    return {**medians, "size": size / 1e6, "space": space, "threads": threads}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def status() -> dict[str, int]:
    """Numbers that the system says of this process; zeros where it says none."""
    file = Path("/proc/self/status")
    lines = file.read_text().splitlines() if file.exists() else []
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found.get(name, "0").split()[0]) for name in ("VmPeak", "Threads")}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
