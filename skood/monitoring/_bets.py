"""What is bet on: p-values that are not uniform, alarms that are more than there should be."""

from __future__ import annotations

import numpy as np

from .._values import Floats

_SMALLEST = 1e-16
"""A distance from the end of the interval that is as good as none, where a density is infinite."""

# Densities of a p-value p on (0, 1): powers k * x**(k - 1) of x = p, 1 - p or 2 min(p, 1 - p), and
# lines 1 + s * (1 - 2 p).
_LOW, _HIGH, _ENDS = (0.2, 0.45), (0.3,), (0.3, 0.6, 0.85, 1.5, 2.0)
_SLOPES = np.array([0.4, 0.8, -0.4, -0.8])
_POWERS = np.array([*_LOW, *_HIGH, *_ENDS])
_LOG_POWERS = np.log(_POWERS)
_EXPONENTS = np.zeros((len(_POWERS), 3))
_EXPONENTS[np.arange(len(_POWERS)), [0] * len(_LOW) + [1] * len(_HIGH) + [2] * len(_ENDS)] = (
    _POWERS - 1
)

# Three quarters for scores that move down or up, the rest for those that spread or draw together.
_N_DIRECTED, _N_OTHERS = len(_LOW) + len(_HIGH) + len(_SLOPES), len(_ENDS)
P_VALUE_SHARES: Floats = np.array(
    [0.75 / _N_DIRECTED] * (len(_LOW) + len(_HIGH))
    + [0.25 / _N_OTHERS] * _N_OTHERS
    + [0.75 / _N_DIRECTED] * len(_SLOPES)
)

_ODDS = np.array([1.25, 1.6, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0])
ODDS_SHARES: Floats = np.full(len(_ODDS), 1 / len(_ODDS))


def p_value_factors(p_value: Floats | float) -> Floats:
    """Densities at a p-value, by which the bets multiply.

    Parameters
    ----------
    p_value : float, or ndarray of shape (n_streams,)
        Uniform on (0, 1) under the hypothesis; one for each of several streams.

    Returns
    -------
    factors : ndarray of shape (n_bets,) or (n_bets, n_streams)
        Each has the mean 1 under the hypothesis, or a little less for the ends that are cut off.
    """
    above = 1 - p_value
    distances = np.array((p_value, above, 2 * np.minimum(p_value, above)))
    logs = np.log(np.maximum(distances, _SMALLEST))
    powers = np.exp((_LOG_POWERS + (_EXPONENTS @ logs).T).T)
    lines = 1 + np.multiply.outer(_SLOPES, above - p_value)
    return np.concatenate((powers, lines))


def alarm_factors(rates: Floats) -> tuple[Floats, Floats]:
    """Factors of bets on more alarms than a rate: without an alarm, and with one.

    A bet is the likelihood ratio of a rate whose odds are some times as high, so that its mean is
    at most 1 for an alarm of at most that probability.

    Parameters
    ----------
    rates : ndarray of shape (n_rates,)
        The hypotheses: no alarm is more probable than this.

    Returns
    -------
    without, with_alarm : ndarrays of shape (n_bets, n_rates)
        The factors; they fall as the rate grows.
    """
    without = 1 / (1 + np.multiply.outer(_ODDS - 1, rates))
    return without, without * _ODDS[:, np.newaxis]
