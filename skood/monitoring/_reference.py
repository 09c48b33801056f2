"""What a calibrated detector says of the rows that it was calibrated on, and of others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from .._conformal import conformal_rank, conformal_threshold, refuse_nan_scores
from .._foreign import detector_of
from .._values import Floats
from .._warnings import warn_user
from ._alarm_rate import rate_limit

HOW_TO_CALIBRATE = (
    "Calibrate it with rows that it has not learnt from: Monitor.calibrate(X), or "
    "skood.calibration.ConformalDetector(detector).fit(X)."
)

ONE_SCORE = (
    "Calibrate its one score with all rows, whether classified correctly or not: "
    "skood.calibration.ConformalDetector(monitor).fit(X)."
)


@dataclass(frozen=True)
class Reference:
    """A calibrated detector, and what of its calibration a stream is compared with."""

    detector: Any
    given: Any
    """The calibration scores as the detector has them."""
    scores: Floats
    """The same as numbers."""
    rate: float
    ranks: tuple[tuple[int, int], ...]
    """Rank of each threshold, and the number of calibration scores that it is the rank among."""
    threshold: float | None
    """The only one, where there is one."""

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
        calibrated = calibrated_part(detector)
        given = calibrated.calibration_scores_
        scores = np.asarray(given, dtype=np.float64)
        _check_scores(scores, calibrated)
        rate = float(calibrated.false_alarm_rate)
        options: dict[str, Any] = {
            "guarantee": getattr(calibrated, "guarantee", "marginal"),
            "confidence": getattr(calibrated, "confidence", 0.95),
        }
        sizes = _group_sizes(calibrated, len(scores))
        ranks = tuple((conformal_rank(size, rate, **options), size) for size in sizes)
        if calibrated is not detector and getattr(detector, "target", "ood") != "ood":
            warn_user(
                f"This {type(detector).__name__} looks for errors of the network. If it was "
                "calibrated with labels, it was by rows alone that are classified correctly, and a "
                f"stream rings for the others although nothing changes. {ONE_SCORE}"
            )
        is_grouped = getattr(calibrated, "group_by", None) is not None
        threshold = None if is_grouped else conformal_threshold(scores, rate, **options)
        return cls(detector, given, scores, rate, ranks, threshold)

    def limit(self, level: float) -> float:
        """A rate of alarms that only a calibration set in 1 / level of them exceeds.

        It is at least the promised rate. Where each class has a threshold, it holds for all.
        """
        share = level / len(self.ranks)
        return max(self.rate, *(rate_limit(rank, size, share) for rank, size in self.ranks))

    def judge(self, X: Any) -> tuple[Floats, NDArray[np.bool_]]:
        """Scores of samples, and which of them are alarms."""
        scores = np.asarray(self.detector.score_samples(X), dtype=np.float64)
        refuse_nan_scores(scores, type(self.detector).__name__)
        if self.threshold is not None:
            return scores, scores < self.threshold
        return scores, np.asarray(self.detector.decision_function(X)) < 0

    def still_holds(self) -> bool:
        """Whether the detector has the calibration scores that it had."""
        scores = calibrated_part(self.detector).calibration_scores_
        return scores is self.given or np.array_equal(scores, self.scores)

    @property
    def digest(self) -> str:
        """Of all that a stream is compared with."""
        text = repr((self.rate, self.ranks, self.threshold)).encode()
        ascending = np.sort(self.scores) + 0.0  # the same for both zeros
        return hashlib.sha256(ascending.tobytes() + text).hexdigest()


def calibrated_part(detector: Any) -> Any:
    """What holds the calibration scores: the detector, what calibrates it, or its last step."""
    if not hasattr(detector, "p_values"):
        name = type(detector).__name__
        if hasattr(detector, "calibrate"):
            raise NotFittedError(f"This {name} is not calibrated. {HOW_TO_CALIBRATE}")
        raise TypeError(f"Expected a detector with p-values, got {name}. {HOW_TO_CALIBRATE}")
    of_monitor = getattr(detector, "calibration_", None)
    if isinstance(of_monitor, dict):
        raise ValueError(
            f"This {type(detector).__name__} has several detectors, {sorted(of_monitor)}, each "
            f"with calibration rows of its own. {ONE_SCORE}"
        )
    for part in (detector, of_monitor, detector_of(detector)):
        if hasattr(part, "calibration_scores_"):
            return part
    raise NotFittedError(
        f"This {type(detector).__name__} has no calibration scores. {HOW_TO_CALIBRATE}"
    )


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


def _group_sizes(calibrated: Any, n: int) -> list[int]:
    """Number of the calibration rows that each threshold comes from."""
    if getattr(calibrated, "group_by", None) is None:
        return [n]
    return np.unique(calibrated.calibration_classes_, return_counts=True)[1].tolist()
