"""The networks, what they give for in-distribution and OOD samples, and which are confirmation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from skood import Activations, make_monitor

from .._common.networks import predicted_classes
from ..od_test import sources
from ..od_test.activations import extract
from ..od_test.sources import CHOICE, SOURCES, Source
from ..tokens.training import KINDS, train
from .further import DATA, makers
from .tables import HELD_OUT, MIXED, TABLES, TableData, digits, outside_of, regression

CHOSEN, CONFIRMING = "choice", "confirmation"


class Sizes(NamedTuple):
    """How much is trained and tested."""

    images: sources.Sizes = sources.Sizes()
    n_outside: int = 500
    """Images of each OOD set, of those that are kept."""
    choice_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    fresh_seeds: tuple[int, ...] = (5, 6, 7, 8, 9)
    choice_seeds_tokens: tuple[int, ...] = (0, 1)
    fresh_seeds_tokens: tuple[int, ...] = (2, 3, 4)
    choice_seeds_further: tuple[int, ...] = (0, 1)
    fresh_seeds_further: tuple[int, ...] = (2, 3, 4)
    further_data: tuple[str, ...] = tuple(DATA)
    share: float = 1.0
    """Of the samples of the transformers and of the tables."""


QUICK = Sizes(
    images=sources.QUICK._replace(n_train=40, n_test=16, n_outside=6, n_network=300, epochs=2),
    choice_seeds=(0,),
    fresh_seeds=(5,),
    choice_seeds_tokens=(0,),
    fresh_seeds_tokens=(2,),
    choice_seeds_further=(0,),
    fresh_seeds_further=(),
    further_data=("digits",),
    share=0.15,
)


@dataclass(frozen=True)
class Samples:
    """What a network gives for all sets."""

    train: Activations
    test: Activations
    is_correct: NDArray[np.bool_] | None
    """Whether each test sample is classified right."""
    outside: dict[str, Activations]


@dataclass(frozen=True)
class Case:
    """A network: its kind, its data, and which of its sets the rule was chosen on."""

    kind: str
    seed: int
    family: str
    load: Callable[[], Samples]
    chosen_on: Callable[[str], bool]
    """Of the name of an OOD set."""
    near: tuple[str, ...]
    errors_chosen_on: bool
    has_head: bool = True
    data: str = ""
    """What a network of a further kind has learnt."""

    def part(self, name: str) -> str:
        return CHOSEN if self.chosen_on(name) else CONFIRMING


IMAGES, OF_TABLES, TOKENS = "images", "tables", "tokens"
FURTHER, NO_HEAD = "further kinds", "no head"
FAMILIES = (IMAGES, OF_TABLES, TOKENS, FURTHER, NO_HEAD)


def all_cases(sizes: Sizes, folder: Path, *, is_quick: bool) -> Iterator[Case]:
    """Slow networks first."""
    for source in reversed(SOURCES):
        found = _some_sets(source) if is_quick else source
        yield image_case(found, sizes, folder)
    for kind in KINDS:
        fresh_only = kind == "Swin"
        chosen = () if fresh_only else sizes.choice_seeds_tokens
        for seed in (*chosen, *sizes.fresh_seeds_tokens):
            yield token_case(kind, seed, sizes, is_chosen=seed in chosen)
    for kind, make in TABLES.items():
        for seed in (*sizes.choice_seeds, *sizes.fresh_seeds):
            is_chosen = seed in sizes.choice_seeds
            yield table_case(kind, make, seed, sizes.share, is_chosen=is_chosen)
    yield from _further_cases(sizes)
    no_head = {"digits perceptron, no head": digits, "regression perceptron": regression}
    for seed in sizes.fresh_seeds:
        for kind, make in no_head.items():
            yield table_case(kind, make, seed, sizes.share, is_chosen=False, strip=True)


def _further_cases(sizes: Sizes) -> Iterator[Case]:
    chosen = sizes.choice_seeds_further
    for data in sizes.further_data:
        for kind, make in makers(data).items():
            for seed in (*chosen, *sizes.fresh_seeds_further):
                case = table_case(kind, make, seed, sizes.share, is_chosen=seed in chosen)
                yield replace(case, family=FURTHER, data=data)


def _some_sets(source: Source) -> Source:
    """The same, with one near set and a far one."""
    kept = {source.near[0], "uniform noise"}
    left_out = set(source.outside) - kept
    return replace(source, unused=(*source.unused, *left_out))


def image_case(source: Source, sizes: Sizes, folder: Path) -> Case:
    return Case(
        source.title,
        0,
        IMAGES,
        partial(_load_images, source, sizes, folder),
        partial(_is_chosen_on, source),
        source.near,
        source.is_chosen_on,
    )


def _is_chosen_on(source: Source, name: str) -> bool:
    return source.is_chosen_on and name in CHOICE


def _load_images(source: Source, sizes: Sizes, folder: Path) -> Samples:
    seen = extract(source, sizes.images, folder)
    outside = {name: _means(A, sizes.n_outside) for name, A in seen.outside.items()}
    test = _means(seen.test, len(seen.test))
    is_correct = np.equal(predicted_classes(test), seen.y_test)
    return Samples(_means(seen.train, len(seen.train)), test, is_correct, outside)


def _means(A: Activations, n_samples: int) -> Activations:
    """The means of feature maps, as the default monitor reads them, in memory."""
    names = [str(c.name) for c in A.columns if c.role == "layer" and c.pooling != "max"]
    A = A[names][:n_samples]
    return A.replace({name: np.array(A[name]) for name in names})


def token_case(kind: str, seed: int, sizes: Sizes, *, is_chosen: bool) -> Case:
    near = ("mixtures",) if kind == "text" else ("held-out classes",)
    load = partial(_load_tokens, kind, seed, sizes)
    return Case(kind, seed, TOKENS, load, lambda name: is_chosen, near, is_chosen)


def _load_tokens(name: str, seed: int, sizes: Sizes) -> Samples:
    torch.manual_seed(seed)
    kind = KINDS[name]
    data = kind.make_data(seed, int(sizes.share * kind.n_train), int(sizes.share * 400))
    network = kind.make_network(data.n_classes)
    train(network, data, kind.epochs)
    return _extract(network, data.X_train, data.X_test, data.y_test, data.outside)


def _extract(network: Any, X: Any, X_test: Any, y_test: Any, outside: dict[str, Any]) -> Samples:
    extractor = make_monitor(network).named_steps["extract"].fit(X)
    test = extractor.transform(X_test)
    is_correct = None if test.predictions is None else test.predictions == y_test
    found = {name: extractor.transform(Z) for name, Z in outside.items()}
    return Samples(extractor.transform(X), test, is_correct, found)


def table_case(
    kind: str,
    make: Callable[[int], TableData],
    seed: int,
    share: float,
    *,
    is_chosen: bool,
    strip: bool = False,
) -> Case:
    return Case(
        kind,
        seed,
        NO_HEAD if strip else OF_TABLES,
        partial(_load_table, make, seed, share, strip=strip),
        lambda name: is_chosen,
        (HELD_OUT, MIXED),
        is_chosen,
        has_head=not strip,
    )


def _load_table(
    make: Callable[[int], TableData], seed: int, share: float, *, strip: bool
) -> Samples:
    data = _some_rows(make(seed), share)
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(data.is_known))
    learnt, tested = np.split(order, [int(0.6 * len(order))])
    X, X_test = data.X[learnt], data.X[tested]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network = data.learn(X, data.y[learnt])
    outside = outside_of(data, X, X_test, data.y[tested], rng)
    found = _extract(network, X, X_test, data.y[tested], outside)
    return _without_head(found) if strip else found


def _some_rows(data: TableData, share: float) -> TableData:
    """The first ones; the order of all is random, but for digits, where it is that of writers."""
    n_rows = int(share * len(data.X))
    return data._replace(X=data.X[:n_rows], y=data.y[:n_rows], is_known=data.is_known[:n_rows])


def _without_head(found: Samples) -> Samples:
    """Layers alone, as of a network of which nothing else is known."""
    outside = {name: Activations(dict(A.items())) for name, A in found.outside.items()}
    train, test = (Activations(dict(A.items())) for A in (found.train, found.test))
    return Samples(train, test, None, outside)
