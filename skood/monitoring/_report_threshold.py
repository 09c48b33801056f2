"""What a monitor rejects, at its own threshold and at others, and where its threshold is from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from .._conformal import conformal_threshold
from .._foreign import detector_of, is_of_pyod, rate_of
from .._values import Floats
from ..calibration import ConformalDetector
from ._report_rows import in_front_of_detector

Rejected = NDArray[np.bool_]


class Judged(NamedTuple):
    """Scores of some rows, finite, and which of the rows are rejected."""

    scores: Floats
    rejected: Rejected


class Rule(ABC):
    """How a fitted monitor decides; ``X`` is what its last step is given."""

    limit: float | None
    """Scores below it are rejected; None where not one threshold decides."""

    @abstractmethod
    def judge(self, X: Any) -> Judged:
        """Score rows, and tell which are rejected."""

    @abstractmethod
    def rejected_each(self, X: Any) -> dict[str, Rejected]:
        """What each of several detectors rejects, by its name; nothing where there is one."""

    @abstractmethod
    def rejected_at(self, X: Any, rates: Sequence[float]) -> list[Rejected] | None:
        """What thresholds for other rates of false alarms would reject; None where not known."""

    @abstractmethod
    def n_fitted(self) -> int | None:
        """How many rows the detector was given to learn from; None where not known."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Where the threshold comes from."""


class OwnRule(Rule):
    """That of the detector itself, from the rows of ``fit``."""

    limit = 0.0

    def __init__(self, monitor: Pipeline) -> None:
        self._last = monitor[-1]
        self._detector = detector_of(monitor)
        several = getattr(self._detector, "named_estimators_", {})
        self._are_several = hasattr(self._detector, "predict_each")
        self._members = several if self._are_several else {"": self._last}

    def judge(self, X: Any) -> Judged:
        if is_of_pyod(self._last):
            decisions = self._detector.threshold_ - np.asarray(self._last.decision_function(X))
        else:
            decisions = np.asarray(self._last.decision_function(X))
        return Judged(decisions, decisions < 0)

    def rejected_each(self, X: Any) -> dict[str, Rejected]:
        if not self._are_several:
            return {}
        verdicts = self._detector.predict_each(in_front_of_detector(self._last, X))
        return {name: labels == -1 for name, labels in verdicts.items()}

    def rejected_at(self, X: Any, rates: Sequence[float]) -> list[Rejected] | None:
        if (known := self._scores_of_fit) is None:
            return None
        if self._are_several:
            scores = self._detector.score_each(in_front_of_detector(self._last, X))
        else:
            scores = {"": self._last.score_samples(X)}
        # Each of several detectors has its share of the rate.
        shares = [rate / len(known) for rate in rates]
        return [
            np.any([scores[name] < self._threshold(known[name], share) for name in known], axis=0)
            for share in shares
        ]

    def _threshold(self, known: Floats, rate: float) -> float:
        """What a detector would take from the scores that it knows."""
        if self._holds_out:
            return conformal_threshold(known, rate)
        return float(np.percentile(known, 100 * rate))

    @property
    def _scores_of_fit(self) -> dict[str, Floats] | None:
        detectors = {name: detector_of(member) for name, member in self._members.items()}
        if not all(map(_is_quantile, detectors.values())):
            return None
        return {name: detector.training_scores_ for name, detector in detectors.items()}

    @property
    def _holds_out(self) -> bool:
        """Whether rows that nothing was learnt from set all thresholds."""
        members = map(detector_of, self._members.values())
        return all(getattr(member, "validation", None) is not None for member in members)

    def n_fitted(self) -> int | None:
        return getattr(self._detector, "n_samples_seen_", None)

    def facts(self) -> dict[str, Any]:
        scores = self._scores_of_fit
        rates = {name: rate_of(member) for name, member in self._members.items()}
        origin = "estimate" if None not in rates.values() else "own"
        if scores is not None and self._holds_out:
            origin = "held-out"
        return {
            "origin": origin,
            "offsets": _offsets(self._detector),
            "false_alarm_rate": rates,
            "n_rows": None if scores is None else min(map(len, scores.values())),
            "guarantee": "marginal" if origin == "held-out" else None,
            "confidence": None,
            "group_by": None,
        }


class ConformalRule(Rule):
    """That of a threshold from rows that were not learnt from."""

    def __init__(self, calibrated: ConformalDetector) -> None:
        self._calibrated = calibrated
        offset = getattr(calibrated, "offset_", -np.inf)
        self.limit = 0.0 if np.isfinite(offset) else None

    def judge(self, X: Any) -> Judged:
        decisions = self._calibrated.decision_function(X)
        # Where a class has a threshold of its own, decisions do not compare, and may be infinite.
        scores = decisions if self.limit is not None else self._calibrated.score_samples(X)
        return Judged(scores, decisions < 0)

    def rejected_each(self, X: Any) -> dict[str, Rejected]:
        return {}

    def rejected_at(self, X: Any, rates: Sequence[float]) -> list[Rejected] | None:
        p_values = self._calibrated.p_values(X)
        return [p_values <= rate for rate in rates]

    def n_fitted(self) -> int | None:
        fitted = detector_of(self._calibrated.estimators_[0])
        return getattr(fitted, "n_samples_seen_", None)

    def facts(self) -> dict[str, Any]:
        calibrated = self._calibrated
        return {
            "origin": "calibrated",
            "offsets": _offsets(calibrated),
            "false_alarm_rate": {"": calibrated.false_alarm_rate},
            "n_rows": calibrated.n_calibration_samples_,
            "guarantee": calibrated.guarantee,
            "confidence": calibrated.confidence,
            "group_by": calibrated.group_by,
        }


def rule_of(monitor: Pipeline) -> Rule:
    """How the monitor decides."""
    detector = detector_of(monitor)
    if isinstance(detector, ConformalDetector):
        return ConformalRule(detector)
    return OwnRule(monitor)


def _is_quantile(detector: Any) -> bool:
    """Whether the threshold is the quantile of scores that the detector keeps."""
    return hasattr(detector, "training_scores_") and hasattr(detector, "false_alarm_rate")


def _offsets(detector: Any) -> dict[str, float]:
    if hasattr(detector, "offsets_"):
        return {name: float(offset) for name, offset in detector.offsets_.items()}
    if is_of_pyod(detector):
        return {"": -float(detector.threshold_)}
    offset = getattr(detector, "offset_", None)
    return {} if offset is None else {"": float(np.asarray(offset).item())}
