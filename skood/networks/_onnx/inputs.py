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


def halve_sequences(arrays: Mapping[str, NDArray], inputs: list[Input]) -> dict[str, NDArray]:
    """The first half of the inputs that are sequences of any length, the surest one first.

    Those are matrices of integers and arrays of vectors, and matrices of as many numbers, such as
    masks. Empty where there are none, or they differ in length.
    """
    free = [i.name for i in inputs if i.shape is None or (len(i.shape) > 1 and i.shape[1] is None)]
    sure = [name for name in free if arrays[name].ndim == (2 if _is_whole(arrays[name]) else 3)]
    lengths = {arrays[name].shape[1] for name in sure}
    if len(lengths) != 1 or (length := lengths.pop()) < 2:
        return {}
    others = [n for n in free if n not in sure and arrays[n].shape[1:] == (length,)]
    return {name: arrays[name][:, : length // 2] for name in [*sure, *others]}


def _is_whole(array: NDArray) -> bool:
    return array.dtype.kind in "iu"


def _fit(values: Any, declared: Input) -> NDArray:
    array = as_array(values)
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


def as_array(values: Any) -> NDArray:
    """An array of an array, a tensor or a sparse matrix."""
    if hasattr(values, "detach"):
        return np.from_dlpack(values.detach().cpu().resolve_conj().resolve_neg())
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
