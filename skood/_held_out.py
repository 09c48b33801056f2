"""Rows that are held out of what is learnt."""

from __future__ import annotations

from math import ceil
from numbers import Real
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from ._sklearn import HasMethods, Interval

Rows = NDArray[np.intp]

VALIDATION = [Interval(Real, 0, 1, closed="neither"), HasMethods("split"), None]
"""Constraint of the parameter ``validation``: a share, a splitter, or none."""


def held_out_rows(
    n_samples: int,
    labels: NDArray | None,
    validation: Any,
    random_state: int | RandomState | None,
    *,
    before: tuple[int, int] = (0, 0),
) -> tuple[Rows, Rows] | None:
    """The rows of :func:`split_held_out` in order, or None without ``validation``."""
    if validation is None:
        return None
    learnt, held_out = split_held_out(n_samples, labels, validation, random_state, before=before)
    return np.sort(learnt), np.sort(held_out)


def split_held_out(
    n_samples: int,
    labels: NDArray | None,
    validation: Any,
    random_state: int | RandomState | None,
    *,
    before: tuple[int, int] = (0, 0),
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
        Seed of the random share. Each of several batches needs its own: one seed would hold out the
        same places in all of them, where batches may have an order.
    before : tuple of int, default=(0, 0)
        Where rows come in batches, how many there were before and how many of them were held out:
        the share is that of all. Of a batch with less than one row to hold out, each row is held
        out by chance.

    Returns
    -------
    learnt, held_out : ndarray of int
        Row numbers.

    Raises
    ------
    ValueError
        If one of both would be empty, or the splitter names rows that there are not.
    """
    if not isinstance(validation, Real):
        return _first_split(n_samples, labels, validation)
    share, (n_before, n_held_before) = float(validation), before
    # Rounding makes no row more of .07 * 100.
    n_held_out = ceil(round(share * (n_before + n_samples), 9)) - n_held_before
    if n_before and n_samples * share < 1:
        # In turn, every fifth row of a periodic stream would be held out.
        chance = check_random_state(random_state).uniform(size=n_samples)
        rows = np.arange(n_samples)
        return rows[chance >= share], rows[chance < share]
    if n_before:
        return _draw(n_samples, labels, int(np.clip(n_held_out, 0, n_samples)), random_state)
    if not 0 < n_held_out < n_samples:
        raise ValueError(
            f"A share of {validation} held out of n_samples = {n_samples} in-distribution samples "
            "leaves none to learn from: at least 2 are needed."
        )
    return _draw(n_samples, labels, n_held_out, random_state)


def _draw(
    n_samples: int, labels: NDArray | None, n_held_out: int, random_state: int | RandomState | None
) -> tuple[Rows, Rows]:
    rows = np.arange(n_samples)
    if n_held_out in (0, n_samples):  # of a small batch
        return rows[n_held_out:], rows[:n_held_out]
    smaller = min(n_held_out, n_samples - n_held_out)
    learnt, held_out = train_test_split(
        rows,
        test_size=n_held_out,
        random_state=random_state,
        stratify=labels if _can_stratify(labels, smaller) else None,
    )
    return learnt, held_out


def _can_stratify(labels: NDArray | None, n_rows: int) -> bool:
    """Whether each class has two rows, and so many rows can have one of each."""
    if labels is None:
        return False
    _, counts = np.unique(labels, return_counts=True)
    return bool(counts.min() > 1 and n_rows >= len(counts))


def _first_split(n_samples: int, labels: NDArray | None, splitter: Any) -> tuple[Rows, Rows]:
    if isinstance(splitter, str):  # which has a method split, too
        raise ValueError(
            f"The 'validation' parameter must be a share between 0 and 1 or a splitter, got "
            f"{splitter!r}."
        )
    rows = np.arange(n_samples)
    parts = [np.asarray(part) for part in next(iter(splitter.split(rows, labels)))]
    both = np.concatenate(parts)
    n_common = len(both) - len(np.unique(both))
    if min(map(len, parts)) == 0 or n_common:
        raise ValueError(
            f"The first split of {splitter!r} must give rows to learn from and others that are "
            f"held out, got {len(parts[0])} and {len(parts[1])} rows with {n_common} in common."
        )
    if both.min() < 0 or both.max() >= n_samples:
        raise ValueError(
            f"{splitter!r} splits other rows than the {n_samples} in-distribution ones that it is "
            "given: rows marked -1 are left out before."
        )
    return parts[0], parts[1]
