"""Class labels: which arrays are some, which are unknown, and which one logits predict."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._rows import LazyArray
from ._values import LOGITS_ADVICE, check_finite, check_real, without_mask


def as_labels(labels: Any, name: str) -> Any:
    """A 1-D array of labels; rows of one that was made here before are returned unread.

    Raises
    ------
    ValueError
        If they are masked or not 1-D, or text and other things come in one list.
    """
    if isinstance(labels, LazyArray):
        return labels
    array = np.asarray(without_mask(labels, name))
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}.")
    if array.dtype.kind in "US" and isinstance(labels, list | tuple):
        types = {type(label).__name__ for label in labels if not isinstance(label, str | bytes)}
        if types:
            raise ValueError(f"{name} must not mix text and others, got {sorted(types)} as well.")
    # Text that came as Python objects could not be saved without pickle.
    is_text = array.dtype == object and all(isinstance(label, str) for label in array)
    return array.astype(str) if is_text else array


def unknown_labels(labels: NDArray, classes: NDArray) -> list[Any]:
    """Labels that are not among the classes, ascending."""
    if labels.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes))):
        # The usual case, without a sort: single samples are checked one after the other.
        labels = labels[(labels < 0) | (labels >= len(classes))]
    found = labels if labels.dtype == object else np.unique(labels)
    # Not `numpy.isin`, for which the label "1" is the class 1.
    unknown = set(found.tolist()).difference(classes.tolist())
    return sorted(unknown, key=lambda label: (str(type(label)), label))


def find_classes(lookup: NDArray, labels: NDArray) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """A position among ascending labels for each lookup class, and whether it is that class's.

    Positions of classes that are missing are within bounds all the same.
    """
    # Without the last label, no position is beyond them.
    positions = np.searchsorted(labels[:-1], lookup)
    return positions, labels[positions] == lookup


def label_kind(labels: NDArray) -> str:
    """Whether labels are "text", "bytes", "objects" or "numbers"."""
    return {"U": "text", "S": "bytes", "O": "objects"}.get(labels.dtype.kind, "numbers")


def largest_logits(logits: NDArray) -> NDArray[np.intp]:
    """Column of the largest logit of each sample, the first one on ties.

    Raises
    ------
    ValueError
        If logits are no real numbers or not finite: then no class is predicted.
    """
    check_real(logits, "logits")
    check_finite(logits, "logits", LOGITS_ADVICE)
    return logits.argmax(axis=1)
