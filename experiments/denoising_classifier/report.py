"""The tables of the experiment with the denoising classifier."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .._common.tables import PACKAGES, Measured, Table
from .digits import UNKNOWN, Digits
from .net import Training
from .rules import Outcome

PUBLISHED = (0.96, 0.90)
"""Zeros found, and other digits kept and classified right."""


def describe(digits: Digits, training: Training, ablation: Training, n_ablation: int) -> Measured:
    return Measured(
        data=f"MNIST; the digit {UNKNOWN} is unknown",
        samples=f"{digits.n_train:,} images to train, {digits.n_held_out:,} to set thresholds; "
        f"{len(digits.X_test):,} test images, of which {(digits.y_test == UNKNOWN).sum()} zeros; "
        f"{n_ablation:,} to train with other losses",
        settings=f"{training.epochs} epochs ({ablation.epochs} with other losses) in one random "
        f"order, {training.width} channels in the first stage, batches of {training.batch_size}, "
        f"Adam with one cycle up to {training.lr}, seed {training.seed}, {training.device}",
        packages=(*PACKAGES, "skorch"),
    )


def make_tables(
    rules: Mapping[str, Outcome], ablation: Mapping[str, Outcome], auroc_of_error: float
) -> dict[str, Table]:
    tables = {
        "thresholds": tabulate_rules(rules),
        "errors": Table(["Score", "AUROC"], [["Error alone", f"{auroc_of_error:.3f}"]]),
    }
    if ablation:
        tables["losses"] = tabulate_losses(ablation)
    return tables


def tabulate_rules(outcomes: Mapping[str, Outcome]) -> Table:
    header = ["Thresholds", "Zeros found", "Digits kept and right", "Right without rejection"]
    header += ["AUROC", "Probability at least", "Error at most"]
    found, kept = (f"{100 * share:.1f}" for share in PUBLISHED)
    rows = [["published", found, kept, "", "", "0.659", ""]]
    for name, outcome in outcomes.items():
        error = f"{outcome.error_threshold:.4f}" if np.isfinite(outcome.error_threshold) else "any"
        rows.append([name, *describe_outcome(outcome), f"{outcome.softmax_threshold:.3f}", error])
    return Table(header, rows)


def tabulate_losses(outcomes: Mapping[str, Outcome]) -> Table:
    rows = [[name, *describe_outcome(outcome)] for name, outcome in outcomes.items()]
    header = ["Losses", "Zeros found", "Digits kept and right", "Right without rejection", "AUROC"]
    return Table(header, rows)


def describe_outcome(outcome: Outcome) -> list[str]:
    shares = (outcome.found, outcome.kept, outcome.accuracy)
    return [*(f"{100 * share:.1f}" for share in shares), f"{outcome.auroc:.3f}"]


def write_report(about: Table, tables: Mapping[str, Table], seconds: tuple[float, float]) -> str:
    parts = [
        "# The denoising classifier on MNIST",
        about.to_markdown(),
        f"Trained after {seconds[0]:.0f} s, {seconds[1]:.0f} s in all.",
        *(table.to_markdown() for table in tables.values()),
    ]
    return "\n\n".join(parts) + "\n"
