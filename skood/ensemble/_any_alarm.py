"""Several detectors with a threshold each, any of which may raise the alarm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from .._classes import rows_to_accept
from .._conformal import held_out_threshold, lowest_accepted, starts_of_equal_scores
from .._diagram import MembersMixin
from .._elsewhere import run_elsewhere
from .._foreign import are_named, detector_of, is_of_pyod, rate_of
from .._held_out import VALIDATION
from .._named_detectors import NamedDetectors
from .._progress import steps
from .._streams import check_fitted, steps_of
from .._threshold_sample import ThresholdSample, shared
from .._validation import ARRAY_LAYER, check_activations
from .._values import Floats
from ..activations import Activations
from ..detectors import BaseIncrementalDetector, batches_of, forget_batches
from ._member_summaries import (
    EnsembleSummary,
    LearntMember,
    after_look,
    completed,
    counted,
    keep_looks,
    look,
    looks_of,
    may_look_again,
    raw_left_out,
    sample_of,
    sharing_rows,
    why_no_summary,
    why_nothing_is_kept,
    width,
)
from ._members import fit_and_calibrate, fit_member, layers_to_read, member_scores

_FAR = 1000.0
"""Mean excesses below all scores, where a threshold of -inf is taken to be."""


class AnyAlarmDetector(MembersMixin, BaseIncrementalDetector, NamedDetectors):
    """Reject what any of several detectors rejects, each with a threshold of its own.

    Out-of-distribution inputs and misclassified ones are found best by different scores. Where
    both matter, two detectors with two thresholds serve better than one score for both.

    Parameters
    ----------
    detectors : list of (str, estimator) tuples
        Names, and outlier detectors or pipelines that end in one, which are cloned. Each is given
        all layers. What it rejects is decided by its own threshold, and so by its own
        ``false_alarm_rate``.
    validation : float in (0, 1) or splitter, default=None
        Which in-distribution samples set the threshold of each detector and are not learnt from: a
        random share, or the test part of the first split of a scikit-learn splitter. Then each
        detector rejects on average at most its own ``false_alarm_rate`` (or ``contamination``) of
        new samples of their distribution; for that the network must not have learnt from them
        either. By default each detector has the threshold that it finds itself.
    verbose : int, default=0
        Whether to show which of the detectors are fitted; see :ref:`progress`.

    Attributes
    ----------
    named_estimators_ : dict of str to estimator
        The fitted detectors by name.
    offsets_ : dict of str to float
        Threshold of each on its own scores, those of :meth:`score_each`.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Scores of the in-distribution training samples, as if none of them had been learnt from;
        with ``validation`` of those that are held out.
    offset_ : float
        Threshold on ``score_samples``: 0.

    See Also
    --------
    LayerEnsembleDetector : Makes one score of those of several detectors.
    skood.make_monitor : With ``target="both"``, builds a monitor of such a detector.

    Notes
    -----
    **False alarms.** Each detector rejects its own share of in-distribution samples. Together they
    reject at least the largest of these shares, where they reject the same samples, and at most
    their sum: two with 5 % each, between 5 % and 10 %. For at most 5 % in all, give each 2.5 %.

    **Score.** The score of a sample is that of the detector that is nearest to an alarm, or
    furthest beyond: the smallest difference of log p-values, that of the sample's score less that
    of the threshold. The p-value of a score is its rank among the scores of in-distribution
    training samples, interpolated between these. Beyond the smallest and the largest of them its
    logarithm goes on linearly, by the mean excess of the outer tenth, so that samples far away are
    ordered, too. The score is negative where a detector rejects, and nowhere else.

    The training scores are the detectors' own, with each sample left out, where they have them
    (``training_scores_``), and otherwise come from 5-fold cross-validation, which fits a detector
    five times more.

    With ``validation`` the scores of the rows that are held out take their place. A detector with
    ``target="misclassified"`` is to accept those of them that are classified correctly: where ``y``
    tells classes, only these set its threshold.

    ``partial_fit`` and ``merge`` are there where all detectors have them; each then learns and sets
    its threshold as it does alone.

    Samples marked -1 in ``fit`` are given to those detectors alone that learn from them.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.detectors import KNNDetector, MaxSoftmaxDetector
    >>> from skood.ensemble import AnyAlarmDetector
    >>> rng = np.random.default_rng(0)
    >>> label = np.repeat([0, 1], 100)
    >>> hidden = np.eye(2)[label] + 0.1 * rng.normal(size=(200, 2))
    >>> A = Activations({"relu": hidden}, logits=4 * hidden)
    >>> far_and_unsure = np.array([[9.0, 0.0], [0.5, 0.5]])
    >>> new = Activations({"relu": far_and_unsure}, logits=4 * far_and_unsure)
    >>> detector = AnyAlarmDetector(
    ...     [("far", KNNDetector(normalize=False)), ("unsure", MaxSoftmaxDetector())]
    ... ).fit(A)
    >>> detector.predict(new), detector.predict_each(new)
    (array([-1, -1]), {'far': array([-1, -1]), 'unsure': array([ 1, -1])})
    """

    _learns_from_ood = True
    _lists_of_detectors = ("detectors",)
    _params_after_learning: frozenset[str] = frozenset()
    _n_stages_of_fit = 1

    _parameter_constraints: dict = {
        "detectors": [list],
        "validation": VALIDATION,
        "verbose": ["verbose"],
    }

    def __init__(
        self, detectors: Sequence[tuple[str, Any]], *, validation: Any = None, verbose: int = 0
    ) -> None:
        self.detectors = detectors
        self.validation = validation
        self.verbose = verbose

    def _validate(self, X: Any, *, reset: bool) -> Activations:
        return check_activations(self, X, reset=reset, allow_nd=True)

    def _fit(
        self, X: Activations, y: NDArray | None, *, X_ood: Activations | None = None
    ) -> NDArray[np.float64] | None:
        self._check_detectors()
        forget_batches(self)
        self.named_estimators_: dict[str, Any] = {}
        given, scores = self._as_given(X), {}
        keeps = self._keeps_samples(X)
        with steps(self, len(self.detectors), "detectors") as told:
            for name, detector in self.detectors:
                outside = None
                if X_ood is not None and getattr(detector_of(detector), "_learns_from_ood", False):
                    outside = self._as_given(X_ood)
                member = clone(detector)
                self.named_estimators_[name] = member
                data = given, y, outside, keeps
                with told.step(name, member):
                    if self.validation is None:
                        _, scores[name] = fit_and_calibrate(member, *data)
                    else:
                        fit_member(member, *data)
        self._keep(X, y, keeps=keeps)
        if self.validation is not None:
            return None
        self._set_thresholds(_threshold_of, scores)
        return self._smallest(scores)

    def _why_not_in_batches(self) -> str:
        if not self.detectors or not are_named(self.detectors):
            return "it has no detectors"
        return next(filter(None, (why_no_summary(member) for _, member in self.detectors)), "")

    def _keep(self, X: Activations, y: NDArray | None, *, keeps: bool) -> None:
        """Keep what more batches need, where all detectors do and memory allows it."""
        fitted = self.named_estimators_.values()
        self._why_nothing_is_kept = why_nothing_is_kept(fitted) if keeps else ""
        if not keeps or self._why_nothing_is_kept:
            forget_batches(self)
            return
        members = sharing_rows(map(LearntMember.of_fitted, fitted))
        for learnt in members:
            steps_of(learnt.member)[-1]._summary = learnt.summary
        self._summary = EnsembleSummary(members, self._inside(X, y))
        if self.validation is None:
            self._share_sample(self._sample_of(X, y, self.training_rows_))

    def _share_sample(self, sample: ThresholdSample) -> None:
        """Let the samples that set the threshold be those that a detector keeps, if it does."""
        kept = [member.summary for member in self._summary.members]
        self._sample = shared(sample, [each for each in kept if isinstance(each, ThresholdSample)])

    def _inside(self, X: Activations, y: NDArray | None) -> ThresholdSample | None:
        """Samples that set the detectors' own thresholds, where others set those that count."""
        return None if self.validation is None else sample_of(X, y)

    def _check_can_learn_more(self) -> None:
        if self._why_nothing_is_kept:
            raise ValueError(self._why_nothing_is_kept)
        super()._check_can_learn_more()

    def _begin(self) -> None:
        self._check_detectors()
        super()._begin()
        self._summary, self._why_nothing_is_kept = EnsembleSummary(), ""

    def _learn(self, X: Activations, y: NDArray | None) -> EnsembleSummary:
        if len(X) == 0:
            return EnsembleSummary()
        given = self._as_given(X)
        learnt = [member.learn(given, y) for member in self._members_of(given)]
        return EnsembleSummary(learnt, self._inside(X, y))

    def _learn_ood(self, X: Activations) -> EnsembleSummary:
        given = self._as_given(X)
        return EnsembleSummary([member.learn_ood(given) for member in self._members_of(given)])

    def _members_of(self, given: Any) -> list[LearntMember]:
        """All detectors, in the first batch such as have learnt nothing yet."""
        if members := self._summary.members:
            return members
        return [LearntMember.begun(clone(detector), given) for _, detector in self.detectors]

    def _finish(self, summary: EnsembleSummary) -> None:
        n_samples = len(self._learnt_runs)
        names = [name for name, _ in self.detectors]
        learnt = [member.finished(n_samples) for member in sharing_rows(summary.members)]
        self._summary = replace(summary, members=learnt)
        members = [each.member for each in learnt]
        self.named_estimators_ = dict(zip(names, members, strict=True))
        if summary.inside is not None:
            given = counted(summary.inside)
            self._look_again(*given)
            found = [self._left_out_scores(*batch) for batch in batches_of(*given)]
            completed(members, np.concatenate(found))

    def _may_look_again(self) -> bool:
        members = [detector for _, detector in self.detectors]
        return self.validation is None and may_look_again(members)

    def _looks(self) -> list[tuple[int, Any]]:
        return looks_of(self.named_estimators_.values())

    def _look(self, key: tuple[int, Any], X: Activations, y: NDArray | None) -> Any:
        return look(self._member(key), key[1], self._as_given(X), y)

    def _after_look(self, key: tuple[int, Any], summary: Any) -> Any:
        return after_look(self._member(key), key[1], summary)

    def _keep_looks(self, found: dict[tuple[int, Any], Any]) -> None:
        keep_looks(self.named_estimators_.values(), found)

    def _member(self, key: tuple[int, Any]) -> Any:
        return list(self.named_estimators_.values())[key[0]]

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        given = self._as_given(X)
        return np.column_stack(
            [raw_left_out(member, given, y) for member in self.named_estimators_.values()]
        )

    def _left_out_width(self) -> int:
        return sum(map(width, self.named_estimators_.values()))

    def _complete_scores(self, scores: Floats) -> Floats:
        found = completed(list(self.named_estimators_.values()), scores)
        by_name = dict(zip(self.named_estimators_, found, strict=True))
        self._set_thresholds(_threshold_of, by_name)
        return self._smallest(by_name)

    def _score_held_out(self, X: Activations, y: NDArray | None) -> Floats:
        if hasattr(self, "_summary") and self._keeps_samples(X):
            self._sample = self._sample_of(X, y, self.training_rows_)
        else:
            forget_batches(self)  # without the sample, more batches would set no threshold
        return self._set_by_held_out(X, y)

    def _score_sample(self) -> Floats:
        if self.validation is None:
            self._share_sample(self._sample)
            return super()._score_sample()
        self.training_rows_, _ = self._sample.counted()
        return self._set_by_held_out(*counted(self._sample))

    def _set_by_held_out(self, X: Activations, y: NDArray | None) -> Floats:
        """Thresholds of all detectors by samples that are held out; returns the scores of these."""
        found = [self._held_out_scores(batch) for batch in X.batches()]
        return self._complete_held_out(np.concatenate(found), X, y)

    def _held_out_scores(self, X: Activations) -> Floats:
        return np.column_stack(list(self._score_each(X).values()))

    def _complete_held_out(self, found: Floats, X: Activations, y: NDArray | None) -> Floats:
        def threshold(name: str, fitted: Any) -> float:
            may_set = rows_to_accept(getattr(detector_of(fitted), "target", "ood"), X, y)
            return held_out_threshold(scores[name][may_set], _rate_of(name, fitted))

        scores = dict(zip(self.named_estimators_, found.T, strict=True))
        self._set_thresholds(threshold, scores)
        return self._smallest(scores)

    def _set_thresholds(
        self, threshold: Callable[[str, Any], float], scores: dict[str, Floats]
    ) -> None:
        """Give each detector a threshold, and compare its scores by those of samples."""
        self.offsets_ = {name: threshold(name, e) for name, e in self.named_estimators_.items()}
        self._lowest = dict(self.offsets_)
        if self.validation is not None:
            self._lowest = {n: lowest_accepted(scores[n], self.offsets_[n]) for n in scores}
        self._relative = {n: _RelativeLogP(scores[n], self._lowest[n]) for n in scores}

    def _smallest(self, scores: dict[str, Floats]) -> Floats:
        return np.min(list(self._relative_each(scores).values()), axis=0)

    def _relative_each(self, scores: dict[str, Floats]) -> dict[str, Floats]:
        return {name: self._relative[name](scores[name]) for name in scores}

    def _as_given(self, X: Activations) -> Any:
        """Validated samples as a detector takes them by itself: an array where one was given."""
        return X if hasattr(self, "layer_shapes_") else np.asarray(X[ARRAY_LAYER])

    def _check_detectors(self) -> None:
        if not self.detectors or not are_named(self.detectors):
            raise ValueError(
                "detectors must be a list of one or more pairs of a name and a detector, got "
                f"{self.detectors!r}."
            )
        self._validate_names([name for name, _ in self.detectors])

    def _threshold(self, training_scores: NDArray[np.float64]) -> float:
        return 0.0

    def _less_rounding(self, threshold: float, training_scores: NDArray[np.float64]) -> float:
        return threshold

    def _members_shown(self) -> list[tuple[str, Any]]:
        return list(getattr(self, "named_estimators_", dict(self.detectors)).items())

    def _layers_to_read(self) -> set[str] | None:
        return layers_to_read(list(self.named_estimators_.values()))

    def _score_samples(self, X: Activations) -> Floats:
        return self._smallest(self._score_each(X))

    def _score_each(self, X: Activations) -> dict[str, Floats]:
        given = self._as_given(X)
        return {name: member_scores(e, given) for name, e in self.named_estimators_.items()}

    @run_elsewhere("scores_each")
    def score_each(self, X: Activations | ArrayLike) -> dict[str, Floats]:
        """Score samples by each detector alone: the higher, the more in-distribution.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : dict of str to ndarray of shape (n_samples,)
            Its own scores by the name of each detector, to compare with ``offsets_``.
        """
        check_fitted(self)
        return self._score_each(self._validate(X, reset=False))

    @run_elsewhere("scores_each")
    def decision_each(self, X: Activations | ArrayLike) -> dict[str, Floats]:
        """Score samples relative to the threshold of each detector: negative where it rejects.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : dict of str to ndarray of shape (n_samples,)
            Differences of log p-values by the name of each detector. ``score_samples`` is the
            smallest of them.
        """
        return self._relative_each(self.score_each(X))

    @run_elsewhere("verdicts_each")
    def predict_each(self, X: Activations | ArrayLike) -> dict[str, NDArray[np.int64]]:
        """Tell which detectors reject which samples.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        labels : dict of str to ndarray of shape (n_samples,)
            1 or -1, by the name of each detector. ``predict`` is the smallest of them.
        """
        scores = self.score_each(X)
        return {name: np.where(scores[name] >= self._lowest[name], 1, -1) for name in scores}


def _threshold_of(name: str, fitted: Any) -> float:
    """Smallest score, with skood's sign, that a detector accepts."""
    detector = detector_of(fitted)
    if is_of_pyod(fitted):
        return -float(detector.threshold_)
    # scikit-learn's decisions are 0 at the threshold, and scores less the offset.
    offset = getattr(detector, "offset_", None if hasattr(fitted, "score_samples") else 0.0)
    if offset is None:
        raise ValueError(
            f"The detector {name!r}, {detector!r}, has no threshold: it needs offset_, as outlier "
            "detectors have, to say which samples it rejects."
        )
    return np.asarray(offset, dtype=np.float64).item()


def _rate_of(name: str, fitted: Any) -> float:
    """The rate that validation rows are to give a detector."""
    rate = rate_of(fitted)
    if rate is None or getattr(detector_of(fitted), "tau", None) is not None:
        raise ValueError(
            f"validation sets thresholds by the false_alarm_rate or contamination of detectors, "
            f"but {name!r}, {detector_of(fitted)!r}, has no such number. Set it, or leave "
            "validation None."
        )
    return rate


class _RelativeLogP:
    """Log p-values of scores, less that of a threshold; they rise with the scores everywhere.

    Parameters
    ----------
    training_scores : ndarray of shape (n_samples,)
        Scores of in-distribution samples that were not learnt from.
    threshold : float
        Smallest score that is accepted.
    """

    def __init__(self, training_scores: Floats, threshold: float) -> None:
        ascending = np.sort(training_scores)
        # Between scores that lie nearer together, rounding would decide where a sample is.
        last = np.append(starts_of_equal_scores(ascending)[1:], len(ascending)) - 1
        self._scores = ascending[last]
        self._log_p = np.log((last + 1) / (len(ascending) + 1))
        low, high = np.percentile(training_scores, [10, 90])
        self._excess_below = self._mean_excess(low - training_scores)
        self._excess_above = self._mean_excess(training_scores - high)
        self._threshold = threshold
        # Of a threshold that rejects nothing, all are above.
        at = threshold if threshold > -np.inf else self._scores[0] - _FAR * self._excess_below
        self._at_threshold = self._log_p_values(np.array([at]))[0]

    def _mean_excess(self, excess: Floats) -> float:
        """The mean beyond a quantile; where all there are equal, the range of all scores or 1."""
        beyond = excess[excess > 0]
        return float(beyond.mean() if beyond.size else np.ptp(self._scores) or 1.0)

    def _log_p_values(self, scores: Floats) -> Floats:
        log_p = np.interp(scores, self._scores, self._log_p)
        below = np.maximum(self._scores[0] - scores, 0) / self._excess_below
        above = np.maximum(scores - self._scores[-1], 0) / self._excess_above
        return log_p - below + above

    def __call__(self, scores: Floats) -> Floats:
        relative = self._log_p_values(scores) - self._at_threshold
        # Rounding decides nothing: the sign is that of the detector's own verdict.
        rejected = np.minimum(relative, -np.finfo(np.float64).tiny)
        return np.where(scores >= self._threshold, np.maximum(relative, 0.0), rejected)
