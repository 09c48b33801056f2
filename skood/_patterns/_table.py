"""Patterns of many layers and percentiles side by side, to look up few samples in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._side_by_side import stretches
from ._rules import rank_of_percentile
from ._store import PatternStore

Entry = tuple[Any, int, float, Mapping[Any, PatternStore], bool]
"""Layer, its number of units, the percentile, the patterns of each class, and whether ties are
broken by how common a pattern is."""

_WORD = 64


class PatternTable:
    """Looks samples up among patterns that several detectors store, each of one layer.

    It finds what :func:`nearest_of_class` finds for each of them, but the shares of patterns in the
    distances: of the nearest patterns, the most common one has the largest similarity.

    Parameters
    ----------
    entries : sequence of (layer, int, float, dict, bool)
        What each detector stores. Layers are what :meth:`similarities` is to find them by.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        widths = {layer: n_units for layer, n_units, *_ in entries}
        self._layers = list(widths)
        self._stretches = dict(zip(widths, stretches(widths.values()), strict=True))
        firsts = [self._stretches[layer].start for layer, *_ in entries]
        self._ranks = np.array(
            [
                first + rank_of_percentile(n_units, percentile)
                for first, (_, n_units, percentile, *_) in zip(firsts, entries, strict=True)
            ]
        )
        self._farthest = np.array([-float(n_units) for _, n_units, *_ in entries])
        n_words = np.array([-(-n_units // _WORD) for _, n_units, *_ in entries])
        # Those of most words first: what has a word of some number then comes before all others.
        self._order = np.argsort(-n_words, kind="stable")
        self._n_words = n_words[self._order]
        # Bits beside the units of an entry are those of a last value, which is below all others.
        self._unit_of_bit = np.full(int(n_words.sum()) * _WORD, sum(widths.values()))
        begins = (np.cumsum(n_words) - n_words) * _WORD
        for begin, first, (_, n_units, *_) in zip(begins.tolist(), firsts, entries, strict=True):
            self._unit_of_bit[begin : begin + n_units] = np.arange(first, first + n_units)
        self._bits_of_entries = n_words * _WORD
        planes = range(int(n_words.max()))
        self._words = np.concatenate(
            [begins[self._order[self._n_words > plane]] // _WORD + plane for plane in planes]
        )
        self._classes: dict[Any, _OfClass | None] = {}

    def similarities(self, layers: Mapping[Any, NDArray], lookup: NDArray) -> NDArray[np.float64]:
        """Share of the nearest pattern less its distance, of shape (n_samples, n_entries).

        Parameters
        ----------
        layers : mapping of ndarray of shape (n_samples, n_units)
            Finite values of the layers.
        lookup : ndarray of shape (n_samples,)
            The class under which each sample is looked up.
        """
        found = np.tile(self._farthest, (len(lookup), 1))
        words = self._pack([layers[layer] for layer in self._layers])
        for row, label in enumerate(lookup.tolist()):
            if label not in self._classes:
                self._classes[label] = self._gather(label)
            if (of_class := self._classes[label]) is not None:
                found[row, of_class.present] = of_class.look_up(words[row])
        return found

    def _pack(self, arrays: Sequence[NDArray]) -> NDArray[np.uint64]:
        """The words of all patterns of each sample, those of one number after the others."""
        dtype = np.result_type(np.float32, *arrays)
        last = np.full((len(arrays[0]), 1), -np.inf, dtype)
        values = np.concatenate([*arrays, last], axis=1, dtype=dtype)
        ordered = values.copy()
        for stretch in self._stretches.values():
            ordered[:, stretch].sort(axis=1)
        least = np.maximum(ordered.take(self._ranks, axis=1), 0)
        bits = values.take(self._unit_of_bit, axis=1) > least.repeat(self._bits_of_entries, axis=1)
        return np.packbits(bits, axis=1).view(np.uint64).take(self._words, axis=1)

    def _gather(self, label: Any) -> _OfClass | None:
        """The patterns of a class, in the order of the entries that have most words first."""
        numbers = [n for n in self._order.tolist() if label in self._entries[n][3]]
        if not numbers:
            return None
        stores = [self._entries[number][3][label] for number in numbers]
        sizes = np.array([store.n_patterns for store in stores])
        shares = [
            store.part.counts / (store.n_rows + 1) * self._entries[number][4]
            for number, store in zip(numbers, stores, strict=True)
        ]
        planes, repeats = [], []
        has_some = np.isin(self._order, numbers)
        for plane in range(int(self._n_words.max())):
            words = [s.part.words[:, plane] for s in stores if s.part.words.shape[1] > plane]
            planes.append(np.concatenate([np.empty(0, np.uint64), *words]))
            n_patterns = np.zeros(len(self._order), np.intp)
            n_patterns[has_some] = sizes
            repeats.append(n_patterns[self._n_words > plane])
        return _OfClass(
            np.concatenate(planes),
            [len(words) for words in planes],
            np.concatenate(repeats),
            np.concatenate(shares),
            np.cumsum(sizes) - sizes,
            np.array(numbers),
        )


class _OfClass(NamedTuple):
    """The patterns of one class: those of each entry that has some, one after the other."""

    words: NDArray[np.uint64]
    """The first word of each of them, then the second one of those that have two, and so on."""
    n_of_plane: list[int]
    """How many patterns have a first word, a second one, and so on: the first ones do."""
    repeats: NDArray[np.intp]
    """With how many of these each word of a sample is compared."""
    shares: NDArray[np.float64]
    starts: NDArray[np.intp]
    """Where those of each entry begin."""
    present: NDArray[np.intp]
    """The entries that have some."""

    def look_up(self, words: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Similarities of a sample by each of these entries."""
        differing = words.repeat(self.repeats)
        differing ^= self.words
        counts = np.bitwise_count(differing)
        stop = self.n_of_plane[0]
        # The type of fewest octets takes the least time to add to.
        distances = counts[:stop].astype(np.min_scalar_type(len(self.n_of_plane) * _WORD))
        for n_patterns in self.n_of_plane[1:]:
            distances[:n_patterns] += counts[stop : stop + n_patterns]
            stop += n_patterns
        similar: NDArray[np.float64] = np.maximum.reduceat(self.shares - distances, self.starts)
        return similar
