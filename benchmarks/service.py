"""A monitor behind HTTP, as its clients see it: latency, throughput, and no wrong score."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from experiments._common.tables import Table
from experiments._common.timing import format_number
from skood import Monitor, make_monitor
from skood.calibration import UncalibratedWarning

from .families import perceptron
from .measure import Comparison, Line, Sizes
from .network import make_images, vgg

NETWORKS = {"perceptron": "make_perceptron", "VGG": "make_vgg"}
HEADERS = {"Content-Type": "application/octet-stream"}
DIRECT = "monitor.predict"
PERCENTILES = (50, 90, 99)
HEADER = [
    "Network",
    "Processes",
    "Clients",
    "Requests per second",
    *(f"{percentile} % within, ms" for percentile in PERCENTILES),
    "Refused as too many",
]


class Load(NamedTuple):
    """What clients have seen of a service."""

    network: str
    n_processes: int
    n_clients: int
    seconds: NDArray[np.float64]
    """Of each request that was answered by scores."""
    n_refused: int
    duration: float
    direct: float
    """Seconds of the same without a service."""

    @property
    def name(self) -> str:
        return f"{self.network}, {self.n_processes} processes, {self.n_clients} clients"

    def to_row(self) -> list[str]:
        """The row of the table."""
        times = np.percentile(self.seconds, PERCENTILES) * 1000
        rate = len(self.seconds) / self.duration
        counts = (str(self.n_processes), str(self.n_clients), f"{rate:.0f}")
        return [self.network, *counts, *map(format_number, times), str(self.n_refused)]

    def to_line(self) -> Line:
        """The line of the comparison."""
        median = float(np.median(self.seconds))
        last = np.percentile(self.seconds, PERCENTILES[-1]) * 1000
        rate = f"{len(self.seconds) / self.duration:.0f} requests per second"
        note = f"{rate}, 99 % in {format_number(last)} ms"
        return Line(self.name, median, median / self.direct, "", note, DIRECT)


def make_perceptron() -> nn.Module:
    """What the service calls to make the network, before its weights are read."""
    return perceptron().eval()


def make_vgg() -> nn.Module:
    """The VGG of nine layers."""
    return vgg()


def compare_service(sizes: Sizes) -> tuple[Comparison, Table]:
    """Requests of one row to a service on the same machine, beside direct calls."""
    loads = [load for name in NETWORKS for load in measure(name, sizes)]
    settings = (
        f"Requests of one row over the loopback for {sizes.n_seconds:g} s, by clients that ask "
        "again as soon as they have an answer, on the machine that serves; every score is compared "
        f"with that of a direct call. {torch.get_num_threads()} threads in each process."
    )
    lines = [load.to_line() for load in loads]
    return (
        Comparison("A service", settings, "over a direct call", lines),
        Table(HEADER, [load.to_row() for load in loads]),
    )


def measure(name: str, sizes: Sizes) -> Iterator[Load]:
    """The loads of one network."""
    make: Callable[[], nn.Module] = globals()[NETWORKS[name]]
    rows = inputs_of(name, 600)
    monitor = fitted(make(), rows)
    asked = rows[400:432]
    expected = np.array([monitor.score_samples(row[np.newaxis])[0] for row in asked])
    direct = time_direct(monitor, asked)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "monitor"
        monitor.save(folder)
        for n_processes, numbers in sizes.loads:
            with serving(folder, NETWORKS[name], n_processes) as port:
                for n_clients in numbers:
                    seen = ask_all(port, asked, expected, n_clients, sizes.n_seconds)
                    yield Load(name, n_processes, n_clients, *seen, direct)


def inputs_of(name: str, n_rows: int) -> NDArray[np.float32]:
    if name == "VGG":
        return make_images(n_rows)
    return np.random.default_rng(0).random((n_rows, 3, 4, 4), np.float32)


def fitted(network: nn.Module, rows: NDArray[np.float32]) -> Monitor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncalibratedWarning)  # it is calibrated at once
        return make_monitor(network).fit(rows[:200]).calibrate(rows[200:400])


def time_direct(monitor: Monitor, rows: NDArray[np.float32]) -> float:
    """Median time of a verdict alone."""
    times = []
    for row in rows:
        start = time.perf_counter()
        monitor.predict(row[np.newaxis])
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@contextmanager
def serving(folder: Path, network: str, n_processes: int) -> Iterator[int]:
    """The port of a service, all of whose processes are there."""
    options = ["--network", f"{__name__}:{network}", "--workers", str(n_processes), "--port", "0"]
    log = folder.parent / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "skood.serving", str(folder), *options],
            stdout=output,
            stderr=output,
            env={key: value for key, value in os.environ.items() if key != "SKOOD_TOKEN"},
        )
        try:
            yield wait_for(process, log, n_processes)
        finally:
            process.terminate()
            process.wait(60)


def wait_for(process: subprocess.Popen[bytes], log: Path, n_processes: int) -> int:
    """The port, once as many processes have answered."""
    known: set[int] = set()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text()):
            port = int(found[1])
            known |= answering(port)
            if len(known) == n_processes:
                return port
        time.sleep(0.05)
    raise RuntimeError(f"the service has not started: {log.read_text()}")


def answering(port: int) -> set[int]:
    """The process that answers a new connection, if one does."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/health")
        return {json.loads(connection.getresponse().read())["process"]["id"]}
    except ConnectionError:
        return set()
    finally:
        connection.close()


def ask_all(
    port: int,
    rows: NDArray[np.float32],
    expected: NDArray[np.float64],
    n_clients: int,
    seconds: float,
) -> tuple[NDArray[np.float64], int, float]:
    """Times of the answers to all clients, how many were refused, and how long it took."""
    start = time.monotonic()
    task = partial(ask, port, rows, expected, start + seconds)
    with ThreadPoolExecutor(n_clients) as clients:
        outcomes = list(clients.map(task, range(n_clients)))
    times = np.concatenate([np.array(times) for times, _ in outcomes])
    return times, sum(refused for _, refused in outcomes), time.monotonic() - start


def ask(
    port: int,
    rows: NDArray[np.float32],
    expected: NDArray[np.float64],
    until: float,
    seed: int,
) -> tuple[list[float], int]:
    """Ask for one row after the other, in a random order; a wrong score is an error."""
    rng, n_refused = np.random.default_rng(seed), 0
    times: list[float] = []
    bodies = [to_npy(row[np.newaxis]) for row in rows]
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    while time.monotonic() < until or not times:
        number = int(rng.integers(len(rows)))
        start = time.perf_counter()
        connection.request("POST", "/predict", bodies[number], HEADERS)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status == 503:
            n_refused += 1
            continue
        times.append(time.perf_counter() - start)
        score = json.loads(content)["predictions"][0]["score"]
        if not np.isclose(score, expected[number], rtol=1e-4):
            raise ValueError(f"the service says {score}, a direct call {expected[number]}")
    connection.close()
    return times, n_refused


def to_npy(array: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
