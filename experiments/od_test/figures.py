"""The figures of the test."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from skood.inspection import MeanPerformanceDisplay, TransferDisplay, ValidationTestDisplay

from .methods import DEFAULT, MONITORS, SEARCH, method_groups

N_OF_GROUP = 3
"""How many methods of each group the bars show."""
CONFIGURED = "NAP, published, weighted"


def draw_all(cells: pd.DataFrame) -> dict[str, Figure]:
    """Bars of the best methods, validation against test, and what transfers from set to set."""
    ood = cells[cells["target"] == "ood"]
    return {
        "means": draw_means(ood[ood["detector"] != SEARCH]),
        "validation_and_test": draw_validation(ood),
        **{f"transfer_{name}": draw_transfer(ood, title) for name, title in _names_of(ood).items()},
    }


def draw_means(ood: pd.DataFrame) -> Figure:
    """Mean AUROC and accuracy of the best of each group, and of all monitors."""
    groups = method_groups()
    means = ood.groupby("detector")["auroc"].mean().sort_values(ascending=False)
    shown: dict[str, list[str]] = {}
    for name in means.index:
        of_group = shown.setdefault(groups[name], [])
        if len(of_group) < N_OF_GROUP or groups[name] == MONITORS:
            of_group.append(name)
    names = [name for of_group in shown.values() for name in of_group]
    return MeanPerformanceDisplay.from_table(ood[ood["detector"].isin(names)]).figure_


def draw_validation(ood: pd.DataFrame) -> Figure:
    """Accuracy on the set that a method was configured with, against that on others."""
    names = [CONFIGURED, "NAP 30, best layer", "Mahalanobis++, best layer", DEFAULT, SEARCH]
    rows = ood[ood["detector"].isin(names)]
    return ValidationTestDisplay.from_table(rows, metric="accuracy").figure_


def draw_transfer(ood: pd.DataFrame, source: str) -> Figure:
    """AUROC by validation and test set, of NAP as published and of the monitor beside it."""
    rows = ood[ood["source"] == source]
    names = [name for name in (CONFIGURED, SEARCH) if name in set(rows["detector"])]
    figure, panels = plt.subplots(
        1, len(names), figsize=(8.5 * len(names), 7), squeeze=False, layout="constrained"
    )
    for name, ax in zip(names, panels.flat, strict=True):
        TransferDisplay.from_table(rows, name, ax=ax, vmin=0.5, vmax=1)
        ax.set_title(f"{source}: {name}")
    return figure


def _names_of(ood: pd.DataFrame) -> dict[str, str]:
    """Sources on which a method was configured, by names for files."""
    titles = ood.loc[ood["detector"].isin([CONFIGURED, SEARCH]), "source"].unique()
    return {title.lower().replace(", ", "_").replace("-", "_"): title for title in titles}
