"""Raw inputs of a network of any type, batch by batch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite, gen_batches
from sklearn.utils.validation import validate_data

from ..networks import Batch, NetworkAdapter, count_samples, take_samples
from ._raw_inputs import forget_features, stand_in_for


@dataclass(frozen=True)
class Batches:
    """Inputs that can be gone through in batches, more than once."""

    generate: Callable[[], Iterator[tuple[Batch, NDArray | None]]]
    """Each batch with its labels, where there are any."""
    n_samples: int | None
    """Number of samples to expect, where known."""
    data: Batch | None = None
    """All inputs, where they are in memory or mapped."""

    def __iter__(self) -> Iterator[tuple[Batch, NDArray | None]]:
        return self.generate()

    def first_two(self) -> Batch:
        """Two samples of the first batch, the same one twice if it has no more.

        Raises
        ------
        ValueError
            If there is no sample.
        """
        for batch, _ in self:
            return take_samples(batch, [0, -1])
        raise ValueError("Found 0 samples where at least 1 is needed.")


def as_batches(
    estimator: Any,
    X: Any,
    batch_size: int,
    *,
    reset: bool,
    any_length: bool = False,
    adapter: NetworkAdapter | None = None,
) -> Batches:
    """Check what can be checked of ``X`` without reading it, and cut it into batches.

    With ``any_length``, the second axis may have another size than in ``fit``. An ``adapter``
    prepares the inputs.

    Raises
    ------
    ValueError
        If there is no sample, or the number of features is not that of ``fit``. Values that
        are not finite are found when their batch is read.
    """
    if reset:
        forget_features(estimator)
    prepared = X if adapter is None else adapter.prepare(X)
    if prepared is not X:
        estimator, reset = stand_in_for(estimator, X, reset=reset), True
        adapter, X = None, prepared
    if (loader := _as_loader(X, batch_size)) is not None:
        prepare = None if adapter is None else adapter.prepare_batch
        load = partial(
            _load, loader, estimator, reset=reset, any_length=any_length, prepare=prepare
        )
        return Batches(load, _expected_samples(loader))
    if isinstance(X, Mapping) and not issparse(X):  # a sparse matrix may be a dict
        data: Batch = {key: _check_values(key, values) for key, values in X.items()}
        lengths = {key: len(values) for key, values in data.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ValueError(
                f"A mapping of inputs needs values of one length, at least 1, got {lengths}."
            )
    elif issparse(X):
        data = X.tocsr()
    elif _is_tensor(X):
        _check_dimensions(estimator, X, "X", reset=reset, any_length=any_length)
        data = X
    else:
        _check_kind(X)
        any_length = any_length and np.ndim(X) > 1
        data = _validate(estimator, X, reset=reset, any_length=any_length)
    return Batches(partial(_slice, data, batch_size, estimator), count_samples(data), data)


def as_arrays(data: Batch, to_numpy: Callable[[Any], NDArray]) -> Any:
    """The same with arrays for tensors."""
    if isinstance(data, Mapping):
        return {key: to_numpy(v) if _is_tensor(v) else v for key, v in data.items()}
    return to_numpy(data) if _is_tensor(data) else data


def _slice(data: Batch, batch_size: int, estimator: Any) -> Iterator[tuple[Batch, None]]:
    for rows in gen_batches(count_samples(data), batch_size):
        batch = take_samples(data, rows)
        batch = batch.toarray() if issparse(batch) else batch
        _check_finite(estimator, batch)
        yield batch, None


def _load(
    loader: Any,
    estimator: Any,
    *,
    reset: bool,
    any_length: bool,
    prepare: Callable[[Any], Any] | None = None,
) -> Iterator[tuple[Batch, NDArray | None]]:
    from ..networks import drawn_apart  # there is a loader, and so torch is imported already

    for item in drawn_apart(loader):
        is_tuple = isinstance(item, tuple | list) and not _is_packed_sequence(item)
        batch = item[0] if is_tuple and item else item
        checked_by, renews = estimator, reset
        if prepare is not None and (prepared := prepare(batch)) is not batch:
            checked_by, renews = stand_in_for(estimator, batch, reset=reset), True
            batch = prepared.toarray() if issparse(prepared) else prepared
        if not (isinstance(batch, Mapping | np.ndarray) or _is_tensor(batch)):
            _check_kind(batch)
            raise TypeError(
                "A data set or loader must yield arrays, tensors or mappings of names to these, "
                f"or a tuple or list whose first item is one; got {type(batch).__name__}."
            )
        if isinstance(batch, Mapping):
            batch = {key: _check_values(key, values) for key, values in batch.items()}
        else:
            what = "what the data set or loader yields"
            of = "the first item of what the data set yields" if is_tuple else what
            _check_dimensions(checked_by, batch, of, reset=renews, any_length=any_length)
        _check_finite(estimator, batch)
        is_pair = is_tuple and len(item) == 2
        yield batch, _labels_of(item[1], count_samples(batch)) if is_pair else None


def _labels_of(targets: Any, n_rows: int) -> NDArray | None:
    """Targets as labels, where they are one number or text a row; otherwise None."""
    if _is_tensor(targets):
        targets = targets.detach().cpu()
        # One kind of half precision is none of NumPy's.
        is_half = targets.is_floating_point() and targets.itemsize < 4
        targets = (targets.float() if is_half else targets).numpy()
    elif isinstance(targets, list | tuple):
        are_text = [isinstance(target, str) for target in targets]
        if not (all(are_text) or all(isinstance(target, Real) for target in targets)):
            return None
        targets = np.asarray(targets)
    is_column = isinstance(targets, np.ndarray) and targets.shape == (n_rows,)
    return targets if is_column and targets.dtype.kind in "biufU" else None


def _check_values(key: str, values: Any) -> Any:
    """An array or tensor of one value a sample, of a mapping.

    Raises
    ------
    TypeError
        If it is an option, or text, or something else that a network's argument cannot be.
    """
    _check_kind(values)
    array = values if _is_tensor(values) else np.asarray(values)
    if array.ndim == 0:
        raise TypeError(
            f"The inputs {key!r} must have a value for each sample, got {values!r}. Where this is "
            "an option of the network, put it into a module that calls the network with it."
        )
    if not _is_tensor(array) and array.dtype.kind not in "biufc":
        raise TypeError(
            f"The inputs {key!r} must be numbers, got {type(values[0]).__name__} such as "
            f"{values[0]!r}: leave this column out, or turn it into numbers."
        )
    return array


def _check_kind(X: Any) -> None:
    """Raise a TypeError for what would be taken for an array that it is not."""
    if _is_packed_sequence(X):
        raise TypeError(
            "A PackedSequence has no row for each sample: yield padded sequences, as "
            "pad_packed_sequence makes them, and pack them in the network; their lengths may be "
            "a second value of a mapping."
        )
    arrays = X if isinstance(X, tuple | list) else ()
    shapes = [tuple(array.shape) for array in arrays if hasattr(array, "shape")]
    if len(shapes) > 1 and (
        len(set(shapes)) > 1 or (isinstance(X, tuple) and min(map(len, shapes)) > 1)
    ):
        raise TypeError(
            f"Got a {type(X).__name__} of arrays of the shapes {shapes}. For a network of several "
            "inputs pass a mapping of the names of its arguments to arrays, such as "
            "{'x': ..., 'mask': ...}; stack samples to one array."
        )
    if not hasattr(X, "shape") and hasattr(X, "__getitem__") and hasattr(X, "__len__"):
        first = X[0] if len(X) and not isinstance(X, str | bytes | Mapping) else None
        if isinstance(first, Mapping):
            raise TypeError(
                f"A {type(X).__name__} of mappings, with the keys {list(first)}, is no mapping "
                "of arrays: pass a DataLoader that reads it, or an array for each key."
            )


def _is_packed_sequence(values: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.nn.utils.rnn.PackedSequence)


def _validate(estimator: Any, X: Any, *, reset: bool, any_length: bool) -> NDArray:
    # The number of features is checked where two dimensions are required.
    return validate_data(
        estimator,
        X,
        reset=reset,
        ensure_2d=not any_length,
        allow_nd=True,
        ensure_all_finite=False,
    )


def _check_dimensions(
    estimator: Any, batch: Any, name: str, *, reset: bool, any_length: bool
) -> None:
    """Validate the shape as ``validate_data`` does, for any kind of array."""
    shape = tuple(batch.shape)
    if len(shape) < 2:
        raise ValueError(
            f"Expected 2D array, got {len(shape)}D array: {name} has shape {shape}; inputs need "
            "at least two dimensions, (n_samples, n_features, ...). Reshape it, or yield the "
            "inputs of the network first."
        )
    stand_in = np.broadcast_to(np.float32(0), shape)
    _validate(estimator, stand_in, reset=reset, any_length=any_length)


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
