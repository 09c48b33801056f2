"""A search over detectors that keeps the first one unless another is better for sure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._fit_context import fit_context
from .._foreign import in_distribution_scores
from .._logits import MissingPartError
from .._marks import in_distribution, read_labels
from .._sklearn import HasMethods, Interval, safe_indexing
from .._values import Floats
from ..metrics import make_ood_scorer
from ._split import OODKFold

_N_TRIED = 64
"""A detector that needs a part which is missing says so on as few rows."""


class DetectorSearchCV(OutlierMixin, MetaEstimatorMixin, BaseEstimator):
    """Choose a detector by rows marked out-of-distribution; the first one unless another wins.

    Each detector is fitted and scored in each fold of a cross-validation. The first of them is the
    default: another one takes its place only if it is better by more than twice the standard error
    over the folds, and by more than ``min_gain``. So a search with few or unhelpful
    out-of-distribution rows ends where it would have without them.

    Parameters
    ----------
    detectors : list of (str, estimator) tuples
        Names, and outlier detectors or pipelines that end in one, the default first. All are given
        the same activations.
    scoring : callable, default=None
        Scorer ``scoring(detector, X, y)``, greater is better. By default the area under the ROC
        curve, :func:`~skood.metrics.make_ood_scorer`.
    cv : splitter, default=None
        By default ``OODKFold(5, shuffle=True, random_state=0, ood_in_train=True)``: a detector that
        learns from rows marked out-of-distribution gets those of the training part, and none is
        scored on rows that it was given.
    min_gain : float, default=0.02
        By how much the mean score of another detector has to exceed that of the default at least.
        A gain on the rows at hand that is smaller need not be one on others.
    n_jobs : int, default=None
        Number of fits to run at once, as in :class:`~sklearn.model_selection.GridSearchCV`.
    verbose : int, default=0
        As in :class:`~sklearn.model_selection.GridSearchCV`.

    Attributes
    ----------
    best_name_ : str
        Name of the detector that was chosen.
    best_estimator_ : estimator
        The same, fitted on all rows.
    best_index_ : int
        Its place in ``cv_results_``.
    best_score_ : float
        Its mean score over the folds.
    cv_results_ : dict of str to ndarray of shape (n_candidates,)
        The table of candidates, to be made a data frame: "name", what
        :class:`~sklearn.model_selection.GridSearchCV` tells of each, such as "mean_test_score", and
        the mean difference to the default in the same folds, "gain", with its standard error,
        "gain_se".
    left_out_ : dict of str to str
        Detectors that were not tried, with the reason: the network lacks logits or a head.

    See Also
    --------
    skood.make_monitor : With ``search=True``, searches over the detectors of this package.
    sklearn.model_selection.GridSearchCV : Takes the best setting of a grid, however small the lead.
    OODKFold : The splitter.

    Notes
    -----
    The differences between detectors are paired: both are scored on the same rows. As training
    parts overlap, the standard error over k folds is that of Nadeau and Bengio [1]_, ``s *
    sqrt(1 / k + n_test / n_train)`` with the standard deviation s of the differences. Of several
    detectors that win, the one with the best mean score is taken.

    Each candidate is fitted once for each fold, and the one that is chosen once more.

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
    >>> from skood.detectors import KNNDetector, MaxSoftmaxDetector
    >>> from skood.model_selection import DetectorSearchCV
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(3, 1, size=(100, 2)), rng.normal(-3, 1, size=(50, 2))])
    >>> y = np.repeat([0, -1], [100, 50])
    >>> search = DetectorSearchCV(
    ...     [("softmax", MaxSoftmaxDetector()), ("knn", KNNDetector(normalize=False))]
    ... ).fit(X, y)
    >>> search.best_name_
    'knn'
    >>> search.cv_results_["mean_test_score"].round(1)
    array([0.4, 1. ])
    """

    _learns_from_ood = True

    _parameter_constraints: dict = {
        "detectors": [list],
        "scoring": [callable, None],
        "cv": [HasMethods("split"), None],
        "min_gain": [Interval(Real, 0, None, closed="left")],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        detectors: Sequence[tuple[str, Any]],
        *,
        scoring: Any = None,
        cv: Any = None,
        min_gain: float = 0.02,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.detectors = detectors
        self.scoring = scoring
        self.cv = cv
        self.min_gain = min_gain
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike | None = None, *, groups: ArrayLike | None = None) -> Self:
        """Score all detectors, choose one, and fit it on all rows.

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
            If no row is marked -1, or fewer than the splitter needs; or if the default, or all
            others, cannot be fitted.
        """
        self._check_detectors()
        labels = _check_marked(y)
        cv = OODKFold(5, shuffle=True, random_state=0, ood_in_train=True)
        splits = list((cv if self.cv is None else self.cv).split(X, y, groups))
        tried = self._usable(X, labels)
        chooser = _Chooser(self.min_gain, float(np.mean([len(b) / len(a) for a, b in splits])))
        search = GridSearchCV(
            Pipeline([("detector", tried[0][1])]),
            {"detector": [detector for _, detector in tried]},
            scoring=make_ood_scorer() if self.scoring is None else self.scoring,
            cv=splits,
            refit=chooser.choose,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        ).fit(X, y)
        self._record(search, [name for name, _ in tried], chooser)
        return self

    def _record(self, search: GridSearchCV, names: list[str], chooser: _Chooser) -> None:
        gains, errors = chooser.gains(search.cv_results_)
        self.best_index_ = int(search.best_index_)
        self.best_name_ = names[self.best_index_]
        self.best_estimator_ = search.best_estimator_["detector"]
        self.best_score_ = float(search.cv_results_["mean_test_score"][self.best_index_])
        self.cv_results_ = {
            "name": np.array(names),
            **search.cv_results_,
            "gain": gains,
            "gain_se": errors,
        }

    def _check_detectors(self) -> None:
        names = [pair[0] for pair in self.detectors]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                "detectors must be pairs of a name of its own and a detector, the default first, "
                f"got {self.detectors!r}."
            )

    def _usable(self, X: Any, labels: NDArray) -> list[tuple[str, Any]]:
        """The detectors that need no part of the network which is missing."""
        rows = _some_rows(labels)
        few, y = safe_indexing(X, rows), labels[rows]
        self.left_out_: dict[str, str] = {}
        usable = []
        for number, (name, detector) in enumerate(self.detectors):
            try:
                _try(detector, few, y)
            except MissingPartError as error:
                if number == 0:
                    raise
                self.left_out_[name] = str(error)
            else:
                usable.append((name, detector))
        return usable

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
        check_is_fitted(self)
        return self.best_estimator_.predict(X)

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
        check_is_fitted(self)
        return in_distribution_scores(self.best_estimator_, X).astype(np.float64)

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
        check_is_fitted(self)
        return self.best_estimator_.decision_function(X)

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
        check_is_fitted(self)
        scorer = make_ood_scorer() if self.scoring is None else self.scoring
        return float(scorer(self.best_estimator_, X, y))


class _Chooser:
    """Chooses a candidate by its scores in all folds, the first unless another is better."""

    def __init__(self, min_gain: float, test_per_train: float) -> None:
        self._min_gain = min_gain
        self._test_per_train = test_per_train

    def gains(self, results: dict[str, Any]) -> tuple[Floats, Floats]:
        """Mean differences to the first candidate in the same folds, and their standard errors."""
        folds = [name for name in results if name.startswith("split")]
        scores = np.column_stack([results[f"split{i}_test_score"] for i in range(len(folds))])
        differences = scores - scores[0]
        if len(folds) < 2:
            return differences.mean(axis=1), np.full(len(scores), np.inf)
        share = 1 / len(folds) + self._test_per_train
        return differences.mean(axis=1), differences.std(axis=1, ddof=1) * np.sqrt(share)

    def choose(self, results: dict[str, Any]) -> int:
        """Place of the candidate to take."""
        gains, errors = self.gains(results)
        wins = gains > np.maximum(2 * errors, self._min_gain)  # which NaN, of a failed fit, is not
        return int(np.argmax(np.where(wins, gains, -np.inf))) if wins.any() else 0


def _check_marked(y: ArrayLike | None) -> NDArray:
    labels = None if y is None else read_labels(y)
    if labels is None or in_distribution(labels).all():
        found = "y is None" if labels is None else f"none of the {len(labels)} rows is"
        raise ValueError(
            "A search (DetectorSearchCV, as make_monitor builds it with search=True) chooses by "
            f"out-of-distribution rows, marked -1 in y, but {found}. Mark some, or do without a "
            "search: make_monitor(network, search=False) needs none."
        )
    return labels


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
