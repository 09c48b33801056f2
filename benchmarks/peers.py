"""The methods of other libraries on the same features: skood against pytorch-ood and oodeel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.pipeline import make_pipeline
from torch import nn

from experiments._common.tables import Table
from experiments._common.timing import Timings
from skood.detectors import (
    EnergyDetector,
    EntropyDetector,
    FDBDDetector,
    GENDetector,
    GradNormDetector,
    KLMatchingDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxLogitDetector,
    MaxSoftmaxDetector,
    NNGuideDetector,
    OpenMaxDetector,
    SHEDetector,
    ViMDetector,
)
from skood.shaping import ASH, DICE, SCALE, ReAct

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

ENERGY = EnergyDetector()
SKOOD, PYTORCH_OOD, OODEEL = "skood", "pytorch-ood", "oodeel"
DOUBLE = "pytorch-ood in double precision"
SCORE, FIT = "score", "fit"


@dataclass(frozen=True)
class Method:
    """A method of skood, and how other libraries construct theirs; None where they have none.

    ``reads`` is what pytorch-ood gets. ``rule_differs`` names libraries whose scores are not only
    skood's on another scale. Where nothing is learnt, ``fit`` is not timed.
    """

    name: str
    skood: Any
    reads: str
    pytorch_ood: Callable[[Any, Samples], Any]
    oodeel: Callable[[Any], Any] | None = None
    rule_differs: tuple[str, ...] = ()
    learns: bool = True
    is_slow: bool = False


def maps_head(samples: Samples) -> nn.Module:
    """The head of features in the shape of maps with one pixel."""
    return nn.Sequential(nn.Flatten(), samples.layer)


def ash(library: Any, samples: Samples, variant: str) -> Any:
    return library.ASH(None, maps_head(samples), f"ash-{variant}", 0.9)


METHODS = [
    Method(
        "MSP",
        MaxSoftmaxDetector(),
        "logits",
        lambda library, samples: library.MaxSoftmax(None),
        learns=False,
    ),
    Method(
        "MaxLogit",
        MaxLogitDetector(),
        "logits",
        lambda library, samples: library.MaxLogit(None),
        lambda library: library.MLS(),
        learns=False,
    ),
    Method(
        "energy",
        EnergyDetector(),
        "logits",
        lambda library, samples: library.EnergyBased(None),
        lambda library: library.Energy(),
        learns=False,
    ),
    Method(
        "entropy",
        EntropyDetector(),
        "logits",
        lambda library, samples: library.Entropy(None),
        lambda library: library.Entropy(),
        learns=False,
    ),
    Method(
        "GEN",
        GENDetector(),
        "logits",
        lambda library, samples: library.GEN(None, M=100),
        lambda library: library.GEN(),
        learns=False,
    ),
    Method(
        "KL matching",
        KLMatchingDetector(),
        "logits",
        lambda library, samples: library.KLMatching(None),
    ),
    Method(
        "OpenMax",
        OpenMaxDetector(group_by="label"),
        "logits",
        lambda library, samples: library.OpenMax(None, tailsize=20, alpha=3),
        is_slow=True,
    ),
    Method(
        "Mahalanobis",
        MahalanobisDetector(),
        "features",
        lambda library, samples: library.Mahalanobis(None),
        lambda library: library.Mahalanobis(eps=0),
        is_slow=True,
    ),
    Method(
        "relative Mahalanobis",
        MahalanobisDetector(relative=True),
        "features",
        lambda library, samples: library.RMD(None),
        lambda library: library.RMDS(eps=0),
        is_slow=True,
    ),
    Method(
        "KNN",
        KNNDetector(n_neighbors=50),
        "features",
        lambda library, samples: library.KNN(None, k=50),
        lambda library: library.DKNN(nearest=50),
    ),
    Method(
        "ViM",
        ViMDetector(),
        "features",
        lambda library, samples: library.ViM(
            None, samples.train.shape[1] // 2, samples.layer.weight, samples.layer.bias
        ),
    ),
    Method(
        "SHE",
        SHEDetector(),
        "features",
        lambda library, samples: library.SHE(None, samples.layer),
        lambda library: library.SHE(eps=0),
        rule_differs=("oodeel",),
    ),
    Method(
        "GradNorm",
        GradNormDetector(),
        "features",
        lambda library, samples: library.GradNorm(samples.layer, lambda name: name == "weight"),
        learns=False,
        is_slow=True,
    ),
    Method(
        "NNGuide",
        NNGuideDetector(n_neighbors=10),
        "features",
        lambda library, samples: library.NNGuide(None, samples.layer, k=10),
    ),
    Method(
        "fDBD",
        FDBDDetector(),
        "features",
        lambda library, samples: library.fDBD(None, samples.layer),
    ),
    Method(
        "ReAct and energy",
        make_pipeline(ReAct(), ENERGY),
        "feature_maps",
        lambda library, samples: library.ReAct(None, maps_head(samples)),
        lambda library: library.Energy(use_react=True, react_quantile=0.9),
    ),
    *(
        Method(
            f"ASH-{variant} and energy",
            make_pipeline(ASH(variant=variant), ENERGY),
            "feature_maps",
            partial(ash, variant=variant),
            (lambda library: library.Energy(use_ash=True)) if variant == "s" else None,
            rule_differs=("oodeel",),
            learns=False,
        )
        for variant in "pbs"
    ),
    Method(
        "SCALE and energy",
        make_pipeline(SCALE(), ENERGY),
        "feature_maps",
        lambda library, samples: library.SCALE(None, maps_head(samples), 0.85),
        lambda library: library.Energy(use_scale=True),
        rule_differs=("oodeel",),
        learns=False,
    ),
    Method(
        "DICE and energy",
        make_pipeline(DICE(), ENERGY),
        "features",
        lambda library, samples: library.DICE(None, samples.layer.weight, samples.layer.bias, 0.9),
        is_slow=True,
    ),
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
    for method in METHODS:
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
        "pytorch-ood computes the logits anew where it asks for features; oodeel does so always, "
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
    contestants: dict[str, Contestant] = {SKOOD: Skood(method.skood, samples)}
    if (library := libraries[PYTORCH_OOD]) is not None:
        detector = method.pytorch_ood(library, samples)
        contestants[PYTORCH_OOD] = PytorchOOD(detector, method.reads, samples)
        if method.reads == "logits" and not method.is_slow:
            detector = method.pytorch_ood(library, samples)
            contestants[DOUBLE] = PytorchOOD(detector, "logits", samples, torch.float64)
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
