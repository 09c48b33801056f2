"""Images and class labels as a network is trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets

from .._classes import class_columns
from .._labels import unknown_labels
from .._marks import in_distribution_rows, plain_labels, read_labels


def check_images(X: Any, image_shape: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    """Images as an array of shape (n, channels, height, width), dtype float32.

    Parameters
    ----------
    X : array-like of shape (n, height, width) or (n, channels, height, width)
        Images. Without an axis of channels they have one. Values of dtype uint8 are divided by 255.
    image_shape : (int, int, int), default=None
        The channels, height and width that they must have.

    Raises
    ------
    ValueError
        If they have other shapes or dtypes, values that are not finite, or there are none.
    """
    dtype = np.asarray(X).dtype
    if dtype.kind in "iu" and dtype != np.uint8:
        raise ValueError(f"Images must be real-valued or of dtype uint8, got {dtype}.")
    X = check_array(X, allow_nd=True, dtype=np.float32, order="C", input_name="X")
    if X.ndim not in (3, 4) or X.size == 0:
        raise ValueError(
            "Expected images, of shape (n, height, width) or (n, channels, height, width), "
            f"got an array of shape {X.shape}."
        )
    X = X / np.float32(255) if dtype == np.uint8 else X
    X = X[:, np.newaxis] if X.ndim == 3 else X
    if image_shape is not None and X.shape[1:] != image_shape:
        raise ValueError(
            f"The network was trained on images of {image_shape} (channels, height, width), "
            f"got images of {X.shape[1:]}."
        )
    return X


def find_classes_of(y: ArrayLike, n_samples: int) -> NDArray:
    """Labels of the classes, ascending, without the mark of out-of-distribution samples.

    Raises
    ------
    ValueError
        If there are less than two, ``y`` is no array of labels, or has another length.
    """
    if y is None:
        raise ValueError("The class labels y are needed, got None.")
    labels = read_labels(y, warn=True)
    known = plain_labels(labels[in_distribution_rows(labels, n_samples)])
    check_classification_targets(known)
    classes = np.unique(known)
    if len(classes) < 2:
        raise ValueError(
            f"At least two classes are needed, got {classes.tolist()} beside rows marked -1, which "
            "are out-of-distribution. If -1 is one of two classes, give them other labels, such as "
            "0 and 1."
            if len(known) < len(labels)
            else f"At least two classes are needed, got {classes.tolist()}."
        )
    return classes


def encode_classes(X: NDArray, y: ArrayLike, classes: NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    """In-distribution samples, and their classes as positions among ``classes``.

    Raises
    ------
    ValueError
        If a label is not among the classes.
    """
    labels = read_labels(y)
    rows = in_distribution_rows(labels, len(X))
    known = plain_labels(labels[rows])
    if unknown := unknown_labels(known, classes):
        raise ValueError(
            f"Expected labels among {classes.tolist()}, or -1 for out-of-distribution; "
            f"got {unknown}."
        )
    kept = X if len(rows) == len(X) else X[rows]
    return kept, class_columns(known, classes).astype(np.int64)
