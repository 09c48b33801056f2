"""The table of an OD-test: what its columns are, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ._optional import import_optional
from ._warnings import warn_user

if TYPE_CHECKING:
    from pandas import DataFrame, Series

KEYS = ("source", "detector", "target", "validation", "test")
"""What a row is of. Detectors are compared on the same of all the others."""

TITLES = {
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "aupr_in": "AUPR-In",
    "aupr_out": "AUPR-Out",
    "fpr95_in": "FPR95, in-distribution positive",
    "fpr95_out": "FPR95, OOD positive",
    "aurc": "AURC",
}
"""Metrics that a table has, as they are written in a figure."""

LOWER_IS_BETTER = frozenset({"fpr95_in", "fpr95_out", "aurc", "fit_time", "score_time"})

CHANCE = {"accuracy": 0.5, "auroc": 0.5, "aupr_in": 0.5, "aupr_out": 0.5}
"""What scores that say nothing reach, on equal numbers of both kinds of rows."""

# Values of "validation" where the rows of no single set are marked.
_NO_SINGLE_SET = ("none", "others")
# Numbers that are no measure of how good a detector is.
_BESIDE = frozenset({"n_in", "n_out", "fit_time", "score_time"})
_INDEX = "Unnamed: "
"""How pandas names the column of an index that it finds in a file."""


def read_table(table: DataFrame, more: Iterable[str], needed_by: str) -> list[str]:
    """Names of the columns that tell the cells of a table apart: those of a table, and ``more``.

    Raises
    ------
    ImportError
        If pandas is not installed.
    TypeError
        If the table is no data frame.
    ValueError
        If it has no rows or lacks a column, or two rows are of the same cell.
    """
    pandas = import_optional("pandas", "pandas", needed_by)
    if not isinstance(table, pandas.DataFrame):
        raise TypeError(
            f"{needed_by} needs the pandas DataFrame that od_test returns, got "
            f"{type(table).__name__}."
        )
    keys = list(dict.fromkeys([*KEYS, *more]))
    if missing := [key for key in keys if key not in table.columns]:
        raise ValueError(
            f"The table has no column {missing[0]!r}: a row needs {list(KEYS)} to say what it is "
            f"of, and the columns are {list(table.columns)}."
        )
    if table.empty:
        raise ValueError(f"{needed_by} needs at least one row, got a table without any.")
    _refuse_repeated_cells(table, keys)
    return keys


def _refuse_repeated_cells(table: DataFrame, keys: list[str]) -> None:
    repeated = table.duplicated(keys).to_numpy()
    if repeated.any():
        cell = table[keys].iloc[int(repeated.argmax())]
        raise ValueError(
            f"{repeated.sum()} row(s) repeat a cell, as {_describe(cell)}: leave one of them "
            "out, or, where a further column tells them apart, name it in `by`."
        )


def _describe(cell: Series) -> str:
    """The cell of one row, in words."""
    return ", ".join(f"{key}={value!r}" for key, value in cell.items())


def read_metrics(
    table: DataFrame, metrics: str | Iterable[str] | None, keys: Sequence[str]
) -> list[str]:
    """Names of the metrics asked for, by default of all that the table has values of.

    Raises
    ------
    ValueError
        If the table does not have one, or it is not of numbers.
    """
    numeric = [column for column in table.select_dtypes("number").columns if column not in keys]
    if metrics is None:
        beside = [name for name in numeric if name in _BESIDE or str(name).startswith(_INDEX)]
        return [name for name in numeric if name not in beside and table[name].notna().any()]
    names = [metrics] if isinstance(metrics, str) else list(dict.fromkeys(metrics))
    if unknown := [name for name in names if name not in numeric]:
        raise ValueError(
            f"The table has no metric {unknown[0]!r}; its columns of numbers are {numeric}."
        )
    if not names:
        raise ValueError(f"Name at least one metric; the columns of numbers are {numeric}.")
    return names


def warn_of_missing(table: DataFrame, metrics: Sequence[str]) -> Series:
    """Warn of rows that lack a metric that others of their target have; returns which they are."""
    values = table[list(metrics)]
    has_target = values.notna().groupby(table["target"], dropna=False).transform("any")
    missing = values.isna() & has_target
    rows = missing.any(axis=1)
    if rows.any():
        first = int(rows.to_numpy().argmax())
        metric = missing.columns[missing.iloc[first].to_numpy().argmax()]
        warn_of_cells(int(rows.sum()), metric, table[list(KEYS)].iloc[first])
    return rows


def warn_of_cells(n_cells: int, metric: str, first: Series) -> None:
    """Warn that means leave cells out, of which this is the first."""
    warn_user(
        f"{n_cells} cell(s) have no value, as {metric!r} at {_describe(first)}. Means are over the "
        "other cells."
    )


def warn_of_absent(table: DataFrame, by: Sequence[str], metrics: Sequence[str]) -> None:
    """Warn of rows that the table does not have of a detector, but of others that it stands beside.

    ``by`` are the columns that have the same values in all rows that a mean is over. The table has
    them, the columns of the cells, and the metrics; none has a value of a target that lacks it.
    """
    if "detector" not in by:
        return
    has_target = table[list(metrics)].notna().groupby(table["target"], dropna=False)
    rows = table.loc[has_target.transform("any").any(axis=1)].drop(columns=list(metrics))
    absent = _absent_rows(rows, [column for column in by if column != "detector"])
    if absent.empty:
        return
    counts = absent["detector"].value_counts(sort=False).to_dict()
    warn_user(
        f"Means are over different cells, and do not compare: {len(absent)} row(s) of cells that "
        f"other detectors have are absent, the first {_describe(absent.iloc[0])}. By detector: "
        f"{counts}. compare() takes cells alone that two detectors have; or pass the rows of those "
        "that all have."
    )


def _absent_rows(rows: DataFrame, shared: list[str]) -> DataFrame:
    """Cells of each detector that others with the same values of some columns have, and it has not.

    A detector that learns from no single validation set stands beside one of each, by its test
    sets.
    """
    pandas = import_optional("pandas", "pandas", "summarize")
    keys = rows.columns.tolist()
    cells = rows.drop(columns="detector").drop_duplicates()
    detectors = rows[[*shared, "detector"]].drop_duplicates()
    wanted = cells.merge(detectors, on=shared) if shared else cells.merge(detectors, how="cross")
    joined = pandas.concat(
        [rows.assign(is_there=True), wanted[keys].assign(is_there=False)], ignore_index=True
    )
    is_general = joined["validation"].isin(_NO_SINGLE_SET) | joined["validation"].isna()
    joined["is_general"] = is_general & joined["is_there"]
    options: dict[str, Any] = {"sort": False, "dropna": False, "observed": True}
    has_row = joined.groupby(keys, **options)["is_there"].transform("any")
    of_test = [key for key in keys if key != "validation"]
    has_test = joined.groupby(of_test, **options)[["is_there", "is_general"]].transform("any")
    is_stood_for = has_test["is_general"] | (has_test["is_there"] & is_general)
    return joined.loc[~(has_row | is_stood_for), keys]


def check_one_target(table: DataFrame, needed_by: str) -> None:
    """Refuse to put both targets into one figure.

    Raises
    ------
    ValueError
        If the table has several.
    """
    targets = table["target"].unique().tolist()
    if len(targets) > 1:
        raise ValueError(
            f"{needed_by} draws one target, the table has {targets}: pass its rows of one, as in "
            f"table[table['target'] == {targets[0]!r}]."
        )
