"""False alarms of streams in which nothing changes, and delays after a change."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .rivals import RIVALS
from .streams import NULLS, continuous, ring, ring_by_scores, watch

ALPHAS = (0.01, 0.05, 0.2)
ALPHA = 0.01
"""Of the delays, and of the comparison with other p-values."""


@dataclass(frozen=True)
class Sizes:
    n_calibration: tuple[int, ...] = (100, 500, 2000)
    n_streams: int = 1000
    n_rows: int = 10_000
    n_changed: int = 200
    """Streams for each change."""
    before: tuple[int, ...] = (0, 1000)
    after: int = 2000


QUICK = Sizes(n_streams=10, n_rows=200, n_changed=5, before=(0, 1000), after=100)

Change = Callable[[NDArray, Generator], NDArray]

CHANGES: dict[str, Change] = {
    "mean lower by 0.5": lambda z, rng: z - 0.5,
    "mean lower by 1": lambda z, rng: z - 1,
    "mean lower by 2": lambda z, rng: z - 2,
    "mean higher by 1": lambda z, rng: z + 1,
    "spread doubled": lambda z, rng: 2 * z,
    "spread halved": lambda z, rng: z / 2,
    "a tenth lower by 4": lambda z, rng: np.where(rng.random(z.shape) < 0.1, z - 4, z),
    "half lower by 4": lambda z, rng: np.where(rng.random(z.shape) < 0.5, z - 4, z),
}
"""Of scores that are normal with mean 0 and spread 1 before."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class FalseAlarms:
    scores: str
    n_calibration: int
    share: dict[tuple[float, str], float]
    """Of the streams that rang, by alpha and watch."""
    fixed: float
    """By the same bets on p-values against the calibration rows alone."""


def count_false_alarms(sizes: Sizes, report: Report) -> list[FalseAlarms]:
    found = []
    for n in sizes.n_calibration:
        for seed, (name, draw) in enumerate(NULLS.items()):
            rng = np.random.default_rng([n, seed])
            calibration = draw(rng, (sizes.n_streams, n))
            streams = watch(calibration, draw(rng, (sizes.n_streams, sizes.n_rows)), seed)
            share = {
                (alpha, cause): float(np.mean(times > 0))
                for alpha in ALPHAS
                for cause, times in ring(streams, alpha).items()
            }
            fixed = np.mean(ring_by_scores(streams.fixed_p_values, ALPHA / 2) > 0)
            found.append(FalseAlarms(name, n, share, float(fixed)))
            report(f"{name}, n={n}: {found[-1]}")
    return found


@dataclass(frozen=True)
class Delay:
    change: str
    n_calibration: int
    before: int
    times: dict[str, NDArray]
    """Rows after the change, of each stream that rang; infinite where none did."""


def measure_delays(sizes: Sizes, report: Report) -> list[Delay]:
    found = []
    for n in sizes.n_calibration:
        for before in sizes.before:
            for seed, name in enumerate(CHANGES):
                times = _delays(name, n, before, sizes, seed)
                found.append(Delay(name, n, before, times))
                medians = {key: float(np.median(value)) for key, value in times.items()}
                report(f"{name}, n={n}, after {before}: {medians}")
    return found


def _delays(name: str, n: int, before: int, sizes: Sizes, seed: int) -> dict[str, NDArray]:
    rng = np.random.default_rng([n, before, seed])
    calibration = continuous(rng, (sizes.n_changed, n))
    scores = continuous(rng, (sizes.n_changed, before + sizes.after))
    scores[:, before:] = CHANGES[name](scores[:, before:], rng)
    streams = watch(calibration, scores, seed)
    times = ring(streams, ALPHA)
    for rival, ring_by in RIVALS.items():
        times[rival] = ring_by(streams.p_values, ALPHA / 2)
    # A false alarm before the change is none of it.
    return {key: np.where(time > before, time - before, np.inf) for key, time in times.items()}


def start_report() -> Report:
    start = time.perf_counter()
    return lambda done: print(f"{time.perf_counter() - start:.0f} s: {done}", flush=True)
