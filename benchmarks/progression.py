"""Groups of nearest patterns through the layers, beside one search by faiss."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from experiments._common.timing import Timings
from skood import Activations, GroupProgressionDetector, PercentileBinarizer

from .measure import Line, Sizes, Table

N_LAYERS, N_UNITS, N_CLASSES = 5, 256, 10
PROGRESSION = "`GroupProgressionDetector.progression`"


def compare_progression(sizes: Sizes) -> Table:
    """Time ``progression`` and one flat search, for all neighbours of a group and for one."""
    stored, queries = (make_patterns(sizes.n_progressions, seed) for seed in (1, 2))
    detector = GroupProgressionDetector(n_neighbors=sizes.n_neighbors).fit(stored)
    tasks = {PROGRESSION: lambda: detector.progression(queries)}
    if find_spec("faiss") is None:
        timings = Timings(tasks, sizes.repetitions)
        lines = [Line(PROGRESSION, timings.seconds(PROGRESSION), None, "", "faiss not installed")]
    else:
        last = stored.layer_names[-1]
        searches = {f"faiss `IndexBinaryFlat`, k = {k}": k for k in (sizes.n_neighbors, 1)}
        for name, k in searches.items():
            tasks[name] = flat_search(stored[last], queries[last], k)
        timings = Timings(tasks, sizes.repetitions)
        one = next(iter(searches))
        aims = {PROGRESSION: "<= 30"}
        lines = [
            Line(name, timings.seconds(name), timings.ratio(name, one), aims.get(name, ""))
            for name in tasks
        ]
    settings = (
        f"{sizes.n_progressions} samples among as many, {N_LAYERS} layers of {N_UNITS} units, "
        f"groups of {sizes.n_neighbors}."
    )
    return Table("Groups through the layers", settings, "times one search", lines)


def flat_search(stored, queries, n_neighbors):
    """Search by an index that is built beforehand."""
    import faiss

    index = faiss.IndexBinaryFlat(N_UNITS)
    index.add(stored.words.view(np.uint8))
    octets = queries.words.view(np.uint8)
    return lambda: index.search(octets, n_neighbors)


def make_patterns(n_samples: int, seed: int) -> Activations:
    """Patterns of samples of ten classes."""
    world, draw = np.random.default_rng(0), np.random.default_rng(seed)
    classes = draw.integers(N_CLASSES, size=n_samples)
    layers = {}
    for number in range(N_LAYERS):
        centers = world.normal(size=(N_CLASSES, N_UNITS))
        layers[f"relu{number}"] = centers[classes] + draw.normal(size=(n_samples, N_UNITS))
    A = Activations(layers, predictions=classes)
    return PercentileBinarizer(50, rule="rank").fit_transform(A)
