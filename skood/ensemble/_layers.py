"""One detector for each layer, combined."""

from numbers import Integral

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import _fit_context, clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._validation import check_activations, layer_list, match_layers
from ..detectors import BaseOneClassDetector
from ._combination import log_p_values, standardize


class LayerEnsembleDetector(BaseOneClassDetector):
    """Fit a copy of a detector on each layer and combine their scores.

    No single layer tells every kind of out-of-distribution sample; together they do far better.

    Parameters
    ----------
    detector : estimator or list of estimators
        Outlier detector with ``fit`` and ``score_samples``, or a pipeline that ends in one;
        cloned for each layer. The members of a list are cloned as they are, and each is given all
        layers, so that it begins with a selection of its own.
    layers : str, int, slice or sequence of them, default="all"
        Names, glob patterns or numbers of the layers, as in :class:`~skood.LayerSelector`. Not used
        where ``detector`` is a list.
    combine : {"fisher", "mean", "vote", "weighted"}, default="fisher"
        - "fisher": sum of the logarithms of the members' p-values [1]_. The p-value of a score is
          its rank among scores of in-distribution training samples.
        - "mean": mean of the scores, standardised by those scores of training samples.
        - "vote": share of the members that accept a sample; half of them are enough.
        - "weighted": as "mean", weighted by how well each member tells the rows that are marked
          out-of-distribution, ``2 * AUROC - 1``, or 0 where that is negative; alike where no
          member is better than chance.
    n_layers : int, default=None
        Number of members to keep: those with the best AUROC against the rows that are marked
        out-of-distribution, earlier ones first on ties. By default all are kept.
    contamination : float in (0, 0.5], default=0.05
        Share of in-distribution samples that the threshold rejects; with "vote", that
        each member rejects.
    n_jobs : int, default=None
        Number of threads that fit and score members. None means 1, -1 all processors.

    Attributes
    ----------
    layers_ : list of str
        Layer of each member kept, in forward order; "member 0", ... where ``detector`` is a list.
    estimators_ : list of estimators
        The fitted members.
    calibration_scores_ : ndarray of shape (n_in_distribution_samples, n_members)
        Scores of the in-distribution training samples by members that did not learn from them.
    aurocs_ : ndarray of shape (n_members,)
        AUROC of each member against the OOD rows of ``fit``, where there were any.
    weights_ : ndarray of shape (n_members,)
        Weight of each member, with ``combine="weighted"``.
    training_rows_ : ndarray of shape (n_in_distribution_samples,)
        Rows of ``X`` in ``fit`` that were learnt from: those not marked -1.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their combined scores.
    offset_ : float
        Threshold on ``score_samples``.
    n_samples_seen_ : int
        Number of rows of ``X`` in ``fit``.
    n_features_in_ : int
        Number of units seen in ``fit``, over all layers.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where ``fit`` saw a data frame with string names.
    layer_shapes_ : dict of str to tuple
        Shape of one sample in each layer, where ``fit`` saw ``Activations``.

    See Also
    --------
    AutoNAPDetector : The published ensemble of activation-pattern monitors.

    Notes
    -----
    Members learn from in-distribution rows alone; rows marked -1 only choose and weigh members.

    Where a member tells the scores of its training samples with each of them left out
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

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
        "detector": [HasMethods(["fit"]), list],
        "layers": [str, Integral, slice, "array-like"],
        "combine": [StrOptions({"fisher", "mean", "vote", "weighted"})],
        "n_layers": [Interval(Integral, 1, None, closed="left"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        detector,
        *,
        layers="all",
        combine="fisher",
        n_layers=None,
        contamination=0.05,
        n_jobs=None,
    ):
        super().__init__(contamination=contamination)
        self.detector = detector
        self.layers = layers
        self.combine = combine
        self.n_layers = n_layers
        self.n_jobs = n_jobs

    @classmethod
    def from_search(cls, search, n_layers, **params):
        """Build an ensemble of the best setting of each of the best layers of a search.

        Parameters
        ----------
        search : fitted GridSearchCV or RandomizedSearchCV
            A search over a pipeline, with the layer among its parameters: the one whose name ends
            in "layers", such as "select__layers". A layer has to be given in one way, by its name
            or by its number, not by both.
        n_layers : int
            How many layers to keep, by the mean test score of their best setting.
        **params : dict
            Further parameters of the ensemble, such as ``combine``.

        Returns
        -------
        ensemble : LayerEnsembleDetector
            Not fitted yet. Its ``detector`` is a list of pipelines, the best layer first.

        Raises
        ------
        ValueError
            If the search has no parameter of that name, or scored fewer layers.
        """
        return cls(_best_pipelines(search, n_layers), **params)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Fit a member on each layer, choose and weigh them, and set the threshold.

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
            If ``n_layers`` or ``combine="weighted"`` ask for rows marked -1 and there are
            none, a layer is unknown, or no sample is in-distribution.
        """
        X, y, outside = self._split_by_kind(self._validate(X, reset=True), y)
        self._check_needs_ood(len(outside))
        self._fit(X, y)
        if len(outside):
            self._judge(outside)
        self._set_threshold(self._combine(self.calibration_scores_))
        return self

    def _validate(self, X, *, reset):
        return check_activations(self, X, reset=reset, allow_nd=True)

    def _check_needs_ood(self, n_outside):
        if n_outside == 0 and (self.n_layers is not None or self.combine == "weighted"):
            raise ValueError(
                f"n_layers={self.n_layers} with combine={self.combine!r} needs out-of-distribution "
                "samples (y == -1) to judge the members by, got none."
            )

    def _fit(self, X, y):
        if isinstance(self.detector, list):
            members = self.detector
            self.layers_ = [f"member {number}" for number in range(len(members))]
            self._inputs = [list(X.layers)] * len(members)
        else:
            self.layers_ = match_layers(self.layers, X.layers)
            self._inputs = [[name] for name in self.layers_]
            members = [self.detector] * len(self.layers_)
        fitted = self._in_parallel(
            delayed(_fit_and_calibrate)(clone(member), X[names], y)
            for member, names in zip(members, self._inputs, strict=True)
        )
        self.estimators_ = [estimator for estimator, _ in fitted]
        self.calibration_scores_ = np.column_stack([scores for _, scores in fitted])

    def _judge(self, outside):
        outside_scores = self._member_scores(outside)
        aurocs = [
            roc_auc_score(np.repeat([1, 0], [len(inside), len(out)]), np.concatenate([inside, out]))
            for inside, out in zip(self.calibration_scores_.T, outside_scores.T, strict=True)
        ]
        kept = np.sort(np.argsort(-np.array(aurocs), kind="stable")[: self.n_layers])
        self.aurocs_ = np.array(aurocs)[kept]
        weights = np.clip(2 * self.aurocs_ - 1, 0, None)
        # Where no member is better than chance, there is no reason to prefer one.
        self.weights_ = weights if weights.any() else np.ones(len(weights))
        self.layers_ = [self.layers_[i] for i in kept]
        self._inputs = [self._inputs[i] for i in kept]
        self.estimators_ = [self.estimators_[i] for i in kept]
        self.calibration_scores_ = self.calibration_scores_[:, kept]

    def _member_scores(self, X):
        scores = self._in_parallel(
            delayed(_score)(estimator, X[names])
            for estimator, names in zip(self.estimators_, self._inputs, strict=True)
        )
        return np.column_stack(scores)

    def _in_parallel(self, tasks):
        # Threads share the activations, and the searches and matrix products release the GIL.
        return Parallel(n_jobs=self.n_jobs, prefer="threads")(tasks)

    def _combine(self, scores):
        calibration = self.calibration_scores_
        if self.combine == "vote":
            thresholds = np.percentile(calibration, 100.0 * self.contamination, axis=0)
            return (scores >= thresholds).mean(axis=1)
        if self.combine == "fisher":
            columns = zip(scores.T, calibration.T, strict=True)
            return np.sum([log_p_values(*column) for column in columns], axis=0)
        weights = self.weights_ if self.combine == "weighted" else None
        return np.average(standardize(scores, calibration), axis=1, weights=weights)

    def _threshold(self, training_scores):
        return 0.5 if self.combine == "vote" else super()._threshold(training_scores)

    def _score_samples(self, X):
        return self._combine(self._member_scores(X))


def _fit_and_calibrate(member, X, y):
    """Fit a member and score its training samples as if it had not learnt from them."""
    member.fit(X, y)
    last = member[-1] if isinstance(member, Pipeline) else member
    left_out = getattr(last, "training_scores_", ())
    if len(left_out) == len(X):  # a detector may set its threshold by some of the rows only
        return member, left_out
    scores = np.empty(len(X))
    for learnt, held_out in KFold(5, shuffle=True, random_state=0).split(X):
        part = clone(member).fit(X[learnt], None if y is None else y[learnt])
        scores[held_out] = _score(part, X[held_out])
    return member, scores


def _score(member, X):
    score = getattr(member, "score_samples", None) or member.decision_function
    return np.asarray(score(X), dtype=np.float64)


def _best_pipelines(search, n_layers):
    check_is_fitted(search)
    results = search.cv_results_
    names = [name for name in results["params"][0] if name.endswith("layers")]
    if len(names) != 1:
        raise ValueError(
            "The search needs one parameter whose name ends in 'layers', "
            f"it has {list(results['params'][0])}."
        )
    metric = search.refit if search.multimetric_ else "score"
    best: dict[tuple[str, ...], tuple[float, dict]] = {}
    for params, score in zip(results["params"], results[f"mean_test_{metric}"], strict=True):
        # The number 0 and the name "0" are two layers, 0 and [0] are one.
        layer = tuple(sorted(map(repr, layer_list(params[names[0]]))))
        if np.isfinite(score) and (layer not in best or score > best[layer][0]):
            best[layer] = (score, params)
    if len(best) < n_layers:
        raise ValueError(f"n_layers={n_layers}, but the search scored {len(best)} layers.")
    ranked = sorted(best.values(), key=lambda found: -found[0])[:n_layers]
    return [clone(search.estimator).set_params(**params) for _, params in ranked]
