"""Confidence of predictions, and categories of it."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.utils import check_array

from .._sklearn import Interval, validate_params
from .._values import on_logits
from ..activations import Activations

# How far sums of probabilities are off in single and in half precision. Those in double precision
# were most often computed in single.
_ROUNDING = 1e-6
_COARSE_ROUNDING = 4e-3


def prediction_confidence(X: Activations | ArrayLike) -> NDArray[np.float64]:
    """Largest softmax probability of each sample: the confidence of the prediction.

    Computed in double precision, for logits of any precision.

    Parameters
    ----------
    X : Activations or array-like of shape (n_samples, n_classes)
        Activations, of which the logits alone are read, or the logits.

    Returns
    -------
    confidence : ndarray of shape (n_samples,), dtype float64
        Between 1 / n_classes and 1.

    Raises
    ------
    ValueError
        If ``X`` carries no logits, there are fewer than two classes or no samples, or a logit is
        not finite.

    See Also
    --------
    skood.detectors.MaxSoftmaxDetector : The same ranking as log-odds, without ties at 1.
    TemperatureScaler : Makes confidences agree with accuracies.

    Examples
    --------
    >>> from skood.calibration import prediction_confidence
    >>> prediction_confidence([[0.0, 2.0], [1.0, 1.0]]).round(2)
    array([0.88, 0.5 ])
    """
    logits: NDArray[np.float64] = check_array(
        logits_of(X, "prediction_confidence"),
        dtype=np.float64,
        ensure_min_features=2,
        estimator="prediction_confidence",
        input_name="logits",
    )
    confidence: NDArray[np.float64] = softmax(logits, axis=1).max(axis=1)
    return confidence


@validate_params(
    {"n_categories": [Interval(Integral, 1, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def confidence_categories(confidence: ArrayLike, *, n_categories: int = 10) -> NDArray[np.intp]:
    """Category of each confidence: number of its bin among bins of equal width.

    The edges of the bins are ``numpy.linspace(0, 1, n_categories + 1)``. A bin holds its upper
    edge and not its lower one; the first holds 0 as well.

    Parameters
    ----------
    confidence : array-like of shape (n_samples,)
        Confidences between 0 and 1. A value that exceeds a bound by rounding, by at most 1e-6 (4e-3
        in half precision), counts as the bound.
    n_categories : int, default=10
        Number of categories. With 10, each is 10 % wide.

    Returns
    -------
    categories : ndarray of shape (n_samples,), dtype int
        Numbers from 0, the least confident, to ``n_categories - 1``.

    Raises
    ------
    ValueError
        If ``confidence`` is not 1-D, is empty, or holds NaN or a value outside 0 to 1.

    See Also
    --------
    calibration_bins : How often the samples of each category are classified correctly.

    Examples
    --------
    >>> from skood.calibration import confidence_categories
    >>> confidence_categories([0.05, 0.1, 0.11, 0.9, 0.97, 1.0])
    array([0, 0, 1, 8, 9, 9])
    """
    inner_edges = bin_edges(n_categories)[1:-1]
    return np.searchsorted(inner_edges, check_confidence(confidence))


def bin_edges(n_bins: int) -> NDArray[np.float64]:
    """Edges of bins of equal width from 0 to 1."""
    return np.linspace(0, 1, n_bins + 1)


def logits_of(X: Any, wanted_by: str) -> Any:
    """The logits of Activations; anything else is taken as logits.

    Raises
    ------
    ValueError
        If Activations carry none. The message begins with ``wanted_by``.
    """
    if not isinstance(X, Activations):
        return X
    if X.logits is None:
        raise ValueError(
            f"{wanted_by} needs logits, but {X!r} carries none: "
            f"{on_logits(X.why_missing.get('logits'))}."
        )
    return X.logits


def check_confidence(confidence: ArrayLike) -> NDArray[np.float64]:
    """Confidences as an array, clipped to 0 and 1 where they exceed these by rounding.

    Raises
    ------
    ValueError
        If they are not 1-D, there are none, or one is NaN or not between 0 and 1.
    """
    checked: NDArray[np.float64] = check_array(
        confidence, dtype=np.float64, ensure_2d=False, allow_nd=True, input_name="confidence"
    )
    if checked.ndim != 1:
        raise ValueError(f"confidence must be 1-D, got an array of shape {checked.shape}.")
    lowest, highest = checked.min(), checked.max()
    is_half = np.asarray(confidence).dtype == np.float16
    slack = _COARSE_ROUNDING if is_half else _ROUNDING
    if lowest < -slack or highest > 1 + slack:
        raise ValueError(
            f"confidence must lie between 0 and 1, got values from {lowest} to {highest}."
        )
    return np.clip(checked, 0, 1)
