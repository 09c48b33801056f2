"""A default monitor on twenty times the memory that it is given, and once more without a limit.

It is fitted, calibrated by rows that are held out, and scores.

A process of its own, as a limit holds for all of one. With the default ``max_samples`` it takes
some minutes:

    python tests/_twenty_times.py --mib 40 --layers 2 --units 384 --classes 10
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from skood import make_monitor
from skood._memory import memory_left

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class Rows:
    """Rows that are drawn anew each time that they are gone through."""

    def __init__(self, n_samples: int, seed: int) -> None:
        self.n_samples, self.seed = n_samples, seed

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self.n_samples, 256):
            rng = np.random.default_rng([self.seed, start])
            yield rng.normal(size=(min(256, self.n_samples - start), 8)).astype(np.float32)


def make_network(n_layers: int, n_units: int, n_classes: int) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(8, n_units), nn.ReLU()]
    for _ in range(n_layers - 1):
        layers += [nn.Linear(n_units, n_units), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(n_units, n_classes)).eval()


def data_bytes() -> int:
    """What counts against the limit of data."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"mib": 40, "layers": 2, "units": 384, "classes": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--held-out", type=int, default=80_000)
    parser.add_argument("--max-samples", type=int, default=10_000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of a monitor that is not calibrated
    network = make_network(given.layers, given.units, given.classes)
    monitor = make_monitor(network).set_params(detect__max_samples=given.max_samples)
    monitor.fit(Rows(300, 2)).calibrate(Rows(300, 3)).p_values(Rows(10, 4))  # imports what it needs

    row_bytes = 4 * (given.layers * given.units + given.classes)
    n_samples = 20 * given.mib * 2**20 // row_bytes
    before = resource.getrlimit(resource.RLIMIT_DATA)
    found = []
    for allowed in (data_bytes() + given.mib * 2**20, before[0]):
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, before[1]))
        time.sleep(0.2)  # what is left is looked at ten times a second
        assert found or memory_left() <= given.mib * 2**20
        scores = monitor.fit(Rows(n_samples, 0)).score_samples(Rows(n_samples // 32, 1))
        thresholds = [monitor.offset_, monitor.calibrate(Rows(given.held_out, 5)).offset_]
        p_values = monitor.p_values(Rows(n_samples // 32, 1))
        found.append(np.concatenate([scores, p_values, thresholds]))
        print(f"{n_samples} rows, {allowed=}: thresholds {thresholds}", flush=True)
    # A score that is rounded may be on the other side of a calibration score or two.
    np.testing.assert_allclose(*found, rtol=1e-5, atol=max(1e-5, 3 / given.held_out))
    print(f"the same {len(scores)} scores and p-values")


if __name__ == "__main__":
    main()
