"""Threads that score, and no more work for them than can be done in time."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, NamedTuple

from ._refusal import RefusalError

_FORKED = (
    "this process was forked from the one that loaded the monitor, whose threads did not come "
    "along: start processes that load it themselves"
)


class _Job(NamedTuple):
    run: Callable[[], Any]
    future: Future[Any]


class Workers:
    """A few threads that end with the process, also where one of them never returns.

    Those of :mod:`concurrent.futures` are waited for when Python ends.

    Parameters
    ----------
    n_threads : int
        Number of threads.
    """

    def __init__(self, n_threads: int) -> None:
        self._process = os.getpid()
        self._n_threads = n_threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._since: dict[int, float] = {}
        self._threads = [
            threading.Thread(
                target=_work, args=(self._jobs, self._since), name=f"skood-serving-{i}", daemon=True
            )
            for i in range(n_threads)
        ]
        for thread in self._threads:
            thread.start()
        self._end = weakref.finalize(self, _end, self._jobs, n_threads)

    def submit(self, run: Callable[[], Any]) -> Future[Any]:
        """Call a function in one of the threads.

        Raises
        ------
        RefusalError
            If this process has no threads, since it was forked.
        """
        self.refuse_forked()
        future: Future[Any] = Future()
        self._jobs.put(_Job(run, future))
        return future

    def refuse_forked(self) -> None:
        """Raise a RefusalError in a copy of the process."""
        if os.getpid() != self._process:
            raise RefusalError(503, _FORKED)

    def are_stuck(self, seconds: float) -> bool:
        """Whether every thread has been at one job for longer than some seconds."""
        since, now = list(self._since.values()), time.monotonic()
        return len(since) == self._n_threads and all(now - start > seconds for start in since)

    def close(self, timeout: float) -> bool:
        """Let the threads end what they do; whether they have within a time."""
        self._end()
        if os.getpid() != self._process:
            return True
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


def _work(jobs: SimpleQueue[_Job | None], since: dict[int, float]) -> None:
    """Do one job after the other; holds nothing of them in between."""
    while (job := jobs.get()) is not None:
        if job.future.set_running_or_notify_cancel():
            since[threading.get_ident()] = time.monotonic()
            try:
                outcome = job.run()
            except BaseException as error:
                job.future.set_exception(error)
            else:
                job.future.set_result(outcome)
                del outcome
            del since[threading.get_ident()]
        del job


def _end(jobs: SimpleQueue[_Job | None], n_threads: int) -> None:
    for _ in range(n_threads):
        jobs.put(None)
