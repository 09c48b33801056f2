"""What is refused of the values of arrays, with where they are and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING = 32 * float(np.finfo(np.float32).eps)
"""Relative error of what may have been computed in float32, in one batch size or another."""
ANY_SIZE = (0.0, np.inf)
SQUARABLE = (1e-150, 1e150)
"""Sizes of values whose squares, and sums of many of these, a 64-bit float can hold."""

LOGITS_ADVICE = (
    "The network has no usable output for them: look for inputs that are not finite or weights "
    "that have diverged, and leave these samples out. Give classes that are masked a large "
    "negative logit, not -inf."
)


def differ_within_classes(rows: Floats, classes: NDArray[np.intp], read_as: np.dtype) -> bool:
    """Whether rows of a class, of values up to 1, differ by more than the rounding of a type."""
    precision = np.finfo(read_as if read_as.kind == "f" else np.float64).eps
    first = np.unique(classes, return_index=True)[1]
    return bool((np.abs(rows - rows[first[classes]]) > 8 * precision).any())


def without_mask(array: Any, name: str) -> Any:
    """The plain array under a masked one that hides nothing; other arrays unchanged.

    Raises
    ------
    ValueError
        If an entry is masked, which would be read as what is under the mask.
    """
    if not isinstance(array, np.ma.MaskedArray):
        return array
    if np.ma.is_masked(array):
        raise ValueError(
            f"{name} is a masked array with {np.ma.count_masked(array)} masked value(s), which "
            "cannot be read: leave these samples out, or fill them with values of your choice by "
            "filled()."
        )
    return np.ma.getdata(array)


def is_real(array: NDArray) -> bool:
    """Whether an array holds booleans, integers or floating-point numbers."""
    return array.dtype.kind in "biuf"


def check_real(array: NDArray, name: str) -> None:
    """Raise a ValueError where an array holds anything else than real numbers."""
    if not is_real(array):
        raise ValueError(
            f"{name} must hold real numbers, but its dtype is {array.dtype}: convert it, for "
            "example by astype(float)."
        )


def all_finite(array: NDArray) -> bool:
    """Whether no value is NaN or infinite."""
    if array.dtype.kind != "f":
        return True
    # A sum is far faster for a few samples, and one of squares is for many: of BLAS.
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(_sum_that_shows(array)) or bool(np.isfinite(array).all())


def _sum_that_shows(array: NDArray) -> Any:
    """A sum that is not finite where a value is not."""
    if array.flags.c_contiguous and array.dtype.char in "fd":
        flat = array.reshape(-1)
        return np.dot(flat, flat)
    return array.sum()


def check_finite(array: NDArray, name: str, advice: str = "") -> None:
    """Raise a ValueError that says which rows of an array of numbers are not finite."""
    if not all_finite(array):
        refuse_not_finite([array], name, advice)


def refuse_not_finite(blocks: Iterable[NDArray], name: str, advice: str = "") -> NoReturn:
    """Raise a ValueError that says which rows of an array, given in blocks, are not finite."""
    is_finite, found = [], {"NaN": False, "infinity": False}
    for block in blocks:
        is_finite.append(np.isfinite(block).reshape(len(block), -1).all(axis=1))
        found["NaN"] |= bool(np.isnan(block).any())
        found["infinity"] |= bool(np.isinf(block).any())
    rows = np.flatnonzero(~np.concatenate(is_finite))
    kinds = " and ".join(kind for kind, is_there in found.items() if is_there)
    raise ValueError(
        f"{name} contains {kinds} in {len(rows)} of {sum(map(len, is_finite))} rows, the first of "
        f"them row {rows[0]}. {advice}".rstrip()
    )


def may_leave_range(dtype: np.dtype, sizes: tuple[float, float]) -> bool:
    """Whether values of a type may be of sizes that cannot be computed with."""
    return sizes != ANY_SIZE and dtype.kind == "f" and dtype.itemsize >= 8


def largest_size(array: NDArray) -> float:
    """The size of the largest of some finite values."""
    return float(max(array.max(), -array.min()))


def check_size(largest: float, name: str, sizes: tuple[float, float], *, reset: bool) -> None:
    """Raise a ValueError where finite values are larger, or all smaller, than can be computed with.

    Rows of new samples may be as small as they like: they are compared with larger ones.
    """
    if largest > sizes[1] or (reset and 0 < largest < sizes[0]):
        raise ValueError(
            f"{name} holds values of a size of up to {largest:.1e}, whose squares leave the range "
            f"of 64-bit floats. Multiply the layer by a constant: its largest value has to be "
            f"between {max(sizes[0], SQUARABLE[0]):.0e} and {sizes[1]:.0e}."
        )


def below_all(scores: NDArray | list[float]) -> float:
    """A number below all scores that are finite, by 1 or more; -1 where none is."""
    smallest = float(np.min(scores, where=np.isfinite(scores), initial=np.inf))
    smallest = smallest if np.isfinite(smallest) else 0.0
    return min(smallest - 1, float(np.nextafter(smallest, -np.inf)))


ON_LOGITS = (
    "a single logit becomes the logits of two classes with ActivationExtractor(network, "
    "logits='binary'), and logits= also names the one of several outputs that holds them"
)
"""What to do where a network seems to have no logits."""


def on_logits(why: str | None) -> str:
    """What to do where a network has no logits, after the reason where that is known."""
    return f"{ON_LOGITS}; here {why}" if why else ON_LOGITS
