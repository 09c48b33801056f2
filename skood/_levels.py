"""Values that differ in more than rounding: each stands for the scores near it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._conformal import less_rounding
from ._values import Floats


@dataclass(frozen=True)
class Levels:
    """Levels of some scores, where those that rounding alone may tell apart are one level.

    A level begins at the lowest score that is in none below, and holds the scores that rounding
    may have made of this one. So it is never wider than rounding, however dense the scores are.

    Attributes
    ----------
    lowest : ndarray of shape (n_levels,)
        The lowest score of each level, ascending: its value.
    top : ndarray of shape (n_levels,)
        The highest value that rounding may have made of it.
    """

    lowest: Floats
    top: Floats
    _begin: Floats
    """From here on other scores are of the level ..."""
    _end: Floats
    """... up to here."""

    @classmethod
    def of(cls, scores: ArrayLike) -> Levels:
        """The levels of scores without NaN."""
        ascending = np.unique(np.asarray(scores, dtype=np.float64))
        tops = -less_rounding(-ascending, of=ascending)
        first = _first_of_levels(ascending, tops)
        lowest, top = ascending[first], tops[first]
        highest = ascending[np.append(first[1:], len(ascending)) - 1]
        # Midway between two levels at most, so that none reaches into another.
        with np.errstate(invalid="ignore"):
            middle = highest[:-1] / 2 + lowest[1:] / 2  # NaN between infinities
        begin = less_rounding(lowest, of=ascending)
        end = -less_rounding(-highest, of=ascending)
        begin[1:] = np.fmax(begin[1:], np.nextafter(middle, np.inf))
        end[:-1] = np.fmin(end[:-1], middle)
        return cls(lowest, top, np.minimum(begin, lowest), np.maximum(end, highest))

    @classmethod
    def of_ties(cls, scores: ArrayLike) -> Levels:
        """Those alone that hold several scores, as where scores are discrete."""
        levels = cls.of(scores)
        is_tie = np.unique(levels.values_of(scores), return_counts=True)[1] > 1
        ends = (levels.lowest, levels.top, levels._begin, levels._end)
        return cls(*(values[is_tie] for values in ends))

    def values_of(self, scores: ArrayLike) -> Floats:
        """Scores, where those of a level have its value; others as they are."""
        scores = np.asarray(scores, dtype=np.float64)
        if len(self.lowest) == 0:
            return scores
        place = np.maximum(np.searchsorted(self._begin, scores, side="right") - 1, 0)
        is_of_level = (self._begin[place] <= scores) & (scores <= self._end[place])
        return np.where(is_of_level, self.lowest[place], scores)


def _first_of_levels(ascending: Floats, tops: Floats) -> NDArray[np.intp]:
    """Where levels begin: each at the first score above the top of the one before."""
    following = np.searchsorted(ascending, tops, side="right").tolist()
    first, place = [], 0
    while place < len(following):
        first.append(place)
        place = following[place]
    return np.array(first, dtype=np.intp)
