"""Ways to make one score of the scores of several detectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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


def standardize(scores: NDArray, calibration: NDArray) -> NDArray[np.floating]:
    """Scores in standard deviations of the calibration scores above their mean."""
    spread = calibration.std(axis=0)
    return (scores - calibration.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
