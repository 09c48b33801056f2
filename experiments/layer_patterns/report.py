"""The report of the layer pattern experiment, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sklearn
import torch

import skood

from .._common.markdown import list_lines, table
from .classifiers import N_PER_SOURCE
from .detectors import COLUMNS, Lines, Quality
from .findings import Finding
from .net import SURE, Experiment, Settings


@dataclass(frozen=True)
class Run:
    """What one trained network shows."""

    seed: int
    description: str
    findings: list[Finding]
    lines: Lines
    accuracies: dict[str, float]


def write_report(runs: Sequence[Run], settings: Settings, seconds: float) -> str:
    parts = [
        "# Layer activation patterns on MNIST",
        describe(runs, settings, seconds),
        "## Findings",
        "A finding is seen (yes) where all checks of its criterion hold, partly where at least "
        "half of them do. In brackets: the checks that hold.",
        tabulate_findings(runs),
        *(list_numbers(run, with_figures=run is runs[0]) for run in runs),
        "## Detectors compared",
        "AUROC / FPR95 with in-distribution positive (share of the other samples accepted where "
        "95 % of the digits are) / FPR95 with OOD positive (share of the digits flagged where 95 % "
        "of the others are)"
        + ("; means over seeds, AUROCs with their range." if len(runs) > 1 else "."),
        tabulate_detectors(runs),
        describe_accuracies(runs),
    ]
    return "\n\n".join(parts) + "\n"


def describe(runs: Sequence[Run], settings: Settings, seconds: float) -> str:
    hidden = ", ".join(map(str, settings.widths))
    outputs = "values before the ReLU" if settings.pre_activations else "outputs of the ReLU"
    lines = [
        f"Network: hidden layers of {hidden} units, biases 1, Adam with learning rate 0.001, "
        "batches of 100, one epoch, MNIST without 1 and 5.",
        f"Detectors learn from {settings.n_fit} training digits. Patterns: the upper half of a "
        f"layer's {outputs}; among equal values, earlier neurons get 0 first.",
        f"The judges of the progression learn from at most {N_PER_SOURCE} ones, fives and noise "
        "images each, and as many normal test digits: from half of them (sources known), or from "
        "two thirds of the digits and two of the sources, tested on the third (source new).",
        *(f"Seed {run.seed}: {run.description}" for run in runs),
        f"skood {skood.__version__}, torch {torch.__version__}, scikit-learn "
        f"{sklearn.__version__}, NumPy {np.__version__}; {seconds:.0f} s in all.",
    ]
    return list_lines(lines)


def describe_sets(experiment: Experiment) -> str:
    sizes = ", ".join(f"{len(A)} {name}" for name, A in experiment.sets.items())
    return (
        f"test accuracy {experiment.accuracy:.2%}; {sizes}; of {experiment.n_noise_drawn} noise "
        f"images, {experiment.n_noise_sure} had a confidence above {SURE:.0%}."
    )


def tabulate_findings(runs: Sequence[Run]) -> str:
    rows = [
        [str(first.number), first.claim, first.criterion]
        + [run.findings[place].verdict_in_full for run in runs]
        for place, first in enumerate(runs[0].findings)
    ]
    header = ["", "finding", "criterion", *(f"seed {run.seed}" for run in runs)]
    return table(header, rows)


def list_numbers(run: Run, *, with_figures: bool) -> str:
    lines = [
        f"{finding.number}. {finding.numbers}"
        + (f" ([figure]({finding.figure}))" if with_figures else "")
        for finding in run.findings
    ]
    return f"Numbers of seed {run.seed}:\n\n" + "\n".join(lines)


def tabulate_detectors(runs: Sequence[Run]) -> str:
    rows = [
        [name, *(summarize([run.lines[name][column] for run in runs]) for column in COLUMNS)]
        for name in runs[0].lines
    ]
    return table(["detector", *COLUMNS], rows)


def summarize(qualities: Sequence[Quality]) -> str:
    aurocs = [quality.auroc for quality in qualities]
    spread = f" ({min(aurocs):.3f} to {max(aurocs):.3f})" if len(aurocs) > 1 else ""
    _, id_positive, ood_positive = np.mean(qualities, axis=0)
    return f"{np.mean(aurocs):.3f}{spread} / {id_positive:.3f} / {ood_positive:.3f}"


def describe_accuracies(runs: Sequence[Run]) -> str:
    parts = [
        f"{name} " + ", ".join(f"{run.accuracies[name]:.1%}" for run in runs)
        for name in runs[0].accuracies
    ]
    return (
        "Accuracy of these judges on the other half of the balanced samples, sources known: "
        + "; ".join(parts)
        + "."
    )
