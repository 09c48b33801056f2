"""Warnings that point at the user's line."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import joblib
import sklearn

T = TypeVar("T")

# With a separator at the end, as a folder of the user may begin like one of these.
_INSIDE = (
    *(str(Path(file).parent) + os.sep for file in (__file__, sklearn.__file__, joblib.__file__)),
    contextlib.__file__,
)


_VALIDATION = str(Path(sklearn.__file__).parent / "model_selection" / "_validation.py")


class Line(NamedTuple):
    """A line of code, and whether what it has been warned of is not said again."""

    file: str
    number: int
    module: str
    is_silent: bool = False


_working_for: ContextVar[Line | None] = ContextVar("_working_for", default=None)
"""The user's line, in a thread whose frames do not lead there."""


_threshold_comes_later: ContextVar[bool] = ContextVar("_threshold_comes_later", default=False)
"""Whether a clone is fitted whose own threshold nobody uses."""


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn as if the nearest caller outside of this package and scikit-learn had done it."""
    if (collected := _collected.get()) is not None:
        collected.add((category, message))
        return
    if (line := users_line()).is_silent:
        return
    if (said := _said.get()) is not None:
        if (category, message) in said:
            return
        said.add((category, message))
    how = _how_warnings_are_shown()
    if _shown.get((line, category, message)) == how:
        return
    module = sys.modules.get(line.module)
    registry = {} if module is None else vars(module).setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, category, line.file, line.number, line.module, registry)
    if (message, category, line.number) in registry:  # by a filter that shows it once
        if len(_shown) >= _MOST_SHOWN:
            _shown.clear()
        _shown[line, category, message] = how


_shown: dict[tuple[Line, type[Warning], str], Any] = {}
"""Warnings that Python has noted as shown, which any ``catch_warnings`` makes it forget."""

_MOST_SHOWN = 1000
"""A stream may go on for years, and each of its messages name another number. Where so many are
noted, all are forgotten: to show one of them again does less harm than to keep them."""


def _how_warnings_are_shown() -> Any:
    """The filters, and what records warnings in a test: where they change, all may be shown."""
    return list(warnings.filters), getattr(warnings, "_showwarnmsg_impl", None)


def users_line() -> Line:
    """The nearest line outside of this package and scikit-learn that leads here."""
    is_silent = _is_silent.get()
    if (line := _working_for.get()) is not None:
        return line._replace(is_silent=line.is_silent or is_silent)
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "<string>")
    return Line(frame.f_code.co_filename, frame.f_lineno, module, is_silent)


_is_silent: ContextVar[bool] = ContextVar("_is_silent", default=False)
"""Whether all that there is to say was said before."""


Said = frozenset[tuple[type[Warning], str]]
"""Warnings that are passed on, to be said elsewhere."""

_collected: ContextVar[set[tuple[type[Warning], str]] | None]
_collected = ContextVar("_collected", default=None)
"""Warnings that nobody would see here."""


@contextlib.contextmanager
def _set_to(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Block in which a variable has a value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


@contextlib.contextmanager
def collecting_warnings() -> Iterator[set[tuple[type[Warning], str]]]:
    """Block whose warnings are collected, as in another process than the user's."""
    collected: set[tuple[type[Warning], str]] = set()
    with _set_to(_collected, collected):
        yield collected


_said: ContextVar[set[tuple[type[Warning], str]] | None] = ContextVar("_said", default=None)
"""Warnings of a block that says each of them once."""


@contextlib.contextmanager
def warning_once() -> Iterator[None]:
    """Warn once of what is found more than once in the block."""
    with _set_to(_said, set()):
        yield


@contextlib.contextmanager
def saying_nothing() -> Iterator[None]:
    """Do what was done before, whose warnings were shown then."""
    with _set_to(_is_silent, True):
        yield


@contextlib.contextmanager
def working_for(line: Line) -> Iterator[None]:
    """Let warnings point at the user's line, in a thread that works for it."""
    with _set_to(_working_for, line):
        yield


@contextlib.contextmanager
def threshold_comes_later() -> Iterator[None]:
    """Fit a clone whose threshold other rows set afterwards, so that its own needs no warning."""
    with _set_to(_threshold_comes_later, True):
        yield


def own_threshold_counts() -> bool:
    """Whether what is fitted now is for the user, and not a clone to calibrate or to compare.

    scikit-learn's searches and cross-validation do not tell what they fit that it is a clone.
    """
    if _threshold_comes_later.get():
        return False
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_code.co_filename == _VALIDATION and frame.f_code.co_name == "_fit_and_score":
            return False
        frame = frame.f_back
    return True
