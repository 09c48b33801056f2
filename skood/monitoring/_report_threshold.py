"""What a monitor rejects, at its own threshold and at others, and where its threshold is from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._foreign import detector_of, is_of_pyod, rate_of
from .._values import Floats
from ..activations import Activations
from ..calibration import ConformalDetector, RiskControlledDetector

Rejected = NDArray[np.bool_]


class Judged(NamedTuple):
    """Scores of some rows, finite, and which of the rows are rejected."""

    scores: Floats
    rejected: Rejected


class Rule(ABC):
    """How a fitted monitor decides about what its network computed."""

    limit: float | None = 0.0
    """Scores below it are rejected; None where not one threshold decides."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor

    def judge(self, A: Activations) -> Judged:
        """Score rows, and tell which are rejected."""
        decisions = np.asarray(self._monitor.decision_function(A))
        # Decisions by several thresholds do not compare, and without any they are infinite.
        scores = decisions if self.limit is not None else self._monitor.score_samples(A)
        return Judged(scores, decisions < 0)

    def rejected_each(self, A: Activations) -> dict[str, Rejected]:
        """What each of several detectors rejects, by its name; nothing where there is one."""
        if not hasattr(self._monitor, "predict_each"):
            return {}
        return {name: labels == -1 for name, labels in self._monitor.predict_each(A).items()}

    @abstractmethod
    def rejected_at(self, A: Activations, rates: Sequence[float]) -> list[Rejected] | None:
        """What thresholds for other rates of false alarms would reject; None where not known.

        Each of several detectors has its share of the rate.
        """

    def share_calibrating(self, judged: Judged) -> float:
        """Share of rows that are among those that set the threshold, as far as scores show it."""
        return 0.0

    @abstractmethod
    def n_fitted(self) -> int | None:
        """How many rows the detector was given to learn from; None where not known."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Where the threshold comes from."""


class OwnRule(Rule):
    """That of the detector itself, from the rows of ``fit``."""

    def __init__(self, monitor: Any) -> None:
        super().__init__(monitor)
        self._detector = detector_of(monitor)
        self._are_several = hasattr(monitor, "predict_each")
        self._members = self._detector.named_estimators_ if self._are_several else {"": monitor}
        if not np.isfinite(getattr(self._detector, "offset_", 0.0)).all():
            self.limit = None

    def judge(self, A: Activations) -> Judged:
        if not is_of_pyod(self._monitor):
            return super().judge(A)
        decisions = self._detector.threshold_ - np.asarray(self._monitor.decision_function(A))
        return Judged(decisions, decisions < 0)

    def rejected_at(self, A: Activations, rates: Sequence[float]) -> list[Rejected] | None:
        if (known := self._scores_of_fit()) is None:
            return None
        monitor = self._monitor
        scores = monitor.score_each(A) if self._are_several else {"": monitor.score_samples(A)}
        shares = [rate / len(known) for rate in rates]
        return [
            np.any([scores[name] < _quantile(known[name], share) for name in known], axis=0)
            for share in shares
        ]

    def _scores_of_fit(self) -> dict[str, Floats] | None:
        """Scores of which the thresholds are quantiles, where the detectors keep them."""
        detectors = {name: detector_of(member) for name, member in self._members.items()}
        if not all(map(_is_quantile, detectors.values())):
            return None
        return {name: detector.training_scores_ for name, detector in detectors.items()}

    def n_fitted(self) -> int | None:
        fitted = self._detector
        if isinstance(fitted, RiskControlledDetector):
            fitted = detector_of(fitted.estimator_)
        return getattr(fitted, "n_samples_seen_", None)

    def facts(self) -> dict[str, Any]:
        scores = self._scores_of_fit()
        rates = {name: _asked_rate(member) for name, member in self._members.items()}
        if isinstance(self._detector, RiskControlledDetector):
            return self._of_risk(self._detector)
        return {
            "origin": "own" if None in rates.values() else "estimate",
            "offsets": dict(_offsets(self._detector)),
            "false_alarm_rate": rates,
            "n_rows": None if scores is None else min(map(len, scores.values())),
            "guarantee": None,
            "confidence": None,
            "group_by": None,
        }

    def _of_risk(self, controlled: RiskControlledDetector) -> dict[str, Any]:
        return {
            "origin": "risk-controlled",
            "offsets": dict(_offsets(controlled)),
            "false_alarm_rate": {"": None},
            "n_rows": controlled.n_calibration_samples_,
            "guarantee": None,
            "confidence": controlled.confidence,
            "group_by": None,
            "alpha": controlled.alpha,
        }


class HeldOutRule(Rule):
    """That of thresholds from rows that were not learnt from, of one detector or of several."""

    def __init__(self, monitor: Any, by_name: Mapping[str, ConformalDetector]) -> None:
        super().__init__(monitor)
        self._by_name = by_name
        self._first = next(iter(by_name.values()))
        if not np.isfinite([getattr(d, "offset_", -np.inf) for d in by_name.values()]).all():
            self.limit = None

    def rejected_at(self, A: Activations, rates: Sequence[float]) -> list[Rejected] | None:
        p_values = self._monitor.p_values(A)
        return [p_values <= rate for rate in rates]

    def share_calibrating(self, judged: Judged) -> float:
        known = self._first.calibration_scores_
        if len(self._by_name) > 1 or len(np.unique(known)) < 0.9 * len(known):
            return 0.0  # equal scores are no sign of equal rows
        same = known if self.limit is None else known - self._first.offset_
        return float(np.isin(judged.scores, same).mean())

    def n_fitted(self) -> int | None:
        fitted = detector_of(self._first.estimators_[0])
        return getattr(fitted, "n_samples_seen_", None)

    def facts(self) -> dict[str, Any]:
        first, each = self._first, self._by_name.values()
        return {
            "origin": "held-out" if all(map(_is_by_rows_of_fit, each)) else "calibrated",
            "offsets": dict(_offsets_each(self._by_name)),
            "false_alarm_rate": {name: d.false_alarm_rate for name, d in self._by_name.items()},
            "n_rows": min(detector.n_calibration_samples_ for detector in each),
            "guarantee": first.guarantee,
            "confidence": first.confidence,
            "group_by": first.group_by,
        }


def rule_of(monitor: Any) -> Rule:
    """How the monitor decides."""
    calibration = getattr(monitor, "calibration_", detector_of(monitor))
    if isinstance(calibration, ConformalDetector):
        calibration = {"": calibration}
    return HeldOutRule(monitor, calibration) if isinstance(calibration, dict) else OwnRule(monitor)


def _quantile(scores: Floats, rate: float) -> float:
    return float(np.percentile(scores, 100 * rate))


def _asked_rate(estimator: Any) -> float | None:
    """The rate of false alarms that sets the threshold of a detector, if one does."""
    is_given = getattr(detector_of(estimator), "tau", None) is not None
    return None if is_given else rate_of(estimator)


def _is_quantile(detector: Any) -> bool:
    """Whether the threshold is a quantile of scores that the detector keeps."""
    keeps = hasattr(detector, "training_scores_") and hasattr(detector, "false_alarm_rate")
    return keeps and _asked_rate(detector) is not None


def _is_by_rows_of_fit(calibrated: ConformalDetector) -> bool:
    """Whether rows that the detector itself held out of those of ``fit`` calibrate it."""
    detector = detector_of(calibrated.estimators_[0])
    own = getattr(detector, "training_scores_", np.empty(0))
    return np.array_equal(np.sort(own), np.sort(calibrated.calibration_scores_))


def _offsets(detector: Any) -> Iterator[tuple[str, float]]:
    """Thresholds by the names of detectors or classes, without a name where there is one."""
    if hasattr(detector, "offsets_"):
        for name, offset in detector.offsets_.items():
            yield str(name), float(offset)
    elif is_of_pyod(detector):
        yield "", -float(detector.threshold_)
    elif hasattr(detector, "offset_"):
        yield "", float(np.asarray(detector.offset_).item())


def _offsets_each(by_name: Mapping[str, ConformalDetector]) -> Iterator[tuple[str, float]]:
    for detector, calibrated in by_name.items():
        for name, offset in _offsets(calibrated):
            yield ", ".join(filter(None, [detector, name])), offset
