"""The figures of the run-time monitor experiment."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from .._common.figures import save_figures
from .alarms import GAMMAS, AlarmTable
from .groups import DIVERGENCE, MEAN_SCORE, STRANGERS, Groups
from .scores import Shares

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")


def draw_all(alarms: AlarmTable, shares: dict[str, Shares], groups: Groups, folder: Path) -> None:
    """Draw every figure and write it to the folder."""
    figures = {
        "alarms": draw_alarms(alarms),
        "differing_values": draw_shares(shares),
        "groups": draw_groups(groups),
    }
    save_figures(figures, folder)


def draw_alarms(alarms: AlarmTable) -> Figure:
    figure, (rates, precisions, recalls, trade_off) = plt.subplots(
        1, 4, figsize=(17, 4.6), layout="constrained"
    )
    for (name, by_gamma), color, marker in zip(alarms.items(), COLORS, MARKERS, strict=True):
        rate, precision, recall = (
            [100 * getattr(found, measure) for found in by_gamma.values()]
            for measure in ("rate", "precision", "recall")
        )
        style = {"color": color, "marker": marker, "markersize": 5, "label": name}
        for axes, values in ((rates, rate), (precisions, precision), (recalls, recall)):
            axes.plot(GAMMAS, values, **style)
        trade_off.plot(rate, recall, **style)
    rates.set_yscale("symlog", linthresh=0.1)
    trade_off.set_xscale("symlog", linthresh=0.1)
    rates.set_ylim(bottom=0)
    trade_off.set_xlim(left=0)
    for axes, title in (
        (rates, "test digits with an alarm (%)"),
        (precisions, "alarms that are misclassified digits (%)"),
        (recalls, "misclassified digits with an alarm (%)"),
    ):
        axes.set(title=title, xlabel="gamma", xticks=GAMMAS)
    trade_off.set(
        title="what the alarms buy",
        xlabel="test digits with an alarm (%)",
        ylabel="misclassified digits with an alarm (%)",
    )
    figure.legend(*rates.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def draw_shares(shares: dict[str, Shares]) -> Figure:
    figure, panels = plt.subplots(1, len(shares), figsize=(15, 4), layout="constrained")
    for axes, (layer, by_set) in zip(panels, shares.items(), strict=True):
        values = np.unique(np.concatenate(list(by_set.values())))
        # One bin for each value where a layer has few units, and so few shares.
        width = max(np.diff(values).min(), 1 / 160)
        bins = np.arange(values[0] - width / 2, values[-1] + 1.5 * width, width)
        for (name, found), color in zip(by_set.items(), COLORS, strict=False):
            weights = np.full(len(found), 100 / len(found))
            axes.hist(
                found,
                bins,
                weights=weights,
                histtype="step",
                linewidth=1.6,
                color=color,
                label=name,
            )
        axes.set(title=layer, xlabel="share of values that differ from the nearest digit's")
    panels[0].set_ylabel("images of the set (%)")
    panels[0].legend(loc="upper left")
    return figure


def draw_groups(groups: Groups) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
    rng = np.random.default_rng(0)
    for place, (found, color) in enumerate(zip(groups.divergences.values(), COLORS, strict=False)):
        left.scatter(place + rng.uniform(-0.3, 0.3, len(found)), found, s=9, alpha=0.6, color=color)
    left.set_xticks(range(len(groups.divergences)), groups.divergences)
    left.set_yscale("log")
    left.set(title="groups of 50 with one predicted class", ylabel="KL divergence (nats)")
    for measure, dashes in ((DIVERGENCE, "-"), (MEAN_SCORE, ":")):
        by_set = groups.noticed[measure].items()
        for (name, rates), color, marker in zip(by_set, COLORS[1:], MARKERS[1:], strict=False):
            label = f"{name}, {measure}"
            right.plot(
                STRANGERS,
                100 * np.array(rates),
                dashes,
                color=color,
                marker=marker,
                markersize=4,
                label=label,
            )
    right.set(
        title="groups that are noticed where 5 % of pure ones are",
        xlabel="images from outside among the 50",
        ylabel="groups (%)",
    )
    right.set_xscale("symlog", linthresh=5)
    right.set_xticks(STRANGERS, STRANGERS)
    right.legend(fontsize="small")
    return figure
