"""The metrics as scorers for ``GridSearchCV``, ``cross_validate`` and their like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import make_scorer
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import StrOptions, validate_params
from sklearn.utils.validation import column_or_1d

from .._validation import OOD_LABEL, in_distribution_mask
from ..activations import Activations
from ._ranking import (
    detection_accuracy_score,
    fpr_at_tpr_score,
    ood_average_precision_score,
    ood_roc_auc_score,
)

Metric = Callable[..., float]

# For each name: the function, whether greater is better, and its keyword arguments.
_METRICS: dict[str, tuple[Metric, bool, dict[str, Any]]] = {
    "average_precision_id": (ood_average_precision_score, True, {"positive": "id"}),
    "average_precision_ood": (ood_average_precision_score, True, {"positive": "ood"}),
    "detection_accuracy": (detection_accuracy_score, True, {}),
    "neg_fpr_at_95_tpr_id": (fpr_at_tpr_score, False, {"tpr": 0.95, "positive": "id"}),
    "neg_fpr_at_95_tpr_ood": (fpr_at_tpr_score, False, {"tpr": 0.95, "positive": "ood"}),
    "roc_auc": (ood_roc_auc_score, True, {}),
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

    The scorer calls the detector's ``decision_function``, so it scores scikit-learn's outlier
    detectors too. Density estimators, which have only ``score_samples``, are scored by
    that; for the target "ood" this takes scikit-learn 1.9, as earlier versions refuse to. Greater
    is better for every scorer, and several of the target "ood" in one search share the scores.

    Parameters
    ----------
    metric : str or callable, default="roc_auc"
        A callable ``metric(y_true, y_score)`` of which greater values are better, or one of

        - "roc_auc": :func:`ood_roc_auc_score`;
        - "average_precision_ood", "average_precision_id":
          :func:`ood_average_precision_score` with that kind of rows as positives;
        - "neg_fpr_at_95_tpr_ood", "neg_fpr_at_95_tpr_id": minus :func:`fpr_at_tpr_score` with
          that kind of rows as positives;
        - "detection_accuracy": :func:`detection_accuracy_score`, balanced.
    target : {"ood", "misclassified"}, default="ood"
        What a low score should tell:

        - "ood": rows with ``y == -1`` against all other rows;
        - "misclassified": wrongly against rightly classified inputs. Rows with ``y == -1`` are
          left out, and a row is right where the network's prediction equals ``y``: wrong rows
          take the part of OOD rows. ``X`` must be :class:`~skood.Activations` with
          predictions, or the estimator a pipeline one of whose steps makes them from
          ``X``; that step is then run once per score.

    Returns
    -------
    callable
        The scorer, ``scorer(estimator, X, y)``. It can be pickled where ``metric`` can.

    Raises
    ------
    ValueError
        By this function, if ``metric`` or ``target`` is unknown. By the scorer, if one of the
        two kinds of rows is missing in ``y``, or no predictions are to be had.

    See Also
    --------
    skood.model_selection.OODKFold : Splitter to search with, without training on OOD rows.

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
    """
    if target == "misclassified":
        return _MisclassificationScorer(metric)
    score_func, greater_is_better, kwargs = _describe(metric)
    return make_scorer(
        score_func,
        response_method=("decision_function", "score_samples"),
        greater_is_better=greater_is_better,
        **kwargs,
    )


class _MisclassificationScorer:
    """Scorer of how well a detector tells wrong from right predictions of the network.

    Parameters
    ----------
    metric : str or callable
        As in :func:`make_ood_scorer`.
    """

    def __init__(self, metric: str | Metric) -> None:
        self.metric = metric

    def __call__(self, estimator: Any, X: Any, y: ArrayLike) -> float:
        activations, detector = _run_to_activations(estimator, X)
        is_in = in_distribution_mask(y, len(activations))
        is_right = (activations.predictions == column_or_1d(y))[is_in]
        if is_right.all() or not is_right.any():
            raise ValueError(
                "Scoring the target 'misclassified' needs both rightly and wrongly classified "
                f"inputs, got {is_right.sum()} right and {(~is_right).sum()} wrong among "
                "the in-distribution rows. Labels in y must be those of X.predictions."
            )
        score_func, greater_is_better, kwargs = _describe(self.metric)
        y_score = _response(detector, activations)[is_in]
        score = score_func(np.where(is_right, 1, OOD_LABEL), y_score, **kwargs)
        return score if greater_is_better else -score

    def __repr__(self) -> str:
        is_name = isinstance(self.metric, str)
        metric = repr(self.metric) if is_name else getattr(self.metric, "__name__", self.metric)
        return f"make_ood_scorer({metric}, target='misclassified')"


def _describe(metric: str | Metric) -> tuple[Metric, bool, dict[str, Any]]:
    return _METRICS[metric] if isinstance(metric, str) else (metric, True, {})


def _run_to_activations(estimator: Any, X: Any) -> tuple[Activations, Any]:
    """Activations with predictions, and the part of the estimator that scores them.

    The steps of a pipeline that lead to activations are run here, once: their output gives
    the predictions and is scored by the steps that are left.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    detector = estimator
    while not isinstance(X, Activations) and isinstance(detector, Pipeline) and len(detector) > 1:
        X, detector = detector[:1].transform(X), detector[1:]
    if not isinstance(X, Activations) or X.predictions is None:
        given = f"{X!r} without any" if isinstance(X, Activations) else type(X).__name__
        raise ValueError(
            "Scoring the target 'misclassified' needs the network's predictions: X must be "
            "Activations with logits or predictions, or the estimator a pipeline with a step that "
            f"makes them, got {given} and {estimator!r}."
        )
    return X, detector


def _response(detector: Any, X: Activations) -> NDArray[np.floating]:
    if hasattr(detector, "decision_function"):
        return np.asarray(detector.decision_function(X))
    return np.asarray(detector.score_samples(X))
