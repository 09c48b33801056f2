"""The rows that set a threshold after several batches: a bounded sample that no order changes.

``fit`` sees all rows twice, and its threshold comes from all of them. A batch of ``partial_fit`` is
gone when the next one comes, and each changes the scores of all rows before. So rows are kept, all
of them while they are few, and from then on those whose hash is smallest. This is the one place
that says how many.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._batches import row_batches
from ._column import Column, Role
from ._layer_names import layer_columns
from ._patterns import PackedBits
from ._rows import n_bytes, take
from .activations import Activations, copy_of, described

CAPACITY = 2**25
"""Bytes of rows that are kept: 32 MiB, but never fewer than ``MIN_ROWS`` rows."""
MIN_ROWS = 1000

_BYTES_OF_NUMBER = 32
"""Of a row that counts: its number, which row it is, and in a detector its number and score."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_HASHED: tuple[Role, ...] = ("layer", "logits", "features")
"""Roles of the columns by which rows are told apart, beside their predictions."""
_READ: tuple[Role, ...] = (*_HASHED, "prediction")
"""Roles of the columns that detectors read."""


@dataclass(frozen=True, eq=False)
class ThresholdSample:
    """Rows that stand for all that were seen.

    While all rows fit, all are held, in the order in which they came. Where they do not, equal rows
    are held once, and of the different ones those with the smallest hashes of what they hold. As a
    hash depends on the row alone, the sample depends neither on the order of rows nor on the
    batches that they come in, and any row has the same chance. A row that is held counts as often
    as it was seen, but for one that was seen more often than the rows for which each one stands on
    average: so many it counts as, so that no row that is repeated without end decides alone.
    No more rows count than may be held, or, while all different ones are, than 32 bytes each take
    ``CAPACITY`` of: if there are more, evenly fewer. However long a stream repeats rows, a sample
    takes no more memory than that.

    Attributes
    ----------
    X : Activations
        The rows that are held, in arrays of their own.
    y : ndarray of shape (len(X),) or None
        Their labels.
    rows : ndarray of shape (n_rows,)
        Numbers of rows that equal a row that is held: the first ones, as many as count.
    held : ndarray of shape (n_rows,)
        Which row of ``X`` each of them is.
    counts : ndarray of shape (len(X),)
        How often each row of ``X`` was seen.
    n_seen : int
        How many rows the sample stands for.
    keys : ndarray of shape (len(X),) or None
        Hashes of the rows of ``X``; None while all rows are held.
    max_rows : int or None
        How many rows may be held; None for as many as ``CAPACITY`` allows.
    """

    X: Activations
    y: NDArray | None
    rows: NDArray[np.intp]
    held: NDArray[np.intp]
    counts: NDArray[np.intp]
    n_seen: int
    keys: NDArray[np.uint64] | None = None
    max_rows: int | None = None

    @classmethod
    def of(
        cls,
        X: Activations,
        y: NDArray | None,
        rows: NDArray[np.intp],
        max_rows: int | None = None,
        keys: NDArray[np.uint64] | None = None,
    ) -> ThresholdSample:
        """A sample of rows, whose numbers are given; nothing of ``X`` is shared.

        ``keys`` are their hashes, where these are known.
        """
        held, counts = np.arange(len(X)), np.ones(len(X), dtype=np.intp)
        everything = cls(X, y, rows, held, counts, len(X), keys, max_rows)
        if len(X) <= everything._n_allowed():
            return replace(everything, X=copy_of(X, _READ), keys=None)
        return everything._reduced()

    def merge(self, other: ThresholdSample) -> ThresholdSample:
        """The sample of the rows of both; neither is changed."""
        if self.n_seen == 0 or other.n_seen == 0:
            return other if self.n_seen == 0 else self
        if (self.keys is None) != (other.keys is None):
            return self._with_keys().merge(other._with_keys())
        keys = None
        if self.keys is not None and other.keys is not None:
            keys = np.concatenate([self.keys, other.keys])
        both = ThresholdSample(
            Activations.concatenate(_said_alike(self.X, other.X)),
            None if self.y is None or other.y is None else np.concatenate([self.y, other.y]),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.held, len(self.X) + other.held]),
            np.concatenate([self.counts, other.counts]),
            self.n_seen + other.n_seen,
            keys,
            self.max_rows,
        )
        return both if keys is None and len(both.X) <= both._n_allowed() else both._reduced()

    def numbered_from(self, start: int) -> ThresholdSample:
        """The same sample, with ``start`` added to the numbers of rows."""
        return replace(self, rows=self.rows + start)

    def counted(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The numbers of the rows that count, ascending, and which row of ``X`` each is.

        A number is there several times where that of an equal row was not kept.
        """
        numbers = self.rows[np.lexsort((self.rows, self.held))]
        n_kept = np.bincount(self.held, minlength=len(self.X))
        held = np.repeat(np.arange(len(self.X)), self._times())
        starts = np.cumsum(n_kept) - n_kept
        rows = numbers[starts[held] + _place_in_run(held) % n_kept[held]]
        order = np.argsort(rows, kind="stable")
        return rows[order], held[order]

    def _times(self) -> NDArray[np.intp]:
        """How often each row of ``X`` counts."""
        if self.counts.sum() == self.n_seen:  # all different rows are held
            n_numbers = CAPACITY // _BYTES_OF_NUMBER if self.max_rows is None else 0
            return evenly_fewer(self.counts, max(self._n_allowed(), n_numbers))
        most = ceil(self.n_seen / len(self.X))
        return evenly_fewer(np.minimum(self.counts, most), self._n_allowed())

    def _n_allowed(self) -> int:
        return rows_allowed(self.X) if self.max_rows is None else self.max_rows

    def _with_keys(self) -> ThresholdSample:
        return self if self.keys is not None else replace(self, keys=hash_rows(self.X, self.y))

    def _reduced(self) -> ThresholdSample:
        """Equal rows once, and no more rows than are allowed."""
        hashes = hash_rows(self.X, self.y) if self.keys is None else self.keys
        keys, first, same = np.unique(hashes, return_index=True, return_inverse=True)
        n_held = self._n_allowed()
        first, counts = first[:n_held], np.bincount(same, self.counts).astype(np.intp)
        return replace(
            self,
            X=copy_of(self.X[first], _READ),
            y=None if self.y is None else self.y[first],
            held=same[self.held],
            counts=counts[:n_held],
            keys=keys[:n_held],
        )._with_few_numbers()

    def _with_few_numbers(self) -> ThresholdSample:
        """Of each row that is held the first numbers, as many as count, but one or more."""
        order = np.lexsort((self.rows, self.held))
        order = order[: np.searchsorted(self.held[order], len(self.X))]
        held = self.held[order]
        order = order[_place_in_run(held) < np.maximum(self._times(), 1)[held]]
        return replace(self, rows=self.rows[order], held=self.held[order])


def evenly_fewer(times: NDArray[np.intp], n_most: int) -> NDArray[np.intp]:
    """How often each of some rows counts, in proportion to given times, but so often in all."""
    ends = np.cumsum(times)
    if len(ends) == 0 or ends[-1] <= n_most:
        return times
    places = (np.arange(n_most) + 0.5) * (ends[-1] / n_most)
    return np.bincount(np.searchsorted(ends, places, side="right"), minlength=len(times))


def _said_alike(X: Activations, other: Activations) -> list[Activations]:
    """Two containers, of whose layers is said what any of them says."""
    columns = [*layer_columns(other), *layer_columns(X)]
    said = {str(column.name): column.metadata() for column in columns if not column.is_plain}
    # Not by `replace`, which would add the features to the columns, and so change all hashes.
    return [described(part, said) for part in (X, other)] if said else [X, other]


def shared(sample: ThresholdSample, others: Iterable[ThresholdSample]) -> ThresholdSample:
    """The sample, with the rows of another that holds the same, so that memory has them once."""
    for other in others:
        if _hold_the_same(sample.X, other.X):
            return replace(sample, X=other.X)
    return sample


def _hold_the_same(X: Activations, other: Activations) -> bool:
    pairs = zip(X.columns, other.columns, strict=False)
    return len(X.columns) == len(other.columns) and all(
        mine.role == theirs.role
        and mine.name == theirs.name
        and mine.metadata() == theirs.metadata()
        and mine.dtype == theirs.dtype
        and np.array_equal(_words_of(mine), _words_of(theirs))
        for mine, theirs in pairs
    )


def _words_of(column: Column) -> NDArray:
    array = column.array
    return array.words if isinstance(array, PackedBits) else np.asarray(array)


def rows_allowed(X: Activations) -> int:
    """How many rows a sample may hold."""
    return max(MIN_ROWS, CAPACITY // bytes_of_row(X))


def most_bytes(X: Activations) -> int:
    """How much memory the rows of a sample of ``X`` take at most."""
    return min(len(X), rows_allowed(X)) * bytes_of_row(X)


def bytes_of_row(X: Activations) -> int:
    """How much memory a row takes, at least 1."""
    return max(1, sum(n_bytes(column.array, range(1)) for column in X.columns))


class Merging:
    """Several summaries, in order, that become one; they are merged two and two.

    A long line of merges would copy what it holds already with each one.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Any]] = []

    def add(self, part: Any) -> None:
        """Add the next summary."""
        level = 0
        while self._waiting and self._waiting[-1][0] == level:
            part, level = self._waiting.pop()[1].merge(part), level + 1
        self._waiting.append((level, part))

    def whole(self) -> Any:
        """The summary of all that were added, at least one."""
        _, whole = self._waiting.pop()
        while self._waiting:
            whole = self._waiting.pop()[1].merge(whole)
        return whole


def merged(parts: Iterable[Any]) -> Any:
    """One summary of several, in order."""
    merging = Merging()
    for part in parts:
        merging.add(part)
    return merging.whole()


def hash_rows(X: Activations, y: NDArray | None) -> NDArray[np.uint64]:
    """A number for each sample that depends on its values, its class and its label alone."""
    hashes, start = np.empty(len(X), dtype=np.uint64), 0
    for block in X.batches():
        rows = slice(start, start + len(block))
        hashes[rows] = _hash_block(block, None if y is None else y[rows])
        start = rows.stop
    return hashes


def _hash_block(X: Activations, y: NDArray | None) -> NDArray[np.uint64]:
    everything = range(len(X))
    columns = (take(column.array, everything) for column in X.columns if column.role in _HASHED)
    # Whether predictions are a column of their own or come from the logits makes no difference.
    labels = (each for each in (_predictions_of(X), y) if each is not None)
    hashes = np.zeros(len(X), dtype=np.uint64)
    for column in chain(columns, labels):
        hashes = _scramble(hashes + np.uint64(1)) + _hash_column(column)
    return _scramble(hashes)


def _predictions_of(X: Activations) -> NDArray | None:
    try:
        return X.predictions
    except ValueError:  # of logits that are not finite, which no detector may read
        return None


def _hash_column(column: Any) -> NDArray[np.uint64]:
    if column.ndim == 1:
        return hash_labels(column)
    values = column.words if isinstance(column, PackedBits) else column
    values = values.reshape(len(values), prod(values.shape[1:]))
    hashes = np.empty(len(values), dtype=np.uint64)
    drawn = np.random.default_rng(0).integers(2**63, size=values.shape[1], dtype=np.uint64)
    weights = 2 * drawn + np.uint64(1)
    for batch in row_batches(*values.shape):
        hashes[batch] = np.einsum("rv,v->r", _as_words(values[batch]), weights)
    return hashes


def _as_words(values: NDArray) -> NDArray[np.uint64]:
    """New words of the values, of which low bits depend on high ones; products reach upwards."""
    if values.dtype == np.uint64:
        words = values.copy()
    else:
        # Adding 0 makes a zero of -0.
        words = (np.ascontiguousarray(values, dtype=np.float64) + 0.0).view(np.uint64)
    for n_bits in (32, 21):
        words ^= words >> np.uint64(n_bits)
    return words


def hash_labels(array: NDArray) -> NDArray[np.uint64]:
    """A number for each label, numbers or texts, that depends on the label alone."""
    labels, codes = np.unique(array, return_inverse=True)
    digests = [blake2b(str(label).encode(), digest_size=8).digest() for label in labels]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)[codes]


def _scramble(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Let all bits of a number depend on all others; products alone only reach upwards."""
    for _ in range(2):
        words = (words ^ (words >> np.uint64(32))) * _MULTIPLIER
    return words ^ (words >> np.uint64(32))


def _place_in_run(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many entries before each, of sorted ones, are equal to it."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
