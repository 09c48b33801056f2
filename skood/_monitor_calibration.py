"""What calibrates a monitor, and what says that it is not calibrated."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, poisson

from ._classes import rows_to_accept, tells_classes
from ._foreign import detector_of, rate_of
from ._labels import unknown_labels
from ._marks import (
    in_distribution,
    in_distribution_rows,
    plain_labels,
    read_labels,
    take_rows,
)
from ._values import Floats
from ._warnings import warn_user
from .activations import Activations
from .calibration import ConformalDetector, UncalibratedWarning

_ONE = ""
"""Name of the detector where there is one alone."""
_USUAL_RATE = 0.05
_SURE = 0.97
"""Mean confidence from which a network may be one that knows the rows by heart."""
_SMALL = 0.05
"""Probability below which so few errors are no chance."""
_MANY_ROWS = 500
"""As many rows without an error are too good to be new, for most networks."""


@dataclass(frozen=True)
class HeldOutThresholds:
    """Thresholds and p-values by rows that are held out, of one detector or of each of several.

    Attributes
    ----------
    by_name : dict of str to ConformalDetector
        Calibrated detectors by name, one without a name where it is alone.
    """

    by_name: dict[str, ConformalDetector]

    @classmethod
    def of(cls, calibration: Any) -> HeldOutThresholds:
        """Those of a fitted attribute: a calibrated detector, or several by name."""
        return cls(calibration if isinstance(calibration, dict) else {_ONE: calibration})

    @property
    def calibration(self) -> ConformalDetector | dict[str, ConformalDetector]:
        """What they are as a fitted attribute."""
        return self.by_name if self._alone is None else self._alone

    @property
    def _alone(self) -> ConformalDetector | None:
        return self.by_name.get(_ONE)

    @property
    def offset(self) -> float:
        """The threshold; of several detectors 0, that of the decisions."""
        return 0.0 if self._alone is None else self._alone.offset_

    @property
    def offsets(self) -> dict[Any, Any]:
        """Thresholds by detector, by class, or by both."""
        if self._alone is not None:
            return self._alone.offsets_
        return {
            name: detector.offset_ if detector.group_by is None else detector.offsets_
            for name, detector in self.by_name.items()
        }

    def predict_each(self, A: Any) -> dict[str, NDArray[np.int64]]:
        return {name: detector.predict(A) for name, detector in self.by_name.items()}

    def predict(self, A: Any) -> NDArray[np.int64]:
        """1, or -1 where any detector rejects."""
        return np.min(list(self.predict_each(A).values()), axis=0)

    def decision_function(self, A: Any) -> Floats:
        """Scores less thresholds; of several detectors the smallest, each by its own spread."""
        if self._alone is not None:
            return self._alone.decision_function(A)
        return np.min([_in_deviations(d, A) for d in self.by_name.values()], axis=0)

    def p_values(self, A: Any) -> Floats:
        return _joint([detector.p_values(A) for detector in self.by_name.values()])

    def select(self, A: Any, fdr: float, method: str) -> NDArray[np.bool_]:
        if self._alone is not None:
            return self._alone.select(A, fdr, method=method)
        if not 0 < fdr < 1:
            raise ValueError(f"fdr must be between 0 and 1, got {fdr!r}.")
        # What is promised of one threshold is no part of a false discovery rate.
        marginal = [copy(d).set_params(guarantee="marginal") for d in self.by_name.values()]
        p_values = _joint([detector.p_values(A) for detector in marginal])
        if len(p_values) == 0:
            return np.zeros(0, dtype=bool)
        return np.asarray(false_discovery_control(p_values, method=method) <= fdr)

    def summary(self) -> str:
        """The rate, how many rows stand for it, and what is promised."""
        detectors = list(self.by_name.values())
        first = detectors[0]
        rates = " and ".join(sorted({f"{d.false_alarm_rate:g}" for d in detectors}))
        sizes = sorted({d.n_calibration_samples_ for d in detectors}, reverse=True)
        of_each = " of each predicted class" if first.group_by else ""
        promise = first.guarantee
        if promise != "marginal":
            promise += f" with confidence {first.confidence:g}"
        n_rows = " and ".join(map(str, sizes))
        return f"{rates}{of_each}, calibrated by {n_rows} held-out rows, {promise}"


def _in_deviations(detector: ConformalDetector, A: Any) -> Floats:
    """Scores less the threshold, in standard deviations of the calibration scores."""
    spread = float(np.std(detector.calibration_scores_))
    decisions = detector.decision_function(A)
    scaled = decisions / (spread if 0 < spread < np.inf else 1.0)
    # Rounding decides nothing.
    return np.where(decisions < 0, np.minimum(scaled, -np.finfo(np.float64).tiny), scaled)


def _joint(p_values: list[Floats]) -> Floats:
    """p-values of several tests of the same samples, by Bonferroni's bound."""
    return np.minimum(1.0, len(p_values) * np.min(p_values, axis=0))


def calibrated(
    detector: Any,
    A: Any,
    y: ArrayLike | None,
    target: str,
    *,
    false_alarm_rate: float | None = None,
    ask_for_labels: bool = True,
    **promise: Any,
) -> HeldOutThresholds:
    """Calibrate a fitted detector, or each of several with a threshold of its own.

    Parameters
    ----------
    detector : estimator
        What scores activations in the end. It is left as it is.
    A : Activations or ndarray
        The rows, as it takes them.
    y : array-like of shape (n_samples,) or None
        Their labels; -1 marks a row that does not calibrate. By default those that ``A`` carries
        say which rows are classified correctly.
    target : {"ood", "misclassified", "both"}
        What the monitor is to find. Of several detectors each has its own.
    false_alarm_rate : float, default=None
        Rate of each detector, by default its own.
    ask_for_labels : bool, default=True
        Whether to warn where labels are needed to say which rows are classified correctly.
    **promise : dict
        ``group_by``, ``guarantee`` and ``confidence``.
    """
    A, labels = _rows_and_labels(A, y)
    several = several_of(detector)
    members = {_ONE: detector} if several is None else several
    thresholds = {}
    for name, member in members.items():
        wanted = target if several is None else getattr(detector_of(member), "target", "ood")
        rate = rate_of(member) if false_alarm_rate is None else false_alarm_rate
        conformal = ConformalDetector(
            member, false_alarm_rate=_USUAL_RATE if rate is None else rate, **promise
        )
        counts = _rows_that_count(A, labels, wanted)
        if counts is None and ask_for_labels:
            _ask_for_labels(wanted)
        thresholds[name] = conformal.fit(
            A if counts is None or len(counts) == len(A) else A[counts]
        )
    return HeldOutThresholds(thresholds)


def several_of(detector: Any) -> dict[str, Any] | None:
    """Detectors by name that have a threshold each; None of one."""
    return detector.named_estimators_ if hasattr(detector, "predict_each") else None


def _rows_and_labels(A: Any, y: ArrayLike | None) -> tuple[Any, NDArray | None]:
    """The rows that are not marked, and labels that they were given or carry."""
    if y is not None:
        rows = in_distribution_rows(y, len(A))
        if isinstance(A, Activations):
            return take_rows(A, y, rows)
        return A[rows], plain_labels(read_labels(y)[rows])
    labels = A.labels if isinstance(A, Activations) else None
    return A, None if labels is None else read_labels(labels)


def _rows_that_count(A: Any, labels: NDArray | None, target: str) -> NDArray[np.intp] | None:
    """Rows to accept, with errors as target those that are right; None where labels are needed."""
    if target == "ood":
        return np.arange(len(A))
    rows = np.flatnonzero(in_distribution(labels)) if labels is not None else np.arange(0)
    if labels is None or not isinstance(A, Activations):
        return None
    if not tells_classes(classes := plain_labels(labels[rows])):
        return None
    return rows[rows_to_accept("misclassified", A[rows], classes)]


def _ask_for_labels(target: str) -> None:
    warn_user(
        f"target={target!r} is to accept rows that are classified correctly, but no labels say "
        "which are: all rows calibrate, wrong ones too, and the rate is that of all. Pass the "
        "class labels as y.",
        UncalibratedWarning,
    )


def state_of(detector: Any) -> tuple[Any, ...]:
    """What another fit of a detector would change."""
    names = ("offset_", "offsets_", "threshold_", "n_samples_seen_")
    return tuple(copy(getattr(detector, name, None)) for name in names)


def estimated_rate(detector: Any) -> str:
    """The rate that a detector is to have by its own threshold."""
    members = (several_of(detector) or {_ONE: detector}).values()
    numbers = sorted({rate for member in members if (rate := rate_of(member)) is not None})
    rates = " and ".join(f"{rate:g}" for rate in numbers) or "no number"
    return f"{rates}, by rows held out" if holds_rows_out(detector) else f"{rates}, an estimate"


def holds_rows_out(detector: Any) -> bool:
    """Whether a detector sets its threshold by rows that it has not learnt from."""
    is_calibrated = type(detector).__module__.startswith("skood.calibration.")
    return is_calibrated or getattr(detector, "validation", None) is not None


def is_set_by_rows_held_out(detector: Any) -> bool:
    """Whether rows of its ``validation`` set a threshold on its score, and nothing else did."""
    has_rate = rate_of(detector) is not None or several_of(detector) is not None
    has_rule = (
        getattr(detector, "tau", None) is not None
        or getattr(detector, "combine", None) == "vote"
        or getattr(detector, "reject_mismatch", False)
    )
    return has_rate and not has_rule and getattr(detector, "validation", None) is not None


def why_uncalibrated(detector: Any, A: Any, y: ArrayLike | None) -> str:
    """What says that a threshold from the rows of ``fit`` is an estimate, or nothing.

    Labels show it where the network fits the rows better than it fits new ones: in general it is
    surer of new rows than it is right, and never less sure. So it shows where it is surer than
    97 % on average, and yet makes fewer errors than its own confidence lets expect, by more than
    chance (a test at the level .05); or where it makes no error in 500 rows or more.

    Parameters
    ----------
    detector : estimator
        What was fitted in the end.
    A : Activations or ndarray
        The rows of ``fit``.
    y : array-like of shape (n_samples,) or None
        Their labels, by default those that ``A`` carries.
    """
    labels = A.labels if y is None and isinstance(A, Activations) else y
    compared = None if labels is None else _confidence_and_errors(A, read_labels(labels))
    if compared is None:
        none = "no labels say whether the network has seen the rows of fit"
        return "" if holds_rows_out(detector) else none
    confidence, is_wrong = compared
    n_rows, n_wrong, expected = len(is_wrong), int(is_wrong.sum()), float((1 - confidence).sum())
    too_few = poisson.cdf(n_wrong, expected) <= _SMALL and expected <= (1 - _SURE) * n_rows
    if not too_few and (n_wrong or n_rows < _MANY_ROWS):
        return ""
    return (
        "the labels show that the network fits the rows of fit as those that it was trained on. It "
        f"gets {n_wrong} of {n_rows} wrong, where its own confidence lets expect {expected:.3g}"
    )


def _confidence_and_errors(A: Any, labels: NDArray) -> tuple[Floats, NDArray[np.bool_]] | None:
    """Softmax and errors of rows that are not marked; None where labels are not of its classes."""
    rows = np.flatnonzero(in_distribution(labels))
    if not isinstance(A, Activations) or A.logits is None or len(labels) != len(A):
        return None
    if A.logits.shape[1] < 2:
        return None
    classes = plain_labels(labels[rows])
    if not tells_classes(classes) or A.classes is None or unknown_labels(classes, A.classes):
        return None
    logits = np.asarray(A.logits, dtype=np.float64)[rows]
    logits = logits - logits.max(axis=1, keepdims=True)
    confidence = 1 / np.exp(logits).sum(axis=1)
    return confidence, np.asarray(np.asarray(A.predictions)[rows] != classes)


def warn_of_estimate(reason: str, rate: float | None) -> None:
    """Say that a threshold is an estimate, why, and what to do."""
    of_rate = "" if rate is None else f" {rate:g}"
    warn_user(
        f"The threshold is an estimate: {reason}. On new inputs the rate of false alarms may be "
        f"several times the wanted{of_rate}. Call monitor.calibrate(X) with in-distribution rows "
        "that the network has not seen; or fit on such rows, with validation= of the detector or "
        "of make_monitor, by which some of them set the threshold.",
        UncalibratedWarning,
    )
