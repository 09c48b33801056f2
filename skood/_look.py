"""A cheap look at fitted estimators, by which it shows whether one was exchanged or changed."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from sklearn.base import BaseEstimator

_N_LOOKED_INTO = 4
"""Of a container, as many of the first items tell whether it holds estimators."""


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
        self._roots = roots
        self._holders = list(_holders_in(roots, set()))
        self._seen = self._held()

    def is_same(self, *roots: Any) -> bool:
        """Whether these are the same, and hold the very same objects."""
        if len(roots) != len(self._roots) or not all(map(operator.is_, roots, self._roots)):
            return False
        try:  # of lists, the items that are the same objects are equal
            return self._held() == self._seen
        except Exception:  # arrays that are not the same say nothing of being equal
            return False

    def _held(self) -> list[Any]:
        # In loops that Python itself runs: there are thousands of attributes.
        return list(chain.from_iterable(map(operator.call, self._holders)))


def _holders_in(values: Iterable[Any], known: set[int]) -> Iterator[Any]:
    """What lists the objects in each estimator and container, itself and those inside."""
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
        inside = held.values if isinstance(held, dict) else held.__iter__
        yield inside
        yield from _holders_in(list(inside()), known)


def _holds_estimators(container: Any) -> bool:
    items = container.values() if isinstance(container, dict) else container
    some = [item for item, _ in zip(items, range(_N_LOOKED_INTO), strict=False)]
    return any(
        isinstance(item, BaseEstimator)
        or (isinstance(item, tuple | list) and any(isinstance(i, BaseEstimator) for i in item))
        for item in some
    )
