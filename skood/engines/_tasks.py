"""What estimators do with rows in blocks: each function is named by a decorated method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .._fit_context import unchanged_on_failure
from .._foreign import detector_of
from .._sklearn import check_own_parameters
from .._streams import check_fitted, learns_from_rows
from ..activations import Activations
from ._blocks import (
    Blocks,
    Literal,
    as_array,
    first_rows,
    has_rows,
    n_rows_in,
    new_layer,
    opened,
    run,
    some_rows,
)
from ._dask_activations import DaskActivations, without_rows
from ._fit import fitted_on, learnt_from, passes_are_apart, said_by
from ._keep import kept
from ._keep import n_bytes as n_bytes
from ._parcel import Parcel
from ._workers import Worker, call


def fit_extractor(extractor: Any, method: str, X: Any, y: Any = None) -> Any:
    """Fit on the first rows, which are all that ``fit`` runs the network on."""
    blocks = Blocks.of(X)
    if y is not None and blocks.n_rows is not None:
        blocks.of_rows(y, "y")
    if isinstance(X, DaskActivations):
        return extractor.fit(_few(X))
    return extractor.fit(some_rows(blocks, extractor.batch_size))


def fit_on_few(transformer: Any, method: str, X: Any, y: Any = None) -> Any:
    """Fit a transformer that learns nothing from the rows on a few of them.

    Raises
    ------
    TypeError
        If it does learn from them.
    """
    if not isinstance(X, DaskActivations):
        raise TypeError(
            f"Of Dask, {type(transformer).__name__} takes activations that an ActivationExtractor "
            f"gives, got {type(X).__name__}."
        )
    if learns_from_rows(transformer):
        raise TypeError(
            f"{type(transformer).__name__} learns from all rows at once: fit it on some that fit "
            "into the memory of this process, such as A[:10000].compute(), and put it into a "
            "pipeline as sklearn.frozen.FrozenEstimator."
        )
    return transformer.fit(_few(X))


def _few(A: DaskActivations) -> Activations:
    """The first rows of a block that has any."""
    found = some_rows(Blocks.of(A), 2)
    assert isinstance(found, Activations)
    return found


def fit_transform(
    extractor: Any, method: str, X: Any, y: Any = None, **options: Any
) -> DaskActivations:
    """Fit on the first rows, and extract the activations of all lazily."""
    return fit_extractor(extractor, method, X, y).transform(X, **options)


def transform(
    transformer: Any, method: str, X: Any, *, out: Any = None, dtype: Any = None
) -> DaskActivations:
    """Activations of each block, lazily; the network is sent once to each worker.

    Raises
    ------
    TypeError
        If they are to be written into a folder.
    """
    if out is not None:
        raise TypeError(
            f"out={out!r} is for inputs in this process. Rows in blocks of Dask stay on its "
            "workers: call persist(), or write layers, as by A['relu1'].to_zarr(...)."
        )
    check_is_fitted(transformer)
    worker, blocks = Worker.of(transformer), Blocks.of(X)
    options = {} if dtype is None else {"dtype": dtype}
    name, graph = new_layer(
        "activations",
        [
            (place.run, _transform, *worker, block, Literal(options))
            for place, block in zip(blocks.places, blocks.arguments, strict=True)
        ],
        blocks.sources,
    )
    template = partial(_template, worker, blocks, _rows_at_once(transformer), options)
    return DaskActivations(name, graph, tuple(blocks.sizes), template)


def _rows_at_once(transformer: Any) -> int:
    """As many rows as a network needs to run."""
    plan = getattr(transformer, "_plan", None)
    return 2 if plan is None else plan.n_at_once


def _template(worker: Worker, blocks: Blocks, n_rows: int, options: dict[str, Any]) -> Activations:
    """What comes out, without a row: found out on a worker, by the first rows that there are."""
    for argument, size in zip(blocks.arguments, blocks.sizes, strict=True):
        if size != 0:
            task = (_transform_first, *worker, argument, Literal(options), n_rows)
            if (found := run("template", [task], blocks.sources)[0]) is not None:
                return found
    raise ValueError("Found 0 samples in all blocks where at least 1 is needed.")


def _transform(
    estimator: Parcel, networks: Sequence[Any], X: Any, options: Literal
) -> Activations | None:
    if X is None or not n_rows_in(X):
        return None
    return call(estimator, networks, "transform", X, **options.values)


def _transform_first(
    estimator: Parcel, networks: Sequence[Any], X: Any, options: Literal, n_rows: int
) -> Activations | None:
    if X is None:
        return None
    return without_rows(_transform(estimator, networks, first_rows(X, n_rows), options))


def fit(detector: Any, method: str, X: Any, y: Any = None) -> Any:
    """Fit a detector that learns in batches: as a tree of merges, on the workers.

    Raises
    ------
    TypeError
        If the detector needs all rows at once.
    """
    _refuse_all_at_once(detector, X)
    check_own_parameters(detector)
    if isinstance(X, DaskActivations) and passes_are_apart(detector):
        X = kept(X)
    with unchanged_on_failure(detector):
        detector._become(fitted_on(detector, Blocks.of(X), y))
    return detector


def partial_fit(detector: Any, method: str, X: Any, y: Any = None) -> Any:
    """Learn from blocks as from more batches."""
    check_own_parameters(detector)
    with unchanged_on_failure(detector):
        return said_by(learnt_from(detector, Blocks.of(X), y)).add_to(detector)


def fit_predict(detector: Any, method: str, X: Any, y: Any = None) -> da.Array:
    """Fit, and predict lazily."""
    return detector.fit(X, y).predict(X)


def keep(A: Any) -> Any:
    """Activations in blocks, computed once for all that follows."""
    return kept(A) if isinstance(A, DaskActivations) else A


def each_block(A: DaskActivations, function: Callable[..., Any], y: Any = None) -> list[Any]:
    """What a function makes of the rows and labels of each block that has any, on the workers."""
    blocks = Blocks.of(A)
    labels = blocks.of_rows(y, "y")
    given = zip(blocks.places, blocks.arguments, labels.arguments, strict=True)
    calls = [(place.run, _on_block, function, *pair) for place, *pair in given]
    found = run("each-block", calls, [*blocks.sources, *labels.sources])
    return [result for has_rows, result in found if has_rows]


def _on_block(function: Callable[..., Any], X: Any, y: Any) -> tuple[bool, Any]:
    if not has_rows(X, y):
        return False, None
    return True, function(X, opened(y))


def _refuse_all_at_once(detector: Any, X: Any) -> None:
    try:
        _ = detector.partial_fit
    except AttributeError as error:
        why = str(error.__cause__ or "it has no partial_fit")
        name = type(detector).__name__
        raise TypeError(
            f"{name} cannot be fitted block by block: {why}. Where all rows fit into the memory of "
            f"this process, pass {'A' if isinstance(X, DaskActivations) else 'X'}.compute(); of a "
            "monitor, monitor[:-1].fit_transform(X).compute() are the activations to fit it on."
        ) from error


def scores(estimator: Any, method: str, X: Any) -> da.Array:
    """A number for each row, lazily."""
    return _numbers(estimator, method, X, np.float64)


def verdicts(estimator: Any, method: str, X: Any) -> da.Array:
    """1 or -1 for each row, lazily."""
    return _numbers(estimator, method, X, np.int64)


def scores_each(estimator: Any, method: str, X: Any) -> dict[str, da.Array]:
    """A number for each row by each of several detectors, lazily."""
    return _numbers_each(estimator, method, X, np.float64)


def verdicts_each(estimator: Any, method: str, X: Any) -> dict[str, da.Array]:
    """1 or -1 for each row by each of several detectors, lazily."""
    return _numbers_each(estimator, method, X, np.int64)


def _numbers_each(estimator: Any, method: str, X: Any, dtype: Any) -> dict[str, da.Array]:
    _check_ready(estimator, method)
    worker, blocks = Worker.of(estimator), Blocks.of(X)
    calls = [
        (place.run, _call_each, *worker, block, method)
        for place, block in zip(blocks.places, blocks.arguments, strict=True)
    ]
    layer, graph = new_layer(method.replace("_", "-"), calls, blocks.sources)
    source = DaskActivations(layer, graph, tuple(blocks.sizes))
    return {
        name: as_array(
            method.replace("_", "-"),
            [(_of_one, key, name, dtype) for key in source.__dask_keys__()],
            blocks,
            [source],
            dtype=dtype,
        )
        for name in detector_of(estimator).named_estimators_
    }


def _check_ready(estimator: Any, method: str) -> None:
    """Say now, and not when it is computed, that an estimator cannot do what is asked for."""
    check_fitted(estimator)
    if hasattr(estimator, "_refuse_unready"):
        estimator._refuse_unready(method)


def _numbers(estimator: Any, method: str, X: Any, dtype: Any) -> da.Array:
    _check_ready(estimator, method)
    worker, blocks = Worker.of(estimator), Blocks.of(X)
    tasks = [
        (place.run, _call, *worker, block, method, dtype)
        for place, block in zip(blocks.places, blocks.arguments, strict=True)
    ]
    return as_array(method.replace("_", "-"), tasks, blocks, blocks.sources, dtype=dtype)


def _call(estimator: Parcel, networks: Sequence[Any], X: Any, method: str, dtype: Any) -> NDArray:
    if X is None or not n_rows_in(X):
        return np.empty(0, dtype)
    return call(estimator, networks, method, X)


def _call_each(
    estimator: Parcel, networks: Sequence[Any], X: Any, method: str
) -> dict[str, NDArray]:
    if X is None or not n_rows_in(X):
        return {}
    return call(estimator, networks, method, X)


def _of_one(found: dict[str, NDArray], name: str, dtype: Any) -> NDArray:
    return found.get(name, np.empty(0, dtype))


def refuse(estimator: Any, method: str, X: Any, *args: Any, **kwargs: Any) -> Any:
    """Say that a method looks at rows in this process.

    Raises
    ------
    TypeError
        Always.
    """
    raise TypeError(
        f"{type(estimator).__name__}.{method} needs its rows in this process, but they lie in "
        "blocks elsewhere: pass some of them that fit into its memory, such as X[:1000].compute()."
    )
