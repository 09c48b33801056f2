"""What ensembles do with each of their members: fit it, and score samples as it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import KFold

from .._foreign import detector_of, in_distribution_scores, is_of_pyod
from .._sklearn import without_callbacks
from .._streams import steps_of
from .._values import Floats
from ..activations import Activations
from ..detectors import BaseDetector, BaseIncrementalDetector

Samples = Activations | NDArray


def of_detector(member: Any, name: str, default: float) -> float:
    """A fitted attribute that detectors of this package have, and others may have."""
    return getattr(detector_of(member), name, default)


def fit_and_calibrate(
    member: Any,
    X: Samples,
    y: NDArray | None,
    X_ood: Samples | None = None,
    keep_batches: bool = False,
) -> tuple[Any, Floats]:
    """Fit a member and score its training samples as if it had not learnt from them.

    Parameters
    ----------
    member : estimator
        It is fitted itself, not a clone.
    X : Activations or ndarray of shape (n_samples, n_features)
        In-distribution samples.
    y : ndarray of shape (n_samples,) or None
        Their labels.
    X_ood : Activations or ndarray of shape (n_ood_samples, n_features), default=None
        Rows marked -1, for a member that learns from them.
    keep_batches : bool, default=False
        Whether the member keeps what more batches need.

    Returns
    -------
    member : estimator
        The same, fitted.
    scores : ndarray of shape (n_samples,)
        The higher, the more in-distribution.
    """
    fit_member(member, X, y, X_ood, keep_batches)
    left_out = getattr(detector_of(member), "training_scores_", np.empty(0))
    if len(left_out) == len(X):  # a detector may set its threshold by some of the rows only
        return member, left_out
    scores = np.empty(len(X))
    for learnt, held_out in KFold(5, shuffle=True, random_state=0).split(X):
        labels = None if y is None else y[learnt]
        part = fit_member(without_callbacks(clone(member)), X[learnt], labels, X_ood)
        scores[held_out] = member_scores(part, X[held_out])
    return member, scores


def fit_member(
    member: Any,
    X: Samples,
    y: NDArray | None,
    X_ood: Samples | None = None,
    keep_batches: bool = False,
) -> Any:
    """Fit a member, itself and not a clone, on in-distribution rows and those that it learns from.

    Labels are not for PyOD, which would read class 1 as outliers.
    """
    samples = _with_ood(X, None if is_of_pyod(member) else y, X_ood)
    detector = steps_of(member)[-1]
    if isinstance(detector, BaseIncrementalDetector):
        detector._keeps_batches = keep_batches
    return member.fit(*samples)


def member_scores(member: Any, X: Samples) -> Floats:
    """Scores of a fitted member, the higher the more in-distribution."""
    if isinstance(member, BaseDetector) and isinstance(X, Activations) and X._trust is not None:
        return member._score_trusted(X)
    return in_distribution_scores(member, X).astype(np.float64)


def layers_to_read(members: Sequence[Any]) -> set[str] | None:
    """Names of the layers that fitted members read, or None for all."""
    read: set[str] = set()
    for member in members:
        known = member._layers_to_read() if isinstance(member, BaseDetector) else None
        if known is None:
            return None
        read |= known
    return read


def _with_ood(
    X: Samples, y: NDArray | None, X_ood: Samples | None
) -> tuple[Samples, NDArray | None]:
    """Samples and labels, with those marked -1 after the others."""
    if X_ood is None or len(X_ood) == 0 or y is None:
        return X, y
    # Beside texts, the mark is still the number.
    labels = y.astype(object) if y.dtype.kind in "US" else y
    join: Any = Activations.concatenate if isinstance(X, Activations) else np.concatenate
    return join([X, X_ood]), np.append(labels, [-1] * len(X_ood))
