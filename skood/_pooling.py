"""Pooling of feature maps, of NumPy and of torch."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ._values import all_finite

POOLINGS = ("max", "avg", "sum", "flatten")


def pool(array: Any, pooling: str, output_size: int = 1) -> Any:
    """Pool an array or tensor of shape (n_samples, n_units, ...) to a matrix.

    Each axis of space is cut into ``output_size`` parts; what has no such axis is returned
    unchanged.
    """
    if array.ndim == 2:
        return array
    flat = array.reshape(*array.shape[:2], -1)
    if pooling == "flatten":
        return flat.reshape(len(array), -1)
    if output_size == 1:
        return _reduce(flat, pooling)
    cells = [
        _reduce(array[(..., *cell)].reshape(*array.shape[:2], -1), pooling)
        for cell in product(*(_cuts(size, output_size) for size in array.shape[2:]))
    ]
    if isinstance(array, np.ndarray):
        return np.stack(cells, axis=2).reshape(len(array), -1)
    import torch

    return torch.stack(cells, dim=2).reshape(len(array), -1)


def _reduce(flat: Any, pooling: str) -> Any:
    if pooling == "max":
        return flat.max(2) if isinstance(flat, np.ndarray) else flat.amax(2)
    if pooling == "sum":
        return _in_single_precision(flat).sum(2)
    mean = flat.mean(2)
    if isinstance(flat, np.ndarray) and not all_finite(mean):
        return (flat / flat.shape[2]).sum(2)
    return mean


def _in_single_precision(flat: Any) -> Any:
    """Half precision as single precision, since sums soon leave its range; others unchanged."""
    if isinstance(flat, np.ndarray):
        return flat.astype(np.float32) if flat.dtype == np.float16 else flat
    return flat.float() if flat.is_floating_point() and flat.itemsize == 2 else flat


def _cuts(size: int, n_cells: int) -> list[slice]:
    """Slices that cut an axis into cells, the last position of a cell rounded up."""
    return [slice(i * size // n_cells, -(-(i + 1) * size // n_cells)) for i in range(n_cells)]
