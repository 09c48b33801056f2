"""Sums of exponentials of logits that keep their precision, and are fast.

Three things make them so. Rows are summed by ``einsum``, whose loop over short rows costs a third of
that of ``sum``, and gives a row the same sum among any others. The largest of short rows is found in
columns. And where no exponential leaves the range of floats, ``log_sum_exp`` does not subtract the
largest logit, so that a sum near 0 keeps its digits too, as SciPy's does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHORT = 32
"""Rows of fewer values are compared faster a column at a time."""
_PLAIN = (1e-200, 1e200)
"""Sums of exponentials in which none that counts has left the range of floats."""


def row_maxima(values: NDArray) -> NDArray:
    """Largest value of each row."""
    if values.shape[1] < _SHORT:
        return np.ascontiguousarray(values.T).max(axis=0)
    return values.max(axis=1)


def row_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of each row."""
    return np.einsum("sk->s", values)


def log_sum_exp(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the sum of exponentials of each row."""
    with np.errstate(over="ignore", under="ignore"):
        sums = row_sums(np.exp(logits))
    is_plain = (sums > _PLAIN[0]) & (sums < _PLAIN[1])
    if is_plain.all():
        return np.log(sums)
    sums[is_plain] = np.log(sums[is_plain])
    sums[~is_plain] = _shifted_log_sum_exp(logits[~is_plain])
    return sums


def _shifted_log_sum_exp(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same, where the exponentials of the logits themselves are too large or too small."""
    largest = row_maxima(logits)
    below = logits - largest[:, np.newaxis]
    return largest + np.log(row_sums(np.exp(below, out=below)))


def tempered(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Logits divided by a temperature."""
    return logits if temperature == 1 else logits / temperature


def below_largest(
    logits: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits minus the largest of their row, and exponentials of these: 0 for the largest."""
    at_largest = positions_of_largest(logits)
    below = logits - logits.reshape(-1)[at_largest, np.newaxis]
    others = np.exp(below, order="C")
    others.reshape(-1)[at_largest] = 0
    return below, others


def odds_against_largest(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of what ``below_largest`` gives: how likely the other classes are, relative to one."""
    at_largest = positions_of_largest(logits)
    others = np.subtract(logits, logits.reshape(-1)[at_largest, np.newaxis], order="C")
    np.exp(others, out=others)
    others.reshape(-1)[at_largest] = 0
    return row_sums(others)


def positions_of_largest(logits: NDArray) -> NDArray[np.intp]:
    """Where the largest logit of each row is, among all values in the order of rows."""
    return np.arange(len(logits)) * logits.shape[1] + logits.argmax(axis=1)
