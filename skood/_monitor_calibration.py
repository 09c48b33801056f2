"""What calibrates a monitor, and what says that it is not calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from scipy.stats import false_discovery_control, poisson
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from ._classes import rows_to_accept, tells_classes
from ._column import Role
from ._elsewhere import are_activations
from ._foreign import detector_of, is_calibrated, rate_of, what_is_calibrated
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
from .activations import Activations, copy_of
from .calibration import ConformalDetector, RiskControlledDetector, UncalibratedWarning

_ONE = ""
"""Name of the detector where there is one alone."""
_USUAL_RATE = 0.05
_SURE = 0.97
"""Mean confidence from which a network may be one that knows the rows by heart."""
_SMALL = 0.05
"""Probability below which so few errors are no chance."""
_FEW = 0.2
"""Share of the errors to expect that hardly any network makes on new rows."""
_ONE_LABEL = "all rows that are not marked -1 have the same label"
_MANY_ROWS = 500
"""As many rows without an error are too good to be new, for most networks."""


@dataclass(frozen=True)
class HeldOutThresholds:
    """Thresholds and p-values by rows that are held out, of one detector or of each of several.

    Attributes
    ----------
    by_name : dict of str to ConformalDetector
        Calibrated detectors by name, one without a name where it is alone.
    right_or_wrong : bool, default=False
        Whether a detector of errors is calibrated by all rows, as no labels say which are right.
    """

    by_name: dict[str, ConformalDetector]
    right_or_wrong: bool = False

    @classmethod
    def of(cls, calibration: Any, *, right_or_wrong: bool = False) -> HeldOutThresholds:
        """Those of a fitted attribute: a calibrated detector, or several by name."""
        by_name = calibration if isinstance(calibration, dict) else {_ONE: calibration}
        return cls(by_name, right_or_wrong)

    @property
    def calibration(self) -> ConformalDetector | dict[str, ConformalDetector]:
        """What they are as a fitted attribute."""
        return self.by_name if self.alone is None else self.alone

    @property
    def alone(self) -> ConformalDetector | None:
        """The only one, where there is one."""
        return self.by_name.get(_ONE)

    def are_of(self, detector: Any) -> bool:
        """Whether they are those of a detector, and not of one whose place it took."""
        members = members_of(detector)
        return members.keys() == self.by_name.keys() and all(
            self.by_name[name].detector is member for name, member in members.items()
        )

    @property
    def offset(self) -> float:
        """The threshold, where there is a single one."""
        if self.alone is None or self.alone.group_by is not None:
            of = "detector" if self.alone is None else "predicted class"
            raise AttributeError(
                f"A Monitor with a threshold for each {of} has no single offset_: see offsets_. "
                "decision_function is 0 at the threshold."
            )
        return self.alone.offset_

    @property
    def offsets(self) -> dict[Any, Any]:
        """Thresholds by detector, by class, or by both."""
        if self.alone is not None:
            return self.alone.offsets_
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
        if self.alone is not None:
            return self.alone.decision_function(A)
        return np.min(list(self.decision_each(A).values()), axis=0)

    def decision_each(self, A: Any) -> dict[str, Floats]:
        """Scores less thresholds of each of several detectors, by its own spread."""
        return {name: _in_deviations(detector, A) for name, detector in self.by_name.items()}

    def p_values(self, A: Any) -> Floats:
        return _joint([detector.p_values(A) for detector in self.by_name.values()])

    def select(self, A: Any, fdr: float, method: str) -> NDArray[np.bool_]:
        if self.alone is not None:
            return self.alone.select(A, fdr, method=method)
        # What is promised of one threshold is no part of a false discovery rate.
        p_values = _joint([d._p_values(A, guarantee="marginal") for d in self.by_name.values()])
        if len(p_values) == 0:
            return np.zeros(0, dtype=bool)
        self._warn_if_none_can_be_selected(len(p_values), fdr, method)
        return np.asarray(false_discovery_control(p_values, method=method) <= fdr)

    def _warn_if_none_can_be_selected(self, n_samples: int, fdr: float, method: str) -> None:
        most = [_most_rows(detector) for detector in self.by_name.values()]
        lowest = _joint([np.full(n_samples, 1 / (n + 1)) for n in most])
        if (reached := false_discovery_control(lowest, method=method)[0]) > fdr:
            warn_user(
                f"Nothing can be selected of {n_samples} samples at a false discovery rate of "
                f"{fdr:g}: with {len(most)} detectors and {max(most)} calibration rows the "
                f"smallest that {method!r} can reach is {reached:.3g}. Calibrate with more rows."
            )

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
        rows = (
            "held-out rows, classified right or wrong" if self.right_or_wrong else "held-out rows"
        )
        return f"{rates}{of_each}, calibrated by {n_rows} {rows}, {promise}"


def _most_rows(detector: ConformalDetector) -> int:
    """Rows that a sample is compared with; by class, those of the largest."""
    if detector.group_by is None:
        return detector.n_calibration_samples_
    return int(np.unique(detector.calibration_classes_, return_counts=True)[1].max())


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
    parts: Sequence[tuple[Any, ArrayLike | None]],
    target: str,
    *,
    false_alarm_rate: float | None = None,
    **promise: Any,
) -> HeldOutThresholds:
    """Calibrate a fitted detector, or each of several with a threshold of its own.

    Parameters
    ----------
    detector : estimator
        What scores activations in the end. It is left as it is.
    parts : sequence of (Activations or ndarray, array-like of shape (n_samples,) or None)
        Rows, as it takes them, and their labels; -1 marks a row that does not calibrate. By
        default those that ``Activations`` carry say which rows are classified correctly.
    target : {"ood", "misclassified", "both"}
        What the monitor is to find. Of several detectors each has its own.
    false_alarm_rate : float, default=None
        Rate of each detector, by default its own.
    **promise : dict
        ``group_by``, ``guarantee`` and ``confidence``.
    """
    read = [_ReadRows.of(A, y) for A, y in parts]
    thresholds, right_or_wrong = {}, False
    for name, member in members_of(detector).items():
        wanted = target if name == _ONE else getattr(detector_of(member), "target", "ood")
        rate = rate_of(member) if false_alarm_rate is None else false_alarm_rate
        conformal = ConformalDetector(
            member, false_alarm_rate=_USUAL_RATE if rate is None else rate, **promise
        )
        pairs = [(rows, rows.that_count(wanted)) for rows in read]
        if are_missing := any(count is None for _, count in pairs):
            _ask_for_labels(wanted)
        thresholds[name] = conformal.fit(_one_of([rows.take(count) for rows, count in pairs]))
        if wanted != "ood" and not are_missing:
            conformal._keep_left_out(_one_of([rows.errors(count) for rows, count in pairs]))
        right_or_wrong |= are_missing
    return HeldOutThresholds(thresholds, right_or_wrong)


def _one_of(parts: list[Any]) -> Any:
    """All rows of several parts; those of one, where others have none, are not copied."""
    some = [part for part in parts if len(part)] or parts[:1]
    return some[0] if len(some) == 1 else joined(some)


def joined(parts: list[Any]) -> Any:
    """All rows of several parts, in memory of their own."""
    if isinstance(parts[0], Activations):
        return copy_of(Activations.concatenate(parts), get_args(Role))
    return np.concatenate(parts)


def targets_of(step: Any) -> set[str]:
    """What a fitted detector says itself that it looks for; nothing of one that a search chose."""
    while isinstance(step, Pipeline | FrozenEstimator) or is_calibrated(step):
        if is_calibrated(step):
            step = what_is_calibrated(step)
        else:
            step = step[-1] if isinstance(step, Pipeline) else step.estimator
    several = several_of(step)
    if several is not None:
        found = set().union(*map(targets_of, several.values()))
        return found if len(found) > 1 else set()
    target = getattr(step, "target", None)
    return {target} if target in ("ood", "misclassified", "both") else set()


def several_of(detector: Any) -> dict[str, Any] | None:
    """Detectors by name that have a threshold each; None of one."""
    return detector.named_estimators_ if hasattr(detector, "predict_each") else None


def members_of(detector: Any) -> dict[str, Any]:
    """Detectors that have a threshold each; one alone without a name."""
    several = several_of(detector)
    return {_ONE: detector} if several is None else several


@dataclass(frozen=True)
class _ReadRows:
    """Rows to calibrate with, but those that labels which were given mark -1.

    Attributes
    ----------
    A : Activations or ndarray
        The rows.
    labels : ndarray or None
        Labels that they were given or carry.
    are_given : bool
        Whether they were given, so that none is a mark.
    """

    A: Any
    labels: NDArray | None
    are_given: bool

    @classmethod
    def of(cls, A: Any, y: ArrayLike | None) -> _ReadRows:
        if y is None:
            labels = A.labels if are_activations(A) else None
            return cls(A, None if labels is None else read_labels(labels), False)
        rows = in_distribution_rows(y, len(A))
        if are_activations(A):
            return cls(*take_rows(A, y, rows), True)
        return cls(A[rows], plain_labels(read_labels(y)[rows]), True)

    def that_count(self, target: str) -> NDArray[np.intp] | None:
        """Rows to accept, with errors as target those that are right; None without labels."""
        if target == "ood":
            return np.arange(len(self.A))
        if self.labels is None or not are_activations(self.A):
            return None
        rows = np.flatnonzero(in_distribution(self.labels))
        if not tells_classes(classes := plain_labels(self.labels[rows])):
            return None
        if not self.are_given:
            _warn_of_marks(self.labels, target)
        return rows[rows_to_accept("misclassified", self.A[rows], classes)]

    def take(self, rows: NDArray[np.intp] | None) -> Any:
        """Some of the rows, or all."""
        return self.A if rows is None or len(rows) == len(self.A) else self.A[rows]

    def errors(self, right: NDArray[np.intp] | None) -> Any:
        """In-distribution rows that are not among those that are classified correctly."""
        assert self.labels is not None
        assert right is not None
        return self.A[np.setdiff1d(np.flatnonzero(in_distribution(self.labels)), right)]


def _ask_for_labels(target: str) -> None:
    warn_user(
        f"target={target!r} is to accept rows that are classified correctly, but no labels say "
        "which are: all rows calibrate, wrong ones too, and the rate is that of all. Pass the "
        "class labels as y.",
        UncalibratedWarning,
    )


def _warn_of_marks(labels: NDArray, target: str) -> None:
    if n_marked := int((~in_distribution(labels)).sum()):
        warn_user(
            f"{n_marked} of {len(labels)} labels that came with the inputs are -1. These rows are "
            f"not classified correctly, and do not calibrate the detector with target={target!r}. "
            "Pass the labels as y, so that they calibrate none."
        )


def estimated_rate(detector: Any) -> str:
    """The rate that a detector is to have by its own threshold."""
    members = members_of(detector).values()
    numbers = sorted({rate for member in members if (rate := rate_of(member)) is not None})
    rates = " and ".join(f"{rate:g}" for rate in numbers) or "no number"
    return f"{rates}, by rows held out" if holds_rows_out(detector) else f"{rates}, an estimate"


def bounded_risk(detector: RiskControlledDetector) -> str:
    """What a threshold on the errors of the network bounds in place of that rate."""
    return (
        f"not bounded, but errors among accepted inputs: at most {detector.alpha:g} with confidence"
        f" {detector.confidence:g}, by {detector.n_calibration_samples_} held-out rows"
    )


def holds_rows_out(detector: Any) -> bool:
    """Whether a detector sets its threshold by rows that it has not learnt from."""
    return is_calibrated(detector) or getattr(detector, "validation", None) is not None


def is_set_by_rows_held_out(detector: Any) -> bool:
    """Whether rows of its ``validation`` set a threshold on its score, and nothing else did."""
    has_rate = rate_of(detector) is not None or several_of(detector) is not None
    has_rule = (
        getattr(detector, "tau", None) is not None
        or getattr(detector, "combine", None) == "vote"
        or getattr(detector, "reject_mismatch", False)
    )
    return has_rate and not has_rule and getattr(detector, "validation", None) is not None


@dataclass(frozen=True)
class Evidence:
    """What labels of the rows that were learnt from say of whether the network knows these rows.

    Attributes
    ----------
    untold : str or None
        Why some rows have no labels that tell; None where all have, and nothing where there are
        just none.
    labels : frozenset
        Two different labels, or as many as there are.
    n_rows, n_wrong : int
        In-distribution rows, and how many of them the network gets wrong.
    expected : float
        How many errors its own confidence lets expect.
    """

    untold: str | None = None
    labels: frozenset[Any] = frozenset()
    n_rows: int = 0
    n_wrong: int = 0
    expected: float = 0.0

    @classmethod
    def of(cls, A: Any, y: ArrayLike | None) -> Evidence:
        """That of rows, by labels that are given, or that these carry."""
        given = A.labels if y is None and isinstance(A, Activations) else y
        if given is None:
            return cls("")
        labels = read_labels(given)
        classes = plain_labels(labels[in_distribution(labels)])
        if len(classes) == 0:
            return cls()
        if why := _why_labels_tell_nothing(A, classes):
            return cls(why)
        two = frozenset(np.unique(classes)[:2].tolist())
        n_wrong, expected = _errors(A, labels)
        return cls(None, two, len(classes), n_wrong, expected)

    def merge(self, other: Evidence) -> Evidence:
        """That of the rows of both."""
        return Evidence(
            other.untold if self.untold is None else self.untold,
            frozenset(sorted(self.labels | other.labels)[:2]),
            self.n_rows + other.n_rows,
            self.n_wrong + other.n_wrong,
            self.expected + other.expected,
        )

    def why_uncalibrated(self, detector: Any) -> str:
        """What says that a threshold from these rows is an estimate, or nothing.

        Labels tell it where the network fits the rows better than new ones, of which most networks
        are as sure as they are right, or surer: where it makes at most a fifth of the errors that
        its own confidence lets expect; where it is surer than 97 % on average, and makes fewer than
        these at all, by more than chance in both cases (a test at the level .05); or where it makes
        no error in 500 rows or more. No error in fewer rows shows neither, and so nothing says that
        they are held out. A network that is far less sure than it is right, as a regularised one
        may be, is taken for one that knows the rows.

        Parameters
        ----------
        detector : estimator
            What was fitted in the end.
        """
        why = self.untold
        if why is None and len(self.labels) < 2:
            why = _ONE_LABEL
        if why is not None:
            none = "no labels say whether the network has seen the rows of fit"
            return "" if holds_rows_out(detector) else none + (f": {why}" if why else "")
        return self._why_known_by_heart()

    def _why_known_by_heart(self) -> str:
        n_rows, n_wrong, expected = self.n_rows, self.n_wrong, self.expected
        is_odd = expected <= (1 - _SURE) * n_rows or n_wrong <= _FEW * expected
        too_few = is_odd and poisson.cdf(n_wrong, expected) <= _SMALL
        if n_wrong and not too_few:
            return ""
        if n_rows < _MANY_ROWS and not too_few:
            return (
                f"the labels do not show that the rows of fit, {n_rows}, are new to the network, "
                "which gets none of them wrong, as of rows that it was trained on"
            )
        return (
            "by the labels, the network fits the rows of fit as those that it was trained on, or "
            f"is less sure than it is right. It gets {n_wrong} of {n_rows} wrong, where its own "
            f"confidence lets expect {expected:.3g}"
        )


def _why_labels_tell_nothing(A: Any, classes: NDArray) -> str:
    """Why labels of in-distribution rows do not say what is right; nothing where they do."""
    logits = A[:1].logits if isinstance(A, Activations) else None  # none of the others is read
    if logits is None or A.classes is None or logits.shape[1] < 2:
        return "the network has no logits of two classes or more, to which labels could belong"
    if unknown := unknown_labels(classes, A.classes):
        if not tells_classes(classes):
            return _ONE_LABEL
        return (
            f"{_first(unknown)} among those given are no classes of the network, which are "
            f"{_first(A.classes.tolist())}"
        )
    return ""


def _first(labels: list[Any]) -> str:
    return ", ".join(map(repr, labels[:3])) + (", ..." if len(labels) > 3 else "")


def _errors(A: Activations, labels: NDArray) -> tuple[int, float]:
    """How many rows that are not marked are classified wrongly, and how many by the softmax."""
    n_wrong, expected, start = 0, 0.0, 0
    for batch in A.batches():
        of_batch = labels[start : start + len(batch)]
        rows = np.flatnonzero(in_distribution(of_batch))
        confidence = softmax(np.asarray(batch.logits, dtype=np.float64)[rows], axis=1).max(axis=1)
        is_wrong = np.asarray(batch.predictions)[rows] != plain_labels(of_batch[rows])
        n_wrong, expected = n_wrong + int(is_wrong.sum()), expected + float((1 - confidence).sum())
        start += len(batch)
    return n_wrong, expected


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
