"""Inputs whose rows lie in blocks elsewhere, as those of Dask: noticed here, run by an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, cast

from ._sklearn import Function


def is_in_blocks(X: Any) -> bool:
    """Whether ``X`` is a collection of Dask, or a mapping of inputs of which some are."""
    if isinstance(X, Mapping):
        return any(map(is_in_blocks, X.values()))
    return hasattr(type(X), "__dask_graph__")


def by_blocks(task: str) -> Callable[[Function], Function]:
    """Decorate a method that takes rows: those in blocks are given to an engine.

    Parameters
    ----------
    task : str
        What the engine is to do with them: the name of a function of ``skood.engines._tasks`` that
        takes the estimator, the name of the method, and the arguments of the method.
    """

    def decorate(method: Function) -> Function:
        @wraps(method)
        def run(estimator: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
            if not is_in_blocks(X):
                return method(estimator, X, *args, **kwargs)
            # Engines build on all estimators, and so are imported by none before they are needed.
            tasks = import_module("skood.engines._tasks")
            return getattr(tasks, task)(estimator, method.__name__, X, *args, **kwargs)

        return cast(Function, run)

    return decorate
