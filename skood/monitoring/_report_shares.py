"""Shares of rows that are rejected, with exact intervals."""

from __future__ import annotations

from collections.abc import Mapping
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
    """The share for people, "-" where there is none."""
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"


def interval(entry: Mapping[str, Any]) -> str:
    """The interval of an entry for people."""
    if entry["n_rows"] == 0:
        return "-"
    return f"{100 * entry['low']:.1f} to {percent(entry['high'])}"
