"""Checks that the parts of `Activations` fit together."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._labels import unknown_labels
from ._linear_head import LinearHead
from ._rows import LazyArray


def check_classes(classes: NDArray | None, logits: Any) -> None:
    """Raise a ValueError where classes are not different labels of the columns of the logits."""
    if logits is not None and (logits.ndim != 2 or logits.shape[1] == 0):
        raise ValueError(f"logits must have shape (n_samples, n_classes), got {logits.shape}.")
    if classes is None:
        return
    if logits is not None and classes.shape != logits.shape[1:]:
        raise ValueError(
            f"logits have {logits.shape[1]} classes, but classes has shape {classes.shape}."
        )
    labels = classes.tolist()
    if any(label is None or label != label for label in labels):  # NaN differs from itself
        raise ValueError(f"classes must not hold None or NaN, got {labels}.")
    if len(set(labels)) < len(labels):
        twice = [label for label in labels if labels.count(label) > 1]
        raise ValueError(f"classes must be different from one another, but hold {twice}.")


def check_head(head: Any, classes: NDArray | None) -> None:
    """Check that a head is a `LinearHead` of that many classes, or None.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If it has another number of classes.
    """
    if head is None:
        return
    if not isinstance(head, LinearHead):
        raise TypeError(f"head must be a LinearHead or None, got {type(head)}.")
    if classes is not None and len(classes) != head.shape[0]:
        raise ValueError(
            f"Activations need logits of {head.shape[0]} classes, as the head has, but got "
            f"{len(classes)}."
        )


def check_width_of_head(head: LinearHead | None, what: str, read: Any) -> None:
    """Raise a ValueError where what the head reads, of that name, has another width."""
    if head is not None and read is not None and prod(read.shape[1:]) != head.shape[1]:
        raise ValueError(
            f"The head reads {head.shape[1]} units, but {what} of shape {read.shape[1:]} "
            "is what it is to read."
        )


def check_predictions(predictions: Any, classes: NDArray | None) -> None:
    """Raise a ValueError where predictions are not among the classes."""
    # Rows of other Activations have been checked there.
    if predictions is None or classes is None or isinstance(predictions, LazyArray):
        return
    if unknown := unknown_labels(predictions, classes):
        raise ValueError(
            f"predictions must be among the classes {classes.tolist()}, got {unknown}."
        )


def check_as_many_classes(logits: ArrayLike | None, present: Any) -> None:
    """Raise a ValueError where new logits have other classes than the present ones."""
    if logits is None or present is None:
        return
    if (shape := np.shape(logits))[1:] != present.shape[1:]:
        raise ValueError(
            f"The new logits must have {present.shape[1]} classes, as the present ones "
            f"and what the network predicted, got shape {shape}: make new Activations of the "
            "layers and these logits."
        )
