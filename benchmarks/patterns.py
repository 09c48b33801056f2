"""What it costs to find the nearest of ever more stored patterns, in time and memory.

    python -m benchmarks.patterns 10000 200 20 9     # as a process of its own, for one number

Each number of patterns is measured in a process of its own, so that memory is what that number
takes; and times are those of the processor, which do not depend on what else a machine does.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit

from experiments._common.tables import Table
from experiments._common.timing import Timings, format_number, format_time
from skood import Activations, HammingNAPDetector
from skood.activations import PackedBits
from skood.detectors._base_incremental import forget_batches

from .measure import Sizes

N_BITS = 128
N_FACTORS = 16
N_HELD_OUT = 1_000
_AT_ONCE = 100_000

FLAT = "skood, in memory"
STORE = "skood, in a folder"
IVF = "skood, in a folder, index='ivf'"
HNSW = "skood, in a folder, index='hnsw'"
FAISS = "faiss IndexBinaryFlat"
NUMKONG = "numkong hammings_packed"
SKLEARN = "scikit-learn NearestNeighbors, brute force"

LARGEST = {HNSW: 10**5, SKLEARN: 10**6, NUMKONG: 10**6}
"""Above, to build it or to search takes minutes, or memory of ten times the others."""


@dataclass(frozen=True)
class Cost:
    """What one way of searching costs, among a number of patterns; in seconds and MiB.

    ``recall`` is the share of queries for which it finds a pattern as near as the nearest, among
    queries like the stored patterns and among random ones; ``excess`` how many bits farther what
    it finds is, on average over random queries.
    """

    n_patterns: int
    name: str
    build: float
    memory: float
    batch: float
    ratio: float
    recall: float
    recall_random: float
    excess_random: float


def make_patterns(n_samples: int, seed: int) -> NDArray[np.uint64]:
    """Signs of a few shared factors and some noise: patterns as units that fire together give."""
    world, draw = np.random.default_rng(0), np.random.default_rng(seed)
    loadings = world.normal(size=(N_FACTORS, N_BITS)).astype(np.float32) / np.sqrt(N_FACTORS)
    centre = world.normal(size=N_BITS).astype(np.float32)
    parts = []
    for start in range(0, n_samples, _AT_ONCE):
        n = min(_AT_ONCE, n_samples - start)
        factors = draw.standard_normal((n, N_FACTORS), dtype=np.float32)
        noise = draw.standard_normal((n, N_BITS), dtype=np.float32)
        parts.append(PackedBits.pack(centre + factors @ loadings + 0.3 * noise > 0).words)
    return np.concatenate(parts)


def resident() -> float:
    """Memory of this process that no file holds, in MiB; NaN where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    gc.collect()
    # What was freed would otherwise be taken for what is held, and the next for nothing.
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


Search = Callable[[NDArray[np.uint64]], NDArray]
"""Distance from each query to the nearest pattern."""


def detector(words: NDArray[np.uint64], **params: Any) -> Search:
    """A detector that stores the patterns; its threshold comes from a thousand others."""
    others = make_patterns(N_HELD_OUT, seed=4)
    A = Activations({"relu": PackedBits(np.concatenate([words, others]), N_BITS)})
    is_held_out = np.repeat([-1, 0], [len(words), N_HELD_OUT])
    fitted = HammingNAPDetector(validation=PredefinedSplit(is_held_out), **params).fit(A)
    forget_batches(fitted)  # as in a pipeline or an ensemble, where more do not come

    def search(queries: NDArray[np.uint64]) -> NDArray:
        scores = fitted.score_samples(Activations({"relu": PackedBits(queries, N_BITS)}))
        return np.ceil(-scores)

    return search


def faiss_flat(words: NDArray[np.uint64]) -> Search:
    import faiss

    index = faiss.IndexBinaryFlat(N_BITS)
    index.add(words.view(np.uint8))
    return lambda queries: index.search(queries.view(np.uint8), 1)[0][:, 0]


def numkong_packed(words: NDArray[np.uint64]) -> Search:
    """All distances, and their minima; of as many patterns at a time as a cache holds."""
    import numkong

    octets = words.view(np.uint8)
    tiles = [numkong.hammings_pack(octets[i : i + 4096]) for i in range(0, len(octets), 4096)]

    def search(queries: NDArray[np.uint64]) -> NDArray:
        asked = queries.view(np.uint8)
        nearest = np.full(len(asked), N_BITS, dtype=np.uint32)
        for tile in tiles:
            distances = np.asarray(numkong.hammings_packed(asked, tile))
            np.minimum(nearest, distances.min(axis=1), out=nearest)
        return nearest

    return search


def sklearn_brute(words: NDArray[np.uint64]) -> Search:
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1, metric="hamming", algorithm="brute")
    index.fit(PackedBits(words, N_BITS).unpack())

    def search(queries: NDArray[np.uint64]) -> NDArray:
        distances = index.kneighbors(PackedBits(queries, N_BITS).unpack())[0][:, 0]
        return np.rint(distances * N_BITS)

    return search


def ways(folder: str) -> dict[str, Callable[[NDArray[np.uint64]], Search]]:
    """How each way of searching is built; those that are not installed are left out."""
    built = {
        FLAT: detector,
        STORE: lambda words: detector(words, store=folder),
        IVF: lambda words: detector(words, store=folder, index="ivf"),
        HNSW: lambda words: detector(words, store=folder, index="hnsw"),
        FAISS: faiss_flat,
        NUMKONG: numkong_packed,
        SKLEARN: sklearn_brute,
    }
    missing = {package for package in ("faiss", "numkong") if find_spec(package) is None}
    needs = {IVF: "faiss", HNSW: "faiss", FAISS: "faiss", NUMKONG: "numkong"}
    return {name: build for name, build in built.items() if needs.get(name) not in missing}


def measure(n_patterns: int, n_queries: int, n_slow: int, repetitions: int) -> list[Cost]:
    """Costs of all ways among so many patterns, in this process."""
    words = make_patterns(n_patterns, seed=1)
    queries = make_patterns(n_queries, seed=2)
    random = np.random.default_rng(3).integers(0, 2**63, queries.shape, dtype=np.uint64)
    searches: dict[str, Search] = {}
    building, memory = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, build in ways(folder).items():
            if n_patterns <= LARGEST.get(name, n_patterns):
                before, start = resident(), process_time()
                searches[name] = build(words)
                building[name] = process_time() - start
                memory[name] = resident() - before
        n_asked = {name: n_slow if name == SKLEARN else n_queries for name in searches}
        tasks: dict[str, Callable[[], Any]] = {
            name: partial(search, queries[: n_asked[name]]) for name, search in searches.items()
        }
        timings = Timings(tasks, repetitions, process_time)
        exact = {id(asked): searches[FLAT](asked) for asked in (queries, random)}

        def misses(name: str, asked: NDArray) -> tuple[float, float]:
            """The share of exact distances, and the mean of how much larger they are."""
            n = n_asked[name]
            farther = searches[name](asked[:n]).astype(float) - exact[id(asked)][:n]
            return float((farther == 0).mean()), float(farther.mean())

        costs = []
        for name in searches:
            scale = n_queries / n_asked[name]
            seconds, ratio = timings.seconds(name), timings.ratio(name, FLAT)
            recall, (recall_random, excess) = misses(name, queries)[0], misses(name, random)
            costs.append(
                Cost(
                    n_patterns,
                    name,
                    building[name],
                    memory[name],
                    scale * seconds,
                    scale * ratio,
                    recall,
                    recall_random,
                    excess,
                )
            )
        searches.clear()
    return costs


def measure_apart(n_patterns: int, sizes: Sizes) -> list[Cost]:
    """The same in a process of its own."""
    # A few turns of what takes seconds.
    repetitions = max(1, sizes.repetitions // (3 if n_patterns >= 10**7 else 1))
    numbers = n_patterns, sizes.n_asked, sizes.n_asked // 10, repetitions
    command = [sys.executable, "-m", f"{__package__}.patterns", *map(str, numbers)]
    output = subprocess.check_output(command, text=True, cwd=Path(__file__).parents[1])
    return [Cost(**cost) for cost in json.loads(output.splitlines()[-1])]


def compare_sizes(sizes: Sizes) -> list[Cost]:
    """Costs of all ways for all numbers of patterns."""
    return [cost for n in sizes.n_patterns for cost in measure_apart(n, sizes)]


def tabulate(costs: list[Cost], sizes: Sizes) -> Table:
    """One row for each way and number of patterns."""
    header = [
        "Patterns",
        "Search",
        f"{sizes.n_asked} queries",
        "Times skood in memory",
        "Build",
        "MiB",
        "Recall",
        "Recall, random queries",
        "Bits too far, random queries",
    ]
    rows = [
        [
            f"{cost.n_patterns:,}",
            cost.name,
            format_time(cost.batch),
            format_number(cost.ratio, 2),
            format_time(cost.build),
            _shown(max(cost.memory, 0.0)),
            _shown(cost.recall),
            _shown(cost.recall_random),
            _shown(cost.excess_random),
        ]
        for cost in costs
    ]
    return Table(header, rows)


def _shown(value: float) -> str:
    return "-" if np.isnan(value) else format_number(value)


def draw(costs: list[Cost], folder: Path) -> None:
    """Time of a batch and memory against the number of patterns."""
    import matplotlib.pyplot as plt

    from experiments._common.figures import save_figures

    figure, (times, memories) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    names = dict.fromkeys(cost.name for cost in costs)
    styles = {FLAT: "o-", STORE: "s-", IVF: "^-", HNSW: "v-"}
    for name in names:
        own = [cost for cost in costs if cost.name == name]
        numbers = [cost.n_patterns for cost in own]
        style = styles.get(name, "x--")
        times.plot(numbers, [1e3 * cost.batch for cost in own], style, label=name)
        memories.plot(numbers, [max(cost.memory, 0.1) for cost in own], style)
    for axes, title in ((times, "ms for a batch of queries"), (memories, "MiB of memory")):
        axes.set(xscale="log", yscale="log", xlabel="stored patterns", title=title)
    figure.legend(loc="outside lower center", ncols=3)
    save_figures({"costs": figure}, folder)


if __name__ == "__main__":
    found = measure(*map(int, sys.argv[1:]))
    print(json.dumps([vars(cost) for cost in found]))
