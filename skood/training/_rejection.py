"""Class labels of classifiers with a reject option."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import check_classification_targets

from .._classes import class_columns
from .._labels import unknown_labels
from .._marks import in_distribution_rows, plain_labels, read_labels


class RejectingClassifierMixin(ABC):
    """Verdicts and accuracy of a classifier that may reject a sample.

    The classifier has ``score_samples``, ``predict`` and the parameter ``reject_label``, what
    ``predict`` returns for samples that it rejects.
    """

    reject_label: Any
    offset_: float

    @abstractmethod
    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Score samples: the higher, the more in-distribution."""

    @abstractmethod
    def predict(self, X: Any) -> NDArray:
        """Predict labels, with ``reject_label`` for samples that are rejected."""

    def is_ood(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Flag out-of-distribution samples: those that score below ``offset_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as ``fit`` takes them.

        Returns
        -------
        is_ood : ndarray of shape (n_samples,), dtype bool
            True for out-of-distribution samples.
        """
        return self._is_rejected(self.score_samples(X))

    def _is_rejected(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        # A score that is not a number accepts nothing.
        return ~(scores >= self.offset_)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Measure the accuracy of ``predict``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as ``fit`` takes them.
        y : array-like of shape (n_samples,)
            Their labels. With ``reject_label=-1``, a sample marked -1 counts as correct where it is
            rejected; with another one or none, it is always wrong.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        accuracy : float
            Fraction of the samples whose prediction equals the label.
        """
        return accuracy(self.predict(X), y, sample_weight)


def label_rejected(labels: NDArray, is_ood: NDArray[np.bool_], reject_label: Any) -> NDArray:
    """Labels, with ``reject_label`` in place of those of out-of-distribution samples.

    Without a ``reject_label`` they are returned unchanged. Where labels and ``reject_label`` are of
    different kinds, as texts and -1, the result has the dtype object.
    """
    if reject_label is None:
        return labels
    rejected = np.asarray(reject_label)
    kinds = {labels.dtype.kind, rejected.dtype.kind}
    same_kind = len(kinds) == 1 or kinds <= set("iuf")
    answers = labels.astype(np.result_type(labels, rejected) if same_kind else object)
    answers[is_ood] = reject_label
    return answers


def accuracy(answers: NDArray, y: ArrayLike, sample_weight: ArrayLike | None) -> float:
    """Weighted fraction of the answers that equal the labels, which may be of other kinds."""
    labels = read_labels(y)
    check_consistent_length(answers, labels, sample_weight)
    is_right = answers.astype(object) == labels.astype(object)
    weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    return float(np.average(is_right, weights=weights))


def infer_classes(y: ArrayLike, n_samples: int) -> NDArray:
    """Labels of the classes, ascending, without the mark of out-of-distribution samples.

    Raises
    ------
    ValueError
        If there are fewer than two, ``y`` is no array of labels, or has another length.
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
