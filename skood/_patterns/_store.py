"""The patterns that a detector stores, class by class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._lists import Neighbors, Words
from ._packed_bits import PackedBits, n_words_of
from ._runs import opaque
from ._search import hamming_neighbors
from ._shards import ClassTable, Segment, ShardFolder


@dataclass(frozen=True)
class Part:
    """Distinct patterns that lie together, in the order in which they win ties.

    ``firsts`` says where, among the numbers of training rows, those of each pattern begin.
    """

    words: Words
    counts: NDArray[np.int64]
    firsts: NDArray[np.int64]


@dataclass(frozen=True)
class MappedPart:
    """The same on disk, mapped when it is asked for."""

    folder: ShardFolder
    segment: Segment
    n_words: int

    def _read(self, name: str, *width: int) -> NDArray:
        shard, start, stop = self.segment
        return self.folder.read(shard, name, (stop, *width))[start:stop]

    @property
    def words(self) -> Words:
        return self._read("words", self.n_words)

    @property
    def counts(self) -> NDArray[np.int64]:
        return self._read("counts")

    @property
    def firsts(self) -> NDArray[np.int64]:
        return self._read("firsts")


class Found(NamedTuple):
    """What a search has found, the nearest first: arrays of shape (n_samples, n_found).

    ``places`` are positions among all patterns of the store, part after part.
    """

    distances: NDArray[np.int64]
    counts: NDArray[np.int64]
    places: NDArray[np.int64]

    def merge(self, later: Found, n_neighbors: int) -> Found:
        """The nearest of both; of equal ones the more common, then those of this one."""
        distances, counts, places = (
            np.concatenate(pair, axis=1) for pair in zip(self, later, strict=True)
        )
        order = np.lexsort((-counts, distances), axis=1)[:, :n_neighbors]
        return Found(*(np.take_along_axis(a, order, axis=1) for a in (distances, counts, places)))


class BasePatternStore(ABC):
    """Distinct patterns of one class, and the training rows that showed them.

    Of equally near patterns, the more common one counts as nearest; of equally common ones, that
    whose octets come first.

    Attributes
    ----------
    n_bits : int
        Number of bits of a pattern.
    n_rows : int
        Number of training rows stored.
    n_patterns : int
        Number of distinct patterns.
    squared_share_error : float
        Mean over the rows of the squared standard error of the share of their pattern.
    """

    n_bits: int
    n_rows: int
    n_patterns: int
    squared_share_error: float

    @abstractmethod
    def _parts(self) -> Iterator[Part | MappedPart]:
        """The patterns, those of earlier parts before all of the same count in later ones."""

    @abstractmethod
    def _row_numbers(self) -> NDArray[np.int64]:
        """Numbers of the training rows, pattern after pattern."""

    @property
    def patterns(self) -> PackedBits:
        """The distinct patterns, the most common first; those on disk are read."""
        return PackedBits._of(self._gathered()[0], self.n_bits)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows showed each of ``patterns``."""
        return self._gathered()[1]

    def _gathered(self) -> tuple[Words, NDArray[np.int64]]:
        parts = [(np.asarray(part.words), np.asarray(part.counts)) for part in self._parts()]
        if len(parts) == 1:
            return parts[0]
        words, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        common_first = np.argsort(-counts, kind="stable")
        return words[common_first], counts[common_first]

    def move_to(self, root: Path) -> None:  # noqa: B027 - nothing to do for what is in memory
        """Look for what is on the disk in another folder, if it is there."""

    def _find(self, bits: PackedBits, n_neighbors: int) -> Found:
        """The nearest patterns, as many as there are at most ``n_neighbors``."""
        return self._find_exactly(bits, n_neighbors)

    def _find_exactly(self, bits: PackedBits, n_neighbors: int) -> Found:
        found: Found | None = None
        start = 0
        for part in self._parts():
            words = part.words
            distances, indices = hamming_neighbors(bits.words, words, min(n_neighbors, len(words)))
            here = Found(distances, part.counts[indices], indices + start if start else indices)
            found = here if found is None else found.merge(here, n_neighbors)
            start += len(words)
        assert found is not None  # a store has at least one pattern
        return found

    def _at(self, places: NDArray[np.int64], what: str) -> NDArray:
        """Words, counts or firsts of the patterns at these places, of any shape."""
        values: NDArray | None = None
        start = 0
        for part in self._parts():
            here = getattr(part, what)
            is_here = (places >= start) & (places < start + len(here))
            if values is None:
                values = np.empty(places.shape + here.shape[1:], here.dtype)
            values[is_here] = here[places[is_here] - start]
            start += len(here)
        assert values is not None
        return values

    def nearest(self, bits: PackedBits) -> tuple[NDArray, NDArray]:
        """Distance to the nearest pattern, and how common that pattern is.

        Returns
        -------
        distances : ndarray of shape (n_samples,)
            Smallest number of bits that differ.
        shares : ndarray of shape (n_samples,)
            Share in (0, 1) of the rows that showed the nearest pattern, the most common
            one on ties.
        """
        found = self._find(bits, 1)
        return found.distances[:, 0], found.counts[:, 0] / (self.n_rows + 1)

    def nearest_left_out(self, bits: PackedBits) -> tuple[NDArray, NDArray]:
        """What :meth:`nearest` gives for stored rows, each as if it were not stored.

        Parameters
        ----------
        bits : PackedBits of shape (n_samples, n_bits)
            Patterns of some of the rows that are stored.

        Returns
        -------
        distances, shares : ndarray of shape (n_samples,)
            As in :meth:`nearest`. The only row of a class is as far away as a pattern can be, with
            no share.
        """
        _, first, place = np.unique(opaque(bits.words), return_index=True, return_inverse=True)
        found = self._find(bits[first], 2)
        counts = found.counts[:, 0]  # of the pattern itself, which is nearest
        if self.n_patterns == 1:
            distances, other_counts = np.array([self.n_bits]), np.array([0])
        else:
            distances, other_counts = found.distances[:, 1], found.counts[:, 1]
        repeated = counts > 1
        distances = np.where(repeated, 0, distances)
        others_like_it = np.where(repeated, counts - 1, other_counts)
        # A new sample is compared with one row more. That one is likely to show the pattern of
        # most rows: counted so, a row left out and a new sample like it tie, for common
        # patterns and for rare ones. Rows of another pattern than their nearest are not missed.
        most = repeated & (others_like_it > (self.n_rows - 1) / 2)
        shares = (others_like_it + most) / (self.n_rows + 1)
        return distances[place], shares[place]

    def kneighbors(self, bits: PackedBits, n_neighbors: int) -> Neighbors:
        """Distances to the nearest stored rows, and their numbers in the training data.

        Returns
        -------
        distances, rows : ndarray of shape (n_samples, n_neighbors)
            Ascending distances. Where fewer rows are stored, the distance is the number of bits
            and the row -1.
        """
        found, slots, nth = self._neighbors(bits, n_neighbors)
        shape = (len(bits), min(n_neighbors, self.n_rows))
        firsts = self._at(found.places, "firsts").ravel()[slots]
        return (
            _pad(found.distances.ravel()[slots].reshape(shape), n_neighbors, self.n_bits),
            _pad(self._row_numbers()[firsts + nth].reshape(shape), n_neighbors, -1),
        )

    def neighbor_patterns(self, bits: PackedBits, n_neighbors: int) -> NDArray[np.uint64]:
        """Patterns of the rows that :meth:`kneighbors` finds; zeros where there are fewer.

        Returns
        -------
        words : ndarray of shape (n_samples, n_neighbors, n_words)
            They are read only where they are found.
        """
        found, slots, _ = self._neighbors(bits, n_neighbors)
        words = self._at(found.places, "words")
        n_words = words.shape[-1]
        filled = np.zeros((len(bits), n_neighbors, n_words), dtype=np.uint64)
        n_found = min(n_neighbors, self.n_rows)
        filled[:, :n_found] = words.reshape(-1, n_words)[slots].reshape(len(bits), n_found, n_words)
        return filled

    def _neighbors(
        self, bits: PackedBits, n_neighbors: int
    ) -> tuple[Found, NDArray[np.intp], NDArray[np.intp]]:
        """The nearest patterns; which of them each nearest row shows, and as which of its rows."""
        n_found = min(n_neighbors, self.n_rows)
        found = self._find_exactly(bits, n_neighbors)
        before = np.cumsum(found.counts, axis=1) - found.counts
        taken = np.clip(n_found - before, 0, found.counts)
        slots = np.repeat(np.arange(taken.size), taken.ravel())
        nth = np.arange(len(slots)) - np.repeat(np.cumsum(taken) - taken.ravel(), taken.ravel())
        return found, slots, nth


class PatternStore(BasePatternStore):
    """Distinct patterns of one class in memory, and the training rows that showed them.

    Parameters
    ----------
    bits : PackedBits of shape (n_rows, n_bits)
        Patterns of the training rows, at least one.
    rows : ndarray of shape (n_rows,)
        Number of each row in the training data.

    Attributes
    ----------
    patterns : PackedBits of shape (n_patterns, n_bits)
        The distinct patterns, the most common first.
    counts : ndarray of shape (n_patterns,)
        How many rows showed each pattern.
    """

    def __init__(self, bits: PackedBits, rows: NDArray) -> None:
        keys = opaque(bits.words)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        counts = np.diff(np.append(first, len(keys)))
        common_first = np.argsort(-counts, kind="stable")
        words = bits.words[order[first[common_first]]]
        self.n_bits = bits.n_bits
        self.n_rows, self.n_patterns = len(keys), len(first)
        self.part = Part(words, counts[common_first], first[common_first])
        self._rows = rows[order]
        shares = counts / self.n_rows
        self.squared_share_error = float(shares @ (shares * (1 - shares))) / self.n_rows

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.n_patterns != len(self.part.counts):  # by which memory is asked for
            raise ValueError(f"{len(self.part.counts)} patterns are said to be {self.n_patterns}.")

    def _parts(self) -> Iterator[Part]:
        yield self.part

    def _row_numbers(self) -> NDArray[np.int64]:
        return self._rows


class MappedPatternStore(BasePatternStore):
    """Distinct patterns of one class in the shards of a folder.

    Parameters
    ----------
    folder : ShardFolder
        The folder.
    table : ClassTable
        What it holds of the class.
    n_bits : int
        Number of bits of a pattern.
    """

    def __init__(self, folder: ShardFolder, table: ClassTable, n_bits: int) -> None:
        self._folder, self._segments = folder, table.segments
        self.n_bits, self.n_rows, self.n_patterns = n_bits, table.n_rows, table.n_patterns
        self.squared_share_error = table.squared_share_error

    def move_to(self, root: Path) -> None:
        """Look for the folder under its name in another one, if it is there."""
        self._folder.files.move_to(root)

    def _parts(self) -> Iterator[MappedPart]:
        for segment in self._segments:
            yield MappedPart(self._folder, segment, n_words_of(self.n_bits))

    def _row_numbers(self) -> NDArray[np.int64]:
        return self._folder.rows()


def _pad(array: NDArray, width: int, value: int) -> NDArray:
    return np.pad(array, [(0, 0), (0, width - array.shape[1])], constant_values=value)
