"""What a calibrated detector says of the rows that it was calibrated on, and of others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline

from .._conformal import conformal_rank, conformal_threshold, lowest_accepted, refuse_nan_scores
from .._foreign import detector_of, up_to_activations
from .._values import Floats
from ..activations import Activations
from ._alarm_rate import rate_limit, rate_limit_with_errors

HOW_TO_CALIBRATE = (
    "Calibrate it with rows that it has not learnt from: Monitor.calibrate(X), or "
    "skood.calibration.ConformalDetector(detector).fit(X)."
)

ONE_SCORE = (
    "Calibrate its one score with all rows, whether classified correctly or not: "
    "skood.calibration.ConformalDetector(monitor).fit(X)."
)


class Threshold(NamedTuple):
    """What bounds the rate of alarms of a threshold."""

    rank: int
    """Its rank among calibration scores."""
    size: int
    """The number of these."""
    errors: tuple[int, int] | None
    """Of rows that were held out beside them, as they are classified wrongly: how many there are,
    and how many of them are rejected. None where all rows calibrate."""

    def limit(self, level: float) -> float:
        """A rate of alarms that it exceeds with a probability of at most ``level``."""
        if self.errors is None:
            return rate_limit(self.rank, self.size, level)
        n_errors, n_rejected = self.errors
        return rate_limit_with_errors(
            self.rank, self.size, level, n_errors=n_errors, n_rejected=n_rejected
        )


@dataclass(frozen=True)
class Reference:
    """A calibrated detector, and what of its calibration a stream is compared with."""

    detector: Any
    member: str | None
    """Name of the one among several detectors that is watched."""
    calibrated: Any
    """What holds the calibration scores."""
    given: Any
    """The calibration scores as it has them."""
    scores: Floats
    """The same as numbers, and those of rows that were held out beside them."""
    rate: float
    promise: dict[str, Any]
    thresholds: tuple[Threshold, ...]
    threshold: float | None
    """The only one, where there is one."""
    lowest: float | None
    """The same less rounding."""

    @classmethod
    def of(cls, detector: Any) -> Reference:
        """Read a detector.

        Raises
        ------
        TypeError
            If it gives no p-values.
        NotFittedError
            If it is not calibrated.
        ValueError
            If its calibration rows were scored by more than one detector, or a score is NaN.
        """
        calibrated, member = calibrated_part(detector)
        given = calibrated.calibration_scores_
        scores = np.asarray(given, dtype=np.float64)
        _check_scores(scores, calibrated)
        rate, promise = float(calibrated.false_alarm_rate), _promise_of(calibrated)
        groups = _groups(calibrated, len(scores))
        thresholds = tuple(
            Threshold(conformal_rank(size, rate, **promise), size, errors)
            for size, errors in groups
        )
        is_grouped = getattr(calibrated, "group_by", None) is not None
        threshold = None if is_grouped else conformal_threshold(scores, rate, **promise)
        _check_as_fitted(calibrated, scores, rate, promise)
        lowest = None if threshold is None else lowest_accepted(scores, threshold)
        if (left_out := _left_out(calibrated)) is not None:
            scores = np.append(scores, left_out.scores)
        return cls(
            detector,
            member,
            calibrated,
            given,
            scores,
            rate,
            promise,
            thresholds,
            threshold,
            lowest,
        )

    def limit(self, level: float) -> float:
        """A rate of alarms that only a calibration set in 1 / level of them exceeds.

        It is at least the promised rate. Where each class has a threshold, it holds for all.
        """
        share = level / len(self.thresholds)
        return max(self.rate, *(threshold.limit(share) for threshold in self.thresholds))

    def judge(self, X: Any) -> tuple[Floats, NDArray[np.bool_]]:
        """Scores of samples, and which of them are alarms."""
        X = self._extracted(X)
        scores = np.asarray(self._score(X), dtype=np.float64)
        refuse_nan_scores(scores, type(self.detector).__name__)
        if self.lowest is not None:
            return scores, scores < self.lowest
        return scores, np.asarray(self._predict(X)) == -1

    def judged(self, scores: Floats, verdicts: NDArray) -> tuple[Floats, NDArray[np.bool_]]:
        """The same of samples whose scores and verdicts are known."""
        refuse_nan_scores(scores, type(self.detector).__name__)
        return scores, verdicts == -1 if self.lowest is None else scores < self.lowest

    def _extracted(self, X: Any) -> Any:
        """What the network makes of samples, where they are given to the detector twice."""
        if self.threshold is not None:
            return X
        extracting = self.detector
        if not isinstance(extracting, Pipeline):
            extracting = getattr(extracting, "estimator_", extracting)
        _, samples = up_to_activations(extracting, X)
        return samples if isinstance(samples, Activations) else X

    def _score(self, X: Any) -> Any:
        if self.member is None:
            return self.detector.score_samples(X)
        return self.detector.score_each(X)[self.member]

    def _predict(self, X: Any) -> Any:
        if self.member is None:
            return self.detector.predict(X)
        return self.detector.predict_each(X)[self.member]

    def still_holds(self) -> bool:
        """Whether the detector has the calibration that it had."""
        part, _ = calibrated_part(self.detector)
        is_same = (
            part is self.calibrated
            and part.calibration_scores_ is self.given
            and float(part.false_alarm_rate) == self.rate
            and _promise_of(part) == self.promise
        )
        return is_same or Reference.of(self.detector).digest == self.digest

    @property
    def digest(self) -> str:
        """Of all that a stream is compared with."""
        text = repr((self.rate, self.thresholds, self.threshold)).encode()
        ascending = np.sort(self.scores) + 0.0  # the same for both zeros
        return hashlib.sha256(ascending.tobytes() + text).hexdigest()


def calibrated_part(detector: Any) -> tuple[Any, str | None]:
    """What holds the calibration scores: the detector, what calibrates it, or its last step.

    Of several detectors of a monitor, it is the one of inputs, not errors, beside its name.
    """
    if not hasattr(detector, "p_values"):
        name = type(detector).__name__
        if hasattr(detector, "calibrate"):
            raise NotFittedError(f"This {name} is not calibrated. {HOW_TO_CALIBRATE}")
        raise TypeError(f"Expected a detector with p-values, got {name}. {HOW_TO_CALIBRATE}")
    if isinstance(of_monitor := getattr(detector, "calibration_", None), dict):
        return _of_inputs(of_monitor, type(detector).__name__)
    for part in (detector, of_monitor, detector_of(detector)):
        if hasattr(part, "p_values") and np.ndim(getattr(part, "calibration_scores_", 0)) == 1:
            return part, None
    raise NotFittedError(
        f"This {type(detector).__name__} has no calibration scores. {HOW_TO_CALIBRATE}"
    )


def _of_inputs(by_name: dict[str, Any], owner: str) -> tuple[Any, str]:
    """Of several calibrated detectors, the only one that does not look for errors."""
    found = [name for name, part in by_name.items() if target_of(part.detector) == "ood"]
    if len(found) != 1:
        raise ValueError(
            f"This {owner} has several detectors, {sorted(by_name)}, of which {len(found)} look "
            f"for out-of-distribution inputs; one can be watched. {ONE_SCORE}"
        )
    return by_name[found[0]], found[0]


def target_of(detector: Any) -> str:
    """What a detector or monitor looks for: "ood", unless it says otherwise."""
    return str(getattr(detector, "target", getattr(detector_of(detector), "target", "ood")))


def _promise_of(calibrated: Any) -> dict[str, Any]:
    return {
        "guarantee": getattr(calibrated, "guarantee", "marginal"),
        "confidence": getattr(calibrated, "confidence", 0.95),
    }


def _check_scores(scores: Floats, calibrated: Any) -> None:
    if len(getattr(calibrated, "estimators_", ())) > 1:
        raise ValueError(
            "The calibration rows were scored by several detectors (cross-conformal), each by one "
            "that did not learn from it, so their scores and those of a stream are not "
            "exchangeable. Calibrate one detector on rows that it did not learn from: cv='prefit', "
            "or a share such as cv=0.3."
        )
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"Expected calibration scores of shape (n,), got shape {scores.shape}.")
    refuse_nan_scores(scores, "the calibration rows")


def _check_as_fitted(calibrated: Any, scores: Floats, rate: float, promise: dict[str, Any]) -> None:
    """Refuse thresholds that were set by other parameters than those that are set now."""
    if getattr(calibrated, "group_by", None) is None:
        known = {None: getattr(calibrated, "offset_", None)}
        groups = {None: scores}
    else:
        known = calibrated.offsets_
        groups = {c: scores[calibrated.calibration_classes_ == c] for c in known}
    for group, of_group in groups.items():
        expected = conformal_threshold(of_group, rate, **promise)
        if known[group] not in (None, expected):
            raise ValueError(
                f"The threshold of this {type(calibrated).__name__}, {known[group]:g}, is not that "
                f"of its parameters, {expected:g}: one was set after it was calibrated. Calibrate "
                "it again."
            )


def _left_out(calibrated: Any) -> Any:
    """Rows that a stream has as well, but that do not calibrate; None where all do."""
    return getattr(calibrated, "_left_out", None)


def _groups(calibrated: Any, n: int) -> list[tuple[int, tuple[int, int] | None]]:
    """Of each threshold, the number of rows that it comes from, and what is known of errors."""
    left_out = _left_out(calibrated)
    if getattr(calibrated, "group_by", None) is None:
        return [(n, None if left_out is None else _counts(left_out.is_rejected))]
    labels, sizes = np.unique(calibrated.calibration_classes_, return_counts=True)
    if left_out is None:
        return [(size, None) for size in sizes.tolist()]
    of_classes = [left_out.is_rejected[left_out.classes == label] for label in labels]
    return list(zip(sizes.tolist(), map(_counts, of_classes), strict=True))


def _counts(is_rejected: NDArray[np.bool_]) -> tuple[int, int]:
    return len(is_rejected), int(is_rejected.sum())
