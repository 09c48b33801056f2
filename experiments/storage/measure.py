"""Times, sizes and address space of one format, in a process of its own.

python -m experiments.storage.measure FORMAT N_SAMPLES
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .formats import FORMATS, Reader

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


def read_random(open_rows: Callable[..., Reader], folder: Path, shape: tuple[int, int]) -> None:
    """Some rows, right after opening."""
    rows = np.random.default_rng(1).choice(shape[0], N_RANDOM, replace=False)
    open_rows(folder, shape)(np.sort(rows))


def read_all(reader: Reader, n_samples: int) -> None:
    """All rows in order, of which one value is looked at in each block."""
    for start in range(0, n_samples, N_AT_ONCE):
        reader(slice(start, start + N_AT_ONCE))[-1, -1]


def measure(name: str, n_samples: int) -> dict[str, float]:
    """Seconds, MB and MiB, by what they are of; none where the package is not installed."""
    package, write, open_rows = FORMATS[name]
    if package is not None and find_spec(package) is None:
        return {}
    shape, before = (n_samples, N_UNITS), status()
    if package is not None:
        import_module(package)
    found: dict[str, list[float]] = {"write": [], "random": [], "read": []}
    for _ in range(REPETITIONS):
        with tempfile.TemporaryDirectory() as name_of_folder:
            folder = Path(name_of_folder)
            found["write"].append(seconds(partial(write, folder, blocks(n_samples), shape)))
            found["random"].append(seconds(partial(read_random, open_rows, folder, shape)))
            found["read"].append(seconds(partial(read_all, open_rows(folder, shape), n_samples)))
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
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
