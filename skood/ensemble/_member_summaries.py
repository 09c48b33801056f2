"""What batches teach an ensemble: a summary for each of its members, and some of the samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from .._row_runs import RowRuns
from .._streams import first_transform, steps_of, why_not_in_batches
from .._threshold_sample import ThresholdSample, shared
from .._values import Floats
from ..activations import Activations
from ..detectors import BaseIncrementalDetector


def why_no_summary(member: Any) -> str:
    """Why an ensemble cannot learn in batches with a member; nothing where it can."""
    detector = steps_of(member)[-1]
    if why := why_not_in_batches(member, "partial_fit", "merge"):
        return why
    if not isinstance(detector, BaseIncrementalDetector):
        return f"{type(detector).__name__} has no summary of batches that could be merged"
    if detector.validation is not None:
        return f"{type(detector).__name__} holds out rows of its own by validation"
    return ""


def why_nothing_is_kept(members: Iterable[Any]) -> str:
    """What fitted members say that cannot learn more; nothing where all can."""
    for member in members:
        try:
            steps_of(member)[-1]._check_can_learn_more()
        except ValueError as error:
            return str(error)
    return ""


@dataclass(frozen=True)
class LearntMember:
    """A member of an ensemble, and what it has learnt in batches.

    Attributes
    ----------
    member : estimator
        Steps that learn from no rows, which were fitted, and a detector that has seen a batch.
    summary : object
        Summary of all batches; None of none.
    """

    member: Any
    summary: Any = None

    @classmethod
    def begun(cls, member: Any, X: Any) -> LearntMember:
        """A member, a clone, that is to learn from samples such as these."""
        *before, detector = steps_of(member)
        for step in before:
            X = first_transform(step, X)
        detector._begin()
        X = detector._validate(X, reset=True)
        detector._by_class = detector._tells_classes(X)
        return cls(member)

    @classmethod
    def of_fitted(cls, member: Any) -> LearntMember:
        """What a member has learnt in its fit."""
        detector = steps_of(member)[-1]
        del detector._sample  # the ensemble has its own
        return cls(member, detector._summary)

    def learn(self, X: Any, y: NDArray | None) -> LearntMember:
        """What one or more samples teach the member."""
        detector, samples = _inside(self.member, X)
        return replace(self, summary=detector._learn(samples, y))

    def learn_ood(self, X: Any) -> LearntMember:
        """What samples marked -1 teach it, where it learns from these."""
        detector, samples = _inside(self.member, X)
        if not detector._learns_from_ood:
            return replace(self, summary=None)
        return replace(self, summary=detector._learn_ood(samples))

    def merge(self, other: LearntMember) -> LearntMember:
        """What the samples of both teach; neither is changed."""
        if self.summary is None or other.summary is None:
            return other if self.summary is None else self
        return replace(self, summary=self.summary.merge(other.summary))

    def finished(self, n_samples: int) -> LearntMember:
        """A new member that has learnt so many samples, and the same summary."""
        member = _copied(self.member)
        detector = steps_of(member)[-1]
        detector._learnt_runs = detector._training_runs = RowRuns.first(n_samples)
        detector.n_samples_seen_ = n_samples
        detector._summary = self.summary
        detector._finish_all()
        return LearntMember(member, detector._summary)


@dataclass(frozen=True)
class EnsembleSummary:
    """What batches teach an ensemble.

    Attributes
    ----------
    members : list of LearntMember
        All members; none where there was no in-distribution sample.
    inside : ThresholdSample or None
        Samples that were learnt from, where these calibrate the members.
    outside : ThresholdSample or None
        Samples marked -1, where these weigh the members.
    """

    members: list[LearntMember] = field(default_factory=list)
    inside: ThresholdSample | None = None
    outside: ThresholdSample | None = None

    def merge(self, other: Self) -> Self:
        """What the samples of both teach; neither is changed."""
        mine, theirs = self.members, other.members
        pairs = zip(mine, theirs, strict=True) if mine and theirs else None
        return replace(
            self,
            members=mine or theirs if pairs is None else [a.merge(b) for a, b in pairs],
            inside=_of_both(self.inside, other.inside),
            outside=_of_both(self.outside, other.outside),
        )


def sharing_rows(members: Iterable[LearntMember]) -> list[LearntMember]:
    """The same, of which those that keep the same rows have them once in memory."""
    known: list[ThresholdSample] = []
    found = []
    for member in members:
        if isinstance(member.summary, ThresholdSample):
            known.append(shared(member.summary, known))
            found.append(replace(member, summary=known[-1]))
        else:
            found.append(member)
    return found


def sample_of(X: Activations, y: NDArray | None = None) -> ThresholdSample:
    """Samples to keep, numbered from 0."""
    return ThresholdSample.of(X, y, np.arange(len(X)))


def counted(sample: ThresholdSample) -> tuple[Activations, NDArray | None]:
    """Samples that stand for all that were seen, each as often as it counts."""
    held = sample.counted()[1]
    if len(held) == len(sample.X) and (held == np.arange(len(held))).all():
        return sample.X, sample.y
    return sample.X[held], None if sample.y is None else sample.y[held]


def raw_left_out(member: Any, X: Any, y: NDArray | None) -> Floats:
    """What a member says of samples that it has learnt from, each left out: some columns."""
    detector, samples = _inside(member, X)
    return detector._left_out_scores(samples, y).reshape(len(X), -1)


def may_look_again(members: Iterable[Any]) -> bool:
    """Whether any of some members, fitted or not, may need further looks at samples."""
    last = [steps_of(member)[-1] for member in members]
    return any(isinstance(d, BaseIncrementalDetector) and d._may_look_again() for d in last)


def looks_of(members: Iterable[Any]) -> list[tuple[int, Any]]:
    """The looks that fitted members need, beside the number of the member."""
    numbered = enumerate(steps_of(member)[-1] for member in members)
    return [(number, key) for number, detector in numbered for key in detector._looks()]


def look(member: Any, key: Any, X: Any, y: NDArray | None) -> Any:
    """What samples teach a member in a look."""
    detector, samples = _inside(member, X)
    return detector._look(key, samples, y)


def after_look(member: Any, key: Any, summary: Any) -> Any:
    """What follows for a member from a look at all samples."""
    return steps_of(member)[-1]._after_look(key, summary)


def keep_looks(members: Iterable[Any], found: dict[tuple[int, Any], Any]) -> None:
    """Let each member keep what followed from its looks."""
    for number, member in enumerate(members):
        own = {key: what for (of, key), what in found.items() if of == number}
        steps_of(member)[-1]._keep_looks(own)


def width(member: Any) -> int:
    """How many columns that are."""
    return steps_of(member)[-1]._left_out_width() or 1


def completed(members: Sequence[Any], raw: Floats) -> list[Floats]:
    """Scores of what all members say of all samples, side by side; they set their thresholds."""
    ends = np.cumsum([width(member) for member in members])[:-1]
    return [_completed(*pair) for pair in zip(members, np.split(raw, ends, axis=1), strict=True)]


def _completed(member: Any, raw: Floats) -> Floats:
    detector = steps_of(member)[-1]
    scores = detector._complete_scores(raw[:, 0] if detector._left_out_width() is None else raw)
    detector._set_threshold(scores)
    return scores


def _inside(member: Any, X: Any) -> tuple[Any, Activations]:
    """The detector of a fitted member, and validated samples as it takes them."""
    *before, detector = steps_of(member)
    for step in before:
        X = step.transform(X)
    return detector, detector._validate(X, reset=False)


def _copied(member: Any) -> Any:
    """The same pipeline or detector with attributes of its own; what they hold is shared."""
    new = copy(member)
    if isinstance(member, Pipeline):
        *before, (name, last) = member.steps
        new.steps = [*before, (name, _copied(last))]
    return new


def _of_both(
    mine: ThresholdSample | None, theirs: ThresholdSample | None
) -> ThresholdSample | None:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return mine.merge(theirs.numbered_from(mine.n_seen))
