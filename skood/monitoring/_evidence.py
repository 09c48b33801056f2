"""Evidence against a hypothesis, row by row: test martingales that may begin to bet at any row.

A bet is a factor, of mean at most 1 as long as the hypothesis holds, whatever came before; so the
capital of who begins with 1 and multiplies by it is a nonnegative supermartingale. It ever reaches
1 / alpha with probability at most alpha (Ville's inequality).
"""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

from .._values import Floats

_LARGEST = 1e250
"""Where capital stops to grow, so that no factor makes it infinite: less of it is valid, too."""


class Evidence:
    """Capital of bets of several kinds that began at all rows until now.

    Capital 1 is divided among bets on the first row (a half), bets that begin at a later row
    (less and less), and cash that no bet has taken yet. The sum is a convex combination of
    supermartingales, so it is one.

    Parameters
    ----------
    shares : ndarray of shape (n_bets,)
        Shares of the kinds of bets, which sum to 1.
    shape : tuple of int, default=()
        For more than one hypothesis or stream: further axes of the capital.

    Attributes
    ----------
    capital : ndarray of shape (n_bets, *shape)
        What a kind of bet has made of all that it was given, per unit of its share.
    n_rows : int
        Number of rows so far.
    """

    def __init__(self, shares: Floats, shape: tuple[int, ...] = ()) -> None:
        self.shares = shares
        self.capital = np.zeros((len(shares), *shape))
        self.n_rows = 0

    def bet(self, factors: NDArray) -> NDArray:
        """Take part in another row, whose factors have the shape of the capital.

        Returns
        -------
        values : ndarray of shape ``shape``
            All capital, with the cash.
        """
        before = cash_after(self.n_rows)
        self.n_rows += 1
        cash = cash_after(self.n_rows)
        capital = (self.capital + (before - cash)) * factors
        self.capital = np.minimum(capital, _LARGEST, out=capital)
        return cash + self.shares @ capital

    @property
    def value(self) -> NDArray:
        """All capital, with the cash; 1 before the first row."""
        return cash_after(self.n_rows) + self.shares @ self.capital


def cash_after(n_rows: int) -> float:
    """The share of the capital that no bet has taken after so many rows.

    It shrinks so slowly that bets which begin at row t are given about 1 / (2 t log(t)^2).
    """
    return 0.5 / (1 + log(n_rows)) if n_rows else 1.0
