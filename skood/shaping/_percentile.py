"""Percentiles that values are compared with, found without sorting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches

_N_SAMPLED = 2**15


def percentile_below(values: NDArray, percentile: float, axis: int | None = None) -> NDArray:
    """The value at a percentile or, where it falls between two values, the lower one.

    What is above this is above the interpolated percentile and the other way round, but one
    partition finds it, without rounding.

    Parameters
    ----------
    values : ndarray
        The values.
    percentile : float in [0, 100]
        The percentile.
    axis : int, default=None
        The axis along which to look; all values together by default.

    Returns
    -------
    ndarray or scalar
        The value, or one for each of the other axis.
    """
    position = _position(values.size if axis is None else values.shape[axis], percentile)
    return np.partition(values, position, axis=axis).take(position, axis=axis)


def percentile_of_all(values: NDArray, percentile: float) -> float:
    """What ``numpy.percentile`` gives for all values together, to the last digit.

    A random sample of them estimates it, so that only the few values near it are sorted.
    """
    flat = values.reshape(-1)
    exact = (flat.size - 1) * (np.float64(percentile) / 100)
    position = int(exact)
    if flat.size > _N_SAMPLED:
        drawn = flat[np.random.default_rng(0).integers(flat.size, size=_N_SAMPLED)]
        n_below, between = _between(values, *_bracket(drawn, percentile))
        place = position - n_below
        if place >= 0 and place + 1 < len(between):
            neighbors = np.partition(between, (place, place + 1))[place : place + 2]
            return float(np.quantile(neighbors, exact - position))
    return float(np.percentile(flat, np.float64(percentile)))


def _between(values: NDArray, low: float, high: float) -> tuple[int, NDArray]:
    """How many values are below a range, and those in it."""
    n_below, near = 0, []
    for rows in row_batches(len(values), values[0].size):
        block = values[rows]
        is_near = block >= low
        n_below += block.size - int(np.count_nonzero(is_near))
        is_near &= block <= high
        near.append(block[is_near])
    return n_below, np.concatenate(near)


def percentiles_of_products(weight: NDArray, scales: NDArray, percentile: float) -> NDArray:
    """``percentile_below(scale * weight, percentile)`` for each of many scales.

    A random sample of the products estimates the percentile, so that only the few products near it
    are sorted. The result is exact for any sample.

    Parameters
    ----------
    weight : ndarray of shape (n_classes, n_units)
        Weights.
    scales : ndarray of shape (n_scales, n_units)
        What the columns of the weights are multiplied by.
    percentile : float in [0, 100]
        The percentile.

    Returns
    -------
    ndarray of shape (n_scales,)
        The percentile for each scale.
    """
    if weight.size <= _N_SAMPLED:
        return np.array([percentile_below(scale * weight, percentile) for scale in scales])
    drawn = np.random.default_rng(0).integers(weight.size, size=_N_SAMPLED)
    sampled, units = weight.ravel()[drawn], drawn % weight.shape[1]
    position = _position(weight.size, percentile)
    return np.array(
        [
            _value_at(position, weight, scale, _bracket(scale[units] * sampled, percentile))
            for scale in scales
        ]
    )


def _position(n_values: int, percentile: float) -> int:
    return int((n_values - 1) * percentile / 100)


def _bracket(sample: NDArray, percentile: float) -> tuple[float, float]:
    """Two values between which the percentile of the population lies, with high probability."""
    share = percentile / 100
    margin = 1 + 5 * np.sqrt(len(sample) * share * (1 - share))
    first, last = int(len(sample) * share - margin), int(len(sample) * share + margin)
    ordered = np.sort(sample)
    low = ordered[first] if first >= 0 else -np.inf
    high = ordered[last] if last < len(sample) else np.inf
    return low, high


def _value_at(
    position: int, weight: NDArray, scale: NDArray, bracket: tuple[float, float]
) -> np.floating:
    """The product at a position in ascending order, quickly if it is within the bracket."""
    low, high = bracket
    n_below, near = 0, []
    for rows in row_batches(*weight.shape):
        products = scale * weight[rows]
        is_near = products >= low
        n_below += products.size - np.count_nonzero(is_near)
        is_near &= products <= high
        near.append(products[is_near])
    between = np.concatenate(near)
    if 0 <= position - n_below < len(between):
        return np.partition(between, position - n_below)[position - n_below]
    return np.partition((scale * weight).ravel(), position)[position]
