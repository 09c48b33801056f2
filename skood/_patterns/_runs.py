"""Sorted runs of patterns, and their merge into distinct ones with counts, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._lists import Words

_Rows = NDArray[np.int64]


@dataclass(frozen=True)
class PatternRun:
    """Patterns of some training rows, sorted by class, then by their octets, then by row.

    Attributes
    ----------
    labels : list
        The classes, ascending.
    starts : list of int
        Where the patterns of each class begin; and the number of all.
    words : ndarray of shape (n_rows, n_words), dtype uint64
        The patterns; may be memory-mapped.
    rows : ndarray of shape (n_rows,), dtype int64
        The number of the training row of each.
    """

    labels: list[Any]
    starts: list[int]
    words: Words
    rows: _Rows

    @classmethod
    def of(cls, words: Words, labels: NDArray, rows: NDArray) -> PatternRun:
        """From patterns in ascending order of rows, and the class of each."""
        known, codes = np.unique(labels, return_inverse=True)
        return cls._sorted(words, known.tolist(), codes, rows)

    @classmethod
    def _sorted(cls, words: Words, known: list[Any], codes: NDArray, rows: NDArray) -> PatternRun:
        order = np.argsort(opaque(words), kind="stable")
        order = order[np.argsort(codes[order], kind="stable")]
        starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(known)))])
        return cls(known, starts.tolist(), words[order], rows[order].astype(np.int64))

    def joined(self, later: PatternRun, offset: int) -> PatternRun:
        """One run of this and a later one, whose rows are counted from ``offset`` on."""
        known = sorted({*self.labels, *later.labels})
        codes = [
            np.repeat([known.index(label) for label in run.labels], np.diff(run.starts))
            for run in (self, later)
        ]
        words = np.concatenate([self.words, later.words])
        rows = np.concatenate([self.rows, later.rows + offset])
        return self._sorted(words, known, np.concatenate(codes).astype(np.intp), rows)

    def of_class(self, label: Any, offset: int) -> Slice | None:
        """The patterns of a class, whose rows are counted from ``offset`` on."""
        if label not in self.labels:
            return None
        place = self.labels.index(label)
        return Slice(self.words, self.rows, offset, self.starts[place], self.starts[place + 1])


@dataclass
class Slice:
    """What is still to be read of a sorted run, of one class."""

    words: Words
    rows: _Rows
    offset: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def peek(self, n_rows: int) -> Words:
        """The next patterns, at most so many."""
        return np.asarray(self.words[self.start : min(self.start + n_rows, self.stop)])

    def take(self, n_rows: int) -> tuple[Words, _Rows]:
        """The next patterns and their rows, which are left behind."""
        taken = slice(self.start, min(self.start + n_rows, self.stop))
        self.start = taken.stop
        return np.asarray(self.words[taken]), np.asarray(self.rows[taken]) + self.offset


@dataclass(frozen=True)
class Distinct:
    """Distinct patterns, ascending by their octets.

    Attributes
    ----------
    words : ndarray of shape (n_patterns, n_words), dtype uint64
    counts : ndarray of shape (n_patterns,)
        How many rows showed each.
    rows : iterable of ndarray
        These rows, pattern after pattern, ascending for each.
    """

    words: Words
    counts: NDArray[np.int64]
    rows: Iterator[_Rows]


def opaque(words: Words) -> NDArray[np.void]:
    """One value a row, which NumPy sorts far faster than rows of a matrix."""
    words = np.ascontiguousarray(words)
    return words.view(np.dtype((np.void, max(1, words.itemsize * words.shape[1])))).ravel()


def merge_runs(slices: Sequence[Slice], n_at_once: int) -> Iterator[Distinct]:
    """Merge sorted runs of one class, given in the order of their training rows.

    Parameters
    ----------
    slices : sequence of Slice
        The runs; they are read to their end.
    n_at_once : int
        About how many patterns are held at a time.

    Yields
    ------
    Distinct
        Each must be read to its end before the next is asked for.
    """
    left = [part for part in slices if len(part)]
    while left and sum(map(len, left)) > n_at_once:
        n_each = max(1, n_at_once // len(left))
        heads = [opaque(part.peek(n_each)) for part in left]
        # Below the smallest of the last patterns read, nothing of any run is missing.
        bound = min((head[-1:] for head in heads), key=lambda last: last.tobytes())
        counts = [int(np.searchsorted(head, bound)[0]) for head in heads]
        if any(counts):
            yield _distinct([part.take(n) for part, n in zip(left, counts, strict=True)])
        yield _one_pattern(left, bound, n_each)
        left = [part for part in left if len(part)]
    if left:
        yield _distinct([part.take(len(part)) for part in left])


def _distinct(taken: Sequence[tuple[Words, _Rows]]) -> Distinct:
    words, rows = (np.concatenate(parts) for parts in zip(*taken, strict=True))
    keys = opaque(words)
    order = np.argsort(keys, kind="stable")  # which is fast, as the parts are sorted
    keys = keys[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff(np.append(first, len(keys)))
    return Distinct(words[order[first]], counts, iter([rows[order]]))


def _one_pattern(slices: Sequence[Slice], key: NDArray[np.void], n_at_once: int) -> Distinct:
    """The pattern that is next in some of the runs, however many rows showed it."""
    n_words = slices[0].words.shape[1]
    words = key.view(np.uint64).reshape(1, n_words)
    # Counted before they are read, as the count is wanted first.
    counts = [_count_equal(part, key, n_at_once) for part in slices]
    return Distinct(words, np.array([sum(counts)]), _rows_of(slices, counts, n_at_once))


def _count_equal(part: Slice, key: NDArray[np.void], n_at_once: int) -> int:
    count = 0
    for start in range(part.start, part.stop, n_at_once):
        head = opaque(np.asarray(part.words[start : min(start + n_at_once, part.stop)]))
        n_equal = int(np.searchsorted(head, key, side="right")[0])
        count += n_equal
        if n_equal < len(head):
            break
    return count


def _rows_of(slices: Sequence[Slice], counts: Sequence[int], n_at_once: int) -> Iterator[_Rows]:
    for part, count in zip(slices, counts, strict=True):
        for start in range(0, count, n_at_once):
            yield part.take(min(n_at_once, count - start))[1]
