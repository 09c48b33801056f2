"""Rows that are held out of what is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from numbers import Real
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from ._sklearn import HasMethods, Interval

Rows = NDArray[np.intp]

VALIDATION = [Interval(Real, 0, 1, closed="neither"), HasMethods("split"), None]
"""Constraint of the parameter ``validation``: a share, a splitter, or none."""


def row_numbers(part: Any, n_samples: int, splitter: Any) -> Rows:
    """The rows of one part of a split, given by their numbers or as a Boolean mask.

    Raises
    ------
    ValueError
        If it is neither, or a number is negative or too large.
    """
    rows = np.asarray(part)
    if rows.dtype == bool and rows.shape == (n_samples,):
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and len(rows)):
        raise ValueError(
            f"{named(splitter)} must give the rows of each part by their numbers, or as a mask "
            f"with a truth value for each of {n_samples} rows; got an array of shape {rows.shape} "
            f"and dtype {rows.dtype}."
        )
    outside = rows[(rows < 0) | (rows >= n_samples)]
    if len(outside):
        raise ValueError(
            f"{named(splitter)} names the row {outside[0]}, but rows are numbered from 0 to "
            f"{n_samples - 1}."
        )
    return rows.astype(np.intp)


def named(splitter: Any) -> str:
    """A splitter in a message; of a list of splits, not all of their rows."""
    is_list = isinstance(splitter, list | tuple)
    return f"a list of {len(splitter)} splits" if is_list else repr(splitter)


def held_out_rows(
    n_samples: int,
    labels: NDArray | None,
    validation: Any,
    random_state: int | RandomState | None,
) -> tuple[Rows, Rows] | None:
    """The rows of :func:`split_held_out` in order, or None without ``validation``."""
    if validation is None:
        return None
    learnt, held_out = split_held_out(n_samples, labels, validation, random_state)
    return np.sort(learnt), np.sort(held_out)


def split_held_out(
    n_samples: int,
    labels: NDArray | None,
    validation: Any,
    random_state: int | RandomState | None,
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

    Raises
    ------
    ValueError
        If one of both would be empty, or the splitter cannot split the rows or names others.
    """
    if not isinstance(validation, Real):
        return _first_split(n_samples, labels, validation)
    # Rounding makes no row more of .07 * 100.
    n_held_out = ceil(round(float(validation) * n_samples, 9))
    if not 0 < n_held_out < n_samples:
        raise ValueError(
            f"A share of {validation} held out of n_samples = {n_samples} in-distribution samples "
            "leaves none to learn from: at least 2 are needed."
        )
    learnt, held_out = train_test_split(
        np.arange(n_samples),
        test_size=n_held_out,
        random_state=random_state,
        stratify=labels if _can_stratify(labels, min(n_held_out, n_samples - n_held_out)) else None,
    )
    return learnt, held_out


def held_out_of_batch(
    n_samples: int,
    labels: NDArray | None,
    validation: Any,
    seeds: tuple[int, int],
    n_before: tuple[int, int],
) -> tuple[Rows, Rows]:
    """Rows of a later batch to learn from, and those that are held out, both in order.

    Of a share, each row is held out with the same probability, whatever its place in its batch and
    the size of this, and after any number of batches the share of all rows is kept, to few rows.
    Classes do not count: shares of them that are rounded alike in each batch would add up.

    Parameters
    ----------
    n_samples : int
        Number of rows, which may be 0 or 1.
    labels : ndarray of shape (n_samples,) or None
        Their classes, for a splitter.
    validation : float in (0, 1) or splitter
        As in :func:`split_held_out`.
    seeds : tuple of int
        Seed of all batches, and that of this one.
    n_before : tuple of int
        How many rows there were before, and how many of them were held out.
    """
    if not isinstance(validation, Real):
        learnt, held_out = _first_split(n_samples, labels, validation)
        return np.sort(learnt), np.sort(held_out)
    random = RandomState(seeds)
    share = _ShareOfStream(float(validation), seeds[0])
    rows = random.permutation(n_samples)
    n_held_out = share.of_next(n_samples, *n_before, random)
    return np.sort(rows[n_held_out:]), np.sort(rows[:n_held_out])


@dataclass(frozen=True)
class _ShareOfStream:
    """How many rows of a stream are held out: the share of each block of rows, rounded at random.

    A block has as many rows as one that is held out, or one that is not, stands for. A batch that
    ends within a block has as many of those of the block as a random part of it has.
    """

    share: float
    seed: int

    def of_next(
        self, n_samples: int, n_before: int, n_held_before: int, random: RandomState
    ) -> int:
        """How many of the next rows, after so many of which so many were held out."""
        block = ceil(round(1 / min(self.share, 1 - self.share), 9))
        end = n_before + n_samples
        last = max(n_before, end // block * block)
        n_whole = self._missing(last, n_held_before, last - n_before)
        n_open = (last // block + 1) * block - last
        missing = self._missing(last + n_open, n_held_before + n_whole, n_open)
        return n_whole + int((random.permutation(n_open)[: end - last] < missing).sum())

    def _missing(self, end: int, n_held: int, n_rows: int) -> int:
        """How many of the last rows before the end of a block, where so many are held out."""
        chance = RandomState((self.seed, end)).random_sample()
        due = floor(round(self.share * end, 9) + chance)
        return int(np.clip(due - n_held, 0, n_rows))


def needs_labels(splitter: Any) -> bool:
    """Whether a splitter of scikit-learn splits by classes."""
    return type(splitter).__name__.startswith("Stratified")


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
    try:
        first = next(iter(splitter.split(rows, labels)))
    except (TypeError, ValueError) as error:
        raise ValueError(_why_no_split(n_samples, splitter, labels, error)) from error
    parts = _parts(first, n_samples, splitter)
    both = np.concatenate(parts)
    n_common = len(both) - len(np.unique(both))
    if min(map(len, parts)) == 0 or n_common:
        raise ValueError(
            f"The first split of {splitter!r} must give rows to learn from and others that are "
            f"held out, got {len(parts[0])} and {len(parts[1])} rows with {n_common} in common."
        )
    return parts[0], parts[1]


def _parts(split: Any, n_samples: int, splitter: Any) -> list[Rows]:
    try:
        return [row_numbers(part, n_samples, splitter) for part in split]
    except ValueError as error:
        raise ValueError(
            f"{splitter!r} splits other rows than the {n_samples} in-distribution ones that it is "
            f"given: rows marked -1 are left out before. {error}"
        ) from error


def _why_no_split(n_samples: int, splitter: Any, labels: NDArray | None, error: Exception) -> str:
    if labels is None and needs_labels(splitter):
        return f"{splitter!r} splits by the classes of the rows: pass class labels as y."
    why = f"{splitter!r} cannot split {n_samples} in-distribution rows: {error}"
    if "group" in str(error).lower():
        return (
            f"{why} No groups reach validation. Name the rows of whole groups by "
            "validation=PredefinedSplit(test_fold), which has for each in-distribution row 0 where "
            "it is held out and -1 where not; or calibrate by groups: "
            "skood.calibration.ConformalDetector(detector, cv=GroupKFold()).fit(X, groups=groups)."
        )
    return f"{why} Each batch is split by itself: give larger ones, or validation as a share."
