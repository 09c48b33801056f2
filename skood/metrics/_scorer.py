"""The metrics as scorers for ``GridSearchCV``, ``cross_validate`` and their like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef
from sklearn.pipeline import Pipeline

from .._foreign import accepted_rows, in_distribution_scores, run_to_predictions
from .._marks import (
    IN_A_SEARCH,
    OOD_LABEL,
    check_mark_is_no_class,
    in_distribution,
    in_distribution_mask,
    read_labels,
    refuse_mark_among,
)
from .._sklearn import BaseScorer, StrOptions, validate_params
from ._ranking import (
    check_both_present,
    detection_accuracy_score,
    fpr_at_tpr_score,
    ood_average_precision_score,
    ood_roc_auc_score,
)
from ._risk_coverage import risk_coverage_of_marks

Metric = Callable[..., float]


def _balanced_accuracy(y_true: NDArray, verdicts: NDArray) -> float:
    return float(balanced_accuracy_score(*_alarms(y_true, verdicts)))


def _matthews_corrcoef(y_true: NDArray, verdicts: NDArray) -> float:
    return float(matthews_corrcoef(*_alarms(y_true, verdicts)))


def _f1(y_true: NDArray, verdicts: NDArray) -> float:
    return float(f1_score(*_alarms(y_true, verdicts)))


def _alarms(y_true: NDArray, verdicts: NDArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows should raise an alarm, and which do."""
    return ~in_distribution_mask(y_true, len(verdicts)), verdicts == OOD_LABEL


class _Described(NamedTuple):
    """A metric as scorers need it."""

    function: Metric
    greater_is_better: bool = True
    kwargs: dict[str, Any] = {}
    of_verdicts: bool = False


_METRICS = {
    "average_precision_id": _Described(ood_average_precision_score, True, {"positive": "id"}),
    "average_precision_ood": _Described(ood_average_precision_score, True, {"positive": "ood"}),
    "balanced_accuracy": _Described(_balanced_accuracy, of_verdicts=True),
    "detection_accuracy": _Described(detection_accuracy_score),
    "f1": _Described(_f1, of_verdicts=True),
    "matthews_corrcoef": _Described(_matthews_corrcoef, of_verdicts=True),
    "neg_area_under_risk_coverage": _Described(risk_coverage_of_marks, False),
    "neg_fpr_at_95_tpr_id": _Described(fpr_at_tpr_score, False, {"tpr": 0.95, "positive": "id"}),
    "neg_fpr_at_95_tpr_ood": _Described(fpr_at_tpr_score, False, {"tpr": 0.95, "positive": "ood"}),
    "roc_auc": _Described(ood_roc_auc_score),
}


@validate_params(
    {
        "metric": [StrOptions(set(_METRICS)), callable],
        "target": [StrOptions({"ood", "misclassified"})],
    },
    prefer_skip_nested_validation=True,
)
def make_ood_scorer(
    metric: str | Metric = "roc_auc", *, target: str = "ood"
) -> Callable[[Any, Any, ArrayLike], float]:
    """Make a scorer of detectors, to be passed as ``scoring`` to scikit-learn's searches.

    The scorer calls the detector's ``decision_function``, or ``score_samples`` where there is none,
    so it scores scikit-learn's outlier detectors and density estimators too. Detectors of PyOD,
    recognised by their base class, have scores of the opposite sign: their ``decision_function`` is
    negated. Metrics of decisions call ``is_ood`` or ``predict``. Greater is better for every
    scorer, and several of the target "ood" in one search share the scores.

    Parameters
    ----------
    metric : str or callable, default="roc_auc"
        A callable ``metric(y_true, y_score)`` of which greater values are better, whose ``y_true``
        marks OOD rows by the number -1, or one of

        - "roc_auc": :func:`ood_roc_auc_score`;
        - "average_precision_ood", "average_precision_id":
          :func:`ood_average_precision_score` with these rows as positives;
        - "neg_fpr_at_95_tpr_ood", "neg_fpr_at_95_tpr_id": minus :func:`fpr_at_tpr_score` with
          these rows as positives;
        - "detection_accuracy": :func:`detection_accuracy_score`, balanced;
        - "neg_area_under_risk_coverage": minus :func:`area_under_risk_coverage_score`, with OOD
          rows, or with the target "misclassified" the misclassified ones, as the errors.

        These depend on scores and not on the threshold. The following depend on decisions, so that
        a search can choose the threshold (``false_alarm_rate``) as well:

        - "balanced_accuracy": mean of the fractions of accepted in-distribution rows and of flagged
          OOD rows;
        - "matthews_corrcoef": Matthews' correlation coefficient of alarms and OOD rows, 0 where
          all rows get the same decision;
        - "f1": the F1 score of the alarms, with OOD rows as positives.
    target : {"ood", "misclassified"}, default="ood"
        What a low score should detect:

        - "ood": rows with ``y == -1``, against all other rows;
        - "misclassified": misclassified inputs, against correctly classified ones. Rows with
          ``y == -1`` are left out, and a row is correct where the network's prediction equals
          ``y``: misclassified rows take the place of OOD rows. ``X`` must be
          :class:`~skood.Activations` with predictions, or the estimator a pipeline with a step that
          extracts them from ``X``; that step then runs once per score.

    Returns
    -------
    callable
        The scorer, ``scorer(estimator, X, y)``. It can be pickled where ``metric`` can.

    Raises
    ------
    ValueError
        By this function, if ``metric`` or ``target`` is unknown, or ``metric`` is a function of
        ``sklearn.metrics``, all of which take -1 for a class. By the scorer, if in-distribution or
        OOD rows are missing in ``y``, -1 is a class of the network, a metric of decisions meets an
        estimator without a threshold, or no predictions are available.

    See Also
    --------
    skood.model_selection.OODKFold : Splitter for searches without training on OOD rows.

    Notes
    -----
    Names that scikit-learn knows, as in ``scoring="roc_auc"`` without this function, make scorers
    of classifiers. Applied to a detector they give NaN or compare class labels with decisions.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import LocalOutlierFactor
    >>> from skood.metrics import make_ood_scorer
    >>> X = np.array([[0.0], [0.1], [0.2], [0.3], [9.0]])
    >>> detector = LocalOutlierFactor(n_neighbors=2, novelty=True).fit(X[:4])
    >>> scorer = make_ood_scorer("average_precision_ood")
    >>> scorer(detector, X, [0, 0, 0, 0, -1])
    1.0
    >>> make_ood_scorer("f1")(detector, X, [0, 0, 0, 0, -1])
    1.0
    """
    _refuse_metric_of_classes(metric)
    if target == "misclassified":
        return _MisclassificationScorer(metric)
    return _OODScorer(metric)


def _refuse_metric_of_classes(metric: str | Metric) -> None:
    if getattr(metric, "__module__", None) and str(metric.__module__).startswith("sklearn.metrics"):
        raise ValueError(
            f"{getattr(metric, '__name__', metric)} of scikit-learn takes -1 for a class among "
            f"others: name a metric of OOD rows, one of {sorted(_METRICS)}, or pass a function "
            "to which -1 marks OOD rows."
        )


# Only scorers that derive from this share the scores of the detector in a search.
class _OODScorer(BaseScorer):
    """Scorer of how well a detector discriminates OOD from in-distribution rows."""

    def __init__(self, metric: str | Metric) -> None:
        self.metric = metric
        self._described = described = _describe(metric)
        super().__init__(
            described.function,
            1 if described.greater_is_better else -1,
            described.kwargs,
            ("is_ood", "predict")
            if described.of_verdicts
            else ("decision_function", "score_samples"),
        )

    def _score(
        self, method_caller: Callable, estimator: Any, X: Any, y_true: ArrayLike, **kwargs: Any
    ) -> float:
        _check_mark_is_no_class(estimator, X)
        y_true = read_labels(y_true)
        check_both_present(in_distribution(y_true), IN_A_SEARCH)
        metric = self._described
        method = "verdicts" if metric.of_verdicts else "scores"
        response = method_caller(_Reader(estimator), method, X)
        value = metric.function(y_true, response, **{**metric.kwargs, **kwargs})
        return value if metric.greater_is_better else -value

    def __repr__(self) -> str:
        return f"make_ood_scorer({_name(self.metric)})"


class _MisclassificationScorer:
    """Scorer of how well a detector discriminates misclassified from correctly classified rows."""

    def __init__(self, metric: str | Metric) -> None:
        self.metric = metric

    def __call__(self, estimator: Any, X: Any, y: ArrayLike) -> float:
        detector, activations = run_to_predictions(
            estimator, X, "Scoring the target 'misclassified'"
        )
        check_mark_is_no_class(activations)
        is_in = in_distribution_mask(y, len(activations))
        is_correct = np.asarray(activations.predictions == read_labels(y))[is_in]
        if is_correct.all() or not is_correct.any():
            raise ValueError(
                "Scoring the target 'misclassified' needs both rightly and wrongly classified "
                f"inputs, got {is_correct.sum()} right and {(~is_correct).sum()} wrong among "
                "the in-distribution rows. Labels in y must be those of X.predictions."
            )
        metric, reader = _describe(self.metric), _Reader(detector)
        response = reader.verdicts if metric.of_verdicts else reader.scores
        score = metric.function(
            np.where(is_correct, 1, OOD_LABEL), response(activations)[is_in], **metric.kwargs
        )
        return score if metric.greater_is_better else -score

    def __repr__(self) -> str:
        return f"make_ood_scorer({_name(self.metric)}, target='misclassified')"


class _Reader(OutlierMixin, BaseEstimator):
    """Adapter of any detector that gives scores and verdicts with skood's signs."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def scores(self, X: Any) -> NDArray[np.floating]:
        """Scores, the higher the more in-distribution."""
        methods = ("decision_function", "score_samples")
        return in_distribution_scores(self.estimator, X, methods)

    def verdicts(self, X: Any) -> NDArray[np.intp]:
        """1 for rows that the detector accepts, -1 for those that it flags."""
        return np.where(accepted_rows(self.estimator, X), 1, OOD_LABEL)


def _describe(metric: str | Metric) -> _Described:
    return _METRICS[metric] if isinstance(metric, str) else _Described(metric)


def _name(metric: str | Metric) -> str:
    return repr(metric) if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))


def _check_mark_is_no_class(estimator: Any, X: Any) -> None:
    """Look for a class -1 in activations, or in the network of a pipeline that extracts them."""
    check_mark_is_no_class(X)
    estimator = getattr(estimator, "best_estimator_", estimator)
    for _, step in estimator.steps if isinstance(estimator, Pipeline) else ():
        classes = getattr(getattr(step, "network", None), "classes_", None)
        if classes is not None:
            refuse_mark_among(classes)
