"""Nearest patterns by Hamming distance: skood against other libraries.

Three things are compared. The search in the stores, from a private module of skood, with the bare
search of other libraries, whose queries are packed and grouped by class before time is taken. The
detector, which is given packed patterns, with the same. And the detector, given activations, with
what a user of faiss does by hand for the same distances: compare with 0, pack, group by class,
search, and put distances back into the order of the samples. What the detector checks before is
timed by itself, too.
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

from experiments._common.tables import Table
from experiments._common.timing import Timings, format_number, format_time
from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood._patterns import nearest_of_class
from skood._validation import check_activations
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
ALONE = "skood's search without the detector"
CHECKS = "the detector's checks of samples, layers and classes"
WHOLE = "`HammingNAPDetector.score_samples` of activations"
BY_HAND = "the same by hand, with NumPy and faiss"
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
    methods = [m for m in (FAISS, NUMKONG, BRUTE_FORCE, NUMPY) if m not in missing]
    detector = HammingNAPDetector().fit(as_activations(stored))
    tasks = detector_tasks(detector, queries)
    nearest = np.ceil(-tasks[SKOOD]())
    if FAISS in methods:
        tasks |= tasks_of_activations(detector, stored, queries)
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
    lines = [
        Line(SKOOD, fast.seconds(SKOOD), 1.0),
        *(to_line(name, SKOOD, fast, sizes, n_classes) for name in (ALONE, CHECKS)),
    ]
    title = f"Nearest patterns by Hamming distance, {_described(sizes, n_classes)}"
    for method in methods:
        timings = all_slow if method.is_slow else fast
        lines.append(to_line(method.name, SKOOD, timings, sizes, n_classes, method))
    if FAISS in methods:
        lines += [
            to_line(FAISS.name, ALONE, fast, sizes, n_classes, FAISS),
            to_line(BY_HAND, WHOLE, fast, sizes, n_classes, FAISS),
        ]
    lines += [Line(method.name, None, None, method.aim, "not installed") for method in missing]
    settings = f"{sizes.n_queries} queries among {sizes.n_stored} patterns of {N_BITS} bits, " + (
        f"{n_classes} classes, each searched alone." if n_classes > 1 else "one class."
    )
    return Comparison(title, settings, "times skood's", lines)


def compare_few(n_classes: int, n_stored: int, sizes: Sizes) -> list[list[str]]:
    """Time calls with few queries, where most of the time is the same for any number of them.

    A row of :func:`tabulate_few` for each number of queries.
    """
    stored = make_patterns(n_stored, n_classes, seed=1)
    detector = HammingNAPDetector().fit(as_activations(stored))
    rows = []
    for n_queries in sizes.n_few_queries:
        queries = some_queries(n_queries, n_classes)
        tasks = detector_tasks(detector, queries) | tasks_of_activations(detector, stored, queries)
        asked = [(s, q) for s, q in zip(stored, queries, strict=True) if len(q)]
        tasks[FAISS.name] = FAISS.task(asked)
        timings = Timings(tasks, sizes.n_calls, process_time)
        ratios = [
            timings.ratio(CHECKS, SKOOD),
            timings.ratio(ALONE, SKOOD),
            timings.ratio(FAISS.name, ALONE),
            timings.ratio(FAISS.name, SKOOD),
            timings.ratio(BY_HAND, WHOLE),
        ]
        about = [f"{n_queries}", f"{n_classes} x {n_stored // n_classes}"]
        times = [format_time(timings.seconds(SKOOD))]
        rows.append([*about, *times, *(format_number(ratio, 2) for ratio in ratios)])
    return rows


def tabulate_few(sizes: Sizes) -> Table:
    """What a call with few queries costs, and how it divides."""
    header = [
        "Queries",
        "Classes x patterns",
        "`score_samples`",
        "Share of the checks",
        "Share of the search",
        "faiss alone, times the search",
        "faiss alone, times `score_samples`",
        "By hand, times `score_samples` of activations",
    ]
    small, large = sizes.n_stored // 50, sizes.n_stored
    cases = ((1, small), (10, small), (10, large), (100, large))
    return Table(header, [row for case in cases for row in compare_few(*case, sizes)])


def some_queries(n_queries: int, n_classes: int) -> list[PackedBits]:
    """So many patterns of random classes, class by class; some classes may have none."""
    drawn = np.random.default_rng(0).integers(n_classes, size=n_queries)
    n_of_class = np.bincount(drawn, minlength=n_classes)
    queries = make_patterns(int(n_of_class.max()) * n_classes, n_classes, seed=2)
    return [bits[:n] for bits, n in zip(queries, n_of_class, strict=True)]


def first_queries(stored: list[PackedBits], queries: list[PackedBits], n_queries: int) -> Groups:
    """The first queries of all, class after class, each class with its stored patterns."""
    groups = []
    for patterns, bits in zip(stored, queries, strict=True):
        groups.append((patterns, bits[:n_queries]))
        n_queries -= len(bits[:n_queries])
        if n_queries == 0:
            break
    return groups


def to_line(
    name: str,
    reference: str,
    timings: Timings,
    sizes: Sizes,
    n_classes: int,
    method: Method | None = None,
) -> Line:
    is_slow = method is not None and method.is_slow
    scale = sizes.n_queries / sizes.n_slow_queries if is_slow else 1.0
    return Line(
        name,
        scale * timings.seconds(name),
        scale * timings.ratio(name, reference),
        method.aim if method is not None else "",
        f"scaled up from {sizes.n_slow_queries} queries" if is_slow else "",
        f"{reference.replace('`', '')}, {_described(sizes, n_classes)}",
    )


def _described(sizes: Sizes, n_classes: int) -> str:
    n_stored = sizes.n_stored // n_classes
    return f"{n_classes} class{'es' * (n_classes > 1)} of {n_stored} patterns"


def detector_tasks(
    detector: HammingNAPDetector, queries: list[PackedBits]
) -> dict[str, Callable[[], Any]]:
    """Scoring packed patterns by a detector, its search by itself, and its checks."""
    A = as_activations(queries)
    bits, classes, stores = A["relu"], np.asarray(A.predictions), detector.stores_
    return {
        SKOOD: lambda: detector.score_samples(A),
        ALONE: lambda: nearest_of_class(stores, bits, classes)[0],
        CHECKS: lambda: check_activations(detector, A, reset=False),
    }


def tasks_of_activations(
    detector: HammingNAPDetector, stored: list[PackedBits], queries: list[PackedBits]
) -> dict[str, Callable[[], NDArray]]:
    """Distances of activations, in an order that knows no class, by the detector and by hand."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(len(queries)), [len(bits) for bits in queries])
    order = rng.permutation(len(classes))
    patterns = np.concatenate([bits.unpack() for bits in queries])[order]
    values, classes = patterns * rng.random(patterns.shape, dtype=np.float32), classes[order]
    A = Activations({"relu": values}, predictions=classes)
    indices = [build_faiss(octets(bits)) for bits in stored]

    def by_hand() -> NDArray:
        packed = np.packbits(values > 0, axis=1)
        distances = np.empty(len(packed), dtype=np.int32)
        for label, index in enumerate(indices):
            rows = np.flatnonzero(classes == label)
            if len(rows):
                distances[rows] = search_faiss(index, packed[rows])
        return distances

    np.testing.assert_array_equal(by_hand(), np.ceil(-detector.score_samples(A)))
    return {WHOLE: lambda: detector.score_samples(A), BY_HAND: by_hand}


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
