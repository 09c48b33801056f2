"""Approximate search by faiss among many patterns, with the recall that it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._faiss import threads_for
from .._optional import import_optional
from ._lists import Neighbors, Words
from ._packed_bits import PackedBits
from ._search import hamming_neighbors
from ._store import BasePatternStore, Found, MappedPart, Part

MIN_PATTERNS = 50_000
"""Among fewer, the exact search is as fast."""
RECALL = 0.95
"""More lists or candidates are looked at, until this share of queries finds the nearest."""
_N_HELD_OUT = 1000
"""How many patterns are held out to see how many lists that takes, and to measure it."""
_N_SPARE = 8
"""How many more are found than asked for, so that ties are broken by how common patterns are."""
_LISTS = 4
"""Lists of an inverted file, times the square root of the number of patterns."""
_LINKS, _CANDIDATES = 16, 40
"""Links of each pattern in the graph, and how many candidates they are chosen from."""
_MOST = 2**12


class IndexedPatternStore(BasePatternStore):
    """A store whose nearest pattern is found by an approximate index, which lies in memory.

    The distance found is never smaller than the exact one. ``kneighbors`` stays exact.

    Parameters
    ----------
    store : BasePatternStore
        The patterns.
    kind : {"ivf", "hnsw"}
        An inverted file, of lists of patterns that are near to one of them; or a graph of links
        between near patterns.

    Attributes
    ----------
    recall : float
        Share of patterns for which the search finds one as near as the nearest of the others,
        measured on some that the index had not been given yet.
    n_looked_at : int
        How many lists, or candidates, are looked at for a query.
    """

    def __init__(self, store: BasePatternStore, kind: str) -> None:
        self._store = store
        self.n_bits, self.n_rows = store.n_bits, store.n_rows
        self.n_patterns = store.n_patterns
        self.squared_share_error = store.squared_share_error
        held_out = np.linspace(0, self.n_patterns - 1, _N_HELD_OUT + 2).astype(int)[1:-1]
        self._index = _build(kind, self._parts(), held_out, self.n_patterns)
        self._held_out = held_out
        queries = self._at(held_out, "words")
        self.n_looked_at, self.recall = self._tune(kind, queries, held_out)
        _add(self._index, queries)

    def move_to(self, root: Path) -> None:
        """As of the store."""
        self._store.move_to(root)

    def _parts(self) -> Iterator[Part | MappedPart]:
        yield from self._store._parts()

    def _row_numbers(self) -> NDArray[np.int64]:
        return self._store._row_numbers()

    def _tune(self, kind: str, queries: Words, held_out: NDArray) -> tuple[int, float]:
        """Look at twice as many until half of the queries tell that it is enough.

        The others tell the recall.
        """
        # The nearest pattern that is not held out, by the exact search.
        exact = _nearest_others(self._parts(), queries, held_out)
        n_looked_at = 1 if kind == "ivf" else _CANDIDATES // 2
        while True:
            _look_at(self._index, kind, n_looked_at)
            is_found = self._search(queries, 1)[0][:, 0] == exact
            if is_found[::2].mean() >= RECALL or n_looked_at >= _MOST:
                return n_looked_at, float(is_found[1::2].mean())
            n_looked_at *= 2

    def _search(self, queries: Words, n_neighbors: int) -> Neighbors:
        import faiss

        with threads_for(faiss, len(queries) * self.n_patterns // 100):
            return self._index.search(_octets(queries), n_neighbors)

    def _find(self, bits: PackedBits, n_neighbors: int) -> Found:
        distances, found = self._search(bits.words, n_neighbors + _N_SPARE)
        is_none = found < 0
        places = self._places(np.where(is_none, 0, found))
        counts = np.where(is_none, 0, self._at(places, "counts"))
        distances = np.where(is_none, self.n_bits, distances).astype(np.int64)
        order = np.lexsort((places, -counts, distances), axis=1)[:, :n_neighbors]
        return Found(*(np.take_along_axis(a, order, axis=1) for a in (distances, counts, places)))

    def _places(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in the store of what the index numbers: those held out came last."""
        n_held_out = len(self._held_out)
        n_before = self.n_patterns - n_held_out
        skipped = np.searchsorted(self._held_out - np.arange(n_held_out), found, side="right")
        last = self._held_out[np.maximum(found - n_before, 0)]
        return np.where(found < n_before, found + skipped, last)

    def __getstate__(self) -> dict[str, Any]:
        import faiss

        return {**vars(self), "_index": faiss.serialize_index_binary(self._index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        faiss = import_faiss()
        state = {**state, "_index": faiss.deserialize_index_binary(state["_index"])}
        vars(self).update(state)


def import_faiss() -> Any:
    """faiss; an ImportError that says what to do where it is missing."""
    return import_optional("faiss", "faiss", "An approximate index of patterns")


def _build(kind: str, parts: Iterator[Any], held_out: NDArray, n_patterns: int) -> Any:
    """An index of all patterns but those held out, in order."""
    faiss = import_faiss()
    index = None
    start = 0
    for part in parts:
        words = np.asarray(part.words)
        here = held_out[(held_out >= start) & (held_out < start + len(words))] - start
        if index is None:
            index = _empty(faiss, kind, words, n_patterns)
        _add(index, np.delete(words, here, axis=0))
        start += len(words)
    return index


def _empty(faiss: Any, kind: str, words: Words, n_patterns: int) -> Any:
    n_bits = 64 * words.shape[1]
    if kind == "hnsw":
        index = faiss.IndexBinaryHNSW(n_bits, _LINKS)
        index.hnsw.efConstruction = _CANDIDATES
        return index
    # Some of the patterns themselves: to compute means of clusters, which costs far more, left the
    # same share of patterns unfound.
    n_lists = min(int(_LISTS * np.sqrt(n_patterns)), len(words))
    quantizer = faiss.IndexBinaryFlat(n_bits)
    centers = np.unique(np.linspace(0, len(words) - 1, n_lists).astype(int))
    quantizer.add(_octets(words[centers]))
    index = faiss.IndexBinaryIVF(quantizer, n_bits, len(centers))
    index.is_trained = True
    # The index lives longer than the name here.
    index.own_fields = True
    quantizer.this.disown()
    return index


def _add(index: Any, words: Words) -> None:
    faiss = import_faiss()
    if not isinstance(index, faiss.IndexBinaryIVF):
        index.add(_octets(words))
        return
    # The nearest centre of each pattern takes longest, and is found several times faster here.
    octets = faiss.vector_to_array(faiss.downcast_IndexBinary(index.quantizer).xb)
    centers = octets.view(np.uint64).reshape(-1, words.shape[1])
    nearest = np.ascontiguousarray(hamming_neighbors(words, centers, 1)[1][:, 0])
    octets = _octets(words)
    index.add_core(len(words), faiss.swig_ptr(octets), None, faiss.swig_ptr(nearest))


def _look_at(index: Any, kind: str, n_looked_at: int) -> None:
    if kind == "ivf":
        index.nprobe = n_looked_at
    else:
        index.hnsw.efSearch = n_looked_at


def _nearest_others(parts: Iterator[Any], queries: Words, held_out: NDArray) -> NDArray[np.int64]:
    """Smallest distance from each query to a pattern that is not held out."""
    nearest, start = None, 0
    for part in parts:
        words = part.words
        here = held_out[(held_out >= start) & (held_out < start + len(words))] - start
        others = np.delete(np.asarray(words), here, axis=0)
        start += len(words)
        if len(others):
            distances = hamming_neighbors(queries, others, 1)[0][:, 0]
            nearest = distances if nearest is None else np.minimum(nearest, distances)
    assert nearest is not None
    return nearest


def _octets(words: Words) -> NDArray[np.uint8]:
    return np.ascontiguousarray(words).view(np.uint8)
