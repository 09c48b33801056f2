"""Exact nearest-neighbour search among bit patterns packed in 64-bit words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._faiss import threads_for

Words = NDArray[np.uint64]
Neighbors = tuple[NDArray[np.int64], NDArray[np.int64]]


def hamming_neighbors(queries: Words, patterns: Words, n_neighbors: int) -> Neighbors:
    """Find the nearest patterns by Hamming distance, the earlier pattern first on ties.

    Uses faiss where it can be imported, and otherwise a product of matrices of -1 and 1, which
    is exact too and several times slower.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_words), dtype uint64
        What to look for.
    patterns : ndarray of shape (n_patterns, n_words), dtype uint64
        Where to look; at least ``n_neighbors`` patterns.
    n_neighbors : int
        How many patterns to find for each query.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors)
        Number of bits that differ, ascending.
    indices : ndarray of shape (n_queries, n_neighbors)
        Position of each neighbour in ``patterns``.
    """
    try:
        import faiss
    except ImportError:
        return _matrix_neighbors(queries, patterns, n_neighbors)
    with threads_for(faiss, len(queries) * patterns.size):
        distances, indices = faiss.knn_hamming(_octets(queries), _octets(patterns), n_neighbors)
    return distances.astype(np.int64), indices


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
