"""How labels are read: which of them mark out-of-distribution (OOD) rows, and which are classes."""

from __future__ import annotations

import math
from collections import Counter
from numbers import Number, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import column_or_1d

from ._warnings import warn_user
from .activations import Activations

OOD_LABEL = -1
IN_A_SEARCH = (
    "In a search, the training parts of OODKFold and its like hold in-distribution rows alone: set "
    "return_train_score=False. Successive halving begins with few rows, so that a test part may "
    "hold one kind alone: raise min_resources until about 10 rows of each kind are left in one, "
    "which is 10 * n_splits / (share of the rarer kind) with OODKFold."
)
"""What to do where a part of the data has only in-distribution or only OOD rows."""


def read_labels(y: ArrayLike, name: str = "y", *, warn: bool = False) -> NDArray:
    """Labels as a 1-D array in which every mark of an OOD row is the number -1.

    NumPy makes the text "-1" of the number where it stands beside texts, and so do text files.
    So a text that reads as the number, as "-1", " -1" or "-1.0" do, is the mark too. Texts with
    marks become an array of objects, bytes become texts; all others keep their dtype. With
    ``warn``, a column of shape (n, 1) is warned about as by scikit-learn's classifiers.

    Raises
    ------
    ValueError
        If the labels are not 1-D, are missing for some rows, or are neither numbers nor texts.
    """
    labels = _as_column(y, warn)
    if labels.dtype.kind not in "biufUO":
        raise ValueError(
            f"{name} must hold class labels, numbers or texts, and -1 for out-of-distribution "
            f"rows; got dtype {labels.dtype}."
        )
    refuse_missing(labels, name)
    if labels.dtype.kind in "biuf":
        return labels
    if marks := [label for label in _distinct(labels) if _is_mark(label)]:
        labels = labels.astype(object)
        labels[np.any([labels == mark for mark in marks], axis=0)] = OOD_LABEL
    return labels


def in_distribution(labels: NDArray) -> NDArray[np.bool_]:
    """Which of the labels that were read are not the mark."""
    if labels.dtype.kind == "U":  # texts with marks are objects
        return np.ones(len(labels), dtype=bool)
    return np.asarray(labels != OOD_LABEL, dtype=bool)


def plain_labels(labels: NDArray) -> NDArray:
    """Labels of classes that stood beside -1 among objects, in the dtype that they have alone.

    NumPy neither sorts nor compares texts and numbers.

    Raises
    ------
    ValueError
        If there are both texts and other labels.
    """
    if labels.dtype != object:
        return labels
    kinds = {isinstance(label, str | bytes) for label in _distinct(labels)}
    if len(kinds) > 1:
        found = sorted(_distinct(labels), key=str)
        raise ValueError(f"Labels must be all texts or all numbers, got {found}.")
    return np.asarray(labels.tolist())


def check_mark_is_no_class(X: Any) -> None:
    """Refuse labels for a network that has a class -1 itself.

    Raises
    ------
    ValueError
        If -1 is among the classes of ``X``, or among its predictions where it has no classes.
    """
    known = getattr(X, "classes", None)
    if known is None:
        known = getattr(X, "predictions", None)
    if known is not None:
        refuse_mark_among(known)


def marks_beside_y(X: Any) -> str:
    """What to pass where samples come with labels that mark some of them; otherwise nothing."""
    labels = getattr(X, "labels", None)
    n_marked = 0 if labels is None else sum(map(_is_mark, labels.tolist()))
    if labels is None or n_marked == 0:
        return ""
    return (
        f" The labels that came with the inputs, X.labels, mark {n_marked} of {len(labels)} rows "
        "-1, but only y is read: pass y=X.labels. For a monitor, A = monitor[:-1].fit_transform(X) "
        "are the activations with their labels, and monitor.fit(A, A.labels) learns from them."
    )


def refuse_another_order(X: Any, labels: NDArray) -> None:
    """Refuse labels that are those which ``X`` carries, or mark as many rows, in another order.

    So it is where labels are given beside a loader that shuffles. Where ``X`` comes from one, each
    label that it carries, with a prediction, must go with one label.

    Raises
    ------
    ValueError
        If there are as many rows of each label, or marked -1, as in ``X.labels``, but others; or if
        the order of the rows is that of a loader, and the labels do not go by ``X.labels``.
    """
    _refuse_permuted(X, labels)
    if order := getattr(X, "_order", ""):
        _refuse_unrelated(X, labels.tolist(), order)


def _refuse_permuted(X: Any, labels: NDArray) -> None:
    carried = getattr(X, "labels", None)
    if carried is None or carried.dtype.kind == "f" or len(carried) != len(labels):
        return
    own, given = read_labels(carried).tolist(), labels.tolist()
    own_marks, marks = ([label == OOD_LABEL for label in part] for part in (own, given))
    pairs = set(zip(own, given, strict=True))
    # Labels under other names are in the same order.
    is_shuffled = Counter(own) == Counter(given) and len(pairs) > len(set(own))
    if is_shuffled or (own_marks != marks and any(marks) and sum(own_marks) == sum(marks)):
        raise ValueError(
            "y holds the labels of X.labels in another order, or marks as many rows -1, but "
            "others. The loader that X comes from shuffles: pass y=X.labels, or make the loader "
            "with shuffle=False."
        )


def _refuse_unrelated(X: Activations, labels: list, order: str) -> None:
    if X.labels is not None:
        own = X.labels.tolist()
        predicted = [None] * len(own) if X.predictions is None else X.predictions.tolist()
        known = list(zip(own, predicted, strict=True))
        if len(set(zip(known, labels, strict=True))) == len(set(known)):
            return
    raise ValueError(
        f"X has its rows in the order in which a loader yielded them, that of {order}, so that the "
        "labels y given beside it may be those of other samples. Make the loader with "
        "shuffle=False; or let it yield pairs of inputs and labels, and pass y=X.labels or what is "
        "made of it; or, if y is in the order of X, X.assign(labels=y)."
    )


def refuse_mark_among(classes: ArrayLike) -> None:
    """Raise a ValueError that says what to do, if one of the classes of a network is -1."""
    labels = read_labels(classes, "classes")
    if in_distribution(labels).all():
        return
    raise ValueError(
        f"The network has a class -1 among {sorted(_distinct(labels), key=str)}, but in y the "
        "label -1 marks out-of-distribution rows: nothing distinguishes the two. Fit the network "
        "on other labels, such as 0 and 1, and give these in y too; or pass y=None where all rows "
        "are in-distribution."
    )


def _as_column(y: Any, warn: bool) -> NDArray:
    if np.ma.is_masked(y):
        raise ValueError("y must hold a label for every row, but some are masked.")
    # An array of numbers is returned as it is, which takes scikit-learn longer than a small fit.
    is_plain = type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "biuf"
    labels: NDArray = y if is_plain else column_or_1d(y, warn=warn)
    if isinstance(y, list | tuple) and labels.dtype.kind in "US":
        # Beside texts, NumPy makes texts of numbers and of NaN.
        labels = column_or_1d(np.array(y, dtype=object))
        return plain if (plain := _as_texts(labels)) is not None else labels
    if labels.dtype.kind == "S":
        return np.char.decode(labels)
    return labels.astype(object) if labels.dtype.kind == "T" else labels


def _as_texts(labels: NDArray) -> NDArray | None:
    kinds = {type(label) for label in labels.tolist()}
    return np.asarray(labels.tolist()) if kinds <= {str, np.str_} else None


def _distinct(labels: NDArray) -> set[Any]:
    try:
        return set(labels.tolist())
    except TypeError as error:
        raise ValueError(f"Labels must be numbers or texts: {error}.") from error


def refuse_missing(labels: NDArray, name: str) -> None:
    """Raise a ValueError where an array of labels has none for some rows."""
    if labels.dtype.kind in "biu":
        return
    if labels.dtype.kind == "f":
        missing = labels[~np.isfinite(labels)].tolist()
    else:
        missing = [label for label in _distinct(labels) if _is_missing(label)]
    if missing:
        raise ValueError(
            f"{name} contains NaN, infinity or no label at all in some rows ({missing[0]!r}), but "
            "must hold numbers or texts: leave these rows out, or mark them -1 if they are "
            "out-of-distribution."
        )


def _is_missing(label: Any) -> bool:
    if isinstance(label, str | bytes):
        return label == "nan"  # what NumPy makes of NaN beside texts
    if isinstance(label, Real):
        return not math.isfinite(label)
    # None, NA of pandas and NaT of NumPy, beside things that nobody names classes by.
    return not isinstance(label, Number | np.bool_) or bool(label != label)


def _is_mark(label: Any) -> bool:
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    if not isinstance(label, str):
        return bool(label == OOD_LABEL)
    try:
        return float(label.replace("\N{MINUS SIGN}", "-")) == OOD_LABEL
    except ValueError:
        return False


def in_distribution_mask(y: ArrayLike, n_samples: int) -> NDArray[np.bool_]:
    """Mask of shape (n_samples,) of the rows that are not marked -1, as :func:`read_labels` reads.

    Raises
    ------
    ValueError
        If ``y`` has another length, or lacks labels.
    """
    labels = read_labels(y)
    if len(labels) != n_samples:
        raise ValueError(f"X has {n_samples} samples, but y has {len(labels)}.")
    return in_distribution(labels)


def in_distribution_rows(
    y: ArrayLike | None, n_samples: int, *, allow_none: bool = False
) -> NDArray[np.intp]:
    """Numbers of the rows that a detector may learn from: all but those marked -1.

    Raises
    ------
    ValueError
        If no row is left, unless that is allowed, as in a later one of several batches.
    """
    if y is None:
        return np.arange(n_samples)
    rows = np.flatnonzero(in_distribution_mask(y, n_samples))
    if len(rows) == 0 and not allow_none:
        raise ValueError(
            f"All {n_samples} samples are marked out-of-distribution (y == -1): none is left."
        )
    return rows


def take_rows(
    X: Activations, y: ArrayLike | None, rows: NDArray[np.intp]
) -> tuple[Activations, NDArray | None]:
    """The given in-distribution rows of ``X`` and ``y``; a view of the whole where they are all.

    Raises
    ------
    ValueError
        If labels are given and are of several kinds, or -1 is a class of the network.
    """
    labels = None
    if y is not None:
        check_mark_is_no_class(X)
        read = read_labels(y)
        refuse_another_order(X, read)
        _warn_if_marks_are_a_class(X, read)
        labels = plain_labels(read[rows])
    return X if len(rows) == len(X) else X[rows], labels


def _warn_if_marks_are_a_class(X: Activations, labels: NDArray) -> None:
    """Warn where -1 and one other label are what a network of two classes predicts.

    Whoever codes two classes as -1 and 1 and gives a network that counts them as 0 and 1 would
    have one of them left out.
    """
    if X.classes is None or len(X.classes) != 2 or len(set(labels.tolist())) != 2:
        return
    is_first, is_in = X.predictions == X.classes[0], in_distribution(labels)
    if is_in.all() or abs(is_first[is_in].mean() - is_first[~is_in].mean()) < 0.8:
        return
    warn_user(
        "The rows marked -1 are most of those that the network takes for one of its two classes: "
        "is -1 the label of that class? Here it marks out-of-distribution rows, which are left "
        "out. If they are in-distribution, code the classes as 0 and 1, or pass y=None; if the "
        "marks are meant, all is well."
    )


def labels_at(labels: NDArray | None, rows: NDArray[np.intp]) -> NDArray | None:
    """Labels of rows that were found; -1, or no text, where a row of -1 says that there is none."""
    if labels is None:
        return None
    none = "" if labels.dtype.kind in "US" else OOD_LABEL
    return np.where(rows < 0, none, labels[rows])


def roc_auc_of_marks(X: Any, y: ArrayLike, scores: NDArray) -> float:
    """Area under the ROC curve of telling in-distribution rows of ``X`` from those marked -1.

    It is NaN, with a warning, where all rows are marked or none is.

    Raises
    ------
    ValueError
        If -1 is a class of the network, or ``y`` has another length or order than ``X``.
    """
    check_mark_is_no_class(X)
    scores = np.asarray(scores)  # in this process, where they are computed elsewhere
    is_in = in_distribution_mask(y, len(scores))
    refuse_another_order(X, read_labels(y))
    if is_in.all() or not is_in.any():
        warn_user(
            f"There is no area under a ROC curve of {is_in.sum()} in-distribution and "
            f"{(~is_in).sum()} OOD rows (y == -1): the score is NaN. {IN_A_SEARCH}",
            UndefinedMetricWarning,
        )
        return np.nan
    if np.isinf(scores).any() and not np.isnan(scores).any():
        scores = np.unique(scores, return_inverse=True)[1]
    return float(roc_auc_score(is_in, scores))
