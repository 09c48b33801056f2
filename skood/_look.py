"""A cheap look at fitted estimators, by which it shows whether one was exchanged or changed."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from itertools import chain, count
from typing import Any

from sklearn.base import BaseEstimator

_N_LOOKED_INTO = 4
"""Of a container, as many of the first items tell whether it holds estimators."""


class ShowsChanges:
    """Estimators of which some lie in others by the hundred: they count what is set in any of them.

    As long as the count of all is the same, nobody need look at their attributes.
    """

    _prototypes: frozenset[str] = frozenset()
    """Parameters of which only clones are fitted: what becomes of them later changes no score."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        _count_change()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        _count_change()


_numbers = count(1)
_last_change = 0


def _count_change() -> None:
    global _last_change
    _last_change = next(_numbers)  # a new one for each thread


class Look:
    """What estimators, and those that they hold, were seen to hold.

    Whatever fits an estimator or sets a parameter puts other objects into its attributes. It holds
    these objects itself, so that no others can get their addresses. Arrays that are overwritten in
    place do not show.

    Parameters
    ----------
    *roots : object
        Estimators, or containers of some.
    """

    def __init__(self, *roots: Any) -> None:
        self._roots, self._change = roots, _last_change
        holders = list(_holders_in(roots, set()))
        self._all = _Holders([held for _, held in holders])
        self._silent = _Holders([held for holder, held in holders if not _tells(holder)])

    def is_same(self, *roots: Any) -> bool:
        """Whether these are the same, and hold the very same objects."""
        if len(roots) != len(self._roots) or not all(map(operator.is_, roots, self._roots)):
            return False
        change = _last_change
        if change == self._change:
            return self._silent.are_same()
        if not self._all.are_same():
            return False
        self._change = change
        return True


class _Holders:
    """Attributes of estimators and containers, and the objects in them."""

    def __init__(self, holders: list[Any]) -> None:
        self._dicts = [holder for holder in holders if isinstance(holder, dict)]
        self._rows = [holder for holder in holders if not isinstance(holder, dict)]
        self._seen = self._held()

    def are_same(self) -> bool:
        """Whether they hold the very same objects."""
        try:  # of lists, the items that are the same objects are equal
            return self._held() == self._seen
        except Exception:  # arrays that are not the same say nothing of being equal
            return False

    def _held(self) -> list[Any]:
        # In loops that Python itself runs: there are thousands of attributes.
        values = chain.from_iterable(map(dict.values, self._dicts))
        return [*values, *chain.from_iterable(self._rows)]


def _tells(holder: Any) -> bool:
    """Whether what a holder holds cannot change without being counted."""
    return isinstance(holder, ShowsChanges | tuple)


def _holders_in(values: Iterable[Any], known: set[int]) -> Iterator[tuple[Any, Any]]:
    """Each estimator and container, also inside others, and the dict or row of what it holds."""
    for value in values:
        if id(value) in known:
            continue
        if isinstance(value, BaseEstimator):
            held: Any = vars(value)
        elif isinstance(value, dict | list | tuple) and _holds_estimators(value):
            held = value
        else:
            continue
        known.add(id(value))
        yield value, held
        yield from _holders_in(_looked_into(value, held), known)


def _looked_into(holder: Any, held: Any) -> list[Any]:
    if not isinstance(holder, ShowsChanges):
        return list(held.values() if isinstance(held, dict) else held)
    return [held for name, held in vars(holder).items() if name not in holder._prototypes]


def _holds_estimators(container: Any) -> bool:
    items = container.values() if isinstance(container, dict) else container
    some = [item for item, _ in zip(items, range(_N_LOOKED_INTO), strict=False)]
    return any(
        isinstance(item, BaseEstimator)
        or (isinstance(item, tuple | list) and any(isinstance(i, BaseEstimator) for i in item))
        for item in some
    )
