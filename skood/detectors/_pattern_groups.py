"""The training patterns nearest to a sample in each layer: its groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._labels import find_classes
from .._patterns import Neighbors, PackedBits, Words, hamming_neighbors


class Progression(NamedTuple):
    """What the groups of nearest training samples look like, layer by layer.

    Attributes
    ----------
    distance : ndarray of shape (n_samples, n_layers)
        Mean Hamming distance, in bits and in each layer, to the members of the final group:
        the group of the last layer.
    matching : ndarray of shape (n_samples, n_layers)
        Share of each layer's own group whose class is the one predicted for the sample.
    """

    distance: NDArray[np.float64]
    matching: NDArray[np.float64]


class PatternGroups:
    """Patterns of the training samples in several layers, and their classes.

    Parameters
    ----------
    layers : list of PackedBits of shape (n_rows, n_bits)
        Patterns of the training samples in each layer, in forward order.
    classes : ndarray of shape (n_rows,)
        Class of each training sample.
    n_neighbors : int
        Size of a group.

    Attributes
    ----------
    widths : list of int
        Number of bits in each layer.
    """

    def __init__(self, layers: list[PackedBits], classes: NDArray, n_neighbors: int) -> None:
        self._known, codes = np.unique(classes, return_inverse=True)
        order = np.argsort(_scatter([*(bits.words for bits in layers), codes[:, np.newaxis]]))
        self.widths = [bits.n_bits for bits in layers]
        self._words = [bits.words[order] for bits in layers]
        self._codes = codes[order]
        self._row_at = order
        self._position_of_row = np.argsort(order)
        self._n_neighbors = n_neighbors

    def progression(
        self, layers: list[PackedBits], classes: NDArray, after_batch: Callable[[int], Any] = bool
    ) -> Progression:
        """Describe the groups of new samples.

        Parameters
        ----------
        layers : list of PackedBits of shape (n_samples, n_bits)
            Their patterns in each layer.
        classes : ndarray of shape (n_samples,)
            The class predicted for each of them.
        after_batch : callable, default=bool
            Called with the number of samples whenever some are done.
        """
        words = [bits.words for bits in layers]
        return self._describe(words, self._encode(classes), None, after_batch)

    def progression_left_out(
        self, classes: NDArray, after_batch: Callable[[int], Any] = bool
    ) -> Progression:
        """Describe the groups of the training samples, each of which is left out of its own.

        Parameters
        ----------
        classes : ndarray of shape (n_rows,)
            The class predicted for each of them.
        after_batch : callable, default=bool
            Called with the number of samples whenever some are done.
        """
        own = self._position_of_row
        words = [words[own] for words in self._words]
        return self._describe(words, self._encode(classes), own, after_batch)

    def knows(self, classes: NDArray) -> NDArray[np.bool_]:
        """Whether there are training samples of each class."""
        return find_classes(classes, self._known)[1]

    @property
    def classes(self) -> NDArray:
        """Class of each training sample."""
        return self._known[self._codes[self._position_of_row]]

    def nearest(self, bits: PackedBits, n_neighbors: int) -> Neighbors:
        """Distances in the last layer to the nearest training samples, and their positions.

        Parameters
        ----------
        bits : PackedBits of shape (n_samples, n_bits)
            Patterns of the last layer.
        n_neighbors : int
            How many to find, at most the number of training samples.
        """
        distances, found = hamming_neighbors(bits.words, self._words[-1], n_neighbors)
        return distances, self._row_at[found]

    def patterns(self, rows: NDArray[np.intp]) -> list[NDArray[np.bool_]]:
        r"""Patterns of training samples, layer by layer, of shape (\*rows.shape, n_bits)."""
        positions = self._position_of_row[rows.ravel()]
        return [
            PackedBits(words[positions], width).unpack().reshape(*rows.shape, width)
            for words, width in zip(self._words, self.widths, strict=True)
        ]

    def _encode(self, classes: NDArray) -> NDArray[np.intp]:
        """Number of each class among the known ones, -1 for a class that no group can hold."""
        codes, is_known = find_classes(classes, self._known)
        return np.where(is_known, codes, -1)

    def _describe(
        self,
        words: list[Words],
        codes: NDArray,
        own: NDArray[np.intp] | None,
        after_batch: Callable[[int], Any],
    ) -> Progression:
        distance, matching = np.empty((2, len(codes), len(words)))
        words_per_group = self._n_neighbors * max(layer.shape[1] for layer in words)
        for rows in row_batches(len(codes), words_per_group, are_products=True):
            groups = [
                self._group(layer[rows], stored, None if own is None else own[rows])
                for layer, stored in zip(words, self._words, strict=True)
            ]
            for number, (layer, stored) in enumerate(zip(words, self._words, strict=True)):
                members = stored[groups[-1]]
                differing = np.bitwise_count(members ^ layer[rows, np.newaxis])
                distance[rows, number] = differing.sum(axis=2, dtype=np.int32).mean(axis=1)
                same_class = self._codes[groups[number]] == codes[rows, np.newaxis]
                matching[rows, number] = same_class.mean(axis=1)
            after_batch(rows.stop - rows.start)
        return Progression(distance, matching)

    def _group(self, queries: Words, stored: Words, own: NDArray[np.intp] | None) -> NDArray:
        """Positions of the nearest stored patterns, without those of the samples themselves."""
        if own is None:
            return hamming_neighbors(queries, stored, self._n_neighbors)[1]
        found = hamming_neighbors(queries, stored, self._n_neighbors + 1)[1]
        is_own = found == own[:, np.newaxis]
        # Among many equal patterns a sample may not find itself: then the last one has to go.
        is_own[~is_own.any(axis=1), -1] = True
        return found[~is_own].reshape(len(found), self._n_neighbors)


def _scatter(columns: list[NDArray]) -> NDArray[np.uint64]:
    """A pseudo-random number for each row, which depends on nothing but its values.

    Many patterns are equally near, and the search prefers earlier ones. In the order in which
    training samples come, often class by class, that would favour the first classes; in the
    order of these numbers it favours none, and the order of training samples does not matter.
    """
    values = np.concatenate([column.astype(np.uint64) for column in columns], axis=1)
    factors = np.random.default_rng(0).integers(2**64, size=values.shape[1], dtype=np.uint64) | 1
    mixed = values * factors
    mixed ^= mixed >> np.uint64(32)
    return (mixed * factors).sum(axis=1, dtype=np.uint64)
