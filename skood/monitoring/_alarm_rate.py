"""Whether the rate of alarms is higher than the calibration rows can account for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._conformal import upper_bound_of_share
from .._values import Floats
from ._bets import ODDS_SHARES, alarm_factors
from ._evidence import Evidence

_N_RATES = 48
"""Beside the limit, from a fifth of its odds up to nearly 1."""


def rate_limit(rank: int, n: int, level: float) -> float:
    """The rate of alarms that a threshold exceeds with a probability of at most ``level``.

    Given the calibration scores, the probability that a new in-distribution score is below the
    one of some rank has the distribution Beta(rank, n + 1 - rank) over draws of these scores, if
    they are continuous, and a stochastically smaller one if not.

    Parameters
    ----------
    rank : int
        Rank of the threshold, from the smallest; 0 where nothing is rejected.
    n : int
        Number of calibration scores.
    level : float
        Probability that the true rate is higher.

    Returns
    -------
    limit : float
        In [0, 1).
    """
    return float(upper_bound_of_share(rank - 1, n, 1 - level)) if rank else 0.0


def rate_limit_with_errors(
    rank: int, n: int, level: float, *, n_errors: int, n_rejected: int
) -> float:
    """The same over all samples, for a threshold that correctly classified ones have set.

    Three bounds are exceeded with a probability of a third of ``level`` each: of the rate among
    samples that are classified correctly; of that among others, on whose scores the threshold does
    not depend; and of their share, the latter two by Clopper and Pearson.

    Parameters
    ----------
    rank : int
        Rank of the threshold among the scores of rows that are classified correctly.
    n : int
        Number of these.
    level : float
        Probability that the true rate is higher.
    n_errors : int
        Number of the other rows that were held out with them.
    n_rejected : int
        How many of these have lower scores than the threshold.

    Returns
    -------
    limit : float
        In [0, 1).
    """
    if rank == 0:
        return 0.0
    of_right = rate_limit(rank, n, level / 3)
    confidence = 1 - level / 3
    of_errors = float(upper_bound_of_share(n_rejected, n_errors, confidence))
    share = float(upper_bound_of_share(n_errors, n + n_errors, confidence))
    return max(of_right, of_right + share * (of_errors - of_right))


class AlarmRate:
    """Lower bound of the probability of an alarm, at the row of the stream where it was highest.

    For each of some rates, evidence is gathered against the hypothesis that no alarm was more
    probable than it, whatever came before. The bound is the largest rate that is refuted: a
    confidence sequence, which holds for all rows at once with probability 1 - level.

    Parameters
    ----------
    limit : float
        The rate that is tested.
    level : float
        Probability that the bound is ever wrong.

    Attributes
    ----------
    evidence : Evidence
        Of all rates.
    """

    def __init__(self, limit: float, level: float) -> None:
        self._rates, self._at_limit = rates_around(limit)
        self._needed = 1 / level
        self._factors = alarm_factors(self._rates)
        self.evidence = Evidence(ODDS_SHARES, self._rates.shape)

    def add(self, is_alarm: bool) -> tuple[float, float]:
        """Take in another row; evidence against the limit, and lower bound of the rate."""
        values = self.evidence.bet(self._factors[is_alarm])
        return float(values[self._at_limit]), self._bound(values)

    @property
    def lower_bound(self) -> float:
        """The largest rate that is refuted, 0 if none is."""
        return self._bound(self.evidence.value)

    def _bound(self, values: NDArray) -> float:
        n_refuted = np.count_nonzero(values >= self._needed)
        return float(self._rates[n_refuted - 1]) if n_refuted else 0.0


def rates_around(limit: float) -> tuple[Floats, int]:
    """Rates between 0 and 1, ascending, of which one is the limit; and its place."""
    limit = min(limit, 1 - 2**-40)  # 1 cannot be exceeded, and has no odds
    odds = limit / (1 - limit)
    others = np.geomspace(odds / 5, max(50, 5 * odds), _N_RATES)
    grid = others / (1 + others)
    place = int(np.searchsorted(grid, limit))
    return np.insert(grid, place, limit), place
