"""How well scores rank in-distribution rows above out-of-distribution (OOD) rows.

Every metric is computed from the numbers of in-distribution and of OOD rows at each distinct score.
So equal scores are never separated, no threshold is left out, and no difference of scores is taken
that could overflow or vanish.
"""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from .._marks import in_distribution_mask
from .._sklearn import Interval, StrOptions, validate_params
from .._values import without_mask

Counts = NDArray[np.int64]


def ood_roc_auc_score(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Area under the ROC curve of discriminating OOD from in-distribution rows.

    It is the fraction of all pairs of an in-distribution row and an OOD row in which the
    in-distribution row has the higher score; a pair with equal scores counts one half. It is the
    same whether OOD or in-distribution rows are the positives.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels; -1 marks an OOD row, any other value an in-distribution row.
    y_score : array-like of shape (n_samples,)
        Scores, higher meaning more in-distribution, such as the output of
        ``score_samples`` or ``decision_function``.

    Returns
    -------
    float
        Between 0 and 1; 1 for a perfect separation, 0.5 for uninformative scores.

    Raises
    ------
    ValueError
        If an input is not 1-D, the lengths differ, a score is not finite, or in-distribution or
        OOD rows are missing.

    See Also
    --------
    fpr_at_tpr_score : One point of the same curve.

    Examples
    --------
    >>> from skood.metrics import ood_roc_auc_score
    >>> ood_roc_auc_score([0, 1, -1, -1], [0.9, 0.4, 0.4, 0.1])
    0.875
    """
    n_in, n_ood = _count_by_score(y_true, y_score)
    ood_below = np.cumsum(n_ood) - n_ood
    half_pairs_won = n_in @ (2 * ood_below + n_ood)
    return float(half_pairs_won / (2 * n_in.sum() * n_ood.sum()))


@validate_params(
    {"positive": [StrOptions({"id", "ood"})]},
    prefer_skip_nested_validation=True,
)
def ood_average_precision_score(
    y_true: ArrayLike, y_score: ArrayLike, *, positive: str = "ood"
) -> float:
    """Average precision, with OOD rows (the default) or in-distribution rows as positives.

    The value depends on which rows are positive: state it wherever you report one. The precision is
    averaged over the positive rows, each at the threshold that just includes it, with rows of
    equal score included together. No line is drawn between the points, unlike in the area
    under the precision-recall curve by the trapezium rule, which is too optimistic.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels; -1 marks an OOD row, any other value an in-distribution row.
    y_score : array-like of shape (n_samples,)
        Scores, higher meaning more in-distribution.
    positive : {"ood", "id"}, default="ood"
        The positive rows: "ood" detects OOD rows from the lowest score upwards (AUPR-Out in the
        literature), "id" detects in-distribution rows from the highest score downwards (AUPR-In).

    Returns
    -------
    float
        Between 0 and 1; 1 for a perfect separation. Uninformative scores give the fraction of
        positive rows.

    Raises
    ------
    ValueError
        If an input is not 1-D, the lengths differ, a score is not finite, in-distribution or OOD
        rows are missing, or ``positive`` is neither of the two strings.

    See Also
    --------
    ood_roc_auc_score : Does not depend on the proportion of OOD rows.

    Examples
    --------
    >>> from skood.metrics import ood_average_precision_score
    >>> y_true, y_score = [0, 1, 2, -1], [0.9, 0.1, 0.7, 0.4]
    >>> ood_average_precision_score(y_true, y_score)
    0.5
    >>> ood_average_precision_score(y_true, y_score, positive="id")
    0.916...
    """
    true_positives, false_positives = _curve(y_true, y_score, positive)
    precision = true_positives / (true_positives + false_positives)
    newly_found = np.diff(true_positives, prepend=0)
    return float(newly_found @ precision / true_positives[-1])


@validate_params(
    {
        "tpr": [Interval(Real, 0, 1, closed="right")],
        "positive": [StrOptions({"id", "ood"})],
    },
    prefer_skip_nested_validation=True,
)
def fpr_at_tpr_score(
    y_true: ArrayLike, y_score: ArrayLike, *, tpr: float = 0.95, positive: str = "ood"
) -> float:
    """Smallest false positive rate at a threshold with at least the true positive rate ``tpr``.

    Lower is better. With ``tpr=0.95`` this is the FPR95 of the literature, a name for two
    conventions with different values: state ``positive`` wherever you report one. The threshold is
    one of the scores, so no rate is interpolated.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels; -1 marks an OOD row, any other value an in-distribution row.
    y_score : array-like of shape (n_samples,)
        Scores, higher meaning more in-distribution.
    tpr : float, default=0.95
        True positive rate, above 0 and up to 1, that is reached at least.
    positive : {"ood", "id"}, default="ood"
        "ood": the fraction of in-distribution rows flagged when at least ``tpr`` of the OOD rows
        are flagged, as in the OpenOOD benchmark [1]_. "id": the fraction of OOD rows accepted when
        at least ``tpr`` of the in-distribution rows are accepted, as in the papers on ODIN [2]_,
        DICE and LINe.

    Returns
    -------
    float
        Between 0 (best) and 1.

    Raises
    ------
    ValueError
        If an input is not 1-D, the lengths differ, a score is not finite, in-distribution or OOD
        rows are missing, or ``tpr`` or ``positive`` is not one of the values above.

    See Also
    --------
    ood_roc_auc_score : Area under the whole curve.

    References
    ----------
    .. [1] Zhang et al., "OpenOOD v1.5: Enhanced Benchmark for Out-of-Distribution Detection",
       2023, arXiv:2306.09301.
    .. [2] Liang, Li and Srikant, "Enhancing the Reliability of Out-of-distribution Image
       Detection in Neural Networks", ICLR 2018, arXiv:1706.02690.

    Examples
    --------
    >>> from skood.metrics import fpr_at_tpr_score
    >>> y_true, y_score = [0, 1, 2, 3, -1, -1], [0.9, 0.8, 0.7, 0.2, 0.5, 0.1]
    >>> fpr_at_tpr_score(y_true, y_score)
    0.25
    >>> fpr_at_tpr_score(y_true, y_score, positive="id")
    0.5
    """
    true_positives, false_positives = _curve(y_true, y_score, positive)
    # A rate is compared, not a count: 0.07 * 100 is above 7, 7 / 100 is exactly 0.07.
    first = np.argmax(true_positives / true_positives[-1] >= tpr)
    return float(false_positives[first] / false_positives[-1])


@validate_params({"balanced": ["boolean"]}, prefer_skip_nested_validation=True)
def detection_accuracy_score(
    y_true: ArrayLike, y_score: ArrayLike, *, balanced: bool = True
) -> float:
    """Largest accuracy that any threshold on the scores reaches.

    The threshold is chosen on the rows that are scored, so this is an upper bound of the accuracy
    of a threshold that is chosen beforehand. Thresholds that flag all rows or none are candidates
    too.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels; -1 marks an OOD row, any other value an in-distribution row.
    y_score : array-like of shape (n_samples,)
        Scores, higher meaning more in-distribution.
    balanced : bool, default=True
        Whether the accuracy is the mean of the fractions of accepted in-distribution rows and of
        flagged OOD rows, which does not depend on the proportion of OOD rows. Otherwise it is the
        fraction of all rows that are classified correctly.

    Returns
    -------
    float
        At least 0.5 and at most 1; 1 for a perfect separation.

    Raises
    ------
    ValueError
        If an input is not 1-D, the lengths differ, a score is not finite, or in-distribution or
        OOD rows are missing.

    Examples
    --------
    >>> from skood.metrics import detection_accuracy_score
    >>> y_true, y_score = [0, 1, 2, 3, -1], [0.9, 0.8, 0.7, 0.2, 0.5]
    >>> detection_accuracy_score(y_true, y_score)
    0.875
    >>> detection_accuracy_score(y_true, y_score, balanced=False)
    0.8
    """
    n_in, n_ood = _count_by_score(y_true, y_score)
    in_total, ood_total = n_in.sum(), n_ood.sum()
    in_flagged = np.concatenate([[0], np.cumsum(n_in)])
    ood_flagged = np.concatenate([[0], np.cumsum(n_ood)])
    in_weight, ood_weight = (ood_total, in_total) if balanced else (1, 1)
    right = in_weight * (in_total - in_flagged) + ood_weight * ood_flagged
    return float(right.max() / (in_weight * in_total + ood_weight * ood_total))


def _curve(y_true: ArrayLike, y_score: ArrayLike, positive: str) -> tuple[Counts, Counts]:
    """Cumulative numbers of positives and negatives, from the most positive distinct score on."""
    n_in, n_ood = _count_by_score(y_true, y_score)
    if positive == "ood":
        return np.cumsum(n_ood), np.cumsum(n_in)
    return np.cumsum(n_in[::-1]), np.cumsum(n_ood[::-1])


def _count_by_score(y_true: ArrayLike, y_score: ArrayLike) -> tuple[Counts, Counts]:
    """Number of in-distribution and of OOD rows at each distinct score, lowest score first."""
    scores = read_scores(y_score, "y_score")
    if (shape := np.shape(y_true)) != scores.shape:
        raise ValueError(
            f"y_true must be 1-D with one label for each of the {len(scores)} scores, got "
            f"an array of shape {shape}."
        )
    is_in = in_distribution_mask(y_true, len(scores))
    check_both_present(is_in)
    distinct, position = np.unique(scores, return_inverse=True)
    n_in = np.bincount(position[is_in], minlength=len(distinct))
    n_ood = np.bincount(position[~is_in], minlength=len(distinct))
    return n_in, n_ood


def read_scores(scores: ArrayLike, name: str) -> NDArray:
    """Scores as a 1-D array of finite numbers.

    Raises
    ------
    ValueError
        If they are none; ``name`` is the parameter that they come from.
    """
    # check_array sums the scores, and huge ones of both signs sum to NaN with a warning.
    with np.errstate(invalid="ignore"):
        scores = without_mask(scores, name)
        array: NDArray = check_array(scores, ensure_2d=False, allow_nd=True, input_name=name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got an array of shape {array.shape}.")
    return array


def check_both_present(is_in: NDArray[np.bool_], advice: str = "") -> None:
    """Refuse labels without in-distribution or without OOD rows.

    Raises
    ------
    ValueError
        If all rows are in-distribution, or none is.
    """
    if is_in.all() or not is_in.any():
        raise ValueError(
            "y_true must hold both in-distribution rows and OOD rows (marked -1), got "
            f"{is_in.sum()} in-distribution and {(~is_in).sum()} OOD rows. {advice}".rstrip()
        )
