"""Sums of exponentials of logits that keep their precision, and are fast.

Three things make them so. Rows are summed by ``einsum``, whose loop over short rows costs a third
of that of ``sum``, and gives a row the same sum among any others. The largest of short rows is
found in columns. And where no sum of exponentials leaves the range of floats, the largest logit is
not subtracted before: that is a pass less, and a logarithm of a sum that is near 0 keeps its digits
too, as that of SciPy does.

Exponentials are computed in the precision of the logits, 32 or 64 bits; what is made of their sums
is float64, so that it does not saturate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating]
Floats = NDArray[np.float64]

_SHORT = 32
"""Rows of fewer values are compared faster a column at a time."""


def row_maxima(values: Logits) -> Logits:
    """Largest value of each row."""
    if values.shape[1] < _SHORT:
        return np.ascontiguousarray(values.T).max(axis=0)
    # Of one long row after the other, `max` along an axis takes twice as long.
    starts = np.arange(0, values.size, values.shape[1])
    largest: Logits = np.maximum.reduceat(values.reshape(-1), starts)
    return largest


def row_sums(values: Logits) -> Floats:
    """Sum of each row."""
    sums: Floats = np.einsum("sk->s", values).astype(np.float64, copy=False)
    return sums


def smallest_sum(dtype: np.dtype) -> float:
    """A sum of smaller exponentials may lack some that are too small for a float of their own."""
    return 1e-280 if dtype.itemsize > 4 else 1e-30


def are_plain(sums: Floats, dtype: np.dtype) -> NDArray[np.bool_]:
    """Whether sums of exponentials that are computed in a type are all that they should be."""
    least = smallest_sum(dtype)
    return (sums > least) & (sums < 1 / least)


def all_plain(sums: Floats, dtype: np.dtype) -> bool:
    """Whether all of them are, which takes far less to find out; of no sums, yes."""
    least = smallest_sum(dtype)
    return not len(sums) or bool(sums.min() > least and sums.max() < 1 / least)


def log_sum_exp(logits: Logits) -> Floats:
    """Logarithm of the sum of exponentials of each row."""
    with np.errstate(over="ignore", under="ignore"):
        sums = row_sums(np.exp(logits))
    if all_plain(sums, logits.dtype):
        return np.log(sums)
    is_plain = are_plain(sums, logits.dtype)
    sums[is_plain] = np.log(sums[is_plain])
    sums[~is_plain] = _shifted_log_sum_exp(logits[~is_plain].astype(np.float64, copy=False))
    return sums


def _shifted_log_sum_exp(logits: Floats) -> Floats:
    """The same, where the exponentials of the logits themselves are too large or too small."""
    largest = row_maxima(logits)
    below = logits - largest[:, np.newaxis]
    return np.log(row_sums(np.exp(below, out=below))) + largest.astype(np.float64, copy=False)


def tempered(logits: Logits, temperature: float) -> Logits:
    """Logits divided by a temperature."""
    return logits if temperature == 1 else logits / temperature


def below_largest(logits: Logits) -> tuple[Logits, Logits, NDArray[np.intp]]:
    """Logits minus the largest of their row, and exponentials of these: 0 for the largest.

    The third array is where the largest ones are, among all values in the order of rows.
    """
    at_largest = _positions_of_largest(logits)
    below = logits - logits.reshape(-1)[at_largest, np.newaxis]
    others = np.exp(below, order="C")
    others.reshape(-1)[at_largest] = 0
    return below, others, at_largest


def exp_of_others(logits: Logits) -> tuple[Logits, Logits]:
    """Exponentials of logits, with 0 for the largest of each row, and these largest logits.

    Exponentials of others may leave the range of floats: then their sum is not plain.
    """
    at_largest = _positions_of_largest(logits)
    with np.errstate(over="ignore", under="ignore"):
        others = np.exp(logits, order="C")
    others.reshape(-1)[at_largest] = 0
    return others, logits.reshape(-1)[at_largest]


def _positions_of_largest(logits: Logits) -> NDArray[np.intp]:
    """Where the largest logit of each row is, among all values in the order of rows."""
    return np.arange(0, logits.size, logits.shape[1]) + logits.argmax(axis=1)
