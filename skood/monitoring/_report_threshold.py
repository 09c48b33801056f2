"""What a monitor rejects, at its own threshold and at others, and where its threshold is from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._conformal import conformal_threshold, refuse_nan_scores
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
        refuse_nan_scores(scores, type(detector_of(self._monitor)).__name__)
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

    def share_calibrating(self, A: Activations) -> float:
        """Share of rows that are among those that set the threshold, as far as scores show it."""
        return 0.0

    def n_fitted(self) -> int | None:
        """How many rows ``fit`` was given; None where not known."""
        given = getattr(getattr(self._monitor, "_learnt", None), "n_given", None)
        return getattr(detector_of(self._monitor), "n_samples_seen_", given)

    @abstractmethod
    def facts(self, classes: Sequence[Any] | None = None) -> dict[str, Any]:
        """Where the threshold comes from, and which of the network's classes have none."""


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
        if (known := self._known_quantiles()) is None:
            return None
        monitor = self._monitor
        scores = monitor.score_each(A) if self._are_several else {"": monitor.score_samples(A)}
        shares = [rate / len(known) for rate in rates]
        return [
            np.any([scores[name] < _threshold_at(d, share) for name, d in known.items()], axis=0)
            for share in shares
        ]

    def _known_quantiles(self) -> dict[str, Any] | None:
        """The detectors, where all thresholds are quantiles of scores that these keep."""
        detectors = {name: detector_of(member) for name, member in self._members.items()}
        return detectors if all(map(_is_quantile, detectors.values())) else None

    def _holds_rows_out(self) -> bool:
        """Whether each threshold is by rows that were not learnt from."""
        members = map(detector_of, self._members.values())
        return _holds_rows_out(self._detector) or all(map(_holds_rows_out, members))

    def facts(self, classes: Sequence[Any] | None = None) -> dict[str, Any]:
        if isinstance(self._detector, RiskControlledDetector):
            return self._of_risk(self._detector)
        rates = {name: _asked_rate(member) for name, member in self._members.items()}
        origin = "held-out" if self._holds_rows_out() else "estimate"
        if None in rates.values():
            origin = "own"
        return {
            "origin": origin,
            "offsets": dict(_offsets(self._detector)),
            "false_alarm_rate": rates,
            **_numbers_of_rows(self._rows_that_count()),
            "guarantee": "marginal" if origin == "held-out" else None,
            "confidence": None,
            "group_by": None,
            "n_folds": 1,
        }

    def _rows_that_count(self) -> dict[str, int | None]:
        """How many rows set each threshold, where scores of theirs are kept."""
        scores = {
            name: getattr(detector_of(member), "training_scores_", None)
            for name, member in self._members.items()
        }
        return {
            name: None if found is None or _asked_rate(self._members[name]) is None else len(found)
            for name, found in scores.items()
        }

    def _of_risk(self, controlled: RiskControlledDetector) -> dict[str, Any]:
        return {
            "origin": "risk-controlled",
            "offsets": dict(_offsets(controlled)),
            "false_alarm_rate": {"": None},
            **_numbers_of_rows({"": controlled.n_calibration_samples_}),
            "guarantee": None,
            "confidence": controlled.confidence,
            "group_by": None,
            "n_folds": 1,
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

    def share_calibrating(self, A: Activations) -> float:
        shares = []
        for name, scores in self._scores_each(A).items():
            known = self._by_name[name].calibration_scores_
            if len(np.unique(known)) >= 0.9 * len(known):  # equal scores are no sign of equal rows
                shares.append(float(np.isin(scores, known).mean()))
        return max(shares, default=0.0)

    def _scores_each(self, A: Activations) -> dict[str, Floats]:
        if list(self._by_name) == [""]:
            return {"": self._monitor.score_samples(A)}
        scores: dict[str, Floats] = self._monitor.score_each(A)
        return scores

    def facts(self, classes: Sequence[Any] | None = None) -> dict[str, Any]:
        first, each = self._first, self._by_name
        return {
            "origin": "held-out" if self._is_by_rows_of_fit() else "calibrated",
            "offsets": dict(_offsets_each(each, classes or [])),
            "false_alarm_rate": {name: d.false_alarm_rate for name, d in each.items()},
            **_numbers_of_rows({name: d.n_calibration_samples_ for name, d in each.items()}),
            "guarantee": first.guarantee,
            "confidence": first.confidence,
            "group_by": first.group_by,
            "n_folds": len(first.estimators_),
        }

    def _is_by_rows_of_fit(self) -> bool:
        """Whether ``fit`` of the monitor held the rows out of its own."""
        if hasattr(self._monitor, "calibration_"):
            return not getattr(self._monitor, "_is_calibrated_anew", True)
        return not isinstance(self._first.cv, str)


def rule_of(monitor: Any) -> Rule:
    """How the monitor decides."""
    calibration = getattr(monitor, "calibration_", detector_of(monitor))
    if isinstance(calibration, ConformalDetector):
        calibration = {"": calibration}
    return HeldOutRule(monitor, calibration) if isinstance(calibration, dict) else OwnRule(monitor)


def _asked_rate(estimator: Any) -> float | None:
    """The rate of false alarms that sets the threshold of a detector, if one does."""
    is_given = getattr(detector_of(estimator), "tau", None) is not None
    return None if is_given else rate_of(estimator)


def _holds_rows_out(detector: Any) -> bool:
    return getattr(detector, "validation", None) is not None


def _is_quantile(detector: Any) -> bool:
    """Whether the threshold is a quantile of scores that the detector keeps."""
    rate = _asked_rate(detector)
    if rate is None or not hasattr(detector, "training_scores_"):
        return False
    counts_votes = getattr(detector, "combine", None) == "vote"
    # Nor is it one where other rows set it.
    return not counts_votes and bool(np.isclose(_threshold_at(detector, rate), detector.offset_))


def _threshold_at(detector: Any, rate: float) -> float:
    """The threshold by which the detector would have another rate."""
    if _holds_rows_out(detector):
        return conformal_threshold(detector.training_scores_, rate)
    return float(np.percentile(detector.training_scores_, 100 * rate))


def _numbers_of_rows(each: Mapping[str, int | None]) -> dict[str, Any]:
    known = [n_rows for n_rows in each.values() if n_rows is not None]
    return {
        "n_rows": min(known) if len(known) == len(each) else None,
        "n_rows_each": dict(each),
    }


def _offsets(detector: Any) -> Iterator[tuple[str, float]]:
    """Thresholds by the names of detectors or classes, without a name where there is one."""
    if hasattr(detector, "offsets_"):
        for name, offset in detector.offsets_.items():
            yield str(name), float(offset)
    elif is_of_pyod(detector):
        yield "", -float(detector.threshold_)
    elif hasattr(detector, "offset_"):
        yield "", float(np.asarray(detector.offset_).item())


def _offsets_each(
    by_name: Mapping[str, ConformalDetector], classes: Sequence[Any]
) -> Iterator[tuple[str, float]]:
    """The same for several detectors; a class without calibration rows is never rejected."""
    for detector, calibrated in by_name.items():
        found = dict(_offsets(calibrated))
        if calibrated.group_by is not None:
            found = {**{str(label): -np.inf for label in classes}, **found}
        for name, offset in found.items():
            yield ", ".join(filter(None, [detector, name])), offset
