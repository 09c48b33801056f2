"""How faiss is used, where it is installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

_WORDS_PER_THREAD = 2**20


def faiss_or_none() -> Any:
    """The module, where it is installed."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


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


def run_tasks(tasks: Sequence[Callable[[], None]], n_threads: int) -> None:
    """Run all tasks, on threads where there are several of both."""
    if min(n_threads, len(tasks)) == 1:
        for task in tasks:
            task()
        return
    for running in [_pool(os.getpid(), n_threads).submit(task) for task in tasks]:
        running.result()


@cache
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Threads of a process; one that is forked has none of those of its parent."""
    return ThreadPoolExecutor(n_threads)
