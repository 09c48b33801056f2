"""The report of the layer pattern experiment, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .._common.tables import Measured, Table
from .detectors import COLUMNS, Lines
from .findings import Finding
from .net import CONFIDENT, Experiment, Settings

MEASURES = {
    "auroc": ("auroc", "AUROC"),
    "fpr95": (
        "fpr95_id_positive",
        "FPR95, in-distribution positive: the share of the other samples accepted where 95 % of "
        "the digits are",
    ),
    "fpr95_ood_positive": (
        "fpr95_ood_positive",
        "FPR95, OOD positive: the share of the digits flagged where 95 % of the others are",
    ),
}
"""By table: its measure, and what it is called in the report."""


@dataclass(frozen=True)
class Run:
    """What one trained network shows."""

    seed: int
    network: Mapping[str, str]
    """Its accuracy, and how many samples each set has."""
    findings: list[Finding]
    lines: Lines
    accuracies: dict[str, float]


def make_tables(runs: Sequence[Run]) -> dict[str, Table]:
    return {
        "networks": tabulate_networks(runs),
        **{name: tabulate_detectors(runs, measure) for name, (measure, _) in MEASURES.items()},
        "accuracies": tabulate_accuracies(runs),
        "findings": tabulate_findings(runs),
    }


def write_report(
    runs: Sequence[Run], about: Table, tables: Mapping[str, Table], seconds: float
) -> str:
    parts = [
        "# Layer activation patterns on MNIST",
        about.to_markdown(),
        f"{seconds:.0f} s in all.",
        tables["networks"].to_markdown(),
        "## Detectors compared",
        "Means over the networks.",
        *(f"{title}:\n\n{tables[name].to_markdown()}" for name, (_, title) in MEASURES.items()),
        "Accuracy in percent of the classifiers on the other half of the balanced samples, sources "
        "known.",
        tables["accuracies"].to_markdown(),
        "## Findings",
        "A finding is seen (yes) where all checks of its criterion hold, partly where at least "
        "half of them do. In brackets: the checks that hold.",
        tables["findings"].to_markdown(),
        *(list_numbers(run, with_figures=run is runs[0]) for run in runs),
    ]
    return "\n\n".join(parts) + "\n"


def describe(settings: Settings) -> Measured:
    hidden = ", ".join(map(str, settings.widths))
    outputs = "values before the ReLU" if settings.pre_activations else "outputs of the ReLU"
    return Measured(
        data="MNIST without 1 and 5; ones, fives and uniform noise on which the network has a "
        f"confidence above {CONFIDENT:.0%}",
        samples=f"detectors {settings.n_fit:,} training digits; classifiers of the progression at "
        f"most {settings.n_per_source} ones, fives and noise images each, and as many normal test "
        "digits: half of them (sources known), or two thirds of the digits and two of the sources, "
        "tested on the third (source new)",
        settings=f"hidden layers of {hidden} units, biases 1 at first, Adam with learning rate "
        "0.001, batches of 100, one epoch; patterns are the upper half of a layer's "
        f"{outputs}, of equal values earlier neurons get 0 first; groups of 300",
    )


def describe_network(experiment: Experiment) -> dict[str, str]:
    return {
        "Test accuracy": f"{experiment.accuracy:.4f}",
        **{name: str(len(A)) for name, A in experiment.sets.items()},
        "confident noise": f"{experiment.n_noise_confident / experiment.n_noise_drawn:.3f}",
    }


def tabulate_networks(runs: Sequence[Run]) -> Table:
    rows = [[str(run.seed), *run.network.values()] for run in runs]
    return Table(["Seed", *runs[0].network], rows)


def tabulate_detectors(runs: Sequence[Run], measure: str) -> Table:
    rows = []
    for name in runs[0].lines:
        by_column = (
            [getattr(run.lines[name][column], measure) for run in runs] for column in COLUMNS
        )
        rows.append([name, *(f"{np.mean(values):.3f}" for values in by_column)])
    return Table(["Detector", *COLUMNS], rows)


def tabulate_accuracies(runs: Sequence[Run]) -> Table:
    rows = [
        [name, *(f"{100 * run.accuracies[name]:.1f}" for run in runs)]
        for name in runs[0].accuracies
    ]
    return Table(["Classifier", *(f"Seed {run.seed}" for run in runs)], rows)


def tabulate_findings(runs: Sequence[Run]) -> Table:
    rows = [
        [first.claim, first.criterion, *(run.findings[place].verdict_in_full for run in runs)]
        for place, first in enumerate(runs[0].findings)
    ]
    return Table(["Finding", "Criterion", *(f"Seed {run.seed}" for run in runs)], rows)


def list_numbers(run: Run, *, with_figures: bool) -> str:
    lines = [
        f"{finding.number}. {finding.numbers}"
        + (f" ([figure]({finding.figure}))" if with_figures else "")
        for finding in run.findings
    ]
    return f"Numbers of seed {run.seed}:\n\n" + "\n".join(lines)
