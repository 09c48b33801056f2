"""The rules by which NAP chooses thresholds and settings, as functions of distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def choose_threshold(inside: NDArray, outside: NDArray) -> tuple[int, float]:
    """Find the threshold that separates two sets of Hamming distances best.

    Parameters
    ----------
    inside, outside : ndarray of shape (n_inside,) and (n_outside,)
        Distances of in- and out-of-distribution validation samples.

    Returns
    -------
    tau : int
        A distance above it means out-of-distribution. The smallest of those with
        the most correct decisions, but at most the 95th percentile of ``inside``.
    accuracy : float
        Share of correct decisions among all samples at ``tau``.
    """
    first = max(inside.min(), outside.min()) - 1
    candidates = np.arange(first, max(inside.max(), outside.max()) + 1)
    n_right = _n_right(inside, outside, candidates)
    tau = min(candidates[n_right.argmax()], int(np.percentile(inside, 95)))
    accuracy = _n_right(inside, outside, tau) / (len(inside) + len(outside))
    return int(tau), float(accuracy)


def _n_right(inside: NDArray, outside: NDArray, tau: int | NDArray) -> NDArray:
    accepted_inside = np.searchsorted(np.sort(inside), tau, side="right")
    accepted_outside = np.searchsorted(np.sort(outside), tau, side="right")
    return accepted_inside + len(outside) - accepted_outside


def percentile_weight(percentiles: NDArray) -> NDArray:
    """Weight of a percentile: the rarer the ones, or the zeros, of a pattern, the larger."""
    share = np.asarray(percentiles) / 100.0
    return np.sqrt(1.0 / np.abs(share - np.rint(share)))


def choose_percentile(taus: NDArray, accuracies: NDArray, weights: NDArray) -> int:
    """Choose among the percentiles of one layer and pooling.

    Parameters
    ----------
    taus, accuracies, weights : ndarray of shape (n_percentiles,)
        Threshold, validation accuracy and weight of each percentile.

    Returns
    -------
    index : int
        The percentile with the best accuracy, traded against a small threshold.
    """
    spread = (taus + weights) * weights
    largest = spread.max()
    return int(np.argmax((accuracies - 0.5) * (0.1 + np.abs(spread - largest) / largest)))


def choose_pooling(taus: Sequence[float], accuracies: Sequence[float], criterion: str) -> int:
    """Index of the pooling with the best accuracy, or the smallest threshold; the last on ties."""
    merit = np.asarray(accuracies) if criterion == "accuracy" else -np.asarray(taus)
    return len(merit) - 1 - int(np.argmax(merit[::-1]))


def choose_layers(accuracies: NDArray, n_layers: int) -> NDArray[np.intp]:
    """Indices of the layers with the best accuracy, ascending; earlier layers first on ties."""
    return np.sort(np.argsort(-accuracies, kind="stable")[:n_layers])
