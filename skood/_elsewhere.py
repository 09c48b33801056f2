"""Inputs whose rows lie in blocks elsewhere, as those of Dask: noticed here, run by an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, cast

import numpy as np

from ._sklearn import Function
from .activations import Activations


def lies_elsewhere(X: Any) -> bool:
    """Whether ``X`` is a collection of Dask, or a mapping of inputs of which some are."""
    if isinstance(X, Mapping):
        return any(map(lies_elsewhere, X.values()))
    return hasattr(type(X), "__dask_graph__")


def are_activations(X: Any) -> bool:
    """Whether ``X`` holds activations by layer, in memory or in blocks elsewhere."""
    return isinstance(X, Activations) or (lies_elsewhere(X) and hasattr(type(X), "layer_names"))


def in_memory(y: Any) -> Any:
    """Labels in this process, where they are few numbers even if their samples are many.

    Raises
    ------
    TypeError
        If they are a value of Dask without rows.
    """
    if not lies_elsewhere(y):
        return y
    refuse_without_rows(y, "y")
    return np.asarray(y)


def refuse_without_rows(values: Any, name: str) -> None:
    """Refuse what a call will give, of which nothing says how many rows it has.

    Raises
    ------
    TypeError
        If it is that.
    """
    kinds = {kind.__name__ for kind in type(values).__mro__}
    if "Delayed" in kinds:  # which has each attribute that it is asked for
        raise TypeError(
            f"{name} is a Delayed of Dask, which has no rows before it is computed: pass "
            f"{name}.compute(), or dask.array.from_delayed of it, with its shape."
        )


def gathered(A: Any) -> Any:
    """Activations or arrays in this process, into whose memory they have to fit."""
    return A.compute() if lies_elsewhere(A) else A


def held(A: Any) -> Any:
    """Activations that are computed once for all that follows; nothing is done with those here."""
    return engine("keep")(A) if lies_elsewhere(A) else A


def run_elsewhere(task: str) -> Callable[[Function], Function]:
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
            if not lies_elsewhere(X):
                return method(estimator, X, *args, **kwargs)
            return engine(task)(estimator, method.__name__, X, *args, **kwargs)

        return cast(Function, run)

    return decorate


def engine(task: str) -> Any:
    """A function of the engine, which builds on all estimators and is imported by none before."""
    return getattr(import_module("skood.engines._tasks"), task)
