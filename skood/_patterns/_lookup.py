"""Samples looked up among the patterns of their own class, all classes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from .._faiss import faiss_or_none
from .._labels import find_classes
from ._lists import FASTEST, PatternLists, Words, n_fast_words
from ._packed_bits import PackedBits
from ._search import nearest_in_groups
from ._store import BasePatternStore, PatternStore

_COPIED_PER_QUERY = 4
"""So many numbers for each query are copied faster than they are looked up class by class."""

_BITS_IN_LISTS = 2**25
"""Patterns of no more bits, which is 4 MiB, are kept in lists beside the stores."""
_WORDS_IN_LISTS = 2**16
"""Words compared in a class, up to which a call for each takes longer than slower comparisons."""
_CLASSES_TO_SORT = 2
"""Sorting samples by class takes as long as so many calls."""

Stores = Mapping[Any, BasePatternStore]


def build_stores(bits: PackedBits, labels: NDArray, rows: NDArray) -> dict[Any, BasePatternStore]:
    """One store in memory for each label, of the patterns that carry it."""
    stores: dict[Any, BasePatternStore] = {}
    for label, chosen in _rows_by_label(labels):
        stores[label] = PatternStore(bits[chosen], rows[chosen])
    return stores


def nearest_of_class(
    stores: Stores, bits: PackedBits, lookup_classes: NDArray
) -> tuple[NDArray, NDArray]:
    """Look each sample up in the store of its lookup class.

    Returns
    -------
    distances, shares : ndarray of shape (n_samples,)
        As in :meth:`BasePatternStore.nearest`; for a class that has no store the number of bits
        and 0.
    """
    found = None
    if len(bits) and _fit_in_lists(stores):
        found = _class_lists(stores).nearest(bits, lookup_classes)
    return _look_up_by_class(stores, bits, lookup_classes) if found is None else found


def _fit_in_lists(stores: Stores) -> TypeGuard[Mapping[Any, PatternStore]]:
    """Whether faiss is there, and all patterns are in memory and few enough to be twice there."""
    if faiss_or_none() is None:
        return False
    n_bits = 0
    for store in stores.values():
        n_bits += store.n_patterns * store.n_bits
        if not isinstance(store, PatternStore) or n_bits > _BITS_IN_LISTS:
            return False
    return n_bits > 0


class _ClassLists:
    """The patterns of all classes in lists of faiss, and how common they are."""

    def __init__(self, stores: Mapping[Any, PatternStore]) -> None:
        self._labels = np.array(list(stores))
        self._words = [store.part.words for store in stores.values()]
        self._shares = np.concatenate(
            [store.part.counts / (store.n_rows + 1) for store in stores.values()]
        )
        self._sizes = np.array([store.n_patterns for store in stores.values()])
        self._largest = int(self._sizes.max())
        self._firsts = np.cumsum(self._sizes) - self._sizes

    @cached_property
    def _lists(self) -> PatternLists:
        return PatternLists(faiss_or_none(), self._words)

    def nearest(self, bits: PackedBits, lookup_classes: NDArray) -> tuple[NDArray, NDArray] | None:
        """As :func:`nearest_of_class`; None where a call for each class takes less time."""
        labels, n_words = self._labels, n_fast_words(bits.words.shape[1])
        if labels.dtype.kind != lookup_classes.dtype.kind:
            return None
        places, is_known = find_classes(lookup_classes, labels)
        n_pairs = len(places) * self._largest
        if n_pairs * n_words > _WORDS_IN_LISTS:  # up to there, nothing depends on how many
            n_pairs = int(self._sizes[places].sum())
        n_calls = len(labels) + _CLASSES_TO_SORT
        if n_words != FASTEST and n_pairs * n_words > _WORDS_IN_LISTS * n_calls:
            return None
        if is_known.all():
            distances, found = self._lists.nearest(bits.words, places, n_pairs)
            return distances, self._shares[self._firsts[places] + found]
        asked = np.where(is_known, places, len(labels))
        distances, found = self._lists.nearest(bits.words, asked, n_pairs)
        return (
            np.where(is_known, distances, bits.n_bits),
            np.where(is_known, self._shares[self._firsts[places] + found], 0.0),
        )


_known_lists: WeakKeyDictionary[PatternStore, tuple[list[ref[PatternStore]], _ClassLists]]
_known_lists = WeakKeyDictionary()
"""Lists by the store of the first class, with those of all classes."""


def _class_lists(stores: Mapping[Any, PatternStore]) -> _ClassLists:
    """The lists of some stores, made when they are first asked for; they go when the stores go."""
    first = next(iter(stores.values()))
    of, lists = _known_lists.get(first, ([], None))
    if lists is None or [store() for store in of] != list(stores.values()):
        lists = _ClassLists(stores)
        _known_lists[first] = [ref(store) for store in stores.values()], lists
    return lists


def _look_up_by_class(
    stores: Stores, bits: PackedBits, lookup_classes: NDArray
) -> tuple[NDArray, NDArray]:
    """Sort the samples by class, and search one class after the other."""
    distances = np.full(len(bits), bits.n_bits)
    shares = np.zeros(len(bits))
    groups = []
    for label, rows in _rows_by_label(lookup_classes):
        store = stores.get(label)
        if isinstance(store, PatternStore):
            groups.append((store, rows))
        elif store is not None:
            distances[rows], shares[rows] = store.nearest(bits[rows])
    if groups:
        _look_up_in_memory(groups, bits.words, distances, shares)
    return distances, shares


def _look_up_in_memory(
    groups: Sequence[tuple[PatternStore, NDArray[np.intp]]],
    words: Words,
    distances: NDArray,
    shares: NDArray,
) -> None:
    """Write what is found of each class, searched together.

    For classes of few patterns, one search for each would take longer than the comparisons.
    """
    stores, rows_of_each = zip(*groups, strict=True)
    rows = rows_of_each[0] if len(groups) == 1 else np.concatenate(rows_of_each)
    stops = np.cumsum([len(each) for each in rows_of_each]).tolist()
    found, places = nearest_in_groups(words[rows], stops, [store.part.words for store in stores])
    distances[rows] = found
    shares[rows] = _shares_at(stores, stops, places)


def _shares_at(
    stores: Sequence[PatternStore], stops: Sequence[int], places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Shares of the patterns found in each store, whose searches end at ``stops``."""
    n_found = np.diff([0, *stops])
    sizes = np.array([store.n_patterns for store in stores])
    n_rows = np.repeat([store.n_rows for store in stores], n_found)
    if sizes.sum() <= _COPIED_PER_QUERY * len(places):
        before = np.repeat(np.cumsum(sizes) - sizes, n_found)
        counts = np.concatenate([store.part.counts for store in stores])[before + places]
    else:
        of_each = np.split(places, stops[:-1])
        pairs = zip(stores, of_each, strict=True)
        counts = np.concatenate([store.part.counts[found] for store, found in pairs])
    return counts / (n_rows + 1)


def _rows_by_label(labels: NDArray) -> Iterator[tuple[Any, NDArray[np.intp]]]:
    """Each label, ascending, and the rows that carry it."""
    # Sorted once: a comparison for each class would look at all rows as often as there are classes.
    rows = np.argsort(labels, kind="stable")
    ordered = labels[rows]
    starts = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()]
    ends = [*starts[1:], len(rows)]
    for label, start, stop in zip(
        ordered[starts[: len(rows)]].tolist(), starts, ends, strict=False
    ):
        yield label, rows[start:stop]
