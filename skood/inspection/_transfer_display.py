"""How a detector that is configured with one set does on another."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._axes import get_axes, is_dark
from .._od_table import (
    LOWER_IS_BETTER,
    TITLES,
    check_one_target,
    read_metrics,
    read_table,
    warn_of_missing,
)
from ._drawing import cell_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_NO_VALUE = "#dddddd"


class TransferDisplay:
    """A detector in an OD-test: each validation set against each test set, as a heat map.

    Create it by :meth:`from_table`. A row is the set that the detector is configured with, a column
    the set that it is reported on. Rows that are all alike belong to a detector that learns nothing
    from out-of-distribution samples; columns that differ, to test sets that are hard. Brighter is
    better, and each cell has its value written in it. The cells of one set twice are empty.

    Parameters
    ----------
    values : array-like of shape (n_validation_sets, n_test_sets)
        The metric; NaN where there is none.
    validation : sequence of str
        Names of the validation sets.
    test : sequence of str
        Names of the test sets.
    detector : str, default=None
        Name of the detector, the title.
    metric : str, default="auroc"
        What the values are.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The cells.
    texts_ : dict of (str, str) to matplotlib Text
        The number in each cell, by the names of the validation set and the test set.
    colorbar_ : matplotlib Colorbar
        The scale of the colours.
    ax_ : matplotlib Axes
        Axes with the cells.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    MeanPerformanceDisplay : Many detectors, a mean for each.
    ValidationTestDisplay : Whether a validation set is a good guide.

    Examples
    --------
    >>> import pandas as pd
    >>> from skood.inspection import TransferDisplay
    >>> table = pd.DataFrame(
    ...     {
    ...         "source": "digits",
    ...         "detector": "KNN",
    ...         "target": "ood",
    ...         "validation": ["c", "d"],
    ...         "test": ["d", "c"],
    ...         "auroc": [0.96, 0.72],
    ...     }
    ... )
    >>> display = TransferDisplay.from_table(table)
    >>> display.texts_["c", "d"].get_text()
    '0.96'
    """

    def __init__(
        self,
        *,
        values: ArrayLike,
        validation: Sequence[str],
        test: Sequence[str],
        detector: str | None = None,
        metric: str = "auroc",
    ) -> None:
        self.values = values
        self.validation = validation
        self.test = test
        self.detector = detector
        self.metric = metric

    @classmethod
    def from_table(
        cls,
        table: DataFrame,
        detector: str | None = None,
        *,
        metric: str = "auroc",
        ax: Axes | None = None,
        **image_kw: Any,
    ) -> Self:
        """Draw the cells of one detector, each the mean over the sources that have it.

        Parameters
        ----------
        table : pandas.DataFrame
            A table as that of ``od_test``. For one source, pass its rows.
        detector : str, default=None
            Name of the detector; by default the only one in the table.
        metric : str, default="auroc"
            Column of the table.
        ax : matplotlib Axes, default=None
            Axes to draw on; by default new ones, as large as the numbers need.
        **image_kw : dict
            Keyword arguments of matplotlib's ``imshow``, such as ``vmin`` and ``vmax``.

        Returns
        -------
        display : TransferDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If pandas or matplotlib is not installed.
        TypeError
            If ``table`` is no data frame.
        ValueError
            If the table cannot be read, lacks the metric or the detector, is of both targets, or
            does not say for each row what the validation set is.
        """
        keys = read_table(table, (), "TransferDisplay")
        (metric,) = read_metrics(table, metric, keys)
        rows = _of_detector(table, detector)
        check_one_target(rows, "TransferDisplay")
        if rows["validation"].isna().any():
            raise ValueError(
                "TransferDisplay needs the name of a validation set in each row, as od_test gives "
                "it with validation='each': some rows have none."
            )
        warn_of_missing(rows.reset_index(drop=True), [metric])
        wide = rows.pivot_table(
            index="validation", columns="test", values=metric, dropna=False, observed=True
        )
        validation, known = (rows[key].unique().tolist() for key in ("validation", "test"))
        # In the order of the validation sets, so that the empty cells are on the diagonal.
        test = [name for name in validation if name in known]
        test += [name for name in known if name not in validation]
        display = cls(
            values=wide.reindex(index=validation, columns=test).to_numpy(),
            validation=validation,
            test=test,
            detector=rows["detector"].iloc[0],
            metric=metric,
        )
        return display.plot(ax, **image_kw)

    def plot(self, ax: Axes | None = None, **image_kw: Any) -> Self:
        """Draw the cells.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; by default new ones, as large as the numbers need.
        **image_kw : dict
            Keyword arguments of matplotlib's ``imshow``, such as ``vmin`` and ``vmax``.

        Returns
        -------
        self : TransferDisplay
            The display.

        Raises
        ------
        ValueError
            If ``values`` does not have a row for each validation set and a column for each test
            set.
        """
        values = np.asarray(self.values, dtype=np.float64)
        shape = len(self.validation), len(self.test)
        if values.shape != shape:
            raise ValueError(
                f"values must have the shape {shape}, a row for each validation set and a column "
                f"for each test set, got {values.shape}."
            )
        size = (max(4.8, 2.8 + 0.5 * shape[1]), max(3.6, 1.8 + 0.36 * shape[0]))
        self.figure_, self.ax_ = get_axes(ax, "TransferDisplay", size)
        style: dict[str, Any] = {
            "cmap": "cividis_r" if self.metric in LOWER_IS_BETTER else "cividis",
            "aspect": "auto",
            **image_kw,
        }
        self.image_ = self.ax_.imshow(np.ma.masked_invalid(values), **style)
        self.ax_.set_facecolor(_NO_VALUE)
        self._describe()
        self._write(values)
        return self

    def _describe(self) -> None:
        self.ax_.set_xticks(
            np.arange(len(self.test)),
            self.test,
            rotation=45,
            ha="right",
            rotation_mode="anchor",
        )
        self.ax_.set_yticks(np.arange(len(self.validation)), self.validation)
        self.ax_.tick_params(length=0)
        self.ax_.set(xlabel="test set", ylabel="validation set")
        self.colorbar_ = self.figure_.colorbar(
            self.image_, ax=self.ax_, label=TITLES.get(self.metric, self.metric), pad=0.02
        )
        width, height = cell_size(self.ax_, len(self.test), len(self.validation))
        self.ax_.tick_params(axis="x", labelsize=min(10.0, 0.6 * width))
        self.ax_.tick_params(axis="y", labelsize=min(10.0, 0.75 * height))
        if self.detector is not None:
            n_letters = max(12, int(width * len(self.test) / 6))
            self.ax_.set_title(fill(str(self.detector), n_letters), fontsize=11)

    def _write(self, values: NDArray[np.float64]) -> None:
        """Write each value into its cell, as large as fits."""
        width, height = cell_size(self.ax_, *values.shape[::-1])
        texts = np.array([["" if np.isnan(v) else f"{v:.2f}" for v in row] for row in values])
        # A digit is about .6 of the size of its font wide.
        longest = max(1, np.char.str_len(texts).max())
        fontsize = min(10.0, 0.6 * height, 0.9 * width / (0.6 * longest))
        dark = is_dark(self.image_.to_rgba(np.ma.masked_invalid(values)))
        self.texts_ = {
            (self.validation[row], self.test[column]): self.ax_.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=fontsize,
                color="white" if dark[row, column] else "black",
            )
            for (row, column), text in np.ndenumerate(texts)
            if text
        }


def _of_detector(table: DataFrame, detector: str | None) -> DataFrame:
    """The rows of a detector, or of the only one."""
    names = table["detector"].unique().tolist()
    if detector is None and len(names) == 1:
        return table
    if detector not in names:
        raise ValueError(
            f"TransferDisplay draws one detector: name one of {names} as detector, got "
            f"{detector!r}."
        )
    return table[table["detector"] == detector]
