"""Calibration error: how far confidences are from accuracies."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._sklearn import Interval, StrOptions, validate_params
from ._confidence import bin_edges, check_confidence, confidence_categories

_N_BINS = [Interval(Integral, 1, None, closed="left")]


class CalibrationBins(NamedTuple):
    """What :func:`calibration_bins` returns, for each bin of confidences."""

    edges: NDArray[np.float64]
    counts: NDArray[np.intp]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]


@validate_params({"n_bins": _N_BINS}, prefer_skip_nested_validation=True)
def calibration_bins(
    correct: ArrayLike, confidence: ArrayLike, *, n_bins: int = 10
) -> CalibrationBins:
    """Accuracy and mean confidence of the samples in each bin of confidences.

    Parameters
    ----------
    correct : array-like of bool of shape (n_samples,)
        Whether the network classified the sample correctly.
    confidence : array-like of shape (n_samples,)
        Its confidence, between 0 and 1 but for rounding.
    n_bins : int, default=10
        Number of bins, those of :func:`confidence_categories`.

    Returns
    -------
    bins : CalibrationBins
        Named tuple with the following fields.

        edges : ndarray of shape (n_bins + 1,)
            Edges of the bins, from 0 to 1. A bin holds its upper edge.
        counts : ndarray of shape (n_bins,)
            Number of samples in each bin.
        accuracy : ndarray of shape (n_bins,)
            Fraction of them that is classified correctly, NaN where there are none.
        confidence : ndarray of shape (n_bins,)
            Their mean confidence, NaN where there are none.

    Raises
    ------
    ValueError
        If the lengths differ, ``correct`` holds anything but True and False or 1 and 0, or
        ``confidence`` is not 1-D, is empty, or holds NaN or a value outside 0 to 1.

    See Also
    --------
    expected_calibration_error : One number for all bins.
    ReliabilityDisplay : The bins in a figure.

    Examples
    --------
    >>> from skood.calibration import calibration_bins
    >>> correct = [True, False, True, True]
    >>> bins = calibration_bins(correct, [0.6, 0.7, 0.9, 1.0], n_bins=4)
    >>> bins.counts
    array([0, 0, 2, 2])
    >>> bins.accuracy
    array([nan, nan, 0.5, 1. ])
    >>> bins.confidence
    array([ nan,  nan, 0.65, 0.95])
    """
    confidence = check_confidence(confidence)
    correct = _check_correct(correct, len(confidence))
    category = confidence_categories(confidence, n_categories=n_bins)
    counts = np.bincount(category, minlength=n_bins)
    # An empty bin is 0 / 0: NaN.
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(category, weights=correct, minlength=n_bins) / counts
        mean_confidence = np.bincount(category, weights=confidence, minlength=n_bins) / counts
    return CalibrationBins(bin_edges(n_bins), counts, accuracy, mean_confidence)


@validate_params(
    {"n_bins": _N_BINS, "norm": [StrOptions({"l1", "l2", "max"})]},
    prefer_skip_nested_validation=True,
)
def expected_calibration_error(
    correct: ArrayLike, confidence: ArrayLike, *, n_bins: int = 10, norm: str = "l1"
) -> float:
    """How far confidences are from accuracies, over bins of confidences (ECE).

    The error is the sum, over the bins, of the fraction of samples in the bin times
    ``abs(accuracy - mean_confidence)`` [1]_. Empty bins do not count.

    Parameters
    ----------
    correct : array-like of bool of shape (n_samples,)
        Whether the network classified the sample correctly.
    confidence : array-like of shape (n_samples,)
        Its confidence, between 0 and 1 but for rounding.
    n_bins : int, default=10
        Number of bins of equal width, those of :func:`confidence_categories`. The error depends
        on it: state it wherever you report one.
    norm : {"l1", "l2", "max"}, default="l1"
        How the gaps between accuracy and mean confidence are combined: "l1" averages them, weighted
        by the fractions of the samples; "l2" is the root of their weighted mean square; "max" is
        the largest one, the maximum calibration error (MCE).

    Returns
    -------
    error : float
        Between 0, where each bin is as accurate as it is confident, and 1.

    Raises
    ------
    ValueError
        If the lengths differ, ``correct`` holds anything but True and False or 1 and 0,
        ``confidence`` is not 1-D, is empty, or holds NaN or a value outside 0 to 1, or
        ``norm`` is unknown.

    See Also
    --------
    calibration_bins : What the bins hold.
    TemperatureScaler : Makes the error smaller.

    Notes
    -----
    Even a perfectly calibrated network has an error above 0 on few samples, as the accuracy of
    a bin with few samples is far from its expectation by chance.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural
       networks", ICML 2017. arXiv:1706.04599

    Examples
    --------
    >>> from skood.calibration import expected_calibration_error
    >>> correct, confidence = [True, False, True, True], [0.6, 0.7, 0.9, 1.0]
    >>> round(expected_calibration_error(correct, confidence, n_bins=4), 3)
    0.1
    >>> round(expected_calibration_error(correct, confidence, n_bins=4, norm="max"), 3)
    0.15
    """
    return error_of_bins(calibration_bins(correct, confidence, n_bins=n_bins), norm)


def error_of_bins(bins: CalibrationBins, norm: str) -> float:
    """The calibration error of bins, at least one of which is not empty."""
    filled = bins.counts > 0
    gap = np.abs(bins.accuracy - bins.confidence)[filled]
    share = bins.counts[filled] / bins.counts.sum()
    if norm == "max":
        return float(gap.max())
    return float(share @ gap if norm == "l1" else np.sqrt(share @ gap**2))


def _check_correct(correct: ArrayLike, n_samples: int) -> NDArray:
    checked = np.asarray(correct)
    if checked.ndim != 1:
        raise ValueError(f"correct must be 1-D, got an array of shape {checked.shape}.")
    if len(checked) != n_samples:
        raise ValueError(f"correct has {len(checked)} samples, but confidence has {n_samples}.")
    if strange := set(checked.tolist()) - {0, 1}:
        raise ValueError(
            f"correct must hold True and False, or 1 and 0, got {next(iter(strange))!r}."
        )
    return checked
