"""The figures of the CIFAR experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skood.inspection import SharedNeuronDisplay

from .._common.quality import BySet, Quality, mean_over
from .line import DEFAULT_DELTA, DELTAS, OVERLAP, delta_name
from .results import Results

STYLES: dict[str, dict[str, Any]] = {
    "near": {"color": "#d55e00", "marker": "s"},
    "far": {"color": "#0072b2", "marker": "^"},
}
MEASURES = {"fpr95": "FPR95 (%)\nlower is better", "auroc": "AUROC (%)\nhigher is better"}


def draw_all(all_results: Sequence[Results]) -> dict[str, Figure]:
    """Every figure, by the name of its file."""
    return {
        "line_delta": draw_thresholds(all_results),
        "line_ablation": draw_rows(all_results, [r.steps for r in all_results]),
        "methods": draw_rows(all_results, [r.by_method for r in all_results]),
        "shared_neurons": draw_sharing({r.task.title: r.sharing for r in all_results}),
    }


def draw_sharing(by_net: Mapping[str, NDArray]) -> Figure:
    """How many of a class's top neurons are shared, over the share of the classes."""
    display = SharedNeuronDisplay(shares=by_net, overlap=OVERLAP, percentile=90).plot()
    return display.figure_


def draw_thresholds(all_results: Sequence[Results]) -> Figure:
    """LINe against its threshold, with the energy score beside it."""
    n_nets = len(all_results)
    figure, panels = plt.subplots(
        n_nets, 2, figsize=(11, 0.8 + 3.4 * n_nets), sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for results, row in zip(all_results, panels, strict=True):
        for axes, measure in zip(row, MEASURES, strict=True):
            draw_curves(axes, results, measure)
            axes.set_title(results.task.title)
    for axes in panels[-1]:
        axes.set_xticks(range(len(DELTAS)), [delta_name(delta) for delta in DELTAS])
        axes.set_xlabel("threshold delta at which features are clipped")
    add_legend(figure, panels[0, 0], n_columns=5)
    return figure


def draw_curves(axes: Axes, results: Results, measure: str) -> None:
    published = DELTAS.index(DEFAULT_DELTA)
    axes.axvline(published, color="#cccccc", linewidth=8, zorder=0, label="published delta")
    for group, style in STYLES.items():
        qualities = [mean_of_group(results, results.thresholds[d], group) for d in DELTAS]
        axes.plot([getattr(q, measure) for q in qualities], label=f"LINe, {group}", **style)
        energy = getattr(mean_of_group(results, results.steps["energy"], group), measure)
        axes.axhline(energy, color=style["color"], linestyle=":", label=f"energy, {group}")
    axes.set_ylabel(MEASURES[measure])


def mean_of_group(results: Results, by_set: BySet, group: str) -> Quality:
    return mean_over(by_set, results.task.groups[group])


def draw_rows(all_results: Sequence[Results], tables: Sequence[Mapping[str, BySet]]) -> Figure:
    """A row for each name in the tables, and two panels for each network."""
    names = list(tables[0])
    figure, panels = plt.subplots(
        1, 2 * len(tables), figsize=(2.2 + 2.6 * 2 * len(tables), 1.6 + 0.26 * len(names)),
        sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    pairs = [(*pair, m) for pair in zip(all_results, tables, strict=True) for m in MEASURES]
    for axes, (results, table, measure) in zip(panels[0], pairs, strict=True):
        draw_dots(axes, results, table, measure)
        axes.set_title(results.task.title)
    panels[0, 0].set_yticks(range(len(names)), names)
    panels[0, 0].set_ylim(len(names) - 0.4, -0.6)
    add_legend(figure, panels[0, 0], n_columns=2)
    return figure


def draw_dots(axes: Axes, results: Results, table: Mapping[str, BySet], measure: str) -> None:
    for group, style in STYLES.items():
        qualities = [mean_of_group(results, by_set, group) for by_set in table.values()]
        values = [getattr(q, measure) for q in qualities]
        axes.plot(values, range(len(values)), linestyle="none", label=group, **style)
    axes.set_xlabel(MEASURES[measure])
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)


def add_legend(figure: Figure, axes: Axes, n_columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=n_columns)
