"""Groups of nearest patterns through the layers, beside one search by faiss."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments._common.timing import Timings
from skood import Activations, GroupProgressionDetector, PercentileBinarizer
from skood.activations import PackedBits

from .measure import Comparison, Line, Sizes

N_LAYERS, N_UNITS, N_CLASSES = 5, 256, 10
PROGRESSION = "`GroupProgressionDetector.progression`"


def compare_progression(sizes: Sizes) -> Comparison:
    """Time ``progression`` and one flat search, for all neighbours of a group and for one."""
    stored, queries = (make_patterns(sizes.n_progressions, seed) for seed in (1, 2))
    detector = GroupProgressionDetector(n_neighbors=sizes.n_neighbors).fit(stored)
    tasks: dict[str, Callable[[], Any]] = {PROGRESSION: lambda: detector.progression(queries)}
    if find_spec("faiss") is None:
        timings = Timings(tasks, sizes.repetitions)
        lines = [Line(PROGRESSION, timings.seconds(PROGRESSION), None, "", "faiss not installed")]
    else:
        searches = {f"faiss `IndexBinaryFlat`, k = {k}": k for k in (sizes.n_neighbors, 1)}
        for name, k in searches.items():
            tasks[name] = flat_search(patterns_of(stored), patterns_of(queries), k)
        timings = Timings(tasks, sizes.repetitions)
        lines = [
            Line(
                PROGRESSION,
                timings.seconds(PROGRESSION),
                timings.ratio(PROGRESSION, name),
                "<= 30" if k == sizes.n_neighbors else "",
                reference=f"faiss, one layer, groups of {k}"
                if k > 1
                else "faiss, the nearest alone",
            )
            for name, k in searches.items()
        ]
        lines += [Line(name, timings.seconds(name), 1.0) for name in searches]
    settings = (
        f"{sizes.n_progressions} samples among as many, {N_LAYERS} layers of {N_UNITS} units, "
        f"groups of {sizes.n_neighbors}."
    )
    return Comparison("Groups through the layers", settings, "times the search", lines)


def flat_search(
    stored: PackedBits, queries: PackedBits, n_neighbors: int
) -> Callable[[], tuple[NDArray, NDArray]]:
    """Search by an index that is built beforehand."""
    import faiss

    index = faiss.IndexBinaryFlat(N_UNITS)
    index.add(stored.words.view(np.uint8))
    octets = queries.words.view(np.uint8)
    return lambda: index.search(octets, n_neighbors)


def patterns_of(A: Activations) -> PackedBits:
    """Those of the last layer."""
    patterns = A[A.layer_names[-1]]
    assert isinstance(patterns, PackedBits)
    return patterns


def make_patterns(n_samples: int, seed: int) -> Activations:
    """Patterns of samples of ten classes."""
    world, draw = np.random.default_rng(0), np.random.default_rng(seed)
    classes = draw.integers(N_CLASSES, size=n_samples)
    layers = {}
    for number in range(N_LAYERS):
        centers = world.normal(size=(N_CLASSES, N_UNITS))
        layers[f"relu{number}"] = centers[classes] + draw.normal(size=(n_samples, N_UNITS))
    A = Activations(layers, predictions=classes)
    return PercentileBinarizer(percentile=50, rule="rank").fit_transform(A)
