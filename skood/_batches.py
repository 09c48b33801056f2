"""A few rows at a time: the one bound on the memory of computations with many rows."""

from __future__ import annotations

from collections.abc import Iterator

from sklearn import get_config

from ._memory import memory_left
from ._warnings import warn_user

_BYTES_PER_VALUE = 8
_BYTES_IN_CACHE = 2**21
"""Values that a step or two look at are found faster again in a processor's cache."""
_BYTES_OF_FEW = 2**16
_BYTES_OF_PRODUCTS = 2**25
"""A matrix that is multiplied is read anew for each batch, so these are better larger."""
_SHARE_OF_MEMORY_LEFT = 1 / 8
"""What a block may take of it: what is computed of its rows takes as much again, and more."""


def row_batches(
    n_rows: int, n_values: int, *, are_products: bool = False, n_copies: int = 1
) -> Iterator[slice]:
    """Slices of as many rows as may be held at a time.

    They take no more than is of any use, and at most scikit-learn's ``working_memory``
    (:func:`sklearn.set_config`).

    Parameters
    ----------
    n_rows : int
        Number of all rows.
    n_values : int
        How many values are held for each row, counted as 64-bit numbers.
    are_products : bool, default=False
        Whether a batch is multiplied by, or compared with, a large matrix.
    n_copies : int, default=1
        How many arrays of this size are computed of a batch, which are to share the cache.

    Returns
    -------
    iterator of slice
        At least one row each, in ascending order.
    """
    row_bytes = _BYTES_PER_VALUE * max(1, n_values)
    useful = _BYTES_OF_PRODUCTS if are_products else _BYTES_IN_CACHE
    allowed = int(get_config()["working_memory"] * 2**20)
    if allowed < row_bytes:
        warn_user(
            f"One row takes {row_bytes / 2**20:.3g} MiB, but scikit-learn's working_memory is "
            f"{allowed / 2**20:.3g} MiB: rows are taken one at a time. Allow more by "
            "sklearn.set_config(working_memory=...)."
        )
    if n_rows * row_bytes <= min(_BYTES_OF_FEW, allowed):  # to ask for memory takes longer
        return iter([slice(0, n_rows)] if n_rows else [])
    n_at_once = max(1, min(useful // n_copies, block_bytes()) // row_bytes)
    starts = range(0, n_rows, n_at_once)
    return (slice(start, min(start + n_at_once, n_rows)) for start in starts)


def block_bytes() -> int:
    """How much memory a block of rows may take.

    It is scikit-learn's ``working_memory``, or a share of the memory that is left where this is
    less: by the limits of the process, of its container and of the machine. Blocks of less than
    2 MiB would take too long, and save nothing beside what else a computation takes.
    """
    allowed = get_config()["working_memory"] * 2**20
    return int(min(allowed, max(_BYTES_IN_CACHE, _SHARE_OF_MEMORY_LEFT * memory_left())))


def rows_of_block(n_values: int) -> int:
    """How many rows of so many values, counted as 64-bit numbers, a block may have: 1 or more."""
    return max(1, block_bytes() // (_BYTES_PER_VALUE * max(1, n_values)))
