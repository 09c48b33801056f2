"""The tables of the experiment with tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from .._common.tables import Measured, Table
from .poolings import DEFAULT, POOLINGS
from .training import KINDS, Run, Sizes

Runs = Mapping[str, Sequence[Run]]
"""By the kind of network, one for each seed."""

NEAR = {"text": "mixtures"}
"""The OOD set that is nearest to the classes, where it is not that of held-out classes."""


def describe(sizes: Sizes, chosen: Runs, reported: Runs) -> Measured:
    accuracies = [run.accuracy for runs in (*chosen.values(), *reported.values()) for run in runs]
    trained = ", ".join(f"{kind.n_train:,} ({name})" for name, kind in KINDS.items())
    return Measured(
        data="texts of 10 to 20 made-up words, three of them key words of one of six classes; "
        "scikit-learn's digits without two that are drawn anew with each seed",
        samples=f"{trained} to train and to fit; {sizes.n_test} of each set to test",
        settings="blocks of 16 to 32 units, 12 (text) and 25 epochs; pooling chosen by the seeds "
        f"{listed(sizes.choice_seeds)}, reported on {listed(sizes.report_seeds)}; right on "
        f"{min(accuracies):.1%} to {max(accuracies):.1%} of the test samples",
    )


def listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def make_tables(chosen: Runs, reported: Runs) -> dict[str, Table]:
    return {"choice": tabulate(chosen), "auroc": tabulate(reported), "seeds": by_seed(reported)}


def tabulate(runs_of: Runs) -> Table:
    """Means over the seeds, in percent."""
    rows = [
        [kind, pooling, *map(percent, summarize(kind, [run.by_pooling[pooling] for run in runs]))]
        for kind, runs in runs_of.items()
        for pooling in (*POOLINGS, DEFAULT)
        if pooling in runs[0].by_pooling
    ]
    return Table(["Network", "Kept of the tokens", "Near", "Far", "Mean of all sets"], rows)


def summarize(kind: str, aurocs: Sequence[Mapping[str, float]]) -> tuple[float, float, float]:
    near = NEAR.get(kind, "held-out classes")
    by_set = {name: mean(found[name] for found in aurocs) for name in aurocs[0]}
    far = mean(value for name, value in by_set.items() if name != near)
    return by_set[near], far, mean(by_set.values())


def by_seed(runs_of: Runs) -> Table:
    """The mean over the OOD sets for each seed, in percent, as it was and as it is by default."""
    rows = [
        [kind, pooling, *(percent(mean(run.by_pooling[pooling].values())) for run in runs)]
        for kind, runs in runs_of.items()
        for pooling in (next(iter(POOLINGS)), DEFAULT)
    ]
    n_seeds = len(next(iter(runs_of.values())))
    names = [f"Network {number + 1}" for number in range(n_seeds)]
    return Table(["Network", "Kept of the tokens", *names], rows)


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def write_report(about: Table, tables: Mapping[str, Table], seconds: float) -> str:
    parts = [
        "# Tokens",
        about.to_markdown(),
        f"{seconds:.0f} s of one processor.",
        *(table.to_markdown() for table in tables.values()),
    ]
    return "\n\n".join(parts) + "\n"
