"""The template that all detectors share."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin

from .._classes import (
    TrainingClasses,
    has_predictions,
    lookup_classes,
    refuse_none_correct,
    tells_classes,
)
from .._conformal import held_out_threshold, lowest_accepted
from .._diagram import EstimatorMixin
from .._docstrings import complete
from .._elsewhere import run_elsewhere
from .._fit_context import fit_context, forget_fit
from .._held_out import VALIDATION, Rows, held_out_rows
from .._look import ShowsChanges
from .._marks import in_distribution_rows, roc_auc_of_marks, take_rows
from .._row_runs import KeptAsRuns, RowRuns
from .._sklearn import Interval
from .._streams import check_fitted
from .._validation import check_activations
from .._values import ANY_SIZE, all_finite, below_all, refuse_not_finite
from ..activations import Activations
from ._entries import ATTRIBUTES, LABELS_NEEDED, LABELS_OPTIONAL, PARAMETERS

_FEW = 32
"""So many samples take less to be scored than to be looked at."""


class BaseDetector(ShowsChanges, EstimatorMixin, OutlierMixin, BaseEstimator, metaclass=ABCMeta):
    """Template of all detectors.

    A subclass says what to learn (``_fit``), how to score (``_score_samples``) and where the
    threshold is (``_threshold``). Validation, the rows that are marked out-of-distribution, the
    classes of samples and all that follows from the scores are here.
    """

    learnt_rows_ = KeptAsRuns()
    training_rows_ = KeptAsRuns()
    _learnt_runs: RowRuns
    _training_runs: RowRuns

    _sizes_of_values = ANY_SIZE
    """Bounds of the largest value of a layer, for detectors that compute squares."""
    _learns_from_ood = False
    """Whether ``_fit`` takes the keyword ``X_ood``, the samples marked -1: none or more."""
    _labels_optional_for: str | None = None
    """The default of ``group_by`` if it needs no class labels: without any, every prediction counts
    as right."""
    _looks_up_classes = True
    """Whether samples are scored under their predicted class.

    If not, labels need not be classes of the network."""

    _entries: ClassVar[Mapping[str, str]] = ATTRIBUTES
    """Docstring entries of attributes that a class does not describe itself, beside those of its
    parents."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        group_by = LABELS_OPTIONAL if cls._labels_optional_for else LABELS_NEEDED
        entries: dict[str, str] = {}
        for parent in reversed(cls.__mro__):
            entries |= vars(parent).get("_entries", {})
        complete(cls, {**PARAMETERS, "group_by": group_by}, entries)

    @run_elsewhere("fit")
    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Activations | ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn from the in-distribution samples and set the threshold.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations by layer, or those of one layer.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution sample.

        Returns
        -------
        self : object
            Fitted detector.

        Raises
        ------
        ValueError
            If values are not finite, too few samples are in-distribution, labels or predictions
            that the parameters need are missing, a label is no class of the network, or the
            score of a training sample is not finite.
        """
        return self._fit_split(X, y)

    def _fit_split(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Validate, separate in-distribution from OOD samples, learn, and set the threshold.

        ``fit_params``, what ``fit`` takes beside ``X`` and ``y``, go to ``_fit``.
        """
        self._forget()
        X = self._validate(X, reset=True)
        self._see_classes(X)
        self.n_samples_seen_ = len(X)
        rows = in_distribution_rows(y, len(X))
        if self._learns_from_ood:
            fit_params["X_ood"] = X[np.setdiff1d(np.arange(len(X)), rows)]
        X, y = take_rows(X, y, rows)
        with without_overflow_warnings():
            scores = self._learn_and_score(X, y, rows, fit_params)
        self._set_threshold(scores)
        return self

    def _learn_and_score(
        self, X: Activations, y: NDArray | None, rows: Rows, fit_params: dict[str, Any]
    ) -> NDArray[np.float64]:
        """Learn, and score the samples that set the threshold; they are those of given rows."""
        split = self._hold_out(len(X), y)
        if split is None:
            self.training_rows_ = self.learnt_rows_ = rows
            scores = self._fit(X, y, **fit_params)
            return self._score_learnt(X, y) if scores is None else scores
        learnt, held_out = split
        self.training_rows_ = self.learnt_rows_ = rows[learnt]
        self._fit(*rows_of(X, y, learnt), **fit_params)
        may_set = self._may_set_threshold(*rows_of(X, y, held_out))
        self.training_rows_ = rows[held_out[may_set]]
        return self._score_held_out(*rows_of(X, y, held_out[may_set]))

    def _score_learnt(self, X: Activations, y: NDArray | None) -> NDArray[np.float64]:
        """Scores of all samples that were learnt from, where ``_fit`` gives none."""
        return self._score_in_batches(X)

    def _hold_out(self, n_samples: int, y: NDArray | None) -> tuple[Rows, Rows] | None:
        """Which in-distribution rows are learnt from and which set the threshold, if others do."""
        return None

    def _may_set_threshold(self, X: Activations, y: NDArray | None) -> NDArray[np.bool_]:
        """Which of the samples that are held out are such as the threshold should accept."""
        return np.ones(len(X), dtype=bool)

    def _score_held_out(self, X: Activations, y: NDArray | None) -> NDArray[np.float64]:
        return self._score_in_batches(X)

    def _score_in_batches(self, X: Activations) -> NDArray[np.float64]:
        """Scores of validated samples, of which no more are read at a time than memory allows."""
        return joined([self._score_samples(batch) for batch in X.batches()])

    def _forget(self) -> None:
        """Leave nothing of an earlier fit, in particular what the next one may not learn."""
        forget_fit(self)
        for name in ("_learnt_runs", "_training_runs"):
            self.__dict__.pop(name, None)
        self.unknown_class_score_ = -np.inf
        self.score_error_ = 0.0

    def _validate(self, X: Any, *, reset: bool) -> Activations:
        return check_activations(self, X, reset=reset)

    def _layers_to_read(self) -> set[str] | None:
        """Names of the layers that the fitted detector reads of samples, or None for all."""
        return None

    def _see_classes(self, X: Activations) -> None:
        self._by_class = self._tells_classes(X)

    def _tells_classes(self, X: Activations) -> bool:
        """Whether samples like those of ``fit`` have predicted classes to be looked up under."""
        return has_predictions(X)

    @abstractmethod
    def _fit(self, X: Activations, y: NDArray | None) -> NDArray[np.float64] | None:
        """Learn from validated in-distribution samples.

        A subclass that learns from more takes it as keyword-only arguments, each with a default:
        ``X_ood`` where the class declares ``_learns_from_ood``, and under its own name whatever
        its ``fit`` takes beside ``X`` and ``y``. There is no other form.

        Parameters
        ----------
        X : Activations
            The in-distribution samples.
        y : ndarray of shape (n_samples,) or None
            Their labels, as given.

        Returns
        -------
        training_scores : ndarray of shape (n_samples,) or None
            The score of each sample as if it had not been learnt from; None where that is what
            ``_score_samples`` gives.
        """

    @abstractmethod
    def _score_samples(self, X: Activations) -> NDArray[np.float64]:
        """Scores of validated samples, ndarray of shape (n_samples,)."""

    @abstractmethod
    def _threshold(self, training_scores: NDArray[np.float64]) -> float:
        """Smallest score of an in-distribution sample."""

    def _set_threshold(self, training_scores: NDArray[np.float64]) -> None:
        self._check_scores(training_scores)
        self.training_scores_ = training_scores
        self.offset_ = self._threshold(training_scores)
        self._lowest_accepted = self._less_rounding(self.offset_, training_scores)

    def _less_rounding(self, threshold: float, training_scores: NDArray[np.float64]) -> float:
        """The lowest score that is accepted, for a threshold that is one of the training scores."""
        return threshold

    def _lookup_classes(self, X: Activations) -> NDArray:
        """The class under which each sample is looked up: the predicted one, or 0 for all."""
        return lookup_classes(self, X, by_class=self._by_class)

    def _training_classes(
        self, X: Activations, y: NDArray | None, *, are_classes: bool | None = None
    ) -> TrainingClasses:
        """The classes under which training samples are looked up and count, by ``group_by``.

        ``are_classes`` says whether labels are, which those of a part of all samples may not tell.
        """
        group_by = self.group_by
        are_classes = tells_classes(y) if are_classes is None else are_classes
        if group_by == self._labels_optional_for and not (are_classes and self._can_look_up()):
            group_by = "prediction"
        if group_by == "label" and not self._looks_up_classes:
            return TrainingClasses.all_count(np.asarray(y))
        lookup = self._lookup_classes(X)
        return TrainingClasses.of(X, y, group_by, f"group_by={group_by!r}", lookup)

    def _can_look_up(self) -> bool:
        """Whether samples that count for labelled classes are found under them again."""
        return self._by_class or not self._looks_up_classes

    def _check_any_counts(self, n_counting: int) -> None:
        refuse_none_correct(n_counting, len(self._learnt_runs), type(self).__name__)

    def _set_unknown_class_score(
        self, scores: NDArray[np.float64], is_known: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Training scores, those of classes that nothing was learnt of below all others."""
        self.unknown_class_score_ = below_all(scores[is_known] if is_known.any() else scores)
        return self._reject_unknown(scores, is_known)

    def _reject_unknown(
        self, scores: NDArray[np.float64], is_known: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        return np.where(is_known, scores, self.unknown_class_score_)

    @run_elsewhere("scores")
    def score_samples(self, X: Activations | ArrayLike) -> NDArray[np.float64]:
        """Score samples: the higher, the more in-distribution.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Scores.

        Raises
        ------
        ValueError
            If values are not finite, the layers or the classes of the network are not those of
            ``fit``, or a score is not finite, because values are too large.
        """
        if isinstance(X, Activations) and X._trust is not None:
            return self._score_trusted(X)
        check_fitted(self)
        X = self._validate(X, reset=False)
        with without_overflow_warnings():
            scores = self._score_in_batches(X)
        self._check_scores(scores)
        return scores

    def _score_trusted(self, X: Activations) -> NDArray[np.float64]:
        """The same for samples like others that were validated, of which there are not many."""
        with without_overflow_warnings():
            scores = self._score_few(X) if len(X) <= _FEW else None
            if scores is None:
                scores = self._score_samples(self._validate(X, reset=False))
        if not np.isfinite(scores).all():
            self._check_scores(scores)
        return scores

    def _score_few(self, X: Activations) -> NDArray[np.float64] | None:
        """The same of few samples, where they need not go through what is there for many."""
        return None

    def _check_scores(self, scores: NDArray[np.float64]) -> None:
        if all_finite(scores):
            return
        refuse_not_finite(
            [scores],
            f"The score of {type(self).__name__}",
            "The values of these samples are too large or too small for it: look at them, or "
            "divide the layers by a constant.",
        )

    @run_elsewhere("scores")
    def decision_function(self, X: Activations | ArrayLike) -> NDArray[np.float64]:
        """Score samples relative to the threshold: negative for out-of-distribution.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``. Of a threshold by rows that are held out, 0 where a
            score is lower by rounding only.
        """
        scores = self.score_samples(X)
        is_equal = (scores >= self._lowest_accepted) & (scores < self.offset_)
        return np.where(is_equal, 0.0, scores - self.offset_)

    @run_elsewhere("verdicts")
    def predict(self, X: Activations | ArrayLike) -> NDArray[np.int64]:
        """Predict in-distribution (1) or out-of-distribution (-1) for each sample.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @run_elsewhere("fit_predict")
    def fit_predict(
        self, X: Activations | ArrayLike, y: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit, then predict the same samples.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations by layer, or those of one layer.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return self.fit(X, y).predict(X)

    def score(self, X: Activations | ArrayLike, y: ArrayLike) -> float:
        """Area under the ROC curve of telling in- from out-of-distribution samples.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.
        y : array-like of shape (n_samples,)
            -1 for out-of-distribution samples, anything else for in-distribution ones.

        Returns
        -------
        auroc : float
            1 where every in-distribution sample scores higher, 0.5 for chance. NaN, with
            scikit-learn's ``UndefinedMetricWarning``, where ``y`` marks all samples or none.
        """
        # Relative to a threshold of -inf, which rejects nothing, they have no order.
        scores = self.score_samples(X) if self.offset_ == -np.inf else self.decision_function(X)
        return roc_auc_of_marks(X, y, scores)


class BaseOneClassDetector(BaseDetector):
    """Template of the detectors whose threshold rejects a share of the training samples.

    A subclass says what to learn from validated in-distribution samples (``_fit``) and how to
    score samples (``_score_samples``). Where the score of a training sample is another if it is
    left out, as for a detector that stores its training samples, ``_fit`` returns these scores.
    A detector that learns by class takes the classes of training samples from
    ``_training_classes`` and gives samples of a class that nothing was learnt of the score
    ``unknown_class_score_``: the threshold is above it, however many training samples are of such
    a class. One from ``validation`` is above it as far as the rate allows.

    Attributes
    ----------
    unknown_class_score_ : float
        Score of a sample of a predicted class that nothing was learnt of; -inf where no score
        stands for that.
    score_error_ : float
        Standard error of the scores by which samples there happen to be in training; 0 where it
        is not known.

    Notes
    -----
    With ``validation``, ``_fit`` gets the other rows alone. The threshold then is the exact
    conformal quantile of the scores of those held out, by ``_score_samples``: new samples of their
    distribution are rejected at most at the ``false_alarm_rate``, whatever the scores are. What is
    below the threshold by rounding only is accepted.
    """

    _parameter_constraints: dict = {
        "false_alarm_rate": [Interval(Real, 0, 0.5, closed="right")],
        "validation": VALIDATION,
    }

    def __init__(self, *, false_alarm_rate: float = 0.05, validation: Any = None) -> None:
        self.false_alarm_rate = false_alarm_rate
        self.validation = validation

    def _hold_out(self, n_samples: int, y: NDArray | None) -> tuple[Rows, Rows] | None:
        return held_out_rows(n_samples, y, self.validation, getattr(self, "random_state", 0))

    def _less_rounding(self, threshold: float, training_scores: NDArray[np.float64]) -> float:
        if self.validation is None:
            return threshold
        return lowest_accepted(training_scores, threshold)

    def _threshold(self, training_scores: NDArray[np.float64]) -> float:
        if self.validation is not None:
            return held_out_threshold(training_scores, self.false_alarm_rate)
        threshold = float(np.percentile(training_scores, 100.0 * self.false_alarm_rate))
        return max(threshold, self._smallest_known(training_scores))

    def _smallest_known(self, training_scores: NDArray[np.float64]) -> float:
        """Smallest training score of a class that something was learnt of.

        Where more training samples than the threshold rejects are of other classes, these are all
        that it rejects.
        """
        unknown = self.unknown_class_score_
        known = training_scores[training_scores > unknown]
        return float(known.min() if known.size else np.nextafter(unknown, np.inf))


def rows_of(X: Activations, y: NDArray | None, rows: Rows) -> tuple[Activations, NDArray | None]:
    """Some samples and their labels, where there are any; a view where they are all."""
    return (X, y) if len(rows) == len(X) else (X[rows], None if y is None else y[rows])


def joined(scores: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The scores of consecutive batches as one array, which is not copied where it is one."""
    return scores[0] if len(scores) == 1 else np.concatenate(scores)


def without_overflow_warnings() -> np.errstate:
    """Context for computations whose result is refused if it is not finite."""
    return np.errstate(over="ignore", invalid="ignore")
