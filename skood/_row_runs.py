"""Numbers of rows that mostly follow each other, without a number for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from ._rows import Rows


@dataclass(frozen=True, eq=False)
class RowRuns:
    """Runs of row numbers that each are one more than the number before.

    Attributes
    ----------
    starts : ndarray of shape (n_runs,)
        The first number of each run.
    ends : ndarray of shape (n_runs,)
        How many numbers there are up to the end of each run.
    """

    starts: NDArray[np.intp]
    ends: NDArray[np.intp]

    @classmethod
    def of(cls, rows: Rows) -> RowRuns:
        """Those of numbers in any order, which is kept."""
        numbers = np.asarray(rows, dtype=np.intp)
        firsts = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 2) != 1)
        return cls(numbers[firsts], np.append(firsts, len(numbers))[1:])

    @classmethod
    def first(cls, n_rows: int) -> RowRuns:
        """The numbers from 0 to below ``n_rows``."""
        return cls(np.zeros(min(n_rows, 1), np.intp), np.full(min(n_rows, 1), n_rows, np.intp))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def at(self, places: Rows) -> NDArray[np.intp]:
        """The numbers at some places, from 0."""
        places = np.asarray(places, dtype=np.intp)
        runs = np.searchsorted(self.ends, places, side="right")
        before = np.append(0, self.ends)[runs]
        return self.starts[runs] + places - before

    def followed_by(self, other: RowRuns, start: int) -> RowRuns:
        """These numbers, and then those of others with ``start`` added."""
        starts, ends = other.starts + start, other.ends + len(self)
        if not len(self) or not len(other):
            return self if len(self) else RowRuns(starts, ends)
        goes_on = int(self.at(np.array([len(self) - 1]))[0] + 1 == starts[0])
        return RowRuns(
            np.concatenate([self.starts, starts[goes_on:]]),
            np.concatenate([self.ends[: len(self.ends) - goes_on], ends]),
        )


class KeptAsRuns:
    """Attribute ``some_rows_`` with numbers of rows, of which ``_some_runs`` keeps the runs."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._kept_as = name, f"_{name.removesuffix('rows_')}runs"

    @overload
    def __get__(self, owner: None, kind: type | None = None) -> Self: ...

    @overload
    def __get__(self, owner: object, kind: type | None = None) -> NDArray[np.intp]: ...

    def __get__(self, owner: object, kind: type | None = None) -> Self | NDArray[np.intp]:
        if owner is None:  # asked of the class, as inspect.getmembers does
            return self
        if (runs := vars(owner).get(self._kept_as)) is None:
            raise AttributeError(f"{type(owner).__name__} has no {self._name} before it is fitted.")
        return runs.at(np.arange(len(runs)))

    def __set__(self, owner: Any, rows: Rows) -> None:
        vars(owner)[self._kept_as] = RowRuns.of(rows)
