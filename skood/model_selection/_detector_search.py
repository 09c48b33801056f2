"""A search over detectors that keeps the first one unless another helps for sure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from numbers import Integral, Real
from time import perf_counter
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import MetaEstimatorMixin, OutlierMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._diagram import EstimatorMixin, MembersMixin
from .._docstrings import FITTED_ON, complete
from .._elsewhere import run_elsewhere
from .._fit_context import fit_context
from .._foreign import are_named, detector_of, in_distribution_scores, rate_of
from .._held_out import VALIDATION, Rows, held_out_rows
from .._logits import MissingPartError
from .._marks import in_distribution, marks_beside_y, plain_labels, read_labels
from .._named_detectors import NamedDetectors
from .._progress import Progress, steps
from .._sklearn import HasMethods, Interval
from .._validation import check_activations
from .._values import Floats
from .._warnings import Line, users_line, warn_user, working_for
from ..activations import Activations
from ..calibration import ConformalDetector
from ..ensemble import LayerEnsembleDetector
from ..metrics import make_ood_scorer
from ._split import OODKFold

_N_FOLDS = 5
_N_TRIED = 64
"""A detector that needs a part which is missing says so on as few rows."""


class DetectorSearchCV(
    EstimatorMixin, MembersMixin, OutlierMixin, MetaEstimatorMixin, NamedDetectors
):
    """Choose among detectors by rows marked out-of-distribution; the first unless another helps.

    The first detector is the default. Each other one is tried beside it, with the mean of both
    scores, or in its place. It is taken only if it does better over the folds of a cross-validation
    by more than twice the standard error, and by more than ``min_gain``. So a search with few or
    unhelpful out-of-distribution rows ends where it would have without them.

    Parameters
    ----------
    detectors : list of (str, estimator) tuples
        Names, and outlier detectors or pipelines that end in one, the default first. All are given
        the same activations, an ordinary array as their only layer.
    beside_default : bool, default=True
        Whether others are tried beside the default, as a
        :class:`~skood.ensemble.LayerEnsembleDetector` of both with ``combine="mean"``, or in its
        place. Beside it, less is lost against other inputs than those that chose.
    scoring : callable, default=None
        Scorer ``scoring(detector, X, y)``, greater is better. By default the area under the ROC
        curve, :func:`~skood.metrics.make_ood_scorer`.
    cv : splitter, default=None
        By default ``OODKFold(5, shuffle=True, random_state=0, ood_in_train=True)``: a detector that
        learns from rows marked out-of-distribution gets those of the training part, and none is
        scored on rows that it was given.
    min_gain : float, default=0.02
        By how much the mean score has to exceed that of the default at least. A gain on the rows at
        hand that is smaller need not be one on others.
    false_alarm_rate : float in (0, 0.5], default=None
        Share of the in-distribution training samples that the threshold of the choice rejects. It
        takes the place of the ``false_alarm_rate`` of the detectors, each of which keeps its own
        where this is None; what is used beside the default has that of the default. Of new samples
        it is an estimate; with ``validation`` it is calibrated.
    validation : float in (0, 1) or splitter, default=None
        Which in-distribution samples set the threshold of the choice: a random share, or the test
        part of the first split of a scikit-learn splitter. They neither choose nor teach. Then, of
        new samples of their distribution, at most the ``false_alarm_rate`` is rejected on average;
        for that the network must not have learnt from them either. By default the choice has the
        threshold that it finds itself.
    n_jobs : int, default=None
        Number of folds to compute at once, in threads. None means 1, -1 all processors.
    verbose : int, default=0
        Whether to show which of the detectors are fitted; see :ref:`progress`.

    Attributes
    ----------
    best_name_ : str
        Name of the choice: that of the default, or that of what is used beside it or in its place.
    best_estimator_ : estimator
        What was chosen, fitted on all rows; with ``validation``, on those that are not held out,
        and calibrated by the others in a :class:`~skood.calibration.ConformalDetector`.
    best_index_ : int
        Its place in ``cv_results_``.
    best_score_ : float
        Its mean score over the folds.
    cv_results_ : dict of str to ndarray of shape (n_candidates,)
        The table of candidates, to be made a data frame, with names like those of
        :class:`~sklearn.model_selection.GridSearchCV`: "name", "mean_fit_time" (seconds),
        "split0_test_score", ..., "mean_test_score", "std_test_score", "rank_test_score"; and the
        mean difference to the default in the same folds, "gain", with its standard error,
        "gain_se". NaN where a candidate could not be fitted.
    left_out_ : dict of str to str
        Detectors that were not tried, with the reason: the network lacks logits or a head.

    See Also
    --------
    skood.make_monitor : With ``search=True``, searches over the detectors of this package.
    sklearn.model_selection.GridSearchCV : Takes the best setting of a grid, however small the lead.
    OODKFold : The splitter.

    Notes
    -----
    Candidates are compared by splits of all rows: there is neither ``partial_fit`` nor ``merge``.
    What is chosen, ``best_estimator_``, has them where it learns in batches.

    The differences between candidates are paired: both are scored on the same rows. As training
    parts overlap, the standard error over k folds is that of Nadeau and Bengio [1]_, ``s *
    sqrt(1 / k + n_test / n_train)`` with the standard deviation s of the differences. Of several
    candidates that win, the one with the best mean score is taken.

    Each detector is fitted once for each fold, and those that are chosen once more.

    Rows that the network itself was trained on make detectors that read its output look better than
    they are on new inputs, and the search may choose one of these for it. Where there are rows that
    the network has not learnt from, fit on them.

    References
    ----------
    .. [1] C. Nadeau, Y. Bengio, "Inference for the generalization error", Machine Learning 52,
       239-281, 2003. doi:10.1023/A:1024068626366

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors import KNNDetector
    >>> from skood.model_selection import DetectorSearchCV
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(3, 1, size=(100, 2)), rng.normal(9, 1, size=(50, 2))])
    >>> y = np.repeat([0, -1], [100, 50])
    >>> search = DetectorSearchCV(
    ...     [("angle", KNNDetector()), ("distance", KNNDetector(normalize=False))]
    ... ).fit(X, y)
    >>> search.best_name_
    'distance'
    >>> search.cv_results_["mean_test_score"] > 0.5
    array([False,  True])
    """

    best_estimator_: Any
    _learns_from_ood = True
    _lists_of_detectors = ("detectors",)

    _parameter_constraints: dict = {
        "detectors": [list],
        "beside_default": ["boolean"],
        "scoring": [callable, None],
        "cv": [HasMethods("split"), None],
        "min_gain": [Interval(Real, 0, None, closed="left")],
        "false_alarm_rate": [Interval(Real, 0, 0.5, closed="right"), None],
        "validation": VALIDATION,
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }
    _n_stages_of_fit = 1

    def __init__(
        self,
        detectors: Sequence[tuple[str, Any]],
        *,
        beside_default: bool = True,
        scoring: Any = None,
        cv: Any = None,
        min_gain: float = 0.02,
        false_alarm_rate: float | None = None,
        validation: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.detectors = detectors
        self.beside_default = beside_default
        self.scoring = scoring
        self.cv = cv
        self.min_gain = min_gain
        self.false_alarm_rate = false_alarm_rate
        self.validation = validation
        self.n_jobs = n_jobs
        self.verbose = verbose

    @run_elsewhere("refuse")
    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Activations | ArrayLike,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Score all candidates, choose one, and fit it on all rows.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations by layer, or those of one layer.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an out-of-distribution row.
        groups : array-like of shape (n_samples,), default=None
            Sources of the rows, as the splitter takes them.

        Returns
        -------
        self : object
            Fitted search.

        Raises
        ------
        ValueError
            If no row is marked -1, or fewer than the splitter needs; if the default cannot be
            fitted; without ``validation``, if ``false_alarm_rate`` cannot be given to a detector
            whose threshold may be that of the choice; with it, if the choice has no rate.

        Warns
        -----
        FitFailedWarning
            If another detector cannot be fitted or scored in a fold; it is not chosen then.
        """
        self._check_detectors()
        A = check_activations(self, X, reset=True, allow_nd=True)
        labels = _check_marked(A, y)
        held_out = self._hold_out(labels)
        self._rows_of_fit: tuple[Rows, int] | None = None
        if held_out is None:
            return self._search(A, labels, groups)
        rest = np.setdiff1d(np.arange(len(A)), held_out)
        self._search(A[rest], labels[rest], None if groups is None else np.asarray(groups)[rest])
        self._calibrate(A[held_out])
        self._rows_of_fit = rest, len(A)
        return self

    def _hold_out(self, labels: NDArray) -> Rows | None:
        """In-distribution rows that set the threshold, if any are to."""
        if self.validation is None:
            return None
        inside = np.flatnonzero(in_distribution(labels))
        split = held_out_rows(len(inside), plain_labels(labels[inside]), self.validation, 0)
        return None if split is None else inside[split[1]]

    def _calibrate(self, held_out: Activations) -> None:
        chosen = self.best_estimator_
        rate = rate_of(chosen) if self.false_alarm_rate is None else self.false_alarm_rate
        if rate is None:
            raise ValueError(
                f"validation sets the threshold by a rate, but {self.best_name_!r}, {chosen!r}, "
                "has none: set false_alarm_rate of the search, or leave validation None."
            )
        self.best_estimator_ = ConformalDetector(chosen, false_alarm_rate=rate).fit(held_out)

    def _search(self, A: Activations, labels: NDArray, groups: ArrayLike | None) -> Self:
        cv = self.cv
        if cv is None:
            _check_rows(labels)
            cv = OODKFold(_N_FOLDS, shuffle=True, random_state=0, ood_in_train=True)
        splits = list(cv.split(A, labels, groups))
        n_fits = len(self.detectors) * (1 + len(splits)) + 2
        with steps(self, n_fits, "fits") as told:
            usable = self._usable(A, labels, told)
            self._compare(A, labels, usable, splits, told)
            self._fit_best(A, labels, usable, told)
        return self

    def _compare(
        self,
        A: Activations,
        labels: NDArray,
        usable: list[tuple[str, Any]],
        splits: list[tuple[NDArray, NDArray]],
        told: Progress,
    ) -> None:
        """Score all candidates in all folds, and find the one to take."""
        line = users_line()
        folds = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(self._score_fold)(line, usable, A, labels, split, told) for split in splits
        )
        share = float(np.mean([len(test) / len(train) for train, test in splits]))
        self.cv_results_ = _tabulate([name for name, _ in usable], folds, share)
        self.best_index_ = _choose(self.cv_results_, self.min_gain)
        self.best_score_ = float(self.cv_results_["mean_test_score"][self.best_index_])

    def _fit_best(
        self, A: Activations, labels: NDArray, usable: list[tuple[str, Any]], told: Progress
    ) -> None:
        """Fit what was found on all rows, perhaps beside the default."""
        self.best_name_, best = usable[self.best_index_]
        chosen = _fit(clone(best), A, labels, told, f"{self.best_name_} on all rows")
        if self.best_index_ > 0 and self.beside_default:
            default_name, default = usable[0]
            default = _fit(clone(default), A, labels, told, f"{default_name} on all rows")
            chosen = self._beside(default, chosen, A, labels)
        self.best_estimator_ = chosen

    def _score_fold(
        self,
        line: Line,
        detectors: list[tuple[str, Any]],
        A: Activations,
        labels: NDArray,
        split: tuple[NDArray, NDArray],
        told: Progress,
    ) -> Floats:
        """For each candidate its score on a test part, and how long its detector took to fit."""
        parts = [(A[rows], labels[rows]) for rows in split]
        default, table = None, []
        with working_for(line):
            for name, detector in detectors:
                try:
                    fitted = clone(detector)
                    step = told.step(name, fitted)
                    cells = self._score_candidate(fitted, step, default, *parts)
                except Exception as error:
                    if default is None:
                        raise
                    _warn_of_failure(name, error)
                    cells = [np.nan, np.nan]
                default = fitted if default is None else default
                table.append(cells)
        return np.array(table)

    def _score_candidate(
        self,
        detector: Any,
        step: AbstractContextManager[Any],
        default: Any,
        train: tuple[Activations, NDArray],
        test: tuple[Activations, NDArray],
    ) -> list[float]:
        start = perf_counter()
        with step:
            detector.fit(*train)
        seconds = perf_counter() - start
        is_beside = default is not None and self.beside_default
        candidate = self._beside(default, detector, *train) if is_beside else detector
        return [float(self._scorer()(candidate, *test)), seconds]

    def _beside(
        self, default: Any, other: Any, X: Activations, y: NDArray
    ) -> LayerEnsembleDetector:
        """Two fitted detectors as one, which learns nothing more than how their scores compare."""
        members = [FrozenEstimator(default), FrozenEstimator(other)]
        rate = getattr(detector_of(default), "false_alarm_rate", 0.05)
        ensemble = LayerEnsembleDetector(members, combine="mean", false_alarm_rate=rate)
        return ensemble.fit(X[np.flatnonzero(in_distribution(y))])

    def _scorer(self) -> Any:
        return make_ood_scorer() if self.scoring is None else self.scoring

    def _check_detectors(self) -> None:
        pairs = self.detectors
        if not pairs or not are_named(pairs) or len({name for name, _ in pairs}) < len(pairs):
            raise ValueError(
                "detectors must be pairs of a name of its own and a detector, the default first, "
                f"got {self.detectors!r}."
            )
        self._validate_names([name for name, _ in pairs])

    def _at_rate(self) -> list[tuple[str, Any]]:
        """The detectors, with the rate of the search in place of their own where it has one."""
        rate = self.false_alarm_rate
        if rate is None:
            return list(self.detectors)
        decide = self.detectors
        if self.validation is not None:
            decide = []  # the rows that are held out set the threshold by the rate
        elif self.beside_default:
            decide = self.detectors[:1]  # thresholds of others are not used
        if without := [name for name, detector in decide if not _has_rate(detector)]:
            raise ValueError(
                f"false_alarm_rate={rate} of a search takes the place of that of its detectors, "
                f"but {without} have none to set. Leave it None, and set their thresholds as "
                "they have it; or set validation: rows that are held out set the threshold."
            )
        return [(name, _with_rate(detector, rate)) for name, detector in self.detectors]

    def _usable(self, A: Activations, labels: NDArray, told: Progress) -> list[tuple[str, Any]]:
        """The detectors that need no part of the network which is missing."""
        rows = _some_rows(labels)
        self.left_out_: dict[str, str] = {}
        usable = []
        for number, (name, detector) in enumerate(self._at_rate()):
            try:
                with told.step(f"{name} on few rows"):
                    _try(detector, A[rows], labels[rows])
            except MissingPartError as error:
                if number == 0:
                    raise
                self.left_out_[name] = str(error)
            else:
                usable.append((name, detector))
        return usable

    def _members_shown(self) -> list[tuple[str, Any]]:
        if hasattr(self, "best_estimator_"):
            return [("best_estimator_", self.best_estimator_)]
        return list(self.detectors)

    def _validate(self, X: Any) -> Activations:
        check_is_fitted(self)
        return check_activations(self, X, reset=False, allow_nd=True)

    @run_elsewhere("verdicts")
    def predict(self, X: Any) -> NDArray[np.int64]:
        """Predict by the detector that was chosen.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        A = self._validate(X)
        return self.best_estimator_.predict(A)

    def fit_predict(self, X: Any, y: ArrayLike | None = None, **kwargs: Any) -> NDArray[np.int64]:
        """Fit, then predict the same samples.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            As in ``fit``.
        y : array-like of shape (n_samples,)
            As in ``fit``.
        **kwargs : dict
            As in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return self.fit(X, y, **kwargs).predict(X)

    @run_elsewhere("scores")
    def score_samples(self, X: Any) -> Floats:
        """Score samples by the detector that was chosen.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Scores: the higher, the more in-distribution.
        """
        A = self._validate(X)
        return in_distribution_scores(self.best_estimator_, A).astype(np.float64)

    @run_elsewhere("scores")
    def decision_function(self, X: Any) -> Floats:
        """Score samples relative to the threshold of the detector that was chosen.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Negative for out-of-distribution.
        """
        A = self._validate(X)
        return self.best_estimator_.decision_function(A)

    def score(self, X: Any, y: ArrayLike) -> float:
        """Score the detector that was chosen, by ``scoring``.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.
        y : array-like of shape (n_samples,)
            -1 for out-of-distribution samples, anything else for in-distribution ones.

        Returns
        -------
        score : float
            By default the area under the ROC curve.
        """
        return float(self._scorer()(self.best_estimator_, self._validate(X), y))


complete(DetectorSearchCV, {}, FITTED_ON)


def _fit(detector: Any, A: Activations, y: NDArray, told: Progress, label: str) -> Any:
    """The detector itself, fitted in a step of its own."""
    with told.step(label, detector):
        return detector.fit(A, y)


def _decides(detector: Any) -> Any:
    """What holds the threshold of a detector that is not fitted: the last step of a pipeline."""
    return _decides(detector[-1]) if isinstance(detector, Pipeline) else detector


def _has_rate(detector: Any) -> bool:
    return "false_alarm_rate" in _decides(detector).get_params(deep=False)


def _with_rate(detector: Any, rate: float) -> Any:
    copy = clone(detector)
    if _has_rate(copy):
        _decides(copy).set_params(false_alarm_rate=rate)
    return copy


def _tabulate(names: list[str], folds: list[Floats], test_per_train: float) -> dict[str, Any]:
    """Scores of candidates over the folds, and their differences to the first one."""
    scores, seconds = np.moveaxis(np.array(folds), 0, 1).transpose(2, 0, 1)
    means = scores.mean(axis=1)
    gains = scores - scores[0]
    errors = np.full(len(names), np.inf)
    if len(folds) > 1:
        errors = gains.std(axis=1, ddof=1) * np.sqrt(1 / len(folds) + test_per_train)
    return {
        "name": np.array(names),
        "mean_fit_time": seconds.mean(axis=1),
        **{f"split{i}_test_score": column for i, column in enumerate(scores.T)},
        "mean_test_score": means,
        "std_test_score": scores.std(axis=1),
        "rank_test_score": rankdata(-means, method="min", nan_policy="omit"),
        "gain": gains.mean(axis=1),
        "gain_se": errors,
    }


def _choose(results: dict[str, Any], min_gain: float) -> int:
    """The candidate with the largest gain that is more than chance, or the first one."""
    gains = results["gain"]
    wins = gains > np.maximum(2 * results["gain_se"], min_gain)  # which NaN is not
    return int(np.argmax(np.where(wins, gains, -np.inf))) if wins.any() else 0


def _warn_of_failure(name: str, error: Exception) -> None:
    warn_user(
        f"The detector {name!r} failed in a fold, and is not chosen: {type(error).__name__}: "
        f"{error}",
        FitFailedWarning,
    )


def _check_marked(A: Activations, y: ArrayLike | None) -> NDArray:
    labels = None if y is None else read_labels(y)
    if labels is None or in_distribution(labels).all():
        found = "y is None" if labels is None else f"none of the {len(labels)} rows is"
        raise ValueError(
            "A search (DetectorSearchCV, as make_monitor builds it with search=True) chooses by "
            f"out-of-distribution rows, marked -1 in y, but {found}."
            + (
                marks_beside_y(A)
                or " Mark some, or do without a search: make_monitor(network, "
                "search=False) needs none."
            )
        )
    return labels


def _check_rows(labels: NDArray) -> None:
    """Refuse fewer rows of a kind than there are folds, each of which needs one."""
    n_inside = int(in_distribution(labels).sum())
    n_marked = len(labels) - n_inside
    if min(n_inside, n_marked) < _N_FOLDS:
        raise ValueError(
            f"A search needs at least {_N_FOLDS} in-distribution rows and as many marked -1, one "
            f"for each fold, got {n_inside} and {n_marked}. With fewer, leave the search out."
        )


def _some_rows(labels: NDArray) -> NDArray[np.intp]:
    """A few rows of each kind, over all of the data."""
    is_in = in_distribution(labels)
    rows = []
    for kind in (np.flatnonzero(is_in), np.flatnonzero(~is_in)):
        places = np.linspace(0, len(kind) - 1, min(len(kind), _N_TRIED))
        rows.append(kind[np.unique(places.astype(np.intp))])
    return np.concatenate(rows)


def _try(detector: Any, X: Any, y: NDArray) -> None:
    """Fit a copy on few rows, which may fail for other reasons than on all of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clone(detector).fit(X, y)
        except MissingPartError:
            raise
        except Exception:  # the search itself tells of it
            return
