"""The tables of the demo."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]

METRICS = {
    "AUROC": "Higher is better.",
    "FPR95 (ID positive)": "The share of OOD images that are accepted by a threshold that "
    "accepts 95 % of the in-distribution images (the positives). Lower is better.",
    "detection accuracy": "The largest balanced accuracy that any threshold reaches. Higher is "
    "better.",
    "accuracy": "Balanced accuracy of `predict`, with the detector's own threshold. Higher is "
    "better.",
}
"""The metrics of the tables, and what to say about each."""


def markdown_table(results: dict[str, Rows], metric: str) -> str:
    """Kinds of OOD images by detectors, the best value of each row in bold."""
    kinds = [row["OOD images"] for row in next(iter(results.values()))]
    values = np.array([[row[metric] for row in rows] for rows in results.values()]).T
    values = np.vstack([values, values.mean(axis=0)]).round(3)
    best = values.min(axis=1) if metric.startswith("FPR95") else values.max(axis=1)
    lines = [
        f"## {metric}\n\n{METRICS[metric]}\n",
        f"| OOD images | {' | '.join(results)} |",
        "| --- |" + " ---: |" * len(results),
    ]
    for kind, row, winner in zip([*kinds, "mean"], values, best, strict=True):
        cells = [f"**{v:.3f}**" if v == winner else f"{v:.3f}" for v in row]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_report(folder: Path, report: str, results: dict[str, Rows]) -> None:
    """Write the text, and a CSV file with a row for each detector and kind of OOD images."""
    (folder / "results.md").write_text(report + "\n")
    rows = [{"detector": name, **row} for name, rows in results.items() for row in rows]
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
