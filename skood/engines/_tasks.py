"""What estimators do with rows in blocks: each function is named by a decorated method."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ..activations import Activations
from ._blocks import Blocks, as_array, first_rows, n_rows_in, new_layer, run, some_rows
from ._dask_activations import DaskActivations, without_rows
from ._parcel import Parcel
from ._workers import Worker, call


def fit_extractor(extractor: Any, method: str, X: Any, y: Any = None) -> Any:
    """Fit on the first rows, which are all that ``fit`` runs the network on."""
    blocks = Blocks.of(X)
    blocks.of_rows(y, "y")
    if isinstance(X, DaskActivations):
        return extractor.fit(X.template)
    return extractor.fit(some_rows(blocks, extractor.batch_size))


def fit_transform(extractor: Any, method: str, X: Any, y: Any = None) -> DaskActivations:
    """Fit on the first rows, and extract the activations of all lazily."""
    return fit_extractor(extractor, method, X, y).transform(X)


def transform(transformer: Any, method: str, X: Any) -> DaskActivations:
    """Activations of each block, lazily; the network is sent once to each worker."""
    check_is_fitted(transformer)
    worker, blocks = Worker.of(transformer), Blocks.of(X)
    name, graph = new_layer(
        "activations",
        [(_transform, *worker, block) for block in blocks.arguments],
        blocks.sources,
    )
    template = partial(_template, worker, blocks, _rows_at_once(transformer))
    return DaskActivations(name, graph, tuple(blocks.sizes), template)


def _rows_at_once(transformer: Any) -> int:
    """As many rows as a network needs to run."""
    plan = getattr(transformer, "_plan", None)
    return 2 if plan is None else plan.n_at_once


def _template(worker: Worker, blocks: Blocks, n_rows: int) -> Activations:
    """What comes out, without a row: found out on a worker, by the first rows that there are."""
    for argument, size in zip(blocks.arguments, blocks.sizes, strict=True):
        if size != 0:
            task = (_transform_first, *worker, argument, n_rows)
            if (found := run("template", [task], blocks.sources)[0]) is not None:
                return found
    raise ValueError("Found 0 samples in all blocks where at least 1 is needed.")


def _transform(estimator: Parcel, networks: Sequence[Parcel], X: Any) -> Activations | None:
    if X is None or not n_rows_in(X):
        return None
    return call(estimator, networks, "transform", X)


def _transform_first(
    estimator: Parcel, networks: Sequence[Parcel], X: Any, n_rows: int
) -> Activations | None:
    if X is None:
        return None
    return without_rows(_transform(estimator, networks, first_rows(X, n_rows)))


def scores(estimator: Any, method: str, X: Any) -> da.Array:
    """A number for each row, lazily."""
    return _numbers(estimator, method, X, np.float64)


def verdicts(estimator: Any, method: str, X: Any) -> da.Array:
    """1 or -1 for each row, lazily."""
    return _numbers(estimator, method, X, np.int64)


def _numbers(estimator: Any, method: str, X: Any, dtype: Any) -> da.Array:
    check_is_fitted(estimator)
    worker, blocks = Worker.of(estimator), Blocks.of(X)
    tasks = [(_call, *worker, block, method, dtype) for block in blocks.arguments]
    return as_array(method.replace("_", "-"), tasks, blocks, blocks.sources, dtype=dtype)


def _call(
    estimator: Parcel, networks: Sequence[Parcel], X: Any, method: str, dtype: Any
) -> NDArray:
    if X is None or not n_rows_in(X):
        return np.empty(0, dtype)
    return call(estimator, networks, method, X)
