"""Whether samples are among those that something was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ._batches import row_batches
from ._elsewhere import engine, lies_elsewhere
from ._layer_names import layer_columns
from ._rows import take
from ._values import Floats
from .activations import Activations

_N_NUMBERS = 4
"""Of each row: so many that others are not the same by chance."""
_SAME = 1e-4
"""In standard deviations: batches of another size change the last digits of activations."""


@dataclass(frozen=True)
class SeenRows:
    """A few numbers of each row of activations, by which the row is known again.

    Attributes
    ----------
    numbers : ndarray of shape (n_samples, 4)
        Random combinations of the units of one layer, relative to ``scale``.
    scale : ndarray of shape (4,)
        Their standard deviations.
    """

    numbers: Floats
    scale: Floats

    @classmethod
    def of(cls, A: Any) -> SeenRows | None:
        """Those of rows; None where no layer has enough units to tell rows apart."""
        numbers = _combinations(A)
        return None if numbers is None else cls._scaled(numbers)

    @classmethod
    def _scaled(cls, numbers: Floats) -> SeenRows:
        """Of combinations, which are divided in place: they may be many."""
        scale = np.ones(_N_NUMBERS)
        if len(numbers):
            scale[:] = [column.std() for column in numbers.T]
        scale[scale == 0] = 1.0
        numbers /= scale
        return cls(numbers, scale)

    def merge(self, other: SeenRows) -> SeenRows:
        """Those of the rows of both."""
        return self._scaled(
            np.concatenate([self.numbers * self.scale, other.numbers * other.scale])
        )

    def are_same(self, A: Any) -> bool:
        """Whether these are the same rows in any order, and not all alike."""
        numbers = self._numbers_of(A)
        if numbers is None or numbers.shape != self.numbers.shape:
            return False
        return self._share_of_repeated() < 0.5 and (
            bool(np.abs(numbers - self.numbers).max() <= _SAME)
            or all(_n_near(a, b).all() for a, b in permutations((numbers, self.numbers)))
        )

    def n_among(self, A: Any) -> int:
        """How many rows are among them."""
        numbers = self._numbers_of(A)
        if numbers is None or len(numbers) == 0:
            return 0
        return int(_n_near(numbers, self.numbers).sum())

    def share_among(self, A: Any) -> float:
        """Share of rows that are among them, more than equal ones would be by chance; 0 if few."""
        share = self.n_among(A) / max(1, len(A))
        if share <= 0.05:
            return 0.0
        by_chance = self._share_of_repeated()
        error = np.sqrt(by_chance * (1 - by_chance) / len(A))
        return share if share > by_chance + 0.05 + 3 * error else 0.0

    def _numbers_of(self, A: Any) -> Floats | None:
        numbers = _combinations(A)
        if numbers is not None:
            numbers /= self.scale
        return numbers

    def _share_of_repeated(self) -> float:
        """How many of the rows are there more than once; of very many, some are looked at."""
        n_rows = len(self.numbers)
        some = np.linspace(0, n_rows - 1, min(n_rows, _ROWS_OF_TREE), dtype=np.intp)
        return float((_n_near(self.numbers[some], self.numbers, most=2) == 2).mean())


_NEAR: dict[str, Any] = {"p": np.inf, "distance_upper_bound": _SAME}
_ROWS_OF_TREE = 2**16
"""A tree takes as much memory as its rows."""


def _n_near(rows: Floats, others: Floats, most: int = 1) -> NDArray[np.int8]:
    """How many of some others each row is the same as, counted up to ``most``."""
    n_near = np.zeros(len(rows), dtype=np.int8)
    for start in range(0, len(others), _ROWS_OF_TREE):
        tree = cKDTree(others[start : start + _ROWS_OF_TREE])
        wanted = np.flatnonzero(n_near < most)
        for batch in row_batches(len(wanted), _N_NUMBERS, n_copies=2):
            some = wanted[batch]
            distances, _ = tree.query(rows[some], k=np.arange(1, most + 1), **_NEAR)
            n_near[some] += np.isfinite(distances).sum(axis=1, dtype=np.int8)
    return np.minimum(n_near, np.int8(most))


def _combinations(A: Any, y: Any = None) -> Floats | None:
    if lies_elsewhere(A):
        parts = engine("each_block")(A, _combinations)
        return None if any(part is None for part in parts) else np.concatenate(parts)
    layer = _layer_that_tells(A)
    if layer is None:
        return None
    n_values = int(np.prod(layer.shape[1:]))
    directions = np.random.default_rng(0).normal(size=(n_values, _N_NUMBERS))
    combined = np.empty((len(layer), _N_NUMBERS))
    for rows in row_batches(len(layer), n_values, n_copies=4):
        some = take(layer, range(len(layer))[rows])
        flat = some.reshape(len(some), -1).astype(np.float64)
        if not np.isfinite(flat).all():
            return None
        combined[rows] = flat @ directions
    return combined


def _layer_that_tells(A: Any) -> Any:
    """The logits, or the last layer with enough units, of which nothing is read."""
    if not isinstance(A, Activations):
        layers = [np.asarray(A)]
    else:
        columns = {column.role: column for column in A.columns if column.role == "logits"}
        has_logits = "logits" in columns and columns["logits"].n_units >= _N_NUMBERS
        named = [columns["logits"]] if has_logits else reversed(layer_columns(A))
        layers = [column.array for column in named if not column.is_packed]
    for layer in layers:
        if len(layer) and np.prod(layer.shape[1:]) >= _N_NUMBERS:
            return layer
    return None
