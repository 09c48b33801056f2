"""Shares of rows that are rejected, with exact intervals."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, isclose, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

CONFIDENCE = 0.95
"""Confidence of each interval of a report."""
CONFIDENCE_TEXT = "95 %"


def rejected_share(rejected: NDArray[np.bool_]) -> dict[str, Any]:
    """Number and share of rejected rows, and the Clopper-Pearson interval of the share.

    Without rows the share is NaN, and the interval holds all shares.
    """
    n_rows, n_rejected = len(rejected), int(np.count_nonzero(rejected))
    if n_rows == 0:
        return _as_dict(0, 0, float("nan"), 0.0, 1.0)
    interval = binomtest(n_rejected, n_rows).proportion_ci(CONFIDENCE, method="exact")
    share = n_rejected / n_rows
    return _as_dict(n_rows, n_rejected, share, float(interval.low), float(interval.high))


def _as_dict(n_rows: int, n_rejected: int, share: float, low: float, high: float) -> dict[str, Any]:
    return {
        "n_rows": n_rows,
        "n_rejected": n_rejected,
        "rejected": share,
        "low": low,
        "high": high,
    }


def rejected_by_class(classes: NDArray, rejected: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The shares of the rows of each class, ascending."""
    found, numbers = np.unique(classes, return_inverse=True)
    return [
        {"class": label, **rejected_share(rejected[numbers == number])}
        for number, label in enumerate(found.tolist())
    ]


def percent(share: float) -> str:
    """The share for people, "-" where there is none; never 0 or 100 % where it is another."""
    if np.isnan(share):
        return "-"
    in_percent = 100 * share
    distance = min(in_percent, 100 - in_percent)
    if distance <= 0 or distance >= 0.1:
        return f"{in_percent:.1f} %"
    if distance < 1e-6:
        return f"{in_percent:.12g} %" if share > 0.5 else f"{in_percent:.2g} %"
    return f"{in_percent:.{1 - floor(log10(distance))}f} %"


def exact_percent(rate: float) -> str:
    """A rate that somebody chose, for people, with all of its digits."""
    rounded = f"{100 * rate:.1f}"
    return f"{rounded if isclose(float(rounded), 100 * rate) else format(100 * rate, '.10g')} %"


def interval(entry: Mapping[str, Any]) -> str:
    """The interval of an entry for people."""
    if entry["n_rows"] == 0:
        return "-"
    return between(entry["low"], entry["high"])


def between(low: float, high: float, to: str = "to") -> str:
    """Two shares for people."""
    return f"{percent(low).removesuffix(' %')} {to} {percent(high)}"
