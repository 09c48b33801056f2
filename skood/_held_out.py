"""Rows that are held out of what is learnt."""

from __future__ import annotations

from math import ceil, floor
from numbers import Real
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

Rows = NDArray[np.intp]


def split_held_out(
    n_samples: int, labels: NDArray | None, validation: Any, random_state: int | RandomState | None
) -> tuple[Rows, Rows]:
    """Rows to learn from, and rows that are held out.

    Parameters
    ----------
    n_samples : int
        Number of rows.
    labels : ndarray of shape (n_samples,) or None
        Their classes: a random share holds as many of each, where its size and that of the rest
        allow it.
    validation : float in (0, 1) or splitter
        A random share, or the test part of the first split of a splitter.
    random_state : int, RandomState instance or None
        Seed of the random share.

    Returns
    -------
    learnt, held_out : ndarray of int
        Row numbers.
    """
    rows = np.arange(n_samples)
    if not isinstance(validation, Real):
        learnt, held_out = next(iter(validation.split(rows, labels)))
        return rows[learnt], rows[held_out]
    share = float(validation)
    stratify = labels if _can_stratify(n_samples, labels, share) else None
    learnt, held_out = train_test_split(
        rows, test_size=share, random_state=random_state, stratify=stratify
    )
    return learnt, held_out


def _can_stratify(n_samples: int, labels: NDArray | None, share: float) -> bool:
    if labels is None:
        return False
    _, counts = np.unique(labels, return_counts=True)
    sizes = ceil(share * n_samples), floor((1 - share) * n_samples)
    return bool(counts.min() > 1 and min(sizes) >= len(counts))
