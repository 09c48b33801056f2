"""Whether a detector that is good on one set is good on the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import column_or_1d

from .._axes import get_axes
from .._od_table import TITLES, check_one_target, read_metrics, read_table, warn_of_missing
from ._drawing import correlations, draw_diagonal, point_style, rows_by_set

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_COLOR_BY = ("detector", "source", "validation")


class ValidationTestDisplay:
    """Performance on a validation set against that on the test sets, for detectors in an OD-test.

    Create it by :meth:`from_table`. A point is one detector, with one source and one validation
    set: how good the detector is on this set, and how good on the others after it was
    configured with this one. Where the points lie along a line, out-of-distribution samples at hand
    are a good guide in choosing a detector; the legend's title states the correlation.

    Parameters
    ----------
    validation : array-like of shape (n_points,)
        The metric on the validation set.
    test : array-like of shape (n_points,)
        The metric on the test sets.
    groups : array-like of shape (n_points,), default=None
        Name of the detector, or of what else gives points their colour. By default all are one
        set.
    metric : str, default="accuracy"
        What the values are.

    Attributes
    ----------
    pearson_ : float
        Pearson's correlation of the two; NaN where one of them does not vary.
    spearman_ : float
        Spearman's correlation, of their ranks; NaN where one of them does not vary.
    points_ : dict of str to matplotlib PathCollection
        The points of each set.
    diagonal_ : matplotlib Line2D
        Where both are equal.
    ax_ : matplotlib Axes
        Axes with the points.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    SettingAccuracyDisplay : The same of the settings that one detector tries.
    TransferDisplay : All pairs of sets for one detector.

    Notes
    -----
    A table has no performance of a detector on the very set that it was configured with, which
    would flatter it. The performance on a validation set is therefore that of the rows in which
    this set is the test set, the mean over the other validation sets.

    Examples
    --------
    >>> import pandas as pd
    >>> from skood.inspection import ValidationTestDisplay
    >>> table = pd.DataFrame(
    ...     {
    ...         "source": "digits",
    ...         "detector": ["energy", "energy", "KNN", "KNN"],
    ...         "target": "ood",
    ...         "validation": ["c", "d", "c", "d"],
    ...         "test": ["d", "c", "d", "c"],
    ...         "accuracy": [0.75, 0.65, 0.81, 0.67],
    ...     }
    ... )
    >>> display = ValidationTestDisplay.from_table(table)
    >>> display.validation, display.test
    (array([0.65, 0.75, 0.67, 0.81]), array([0.75, 0.65, 0.81, 0.67]))
    """

    def __init__(
        self,
        *,
        validation: ArrayLike,
        test: ArrayLike,
        groups: ArrayLike | None = None,
        metric: str = "accuracy",
    ) -> None:
        self.validation = validation
        self.test = test
        self.groups = groups
        self.metric = metric

    @classmethod
    def from_table(
        cls,
        table: DataFrame,
        *,
        metric: str = "accuracy",
        color_by: str = "detector",
        ax: Axes | None = None,
        **scatter_kw: Any,
    ) -> Self:
        """Draw a point for each detector, source and validation set.

        Parameters
        ----------
        table : pandas.DataFrame
            A table as that of ``od_test`` with ``validation="each"``, of one target.
        metric : str, default="accuracy"
            Column of the table.
        color_by : {"detector", "source", "validation"}, default="detector"
            What the colours and markers mean.
        ax : matplotlib Axes, default=None
            Axes to draw on; by default new ones, as large as the legend needs.
        **scatter_kw : dict
            Keyword arguments of matplotlib's ``scatter``, for all sets.

        Returns
        -------
        display : ValidationTestDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If pandas or matplotlib is not installed.
        TypeError
            If ``table`` is no data frame.
        ValueError
            If the table cannot be read, lacks the metric, is of both targets, or has no set that is
            both a validation set and a test set, or ``color_by`` is unknown.
        """
        if color_by not in _COLOR_BY:
            raise ValueError(f"color_by must be one of {_COLOR_BY}, got {color_by!r}.")
        keys = read_table(table, (), "ValidationTestDisplay")
        (metric,) = read_metrics(table, metric, keys)
        check_one_target(table, "ValidationTestDisplay")
        warn_of_missing(table.reset_index(drop=True), [metric])
        points = _points(table, metric)
        display = cls(
            validation=points["on_validation"].to_numpy(),
            test=points["on_test"].to_numpy(),
            groups=points[color_by].to_numpy(),
            metric=metric,
        )
        return display.plot(ax, **scatter_kw)

    def plot(self, ax: Axes | None = None, **scatter_kw: Any) -> Self:
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; by default new ones, as large as the legend needs.
        **scatter_kw : dict
            Keyword arguments of matplotlib's ``scatter``, for all sets.

        Returns
        -------
        self : ValidationTestDisplay
            The display.

        Raises
        ------
        ValueError
            If the lengths differ.
        """
        before, after = (
            column_or_1d(values, dtype=np.float64) for values in (self.validation, self.test)
        )
        check_consistent_length(before, after)
        sets = rows_by_set(self.groups, len(before))
        self.pearson_, self.spearman_ = correlations(before, after)
        longest = max(map(len, sets))
        size = (6.0 + 0.085 * longest, max(4.8, 1.2 + 0.185 * len(sets)))
        self.figure_, self.ax_ = get_axes(ax, "ValidationTestDisplay", size)
        self.points_ = {}
        for number, (name, rows) in enumerate(sets.items()):
            style = {**point_style(self.ax_, number), "s": 24, "alpha": 0.8, "label": name}
            self.points_[name] = self.ax_.scatter(before[rows], after[rows], **(style | scatter_kw))
        self._describe(before, after)
        return self

    def _describe(self, before: NDArray, after: NDArray) -> None:
        self.diagonal_ = draw_diagonal(self.ax_, before, after)
        title = TITLES.get(self.metric, self.metric)
        self.ax_.set(
            xlabel=f"{title} on the validation set",
            ylabel=f"{title} on the test sets, mean",
        )
        self.ax_.legend(
            title=f"Pearson {self.pearson_:.2f}, Spearman {self.spearman_:.2f}",
            fontsize="small",
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
        )


def _points(table: DataFrame, metric: str) -> DataFrame:
    """Mean of the metric with each set as the validation set, and with it as the test set."""
    options: dict[str, Any] = {"sort": False, "observed": True, "as_index": False}
    keys = ["source", "detector", "validation"]
    on_test = table.groupby(keys, **options)[metric].mean()
    as_test = table.groupby(["source", "detector", "test"], **options)[metric].mean()
    points = on_test.rename(columns={metric: "on_test"}).merge(
        as_test.rename(columns={metric: "on_validation", "test": "validation"}), on=keys
    )
    points = points.dropna(subset=["on_test", "on_validation"])
    if points.empty:
        raise ValueError(
            "ValidationTestDisplay needs sets that are validation sets in some rows and test sets "
            "in others, as od_test gives with validation='each': there is none with a value."
        )
    return points
