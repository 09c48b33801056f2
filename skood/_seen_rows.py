"""Whether samples are among those that something was fitted on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import binom

from ._batches import row_batches
from ._elsewhere import engine, lies_elsewhere
from ._layer_names import layer_columns
from ._rows import take
from ._threshold_sample import hash_rows
from ._values import Floats
from .activations import Activations

MAX_ROWS = 2**15
"""So many rows are known again at most: 1.25 MiB, and a tree that takes as much."""
_N_NUMBERS = 4
"""Of each row: so many that others are not the same by chance."""
_SAME = 1e-4
"""In standard deviations: batches of another size change the last digits of activations."""
_DROPPED_BITS = np.uint64(44)
"""Of a number that is hashed: 8 digits of 52 are left, so that rounding changes few hashes."""
_MANY = 0.05
"""Share of rows that may be known and nothing be said."""
_BY_CHANCE = 0.001
"""Of a part of all rows: probability that so many are known where no larger share of all is."""


@dataclass(frozen=True)
class SeenRows:
    """A few numbers of each row of activations, by which the row is known again.

    Of more rows than ``MAX_ROWS``, those with the smallest hashes are kept: a random part of all,
    which depends neither on their order nor on batches. Of other rows, only those with hashes as
    small are then looked for, since no others could be found.

    Attributes
    ----------
    numbers : ndarray of shape (n_kept, 4)
        Random combinations of the units of one layer.
    hashes : ndarray of shape (n_kept,)
        Hashes of these numbers, but for their last digits.
    n_seen : int
        How many rows there were.
    """

    numbers: Floats
    hashes: NDArray[np.uint64]
    n_seen: int

    @classmethod
    def of(cls, A: Any) -> SeenRows | None:
        """Those of rows; None where no layer has enough units to tell rows apart."""
        if lies_elsewhere(A):
            parts = engine("each_block")(A, _of_block)
            return None if any(part is None for part in parts) else reduce(cls.merge, parts)
        layer = _layer_that_tells(A)
        if layer is None:
            return None
        seen = cls(np.empty((0, _N_NUMBERS)), np.empty(0, np.uint64), 0)
        for numbers in _combinations(layer):
            if not np.isfinite(numbers).all():
                return None
            seen = seen.merge(cls(numbers, _hashes(numbers), len(numbers))._bounded())
        return seen

    def _bounded(self) -> SeenRows:
        """With no more rows than are kept."""
        if len(self.numbers) <= MAX_ROWS:
            return self
        smallest = np.sort(np.argpartition(self.hashes, MAX_ROWS)[:MAX_ROWS])
        return SeenRows(self.numbers[smallest], self.hashes[smallest], self.n_seen)

    def merge(self, other: SeenRows) -> SeenRows:
        """Those of the rows of both."""
        some = other._looked_for_by(self) if len(self.numbers) == MAX_ROWS else slice(None)
        return SeenRows(
            np.concatenate([self.numbers, other.numbers[some]]),
            np.concatenate([self.hashes, other.hashes[some]]),
            self.n_seen + other.n_seen,
        )._bounded()

    def _looked_for_by(self, other: SeenRows) -> NDArray[np.bool_]:
        """Which rows have hashes as small as those that the other keeps."""
        return self.hashes <= other.hashes.max()

    @property
    def _are_all(self) -> bool:
        return len(self.numbers) == self.n_seen

    def are_same(self, A: Any) -> bool:
        """Whether these are the same rows in any order, and not all alike."""
        others = self.of(A)
        if others is None or others.n_seen != self.n_seen:
            return False
        mine, theirs = (each.numbers / self._scale() for each in (self, others))
        # Where a part is kept, rounding decides of a few rows whether they are among it.
        wanted = 1.0 if self._are_all else 1 - _MANY
        return self._share_of_repeated() < 0.5 and all(
            (_n_near(a, b) > 0).mean() >= wanted for a, b in ((mine, theirs), (theirs, mine))
        )

    def n_among(self, A: Any) -> int:
        """How many rows are among them, of those that are looked for."""
        return self._count_among(A)[0]

    def share_among(self, A: Any) -> float:
        """Share of rows that are among them, more than equal ones would be by chance; 0 if few."""
        n_known, n_looked_for = self._count_among(A)
        share = n_known / max(1, n_looked_for)
        if share <= _MANY:
            return 0.0
        by_chance = self._share_of_repeated()
        if not self._are_all:
            at_most = by_chance + _MANY
            if binom.sf(n_known - 1, n_looked_for, at_most) > _BY_CHANCE:
                return 0.0
        error = np.sqrt(by_chance * (1 - by_chance) / n_looked_for)
        return share if share > by_chance + _MANY + 3 * error else 0.0

    def _count_among(self, A: Any) -> tuple[int, int]:
        """How many rows are among them, and of how many that is told."""
        others = self.of(A)
        if others is None:
            return 0, 0
        numbers = others.numbers
        if not self._are_all:
            numbers = numbers[others._looked_for_by(self)]
        scale = self._scale()
        return int(_n_near(numbers / scale, self.numbers / scale).sum()), len(numbers)

    def _share_of_repeated(self) -> float:
        """How many of the rows are there more than once."""
        numbers = self.numbers / self._scale()
        return float((_n_near(numbers, numbers, most=2) == 2).mean())

    def _scale(self) -> Floats:
        """Standard deviations of the numbers."""
        scale = self.numbers.std(axis=0)
        scale[scale == 0] = 1.0
        return scale


def _of_block(A: Any, y: Any = None) -> SeenRows | None:
    return SeenRows.of(A)


def _hashes(numbers: Floats) -> NDArray[np.uint64]:
    """A hash of each row, which is the same for nearly all rows that differ by rounding."""
    rounded = numbers.view(np.uint64) >> _DROPPED_BITS << _DROPPED_BITS
    return hash_rows(Activations({"numbers": rounded.view(np.float64)}), None)


_NEAR: dict[str, Any] = {"p": np.inf, "distance_upper_bound": _SAME}


def _n_near(rows: Floats, others: Floats, most: int = 1) -> NDArray[np.int8]:
    """How many of some others each row is the same as, counted up to ``most``."""
    n_near, tree = np.empty(len(rows), dtype=np.int8), cKDTree(others)
    for batch in row_batches(len(rows), _N_NUMBERS, n_copies=2):
        distances, _ = tree.query(rows[batch], k=np.arange(1, most + 1), **_NEAR)
        n_near[batch] = np.isfinite(distances).sum(axis=1)
    return n_near


def _combinations(layer: Any) -> Iterator[Floats]:
    """Random combinations of the values of rows, some rows at a time."""
    n_values = int(np.prod(layer.shape[1:]))
    directions = np.random.default_rng(0).normal(size=(n_values, _N_NUMBERS))
    for rows in row_batches(len(layer), n_values, n_copies=4):
        some = take(layer, range(len(layer))[rows])
        flat = some.reshape(len(some), -1).astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite tells nothing
            yield flat @ directions


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
