"""Means and paired differences of the cells of an OD-test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._od_table import (
    KEYS,
    LOWER_IS_BETTER,
    read_metrics,
    read_table,
    warn_of_absent,
    warn_of_cells,
    warn_of_missing,
)
from .._optional import import_optional

if TYPE_CHECKING:
    from pandas import DataFrame

_BY = ("source", "detector", "target")
# The means of one detector on these scatter independently; on validation sets, they do not.
_TEST = ("source", "target", "test")


def summarize(
    table: DataFrame,
    by: str | Iterable[str] = _BY,
    metrics: str | Iterable[str] | None = None,
) -> DataFrame:
    """Average the cells of an OD-test, with standard errors.

    The mean over the validation sets is taken first, then the mean over the test sets and its
    standard error, so that rows that share a test set do not make the error smaller than it is.
    A test set of two sources counts as two.

    Parameters
    ----------
    table : pandas.DataFrame
        A table as that of ``od_test``: a row for each cell, with the columns "source", "detector",
        "target", "validation" and "test" and one of numbers for each metric.
    by : str or sequence of str, default=("source", "detector", "target")
        Columns of the table, for each combination of which there is a row in the result. All other
        rows are averaged over; with ``by="detector"``, over sources and targets. A column that
        tables do not have by themselves, such as the network of several joined tables, tells
        cells apart, too.
    metrics : str or sequence of str, default=None
        Columns to average, such as "auroc" or "fit_time"; by default all metrics that the table has
        values of.

    Returns
    -------
    pandas.DataFrame
        The columns ``by``, then for each metric its mean and its standard error ("auroc",
        "auroc_se"), which is NaN for a single test set, and last

        - "n": the number of test sets, or of pairs of a source and a test set;
        - "n_missing": the number of cells that lack one of the metrics, though others of the same
          target have it. Means are over the other cells. Cells without a row are not counted, but
          warned of where means of detectors do not compare for it.

        Rows are in the order in which the table first has them.

    Raises
    ------
    ImportError
        If pandas is not installed.
    TypeError
        If ``table`` is no data frame.
    ValueError
        If ``table`` has no rows, lacks a column that is asked for, or has two rows of the same
        cell.

    Warns
    -----
    UserWarning
        If cells lack a metric; or if there are cells of some detectors of which others with the
        same values of ``by`` have no row, so that their means are over different cells. Rows of
        ``validation=None`` or "others" are in place of those of every validation set.

    See Also
    --------
    compare : Differences of detectors on the cells that both have.
    skood.inspection.MeanPerformanceDisplay : Draws these means.

    Examples
    --------
    The mean over the test sets "c" and "d" is that of 0.7 and 0.9:

    >>> import pandas as pd
    >>> from skood.model_selection import summarize
    >>> table = pd.DataFrame(
    ...     {
    ...         "source": "digits",
    ...         "detector": "energy",
    ...         "target": "ood",
    ...         "validation": ["c", "d", "e", "e"],
    ...         "test": ["d", "c", "d", "c"],
    ...         "auroc": [0.86, 0.68, 0.94, 0.72],
    ...     }
    ... )
    >>> print(summarize(table, by="detector").round(2).to_string(index=False))
    detector  auroc  auroc_se  n  n_missing
      energy    0.8       0.1  2          0
    """
    columns = _read_by(by)
    keys = read_table(table, columns, "summarize")
    names = read_metrics(table, metrics, keys)
    frame = table[[*keys, *names]].reset_index(drop=True)
    warn_of_absent(frame, columns, names)
    frame = frame.assign(n_missing=warn_of_missing(frame, names))
    options: dict[str, Any] = {"sort": False, "dropna": False, "observed": True}
    how = {**dict.fromkeys(names, "mean"), "n_missing": "sum"}
    tests = frame.groupby(_joined(columns, _TEST), **options).agg(how).reset_index()
    groups = tests.groupby(columns, **options)
    means = groups[names].mean()
    errors = groups[names].std() / np.sqrt(groups[names].count())
    result = means.join(errors.add_suffix("_se"))
    result = result[[column for name in names for column in (name, f"{name}_se")]]
    result = result.assign(n=groups.size(), n_missing=groups["n_missing"].sum())
    return result.reset_index()


def compare(
    table: DataFrame,
    reference: str,
    *,
    metric: str = "auroc",
    by: str | Iterable[str] = _BY,
) -> DataFrame:
    """Compare each detector with a reference, on the same cells of an OD-test.

    Cells of the two detectors are paired: those of the same source, target, validation set and test
    set; cells that only one of them has are left out. As cells that are hard for one detector are
    hard for others, too, differences of pairs are known much better than the means that they are
    differences of. They are averaged over the validation sets first, then over the test sets, as
    by :func:`summarize`.

    Parameters
    ----------
    table : pandas.DataFrame
        A table as that of ``od_test``.
    reference : str
        Name of the detector that all others are compared with.
    metric : str, default="auroc"
        Column of the table.
    by : str or sequence of str, default=("source", "detector", "target")
        Columns of the table, "detector" among them, for each combination of which there is a row
        in the result; with ``by="detector"``, differences are averaged over sources and targets.

    Returns
    -------
    pandas.DataFrame
        The columns ``by``, and

        - "difference": the mean of the metric minus that of the reference;
        - "difference_se": its standard error over test sets, NaN for a single one;
        - "n": the number of test sets, or of pairs of a source and a test set;
        - "won": the share of cells in which the detector is better; equal ones count one half;
        - "worst": the difference of the cell that is worst for the detector: the smallest, but of
          "fpr95_in", "fpr95_out", "aurc" and times, where lower is better, the largest;
        - "worst_source" and so on: which cell that is, by the columns that are not in ``by``;
        - "n_missing": the number of cells in which one of the two has no value or no row.

        Detectors are in the order in which the table first has them, without the reference.

    Raises
    ------
    ImportError
        If pandas is not installed.
    TypeError
        If ``table`` is no data frame.
    ValueError
        If ``table`` has no detector ``reference`` or no other one, has no rows, lacks a column
        that is asked for, or has two rows of the same cell, or "detector" is not in ``by``.

    Warns
    -----
    UserWarning
        If cells have no value or no row of the detector or of the reference. They are left out.

    See Also
    --------
    summarize : Means of each detector.

    Examples
    --------
    >>> import pandas as pd
    >>> from skood.model_selection import compare
    >>> table = pd.DataFrame(
    ...     {
    ...         "source": "digits",
    ...         "detector": ["energy", "energy", "KNN", "KNN"],
    ...         "target": "ood",
    ...         "validation": ["c", "d", "c", "d"],
    ...         "test": ["d", "c", "d", "c"],
    ...         "auroc": [0.86, 0.68, 0.96, 0.72],
    ...     }
    ... )
    >>> print(compare(table, "energy", by="detector").round(2).iloc[0].to_string())
    detector               KNN
    difference            0.07
    difference_se         0.03
    n                        2
    won                    1.0
    worst                 0.04
    worst_source        digits
    worst_target           ood
    worst_validation         d
    worst_test               c
    n_missing                0
    """
    columns = _read_by(by)
    if "detector" not in columns:
        raise ValueError(f"`by` must name 'detector', as each is compared; got {columns}.")
    keys = read_table(table, columns, "compare")
    (name,) = read_metrics(table, metric, keys)
    pairs = _pair(table[[*keys, name]].reset_index(drop=True), name, reference)
    groups = pairs.groupby(columns, sort=False, dropna=False, observed=True)
    better_if_lower = name in LOWER_IS_BETTER
    rows = [_describe(group, columns, better_if_lower) for _, group in groups]
    return import_optional("pandas", "pandas", "compare").DataFrame(rows)


def _read_by(by: str | Iterable[str]) -> list[str]:
    columns = [by] if isinstance(by, str) else list(dict.fromkeys(by))
    if not columns:
        raise ValueError("`by` must name at least one column, such as 'detector', got none.")
    return columns


def _joined(*names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name for some in names for name in some))


def _pair(table: DataFrame, metric: str, reference: str) -> DataFrame:
    """The difference to the reference at each cell, of each other detector.

    The table has the columns of the cells, and the metric alone.
    """
    names = table["detector"].unique().tolist()
    if reference not in names or len(names) == 1:
        raise ValueError(
            "compare needs the reference and at least one other detector in the table; the "
            f"reference is {reference!r}, the detectors are {names}."
        )
    cell_keys = [column for column in table.columns if column not in ("detector", metric)]
    cell = table.groupby(cell_keys, sort=False, dropna=False, observed=True).ngroup()
    values = table.assign(cell=cell).pivot(index="cell", columns="detector", values=metric)
    # Metrics that a target does not have are missing of no detector.
    values = values.dropna(how="all")
    cells = table[cell_keys].assign(cell=cell).drop_duplicates("cell").set_index("cell")
    pairs = [
        cells.loc[values.index].assign(detector=name, difference=values[name] - values[reference])
        for name in names
        if name != reference
    ]
    pandas = import_optional("pandas", "pandas", "compare")
    joined = pandas.concat(pairs, ignore_index=True)
    _warn_of_unpaired(joined, metric)
    return joined


def _warn_of_unpaired(pairs: DataFrame, metric: str) -> None:
    unpaired = pairs["difference"].isna().to_numpy()
    if unpaired.any():
        first = pairs[list(KEYS)].iloc[int(unpaired.argmax())]
        warn_of_cells(int(unpaired.sum()), metric, first)


def _describe(group: DataFrame, by: Sequence[str], better_if_lower: bool) -> dict[str, Any]:
    """The row of the result for some differences."""
    known = group.dropna(subset=["difference"])
    # Differences that are good for the detector.
    gains = -known["difference"] if better_if_lower else known["difference"]
    units = _joined(by, _TEST)
    means = known.groupby(units, sort=False, dropna=False, observed=True)["difference"].mean()
    first = group.iloc[0]
    row = {key: first[key] for key in by}
    row["difference"] = means.mean()
    row["difference_se"] = means.std() / np.sqrt(max(len(means), 1))
    row["n"] = len(means)
    row["won"] = ((gains > 0) + 0.5 * (gains == 0)).mean()
    worst = known.loc[gains.idxmin()] if len(known) else None
    row["worst"] = np.nan if worst is None else worst["difference"]
    for key in group.columns.difference([*by, "difference"], sort=False):
        row[f"worst_{key}"] = None if worst is None else worst[key]
    row["n_missing"] = len(group) - len(known)
    return row
