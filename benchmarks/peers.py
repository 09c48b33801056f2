"""The same methods of several libraries on the same features, in double and in single precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from experiments._common.tables import Table
from experiments._common.timing import Timings, format_number

from .libraries import (
    OODEEL_BATCH,
    Contestant,
    InSinglePrecision,
    Oodeel,
    Plain,
    PytorchOOD,
    Samples,
    Skood,
    import_oodeel,
    import_pytorch_ood,
)
from .measure import Comparison, Line, Sizes
from .methods import OODEEL, PYOD, SKLEARN, Method, make_methods
from .pairs import LOGITS

SKOOD, PYTORCH_OOD = "skood", "pytorch-ood"
SINGLE = "skood in single precision"
DOUBLE = "pytorch-ood in double precision"
BOTH_SINGLE = "pytorch-ood, both in single precision"
PEERS = (PYTORCH_OOD, DOUBLE, BOTH_SINGLE, OODEEL, PYOD, SKLEARN)
SCORE, FIT = "score", "fit"


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
        is_ours = self.library in (SKOOD, SINGLE)
        reference = "" if self.library == SKOOD else SKOOD
        if self.library == BOTH_SINGLE:
            reference = SINGLE
        return Line(
            f"{self.method}, {self.library}",
            self.seconds,
            self.ratio,
            "" if is_ours else ">= 1",
            self.note,
            reference,
        )


def compare_methods(sizes: Sizes) -> tuple[list[Comparison], dict[str, Table]]:
    """Time every method of every library, after comparing its scores."""
    samples = Samples.draw(sizes.n_scored, sizes.n_units, sizes.n_classes)
    libraries = {PYTORCH_OOD: import_pytorch_ood(), OODEEL: import_oodeel()}
    timed: list[Timed] = []
    for method in make_methods(sizes.n_units):
        timed += time_method(method, samples, libraries, sizes)
    missing = [name for name, library in libraries.items() if library is None]
    settings = (
        f"{sizes.n_scored} samples, {sizes.n_units} units, {sizes.n_classes} classes, of which all "
        "libraries get features and logits in single precision. skood scores in double precision "
        "where nothing else is said. pytorch-ood computes the logits anew where it reads features; "
        f"oodeel does so always, in batches of {OODEEL_BATCH}. Where another library is slow, a "
        f"tenth is scored. Time of the process, with {torch.get_num_threads()} threads."
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
    return comparisons, {what: tabulate_methods(timed, what) for what in (SCORE, FIT)}


def time_method(
    method: Method, samples: Samples, libraries: dict[str, Any], sizes: Sizes
) -> list[Timed]:
    """What each library takes to score, and to learn where the method learns."""
    part = samples.first(len(samples.new) // 10) if method.is_slow else samples
    part = part.of_one_class() if method.one_class else part
    contestants = find_contestants(method, part, libraries)
    notes = compare_scores(method, contestants)
    repetitions = 1 if method.is_slow else sizes.repetitions
    tasks = {name: contestant.score for name, contestant in contestants.items()}
    # A few milliseconds are soon measured many times.
    n_turns = min(5 * repetitions, count_turns(tasks))
    timed = collect(method, SCORE, Timings(tasks, n_turns, process_time), notes)
    if method.learns:
        tasks = {name: contestant.fit for name, contestant in contestants.items()}
        n_turns = 1 if method.is_slow else min(repetitions, count_turns(tasks))
        timed += collect(method, FIT, Timings(tasks, n_turns, process_time), notes)
    return timed


def count_turns(tasks: dict[str, Callable[[], Any]]) -> int:
    """How many turns take a second or two; 5 at least."""
    timings = Timings(tasks, 1, process_time)
    return max(5, int(2 / sum(timings.seconds(name) for name in timings.names)))


def tabulate_methods(timed: Sequence[Timed], what: str) -> Table:
    """Times of the other libraries as multiples of skood's, a line for each method."""
    ratios = {(one.method, one.library): one.ratio for one in timed if one.what == what}
    libraries = [name for name in PEERS if any(library == name for _, library in ratios)]
    rows = [
        [method, *(format_ratio(ratios.get((method, library))) for library in libraries)]
        for method in dict.fromkeys(method for method, _ in ratios)
    ]
    return Table(["Method", *libraries], rows)


def format_ratio(ratio: float | None) -> str:
    return "" if ratio is None else format_number(ratio)


def find_contestants(
    method: Method, samples: Samples, libraries: dict[str, Any]
) -> dict[str, Contestant]:
    """The method in each library that is installed and has it, fitted."""
    pair = method.pair
    contestants: dict[str, Contestant] = {SKOOD: Skood(pair.estimator, samples)}
    if method.has_single:
        contestants[SINGLE] = InSinglePrecision(Skood(pair.estimator, samples))
    if (library := libraries[PYTORCH_OOD]) is not None and not method.one_class:
        contestants[PYTORCH_OOD] = PytorchOOD(library, pair, samples)
        if pair.reads == LOGITS and not method.is_slow:
            contestants[DOUBLE] = PytorchOOD(library, pair, samples, torch.float64)
    if (library := libraries[OODEEL]) is not None and method.oodeel is not None:
        contestants[OODEEL] = Oodeel(partial(method.oodeel, library), samples)
    for name, (make, scores) in method.plain.items():
        contestants[name] = Plain(make(), scores, samples)
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
    """The times of each library; pytorch-ood once more beside skood in single precision."""
    timed = [
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
    if {SINGLE, PYTORCH_OOD} <= set(timings.names):
        seconds, ratio = timings.seconds(PYTORCH_OOD), timings.ratio(PYTORCH_OOD, SINGLE)
        timed.append(Timed(method.name, what, BOTH_SINGLE, seconds, ratio, ""))
    return timed
