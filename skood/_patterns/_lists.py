"""Patterns in lists of faiss: queries are compared with one list each, all in one call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._faiss import n_threads_for, run_tasks, threads_for

Words = NDArray[np.uint64]
Neighbors = tuple[NDArray[np.int64], NDArray[np.int64]]


FASTEST = 8
"""Words of a pattern that lists compare faster than other searches, however many there are."""


class PatternLists:
    """Copies of some groups of patterns, for queries that are compared with one group each.

    faiss sorts the queries by group and compares four of them at a time, so that it neither takes
    a call for each group nor holds distances but the smallest. Fewer queries than groups are
    compared one at a time.

    Parameters
    ----------
    faiss : module
        The library.
    groups : sequence of ndarray of shape (n_patterns, n_words), dtype uint64
        The patterns of each group, at least one of each.
    """

    def __init__(self, faiss: Any, groups: Sequence[Words]) -> None:
        n_bits = 64 * n_fast_words(groups[0].shape[1])
        # The last list, which is empty, is for queries of no group.
        n_lists = len(groups) + 1
        unused = faiss.IndexBinaryFlat(n_bits)
        index = faiss.IndexBinaryIVF(unused, n_bits, n_lists)
        index.is_trained = True
        positions = np.arange(max(map(len, groups)), dtype=np.int64)
        for place, patterns in enumerate(groups):
            octets = fast_width(patterns).view(np.uint8)
            index.invlists.add_entries(
                place, len(octets), faiss.swig_ptr(positions), faiss.swig_ptr(octets)
            )
        # Another one of the same lists: to switch between both ways would disturb other threads.
        sorting = faiss.IndexBinaryIVF(unused, n_bits, n_lists)
        sorting.replace_invlists(index.invlists)
        sorting.is_trained = sorting.per_invlist_search = True
        self._faiss, self._index, self._sorting = faiss, index, sorting
        self._n_groups = len(groups)

    def nearest(self, queries: Words, places: NDArray[np.int64], n_pairs: int) -> Neighbors:
        """Find the nearest pattern of the group of each query, the earlier one on ties.

        Parameters
        ----------
        queries : ndarray of shape (n_queries, n_words), dtype uint64
            What to look for.
        places : ndarray of shape (n_queries,)
            Which of the groups that of each query is, or their number for none.
        n_pairs : int
            How many comparisons that will be, for which threads are chosen.

        Returns
        -------
        distances, indices : ndarray of shape (n_queries,)
            Number of bits that differ, and the position in the group; -1 where there is none.
        """
        n_queries, n_words = queries.shape
        distances = np.empty(n_queries, dtype=np.int32)
        indices = np.empty(n_queries, dtype=np.int64)
        octets, places = fast_width(queries).view(np.uint8), np.ascontiguousarray(places)
        # faiss sorts queries by group only where they are more than the lists.
        n_at_least = self._n_groups + 2
        if n_queries < n_at_least:
            with threads_for(self._faiss, n_pairs * n_words):
                self._search(self._index, octets, places, distances, indices)
            return distances.astype(np.int64), indices
        n_threads = n_threads_for(self._faiss, n_pairs * n_words)
        n_threads = min(n_threads, n_queries // n_at_least)
        cuts = [n_queries * part // n_threads for part in range(n_threads + 1)]
        parts = [slice(*ends) for ends in pairwise(cuts)]
        search = partial(self._search, self._sorting)
        tasks = [
            partial(search, octets[rows], places[rows], distances[rows], indices[rows])
            for rows in parts
        ]
        run_tasks(tasks, n_threads)
        return distances.astype(np.int64), indices

    def _search(
        self,
        index: Any,
        octets: NDArray[np.uint8],
        places: NDArray[np.int64],
        distances: NDArray[np.int32],
        indices: NDArray[np.int64],
    ) -> None:
        # Of distances to the centres of lists, nothing comes, but one way of the two reads them.
        to_centres = np.zeros(len(octets), dtype=np.int32)
        asked, lists, unused, nearest, found = map(
            self._faiss.swig_ptr, (octets, places, to_centres, distances, indices)
        )
        index.search_preassigned_c(len(octets), asked, 1, lists, unused, nearest, found, False)


def n_fast_words(n_words: int) -> int:
    """The next number of words that faiss has fast code for: 1, 2, 4, and multiples of 8."""
    return 1 << (n_words - 1).bit_length() if n_words < 8 else -(-n_words // 8) * 8


def fast_width(words: Words) -> Words:
    """The same bits, side by side in memory, in as many words as faiss has fast code for."""
    n_rows, n_words = words.shape
    n_fast = n_fast_words(n_words)
    if n_fast == n_words:
        return np.ascontiguousarray(words)
    padded = np.zeros((n_rows, n_fast), dtype=np.uint64)
    padded[:, :n_words] = words
    return padded
