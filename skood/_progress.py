"""How far what takes long has come: told by bars, the log and the callbacks of scikit-learn.

Everything that takes long is a number of steps of something, and says so here alone. Who listens
is decided here: a bar, where ``verbose`` asks for one; the logger "skood", where somebody looks at
it; and callbacks that were set by ``set_callbacks``, which estimators have with scikit-learn 1.9.
Where nobody listens, nothing is done.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from threading import Lock
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol, Self, cast

from joblib import Parallel
from joblib.parallel import get_active_backend
from tqdm import tqdm

from ._sklearn import Function, has_callbacks, new_callback_context, passing_callbacks

LOG = logging.getLogger("skood")
LOG.addHandler(logging.NullHandler())

_N_PARTS = 100
"""Of more steps that are only counted, callbacks are told of so many parts."""
_SECONDS = 0.1
"""So often is a bar drawn anew while steps of its steps go on."""
_WIDTH = 40
"""So many characters beside a bar say what is being done."""

_asked: ContextVar[int] = ContextVar("_asked", default=0)
"""The ``verbose`` of what runs all else here."""
_is_quick_shown: ContextVar[bool] = ContextVar("_is_quick_shown", default=True)
"""Whether what is done at once shows a bar where only its own ``verbose`` asks for one."""
_running: ContextVar[Steps | None] = ContextVar("_running", default=None)
"""The steps that this thread works on."""
_reports: dict[int, FitReport] = {}
"""What callbacks are told of estimators that are being fitted, by the ``id`` of these."""
_bar_is_shown = Lock()
"""Bars of several things at once would tear each other up: there is one at a time."""


class Progress(Protocol):
    """What is told of steps, by whatever does them."""

    def step(self, label: str = "", estimator: Any = None) -> AbstractContextManager[Any]:
        """Block that is one step, perhaps in another thread, and may fit an estimator."""

    def advance(self, n_steps: int = 1) -> None:
        """Note that more steps are done."""


@contextmanager
def steps(
    of: Any,
    total: int | None,
    unit: str,
    *,
    verbose: int | None = None,
    n_done: int = 0,
    are_counted: bool = False,
    is_quick: bool = False,
) -> Iterator[Progress]:
    """Block of some steps of something, to which they are told.

    Parameters
    ----------
    of : estimator or str
        What they are steps of. An estimator asks for a bar by its own ``verbose``.
    total : int or None
        How many there are, if that is known.
    unit : str
        What they are, in the plural: "layers".
    verbose : int, default=None
        Whether to show a bar, where no estimator says so.
    n_done : int, default=0
        How many were done before.
    are_counted : bool, default=False
        Whether they are counted by ``advance`` alone, and may be very many.
    is_quick : bool, default=False
        Whether they are done at once: the log tells of their beginning and end as it does of single
        steps.
    """
    own = int(getattr(of, "verbose", 0) if verbose is None else verbose)
    wanted = max(_asked.get(), own if _is_quick_shown.get() or not is_quick else 0)
    report, outer = _reports.get(id(of)), _running.get()
    if not wanted and report is None and outer is None and not LOG.isEnabledFor(logging.INFO):
        yield _NOBODY
        return
    name = of if isinstance(of, str) else type(of).__name__
    n_told = total if total is None or not are_counted else min(total, _N_PARTS)
    stage = None if report is None else report.stage(n_told, unit)
    level = logging.DEBUG if is_quick or outer is not None else logging.INFO
    with Steps(name, total, unit, outer, wanted, stage, n_done, level) as told:
        yield told


@contextmanager
def asking_for(verbose: int) -> Iterator[None]:
    """Block in which everything shows what is done as if it had this ``verbose`` itself."""
    token = _asked.set(max(_asked.get(), int(verbose)))
    try:
        yield
    finally:
        _asked.reset(token)


@contextmanager
def quick_unseen() -> Iterator[None]:
    """Block in which what is done at once shows no bar by its own ``verbose``."""
    token = _is_quick_shown.set(False)
    try:
        yield
    finally:
        _is_quick_shown.reset(token)


def shown_as_asked(method: Function) -> Function:
    """Decorate a method: what it runs shows what is done by the ``verbose`` of its estimator."""

    @wraps(method)
    def showing(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        with asking_for(estimator.verbose):
            return method(estimator, *args, **kwargs)

    return cast(Function, showing)


class _Nobody:
    """Listens to nothing."""

    def step(self, label: str = "", estimator: Any = None) -> AbstractContextManager[Any]:
        return _AT_ONCE

    def advance(self, n_steps: int = 1) -> None:
        pass


_AT_ONCE: AbstractContextManager[Any] = nullcontext()
_NOBODY = _Nobody()


class Steps:
    """Steps of something, of which some are done, and who is told.

    Parameters
    ----------
    name : str
        What they are steps of.
    total : int or None
        How many there are.
    unit : str
        What they are.
    outer : Steps or None
        Other steps, of one of which all of these are a part.
    wanted : int
        Whether a bar is to be shown.
    stage : StageReport or None
        Tells the callbacks of the estimator whose steps they are.
    n_done : int
        How many were done before.
    level : int
        At which the log tells of the beginning and the end.
    """

    def __init__(
        self,
        name: str,
        total: int | None,
        unit: str,
        outer: Steps | None,
        wanted: int,
        stage: StageReport | None,
        n_done: int,
        level: int,
    ) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._outer, self._wanted, self._n_done = outer, wanted, n_done
        self._stage, self._level = stage, level
        self._lock, self._bar, self._label = Lock(), None, ""

    def __enter__(self) -> Self:
        self._start = perf_counter()
        LOG.log(self._level, "%s: begins, %s", self._name, self._count_text())
        if self._wanted and not self._is_part_of_shown() and _may_show():
            self._bar = _new_bar(self._name, self._total, self._unit, self._n_done)
        self._token = _running.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _running.reset(self._token)
        if kind is None and self._total is not None and self._n_done < self._total:
            self._count(self._total - self._n_done)  # what turned out not to be needed
        if self._bar is not None:
            self._bar.set_postfix_str("", refresh=False)
            self._bar.close()
            _bar_is_shown.release()
        if self._stage is not None and kind is None:
            self._stage.end()
        how, seconds = f"{kind.__name__} in" if kind else "ends after", perf_counter() - self._start
        LOG.log(self._level, "%s: %s %.3f s, %s", self._name, how, seconds, self._count_text())

    def step(self, label: str = "", estimator: Any = None) -> AbstractContextManager[Any]:
        """One step; begun here, it may be done in another thread."""
        stage, name = self._stage, label or self._unit
        told = _AT_ONCE if stage is None else stage.step(name, estimator)
        return self._step(label, told)

    @contextmanager
    def _step(self, label: str, told: AbstractContextManager[Any]) -> Iterator[None]:
        token, start = _running.set(self), perf_counter()
        self._label = label
        self._draw(label)
        try:
            with told:
                yield
        finally:
            _running.reset(token)
        LOG.debug("%s: %s, %.3f s", self._name, label or self._unit, perf_counter() - start)
        self._count(1)

    def advance(self, n_steps: int = 1) -> None:
        """Note that more steps are done, which no callback can tell apart."""
        self._count(n_steps)
        if self._stage is not None:
            share = None if self._total is None else self._n_done / self._total
            self._stage.advance(share, self._unit)
        LOG.debug("%s: %s", self._name, self._count_text())
        self._draw(self._count_text() if self._bar is None else "")

    def _count(self, n_steps: int) -> None:
        with self._lock:
            self._n_done += n_steps
            if self._bar is not None:
                self._bar.update(n_steps)

    def _draw(self, text: str) -> None:
        """Write what is being done beside the bar, which may be that of other steps."""
        if self._bar is not None:
            with self._lock:
                self._bar.set_postfix_str(text[:_WIDTH], refresh=False)
                if perf_counter() - self._bar.drawn > _SECONDS:
                    self._bar.refresh()
                    self._bar.drawn = perf_counter()
        elif self._outer is not None:
            self._outer._draw(" > ".join(filter(None, [self._outer._label, text])))

    def _count_text(self) -> str:
        of = "" if self._total is None else f" of {self._total}"
        return f"{self._n_done}{of} {self._unit}"

    def _is_part_of_shown(self) -> bool:
        outer = self._outer
        return outer is not None and (outer._bar is not None or outer._is_part_of_shown())


def _may_show() -> bool:
    """Whether a bar has the terminal to itself; if so, others have to wait for it to go."""
    is_worker = get_active_backend()[0].nesting_level not in (None, 0)
    return sys.stderr is not None and not is_worker and _bar_is_shown.acquire(blocking=False)


def _new_bar(name: str, total: int | None, unit: str, n_done: int) -> Any:
    bar = tqdm(desc=name, total=total, initial=n_done, unit=f" {unit}")
    bar.drawn = perf_counter()
    return bar


class CountingParallel(Parallel):
    """A ``Parallel`` that tells of each of its calls that is done, in whatever process.

    Parameters
    ----------
    told : Progress
        What is told.
    **params : dict
        Those of ``joblib.Parallel``.
    """

    def __init__(self, told: Progress, **params: Any) -> None:
        super().__init__(**params)
        self._told, self._n_told = told, 0

    def print_progress(self) -> None:
        """Tell of what is done since the last time, in place of printing."""
        n_new = self.n_completed_tasks - self._n_told
        if n_new > 0:
            self._n_told += n_new
            self._told.advance(n_new)


class FitReport:
    """What the callbacks of an estimator are told of its ``fit``.

    A class says by ``_n_stages_of_fit`` how many ``steps`` its fit has one after the other: the
    only ones of a fit are the fit itself to callbacks, others one of its stages each.

    Parameters
    ----------
    estimator : estimator
        What is fitted.
    context : sklearn.callback.CallbackContext
        That of the fit, which has not begun.
    data : dict of str to object
        ``X`` and ``y`` of the fit.
    """

    def __init__(self, estimator: Any, context: Any, data: dict[str, Any]) -> None:
        self._fitted, self._context, self._data = estimator, context, data
        n_stages = getattr(estimator, "_n_stages_of_fit", 0)
        self._has_begun, self._n_stages_left = False, n_stages
        if n_stages != 1:
            self._begin(n_stages)

    def _begin(self, n_steps: int | None) -> None:
        self._has_begun = True
        self._context.max_subtasks = n_steps
        self._context.call_on_fit_task_begin(estimator=self._fitted, **self._data)

    def stage(self, n_steps: int | None, unit: str) -> StageReport | None:
        """Tell that steps begin; None where there are more than were announced."""
        if self._n_stages_left == 0:
            return None
        self._n_stages_left -= 1
        if not self._has_begun:
            self._begin(n_steps)
            return StageReport(self._fitted, self._context, n_steps, is_whole=True)
        context = self._context.subcontext(task_name=unit, max_subtasks=n_steps)
        context.call_on_fit_task_begin(estimator=self._fitted)
        return StageReport(self._fitted, context, n_steps, is_whole=False)

    def end(self) -> None:
        """Tell that the estimator is fitted."""
        if not self._has_begun:
            self._begin(0)
        self._context.call_on_fit_task_end(
            estimator=self._fitted, **self._data, reconstruction_attributes=dict
        )


class StageReport:
    """What callbacks are told of the steps of a fit, or of one of its stages.

    Parameters
    ----------
    estimator : estimator
        What is fitted.
    context : sklearn.callback.CallbackContext
        That of the stage, which has begun.
    n_steps : int or None
        How many steps callbacks expect, and may be told of.
    is_whole : bool
        Whether the stage is the fit itself, the end of which is told elsewhere.
    """

    def __init__(
        self, estimator: Any, context: Any, n_steps: int | None, *, is_whole: bool
    ) -> None:
        self._fitted, self._context, self._is_whole = estimator, context, is_whole
        self._n_steps, self._n_begun = n_steps, 0

    def step(self, label: str, estimator: Any) -> AbstractContextManager[Any]:
        """Block that is a step, in which an estimator is fitted, if one is given."""
        if self._n_begun == self._n_steps:
            return nullcontext()
        self._n_begun += 1
        return self._told(self._context.subcontext(task_name=label), estimator)

    @contextmanager
    def _told(self, context: Any, estimator: Any) -> Iterator[None]:
        with passing_callbacks(context, estimator):
            context.call_on_fit_task_begin(estimator=self._fitted)
            yield
            context.call_on_fit_task_end(estimator=self._fitted)

    def advance(self, share: float | None, label: str) -> None:
        """Tell of as many steps as are a share of all, or of one where that is not known."""
        n_done = self._n_begun + 1
        if share is not None and self._n_steps is not None:
            n_done = min(int(share * self._n_steps + 1e-9), self._n_steps)
        while self._n_begun < n_done:
            with self.step(label, None):
                pass

    def end(self) -> None:
        """Tell that all is done."""
        if not self._is_whole:
            self._context.call_on_fit_task_end(estimator=self._fitted)


@contextmanager
def telling_callbacks(estimator: Any, X: Any = None, y: Any = None) -> Iterator[None]:
    """Block that is the ``fit`` of an estimator, told to its callbacks where it has some."""
    if not has_callbacks(estimator):
        yield
        return
    report = FitReport(estimator, new_callback_context(estimator), {"X": X, "y": y})
    _reports[id(estimator)] = report
    try:
        yield
    finally:
        del _reports[id(estimator)]
    report.end()
