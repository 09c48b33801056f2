"""A monitor on twenty times the memory that it is given, and once more without a limit.

The default one is fitted, calibrated by rows that are held out, and scores. ``--what`` names
something else.

A process of its own, as a limit holds for all of one. With the default ``max_samples`` it takes
some minutes:

    python tests/_twenty_times.py --mib 40 --layers 2 --units 384 --classes 10
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from skood import Monitor, make_monitor
from skood._memory import memory_left
from skood.calibration import RiskControlledDetector
from skood.detectors import MahalanobisDetector
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.monitoring import DriftMonitor

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


@dataclass(frozen=True)
class Task:
    """What is done with and without a limit, on so many rows, by detectors of ``max_samples``."""

    network: nn.Module
    n_samples: int
    n_held_out: int
    max_samples: int

    def monitor(self, target: str = "ood", **params: Any) -> Monitor:
        monitor = make_monitor(self.network, target=target, **params)
        sizes = [name for name in monitor.get_params() if name.endswith("max_samples")]
        return monitor.set_params(**dict.fromkeys(sizes, self.max_samples))

    def fitted(self, target: str = "ood", **params: Any) -> Monitor:
        return self.monitor(target, **params).fit(Rows(self.n_samples, 0))

    @property
    def new(self) -> Rows:
        return Rows(max(10, self.n_samples // 32), 1)

    @property
    def held_out(self) -> Rows:
        return Rows(self.n_held_out, 5)

    def default(self) -> list[Any]:
        monitor = self.fitted()
        scores, thresholds = monitor.score_samples(self.new), [monitor.offset_]
        thresholds += [monitor.calibrate(self.held_out).offset_]
        return [scores, monitor.p_values(self.new), thresholds]

    def both(self) -> list[Any]:
        """Two detectors side by side, each with scores and thresholds of its own."""
        monitor, found = self.fitted("both"), []
        for _ in range(2):
            for each in (monitor.score_each, monitor.decision_each, monitor.predict_each):
                found += each(self.new).values()
            monitor.calibrate(self.held_out)
        return [*found, monitor.p_values(self.new), list(monitor.offsets_.values())]

    def classes(self) -> list[Any]:
        """Rows that are held out within fit, and then a threshold for each class."""
        monitor = self.fitted(validation=0.1)
        scores = monitor.score_samples(self.new)
        monitor.calibrate(self.held_out, group_by="prediction")
        return [scores, monitor.p_values(self.new), monitor.decision_function(self.new)]

    def risk(self) -> list[Any]:
        monitor = self.fitted("misclassified")
        A = monitor[:-1].transform(self.held_out)
        labels = np.where(np.arange(len(A)) % 10, A.predictions, 1)
        detector = RiskControlledDetector(monitor["detect"], alpha=0.3).fit(A, labels)
        return [[detector.offset_, detector.coverage_], detector.predict(A)]

    def drift(self) -> list[Any]:
        monitor = self.fitted().calibrate(self.held_out)
        drift = DriftMonitor(monitor).update(Rows(self.n_samples, 6))
        return [drift.history_["p_value"], [drift.alarm_rate_]]

    def layers(self) -> list[Any]:
        detector = LayerEnsembleDetector(MahalanobisDetector(), combine="informed")
        monitor = Monitor([("extract", self.monitor()["extract"]), ("detect", detector)])
        return [monitor.fit(Rows(self.n_samples, 0)).score_samples(self.new), [monitor.offset_]]

    def patterns(self) -> list[Any]:
        """Patterns of all rows stay: a sixteenth of the layers each, of which a few are tried."""
        rows = Rows(self.n_samples // 5, 0)
        detector = AutoNAPDetector(percentiles=[50], group_by="prediction", random_state=0)
        A = self.monitor()["extract"].fit_transform(rows)
        detector.fit(A, np.where(np.arange(len(A)) % 5, A.predictions, -1))
        return [detector.score_samples(A), detector.taus_]

    def explanation(self) -> list[Any]:
        found = self.fitted().explain(Rows(3, 9), X_train=Rows(self.n_samples, 0))
        return [found.scores, found.neighbors, found.distances]


NAMES = ["default", "both", "classes", "risk", "drift", "layers", "patterns", "explanation"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"mib": 40, "layers": 2, "units": 384, "classes": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--held-out", type=int, default=80_000)
    parser.add_argument("--max-samples", type=int, default=10_000)
    parser.add_argument("--times", type=float, default=20)
    parser.add_argument("--what", choices=NAMES, default="default")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of a monitor that is not calibrated
    network = make_network(given.layers, given.units, given.classes)
    getattr(Task(network, 300, 301, given.max_samples), given.what)()  # imports what it needs

    row_bytes = 4 * (given.layers * given.units + given.classes)
    n_samples = int(given.times * given.mib * 2**20 / row_bytes)
    task = Task(network, n_samples, given.held_out, given.max_samples)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    found = []
    for allowed in (data_bytes() + given.mib * 2**20, before[0]):
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, before[1]))
        time.sleep(0.2)  # what is left is looked at ten times a second
        assert found or memory_left() <= given.mib * 2**20
        values = map(np.ravel, getattr(task, given.what)())
        found.append(np.concatenate([*values]).astype(np.float64))
        print(f"{n_samples} rows, {allowed=}", flush=True)
    # A score that is rounded may be on the other side of a calibration score or two.
    np.testing.assert_allclose(*found, rtol=1e-5, atol=max(1e-5, 3 / given.held_out))
    print(f"the same {len(found[0])} values")


if __name__ == "__main__":
    main()
