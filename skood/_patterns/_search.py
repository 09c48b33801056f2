"""Exact nearest-neighbour search among bit patterns packed in 64-bit words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._faiss import faiss_or_none, n_threads_for, run_tasks, threads_for
from ._lists import FASTEST, Neighbors, PatternLists, Words, fast_width, n_fast_words

_FEW = 2
"""Up to so many neighbours, all distances and then their minima are faster than faiss's heaps."""
_PATTERNS_AT_ONCE = 2**12
_DISTANCES_AT_ONCE = 2**17
"""Patterns and distances of these numbers stay in a processor's cache."""
_QUERIES_FOR_A_COPY = 16
_QUERIES_FOR_LISTS = 32
"""So many share the copy of all patterns that lists take."""
_PATTERNS_IN_A_LIST = 2**14
_TAKEN = np.iinfo(np.int32).max


def hamming_neighbors(queries: Words, patterns: Words, n_neighbors: int) -> Neighbors:
    """Find the nearest patterns by Hamming distance, the earlier pattern first on ties.

    Uses faiss where it can be imported, and otherwise a product of matrices of -1 and 1, which
    is exact too and several times slower. For one or two neighbours, faiss computes the distances
    to a few thousand patterns at a time, of which NumPy takes the smallest: that takes from a
    quarter to three quarters of the time of faiss's own search. For one neighbour of patterns of
    eight words, :class:`PatternLists` take less.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_words), dtype uint64
        What to look for.
    patterns : ndarray of shape (n_patterns, n_words), dtype uint64
        Where to look; at least ``n_neighbors`` patterns. May be memory-mapped.
    n_neighbors : int
        How many patterns to find for each query.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors)
        Number of bits that differ, ascending.
    indices : ndarray of shape (n_queries, n_neighbors)
        Position of each neighbour in ``patterns``.
    """
    faiss = faiss_or_none()
    if faiss is None:
        return _matrix_neighbors(queries, patterns, n_neighbors)
    n_words_compared = len(queries) * patterns.size
    is_fast_in_lists = n_fast_words(queries.shape[1]) == FASTEST
    if n_neighbors == 1 and is_fast_in_lists and len(queries) >= _QUERIES_FOR_LISTS:
        return _nearest_in_tiles(faiss, queries, patterns)
    if n_neighbors <= _FEW and n_words_compared and _pays(queries):
        return _few_neighbors(faiss, fast_width(queries), patterns, n_neighbors)
    with threads_for(faiss, n_words_compared):
        distances, indices = faiss.knn_hamming(_octets(queries), _octets(patterns), n_neighbors)
    return distances.astype(np.int64), indices


def nearest_in_groups(queries: Words, stops: Sequence[int], groups: Sequence[Words]) -> Neighbors:
    """Find the nearest pattern for groups of queries, each among patterns of its own.

    As one call of :func:`hamming_neighbors` for each group, but faster where they are small.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_words), dtype uint64
        Queries of all groups, one group after the other.
    stops : sequence of int
        Where the queries of each group end; each has at least one.
    groups : sequence of ndarray of shape (n_patterns, n_words), dtype uint64
        The patterns of each group, at least one.

    Returns
    -------
    distances, indices : ndarray of shape (n_queries,)
        Number of bits that differ, and the position among the patterns of the group.
    """
    faiss = faiss_or_none()
    edges = [0, *stops]
    n_pairs = [
        (stop - start) * len(patterns)
        for start, stop, patterns in zip(edges[:-1], stops, groups, strict=True)
    ]
    distances = np.empty(len(queries), dtype=np.int64)
    indices = np.empty(len(queries), dtype=np.int64)
    asked = fast_width(queries)
    tasks = []
    for first, last in _runs(n_pairs, _DISTANCES_AT_ONCE if faiss else 0):
        ends = edges[first : last + 1]
        if faiss is None or n_pairs[first] > _DISTANCES_AT_ONCE:
            rows = slice(*ends)
            found = hamming_neighbors(queries[rows], groups[first], 1)
            distances[rows], indices[rows] = found[0][:, 0], found[1][:, 0]
        else:
            fill = partial(_fill_groups, faiss, asked, ends, groups[first:last])
            tasks.append(partial(fill, distances, indices))
    if tasks:
        run_tasks(tasks, n_threads_for(faiss, sum(n_pairs) * queries.shape[1]))
    return distances, indices


def _runs(n_pairs: Sequence[int], n_at_once: int) -> Iterator[tuple[int, int]]:
    """First and last of consecutive groups with no more pairs together, or of one with more."""
    first = n_held = 0
    for group, n in enumerate(n_pairs):
        if n_held + n > n_at_once and group > first:
            yield first, group
            first, n_held = group, 0
        n_held += n
    yield first, len(n_pairs)


def _fill_groups(
    faiss: Any,
    queries: Words,
    edges: Sequence[int],
    groups: Sequence[Words],
    distances: NDArray[np.int64],
    indices: NDArray[np.int64],
) -> None:
    """Write the nearest pattern of each query of small groups, with few steps for each group."""
    n_octets = 8 * queries.shape[1]
    asked = queries.view(np.uint8)
    widths = np.repeat([len(patterns) for patterns in groups], np.diff(edges))
    cells = np.empty(widths.sum(), dtype=np.int32)
    first_cell = 0
    for start, stop, patterns in zip(edges[:-1], edges[1:], groups, strict=True):
        tile = fast_width(patterns).view(np.uint8)
        shape = stop - start, len(tile)
        here = cells[first_cell : first_cell + shape[0] * shape[1]]
        first_cell += len(here)
        at = faiss.swig_ptr(asked[start:stop]), faiss.swig_ptr(tile)
        faiss.hammings(*at, *shape, n_octets, faiss.swig_ptr(here))
        here.reshape(shape).argmin(axis=1, out=indices[start:stop])
    rows = slice(edges[0], edges[-1])
    distances[rows] = cells[np.cumsum(widths) - widths + indices[rows]]


def _few_neighbors(faiss: Any, queries: Words, patterns: Words, n_neighbors: int) -> Neighbors:
    n_queries = len(queries)
    distances = np.empty((n_queries, n_neighbors), dtype=np.int64)
    indices = np.empty((n_queries, n_neighbors), dtype=np.int64)
    n_threads = min(n_threads_for(faiss, n_queries * patterns.size), n_queries)
    cuts = [n_queries * part // n_threads for part in range(n_threads + 1)]
    parts = [slice(*ends) for ends in pairwise(cuts)]
    tasks = [
        partial(_fill_in, faiss, queries[rows], patterns, distances[rows], indices[rows])
        for rows in parts
    ]
    run_tasks(tasks, n_threads)
    return distances, indices


def _nearest_in_tiles(faiss: Any, queries: Words, patterns: Words) -> Neighbors:
    """The nearest pattern of each query, by lists of some patterns at a time."""
    places = np.zeros(len(queries), dtype=np.int64)
    distances, indices = np.full(len(queries), _TAKEN, dtype=np.int64), places.copy()
    for start in range(0, len(patterns), _PATTERNS_IN_A_LIST):
        tile = patterns[start : start + _PATTERNS_IN_A_LIST]
        lists = PatternLists(faiss, [tile])
        found, positions = lists.nearest(queries, places, len(queries) * len(tile))
        is_nearer = found < distances
        distances[is_nearer] = found[is_nearer]
        indices[is_nearer] = positions[is_nearer] + start
    return distances[:, np.newaxis], indices[:, np.newaxis]


def _pays(queries: Words) -> bool:
    """Whether so many queries share the copy that patterns of other widths take."""
    return len(queries) >= _QUERIES_FOR_A_COPY or n_fast_words(queries.shape[1]) == queries.shape[1]


def _fill_in(
    faiss: Any,
    queries: Words,
    patterns: Words,
    nearest: NDArray[np.int64],
    indices: NDArray[np.int64],
) -> None:
    """Write the nearest patterns of each query, a tile of queries and patterns at a time."""
    n_queries, n_octets = len(queries), 8 * queries.shape[1]
    n_at_once = min(len(patterns), max(_PATTERNS_AT_ONCE, _DISTANCES_AT_ONCE // n_queries))
    height = min(n_queries, max(1, _DISTANCES_AT_ONCE // n_at_once))
    cells = np.empty(height * n_at_once, dtype=np.int32)
    blocks = [slice(first, first + height) for first in range(0, n_queries, height)]
    asked = [queries[rows] for rows in blocks]
    for start in range(0, len(patterns), n_at_once):
        tile = fast_width(patterns[start : start + n_at_once])
        pointer = faiss.swig_ptr(tile.view(np.uint8))
        for rows, block in zip(blocks, asked, strict=True):
            shape = len(block), len(tile)
            distances = cells[: shape[0] * shape[1]].reshape(shape)
            at = faiss.swig_ptr(block.view(np.uint8)), pointer
            faiss.hammings(*at, *shape, n_octets, faiss.swig_ptr(distances))
            _keep_nearest(distances, start, nearest[rows], indices[rows])


def _keep_nearest(
    distances: NDArray[np.int32], start: int, nearest: NDArray[np.int64], indices: NDArray[np.int64]
) -> None:
    """Merge what was found before with the patterns from ``start`` on; changes ``distances``."""
    lines = np.arange(len(distances))
    for rank in range(nearest.shape[1]):
        # Of equal distances, this is the first.
        columns = distances.argmin(axis=1)
        found = distances[lines, columns]
        if start == 0:
            nearest[:, rank], indices[:, rank] = found, columns
        else:
            _insert(found.astype(np.int64), columns + start, nearest, indices)
        if rank + 1 < nearest.shape[1]:
            distances[lines, columns] = _TAKEN


def _insert(found: NDArray, positions: NDArray, nearest: NDArray, indices: NDArray) -> None:
    """Put later patterns, one a query, behind those that are as near; the farthest falls out."""
    for place in range(nearest.shape[1]):
        rows = np.flatnonzero(found < nearest[:, place])
        if not rows.size:
            continue
        pushed = nearest[rows, place], indices[rows, place]
        nearest[rows, place], indices[rows, place] = found[rows], positions[rows]
        found[rows], positions[rows] = pushed


def _matrix_neighbors(queries: Words, patterns: Words, n_neighbors: int) -> Neighbors:
    stored = _signs(patterns).T
    found = [
        _smallest((len(stored) - _signs(queries[rows]) @ stored) / 2, n_neighbors)
        for rows in row_batches(len(queries), max(stored.shape), are_products=True)
    ]
    distances, indices = (np.concatenate(part) for part in zip(*found, strict=True))
    return distances, indices


def _smallest(distances: NDArray, n_neighbors: int) -> Neighbors:
    # One integer orders by distance, then by position: no ties are left to chance.
    n_patterns = distances.shape[1]
    keys = distances.astype(np.int64) * n_patterns + np.arange(n_patterns)
    if n_neighbors < n_patterns:
        keys = np.partition(keys, n_neighbors - 1, axis=1)[:, :n_neighbors]
    keys.sort(axis=1)
    nearest, indices = np.divmod(keys, n_patterns)
    return nearest, indices


def _signs(words: Words) -> NDArray[np.float32]:
    return np.unpackbits(_octets(words), axis=1).astype(np.float32) * 2 - 1


def _octets(words: Words) -> NDArray[np.uint8]:
    return np.ascontiguousarray(words).view(np.uint8)
