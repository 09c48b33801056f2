"""The rows that a report is made of: what the network says of them, and what their labels say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline

from .._classes import check_class_labels, tells_classes
from .._labels import unknown_labels
from .._marks import (
    check_mark_is_no_class,
    in_distribution,
    plain_labels,
    read_labels,
    refuse_another_order,
)
from ..activations import Activations
from ..extraction import ActivationExtractor

TEST = "test rows"
ERRORS = "misclassified test rows"
MARKED = "test rows marked -1"
"""Names of rows of the test in tables."""
_OWN_NAMES = (TEST, ERRORS, MARKED)

_MANY_GROUPS = 20
"""As many different numbers may be groups, however few rows there are."""


def split_at_network(monitor: Any) -> tuple[Pipeline, Any]:
    """The steps up to activations, and the same monitor from the extractor on.

    The extractor lets activations pass, so that the network runs once for all that follows.
    """
    number = next(
        i for i, (_, step) in enumerate(monitor.steps) if isinstance(step, ActivationExtractor)
    )
    rest = copy(monitor)
    rest.steps = monitor.steps[number:]
    return Pipeline(monitor.steps[: number + 1]), rest


def checked_sets(out_sets: Mapping[str, Any] | None) -> dict[str, Any]:
    """The sets by their names, which are texts.

    Raises
    ------
    TypeError
        If they are no mapping.
    ValueError
        If a set is None or has no rows, or if two names are one text, or one is that of rows of
        the test.
    """
    if out_sets is None:
        return {}
    if not isinstance(out_sets, Mapping):
        raise TypeError(
            "out_sets must be a mapping of names to inputs of the network, such as "
            f"{{'noise': X_noise}}, got {type(out_sets).__name__}."
        )
    for name, X in out_sets.items():
        if X is None or (hasattr(X, "__len__") and len(X) == 0):
            found = "None" if X is None else f"a {type(X).__name__} without rows"
            raise ValueError(
                f"out_sets[{name!r}] is {found}, of which nothing can be reported: leave it out."
            )
    _check_names(out_sets)
    return {str(name): X for name, X in out_sets.items()}


def _check_names(out_sets: Mapping[Any, Any]) -> None:
    names: dict[str, Any] = {}
    for name in out_sets:
        if str(name) in _OWN_NAMES:
            raise ValueError(
                f"out_sets has the name {name!r}, by which a report calls rows of the test: give "
                "the set another one."
            )
        if (other := names.setdefault(str(name), name)) is not name:
            raise ValueError(
                f"out_sets has the names {other!r} and {name!r}, which are the same text: give one "
                "of them another name."
            )


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Errors inside say what they speak of."""
    try:
        yield
    except Exception as error:
        error.add_note(f"This is about {what}, of which a report was to be made.")
        raise


@dataclass(frozen=True)
class Labels:
    """What is known of the rows of a test set.

    Attributes
    ----------
    is_in : ndarray of shape (n_samples,), dtype bool
        Whether the row is in-distribution.
    classes : ndarray of shape (n_in_distribution_samples,) or None
        Labels of the in-distribution rows, where they tell classes.
    is_correct : ndarray of shape (n_in_distribution_samples,), dtype bool or None
        Whether the network classifies these rows correctly, where that is known.
    why_unknown : str
        Why it is not.
    """

    is_in: NDArray[np.bool_]
    classes: NDArray | None = None
    is_correct: NDArray[np.bool_] | None = None
    why_unknown: str = ""

    @classmethod
    def of(cls, A: Activations, y: ArrayLike | None, target: str) -> Labels:
        """Read the labels that are given, or else those that came with the inputs.

        Raises
        ------
        ValueError
            If there are more or fewer labels than rows, all rows are marked -1, or a label is no
            class of the network whose errors are looked for.
        """
        if y is None:
            y, why = _carried(A)
            if y is None:
                return cls(np.ones(len(A), dtype=bool), why_unknown=why)
        labels = _checked(A, y)
        is_in = in_distribution(labels)
        classes = plain_labels(labels[is_in])
        if target != "misclassified" and not tells_classes(classes):
            return cls(is_in, why_unknown="the labels are one and the same for all rows")
        if A.predictions is None and _are_values(classes):
            return cls(is_in, why_unknown="the network predicts no classes")
        return cls(is_in, classes, *_correctness(A[is_in], classes, target))


def _are_values(labels: NDArray) -> bool:
    """Whether labels are numbers to be predicted, and no classes or groups of rows."""
    if labels.dtype.kind not in "biuf":
        return False
    is_fractional = bool(np.any(labels != np.floor(labels)))
    return is_fractional or len(np.unique(labels)) > max(_MANY_GROUPS, len(labels) / 10)


def _carried(A: Activations) -> tuple[NDArray | None, str]:
    """Labels that came with the inputs, where they are classes of the network; else why not."""
    if A.labels is None:
        return None, "no labels were given (y_test)"
    if A.predictions is None:
        return None, "the network predicts no classes"
    known = A.predictions if A.classes is None else A.classes
    try:
        classes = plain_labels((labels := read_labels(A.labels))[in_distribution(labels)])
        are_classes = not unknown_labels(classes, known)
    except ValueError:  # targets of another kind, or missing ones
        are_classes = False
    if are_classes:
        return labels, ""
    return None, "the labels that came with the rows are no classes of the network"


def _checked(A: Activations, y: ArrayLike) -> NDArray:
    labels = read_labels(y, "y_test")
    if len(labels) != len(A):
        raise ValueError(f"X_test has {len(A)} rows, but y_test has {len(labels)} labels.")
    check_mark_is_no_class(A)
    refuse_another_order(A, labels)
    if not in_distribution(labels).any():
        raise ValueError(
            f"y_test marks all {len(labels)} rows of X_test as out-of-distribution (-1): a report "
            "needs in-distribution rows, of which it counts the false alarms. Give the others in "
            "out_sets."
        )
    return labels


def _correctness(
    A: Activations, classes: NDArray, target: str
) -> tuple[NDArray[np.bool_] | None, str]:
    if target != "ood":
        check_class_labels(A, classes, "A report of a monitor that looks for errors")
    if A.predictions is None:
        return None, "the network predicts no classes"
    if A.classes is not None and unknown_labels(classes, A.classes):
        return None, "some labels are no classes of the network"
    return np.asarray(A.predictions == classes), ""
