"""Outliers made from training samples, for outlier exposure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.utils import check_array

OutlierKind = str | Callable[[NDArray, NDArray, RandomState], NDArray]

# Far enough from one half to vary, near enough for neither class to dominate.
_MIXING_WEIGHTS = (0.4, 0.6)


def make_outliers(
    kinds: Sequence[OutlierKind], X: NDArray, y: NDArray, n_outliers: int, rng: RandomState
) -> NDArray:
    """Make outliers from training samples.

    Parameters
    ----------
    kinds : sequence of str or callable
        Names of ``OUTLIER_KINDS``, among which the number is divided evenly, and functions
        ``f(X, y, random_state)``, which return any number.
    X : ndarray of shape (n_samples, ...)
        Training samples.
    y : ndarray of shape (n_samples,)
        Their class labels.
    n_outliers : int
        Number to divide.
    rng : RandomState
        Draws the outliers.

    Returns
    -------
    outliers : ndarray of shape (`n_made`, ...)
        With the dtype of ``X``, kind after kind.

    Raises
    ------
    ValueError
        If a kind cannot be made from such samples, or a function returns samples of another shape.
    """
    made = []
    for number, kind in enumerate(kinds):
        if callable(kind):
            made.append(_call(kind, X, y, rng))
        else:
            share = (n_outliers + number) // len(kinds)
            made.append(OUTLIER_KINDS[kind](X, y, share, rng))
    return np.concatenate(made)


def _call(function: Callable, X: NDArray, y: NDArray, rng: RandomState) -> NDArray:
    outliers: NDArray = check_array(
        function(X, y, rng), dtype=X.dtype, allow_nd=True, input_name="what outliers returned"
    )
    if outliers.shape[1:] != X.shape[1:]:
        raise ValueError(
            f"The function for outliers must return samples of shape {X.shape[1:]}, as X has "
            f"them, got {outliers.shape[1:]}."
        )
    return outliers


def _noise(X: NDArray, y: NDArray, n_outliers: int, rng: RandomState) -> NDArray:
    """Every feature uniform between its smallest and largest training value."""
    shape = (n_outliers, *X.shape[1:])
    return rng.uniform(X.min(axis=0), X.max(axis=0), size=shape).astype(X.dtype)


def _mixed(X: NDArray, y: NDArray, n_outliers: int, rng: RandomState) -> NDArray:
    """Points near the middle between two samples of different classes."""
    first = rng.randint(len(X), size=n_outliers)
    second = _partners(y, first, rng)
    each_sample = (n_outliers,) + (1,) * (X.ndim - 1)
    weight = rng.uniform(*_MIXING_WEIGHTS, size=each_sample).astype(X.dtype)
    return weight * X[first] + (1 - weight) * X[second]


def _partners(y: NDArray, rows: NDArray[np.intp], rng: RandomState) -> NDArray[np.intp]:
    """For each of the given rows, a random row of another class."""
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            "outliers='mixed' mixes training samples of different classes, but found one class: "
            f"{classes.tolist()[0]!r}."
        )
    codes = np.searchsorted(classes, y[rows])
    # In the order of classes, and round from the end to the beginning, the rows of all other
    # classes follow those of a class.
    n_others = len(y) - counts[codes]
    places = counts.cumsum()[codes] + (rng.uniform(size=len(rows)) * n_others).astype(np.intp)
    return np.argsort(y, kind="stable")[places % len(y)]


def _rotated(X: NDArray, y: NDArray, n_outliers: int, rng: RandomState) -> NDArray:
    """Images turned by a quarter, to the left or to the right."""
    if X.ndim < 3 or X.shape[-1] != X.shape[-2]:
        raise ValueError(
            "outliers='rotated' turns square images: X must have the shape (n_samples, n, n) or "
            f"(n_samples, channels, n, n), got {X.shape}."
        )
    images = X[rng.randint(len(X), size=n_outliers)]
    n_left = rng.binomial(n_outliers, 0.5)
    left = np.rot90(images[:n_left], 1, axes=(-2, -1))
    right = np.rot90(images[n_left:], 3, axes=(-2, -1))
    return np.concatenate([left, right])


OUTLIER_KINDS: dict[str, Callable[[NDArray, NDArray, int, RandomState], NDArray]] = {
    "mixed": _mixed,
    "noise": _noise,
    "rotated": _rotated,
}
