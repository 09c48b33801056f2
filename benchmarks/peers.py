"""The methods of other libraries on the same features: skood against pytorch-ood and oodeel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from experiments._common.tables import Table
from experiments._common.timing import Timings

from . import pairs
from .libraries import (
    OODEEL_BATCH,
    Contestant,
    Oodeel,
    PytorchOOD,
    Samples,
    Skood,
    import_oodeel,
    import_pytorch_ood,
)
from .measure import Comparison, Line, Sizes
from .pairs import LOGITS, Pair

SKOOD, PYTORCH_OOD, OODEEL = "skood", "pytorch-ood", "oodeel"
DOUBLE = "pytorch-ood in double precision"
SCORE, FIT = "score", "fit"


@dataclass(frozen=True)
class Method:
    """A method of skood and of pytorch-ood, and how oodeel constructs its own, if it has one.

    ``rule_differs`` names libraries whose scores are not only skood's on another scale. Where
    nothing is learnt, ``fit`` is not timed.
    """

    name: str
    pair: Pair
    oodeel: Callable[[Any], Any] | None = None
    rule_differs: tuple[str, ...] = ()
    learns: bool = True
    is_slow: bool = False


def make_methods(n_units: int) -> list[Method]:
    """All of them, for features of as many units."""
    differs = (OODEEL,)
    return [
        Method("MSP", pairs.max_softmax(), learns=False),
        Method("MaxLogit", pairs.max_logit(), lambda library: library.MLS(), learns=False),
        Method("energy", pairs.energy(), lambda library: library.Energy(), learns=False),
        Method("entropy", pairs.entropy(), lambda library: library.Entropy(), learns=False),
        Method("GEN", pairs.gen(), lambda library: library.GEN(), learns=False),
        Method("KL matching", pairs.kl_matching()),
        Method("OpenMax", pairs.open_max(), is_slow=True),
        Method(
            "Mahalanobis",
            pairs.mahalanobis(),
            lambda library: library.Mahalanobis(eps=0),
            is_slow=True,
        ),
        Method(
            "relative Mahalanobis",
            pairs.relative_mahalanobis(),
            lambda library: library.RMDS(eps=0),
            is_slow=True,
        ),
        Method("KNN", pairs.knn(), lambda library: library.DKNN(nearest=50)),
        Method("ViM", pairs.vim(n_units // 2)),
        Method("SHE", pairs.she(), lambda library: library.SHE(eps=0), rule_differs=differs),
        Method("GradNorm", pairs.grad_norm(), learns=False, is_slow=True),
        Method("NNGuide", pairs.nn_guide()),
        Method("fDBD", pairs.fdbd()),
        Method(
            "ReAct and energy",
            pairs.react(),
            lambda library: library.Energy(use_react=True, react_quantile=0.9),
        ),
        Method("ASH-p and energy", pairs.ash("p"), learns=False),
        Method("ASH-b and energy", pairs.ash("b"), learns=False),
        Method(
            "ASH-s and energy",
            pairs.ash("s"),
            lambda library: library.Energy(use_ash=True),
            rule_differs=differs,
            learns=False,
        ),
        Method(
            "SCALE and energy",
            pairs.scale(),
            lambda library: library.Energy(use_scale=True),
            rule_differs=differs,
            learns=False,
        ),
        Method("DICE and energy", pairs.dice(), is_slow=True),
    ]


@dataclass(frozen=True)
class Timed:
    """What one library takes for one method: to score, or to fit and score the training samples."""

    method: str
    what: str
    library: str
    seconds: float
    ratio: float
    note: str

    def to_line(self) -> Line:
        aim = "" if self.library == SKOOD else ">= 1"
        return Line(f"{self.method}, {self.library}", self.seconds, self.ratio, aim, self.note)


def compare_methods(sizes: Sizes) -> tuple[list[Comparison], Table]:
    """Time every method of every library, after comparing its scores."""
    samples = Samples.draw(sizes.n_scored, sizes.n_units, sizes.n_classes)
    libraries = {PYTORCH_OOD: import_pytorch_ood(), OODEEL: import_oodeel()}
    timed: list[Timed] = []
    for method in make_methods(sizes.n_units):
        part = samples.first(len(samples.new) // 10) if method.is_slow else samples
        contestants = find_contestants(method, part, libraries)
        notes = compare_scores(method, contestants)
        repetitions = min(2 if method.is_slow else 5, sizes.repetitions)
        tasks = {name: contestant.score for name, contestant in contestants.items()}
        timed += collect(method, SCORE, Timings(tasks, repetitions), notes)
        if method.learns:
            tasks = {name: contestant.fit for name, contestant in contestants.items()}
            timed += collect(method, FIT, Timings(tasks, repetitions), notes)
    missing = [name for name, library in libraries.items() if library is None]
    settings = (
        f"{sizes.n_scored} samples, {sizes.n_units} units, {sizes.n_classes} classes, of which all "
        "libraries get features and logits in single precision. skood scores in double precision. "
        "pytorch-ood computes the logits anew where it reads features; oodeel does so always, "
        f"in batches of {OODEEL_BATCH}. Where another library is slow, a tenth is scored."
    )
    comparisons = [
        Comparison(
            f"Methods: {what}",
            settings,
            "times skood's",
            [
                *(one.to_line() for one in timed if one.what == what),
                *(Line(name, None, None, note="not installed") for name in missing),
            ],
        )
        for what in (SCORE, FIT)
    ]
    return comparisons, tabulate_methods(timed)


def tabulate_methods(timed: Sequence[Timed]) -> Table:
    """Times of the other libraries as multiples of skood's, a line for each method."""
    ratios = {(one.method, one.what, one.library): one.ratio for one in timed}
    columns = [(SCORE, PYTORCH_OOD), (SCORE, DOUBLE), (SCORE, OODEEL)]
    columns += [(FIT, PYTORCH_OOD), (FIT, DOUBLE), (FIT, OODEEL)]
    rows = [
        [method, *(format_ratio(ratios.get((method, *column))) for column in columns)]
        for method in dict.fromkeys(one.method for one in timed)
    ]
    return Table(["Method", *(f"{what}, {library}" for what, library in columns)], rows)


def format_ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}"


def find_contestants(
    method: Method, samples: Samples, libraries: dict[str, Any]
) -> dict[str, Contestant]:
    """The method in each library that is installed and has it, fitted."""
    pair = method.pair
    contestants: dict[str, Contestant] = {SKOOD: Skood(pair.estimator, samples)}
    if (library := libraries[PYTORCH_OOD]) is not None:
        contestants[PYTORCH_OOD] = PytorchOOD(library, pair, samples)
        if pair.reads == LOGITS and not method.is_slow:
            contestants[DOUBLE] = PytorchOOD(library, pair, samples, torch.float64)
    if (library := libraries[OODEEL]) is not None and method.oodeel is not None:
        contestants[OODEEL] = Oodeel(partial(method.oodeel, library), samples)
    for contestant in contestants.values():
        contestant.fit()
    return contestants


def compare_scores(method: Method, contestants: dict[str, Contestant]) -> dict[str, str]:
    """Check that libraries with the same rule rank alike; a note on each that has another one."""
    scores = {name: contestant.score() for name, contestant in contestants.items()}
    assert np.isfinite(scores[SKOOD]).all()
    notes = {}
    for name in scores.keys() - {SKOOD}:
        correlation = spearmanr(scores[SKOOD], scores[name]).statistic
        if name in method.rule_differs:
            notes[name] = f"another rule; rank correlation {correlation:.3f}"
        else:
            assert correlation > 0.999, (method.name, name, correlation)
    return notes


def collect(method: Method, what: str, timings: Timings, notes: dict[str, str]) -> list[Timed]:
    return [
        Timed(
            method.name,
            what,
            name,
            timings.seconds(name),
            timings.ratio(name, SKOOD),
            notes.get(name, ""),
        )
        for name in timings.names
    ]
