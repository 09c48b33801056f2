"""Percentiles that values are compared with, found without sorting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def interpolated_percentile(values: NDArray, percentile: float) -> np.float64:
    """What ``np.percentile`` gives for all values together, bit for bit and several times faster.

    A random sample estimates the percentile, so that only the few values near it are ordered.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_units)
        Finite floating-point numbers.
    percentile : float in [0, 100]
        The percentile.

    Returns
    -------
    float
        The percentile, interpolated between two values where it falls between them.
    """
    share = np.float64(percentile) / 100
    place = (values.size - 1) * share
    first = int(place)
    found = None
    if values.size > _N_SAMPLED and first + 1 < values.size:
        sample = values.flat[np.random.default_rng(0).integers(values.size, size=_N_SAMPLED)]
        batches = (values[rows] for rows in row_batches(*values.shape))
        found = _values_at([first, first + 1], batches, _bracket(sample, percentile))
    if found is None:
        return np.float64(np.percentile(values, np.float64(percentile)))
    below, above = found
    beyond, between = place - first, above - below
    # The two forms of NumPy, of which each is exact at its end.
    return below + between * beyond if beyond < 0.5 else above - between * (1 - beyond)


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
    found: list[np.floating] = []
    for scale in scales:
        products = (scale * weight[rows] for rows in row_batches(*weight.shape))
        values = _values_at([position], products, _bracket(scale[units] * sampled, percentile))
        if values is None:
            values = np.partition((scale * weight).ravel(), position)[[position]]
        found.extend(values)
    return np.array(found)


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


def _values_at(
    positions: Sequence[int], batches: Iterable[NDArray], bracket: tuple[float, float]
) -> NDArray | None:
    """The values at positions in ascending order of all, or None if they are not in the bracket."""
    low, high = bracket
    n_below, near = 0, []
    for values in batches:
        is_near = values >= low
        n_below += values.size - int(np.count_nonzero(is_near))
        is_near &= values <= high
        near.append(values[is_near])
    between = np.concatenate(near)
    places = np.asarray(positions) - n_below
    if places.min() < 0 or places.max() >= len(between):
        return None
    return np.partition(between, places)[places]
