"""Ways to make one score of the scores of several detectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-6  # scores may have been computed in float32
_LOWEST, _HIGHEST = -30.0, 10.0


def p_values(scores: NDArray, calibration: NDArray, *, left_out: bool = False) -> NDArray:
    """Conformal p-value of each score.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_members)
        Scores, higher for in-distribution samples.
    calibration : ndarray of shape (n_calibration, n_members)
        Scores of in-distribution samples that were not learnt from.
    left_out : bool, default=False
        Whether the scores are calibration scores themselves, and each is compared with the others.

    Returns
    -------
    p : ndarray of shape (n_samples, n_members)
        ``(1 + #{calibration <= score}) / (1 + n_calibration)``, or for scores left out
        ``#{calibration <= score} / n_calibration``, which counts the score itself.
    """
    ascending = np.sort(calibration, axis=0)
    n_not_above = np.column_stack(
        [np.searchsorted(a, s, side="right") for a, s in zip(ascending.T, scores.T, strict=True)]
    )
    return (n_not_above + (not left_out)) / (len(calibration) + (not left_out))


def informative_members(
    calibration: NDArray, groups: NDArray, errors: NDArray
) -> NDArray[np.bool_]:
    """Which members tell samples of a group apart.

    Parameters
    ----------
    calibration : ndarray of shape (n_calibration, n_members)
        Scores of in-distribution samples that were not learnt from.
    groups : ndarray of shape (n_calibration,)
        Predicted class of each sample: a score that follows from the class alone
        does not tell samples apart.
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
    within = _scaled_std(calibration - means[codes])
    rounding = _ROUNDING * np.abs(calibration).max(axis=0)
    return within > np.maximum(rounding, 2 * errors)


def _scaled_std(values: NDArray) -> NDArray[np.floating]:
    """Standard deviation of each column, of values whose squares may leave the range of floats."""
    largest = np.abs(values).max(axis=0)
    scale = np.where(largest > 0, largest, 1.0)
    return scale * (values / scale).std(axis=0)


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
    are ten, and of more than thirty below it only the logarithm of the excess counts, which keeps
    the order of far samples.

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
    mean, spread = calibration.mean(axis=0), _scaled_std(calibration)
    deviations = (scores - mean) / np.where(np.ptp(calibration, axis=0) > 0, spread, 1.0)
    excess = np.maximum(_LOWEST - deviations, 0.0)
    return np.clip(deviations, _LOWEST, _HIGHEST) - np.log1p(excess)
