"""Exact tests of the error rate among accepted samples, for a sequence of thresholds.

A threshold is tested by the rows above it: of n rows of which e are misclassified, an error rate of
alpha or more has the p-value P(Binomial(n, alpha) <= e). How many rows the tested thresholds accept
depends on the number of rows alone, never on which of them are misclassified.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc

from .._conformal import less_rounding
from .._levels import Levels
from .._values import Floats

_N_TESTED = 200
"""Thresholds that are tested, as far as there are so many rows."""
_N_ERRORS = 2
"""Errors that the first tested threshold may have, so that chance does not end the sequence."""
_LARGEST_START = 0.6
"""Largest coverage at which the sequence begins for the sake of that."""

_MOST_ROWS = 2**53
"""More than anybody has: where this many rows are too few, how many it takes is not looked for."""


class Certified(NamedTuple):
    """A threshold with a certified error rate, and the rows that it accepts."""

    offset: float
    n_accepted: int
    n_wrong: int


class RankedErrors:
    """How many rows each threshold accepts, and how many of these are misclassified.

    Scores that rounding alone may tell apart are accepted or rejected together.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores without NaN.
    is_wrong : ndarray of shape (n_samples,), dtype bool
        Whether the row is misclassified.
    """

    def __init__(self, scores: Floats, is_wrong: NDArray[np.bool_]) -> None:
        levels = Levels.of(scores)
        values = levels.values_of(scores)
        ascending, position = np.unique(values, return_inverse=True)
        counts = np.bincount(position, minlength=len(ascending))
        wrong = np.bincount(position[is_wrong], minlength=len(ascending))
        self._tops = levels.top[::-1]
        self._lowest_accepted = float(less_rounding(ascending[0], of=scores))
        self._accepted = np.cumsum(counts[::-1])
        self._wrong = np.cumsum(wrong[::-1])

    @property
    def n_rows(self) -> int:
        return int(self._accepted[-1])

    @property
    def n_wrong(self) -> int:
        return int(self._wrong[-1])

    def largest_certified(self, alpha: float, confidence: float) -> Certified | None:
        """The threshold of the largest coverage of which an error rate of alpha is rejected.

        It is the lowest one that is rejected by a fallback procedure: the levels at which tests
        begin sum to 1 - confidence, and that of a threshold which is rejected goes on to the next.
        """
        sizes, levels = _plan(self.n_rows, alpha, 1 - confidence)
        places, same = np.unique(self._places(sizes), return_inverse=True)
        by_place = np.bincount(same, weights=levels)
        p_values = _p_values(self._accepted[places], self._wrong[places], alpha)
        best, level = -1, 0.0
        for place, p_value, own_level in zip(places, p_values, by_place, strict=True):
            level += own_level
            if p_value <= level:
                best = place
            else:
                level = 0.0
        return None if best < 0 else self._threshold(best)

    def _places(self, sizes: NDArray[np.intp]) -> NDArray[np.intp]:
        """The highest thresholds that accept at least so many rows."""
        return np.searchsorted(self._accepted, sizes)

    def _threshold(self, place: int) -> Certified:
        offset = self._lowest_accepted
        if place + 1 < len(self._tops):
            # What was tested are the rows above the highest rejected level. Those from the lowest
            # accepted one on would be another set, to which that row belongs by its choice.
            offset = np.nextafter(self._tops[place + 1], np.inf)
        # An infinite threshold would reject infinite scores, too.
        offset = min(float(offset), float(np.finfo(np.float64).max))
        return Certified(offset, int(self._accepted[place]), int(self._wrong[place]))

    def smallest_alpha(self, confidence: float) -> str | None:
        """The smallest error rate that can be certified, in three digits, or None."""

        def is_certified(alpha: float) -> bool:
            return self.largest_certified(alpha, confidence) is not None

        low, high = 0.0, 1 - 1e-9
        if not is_certified(high):
            return None
        while high - low > 1e-9 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if is_certified(middle) else (middle, high)
        step = 10.0 ** (np.floor(np.log10(high)) - 2)
        rounded = np.floor(high / step) * step + step * np.arange(10)
        found = [alpha for alpha in rounded if alpha < 1 and is_certified(float(f"{alpha:.3g}"))]
        return f"{found[0]:.3g}" if found else f"{high:.9g}"


def rows_needed(alpha: float, confidence: float) -> int:
    """Number of rows without an error that certify an error rate."""
    return _rows_with(0, alpha, 1 - confidence)


def _plan(n_rows: int, alpha: float, level: float) -> tuple[NDArray[np.intp], Floats]:
    """How many rows the tested thresholds accept, ascending, and the levels that begin there."""
    starts = _starts(n_rows, alpha, level)
    if not starts:
        return np.empty(0, dtype=np.intp), np.empty(0)
    begin = min(starts)
    between = np.linspace(begin, n_rows, min(_N_TESTED, n_rows - begin + 1)).astype(np.intp)
    sizes = np.union1d(between, list(starts))
    levels = np.zeros(len(sizes))
    levels[np.searchsorted(sizes, list(starts))] = list(starts.values())
    return sizes, levels


def _starts(n_rows: int, alpha: float, level: float) -> dict[int, float]:
    """Numbers of accepted rows at which tests begin, with their levels; none for too few rows."""
    early = _rows_with(_N_ERRORS, alpha, level / 2)
    if early < n_rows // 2:
        return {early: level / 2, n_rows // 2: level / 2}
    sizes = [_rows_with(n_wrong, alpha, level) for n_wrong in range(_N_ERRORS + 1)]
    begin = max((size for size in sizes if size <= _LARGEST_START * n_rows), default=sizes[0])
    return {begin: level} if begin <= n_rows else {}


def _rows_with(n_wrong: int, alpha: float, level: float) -> int:
    """The smallest number of rows which, so many of them wrong, reject an error rate at a level."""

    def minus_p_value(n_rows: int) -> float:
        return -float(_p_values(n_rows, n_wrong, alpha))

    enough = n_wrong + 1
    while minus_p_value(enough) < -level:
        enough *= 2
        if enough > _MOST_ROWS:
            return enough
    return n_wrong + 1 + bisect_left(range(n_wrong + 1, enough), -level, key=minus_p_value)


def _p_values(n_accepted: ArrayLike, n_wrong: ArrayLike, alpha: float) -> Floats:
    """P(Binomial(n_accepted, alpha) <= n_wrong)."""
    n_accepted, n_wrong = np.asarray(n_accepted), np.asarray(n_wrong)
    n_right = n_accepted - n_wrong
    p_values = betainc(np.maximum(n_right, 1), n_wrong + 1, 1 - alpha)
    return np.where(n_right == 0, 1.0, p_values)
