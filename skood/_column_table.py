"""The table that `Activations` hold: columns by role and name, and which of their rows."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._column import PARTS, Column, Role, changed
from ._patterns import PackedBits
from ._rows import (
    LazyArray,
    LazyRows,
    Rows,
    contiguous,
    held_in,
    is_everything,
    read_only,
    resolve,
    row_index,
    rows_at,
    take,
)


class ColumnTable:
    """Columns, of which some rows are held; arrays are cut when they are read and not before."""

    __slots__ = ("columns", "rows")

    columns: Mapping[tuple[str, str], Column]
    """All columns by role and name, with all of their rows."""
    rows: Rows
    """The rows that are held."""

    def __init__(self, columns: Mapping[tuple[str, str], Column], rows: Rows) -> None:
        self.columns, self.rows = columns, rows

    @classmethod
    def of(cls, columns: Iterable[Column]) -> ColumnTable:
        """All rows of some columns of the same length.

        Raises
        ------
        ValueError
            If there is no layer, or the columns differ in length.
        """
        table = cls({(column.role, str(column.name)): column for column in columns}, range(0))
        if not table.layer_names:
            raise ValueError("Activations need at least one layer, got none.")
        lengths = [len(column.array) for column in table.columns.values()]
        if min(lengths) < max(lengths):
            found = {key[1]: length for key, length in zip(table.columns, lengths, strict=True)}
            raise ValueError(f"All parts need the same number of samples, got {found}.")
        table.rows = range(lengths[0])
        return table

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, in forward order."""
        return tuple(name for role, name in self.columns if role == "layer")

    def layers(self) -> Iterator[tuple[str, Column]]:
        """Names and columns of the layers, with all of their rows."""
        return ((name, column) for (role, name), column in self.columns.items() if role == "layer")

    def find(self, name: str, role: str = "layer") -> Any:
        """The array of a column with all of its rows; None where there is no such column."""
        column = self.columns.get((role, name))
        return None if column is None else column.array

    def read_layer(self, name: str) -> Any:
        """The held rows of a layer.

        Raises
        ------
        KeyError
            If there is no such layer.
        """
        if (array := self.find(name)) is None:
            self.check_known([name])
        return take(array, self.rows)

    def part(self, name: str) -> Any:
        """The array of a part that is no layer, with all of its rows; None where there is none."""
        return self.find(name, PARTS[name].role)

    def read(self, array: Any) -> Any:
        """The held rows of the array of a column; None for None."""
        return None if array is None else take(array, self.rows)

    def hold(self, array: Any) -> Any:
        """The held rows of the array of a column, for another table to hold; reads nothing."""
        array, rows = resolve(array, self.rows)
        return array if is_everything(array, rows) else LazyRows(array, rows)

    def held(self, column: Column) -> Column:
        """A column with the held rows; reads nothing."""
        array = self.hold(column.array)
        return column if array is column.array else changed(column, array=array)

    def read_only(self) -> ColumnTable:
        """The same rows of arrays that cannot be written into; reads nothing."""
        columns = {
            key: changed(column, array=read_only(column.array))
            for key, column in self.columns.items()
        }
        return ColumnTable(columns, self.rows)

    def copy(self, roles: Container[Role]) -> ColumnTable:
        """The held rows of the columns of some roles, in arrays of their own."""
        columns = {
            key: changed(column, array=_own(self.read(column.array), column.array))
            for key, column in self.columns.items()
            if column.role in roles
        }
        return ColumnTable(columns, range(len(self)))

    @property
    def n_values(self) -> int:
        """How many values all columns have of a sample; reads nothing."""
        return sum(column.n_units for column in self.columns.values())

    def select_rows(self, item: Any) -> ColumnTable:
        """Some of the rows; the columns are shared.

        Raises
        ------
        IndexError, ValueError
            As `row_index`.
        """
        index = row_index(item, len(self))
        if isinstance(index, slice):
            return ColumnTable(self.columns, self.rows[index])
        return ColumnTable(self.columns, rows_at(self.rows, index))

    def check_known(self, names: Sequence[str]) -> None:
        """Raise a KeyError that names the layers there are where others are selected."""
        if not (missing := [name for name in names if ("layer", name) not in self.columns]):
            return
        known = self.layer_names
        close = [near for name in missing for near in get_close_matches(name, known)]
        advice = f" Did you mean {' or '.join(map(repr, dict.fromkeys(close)))}?" if close else ""
        raise KeyError(f"No layer {missing}; the layers are {list(known)}.{advice}")

    def select_layers(self, names: Sequence[str]) -> ColumnTable:
        """Some of the layers, in this order, and all columns that are no layers.

        Raises
        ------
        KeyError
            If one of them is not there, or is selected twice.
        """
        self.check_known(names)
        if len(set(names)) < len(names):
            raise KeyError(f"A layer is selected twice: {names}.")
        others = {key: column for key, column in self.columns.items() if key[0] != "layer"}
        chosen = {("layer", name): self.columns["layer", name] for name in names}
        return ColumnTable(chosen | others, self.rows)

    def shares_memory(self, array: NDArray) -> bool:
        """Whether an array is part of that of a layer."""
        arrays = (resolve(column.array, self.rows)[0] for _, column in self.layers())
        return any(isinstance(a, np.ndarray) and np.may_share_memory(a, array) for a in arrays)

    def compact_columns(self) -> list[Column]:
        """Columns of contiguous plain arrays that hold the held rows and no others.

        What is read when it is asked for decides on its own how it is pickled.
        """
        return [
            changed(column, array=self._compact(column.array)) for column in self.columns.values()
        ]

    def _compact(self, array: Any) -> Any:
        held = self.hold(array)
        return held if isinstance(held_in(held), LazyArray) else compact(self.read(array))


def _own(array: Any, held: Any) -> Any:
    """An array, copied where it is a view of the one that it was read from."""
    if isinstance(array, PackedBits):
        return PackedBits._of(array.words.copy(), array.n_bits)
    is_view = not isinstance(held, np.ndarray) or np.may_share_memory(array, held)
    return np.array(array, copy=is_view)


def compact(array: Any) -> Any:
    """A contiguous plain array, or packed bits of one; None for None."""
    if isinstance(array, PackedBits):
        return PackedBits._of(contiguous(array.words), array.n_bits)
    return None if array is None else contiguous(array)
