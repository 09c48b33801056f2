"""Detectors to calibrate, each with the rows whose scores calibrate it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, StratifiedKFold, check_cv
from sklearn.utils.validation import check_is_fitted

from .._classes import NetworkClasses
from .._elsewhere import are_activations
from .._foreign import (
    detector_of,
    in_distribution_scores,
    is_of_pyod,
    is_search,
    takes_labels,
    up_to_activations,
)
from .._held_out import named, needs_labels, row_numbers, split_held_out
from .._marks import (
    OOD_LABEL,
    check_mark_is_no_class,
    in_distribution,
    in_distribution_rows,
    marks_beside_y,
    plain_labels,
    read_labels,
    refuse_another_order,
    refuse_missing,
)
from .._samples import n_rows_of, n_samples_of, take_samples
from .._values import Floats
from .._warnings import threshold_comes_later, warn_user

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Labels:
    """Labels of rows that were read, and which rows they mark.

    Attributes
    ----------
    given : ndarray of shape (n_samples,) or None
        The labels, with -1 where a row is marked.
    is_in : ndarray of shape (n_samples,), dtype bool
        Whether a row is in-distribution.
    """

    given: NDArray | None
    is_in: NDArray[np.bool_]

    @classmethod
    def read(cls, X: Any, y: Any, n_samples: int) -> Labels:
        """Those of samples, which are all in-distribution without labels.

        Raises
        ------
        ValueError
            If there are no samples, labels do not fit, or they mark all samples.
        """
        if n_samples == 0:
            raise ValueError(f"Found 0 samples in {type(X).__name__}, but at least 1 is needed.")
        if y is None:
            if advice := marks_beside_y(X):
                warn_user("All rows count as in-distribution." + advice)
            return cls(None, np.ones(n_samples, dtype=bool))
        check_mark_is_no_class(X)
        rows = in_distribution_rows(y, n_samples)
        labels = read_labels(y)
        refuse_another_order(X, labels)
        return cls(labels, np.isin(np.arange(n_samples), rows))

    @property
    def numbers(self) -> NDArray[np.int64] | None:
        """Labels as numbers from 0 and marks as -1, which any splitter can read."""
        if self.given is None:
            return None
        numbers = np.full(len(self.is_in), OOD_LABEL)
        classes = plain_labels(self.given[self.is_in])
        numbers[self.is_in] = np.unique(classes, return_inverse=True)[1]
        return numbers

    def of(self, rows: Rows) -> NDArray | None:
        if self.given is None:
            return None
        labels = self.given[rows]
        return plain_labels(labels) if in_distribution(labels).all() else labels


@dataclass(frozen=True)
class Read:
    """Scores of samples by a fitted detector, and the classes under which these are compared.

    Attributes
    ----------
    samples : object
        What the detector itself was given: Activations, where a pipeline makes some.
    scores : ndarray of shape (n_samples,)
        The higher, the more in-distribution.
    classes : ndarray of shape (n_samples,) or None
        Predicted classes, where they are wanted.
    """

    samples: Any
    scores: Floats
    classes: NDArray | None

    @classmethod
    def of(cls, detector: Any, X: Any, *, by_class: bool) -> Read:
        last, samples = up_to_activations(detector, X)
        classes = predicted_classes(samples) if by_class else None
        scores = scores_of(last, samples)
        n_samples = n_samples_of(samples)
        if n_samples not in (None, len(scores)):
            raise ValueError(
                f"{detector_of(last)!r} gives {len(scores)} scores for {n_samples} samples."
            )
        return cls(samples, scores, classes)

    def of_rows(self, rows: Rows) -> Read:
        """The same for some of the samples."""
        return Read(
            self.samples, self.scores[rows], None if self.classes is None else self.classes[rows]
        )

    @property
    def network(self) -> NetworkClasses:
        """The classes of the network."""
        return NetworkClasses.of(self.samples)


@dataclass(frozen=True)
class Fitted:
    """A fitted detector, and the rows that calibrate it, as it reads them.

    ``learnt`` are the rows that it was fitted on here, and of how many.
    """

    detector: Any
    rows: Rows
    read: Read
    learnt: tuple[Rows, int] | None = None


@dataclass(frozen=True)
class LeftOut:
    """Rows that were held out and may be rejected, so that they do not calibrate.

    Attributes
    ----------
    scores : ndarray of shape (n_samples,)
        Their scores.
    classes : ndarray of shape (n_samples,) or None
        Predicted classes, where each has a threshold.
    is_rejected : ndarray of shape (n_samples,), dtype bool
        What the thresholds say of them.
    """

    scores: Floats
    classes: NDArray | None
    is_rejected: NDArray[np.bool_]


def learns_marks(detector: Any) -> bool:
    """Whether rows marked -1 are of use to the ``fit`` of a detector, and known as such."""
    last = detector_of(detector)
    return is_search(last) or bool(getattr(last, "_learns_from_ood", False))


@contextmanager
def refusing_unfitted(detector: Any, wrapper: str) -> Iterator[None]:
    """Say what to do where a detector that is to be used as it is was never fitted."""
    try:
        if isinstance(detector, BaseEstimator):  # others say so themselves
            check_is_fitted(detector)
        yield
    except NotFittedError as error:
        inner, of_clones = (
            detector,
            (
                " A clone, as in a search, loses what a detector has learnt: wrap it in "
                "sklearn.frozen.FrozenEstimator."
            ),
        )
        if isinstance(detector, FrozenEstimator):
            inner, of_clones = detector.estimator, " A FrozenEstimator is never fitted: leave it."
        raise NotFittedError(
            f"{wrapper} with cv='prefit' uses its detector as it is, but this "
            f"{type(inner).__name__} is not fitted yet. Fit it first; to have it fitted here, "
            f"pass the share of rows to hold out, such as cv=0.2, or a splitter.{of_clones}"
        ) from error


def splits(
    cv: Any, X: Any, labels: Labels, groups: Any, random_state: int | RandomState | None
) -> list[tuple[Rows, Rows]]:
    """Rows to fit on, and in-distribution rows to calibrate with, for each detector.

    Raises
    ------
    ValueError
        If a row calibrates twice, or is fitted on where it calibrates, or none calibrates.
    """
    found = []
    for split in _raw_splits(cv, X, labels, groups, random_state):
        # Ascending, rows of Activations on a disk are read in order.
        learnt, held_out = (np.sort(row_numbers(part, len(labels.is_in), cv)) for part in split)
        _check_apart(cv, learnt, held_out)
        calibrating = held_out[labels.is_in[held_out]]
        if len(calibrating):
            found.append((learnt, calibrating))
    _check_once(cv, [rows for _, rows in found])
    return found


def _raw_splits(
    cv: Any, X: Any, labels: Labels, groups: Any, random_state: int | RandomState | None
) -> Iterator[tuple[Rows, Rows]]:
    if not isinstance(cv, Real):
        # Of a mapping of inputs, a splitter would count the keys.
        rows = X if hasattr(X, "shape") else np.arange(len(labels.is_in))
        if labels.given is None and needs_labels(cv):
            raise ValueError(
                f"cv={cv!r} splits by the classes of the rows: pass class labels as y."
            )
        yield from check_cv(cv).split(rows, labels.numbers, groups)
        return
    inside = np.flatnonzero(labels.is_in)
    if len(inside) < 2:
        raise ValueError(
            "In-distribution samples are needed to fit the detector and others to calibrate it, "
            f"but there are too few of them: n_samples={len(inside)}."
        )
    classes = None if labels.numbers is None else labels.numbers[inside]
    if isinstance(cv, Integral):
        is_large = classes is not None and np.bincount(classes).min() >= cv
        splitter = StratifiedKFold if is_large else KFold
        parts = splitter(cv, shuffle=True, random_state=random_state).split(inside, classes)
    else:
        parts = iter([split_held_out(len(inside), classes, cv, random_state)])
    for learnt, held_out in parts:
        yield inside[learnt], inside[held_out]


def _check_apart(cv: Any, learnt: Rows, held_out: Rows) -> None:
    if n_both := len(np.intersect1d(learnt, held_out)):
        raise ValueError(
            f"cv={named(cv)} puts {n_both} rows into both parts of a split: what the detector has "
            "learnt cannot calibrate it."
        )


def _check_once(cv: Any, parts: list[Rows]) -> None:
    rows = np.concatenate(parts) if parts else np.empty(0, dtype=np.intp)
    if len(rows) == 0:
        raise ValueError(f"cv={named(cv)} leaves no in-distribution row to calibrate with.")
    if len(np.unique(rows)) < len(rows):
        raise ValueError(
            f"cv={named(cv)} holds some rows out more than once: a row that calibrates several "
            "detectors would count several times. Use a splitter with every row in one test part "
            "at most, such as KFold, or a share."
        )


def fit_and_read(
    detector: Any, X: Any, labels: Labels, split: tuple[Rows, Rows], *, by_class: bool
) -> Fitted:
    """Fit a detector, itself and not a clone, on some rows, and score those that calibrate it.

    Rows marked -1 go to every fit to which they are of use. Other libraries' detectors would take
    them for in-distribution.
    """
    learnt, held_out = split
    learnt = learnt[labels.is_in[learnt]]
    if learns_marks(detector):
        learnt = np.sort(np.append(learnt, np.flatnonzero(~labels.is_in)))
    with threshold_comes_later():
        _fit(detector, take_samples(X, learnt), labels.of(learnt))
    read = Read.of(detector, take_samples(X, held_out), by_class=by_class)
    return Fitted(detector, held_out, read, (learnt, n_rows_of(X)))


def _fit(detector: Any, X: Any, y: NDArray | None) -> None:
    # PyOD would read class 1 as outliers.
    if y is None or is_of_pyod(detector) or not takes_labels(detector):
        detector.fit(X)
    else:
        detector.fit(X, y)


def scores_of(detector: Any, X: Any) -> Floats:
    """Scores of samples, the higher the more in-distribution.

    Raises
    ------
    ValueError
        If there is not one number for each sample.
    """
    scores = in_distribution_scores(detector, X)
    if scores.ndim != 1:
        raise ValueError(
            f"{detector_of(detector)!r} gives scores of shape {scores.shape}, in place of one for "
            "each sample: it is no detector."
        )
    return scores.astype(np.float64)


def predicted_classes(X: Any) -> NDArray:
    """The class that the network predicts for each sample.

    Raises
    ------
    ValueError
        If ``X`` carries no predictions, or some that are missing.
    """
    predictions = X.predictions if are_activations(X) else None
    if predictions is None:
        raise ValueError(
            "group_by='prediction' needs the classes that the network predicts, but "
            f"{type(X).__name__} carries none: give Activations of a classifier, or inputs to a "
            "pipeline that starts with an ActivationExtractor, or use group_by=None."
        )
    predictions = np.asarray(predictions)  # in this process, where they lie in blocks elsewhere
    refuse_missing(predictions, "predictions")
    return predictions
