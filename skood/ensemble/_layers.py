"""One detector for each layer, combined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted

from .._batches import row_batches
from .._conformal import conformal_threshold, held_out_threshold
from .._diagram import MembersMixin, copies_shown
from .._layer_names import layer_list, match_layers, value_names
from .._marks import marks_beside_y
from .._progress import steps
from .._sklearn import HasMethods, Interval, StrOptions
from .._threshold_sample import hash_labels
from .._too_few import TooFewSamplesError
from .._validation import check_activations
from .._values import Floats, below_all
from .._warnings import Line, users_line, working_for
from ..activations import Activations
from ..detectors import BaseIncrementalDetector, batches_of, forget_batches
from ._calibrations import Calibration, RankCalibration, TailCalibration
from ._combination import informative_members, informed_sum, mean_of_members
from ._knowledge import class_knowledge, knowledge_of_fitted, predicted_classes, tell_knowledge
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
    why_no_summary,
    why_nothing_is_kept,
    width,
)
from ._members import fit_and_calibrate, member_scores, of_detector
from ._together import FEW, Together, reads_layers

_N_COPIES = 8
"""Of the scores of all members, that are computed to combine them."""
_CALIBRATIONS: dict[str, type[Calibration]] = {
    "fisher": RankCalibration,
    "informed": TailCalibration,
    "mean": Calibration,
    "vote": RankCalibration,
    "weighted": Calibration,
}
"""How scores are compared with those of training samples, by the rule that combines them."""


class LayerEnsembleDetector(MembersMixin, BaseIncrementalDetector):
    """Fit a copy of a detector on each layer and combine their scores.

    No single layer detects every kind of out-of-distribution sample; together they do far better.

    Parameters
    ----------
    detector : estimator or list of estimators
        Outlier detector with ``fit`` and ``score_samples``, or a pipeline that ends in one;
        cloned for each layer. The members of a list are cloned, and each is given all layers, so
        that it begins with a selection of its own. Detectors of PyOD, recognised by their base
        class, score the other way round: their ``decision_function`` enters with a minus.
    layers : str, int, slice or sequence of them, default="all"
        Names, glob patterns or numbers of the layers, as in
        :class:`~skood.preprocessing.LayerSelector`. "all" are the layers that hold activations;
        gradients and stochastic passes, which are columns of another ``kind``, are members where
        they are selected by a name, pattern or number. Not used where ``detector`` is a list.
    combine : {"fisher", "informed", "mean", "vote", "weighted"}, default="fisher"
        - "fisher": sum of the logarithms of the members' p-values [1]_. The p-value of a score is
          its rank among scores of in-distribution training samples.
        - "informed": as "fisher", with an exponential tail below the 10 % quantile, ranks that rise
          evenly between every ``ceil(sqrt(n) / 4)``-th of n scores above it, and each layer
          weighted by its ``knowledge`` of the predicted classes; where its p-value is below 0.01 it
          counts in full. For networks whose early layers know nothing of the classes.
        - "mean": mean of the scores, standardised by those scores of training samples. More than
          ten standard deviations above their mean are ten, and of more than thirty below it only
          the logarithm of the excess counts: no member decides alone.
        - "vote": share of the members that accept a sample, all at the same p-value; half of them
          are enough.
        - "weighted": as "mean", weighted by how well each member detects the rows that are marked
          out-of-distribution, ``2 * AUROC - 1``, or 0 where that is negative; alike where no
          member is better than chance.
    n_layers : int, default=None
        Number of members to keep: those with the best AUROC against the rows that are marked
        out-of-distribution, earlier ones first on ties. By default all are kept.
    knowledge : array-like of shape (n_layers,), default=None
        With ``combine="informed"``, weights from 0 to 1 of the layers that are selected. By default
        how well each of them tells the predicted classes apart: the share of training samples that
        lie nearest to the mean of their predicted class, by Mahalanobis distances of normalised
        values, on a scale where that of guessing is 0.
    n_jobs : int, default=None
        Number of threads that fit and score members. None means 1, -1 all processors.
    verbose : int, default=0
        Whether to show which of the members are fitted; see :ref:`progress`.

    Attributes
    ----------
    layers_ : list of str
        Layer of each member kept, in forward order; "member 0", ... where ``detector`` is a list.
    estimators_ : list of estimators
        The fitted members.
    calibration_scores_ : ndarray of shape (n_learnt_samples, n_members)
        Scores of the samples that are learnt from, by members that did not learn from them.
    informative_ : ndarray of shape (n_members,)
        False for a member that gives all those samples of a predicted class the same score, but for
        rounding or chance: it cannot separate samples, and is left out, unless all are so.
    aurocs_ : ndarray of shape (n_members,)
        AUROC of each member against the OOD rows of ``fit``, where there were any.
    weights_ : ndarray of shape (n_members,)
        Weight of each member, with ``combine="weighted"``.
    knowledge_ : ndarray of shape (n_members,)
        Knowledge of each member's layer, with ``combine="informed"``; 1 for members of a list.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their combined scores.

    See Also
    --------
    AutoNAPDetector : The published ensemble of activation-pattern monitors.

    Notes
    -----
    Members learn from in-distribution rows alone; rows marked -1 only choose and weigh members.

    A sample of a predicted class of which a member has learnt nothing is rejected: its score
    is below that of all training samples of other classes.

    ``partial_fit`` and ``merge`` are there where the detector has them, and in front of it stand
    only steps that learn nothing from samples. Then members are calibrated by the samples that are
    kept, all of them while they are few.

    Where a member has the scores of its training samples with each of them left out
    (``training_scores_``, as all detectors of this package), these calibrate it. Any other
    member is calibrated by 5-fold cross-validation, which fits it five times more.

    References
    ----------
    .. [1] R. A. Fisher, "Statistical methods for research workers", Oliver and Boyd, 1925.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skood import Activations
    >>> from skood.ensemble import LayerEnsembleDetector
    >>> rng = np.random.default_rng(0)
    >>> A = Activations({"relu1": rng.normal(size=(200, 4)), "relu2": rng.normal(size=(200, 3))})
    >>> far = Activations({"relu1": np.full((1, 4), 5.0), "relu2": np.full((1, 3), 5.0)})
    >>> monitor = LayerEnsembleDetector(IsolationForest(random_state=0)).fit(A)
    >>> monitor.layers_, monitor.predict(far)
    (['relu1', 'relu2'], array([-1]))
    """

    _learns_from_ood = True
    _prototypes = frozenset({"detector"})
    _n_stages_of_fit = 1

    _parameter_constraints: dict = {
        **BaseIncrementalDetector._parameter_constraints,
        "detector": [HasMethods(["fit"]), list],
        "layers": [str, Integral, slice, "array-like"],
        "combine": [StrOptions({"fisher", "informed", "mean", "vote", "weighted"})],
        "n_layers": [Interval(Integral, 1, None, closed="left"), None],
        "knowledge": ["array-like", None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        detector: Any,
        *,
        layers: str | int | slice | Sequence[str | int] = "all",
        combine: str = "fisher",
        n_layers: int | None = None,
        knowledge: ArrayLike | None = None,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.detector = detector
        self.layers = layers
        self.combine = combine
        self.n_layers = n_layers
        self.knowledge = knowledge
        self.n_jobs = n_jobs
        self.verbose = verbose

    @classmethod
    def from_search(
        cls, search: Any, n_layers: int, *, metric: str | None = None, **params: Any
    ) -> Self:
        """Build an ensemble of the best setting of each of the best layers of a search.

        Parameters
        ----------
        search : fitted GridSearchCV, RandomizedSearchCV or a search by successive halving
            A search over a pipeline, with the layer among its parameters: the one that is named
            "layers", such as "select__layers". A layer has to be given in one way, by its name
            or by its number, not by both. After successive halving, the settings that came
            furthest are the best.
        n_layers : int
            How many layers to keep, by the mean test score of their best setting.
        metric : str, default=None
            Name of the score to rank by, where the search computed several; by default the one
            that ``refit`` names.
        **params : dict
            Further parameters of the ensemble, such as ``combine``.

        Returns
        -------
        ensemble : LayerEnsembleDetector
            Not fitted yet. Its ``detector`` is a list of pipelines, the best layer first.

        Raises
        ------
        ValueError
            If the search has no parameter of that name or several, or scored fewer layers; or if
            it computed several scores and neither ``metric`` nor its ``refit`` names one of them.
        """
        return cls(_best_pipelines(search, n_layers, metric), **params)

    def _fit(
        self, X: Activations, y: NDArray | None, *, X_ood: Activations | None = None
    ) -> Floats:
        forget_batches(self)
        outside = X[:0] if X_ood is None else X_ood
        self._check_needs_ood(X, len(outside))
        n_times = self._needs_inside() + (self.validation is None)
        keeps = self._keeps_samples(*[X] * n_times, outside)
        scores = self._fit_members(X, y, keep_batches=keeps)
        self._keep(X, y, outside, keeps=keeps)
        if self._asks_rows_for_knowledge():
            self._knowledge_of_rows = class_knowledge(X[self.layers_])
        return self._calibrate_members(scores, _groups_of(X), outside)

    def _why_not_in_batches(self) -> str:
        members = self.detector if isinstance(self.detector, list) else [self.detector]
        return next(filter(None, map(why_no_summary, members)), "")

    def _keep(
        self, X: Activations, y: NDArray | None, outside: Activations, *, keeps: bool
    ) -> None:
        """Keep what more batches need, where all members do and memory allows it."""
        self._why_nothing_is_kept = why_nothing_is_kept(self.estimators_) if keeps else ""
        if not keeps or self._why_nothing_is_kept:
            forget_batches(self)
            return
        members = [LearntMember.of_fitted(member) for member in self.estimators_]
        self._summary = EnsembleSummary(
            members,
            sample_of(X, y) if self._needs_inside() else None,
            sample_of(outside) if len(outside) else None,
        )
        if self.validation is None:
            self._sample = self._sample_of(X, y, self.training_rows_)

    def _needs_inside(self) -> bool:
        """Whether samples that were learnt from are read again, beside setting the threshold."""
        return self.validation is not None or self._asks_rows_for_knowledge()

    def _check_can_learn_more(self) -> None:
        if self._why_nothing_is_kept:
            raise ValueError(self._why_nothing_is_kept)
        super()._check_can_learn_more()

    def _begin(self) -> None:
        super()._begin()
        self._summary, self._why_nothing_is_kept = EnsembleSummary(), ""

    def _learn(self, X: Activations, y: NDArray | None) -> EnsembleSummary:
        if len(X) == 0:
            self._members_to_fit(X)
            return EnsembleSummary()
        members = self._summary.members or self._begun(X)
        pairs = zip(members, self._all_inputs, strict=True)
        learnt = self._in_steps([(member.learn, X[names], y) for member, names in pairs])
        return EnsembleSummary(learnt, sample_of(X, y) if self._needs_inside() else None)

    def _begun(self, X: Activations) -> list[LearntMember]:
        """All members, which have learnt nothing yet."""
        pairs = zip(self._members_to_fit(X), self._all_inputs, strict=True)
        return self._in_parallel((LearntMember.begun, clone(m), X[names]) for m, names in pairs)

    def _learn_ood(self, X: Activations) -> EnsembleSummary:
        self._members_to_fit(X)
        return EnsembleSummary(outside=sample_of(X))

    def _finish(self, summary: EnsembleSummary) -> None:
        n_samples = len(self._learnt_runs)
        members = self._in_steps([(member.finished, n_samples) for member in summary.members])
        self._summary = replace(summary, members=members)
        self._set_members([learnt.member for learnt in members])
        inside = summary.inside
        if self._asks_rows_for_knowledge() and inside is not None:
            self._knowledge_of_rows = class_knowledge(counted(inside)[0][self.layers_])
        if self.validation is not None and inside is not None:
            given = counted(inside)
            self._look_again(*given)
            found = [self._left_out_scores(*batch) for batch in batches_of(*given)]
            self._complete_scores(np.concatenate(found))

    def _may_look_again(self) -> bool:
        members = self.detector if isinstance(self.detector, list) else [self.detector]
        return self.validation is None and may_look_again(members)

    def _looks(self) -> list[tuple[int, Any]]:
        return looks_of(self.estimators_)

    def _look(self, key: tuple[int, Any], X: Activations, y: NDArray | None) -> Any:
        number, own = key
        return look(self.estimators_[number], own, X[self._inputs[number]], y)

    def _after_look(self, key: tuple[int, Any], summary: Any) -> Any:
        return after_look(self.estimators_[key[0]], key[1], summary)

    def _keep_looks(self, found: dict[tuple[int, Any], Any]) -> None:
        keep_looks(self.estimators_, found)

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        """What each of all members says, beside a number for the predicted class."""
        members = zip(self.estimators_, self._inputs, strict=True)
        found = self._in_parallel((raw_left_out, e, X[names], y) for e, names in members)
        groups = (hash_labels(_groups_of(X)) >> np.uint64(11)).astype(np.float64)  # exact
        return np.column_stack([groups, *found])

    def _left_out_width(self) -> int:
        return 1 + sum(map(width, self.estimators_))

    def _complete_scores(self, scores: Floats) -> Floats:
        if scores.ndim == 1:  # of samples that were held out
            return scores
        found = np.column_stack(completed(self.estimators_, scores[:, 1:]))
        sample = self._summary.outside
        outside = None if sample is None else counted(sample)[0]
        self._check_needs_ood(None, 0 if outside is None else len(outside))
        return self._calibrate_members(found, scores[:, 0], outside)

    def _validate(self, X: Any, *, reset: bool) -> Activations:
        return check_activations(self, X, reset=reset, allow_nd=True)

    def _check_needs_ood(self, X: Activations | None, n_outside: int) -> None:
        if n_outside == 0 and (self.n_layers is not None or self.combine == "weighted"):
            raise TooFewSamplesError(
                f"n_layers={self.n_layers} with combine={self.combine!r} needs out-of-distribution "
                "samples (y == -1) to rank or weigh the members by, got none." + marks_beside_y(X)
            )

    def _fit_members(self, X: Activations, y: NDArray | None, *, keep_batches: bool) -> Floats:
        """Fit all members; returns their scores of the samples, each sample left out."""
        members = [clone(member) for member in self._members_to_fit(X)]
        pairs = zip(members, self._all_inputs, strict=True)
        tasks = [
            (fit_and_calibrate, member, X[names], y, None, keep_batches) for member, names in pairs
        ]
        fitted = self._in_steps(tasks, members)
        self._set_members([estimator for estimator, _ in fitted])
        return np.column_stack([scores for _, scores in fitted])

    def _members_to_fit(self, X: Activations) -> list[Any]:
        """All members, not fitted; sets what they are called and read."""
        if isinstance(self.detector, list):
            self._all_layers = [f"member {number}" for number in range(len(self.detector))]
            self._all_inputs = [list(X.layer_names)] * len(self.detector)
            return self.detector
        self._all_layers = self._select_layers(X)
        self._all_inputs = [[name] for name in self._all_layers]
        return [self.detector] * len(self._all_layers)

    def _set_members(self, members: list[Any]) -> None:
        """All members and what they read, of which some may be left out later."""
        self.estimators_ = members
        self.layers_, self._inputs = list(self._all_layers), list(self._all_inputs)

    def _calibrate_members(
        self, scores: Floats, groups: NDArray, outside: Activations | None
    ) -> Floats:
        """Compare members by scores of samples of some predicted classes; returns the combined."""
        self.calibration_scores_ = scores
        self._check_finite(scores)
        errors = np.array([of_detector(e, "score_error_", 0.0) for e in self.estimators_])
        self.informative_ = informative_members(scores, groups, errors)
        # For an ensemble that this one is a member of.
        self.score_error_ = 0.0 if self.informative_.any() else np.inf
        if self.combine == "informed":
            self.knowledge_ = self._find_knowledge(len(np.unique(groups)))
        if outside is not None and len(outside):
            self._weigh(outside)
        return self._calibrate()

    def _asks_rows_for_knowledge(self) -> bool:
        """Whether no member tells how well its layer knows the classes, and nobody else does."""
        are_asked = self.combine == "informed" and self.knowledge is None
        is_one = not isinstance(self.detector, list)
        return are_asked and is_one and not tell_knowledge([self.detector])

    def _find_knowledge(self, n_classes: int) -> Floats:
        if isinstance(self.detector, list):
            return np.ones(len(self.detector))
        if self.knowledge is None:
            if self._asks_rows_for_knowledge():
                return self._knowledge_of_rows
            return knowledge_of_fitted(self.estimators_, n_classes)
        knowledge = np.asarray(self.knowledge, dtype=np.float64)
        if (
            knowledge.shape != (len(self.layers_),)
            or not ((knowledge >= 0) & (knowledge <= 1)).all()
        ):
            raise ValueError(
                f"knowledge must hold a number from 0 to 1 for each of {len(self.layers_)} layers, "
                f"{self.layers_}, got {self.knowledge!r}."
            )
        return knowledge

    def _select_layers(self, X: Activations) -> list[str]:
        if not isinstance(self.layers, str) or self.layers != "all" or "all" in X:
            return match_layers(self.layers, X.layer_names)
        if not (names := value_names(X)):
            raise ValueError(
                f"X has the layers {list(X.layer_names)}, none of which holds activations: name "
                "the gradients or stochastic passes to read in layers."
            )
        return names

    def _check_finite(self, scores: Floats) -> None:
        if not np.isfinite(scores).all():
            columns = zip(self.layers_, scores.T, strict=True)
            names = [name for name, column in columns if not np.isfinite(column).all()]
            raise ValueError(
                f"The members {names} give samples scores that are not finite. Leave them "
                "out, or look for constant or very large activations in what they read."
            )

    def _weigh(self, outside: Activations) -> None:
        outside_scores = self._member_scores(outside)
        aurocs = [
            roc_auc_score(np.repeat([1, 0], [len(inside), len(out)]), np.concatenate([inside, out]))
            for inside, out in zip(self.calibration_scores_.T, outside_scores.T, strict=True)
        ]
        merits = np.where(self.informative_, aurocs, -1.0)
        kept = np.sort(np.argsort(-merits, kind="stable")[: self.n_layers])
        self.aurocs_ = np.array(aurocs)[kept]
        self.informative_ = self.informative_[kept]
        if self.combine == "informed":
            self.knowledge_ = self.knowledge_[kept]
        weights = np.clip(2 * self.aurocs_ - 1, 0, None) * self.informative_
        # Where no member is better than chance, there is no reason to prefer one.
        self.weights_ = weights if weights.any() else np.ones(len(weights))
        self.layers_ = [self.layers_[i] for i in kept]
        self._inputs = [self._inputs[i] for i in kept]
        self.estimators_ = [self.estimators_[i] for i in kept]
        self.calibration_scores_ = self.calibration_scores_[:, kept]

    def _member_scores(self, X: Activations) -> Floats:
        if X._trust is not None and len(X) <= FEW:
            together = X._trust.once(self, partial(self._together, X))
            if (found := together.scores(X)) is not None:
                return found
        by_member = self._in_parallel(
            (member_scores, estimator, X[names])
            for estimator, names in zip(self.estimators_, self._inputs, strict=True)
        )
        scores = np.column_stack(by_member)
        self._check_finite(scores)
        return scores

    def _together(self, X: Activations) -> Together:
        readings = [reads_layers(names) for names in self._inputs]
        return Together(self.estimators_, readings, LayerEnsembleDetector, X)

    def _in_steps(self, tasks: Sequence[tuple[Any, ...]], fitted: Any = None) -> list[Any]:
        """Do something with each of all members, which is told; perhaps they are fitted."""
        unit = "members" if isinstance(self.detector, list) else "layers"
        members = fitted or [None] * len(tasks)
        with steps(self, len(tasks), unit) as told:
            return self._in_parallel(
                (_in_step, told.step(name, member), *task)
                for name, member, task in zip(self._all_layers, members, tasks, strict=True)
            )

    def _in_parallel(self, tasks: Iterable[tuple[Any, ...]]) -> list[Any]:
        # Threads share the activations, and the searches and matrix products release the GIL.
        line = users_line()
        return Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(_call_for)(line, *task) for task in tasks
        )

    def _calibrate(self) -> Floats:
        """Combined scores of the training samples, those of unknown classes below all others."""
        scores = self.calibration_scores_
        self._counting = (
            self.informative_ if self.informative_.any() else np.ones_like(self.informative_)
        )
        of_unknown = [of_detector(e, "unknown_class_score_", -np.inf) for e in self.estimators_]
        self._scores_of_unknown = np.where(self._counting, of_unknown, -np.inf)
        unknown = self._are_of_unknown_class(scores)
        known = np.ones_like(unknown) if unknown.all() else ~unknown
        self._calibration: Any = _CALIBRATIONS[self.combine](scores[known][:, self._counting])
        if self.combine == "vote":
            self._vote_level = self._find_vote_level(scores[known])
        combined = self._combine(scores, left_out=True)
        self.unknown_class_score_ = below_all(combined)
        return self._reject_unknown(combined, ~unknown)

    def _are_of_unknown_class(self, scores: Floats) -> NDArray[np.bool_]:
        """Whether a member that is used has learnt nothing about the predicted class."""
        return (scores == self._scores_of_unknown).any(axis=1)

    def _find_vote_level(self, scores: Floats) -> float:
        """The p-value below which a member rejects, so that votes reject ``false_alarm_rate``."""
        votes = self._median_p_values(scores, left_out=True)
        return np.percentile(votes, 100.0 * self.false_alarm_rate)

    def _median_p_values(self, scores: Floats, *, left_out: bool = False) -> Floats:
        """The p-value of each sample below which more than half of the members are, at another."""
        medians = np.empty(len(scores))
        for rows in row_batches(*scores.shape, n_copies=_N_COPIES):
            p = self._calibration.p_values(scores[rows][:, self._counting], left_out=left_out)
            medians[rows] = np.sort(p, axis=1)[:, p.shape[1] // 2]
        return medians

    def _score_held_out(self, X: Activations, y: NDArray | None) -> Floats:
        if self.combine == "vote":
            self._set_vote_level(X)
        if not hasattr(self, "_summary"):
            return self._score_in_batches(X)
        return super()._score_held_out(X, y)

    def _score_sample(self) -> Floats:
        if self.combine == "vote" and self.validation is not None:
            self._set_vote_level(counted(self._sample)[0])
        return super()._score_sample()

    def _set_vote_level(self, X: Activations) -> None:
        """Let votes of samples that are held out reject ``false_alarm_rate`` of them."""
        self._set_vote_level_by(
            np.concatenate([self._member_scores(batch) for batch in X.batches()])
        )

    def _set_vote_level_by(self, scores: Floats) -> None:
        votes = self._median_p_values(scores)
        votes[self._are_of_unknown_class(scores)] = 0.0
        self._vote_level = held_out_threshold(votes, self.false_alarm_rate)

    def _combine(self, scores: Floats, *, left_out: bool = False) -> Floats:
        """One score of those of all members, for any number of samples."""
        combined = np.empty(len(scores))
        for rows in row_batches(*scores.shape, n_copies=_N_COPIES):
            combined[rows] = self._combine_some(scores[rows], left_out=left_out)
        return combined

    def _combine_some(self, scores: Floats, *, left_out: bool) -> Floats:
        scores = scores[:, self._counting]
        if self.combine == "informed":
            log_p = self._calibration.log_p_values(scores, left_out=left_out)
            return informed_sum(log_p, self.knowledge_[self._counting])
        if self.combine in ("fisher", "vote"):
            p = self._calibration.p_values(scores, left_out=left_out)
            if self.combine == "vote":
                return (p >= self._vote_level).mean(axis=1)
            return np.log(p, out=np.full(p.shape, -np.inf), where=p > 0).sum(axis=1)
        standardized = self._calibration.standardize(scores)
        if self.combine == "mean":
            return np.asarray(mean_of_members(standardized), dtype=np.float64)
        return np.average(standardized, axis=1, weights=self.weights_[self._counting])

    def _threshold(self, training_scores: Floats) -> float:
        if self.combine != "vote":
            return super()._threshold(training_scores)
        if self.validation is not None and self._vote_level <= 0:
            # Of rows held out, more are of unknown classes than may be rejected: none is.
            return conformal_threshold(training_scores, self.false_alarm_rate)
        return 0.5

    def _held_out_scores(self, X: Activations) -> Floats:
        return self._member_scores(X)

    def _complete_held_out(self, found: Floats, X: Activations, y: NDArray | None) -> Floats:
        if self.combine == "vote":
            self._set_vote_level_by(found)
        return self._combined(found)

    def _members_shown(self) -> list[tuple[str, Any]]:
        members = getattr(self, "estimators_", self.detector)
        if not isinstance(members, list):
            return [("detector", members)]
        if isinstance(self.detector, list):
            return [(f"member {number}", member) for number, member in enumerate(members)]
        return copies_shown(self.layers_, members, "layers")

    def _layers_to_read(self) -> set[str]:
        return {name for names in self._inputs for name in names}

    def _score_samples(self, X: Activations) -> Floats:
        return self._combined(self._member_scores(X))

    def _combined(self, scores: Floats) -> Floats:
        unknown = self._are_of_unknown_class(scores)
        return self._reject_unknown(self._combine(scores), ~unknown)


def _groups_of(X: Activations) -> NDArray:
    """The predicted class of each sample, or one for all where there are no predictions."""
    try:
        return predicted_classes(X)
    except ValueError:  # of logits that are not finite, which the members may not read
        return np.zeros(len(X), dtype=int)


def _call_for(line: Line, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function for a line of the user, which its warnings point at."""
    with working_for(line):
        return function(*arguments)


def _in_step(step: AbstractContextManager, function: Callable[..., Any], *arguments: Any) -> Any:
    with step:
        return function(*arguments)


def _best_pipelines(search: Any, n_layers: int, metric: str | None) -> list[Any]:
    check_is_fitted(search)
    results, layers = search.cv_results_, _layers_searched(search)
    scores = results[f"mean_test_{_metric_to_rank_by(search, metric)}"]
    # After successive halving, scores of an earlier round are those of fewer samples.
    rounds = results.get("iter", np.zeros(len(scores)))
    ranks = sorted(zip(rounds, scores, range(len(scores)), strict=True), key=_better_first)
    best: dict[tuple, dict] = {}
    for _, score, number in ranks:
        if np.isfinite(score):
            best.setdefault(layers[number], results["params"][number])
    if not 1 <= n_layers <= len(best):
        raise ValueError(
            f"n_layers={n_layers}, but the search scored {len(best)} layers. Settings whose "
            "score is NaN do not count: make_ood_scorer makes scorers that know OOD rows."
        )
    settings = list(best.values())[:n_layers]
    return [clone(search.estimator).set_params(**clone(s, safe=False)) for s in settings]


def _better_first(rank: tuple[float, float, int]) -> tuple[float, float]:
    number_of_round, score, _ = rank
    return -number_of_round, -score


def _metric_to_rank_by(search: Any, metric: str | None) -> str:
    start = "mean_test_"
    known = [name[len(start) :] for name in search.cv_results_ if name.startswith(start)]
    if metric is None:
        metric = search.refit if search.multimetric_ else "score"
    if not isinstance(metric, str) or metric not in known:
        raise ValueError(
            f"The search computed the scores {known}: metric, or refit of the search, must name "
            f"the one to rank layers by, got {metric!r}."
        )
    return metric


def _layers_searched(search: Any) -> list[tuple[str, ...]]:
    """The layers of each setting, the same for all ways to write them: "a", ["a"] and ("a",)."""
    settings = search.cv_results_["params"]
    every = {name for params in settings for name in params}
    names = [name for name in every if name.rpartition("__")[2] == "layers"]
    if len(names) != 1:
        raise ValueError(
            "The search needs one parameter whose name ends in 'layers', as 'select__layers', it "
            f"has {sorted(every)}."
        )
    # A grid of several parts need not name it in each.
    default = search.estimator.get_params().get(names[0])
    # The number 0 and the name "0" are two layers, 0 and [0] are one.
    return [tuple(sorted(map(repr, layer_list(p.get(names[0], default))))) for p in settings]
