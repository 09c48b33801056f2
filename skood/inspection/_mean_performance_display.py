"""How good detectors are on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import column_or_1d

from .._axes import get_axes, ink
from .._od_table import CHANCE, LOWER_IS_BETTER, TITLES, check_one_target
from ..model_selection import summarize
from ._drawing import cell_size, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from pandas import DataFrame

_BARS = 0.8
"""The share of the height of a detector that its bars take."""


class MeanPerformanceDisplay:
    """Mean accuracy and AUROC of detectors in an OD-test, a bar for each, with standard errors.

    Create it by :meth:`from_table`. The detector that is best by the first metric is on top. Bars
    begin at 0.5, where scores are that say nothing, unless one of the metrics has no such value:
    then at 0. Means are written at their ends.

    Parameters
    ----------
    detectors : sequence of str
        Names of the detectors, from the top.
    means : dict of str to array-like of shape (n_detectors,)
        Mean of each metric; NaN where there is none.
    errors : dict of str to array-like of shape (n_detectors,)
        Standard error of each mean; NaN where there is none.

    Attributes
    ----------
    bars_ : dict of str to matplotlib BarContainer
        The bars of each metric.
    chance_line_ : matplotlib Line2D or None
        Where scores are that say nothing.
    ax_ : matplotlib Axes
        Axes with the bars.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skood.model_selection.summarize : The numbers.
    TransferDisplay : What is behind one of the bars.

    Notes
    -----
    Errors of two detectors on the same test sets are not independent: whether one is better than
    another is for :func:`~skood.model_selection.compare` to say.

    Examples
    --------
    >>> import pandas as pd
    >>> from skood.inspection import MeanPerformanceDisplay
    >>> table = pd.DataFrame(
    ...     {
    ...         "source": "digits",
    ...         "detector": ["energy", "energy", "KNN", "KNN"],
    ...         "target": "ood",
    ...         "validation": ["c", "d", "c", "d"],
    ...         "test": ["d", "c", "d", "c"],
    ...         "accuracy": [0.75, 0.65, 0.81, 0.67],
    ...         "auroc": [0.86, 0.68, 0.96, 0.72],
    ...     }
    ... )
    >>> display = MeanPerformanceDisplay.from_table(table)
    >>> display.detectors, display.means["auroc"].round(2)
    (['KNN', 'energy'], array([0.84, 0.77]))
    """

    def __init__(
        self,
        *,
        detectors: Sequence[str],
        means: Mapping[str, ArrayLike],
        errors: Mapping[str, ArrayLike],
    ) -> None:
        self.detectors = detectors
        self.means = means
        self.errors = errors

    @classmethod
    def from_table(
        cls,
        table: DataFrame,
        *,
        metrics: Sequence[str] = ("auroc", "accuracy"),
        ax: Axes | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw means over the test sets of all sources, as ``summarize(table, "detector")``.

        Parameters
        ----------
        table : pandas.DataFrame
            A table as that of ``od_test``, of one target. For one source, pass its rows.
        metrics : sequence of str, default=("auroc", "accuracy")
            Columns of the table, of which the first sorts the detectors.
        ax : matplotlib Axes, default=None
            Axes to draw on; by default new ones, as high as the detectors need.
        **bar_kw : dict
            Keyword arguments of matplotlib's ``barh``, for all bars.

        Returns
        -------
        display : MeanPerformanceDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If pandas or matplotlib is not installed.
        TypeError
            If ``table`` is no data frame.
        ValueError
            If the table cannot be read, lacks a metric, or is of both targets.
        """
        summary = summarize(table, "detector", metrics)
        check_one_target(table, "MeanPerformanceDisplay")
        # Without a mean, at the bottom.
        first = metrics if isinstance(metrics, str) else next(iter(metrics))
        summary = summary.sort_values(first, ascending=first in LOWER_IS_BETTER, kind="stable")
        names = [column[:-3] for column in summary.columns if column.endswith("_se")]
        display = cls(
            detectors=summary["detector"].tolist(),
            means={name: summary[name].to_numpy() for name in names},
            errors={name: summary[f"{name}_se"].to_numpy() for name in names},
        )
        return display.plot(ax, **bar_kw)

    def plot(self, ax: Axes | None = None, **bar_kw: Any) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; by default new ones, as high as the detectors need.
        **bar_kw : dict
            Keyword arguments of matplotlib's ``barh``, for all bars.

        Returns
        -------
        self : MeanPerformanceDisplay
            The display.

        Raises
        ------
        ValueError
            If there are not as many means or errors as detectors.
        """
        means, errors = _columns(self.means), _columns(self.errors)
        check_consistent_length(self.detectors, *means.values(), *errors.values())
        n_detectors, n_metrics = len(self.detectors), len(means)
        size = (7.5, 1.4 + n_detectors * (0.1 + 0.13 * n_metrics))
        self.figure_, self.ax_ = get_axes(ax, "MeanPerformanceDisplay", size)
        has_chance = set(means) <= set(CHANCE)
        start = 0.5 if has_chance else 0.0
        self.bars_ = {}
        for number, (name, values) in enumerate(means.items()):
            style: dict[str, Any] = {
                "height": _BARS / n_metrics,
                "color": line_style(self.ax_, number)["color"],
                "alpha": 0.75,
                "label": TITLES.get(name, name),
                "ecolor": ink(self.ax_),
                "error_kw": {"elinewidth": 1, "capsize": 2},
                **bar_kw,
            }
            places = np.arange(n_detectors) + _BARS * ((number + 0.5) / n_metrics - 0.5)
            self.bars_[name] = self.ax_.barh(
                places, values - start, left=start, xerr=errors[name], **style
            )
        self.chance_line_ = None
        if has_chance:
            self.chance_line_ = self.ax_.axvline(start, color="#777777", linewidth=1)
        self._describe(means, errors, start)
        return self

    def _describe(
        self, means: Mapping[str, NDArray], errors: Mapping[str, NDArray], start: float
    ) -> None:
        self.ax_.set_yticks(np.arange(len(self.detectors)), self.detectors)
        self.ax_.set(
            xlabel="mean over test sets, with its standard error",
            ylim=(len(self.detectors) - 0.5, -0.5),
        )
        self.ax_.spines[["top", "right"]].set_visible(False)
        self.ax_.legend(
            ncols=len(means),
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
            frameon=False,
            labelcolor=ink(self.ax_),
        )
        self._set_limits(means, errors, start)
        _, height = cell_size(self.ax_, 1, len(self.detectors))
        self.ax_.tick_params(axis="y", labelsize=min(10.0, 0.75 * height))
        fontsize = min(8.0, 0.85 * height * _BARS / len(means))
        for name, bars in self.bars_.items():
            _write_at_ends(self.ax_, bars, means[name], fontsize)

    def _set_limits(
        self, means: Mapping[str, NDArray], errors: Mapping[str, NDArray], start: float
    ) -> None:
        """Leave room for the numbers on both sides."""
        ends = np.concatenate(
            [means[name] + sign * np.nan_to_num(errors[name]) for name in means for sign in (-1, 1)]
        )
        ends = np.append(ends[np.isfinite(ends)], [start, 1.0 if start else start])
        lowest, highest = ends.min(), ends.max()
        room = 0.1 * (highest - lowest)
        self.ax_.set_xlim(lowest - room * (lowest < start), highest + room)
        if start:
            # No accuracy is above 1.
            ticks = self.ax_.get_xticks()
            self.ax_.set_xticks(ticks[(ticks >= lowest - room) & (ticks <= 1 + 1e-9)])


def _columns(by_metric: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    return {name: column_or_1d(values, dtype=np.float64) for name, values in by_metric.items()}


def _write_at_ends(ax: Axes, bars: BarContainer, means: NDArray, fontsize: float) -> None:
    texts = ["" if np.isnan(mean) else f"{mean:.3f}" for mean in means]
    ax.bar_label(bars, texts, padding=2, fontsize=fontsize, color=ink(ax))
