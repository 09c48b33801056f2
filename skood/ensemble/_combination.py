"""Ways to make one score of the scores of several detectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-6  # scores may have been computed in float32
_LINEAR_RANGE = 10.0


def log_p_values(scores: NDArray, calibration: NDArray) -> NDArray[np.floating]:
    """Logarithm of the conformal p-value of each score.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores, higher for in-distribution samples.
    calibration : ndarray of shape (n_calibration,)
        Scores of in-distribution samples that were not learnt from.

    Returns
    -------
    log_p : ndarray of shape (n_samples,)
        ``log((1 + #{calibration <= score}) / (1 + n_calibration))``.
    """
    n_not_above = np.searchsorted(np.sort(calibration), scores, side="right")
    return np.log1p(n_not_above) - np.log1p(len(calibration))


def informative_members(calibration: NDArray, groups: NDArray) -> NDArray[np.bool_]:
    """Which members give different scores to different samples of a group.

    Parameters
    ----------
    calibration : ndarray of shape (n_calibration, n_members)
        Scores of in-distribution samples that were not learnt from.
    groups : ndarray of shape (n_calibration,)
        Predicted class of each sample: a score that follows from the class alone
        does not tell samples apart.

    Returns
    -------
    informative : ndarray of shape (n_members,)
        False where the scores of a member are the same in each group, but for rounding.
    """
    within = np.zeros(calibration.shape[1])
    for group in np.unique(groups):
        within = np.maximum(within, np.ptp(calibration[groups == group], axis=0))
    return within > _ROUNDING * np.abs(calibration).max(axis=0)


def without_rounding(scores: NDArray, calibration: NDArray) -> tuple[NDArray, NDArray]:
    """Scores and calibration scores, of which those that a member cannot tell apart are equal.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_members)
        Scores.
    calibration : ndarray of shape (n_calibration, n_members)
        Scores of in-distribution samples that were not learnt from.

    Returns
    -------
    scores, calibration : ndarray
        The same, but for members whose calibration scores differ by rounding only: what is as near
        to their mean is the mean there.
    """
    mean, rounding = calibration.mean(axis=0), _ROUNDING * np.abs(calibration).max(axis=0)
    is_constant = np.ptp(calibration, axis=0) <= rounding
    if not is_constant.any():
        return scores, calibration
    near = is_constant & (np.abs(scores - mean) <= rounding)
    return np.where(near, mean, scores), np.where(is_constant, mean, calibration)


def standardize(scores: NDArray, calibration: NDArray) -> NDArray[np.floating]:
    """Scores in standard deviations of the calibration scores above their mean, within bounds.

    One member shall not decide a mean of many: more than ten standard deviations above the mean
    are ten, and of more than ten below it only the logarithm of the excess counts, which keeps the
    order of far samples.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_members)
        Scores.
    calibration : ndarray of shape (n_calibration, n_members)
        Their scores of in-distribution samples that were not learnt from.

    Returns
    -------
    standardized : ndarray of shape (n_samples, n_members)
        Standardised scores.
    """
    mean, spread = calibration.mean(axis=0), calibration.std(axis=0)
    deviations = (scores - mean) / np.where(np.ptp(calibration, axis=0) > 0, spread, 1.0)
    excess = np.maximum(-deviations - _LINEAR_RANGE, 0.0)
    return np.clip(deviations, -_LINEAR_RANGE, _LINEAR_RANGE) - np.log1p(excess)
