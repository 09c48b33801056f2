"""The patterns that a detector stores, class by class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._packed_bits import PackedBits
from ._search import Neighbors, hamming_neighbors


class PatternStore:
    """Distinct patterns of one class, and the training rows that showed them.

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
        _, first, inverse, counts = np.unique(
            _opaque(bits), return_index=True, return_inverse=True, return_counts=True
        )
        common_first = np.argsort(-counts, kind="stable")
        self._ascending = np.argsort(common_first)
        self.patterns = bits[first[common_first]]
        self.counts = counts[common_first]
        self._rows = rows[np.argsort(self._ascending[inverse], kind="stable")]

    @property
    def n_rows(self) -> int:
        """Number of training rows stored."""
        return len(self._rows)

    @property
    def squared_share_error(self) -> float:
        """Mean over the rows of the squared standard error of the share of their pattern."""
        shares = self.counts / self.n_rows
        return float(shares @ (shares * (1 - shares))) / self.n_rows

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
        distances, indices = hamming_neighbors(bits.words, self.patterns.words, 1)
        return distances[:, 0], self.counts[indices[:, 0]] / (self.n_rows + 1)

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
        ascending = _opaque(self.patterns)[self._ascending]
        stored = self._ascending[np.searchsorted(ascending, _opaque(bits))]
        is_needed = np.zeros(len(self.counts), dtype=bool)
        is_needed[stored] = True
        needed, place = np.flatnonzero(is_needed), np.cumsum(is_needed)[stored] - 1
        if len(self.counts) == 1:
            distances = np.array([self.patterns.n_bits])
            other_counts = np.array([0])
        else:
            words = self.patterns.words
            found, indices = hamming_neighbors(words[needed], words, 2)
            distances, other_counts = found[:, 1], self.counts[indices[:, 1]]
        counts = self.counts[needed]
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
        n_found = min(n_neighbors, self.n_rows)
        shape = (len(bits), n_found)
        distances, patterns = hamming_neighbors(
            bits.words, self.patterns.words, min(n_neighbors, len(self.counts))
        )
        counts = self.counts[patterns]
        before = np.cumsum(counts, axis=1) - counts
        taken = np.clip(n_found - before, 0, counts)
        slots = np.repeat(np.arange(taken.size), taken.ravel())
        nth = np.arange(len(slots)) - np.repeat(np.cumsum(taken) - taken.ravel(), taken.ravel())
        first_row = np.cumsum(self.counts) - self.counts
        rows = self._rows[first_row[patterns.ravel()[slots]] + nth]
        return (
            _pad(distances.ravel()[slots].reshape(shape), n_neighbors, self.patterns.n_bits),
            _pad(rows.reshape(shape), n_neighbors, -1),
        )


def build_stores(bits: PackedBits, labels: NDArray, rows: NDArray) -> dict[Any, PatternStore]:
    """One store for each label, of the patterns that carry it."""
    stores = {}
    for label in np.unique(labels).tolist():
        chosen = np.flatnonzero(labels == label)
        stores[label] = PatternStore(bits[chosen], rows[chosen])
    return stores


def nearest_of_class(
    stores: dict[Any, PatternStore], bits: PackedBits, lookup_classes: NDArray
) -> tuple[NDArray, NDArray]:
    """Look each sample up in the store of its lookup class.

    Returns
    -------
    distances, shares : ndarray of shape (n_samples,)
        As in :meth:`PatternStore.nearest`; for a class that has no store the number of bits
        and 0.
    """
    distances = np.full(len(bits), bits.n_bits)
    shares = np.zeros(len(bits))
    for label in np.unique(lookup_classes).tolist():
        if label in stores:
            rows = np.flatnonzero(lookup_classes == label)
            distances[rows], shares[rows] = stores[label].nearest(bits[rows])
    return distances, shares


def _opaque(bits: PackedBits) -> NDArray[np.void]:
    """One opaque value a row: NumPy sorts these far faster than rows of a matrix."""
    words = np.ascontiguousarray(bits.words)
    return words.view(np.dtype((np.void, words.itemsize * words.shape[1]))).ravel()


def _pad(array: NDArray, width: int, value: int) -> NDArray:
    return np.pad(array, [(0, 0), (0, width - array.shape[1])], constant_values=value)
