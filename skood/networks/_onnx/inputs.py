"""What a model declares of its inputs, and arrays that fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from .._base import Batch
from .graph import Input

_ORDERS = {(0, 3, 1, 2): ("NHWC", "NCHW"), (0, 2, 3, 1): ("NCHW", "NHWC")}
"""What a permutation of the axes of images makes of which order."""


def fixed_batch_size(inputs: list[Input]) -> int | None:
    """Number of samples that a model takes at a time, None where it takes any.

    Raises
    ------
    ValueError
        If its inputs take different numbers.
    """
    sizes = {i.name: i.shape[0] for i in inputs if i.shape and i.shape[0] is not None}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"The inputs of the ONNX model have first axes of the sizes {sizes}, where each should "
            "have one row for each sample."
        )
    return next(iter(sizes.values()), None)


def to_arrays(batch: Batch, inputs: list[Input]) -> dict[str, NDArray]:
    """Arrays of the declared kinds and shapes, by the names of the inputs.

    Raises
    ------
    ValueError
        If inputs are missing, unknown, or of another shape, or a cast would change values.
    """
    names = [declared.name for declared in inputs]
    if not isinstance(batch, Mapping):
        if len(names) != 1:
            raise ValueError(
                f"The ONNX model has {len(names)} inputs, {names}: pass a mapping of these names "
                "to arrays."
            )
        batch = {names[0]: batch}
    if set(batch) != set(names):
        raise ValueError(f"The ONNX model has the inputs {names}, but got {list(batch)}.")
    return {declared.name: _fit(batch[declared.name], declared) for declared in inputs}


def _fit(values: Any, declared: Input) -> NDArray:
    array = values.numpy(force=True) if hasattr(values, "detach") else _as_dense(values)
    _check_shape(array.shape, declared)
    if array.dtype == declared.dtype or declared.dtype.hasobject:
        return np.ascontiguousarray(array)
    cast = np.ascontiguousarray(array, dtype=declared.dtype)
    # Rounding to fewer digits is as usual; to other numbers it is not.
    if declared.dtype.kind in "iub" and not np.array_equal(cast.astype(array.dtype), array):
        raise ValueError(
            f"The input {declared.name!r} of the ONNX model is to hold {declared.dtype}, but some "
            f"values of dtype {array.dtype} are none."
        )
    return cast


def _as_dense(values: Any) -> NDArray:
    """An array, also of a sparse matrix."""
    return values.toarray() if issparse(values) else np.asarray(values)


def _check_shape(shape: tuple[int, ...], declared: Input) -> None:
    if declared.shape is None or _fits(shape[1:], declared.shape[1:]):
        return
    expected = ", ".join("any" if n is None else str(n) for n in declared.shape[1:])
    raise ValueError(
        f"The input {declared.name!r} of the ONNX model expects the shape (n_samples, {expected}), "
        f"but got {shape}.{_advice(shape, declared.shape[1:])}"
    )


def _advice(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> str:
    if _fits(shape, expected):
        return " Is this one sample without the axis of the samples? Pass x[None]."
    for axes, (given, wanted) in _ORDERS.items():
        if len(shape) == 4 and _fits([shape[axis] for axis in axes][1:], expected):
            return f" The images seem to be {given}, not {wanted}: pass X.transpose{axes}."
    return ""


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(
        size is None or size == given for given, size in zip(shape, expected, strict=True)
    )
