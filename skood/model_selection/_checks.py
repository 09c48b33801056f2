"""Checks of the labels and groups that splitters get."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import indexable

from .._marks import check_mark_is_no_class, in_distribution, marks_beside_y, read_labels
from .._warnings import warn_user


def check_labels(splitter: Any, X: Any, y: Any) -> tuple[NDArray, NDArray[np.bool_]]:
    """The labels as a 1-D array, and the mask of the in-distribution rows.

    Raises
    ------
    ValueError
        If ``y`` is None, its length is not that of ``X``, it lacks labels, or does not hold both
        in-distribution and OOD rows, or if -1 is a class of the network.
    """
    name = type(splitter).__name__
    if y is None:
        raise ValueError(
            f"{name} needs y, in which -1 marks the OOD rows, but y is None." + marks_beside_y(X)
        )
    X, y = indexable(X, y)
    check_mark_is_no_class(X)
    y = read_labels(y)
    is_in = in_distribution(y)
    if is_in.all():
        raise ValueError(
            f"{name} needs OOD rows, marked -1 in y, but none of the {len(y)} rows is; y has dtype "
            f"{y.dtype}." + marks_beside_y(X)
        )
    if not is_in.any():
        raise ValueError(
            f"{name} needs in-distribution rows, but all {len(y)} rows are marked as OOD (-1)."
        )
    return y, is_in


def warn_if_groups(splitter: Any, groups: Any) -> None:
    """Warn about groups that a splitter ignores, as scikit-learn's splitters do."""
    if groups is not None:
        warn_user(f"The groups parameter is ignored by {splitter}")
