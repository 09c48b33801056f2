"""Nearest patterns by Hamming distance: skood against other libraries.

The detector's own search, from a private module of skood, is timed by itself too: the difference is
what the detector adds around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from experiments._common.timing import Timings
from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood._patterns import hamming_neighbors
from skood.activations import PackedBits

from .measure import Comparison, Line, Sizes

N_BITS = 512
N_FACTORS = 16

_MORE_TURNS = 5
"""Where a turn takes milliseconds."""

Groups = list[tuple[PackedBits, PackedBits]]
"""The stored patterns and the queries of each class."""


@dataclass(frozen=True)
class Method:
    """A way to find the distance from each query to the nearest stored pattern.

    What it reads is converted, and its index built, before time is taken.
    """

    name: str
    convert: Callable[[PackedBits], NDArray]
    build: Callable[[NDArray], Any]
    search: Callable[[Any, NDArray], NDArray]
    aim: str = ""
    is_slow: bool = False

    def task(self, groups: Groups) -> Callable[[], NDArray]:
        """The search for all queries, each among the patterns of its class."""
        ready = [(self.build(self.convert(s)), self.convert(q)) for s, q in groups]
        return lambda: np.concatenate([self.search(index, queries) for index, queries in ready])


def words(bits: PackedBits) -> NDArray[np.uint64]:
    return np.ascontiguousarray(bits.words)


def octets(bits: PackedBits) -> NDArray[np.uint8]:
    return words(bits).view(np.uint8)


def unchanged(stored: NDArray) -> NDArray:
    return stored


def build_faiss(stored: NDArray[np.uint8]) -> Any:
    import faiss

    index = faiss.IndexBinaryFlat(N_BITS)
    index.add(stored)
    return index


def build_brute_force(stored: NDArray[np.bool_]) -> NearestNeighbors:
    n_threads = torch.get_num_threads()
    index = NearestNeighbors(n_neighbors=1, metric="hamming", algorithm="brute", n_jobs=n_threads)
    return index.fit(stored)


def search_alone(stored: NDArray[np.uint64], queries: NDArray[np.uint64]) -> NDArray:
    return hamming_neighbors(queries, stored, 1)[0][:, 0]


def search_faiss(index: Any, queries: NDArray[np.uint8]) -> NDArray:
    return index.search(queries, 1)[0][:, 0]


def build_numkong(stored: NDArray[np.uint8]) -> Any:
    import numkong

    return numkong.hammings_pack(stored)


def search_numkong(index: Any, queries: NDArray[np.uint8]) -> NDArray:
    import numkong

    nearest = [
        np.asarray(numkong.hammings_packed(queries[rows], index)).min(axis=1)
        for rows in gen_batches(len(queries), max(1, 2**17 // index.width))
    ]
    return np.concatenate(nearest)


def search_brute_force(index: NearestNeighbors, queries: NDArray[np.bool_]) -> NDArray:
    return np.rint(index.kneighbors(queries)[0][:, 0] * N_BITS)


def search_numpy(stored: NDArray[np.uint64], queries: NDArray[np.uint64]) -> NDArray:
    nearest = [
        np.bitwise_count(queries[rows, np.newaxis] ^ stored)
        .sum(axis=2, dtype=np.uint16)
        .min(axis=1)
        for rows in gen_batches(len(queries), 16)
    ]
    return np.concatenate(nearest)


SKOOD = "`HammingNAPDetector.score_samples`"
ALONE = Method("skood's search without the detector", words, unchanged, search_alone)
FAISS = Method("faiss `IndexBinaryFlat`", octets, build_faiss, search_faiss, ">= 1")
BRUTE_FORCE = Method(
    "scikit-learn `NearestNeighbors`, brute force",
    PackedBits.unpack,
    build_brute_force,
    search_brute_force,
    ">= 15",
    is_slow=True,
)
NUMKONG = Method(
    "numkong `hammings_packed`, and minima", octets, build_numkong, search_numkong, ">= 1"
)
NUMPY = Method("NumPy `bitwise_count`", words, unchanged, search_numpy, is_slow=True)


def compare_search(n_classes: int, sizes: Sizes) -> Comparison:
    """Time every method on the same patterns, after comparing what they find."""
    stored = make_patterns(sizes.n_stored, n_classes, seed=1)
    queries = make_patterns(sizes.n_queries, n_classes, seed=2)
    missing = [
        method
        for method, package in ((FAISS, "faiss"), (NUMKONG, "numkong"))
        if find_spec(package) is None
    ]
    methods = [m for m in (ALONE, FAISS, NUMKONG, BRUTE_FORCE, NUMPY) if m not in missing]
    score = detector_task(stored, queries)
    nearest = np.ceil(-score())
    tasks: dict[str, Callable[[], NDArray]] = {SKOOD: score}
    for method in methods:
        n_queries = sizes.n_slow_queries if method.is_slow else sizes.n_queries
        tasks[method.name] = method.task(first_queries(stored, queries, n_queries))
        np.testing.assert_array_equal(tasks[method.name](), nearest[:n_queries])
    # Time of the processor, as ratios of milliseconds do not bear other work on the machine. What
    # takes seconds would leave the caches cold for what comes next.
    slow = {method.name for method in methods if method.is_slow}
    fast_tasks = {name: task for name, task in tasks.items() if name not in slow}
    slow_tasks = {name: task for name, task in tasks.items() if name in slow or name == SKOOD}
    fast = Timings(fast_tasks, _MORE_TURNS * sizes.repetitions, process_time)
    all_slow = Timings(slow_tasks, sizes.repetitions, process_time)
    lines = [Line(SKOOD, fast.seconds(SKOOD), 1.0)]
    title = f"Nearest patterns by Hamming distance, {_described(sizes, n_classes)}"
    for method in methods:
        timings = all_slow if method.is_slow else fast
        lines.append(to_line(method, timings, sizes, n_classes))
    lines += [Line(method.name, None, None, method.aim, "not installed") for method in missing]
    settings = f"{sizes.n_queries} queries among {sizes.n_stored} patterns of {N_BITS} bits, " + (
        f"{n_classes} classes, each searched alone." if n_classes > 1 else "one class."
    )
    return Comparison(title, settings, "times skood's", lines)


def first_queries(stored: list[PackedBits], queries: list[PackedBits], n_queries: int) -> Groups:
    """The first queries of all, class after class, each class with its stored patterns."""
    groups = []
    for patterns, bits in zip(stored, queries, strict=True):
        groups.append((patterns, bits[:n_queries]))
        n_queries -= len(bits[:n_queries])
        if n_queries == 0:
            break
    return groups


def to_line(method: Method, timings: Timings, sizes: Sizes, n_classes: int) -> Line:
    scale = sizes.n_queries / sizes.n_slow_queries if method.is_slow else 1.0
    return Line(
        method.name,
        scale * timings.seconds(method.name),
        scale * timings.ratio(method.name, SKOOD),
        method.aim,
        f"scaled up from {sizes.n_slow_queries} queries" if method.is_slow else "",
        f"HammingNAPDetector.score_samples, {_described(sizes, n_classes)}",
    )


def _described(sizes: Sizes, n_classes: int) -> str:
    n_stored = sizes.n_stored // n_classes
    return f"{n_classes} class{'es' * (n_classes > 1)} of {n_stored} patterns"


def detector_task(
    stored: list[PackedBits], queries: list[PackedBits]
) -> Callable[[], NDArray[np.floating]]:
    """Scoring by a detector that has stored the patterns of each class."""
    detector = HammingNAPDetector().fit(as_activations(stored))
    A = as_activations(queries)
    return lambda: detector.score_samples(A)


def as_activations(by_class: list[PackedBits]) -> Activations:
    classes = np.repeat(np.arange(len(by_class)), [len(bits) for bits in by_class])
    together = PackedBits(np.concatenate([bits.words for bits in by_class]), N_BITS)
    return Activations({"relu": together}, predictions=classes)


def make_patterns(n_samples: int, n_classes: int, seed: int) -> list[PackedBits]:
    """Patterns as a ReLU layer gives them, which differ between and within classes."""
    world, draw = np.random.default_rng(0), np.random.default_rng(seed)
    patterns = []
    for _ in range(n_classes):
        centre, loadings = world.normal(size=N_BITS), world.normal(size=(N_FACTORS, N_BITS))
        factors = draw.normal(size=(n_samples // n_classes, N_FACTORS)) / np.sqrt(N_FACTORS)
        noise = 0.3 * draw.normal(size=(len(factors), N_BITS))
        values = np.maximum(centre + factors @ loadings + noise, 0)
        patterns.append(PackedBits.pack(PercentileBinarizer(percentile=30).fit_transform(values)))
    return patterns
