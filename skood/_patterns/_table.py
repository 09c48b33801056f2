"""Patterns of many layers and percentiles side by side, to look up few samples in all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._rules import rank_of_percentile
from ._store import PatternStore

Entry = tuple[str, int, float, Mapping[Any, PatternStore], bool]
"""Layer, its number of units, the percentile, the patterns of each class, and whether ties are
broken by how common a pattern is."""

_WORD = 64


class PatternTable:
    """Looks samples up among patterns that several detectors store, each of one layer.

    It finds what :func:`nearest_of_class` finds for each of them, but the shares of patterns in the
    distances: of the nearest patterns, the most common one has the largest similarity.

    Parameters
    ----------
    entries : sequence of (str, int, float, dict, bool)
        What each detector stores.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        by_width: defaultdict[int, list[int]] = defaultdict(list)
        for number, entry in enumerate(entries):
            by_width[_padded_width(entry[1])].append(number)
        self._groups = [
            _Group(width, np.array(numbers), [entries[number] for number in numbers])
            for width, numbers in by_width.items()
        ]
        self._n_entries = len(entries)

    def similarities(self, layers: Any, lookup: NDArray) -> NDArray[np.float64]:
        """Share of the nearest pattern less its distance, of shape (n_samples, n_entries).

        Parameters
        ----------
        layers : mapping of str to ndarray of shape (n_samples, n_units)
            Finite values of the layers.
        lookup : ndarray of shape (n_samples,)
            The class under which each sample is looked up.
        """
        found = np.empty((len(lookup), self._n_entries))
        labels = lookup.tolist()
        for group in self._groups:
            words = group.pack(layers)
            for row, label in enumerate(labels):
                found[row, group.numbers] = group.look_up(label, words[row])
        return found


class _OfClass(NamedTuple):
    """The patterns of one class: those of each entry that has some, one after the other."""

    words: NDArray[np.uint64]
    """Of shape (n_words, n_patterns)."""
    shares: NDArray[np.float64]
    owners: NDArray[np.intp]
    """The entry of each pattern."""
    starts: NDArray[np.intp]
    """Where those of each entry begin."""
    present: NDArray[np.intp]
    """The entries that have some."""


class _Group:
    """Entries whose patterns take as many words."""

    def __init__(self, width: int, numbers: NDArray[np.intp], entries: list[Entry]) -> None:
        self.numbers = numbers
        self._width, self._entries = width, entries
        self._layers = list(dict.fromkeys(name for name, *_ in entries))
        self._layer_of_entry = np.array([self._layers.index(name) for name, *_ in entries])
        # Padding is below all values, and so comes first among those that are sorted.
        self._ranks = np.array(
            [width - n + rank_of_percentile(n, percentile) for _, n, percentile, *_ in entries]
        )
        self._farthest = np.array([-float(n) for _, n, *_ in entries])
        self._classes: dict[Any, _OfClass | None] = {}

    def pack(self, layers: Any) -> NDArray[np.uint64]:
        """Words of the patterns, of shape (n_samples, n_words, n_entries)."""
        arrays = [layers[name] for name in self._layers]
        shape = len(arrays[0]), len(arrays), self._width
        values = np.full(shape, -np.inf, np.result_type(np.float32, *arrays))
        for number, array in enumerate(arrays):
            values[:, number, : array.shape[1]] = array
        ordered = np.sort(values, axis=2)[:, self._layer_of_entry, self._ranks]
        bits = values[:, self._layer_of_entry] > np.maximum(ordered, 0)[:, :, np.newaxis]
        words = np.packbits(bits, axis=2).view(np.uint64)
        return words.swapaxes(1, 2)

    def look_up(self, label: Any, words: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Similarities of one sample by each entry."""
        if label not in self._classes:
            self._classes[label] = self._gather(label)
        of_class, found = self._classes[label], self._farthest.copy()
        if of_class is not None:
            differing = np.take(words, of_class.owners, axis=1)
            differing ^= of_class.words
            distances = np.bitwise_count(differing).sum(axis=0, dtype=np.int32)
            similar = of_class.shares - distances
            found[of_class.present] = np.maximum.reduceat(similar, of_class.starts)
        return found

    def _gather(self, label: Any) -> _OfClass | None:
        stores = [(number, stores[label]) for number, stores in self._stores() if label in stores]
        if not stores:
            return None
        present = np.array([number for number, _ in stores])
        sizes = np.array([store.n_patterns for _, store in stores])
        shares = [
            store.part.counts / (store.n_rows + 1) * self._entries[number][4]
            for number, store in stores
        ]
        n_words = self._width // _WORD
        words = np.zeros((n_words, sizes.sum()), np.uint64)
        starts = np.cumsum(sizes) - sizes
        for start, (_, store) in zip(starts, stores, strict=True):
            part = store.part.words
            words[: part.shape[1], start : start + len(part)] = part.T
        return _OfClass(words, np.concatenate(shares), np.repeat(present, sizes), starts, present)

    def _stores(self) -> Iterable[tuple[int, Mapping[Any, PatternStore]]]:
        return ((number, stores) for number, (_, _, _, stores, _) in enumerate(self._entries))


def _padded_width(n_units: int) -> int:
    """The next of some multiples of 64, no more than half as large again."""
    step = _WORD
    while n_units > 4 * step:
        step *= 2
    return -(-n_units // step) * step
