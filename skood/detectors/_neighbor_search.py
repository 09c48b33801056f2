"""Nearest-neighbour search among rows of real numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import row_norms

from .._batches import row_batches
from .._faiss import threads_for
from .._values import largest_size

_SPARE_CANDIDATES = 8
"""How many more rows than requested are compared exactly where single precision is not enough."""
_FEW_FEATURES = 48
_VERY_FEW_FEATURES = 4
_MANY_QUERIES = 128
_MANY_NEIGHBORS = 20
"""From where on one search is faster than another, measured among 5,000 and 50,000 rows."""
_ROUNDING = 16 * float(np.finfo(np.float32).eps)
"""Error of a squared distance in single precision, relative to the squared norms of both rows."""
_EQUAL = 16
"""As many units of the precision of rows, times their largest value, are no distance at all."""
_FARTHEST = 1e15
"""Where a query is put that is farther away; its square is finite in single precision."""


def search_rows(
    queries: NDArray[np.float32],
    rows: NDArray[np.float32],
    n_neighbors: int,
    *,
    metric: Literal["euclidean", "inner_product"] = "euclidean",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the rows that are nearest to each query, in single precision.

    Distances of many queries with few features are scikit-learn's, by a tree where they have very
    few. For others, and for inner products, faiss is used where it can be imported, and otherwise
    scikit-learn's brute force and NumPy's matrix products.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_features), dtype float32
        What to look for.
    rows : ndarray of shape (n_rows, n_features), dtype float32
        Where to look; at least ``n_neighbors`` rows.
    n_neighbors : int
        How many rows to find for each query.
    metric : {"euclidean", "inner_product"}, default="euclidean"
        Whether the nearest rows are those with the smallest distance, or with the largest product.

    Returns
    -------
    values : ndarray of shape (n_queries, n_neighbors)
        Squared distances, ascending, or inner products, descending.
    indices : ndarray of shape (n_queries, n_neighbors)
        Position of each neighbour in ``rows``.
    """
    is_narrow = rows.shape[1] <= _FEW_FEATURES and len(queries) >= _MANY_QUERIES
    if metric == "euclidean" and is_narrow:
        return _nearest(queries, rows, n_neighbors)
    try:
        import faiss
    except ImportError:
        search = _nearest if metric == "euclidean" else _largest_products
        return search(queries, rows, n_neighbors)
    measure = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    with threads_for(faiss, len(queries) * rows.size), _unsorted_candidates(faiss):
        return faiss.knn(queries, rows, n_neighbors, metric=measure)


@contextmanager
def _unsorted_candidates(faiss: Any) -> Iterator[None]:
    """Let faiss collect candidates in no order where there are more than a few."""
    before = faiss.cvar.distance_compute_min_k_reservoir
    faiss.cvar.distance_compute_min_k_reservoir = _MANY_NEIGHBORS
    try:
        yield
    finally:
        faiss.cvar.distance_compute_min_k_reservoir = before


def _nearest(
    queries: NDArray[np.float32], rows: NDArray[np.float32], n_neighbors: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    is_tree_faster = rows.shape[1] <= _VERY_FEW_FEATURES and len(queries) >= _MANY_QUERIES
    algorithm = "kd_tree" if is_tree_faster else "brute"
    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm=algorithm)
    with config_context(assume_finite=True):
        distances, indices = search.fit(rows).kneighbors(queries)
    return distances**2, indices


def _largest_products(
    queries: NDArray[np.float32], rows: NDArray[np.float32], n_neighbors: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    values = np.empty((len(queries), n_neighbors), dtype=np.float32)
    indices = np.empty((len(queries), n_neighbors), dtype=np.int64)
    for batch in row_batches(len(queries), len(rows), are_products=True):
        costs = -(queries[batch] @ rows.T)
        nearest = np.argpartition(costs, n_neighbors - 1, axis=1)[:, :n_neighbors]
        found = np.take_along_axis(costs, nearest, axis=1)
        order = np.argsort(found, axis=1, kind="stable")
        values[batch] = -np.take_along_axis(found, order, axis=1)
        indices[batch] = np.take_along_axis(nearest, order, axis=1)
    return values, indices


class EuclideanNeighbors:
    """Rows, and the distances to those of them that are nearest to a query.

    The search is in single precision, of rows that are centred and scaled, as their squares are
    subtracted from each other. Distances are then computed in double precision from the rows
    themselves, so they depend neither on the order of rows nor on the other queries. Equal inputs
    of a network have activations that differ in their last bits where they come in batches of other
    sizes: rows that differ by no more have the distance 0.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        The rows to look among, as floating point numbers.
    """

    def __init__(self, rows: NDArray) -> None:
        self.rows = rows
        self._center = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
        self._scale = max(np.ptp(rows, axis=0).max(), np.finfo(rows.dtype).tiny)
        self._centered = self._single(rows)
        self._largest_square = float(row_norms(self._centered, squared=True).max())

    def _single(self, rows: NDArray) -> NDArray[np.float32]:
        single = np.empty(rows.shape, dtype=np.float32)
        with np.errstate(over="ignore"):
            for batch in row_batches(*rows.shape, n_copies=2):
                scaled = rows[batch] - self._center
                scaled /= self._scale
                np.clip(scaled, -_FARTHEST, _FARTHEST, out=single[batch])
        return single

    def kneighbors(
        self, queries: NDArray, n_neighbors: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Distances to the nearest rows, ascending, and the positions of these rows.

        Both have the shape (n_queries, n_neighbors).
        """
        _, candidates = self._search(self._single(queries), n_neighbors)
        return self._rank(queries, candidates, n_neighbors)

    def kth_distances(self, queries: NDArray, k: int) -> NDArray[np.float64]:
        """Distance to the k-th nearest row, ndarray of shape (n_queries,)."""
        single = self._single(queries)
        squares, found = self._search(single, k)
        distances = self._distances(queries, found[:, k - 1 : k])[:, 0]
        # Where its neighbours are as near but for rounding, another row may be the k-th.
        margins = np.diff(squares[:, max(k - 2, 0) : k + 1], axis=1)
        rounding = _ROUNDING * (row_norms(single, squared=True) + self._largest_square)
        is_unsure = np.flatnonzero((margins <= rounding[:, np.newaxis]).any(axis=1))
        if is_unsure.size:
            ranked, _ = self._rank(queries[is_unsure], found[is_unsure], k)
            distances[is_unsure] = ranked[:, k - 1]
        return distances

    def equal_up_to(self) -> NDArray[np.floating]:
        """By how much values may differ from those of each row that are no distance from it."""
        return _equal_up_to(self.rows)

    def _search(
        self, single: NDArray[np.float32], n_neighbors: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Some more rows than are asked for, as only their exact distances tell which they are."""
        n_candidates = min(n_neighbors + _SPARE_CANDIDATES, len(self.rows))
        return search_rows(single, self._centered, n_candidates)

    def _rank(
        self, queries: NDArray, candidates: NDArray[np.int64], n_neighbors: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        distances = self._distances(queries, candidates)
        order = np.lexsort((candidates, distances))[:, :n_neighbors]
        return (
            np.take_along_axis(distances, order, axis=1),
            np.take_along_axis(candidates, order, axis=1),
        )

    def _distances(self, queries: NDArray, found: NDArray[np.int64]) -> NDArray[np.float64]:
        distances, root = np.empty(found.shape), np.sqrt(queries.shape[1])
        for batch in row_batches(len(queries), found.shape[1] * queries.shape[1], n_copies=2):
            rows = self.rows[found[batch]]
            apart = np.subtract(rows, queries[batch, np.newaxis], dtype=np.float64)
            lengths = np.sqrt(np.einsum("qnf,qnf->qn", apart, apart))
            # Of rows that are farther apart, a value differs by more.
            near = np.nonzero(lengths <= 2 * _unit(rows, largest_size(rows)) * root)
            is_equal = np.abs(apart[near]).max(axis=1, initial=0) <= _equal_up_to(rows[near])
            lengths[near] = np.where(is_equal, 0.0, lengths[near])
            distances[batch] = lengths
        return distances


def _equal_up_to(rows: NDArray) -> NDArray[np.floating]:
    """Of rows in the last axis: by how much values may differ that are no distance apart."""
    return np.asarray(_unit(rows, np.abs(rows).max(axis=-1)))


def _unit(rows: NDArray, largest: Any) -> Any:
    """The same for values of rows of a size."""
    return _EQUAL * np.finfo(rows.dtype).eps * largest
