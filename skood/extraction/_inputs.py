"""Raw inputs of a network, batch by batch, whatever they come in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite, gen_batches
from sklearn.utils.validation import validate_data

Batch = Any
"""An array, a tensor, or a mapping of names to these."""


@dataclass(frozen=True)
class Batches:
    """Inputs that can be gone through in batches, more than once."""

    generate: Callable[[], Iterator[Batch]]
    n_samples: int | None
    """Number of samples to expect, where known."""
    data: Batch | None = None
    """All inputs, where they are in memory or mapped."""

    def __iter__(self) -> Iterator[Batch]:
        return self.generate()

    def first_two(self) -> Batch:
        """Two samples of the first batch, the same one twice if it has no more.

        Raises
        ------
        ValueError
            If there is no sample.
        """
        for batch in self:
            return take_rows(batch, [0, -1])
        raise ValueError("Found 0 samples where at least 1 is needed.")


def as_batches(estimator: Any, X: Any, batch_size: int, *, reset: bool) -> Batches:
    """Check what can be checked of ``X`` without reading it, and cut it into batches.

    Raises
    ------
    ValueError
        If there is no sample, or the number of features is not that of ``fit``. Values that
        are not finite are found when their batch is read.
    """
    if reset:
        forget_features(estimator)
    if (loader := _as_loader(X, batch_size)) is not None:
        load = partial(_load, loader, estimator, reset=reset)
        return Batches(load, _expected_samples(loader))
    if isinstance(X, Mapping) and not issparse(X):  # a sparse matrix may be a dict
        data: Batch = {key: v if _is_tensor(v) else np.asarray(v) for key, v in X.items()}
        lengths = {key: len(values) for key, values in data.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ValueError(
                f"A mapping of inputs needs values of one length, at least 1, got {lengths}."
            )
    elif _is_tensor(X):
        _check_dimensions(estimator, X, reset=reset)
        data = X
    else:
        data = validate_data(estimator, X, reset=reset, allow_nd=True, ensure_all_finite=False)
    return Batches(partial(_slice, data, batch_size, estimator), count_rows(data), data)


def forget_features(estimator: Any) -> None:
    """Delete what an earlier ``fit`` stored: not all kinds of inputs store it anew."""
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(estimator, name):
            delattr(estimator, name)


def count_rows(batch: Batch) -> int:
    """Number of samples."""
    return len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)


def take_rows(batch: Batch, rows: slice | list[int]) -> Batch:
    """Some of the samples."""
    if isinstance(batch, Mapping):
        return {key: values[rows] for key, values in batch.items()}
    return batch[rows]


def as_arrays(data: Batch, to_numpy: Callable[[Any], NDArray]) -> Any:
    """The same with arrays for tensors."""
    if isinstance(data, Mapping):
        return {key: to_numpy(v) if _is_tensor(v) else v for key, v in data.items()}
    return to_numpy(data) if _is_tensor(data) else data


def _slice(data: Batch, batch_size: int, estimator: Any) -> Iterator[Batch]:
    for rows in gen_batches(count_rows(data), batch_size):
        batch = take_rows(data, rows)
        _check_finite(estimator, batch)
        yield batch


def _load(loader: Any, estimator: Any, *, reset: bool) -> Iterator[Batch]:
    for item in loader:
        batch = item[0] if isinstance(item, tuple | list) else item
        if not (isinstance(batch, Mapping | np.ndarray) or _is_tensor(batch)):
            raise TypeError(
                "A data set or loader must yield arrays, tensors or mappings of names to these, "
                f"or a tuple or list whose first item is one; got {type(batch).__name__}."
            )
        if not isinstance(batch, Mapping):
            _check_dimensions(estimator, batch, reset=reset)
        _check_finite(estimator, batch)
        yield batch


def _check_dimensions(estimator: Any, batch: Any, *, reset: bool) -> None:
    """Validate the shape as ``validate_data`` does, whatever kind of array it is."""
    stand_in = np.broadcast_to(np.float32(0), tuple(batch.shape))
    validate_data(estimator, stand_in, reset=reset, allow_nd=True, ensure_all_finite=False)


def _check_finite(estimator: Any, batch: Batch) -> None:
    for values in batch.values() if isinstance(batch, Mapping) else [batch]:
        if not _is_tensor(values):
            assert_all_finite(values, estimator_name=type(estimator).__name__, input_name="X")
        elif not values.isfinite().all():
            raise ValueError(
                f"Input X contains NaN or infinity, which {type(estimator).__name__} refuses."
            )


def _as_loader(X: Any, batch_size: int) -> Any:
    """The torch loader that ``X`` is or that reads the data set ``X``; None for other inputs."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(X, torch.utils.data.Dataset):
        return torch.utils.data.DataLoader(X, batch_size=batch_size)
    return X if isinstance(X, torch.utils.data.DataLoader) else None


def _expected_samples(loader: Any) -> int | None:
    try:
        return len(loader.dataset)
    except TypeError:  # a stream
        return None


def _is_tensor(values: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)
