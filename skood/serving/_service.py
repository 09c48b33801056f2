"""A monitor in service: what it answers, what it has seen, and how it is."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from .._monitor import Monitor
from .._versions import installed_versions
from ..extraction import ChangedNetworkError, InputError
from ..monitoring import DriftMonitor
from ._judging import Judged, judge
from ._reading import Reader, Rows, described, first_of, form_of
from ._refusal import RefusalError
from ._workers import Workers

BUSY = {"Retry-After": "1"}
LOG = logging.getLogger("skood.serving")

_MOST_KNOWN = 16
"""So many forms of rows are remembered, since clients may send rows of ever other shapes."""
_NOT_READY = "the monitor is not ready: the log of the service says why"


class Service:
    """Answers requests in a few threads, one place in the queue for each.

    Parameters
    ----------
    monitor : Monitor
        Fitted.
    drift : "auto", DriftMonitor or None
        What watches the stream of all rows that are scored.
    reader : Reader
        Reads the rows of a request.
    n_threads : int
        Number of threads that score.
    max_waiting : int
        Number of requests that may wait for a thread.
    timeout : float
        Seconds after which a request is not waited for.
    """

    def __init__(
        self,
        monitor: Monitor,
        drift: Any,
        reader: Reader,
        *,
        n_threads: int,
        max_waiting: int,
        timeout: float,
    ) -> None:
        check_is_fitted(monitor)
        monitor._refuse_unready("predict")
        self.monitor, self._reader, self.timeout = monitor, reader, timeout
        self.drift: Any
        self.drift, self.why_no_drift = _drift_of(monitor, drift)
        self.is_calibrated = _is_calibrated(monitor)
        self._n_open, self._most_open = 0, n_threads + max_waiting
        self.answers: Counter[int] = Counter()
        self._n_threads, self._process, self._started = n_threads, os.getpid(), time.time()
        self._workers: Workers | None = None
        self._close_monitor: Callable[[], Any] = _nothing
        self._starting, self._counting, self._watching = (threading.Lock() for _ in range(3))
        self._n_rows = self._n_alarms = 0
        self._drift_state = self._read_drift()
        self._known_rows: dict[Any, Rows] = {}
        self._why_not_ready = ""

    def enter(self) -> None:
        """Take the place of one request, or raise a RefusalError."""
        self.refuse_forked()
        with self._counting:
            if self._n_open == self._most_open:
                raise RefusalError(503, "too many requests are waiting: come again", BUSY)
            self._n_open += 1

    def leave(self) -> None:
        """Give a place back, in any thread."""
        with self._counting:
            self._n_open -= 1

    def submit(self, body: bytes, media_type: str) -> Future[bytes]:
        """Answer a request in one of the threads."""
        return self._running().submit(partial(self._answer, body, media_type))

    def refuse_forked(self) -> None:
        """Raise a RefusalError in a copy of the process that made this service."""
        if os.getpid() != self._process:
            raise RefusalError(
                503,
                "this process was forked from one that had loaded the monitor; threads, and locks "
                "of libraries, do not survive that: let each process load it, as "
                "python -m skood.serving --workers does",
            )

    def start(self) -> None:
        """Start the threads, if they have not."""
        self._running()

    def _running(self) -> Workers:
        self.refuse_forked()
        with self._starting:
            if self._workers is None:
                self._open_monitor()
                self._workers = Workers(self._n_threads)
            return self._workers

    def _open_monitor(self) -> None:
        """Let what listens to the network stay there, until the service ends, or is forgotten."""
        block = ExitStack()
        block.enter_context(self.monitor.open())
        self._close_monitor = weakref.finalize(self, block.close)

    def close(self) -> None:
        """End the threads once they have done what they are at, and leave the network alone."""
        workers, self._workers = self._workers, None
        if workers is not None and not workers.close(self.timeout):
            LOG.warning(
                "A thread did not end within %g s, and ends with the process.", self.timeout
            )
        self._close_monitor()

    def _answer(self, body: bytes, media_type: str) -> bytes:
        rows = self._reader.read(body, media_type)
        return json.dumps({"predictions": self._judge(rows)}, allow_nan=False).encode()

    def _judge(self, rows: Rows) -> list[dict[str, Any]]:
        """Label, verdict, score and p-value of each row."""
        try:
            judged = judge(self.monitor, rows, is_calibrated=self.is_calibrated)
        except Exception as error:
            raise self._refusal(rows, error) from error
        self._remember(rows)
        self._count(judged)
        none = [None] * len(judged.verdicts)
        parts = (
            none if judged.labels is None else map(_number, np.asarray(judged.labels).tolist()),
            np.asarray(judged.verdicts).tolist(),
            map(_number, np.asarray(judged.scores).tolist()),
            none if judged.p_values is None else np.asarray(judged.p_values).tolist(),
        )
        names = ("label", "verdict", "score", "p_value")
        return [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]

    def _remember(self, rows: Rows) -> None:
        """Keep a row of each of the last forms that were taken."""
        if (form := form_of(rows)) in self._known_rows:
            return
        with self._counting:
            self._known_rows[form] = first_of(rows)
            while len(self._known_rows) > _MOST_KNOWN:
                del self._known_rows[next(iter(self._known_rows))]

    def _count(self, judged: Judged) -> None:
        """Take rows into the counts and the stream, in the order in which they are scored."""
        with self._watching:
            self._n_rows += len(judged.verdicts)
            self._n_alarms += int(np.sum(np.asarray(judged.verdicts) == -1))
            if self.drift is not None:
                self._watch(judged)

    def _watch(self, judged: Judged) -> None:
        """Take rows into the stream; where it cannot go on, verdicts do."""
        try:
            judged.watch(self.drift)
            self._drift_state = self._read_drift()
        except Exception as error:
            LOG.error("The stream is not watched any more.", exc_info=error)
            self.drift = self._drift_state = None
            self.why_no_drift = "it ended with an error: the log says which"

    def _refusal(self, rows: Rows, error: Exception) -> RefusalError:
        """What the client is told of an error, of whose text nothing."""
        if isinstance(error, ChangedNetworkError | NotFittedError):
            LOG.error("The monitor is not ready.", exc_info=error)
            self._why_not_ready = _NOT_READY
            return RefusalError(500, _NOT_READY)
        is_of_network = isinstance(error, InputError) or not isinstance(
            error, ValueError | TypeError
        )
        is_other = form_of(rows) not in self._known_rows or _is_of_place(error)
        if is_of_network and is_other and self._still_takes(rows):
            LOG.info("The network failed on some rows alone.", exc_info=error)
            return RefusalError(422, "the network fails on such values, and not on others")
        if is_of_network and self._is_known(rows):
            LOG.error("The network failed on rows of a form that it takes.", exc_info=error)
            return RefusalError(500, "the network failed on these rows: the log says why")
        LOG.info("Rows of %s were refused.", described(rows), exc_info=error)
        if self._is_known(rows):
            return RefusalError(
                422,
                "the monitor takes rows of this shape and type, but not of these values: what the "
                "network makes of them may not be finite",
            )
        return RefusalError(422, f"the monitor takes no rows of {described(rows)}{self._of_fit()}")

    def _still_takes(self, rows: Rows) -> bool:
        """Whether rows that it took before are taken now, where one of this form is known."""
        shape = _shapes_of(form_of(rows))
        known = [row for form, row in list(self._known_rows.items()) if _shapes_of(form) == shape]
        try:
            for row in known[:1]:
                judge(self.monitor, row, is_calibrated=self.is_calibrated)
        except Exception:  # whatever fails, it fails on what has been right
            return False
        return bool(known)

    def _is_known(self, rows: Rows) -> bool:
        """Whether the network takes rows of this form, as far as it has been seen."""
        is_like_fit = isinstance(rows, np.ndarray) and rows.shape[1:] == self._shape_of_fit
        return is_like_fit or form_of(rows) in self._known_rows

    def _of_fit(self) -> str:
        shape = self._shape_of_fit
        plan = getattr(self.monitor._extractor, "_plan", None)
        if shape is None and plan is not None and None not in plan.inputs:
            shape = ", ".join(f"{kind.shape} for {name!r}" for name, kind in plan.inputs.items())
        return f"; those that it was fitted on had shape {shape}" if shape else ""

    @property
    def _shape_of_fit(self) -> Any:
        return getattr(self.monitor._extractor, "_shape_of_fit", None)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the process is ready, and all there is to say of it."""
        workers = self._workers
        why_not = self._why_not_ready
        if workers is not None and workers.are_stuck(self.timeout):
            why_not = f"every thread has been at one request for more than {self.timeout:g} s"
        extractor = self.monitor._extractor
        return not why_not, {
            "ready": not why_not,
            "why_not_ready": why_not or None,
            "versions": installed_versions(),
            "network": {
                "kind": type(extractor.network).__name__,
                "fingerprint": extractor.fingerprint_,
            },
            "calibrated": self.is_calibrated,
            "process": {
                "scope": "counts and drift are those of this process alone",
                "id": os.getpid(),
                "seconds": round(time.time() - self._started, 3),
                "threads": self._n_threads,
                "open_requests": self._n_open,
            },
            "answers": {str(status): n for status, n in sorted(self.answers.items())},
            "rows": self._n_rows,
            "alarms": self._n_alarms,
            "drift": self._drift_state,
            "why_no_drift": self.why_no_drift,
        }

    def _read_drift(self) -> dict[str, Any] | None:
        if (drift := self.drift) is None:
            return None
        return {
            "alarm": drift.alarm_,
            "alarm_time": drift.alarm_time_,
            "alarm_cause": drift.alarm_cause_,
            "rows": drift.n_samples_seen_,
            "statistic": _number(drift.statistic_),
            "alarm_rate": None if math.isnan(drift.alarm_rate_) else drift.alarm_rate_,
            "rate_lower_bound": _number(drift.rate_lower_bound_),
            "rate_limit": _number(drift.rate_limit_),
            "alpha": float(drift.alpha),
        }


def _shapes_of(form: Any) -> Any:
    """A form without the kinds of values."""
    if isinstance(form, str):
        return form
    is_of_one = not form or not isinstance(form[0], tuple) or isinstance(form[-1], str)
    return form[0] if is_of_one else tuple((name, _shapes_of(inner)) for name, inner in form)


def _is_of_place(error: BaseException | None) -> bool:
    """Whether an error comes of a place that is not there, such as a token beyond a vocabulary."""
    return error is not None and (
        isinstance(error, IndexError) or _is_of_place(error.__cause__ or error.__context__)
    )


def _nothing() -> None:
    """What is to be done at the end of a service that has not begun."""


def _number(value: Any) -> Any:
    """A value that JSON has: numbers that are not finite become texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _is_calibrated(monitor: Monitor) -> bool:
    try:
        monitor._refuse_unready("p_values")
    except NotFittedError:
        return False
    return True


def _drift_of(monitor: Monitor, drift: Any) -> tuple[DriftMonitor | None, str | None]:
    """What watches the stream, or why nothing does."""
    if drift is None:
        return None, "it was not asked for"
    if isinstance(drift, DriftMonitor):
        if drift.detector is not monitor:
            raise ValueError(
                "drift watches another detector than the monitor that is served: pass "
                "DriftMonitor(monitor)."
            )
        return drift, None
    if not _is_calibrated(monitor):
        return None, "the monitor is not calibrated"
    watching = DriftMonitor(monitor)
    try:
        watching.statistic_  # noqa: B018 (which says whether there can be a stream)
    except AttributeError as error:
        return None, str(error)
    return watching, None
