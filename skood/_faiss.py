"""How faiss is used, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_WORDS_PER_THREAD = 2**20


def n_threads_for(faiss: Any, n_words_compared: int) -> int:
    """As many threads as a search is large enough for."""
    # Waking a second thread costs more than a small search, on a busy machine a hundred times so.
    return min(faiss.omp_get_max_threads(), 1 + n_words_compared // _WORDS_PER_THREAD)


@contextmanager
def threads_for(faiss: Any, n_words_compared: int) -> Iterator[None]:
    """Let faiss use as many threads as a search is large enough for."""
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(n_threads_for(faiss, n_words_compared))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(n_threads)
