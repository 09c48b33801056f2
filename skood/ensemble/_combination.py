"""Ways to make one score of the scores of several detectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .._values import Floats
from ._calibrations import EQUAL, scaled_std

EDGE = 0.01
"""p-value below which a layer is heard whatever it knows of the classes."""


def mean_of_members(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean over the last axis, which is added up in its order whatever lies where in memory.

    So equal samples have equal means, alone and among others, which ranks depend on.
    """
    total = scores[..., 0].copy()
    for member in range(1, scores.shape[-1]):
        total += scores[..., member]
    return np.asarray(total / scores.shape[-1])


def informed_sum(log_p: Floats, knowledge: Floats) -> Floats:
    """Weighted mean of log p-values of layers, each by what it knows, and in the tail in full.

    A layer that does not tell the classes apart says nothing about samples that look ordinary to
    it; those that are far from everything in training, it sees as well as any.

    Parameters
    ----------
    log_p : ndarray of shape (n_samples, n_layers)
        Log p-values.
    knowledge : ndarray of shape (n_layers,)
        How well each layer tells the predicted classes apart, from 0 to 1.

    Returns
    -------
    scores : ndarray of shape (n_samples,)
        The sum of ``knowledge * log_p`` and of ``1 - knowledge`` times how far log p-values are
        below log 0.01, divided by the sum of ``knowledge``.
    """
    plain, beyond = informed_weights(knowledge)
    return informed_sums(log_p, plain, beyond, [0])[:, 0]


def informed_sums(log_p: Floats, plain: Floats, beyond: Floats, starts: Sequence[int]) -> Floats:
    """The same of several ensembles, by weights of all layers and where those of each begin.

    Each row is added up by itself: a product of matrices has other last bits for other numbers of
    rows, so that equal samples would not be equal.
    """
    weighed = plain * log_p + beyond * np.minimum(log_p - np.log(EDGE), 0)
    return np.asarray(np.add.reduceat(np.ascontiguousarray(weighed), starts, axis=1))


def informed_weights(knowledge: Floats) -> tuple[Floats, Floats]:
    """What log p-values, and how far these are below the edge, are multiplied by."""
    if not knowledge.any():
        knowledge = np.ones_like(knowledge)
    return knowledge / knowledge.sum(), (1 - knowledge) / knowledge.sum()


def informative_members(
    calibration: NDArray, groups: NDArray, errors: NDArray
) -> NDArray[np.bool_]:
    """Which members separate samples of a group.

    Parameters
    ----------
    calibration : ndarray of shape (n_calibration, n_members)
        Scores of in-distribution samples that were not learnt from.
    groups : ndarray of shape (n_calibration,)
        Predicted class of each sample: a score that follows from the class alone
        does not separate samples.
    errors : ndarray of shape (n_members,)
        Standard error of the scores of each member, where that is known, or 0.

    Returns
    -------
    informative : ndarray of shape (n_members,)
        False where scores differ within the groups by no more than rounding or chance.
    """
    _, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes)
    means = np.column_stack([np.bincount(codes, column) / sizes for column in calibration.T])
    within = scaled_std(calibration - means[codes])
    rounding = EQUAL * np.abs(calibration).max(axis=0)
    return within > np.maximum(rounding, 2 * errors)
