"""Pooling of feature maps and tokens, by the library that an array comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import product
from math import prod
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._values import all_finite

POOLINGS = ("max", "avg", "sum", "flatten", "first", "last")
ENDS = ("first", "last")
"""Poolings to one position of one axis."""
_METHODS_OF_TENSORS = {"max": "amax", "avg": "mean"}


def pool(array: Any, pooling: str, output_size: int = 1, mask: NDArray | None = None) -> Any:
    """Pool an array or tensor of shape (n_samples, n_units, ...) to a matrix.

    Each axis of space is cut into ``output_size`` parts; what has no such axis is returned
    unchanged.

    Parameters
    ----------
    array : array or tensor of shape (n_samples, n_units, ...)
        The maps. "first" and "last" need a single axis of space.
    pooling : str
        One of ``POOLINGS``.
    output_size : int, default=1
        Number of parts.
    mask : ndarray of shape (n_samples, n_tokens), default=None
        Where (n_samples, n_units, n_tokens) has tokens, at least one in each row, and not padding,
        which is left out of all but "flatten".
    """
    if array.ndim == 2:
        return array
    if pooling == "flatten":
        return _joined(array, 1)
    if pooling in ENDS:
        return _take_end(_joined(array, 2), pooling, mask)
    if output_size == 1:
        return _reduce_maps(array, pooling, mask)
    flat = _joined(array, 2)
    if mask is None:
        cells = [
            _reduce(_joined(array[(..., *cell)], 2), pooling)
            for cell in product(*(_cuts(size, output_size) for size in array.shape[2:]))
        ]
    else:
        cells = [_reduce(flat, pooling, cell) for cell in _cut_tokens(mask, output_size)]
    return _joined(_library(array).stack(cells, axis=2), 1)


def pooler(pooling: str | None, output_size: int, n_axes: int) -> Callable[[Any], Any]:
    """What pools arrays or tensors as ``pool`` does, without a mask, to memory of their own.

    Parameters
    ----------
    pooling : str or None
        One of ``POOLINGS``, for those that have an axis of space; None for others.
    output_size : int
        Number of parts.
    n_axes : int
        Number of axes of what is pooled.
    """
    if pooling is None:
        return _copied
    if pooling == "flatten":
        return lambda array: _copied(_joined(array, 1))
    if pooling in ENDS or output_size > 1:
        return partial(pool, pooling=pooling, output_size=output_size)
    if pooling == "sum":
        return partial(_reduce_maps, pooling=pooling)
    # Of one sample, to choose the function takes longer than what it computes.
    of_tensor = methodcaller(_METHODS_OF_TENSORS[pooling], tuple(range(2, n_axes)))
    return lambda a: _reduce_maps(a, pooling) if isinstance(a, np.ndarray) else of_tensor(a)


def _copied(array: Any) -> Any:
    return array.copy() if isinstance(array, np.ndarray) else array.clone()


def _joined(array: Any, n_kept: int) -> Any:
    """The array with all axes but the first ones in one, also where there are no samples."""
    kept, joined = array.shape[:n_kept], array.shape[n_kept:]
    return array.reshape(*kept, prod(joined))


def pool_units(array: Any, pooling: str) -> Any:
    """Pool (n_samples, n_units, ...) over the units, to one value for each position."""
    return _reduce(_joined(array, 2).swapaxes(1, 2), pooling)


def fitting_mask(mask: NDArray | None, array: Any) -> NDArray | None:
    """The mask where there is padding, and (n_samples, n_units, ...) has as many tokens as it."""
    if mask is None or array.ndim != 3 or array.shape[2] != mask.shape[1] or mask.all():
        return None
    return mask


def _library(array: Any) -> Any:
    """The library whose functions take an array: that of its type, or of one it derives from."""
    kind: Any = type(array)
    return _library_of(kind)


@lru_cache(maxsize=32)
def _library_of(type_: type) -> Any:
    for kind in type_.__mro__:
        library = sys.modules[kind.__module__.partition(".")[0]]
        if hasattr(library, "amax"):
            return library
    raise TypeError(f"Only arrays and tensors can be pooled, got {type_.__name__}.")


def _reduce_maps(array: Any, pooling: str, mask: NDArray | None = None) -> Any:
    """Pool (n_samples, n_units, ...) over all axes of space."""
    if mask is not None or isinstance(array, np.ndarray):
        return _reduce(_joined(array, 2), pooling, mask)
    return _reduce(array, pooling, axis=tuple(range(2, array.ndim)))


def _reduce(
    array: Any, pooling: str, mask: NDArray | None = None, axis: int | tuple[int, ...] = 2
) -> Any:
    library = _library(array)
    if mask is not None:
        return _reduce_tokens(array, pooling, mask)
    if pooling == "max":
        return library.amax(array, axis=axis)
    if pooling == "sum":
        return library.sum(array, axis=axis, dtype=_dtype_of_sum(array))
    mean = library.mean(array, axis=axis)
    if isinstance(array, np.ndarray) and not all_finite(mean):
        return (array / array.shape[2]).sum(2)
    return mean


def _reduce_tokens(flat: Any, pooling: str, mask: NDArray) -> Any:
    """As `_reduce`, of the tokens that the mask marks."""
    library = _library(flat)
    inside = library.asarray(mask[:, np.newaxis], device=flat.device)
    if pooling == "max":
        # A token in place of the padding, since no number is below all of every type.
        first = _take_end(flat, "first", mask)[:, :, np.newaxis]
        return library.amax(library.where(inside, flat, first), axis=2)
    kept = library.where(inside, flat, 0)
    if pooling == "avg":
        # The quotients, since the sum may overflow; in the type that quotients have.
        n_tokens, dtype = mask.sum(axis=1)[:, np.newaxis, np.newaxis], (flat[:1] / 1).dtype
        kept = kept / library.asarray(n_tokens, dtype=dtype, device=flat.device)
    return library.sum(kept, axis=2, dtype=_dtype_of_sum(flat))


def _dtype_of_sum(flat: Any) -> Any:
    """Single precision for half precision, since sums soon leave its range; None for others."""
    library = _library(flat)
    is_half = flat.dtype in (library.float16, getattr(library, "bfloat16", library.float16))
    return library.float32 if is_half else None


def _take_end(flat: Any, pooling: str, mask: NDArray | None) -> Any:
    """A copy of the first or last token of each row, that is no padding."""
    if mask is None:
        end = flat[:, :, 0 if pooling == "first" else -1]
        return end.copy() if isinstance(end, np.ndarray) else end.clone()
    if pooling == "first":
        places = mask.argmax(axis=1)
    else:
        places = flat.shape[2] - 1 - mask[:, ::-1].argmax(axis=1)
    return flat[np.arange(len(flat)), :, places]


def _cuts(size: int, n_cells: int) -> list[slice]:
    """Slices that cut an axis into cells, the last position of a cell rounded up."""
    return [slice(i * size // n_cells, -(-(i + 1) * size // n_cells)) for i in range(n_cells)]


def _cut_tokens(mask: NDArray, n_cells: int) -> Iterator[NDArray]:
    """Masks of the cells that `_cuts` would make of each row without its padding."""
    sizes, numbers = mask.sum(axis=1, keepdims=True), mask.cumsum(axis=1) - 1
    for i in range(n_cells):
        start, stop = i * sizes // n_cells, -(-(i + 1) * sizes // n_cells)
        yield mask & (numbers >= start) & (numbers < stop)
