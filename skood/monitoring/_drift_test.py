"""Tests of one batch against the calibration rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import cramervonmises_2samp, ks_2samp, mannwhitneyu

from .._levels import Levels
from .._sklearn import HasMethods, StrOptions, validate_params
from .._values import Floats
from ._reference import Reference

METHODS = ("ks", "cramer-von-mises", "mann-whitney")
ALTERNATIVES = ("two-sided", "lower", "higher")


class DriftTestResult(NamedTuple):
    """What a test of a batch found.

    Parameters
    ----------
    statistic : float
        Statistic of the test.
    pvalue : float
        Probability of a statistic as extreme, if nothing has changed.

    See Also
    --------
    drift_test : Returns it.

    Examples
    --------
    >>> from skood.monitoring import DriftTestResult
    >>> DriftTestResult(statistic=0.25, pvalue=0.04).pvalue < 0.05
    True
    """

    statistic: float
    pvalue: float


@validate_params(
    {
        "detector": [HasMethods(["score_samples"])],
        "method": [StrOptions(set(METHODS))],
        "alternative": [StrOptions(set(ALTERNATIVES))],
    },
    prefer_skip_nested_validation=True,
)
def drift_test(
    detector: Any, X: Any, *, method: str = "ks", alternative: str = "two-sided"
) -> DriftTestResult:
    """Test once whether the scores of a batch are distributed as those of the calibration rows.

    A test of two samples by SciPy, for a batch that was fixed before anybody looked at it. Whoever
    tests one batch after another, or a batch that grows, gets false alarms in the end:
    :class:`DriftMonitor` is for that.

    Parameters
    ----------
    detector : object
        A calibrated detector, as :class:`DriftMonitor` takes it.
    X : array-like of shape (n_samples, ...)
        The batch, as the detector takes it, of rows that are independent of each other.
    method : {"ks", "cramer-von-mises", "mann-whitney"}, default="ks"
        Kolmogorov-Smirnov: the largest distance between the two distribution functions.
        Cramér-von Mises: the mean square distance, which notices more of small changes over the
        whole range. Mann-Whitney: whether scores are higher or lower, not how they spread.
    alternative : {"two-sided", "lower", "higher"}, default="two-sided"
        What counts as a change: any, or that the scores of the batch are lower (more alarms) or
        higher. Cramér-von Mises has "two-sided" only.

    Returns
    -------
    result : DriftTestResult
        ``statistic`` and ``pvalue``.

    Raises
    ------
    TypeError
        If the detector gives no p-values.
    NotFittedError
        If it is not calibrated.
    ValueError
        If a score is NaN, the batch is empty or has one row for Cramér-von Mises, the calibration
        rows were scored by several detectors, or the method has no such alternative.

    See Also
    --------
    DriftMonitor : For a stream that is looked at as it goes.
    scipy.stats.ks_2samp : The test that is run by default.

    Notes
    -----
    A small p-value says that the scores differ, not that the inputs do harm: a batch with other
    shares of the classes differs too. A large one says that this batch shows no difference in the
    scores, and a batch of few rows seldom does. With equal scores the p-values of "ks" are too
    large, those of "mann-whitney" approximate; for "cramer-von-mises", random numbers of a fixed
    seed order them. Scores that differ by rounding only are equal where calibration scores are.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.calibration import ConformalDetector
    >>> from skood.detectors import KNNDetector
    >>> from skood.monitoring import drift_test
    >>> rng = np.random.default_rng(0)
    >>> detector = KNNDetector(normalize=False).fit(rng.normal(size=(500, 3)))
    >>> calibrated = ConformalDetector(detector).fit(rng.normal(size=(300, 3)))
    >>> drift_test(calibrated, rng.normal(size=(100, 3))).pvalue > 0.01
    True
    >>> drift_test(calibrated, rng.normal(loc=1, size=(100, 3))).pvalue < 0.01
    True
    """
    reference = Reference.of(detector)
    scores, _ = reference.judge(X)
    if not len(scores):
        raise ValueError("The batch has no rows.")
    levels = Levels.of_ties(reference.scores)
    scores, calibration = levels.values_of(scores), levels.values_of(reference.scores)
    if method == "cramer-von-mises" and min(len(scores), len(calibration)) < 2:
        raise ValueError(
            f"{method!r} needs at least 2 rows on both sides, but {len(scores)} are in the batch "
            f"and {len(calibration)} calibrate: give more, or use 'ks' or 'mann-whitney'."
        )
    found = _compare(scores, calibration, method, alternative)
    return DriftTestResult(float(found.statistic), float(found.pvalue))


def _compare(scores: Floats, calibration: Floats, method: str, alternative: str) -> Any:
    if method == "ks":
        # SciPy speaks of distribution functions: that of lower scores is greater.
        sides = dict(zip(ALTERNATIVES, ("two-sided", "greater", "less"), strict=True))
        return ks_2samp(scores, calibration, alternative=sides[alternative])
    if method == "mann-whitney":
        sides = dict(zip(ALTERNATIVES, ("two-sided", "less", "greater"), strict=True))
        return mannwhitneyu(scores, calibration, alternative=sides[alternative])
    if alternative != "two-sided":
        raise ValueError(f"{method!r} tests for any difference, not for {alternative!r} scores.")
    return cramervonmises_2samp(*_ranks(scores, calibration))


def _ranks(scores: Floats, calibration: Floats) -> tuple[Floats, Floats]:
    """Ranks among all, without ties: where SciPy meets any, it gives p-values near 0."""
    both = np.append(scores, calibration)
    order = np.lexsort((np.random.default_rng(0).random(len(both)), both))
    ranks = np.empty(len(both))
    ranks[order] = np.arange(len(both))
    return ranks[: len(scores)], ranks[len(scores) :]
