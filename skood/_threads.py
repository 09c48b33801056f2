"""Rows in several threads, as many as BLAS and OpenMP take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from ._sklearn import n_openmp_threads

_VALUES_PER_THREAD = 2**17
"""Fewer are computed with sooner than another thread is woken."""

_pools: list[ThreadPoolExecutor] = []


def for_each_batch(task: Callable[[slice], None], batches: Iterable[slice], n_values: int) -> None:
    """Run a task that lets go of Python's lock, as NumPy does, for batches of rows.

    Parameters
    ----------
    task : callable
        What to do with the rows of a slice; it must not matter in which order.
    batches : iterable of slice
        The rows.
    n_values : int
        How many values there are in all batches, which says how many threads are worth it.
    """
    batches = list(batches)
    n_threads = max(1, min(len(batches), n_values // _VALUES_PER_THREAD))
    if n_threads > 1:
        n_threads = min(n_threads, int(n_openmp_threads()))

    def run(first: int) -> None:
        for batch in batches[first::n_threads]:
            task(batch)

    # A copy for each of them: what is chosen here, such as which errors are told of, holds there.
    others = [_pool().submit(copy_context().run, run, i) for i in range(1, n_threads)]
    run(0)
    for other in others:
        other.result()


def _pool() -> ThreadPoolExecutor:
    if not _pools:
        n_threads = max(1, int(n_openmp_threads()) - 1)
        _pools.append(ThreadPoolExecutor(n_threads, thread_name_prefix="skood"))
    return _pools[0]


if hasattr(os, "register_at_fork"):
    # The threads of a pool do not live on in a copy of the process.
    os.register_at_fork(after_in_child=_pools.clear)
