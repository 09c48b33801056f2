"""Classes of the network: whether they fit labels and training, and where to look them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._labels import find_classes, unknown_labels
from ._marks import check_mark_is_no_class, refuse_missing
from ._sklearn import StrOptions
from ._too_few import TooFewSamplesError
from .activations import Activations

GROUP_BY = [StrOptions({"prediction", "label", "correct"})]
"""Constraint of the parameter ``group_by``: the class under which a training sample counts."""


@dataclass(frozen=True)
class NetworkClasses:
    """The classes of the network, according to the activations that an estimator is fitted on.

    Attributes
    ----------
    labels : ndarray or None
        Label of each logit, where that is known.
    are_text : bool or None
        Whether classes are texts, where there are labels or predictions.
    """

    labels: NDArray | None
    are_text: bool | None

    @classmethod
    def of(cls, X: Activations) -> NetworkClasses:
        if (classes := X.classes) is not None:
            return cls(classes, _is_text(classes))
        # Without classes there are no logits, so that nothing is computed here.
        predictions = X.predictions
        return cls(None, None if predictions is None else _is_text(predictions))

    def check(self, X: Activations, fitted: str) -> None:
        """Raise a ValueError where ``X`` comes from a network with other classes.

        Predictions that come without logits may be of a class that was never seen: detectors that
        learn by class reject them.
        """
        self.check_same(NetworkClasses.of(X), "X", fitted)

    def check_same(self, new: NetworkClasses, of: str, fitted: str) -> None:
        """Raise a ValueError where those ``of`` something new are others, as far as is known."""
        known, told = self.labels, new.labels
        # Not by lists, which take long for one sample of a network of many classes.
        if known is not None and told is not None and not np.array_equal(known, told):
            raise ValueError(
                f"{of} comes from a network with the classes {_listed(told)}, but {fitted} was "
                f"fitted on one with the classes {_listed(known)}."
            )
        if self.are_text is not None and new.are_text not in (None, self.are_text):
            kinds = {True: "text", False: "numbers"}
            raise ValueError(
                f"Class labels must be of one kind: those of {of} are {kinds[bool(new.are_text)]}, "
                f"but those that {fitted} was fitted on are {kinds[self.are_text]}."
            )

    def completed(self, new: NetworkClasses) -> NetworkClasses:
        """These, with what only those of later activations of the same network tell."""
        return NetworkClasses(
            new.labels if self.labels is None else self.labels,
            new.are_text if self.are_text is None else self.are_text,
        )


def _is_text(labels: NDArray) -> bool:
    if labels.dtype.kind == "O":
        return any(isinstance(label, str) for label in labels.flat)
    return labels.dtype.kind in "US"


def _listed(labels: NDArray) -> str:
    """Labels for a message, which does not grow with their number."""
    first = str(labels[:10].tolist())
    return first if len(labels) <= 10 else f"{first[:-1]}, ...] ({len(labels)} in all)"


def check_class_labels(X: Activations, y: NDArray | None, wanted_by: str) -> None:
    """Check that predictions and labels are there and speak of the same classes.

    Raises
    ------
    ValueError
        If ``X`` carries no predictions, ``y`` is None, or holds a label that is not among the
        classes of the network, or -1 is one of these. The message begins with ``wanted_by``.
    """
    if X.predictions is None:
        raise ValueError(f"{wanted_by} needs predictions of the network, but X carries none.")
    if y is None:
        raise ValueError(f"{wanted_by} needs the class labels y, got None.")
    check_mark_is_no_class(X)
    refuse_unknown_labels(y, X.classes, wanted_by)


def refuse_unknown_labels(y: NDArray, classes: NDArray | None, wanted_by: str) -> None:
    """Raise a ValueError where a label is not among the classes of the network, if known."""
    if classes is not None and (unknown := unknown_labels(y, classes)):
        raise ValueError(
            f"{wanted_by} needs labels among the classes of the network, {classes.tolist()}, "
            f"or -1 for out-of-distribution; got {unknown}."
        )


def has_predictions(X: Activations) -> bool:
    """Whether ``X`` carries predictions, or the logits that they come from; computes nothing."""
    return any(column.role in ("logits", "prediction") for column in X.columns)


def tells_classes(y: NDArray | None) -> bool:
    """Whether labels of in-distribution rows say more than that, which one label for all does."""
    return y is not None and len(np.unique(y)) > 1


def rows_to_accept(target: str, X: Activations, y: NDArray | None) -> NDArray[np.bool_]:
    """Which in-distribution rows a detector should accept, by what it is to find.

    Of errors, with the target "misclassified", these are the rows that are classified correctly,
    as far as labels tell; otherwise all.

    Raises
    ------
    ValueError
        If labels that tell classes are not those of the network, or no prediction is right.
    """
    if target != "misclassified" or not tells_classes(y):
        return np.ones(len(X), dtype=bool)
    wanted_by = "target='misclassified', whose false alarms are rows that are classified correctly,"
    check_class_labels(X, y, wanted_by)
    is_correct = np.asarray(X.predictions == y)
    if not is_correct.any():
        raise ValueError(
            f"{wanted_by} needs some of them to set the threshold, but none of the {len(X)} "
            "predictions equals its label. Are the labels y classes of the network?"
        )
    return is_correct


@dataclass(frozen=True)
class TrainingClasses:
    """The classes of training samples, one entry a sample.

    Attributes
    ----------
    lookup : ndarray of shape (n_samples,)
        Class under which the sample is looked up, as a new one would be.
    own : ndarray of shape (n_samples,)
        Class under which the sample counts, if it does.
    counts : ndarray of shape (n_samples,), dtype bool
        Whether the sample counts.
    """

    lookup: NDArray
    own: NDArray
    counts: NDArray[np.bool_]

    @classmethod
    def all_count(cls, classes: NDArray) -> TrainingClasses:
        """All samples count, under the classes under which they are looked up."""
        return cls(classes, classes, np.ones(len(classes), dtype=bool))

    @classmethod
    def of(
        cls,
        X: Activations,
        y: NDArray | None,
        group_by: str,
        wanted_by: str,
        lookup: NDArray | None = None,
    ) -> TrainingClasses:
        """By predicted classes, by labels, or by predicted classes where these are right.

        Parameters
        ----------
        X : Activations
            In-distribution training samples.
        y : ndarray of shape (n_samples,) or None
            Their labels; "prediction" needs none.
        group_by : {"prediction", "label", "correct"}
            The class under which a sample counts.
        wanted_by : str
            What needs the classes, for messages.
        lookup : ndarray of shape (n_samples,), default=None
            The classes under which samples are looked up, by default their predictions.

        Raises
        ------
        ValueError
            If predictions or labels are missing, or a label is no class of the network.
        """
        if group_by != "prediction" or (lookup is None and X.predictions is None):
            check_class_labels(X, y, wanted_by)
        predicted = np.asarray(X.predictions) if lookup is None else lookup
        if group_by == "prediction" or y is None:
            return cls.all_count(predicted)
        if group_by == "label":
            return cls(predicted, y, np.ones(len(predicted), dtype=bool))
        return cls(predicted, predicted, np.asarray(predicted == y))

    def counting(self, X: Activations, wanted_by: str) -> tuple[Activations, NDArray]:
        """The samples of ``X`` that count, and the class under which each of them does.

        Raises
        ------
        ValueError
            If none does.
        """
        rows = np.flatnonzero(self.counts)
        refuse_none_correct(len(rows), len(X), wanted_by)
        return (X, self.own) if len(rows) == len(X) else (X[rows], self.own[rows])

    @property
    def finds_itself(self) -> NDArray[np.bool_]:
        """Whether the sample counts under the class under which it is looked up."""
        return self.counts & (self.own == self.lookup)

    def numbered(self) -> tuple[NDArray, NDArray[np.intp]]:
        """The classes that samples count for, ascending, and the number of each sample's, or -1."""
        labels, numbers = np.unique(self.own[self.counts], return_inverse=True)
        codes = np.full(len(self.own), -1)
        codes[self.counts] = numbers
        return labels, codes

    def merge(self, other: TrainingClasses) -> TrainingClasses:
        """The classes of the samples of both, one after the other."""
        check_same_kind(self.lookup, other.lookup)
        check_same_kind(self.own, other.own)
        return TrainingClasses(
            np.concatenate([self.lookup, other.lookup]),
            np.concatenate([self.own, other.own]),
            np.concatenate([self.counts, other.counts]),
        )


def check_same_kind(labels: NDArray, others: NDArray) -> None:
    """Raise a ValueError where labels of two batches are texts in one and numbers in the other."""
    if len(others) and len(labels) and _is_text(labels) != _is_text(others):
        mine, theirs = np.unique(labels), np.unique(others)
        raise ValueError(
            f"Class labels must be of one kind, got {_listed(mine)} and {_listed(theirs)}."
        )


def refuse_none_correct(n_counting: int, n_samples: int, wanted_by: str) -> None:
    """Raise a ValueError where no sample counts, as ``group_by`` "correct" may have it."""
    if n_counting == 0:
        raise TooFewSamplesError(
            f"{wanted_by} with group_by='correct' learns from correctly classified samples, but "
            f"none of the {n_samples} predictions equals its label. Are the labels y classes of "
            "the network?"
        )


def class_columns(labels: Any, classes: Any) -> NDArray[np.intp]:
    """Column of each label among the classes, which may have any order; -1 where it is none."""
    order = np.argsort(classes)
    positions, is_known = find_classes(labels, classes[order])
    return np.where(is_known, order[positions], -1)


def lookup_classes(estimator: Any, X: Activations, *, by_class: bool) -> NDArray:
    """The class under which each sample is looked up: the predicted one, or 0 for all.

    Raises
    ------
    ValueError
        If the estimator distinguishes classes and ``X`` carries no predictions, or such as are
        missing or come from logits that are not finite.
    """
    if not by_class:
        return np.zeros(len(X), dtype=int)
    if (predictions := X.predictions) is None:
        raise ValueError(
            f"{type(estimator).__name__} was fitted on predicted classes, but X carries no "
            "predictions."
        )
    refuse_missing(predictions, "predictions")
    return predictions
