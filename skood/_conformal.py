"""Exact ranks of scores among those of rows that were not learnt from: thresholds and p-values.

Of n calibration scores, a new score has the rank 1 + #{calibration <= score}, from 1 to n + 1. All
that follows is written once, as the p-value of a rank: a score is rejected where its p-value is at
most the wanted rate, and the threshold is the calibration score at the largest rank that is. So
thresholds and p-values agree to the last bit, and rounding decides nothing: ``1 / 20 <= 0.05``.

Scores of equal inputs differ in their last bits where these are scored in batches of other sizes.
Where scores are discrete, this would make equal ones lower, and break the promise: so a calibration
score counts as not above a score that is lower by rounding only, which makes p-values larger.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from ._values import ROUNDING, Floats
from ._warnings import warn_user

_SHARE_OF_RANGE = 1e-3
"""Of the interquartile range: no more than that is taken for rounding."""
_ROUNDING_OF_ONE = 1 / 16
"""As much of what is taken for rounding is that of a score which no other one is equal to: a row
that was learnt from has other last bits in a batch of another size, or by another program."""
GUARANTEES = frozenset({"marginal", "training-conditional"})
"""What may be promised of the rate: its mean over calibration sets, or nearly every set's own."""


def p_values_of_ranks(
    ranks: ArrayLike, n: ArrayLike, *, guarantee: str = "marginal", confidence: float = 0.95
) -> Floats:
    """p-values of scores by their ranks among calibration scores.

    Parameters
    ----------
    ranks : array-like of int
        1 + the number of calibration scores that are not above the score, from 1 to n + 1.
    n : array-like of int
        Number of calibration scores.
    guarantee : {"marginal", "training-conditional"}, default="marginal"
        Marginal: rank / (n + 1). Of a new in-distribution score, at most the share r has one of at
        most r, over draws of the calibration set and of the score. Training-conditional: the
        quantile of Beta(rank, n + 1 - rank) at ``confidence``. With that probability over draws of
        the calibration set, the share r holds for it.
    confidence : float, default=0.95
        Probability that the training-conditional share holds.

    Returns
    -------
    p_values : ndarray
        Above 0 and at most 1, which is the p-value of rank n + 1.
    """
    ranks, n = np.asarray(ranks), np.asarray(n)
    if guarantee == "marginal":
        return ranks / (n + 1)
    return upper_bound_of_share(ranks - 1, n, confidence)


def upper_bound_of_share(n_found: ArrayLike, n: ArrayLike, confidence: float) -> Floats:
    """Clopper and Pearson's upper bound of a share, of which ``n_found`` of n draws were.

    Parameters
    ----------
    n_found : array-like of int
        From 0 to n.
    n : array-like of int
        Number of independent draws.
    confidence : float
        Probability with which the share is at most the bound.

    Returns
    -------
    bounds : ndarray
        Quantiles of Beta(n_found + 1, n - n_found), 1 where all were.
    """
    n_found, n = np.asarray(n_found), np.asarray(n)
    quantiles = betaincinv(n_found + 1, np.maximum(n - n_found, 1), confidence)
    return np.where(n_found >= n, 1.0, quantiles)


def conformal_rank(
    n: int, rate: float, *, guarantee: str = "marginal", confidence: float = 0.95
) -> int:
    """The rank, from the smallest, of the calibration score that is the threshold.

    Parameters
    ----------
    n : int
        Number of calibration scores.
    rate : float in (0, 1)
        Share of in-distribution samples that may be rejected.
    guarantee : {"marginal", "training-conditional"}, default="marginal"
        As in :func:`p_values_of_ranks`. Marginal, the rank is ``floor(rate * (n + 1))``.
    confidence : float, default=0.95
        As there.

    Returns
    -------
    rank : int
        From 0, where ``n`` scores are too few to reject anything at this rate, to ``n``.
    """

    def p_value(rank: int) -> float:
        return float(p_values_of_ranks(rank, n, guarantee=guarantee, confidence=confidence))

    return bisect_right(range(1, n + 1), rate, key=p_value)


def conformal_threshold(
    scores: ArrayLike, rate: float, *, guarantee: str = "marginal", confidence: float = 0.95
) -> float:
    """The smallest score that is accepted: one of the calibration scores.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Calibration scores: higher for in-distribution samples.
    rate : float in (0, 1)
        Share of in-distribution samples that may be rejected, those below the threshold.
    guarantee : {"marginal", "training-conditional"}, default="marginal"
        As in :func:`p_values_of_ranks`.
    confidence : float, default=0.95
        As there.

    Returns
    -------
    threshold : float
        -inf where the scores are too few to reject anything at this rate. Scores that are lower by
        rounding only are accepted too, those from :func:`lowest_accepted` on.
    """
    scores = np.asarray(scores, dtype=np.float64)
    rank = conformal_rank(len(scores), rate, guarantee=guarantee, confidence=confidence)
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank else -np.inf


def less_rounding(scores: ArrayLike, of: ArrayLike) -> Floats:
    """The lowest values that equal scores may have, but for rounding.

    Rounding is a share of what scores usually are, and a small one of their interquartile range:
    a constant that is added to all of them does not make them equal.

    Parameters
    ----------
    scores : array-like
        Some calibration scores.
    of : array-like of shape (n,)
        All of them: what is near 0 beside them may be a difference of numbers as large as they are.
        By their median, so that no far outlier makes all others equal.

    Returns
    -------
    lowest : ndarray
        In the order of ``scores``, and infinite where these are.
    """
    scores, all_scores = np.asarray(scores, dtype=np.float64), np.asarray(of, dtype=np.float64)
    all_scores = all_scores[np.isfinite(all_scores)]
    usual, most = 0.0, np.inf
    if all_scores.size:
        usual = float(np.percentile(np.abs(all_scores), 50, method="lower"))
        low, high = np.percentile(all_scores, [25, 75], method="lower")
        # A range that is rounding itself bounds nothing.
        most = _SHARE_OF_RANGE * (high - low) if high - low > ROUNDING / 4 * usual else np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        rounding = np.minimum(ROUNDING * np.maximum(np.abs(scores), usual), most)
        lowest = scores - rounding
    return np.where(np.isfinite(scores), lowest, scores)


def ties_less_rounding(ascending: Floats) -> Floats:
    """The same of sorted scores that occur more than once; others less a part of that."""
    lowest = less_rounding(ascending, of=ascending)
    equals_next = np.append(lowest[1:] <= ascending[:-1], False)
    with np.errstate(invalid="ignore"):
        alone = np.where(
            np.isfinite(lowest), ascending - _ROUNDING_OF_ONE * (ascending - lowest), lowest
        )
    return np.where(equals_next | np.roll(equals_next, 1), lowest, alone)


def starts_of_equal_scores(ascending: Floats) -> NDArray[np.intp]:
    """Where runs of scores begin, of sorted ones, that are equal but for rounding.

    A run spans no more than three times what is taken for rounding.
    """
    finite = ascending[np.isfinite(ascending)]
    width = float(np.median(finite - less_rounding(finite, of=finite))) if finite.size else 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        places = np.floor(ascending / width) if width > 0 else ascending
        starts = np.append(0, np.flatnonzero(places[1:] > places[:-1]) + 1)
        # Of three neighbours, the outer ones are one part apart: no two in a row are too near.
        is_apart = np.diff(ascending[starts]) > width / 2
    return starts[np.append(True, is_apart)]


def lowest_accepted(scores: ArrayLike, threshold: float) -> float:
    """The score from which on samples are accepted by a threshold that is one of some scores."""
    return float(less_rounding(threshold, of=scores))


def held_out_threshold(scores: ArrayLike, rate: float) -> float:
    """The threshold of rows that are held out; warns where they are too few to reject anything."""
    n = len(np.asarray(scores))
    if conformal_rank(n, rate) == 0:
        warn_user(why_none_is_rejected(n, rate))
    return conformal_threshold(scores, rate)


def conformal_p_values(
    calibration_scores: ArrayLike,
    scores: ArrayLike,
    *,
    guarantee: str = "marginal",
    confidence: float = 0.95,
) -> Floats:
    """p-value of each score: how likely one as low is in-distribution.

    Parameters
    ----------
    calibration_scores : array-like of shape (n,)
        Scores of in-distribution samples that were not learnt from, in any order.
    scores : array-like of shape (n_samples,)
        Scores of other samples.
    guarantee : {"marginal", "training-conditional"}, default="marginal"
        As in :func:`p_values_of_ranks`.
    confidence : float, default=0.95
        As there.

    Returns
    -------
    p_values : ndarray of shape (n_samples,)
        At most ``rate`` exactly where the score is below ``conformal_threshold`` at that rate, by
        more than rounding.
    """
    lowest = np.sort(less_rounding(calibration_scores, of=calibration_scores))
    ranks = 1 + count_not_above(lowest, scores)
    return p_values_of_ranks(ranks, len(lowest), guarantee=guarantee, confidence=confidence)


def count_not_above(lowest: Floats, scores: ArrayLike) -> NDArray[np.intp]:
    """How many calibration scores, sorted and less rounding, are at most each of some others."""
    return lowest.searchsorted(np.asarray(scores, dtype=np.float64), side="right")


def rows_needed(rate: float, *, guarantee: str = "marginal", confidence: float = 0.95) -> int:
    """The smallest number of calibration rows with which anything is rejected at a rate."""

    def minus_p_value(n: int) -> float:
        return -float(p_values_of_ranks(1, n, guarantee=guarantee, confidence=confidence))

    return 1 + bisect_left(range(1, 2**53), -rate, key=minus_p_value)


def smallest_rate(n: int, *, guarantee: str = "marginal", confidence: float = 0.95) -> str:
    """The smallest rate that calibration rows can give, in three digits, rounded up to be one."""
    rate = float(p_values_of_ranks(1, n, guarantee=guarantee, confidence=confidence))
    step = 10.0 ** (np.floor(np.log10(rate)) - 2)
    return f"{min(1.0, np.ceil(rate / step * (1 - 1e-12)) * step):.3g}"


def why_none_is_rejected(
    n: int, rate: float, *, guarantee: str = "marginal", confidence: float = 0.95
) -> str:
    """What to say where the rank is 0: the rate that so many rows can give, and how many do."""
    smallest = smallest_rate(n, guarantee=guarantee, confidence=confidence)
    needed = rows_needed(rate, guarantee=guarantee, confidence=confidence)
    return (
        f"{n} calibration row(s) cannot give a false alarm rate of {rate:g}: nothing is rejected. "
        f"The smallest rate that they can give is {smallest}; {rate:g} needs at least "
        f"{needed} of them"
        + (f" for a confidence of {confidence:g}." if guarantee != "marginal" else ".")
    )


def refuse_nan_scores(scores: NDArray, whose: str, rows: NDArray[np.intp] | None = None) -> None:
    """Raise a ValueError that says which rows have the score NaN, which has no rank.

    ``rows`` are the numbers of the rows; by default all from 0 on.
    """
    if len(found := np.flatnonzero(np.isnan(scores))):
        first = found[0] if rows is None else rows[found[0]]
        raise ValueError(
            f"The score of {whose} is NaN in {len(found)} of {len(scores)} rows, the first of them "
            f"row {first}: NaN is neither above nor below a threshold. Look at these samples, or "
            "leave them out."
        )
