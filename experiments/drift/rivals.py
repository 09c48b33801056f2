"""Other bets on the same p-values: what the watch on scores is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skood.monitoring._bets import P_VALUE_SHARES, p_value_factors

from .streams import first_rows


def ring_without_restarts(p_values: NDArray, level: float) -> NDArray:
    """The same bets, all of them from the first row on."""
    capital = np.ones((len(P_VALUE_SHARES), p_values.shape[1]))

    def bet(row: int) -> NDArray:
        capital[:] = np.minimum(capital * p_value_factors(p_values[row]), 1e300)
        return P_VALUE_SHARES @ capital

    return first_rows(bet, len(p_values), 1 / level)


def ring_by_jumper(p_values: NDArray, level: float, rate: float = 0.01) -> NDArray:
    """The simple jumper of Vovk et al., "Retrain or not retrain", arXiv:2102.10439."""
    slopes = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])[:, np.newaxis]
    shares = np.full((5, p_values.shape[1]), 0.2)
    logs = np.zeros(p_values.shape[1])

    def bet(row: int) -> NDArray:
        shares[:] = (1 - rate) * shares + rate / len(slopes)
        shares[:] *= 1 + slopes * (p_values[row] - 0.5)
        total = shares.sum(axis=0)
        logs[:] += np.log(total)
        shares[:] /= total
        return np.exp(np.minimum(logs, 600))

    return first_rows(bet, len(p_values), 1 / level)


def ring_by_histogram(p_values: NDArray, level: float, n_bins: int = 10) -> NDArray:
    """The plug-in bet: the density that a histogram of the p-values before estimates."""
    streams = np.arange(p_values.shape[1])
    counts = np.full((n_bins, len(streams)), 0.5)
    logs = np.zeros(len(streams))
    bins = np.minimum((p_values * n_bins).astype(np.int64), n_bins - 1)

    def bet(row: int) -> NDArray:
        logs[:] += np.log(n_bins * counts[bins[row], streams] / counts.sum(axis=0))
        counts[bins[row], streams] += 1
        return np.exp(np.minimum(logs, 600))

    return first_rows(bet, len(p_values), 1 / level)


RIVALS = {
    "the same bets, from the first row on": ring_without_restarts,
    "simple jumper": ring_by_jumper,
    "histogram": ring_by_histogram,
}
