"""How wrong a classifier is on the inputs that a score lets through."""

from __future__ import annotations

from numbers import Number
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._marks import in_distribution_mask
from .._values import without_mask
from ._ranking import read_scores


def area_under_risk_coverage_score(is_correct: ArrayLike, scores: ArrayLike) -> float:
    """Area under the risk-coverage curve (AURC) of a classifier that rejects low scores.

    At the coverage k / n, the k of n inputs with the highest scores are accepted, and the risk is
    the share of them that is misclassified. The area is the mean of this risk over the coverages
    1 / n, 2 / n to 1 [1]_. Lower is better.

    Inputs of equal score are accepted in random order, and the area is its expectation: accepting
    j of m tied inputs, of which e are misclassified, adds j * e / m errors. So it depends neither
    on the order of the rows nor on luck, and scores that are all equal have the error rate.

    Parameters
    ----------
    is_correct : array-like of bool of shape (n_samples,)
        Whether each input is classified correctly, as in ``y == A.predictions``; 0 and 1 will do.
    scores : array-like of shape (n_samples,)
        Confidence in each prediction, higher meaning more trusted, such as the output of
        ``score_samples`` or ``decision_function``.

    Returns
    -------
    float
        Between 0, without errors, and 1. It depends on the accuracy of the classifier: compare
        scores of the same predictions.

    Raises
    ------
    ValueError
        If an input is empty or not 1-D, the lengths differ, a score is not finite, or
        ``is_correct`` holds anything but True and False or 1 and 0.

    See Also
    --------
    excess_area_under_risk_coverage_score : The area beyond that of perfect scores.
    risk_coverage_curve : The curve.
    ood_roc_auc_score : With misclassified inputs marked -1, how well scores rank them last,
        whatever the accuracy.
    make_ood_scorer : Has this metric under the name "neg_area_under_risk_coverage".

    Notes
    -----
    With an error rate r, no scores have an area below about r + (1 - r) log(1 - r), that of scores
    that rank every misclassified input last, and uninformative scores have the area r.

    References
    ----------
    .. [1] Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
       Classifiers", ICLR 2019, arXiv:1805.08206.

    Examples
    --------
    Accepting one input, two, three or all four, the risk is 0, 0, 1/3 and 1/4.

    >>> from skood.metrics import area_under_risk_coverage_score
    >>> area_under_risk_coverage_score([True, True, False, True], [0.9, 0.8, 0.7, 0.1])
    0.1458...
    """
    _, n_tied, n_wrong = _tied_counts(is_correct, scores)
    accepted = np.arange(1, n_tied.sum() + 1)
    before, wrong_before = np.cumsum(n_tied) - n_tied, np.cumsum(n_wrong) - n_wrong
    tie = np.repeat(np.arange(len(n_tied)), n_tied)
    errors = wrong_before[tie] + (accepted - before[tie]) * n_wrong[tie] / n_tied[tie]
    return float(np.mean(errors / accepted))


def excess_area_under_risk_coverage_score(is_correct: ArrayLike, scores: ArrayLike) -> float:
    """Excess area under the risk-coverage curve (E-AURC): what perfect scores would do without.

    It is the area of the scores less that of scores that rank every misclassified input last, the
    smallest that the predictions allow [1]_. Lower is better.

    Parameters
    ----------
    is_correct : array-like of bool of shape (n_samples,)
        Whether each input is classified correctly, as in ``y == A.predictions``; 0 and 1 will do.
    scores : array-like of shape (n_samples,)
        Confidence in each prediction, higher meaning more trusted, such as the output of
        ``score_samples`` or ``decision_function``.

    Returns
    -------
    float
        0 where no misclassified input scores as high as a correctly classified one, and above 0
        otherwise. It depends less on the accuracy of the classifier than the area does.

    Raises
    ------
    ValueError
        If an input is empty or not 1-D, the lengths differ, a score is not finite, or
        ``is_correct`` holds anything but True and False or 1 and 0.

    See Also
    --------
    area_under_risk_coverage_score : The whole area.
    risk_coverage_curve : The curve.

    References
    ----------
    .. [1] Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
       Classifiers", ICLR 2019, arXiv:1805.08206.

    Examples
    --------
    Ranked perfectly, the risks of one input, two, three and all four are 0, 0, 0 and 1/4. With the
    misclassified one in third place they are 0, 0, 1/3 and 1/4: 1/12 more on average.

    >>> from skood.metrics import excess_area_under_risk_coverage_score
    >>> excess_area_under_risk_coverage_score([True, True, False, True], [0.9, 0.8, 0.7, 0.1])
    0.0833...
    """
    scores = read_scores(scores, "scores")
    correct = _read_correct(is_correct, len(scores))
    # Rounding may leave less than nothing.
    smallest = area_under_risk_coverage_score(correct, correct)
    return max(area_under_risk_coverage_score(correct, scores) - smallest, 0.0)


class RiskCoverageCurve(NamedTuple):
    """What :func:`risk_coverage_curve` returns, for each threshold."""

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def risk_coverage_curve(is_correct: ArrayLike, scores: ArrayLike) -> RiskCoverageCurve:
    """Error rate of the accepted inputs, for every threshold on their scores.

    A threshold accepts the inputs that score at least as high. The coverage is their share of all
    inputs, the risk the share of them that is misclassified [1]_.

    Parameters
    ----------
    is_correct : array-like of bool of shape (n_samples,)
        Whether each input is classified correctly, as in ``y == A.predictions``; 0 and 1 will do.
    scores : array-like of shape (n_samples,)
        Confidence in each prediction, higher meaning more trusted, such as the output of
        ``score_samples`` or ``decision_function``.

    Returns
    -------
    curve : RiskCoverageCurve
        Named tuple with the following fields, one entry a threshold.

        coverage : ndarray of shape (n_thresholds,)
            Ascending, from the share of the inputs with the highest score to 1.
        risk : ndarray of shape (n_thresholds,)
            Error rate of the accepted inputs. At coverage 1 it is that of all.
        thresholds : ndarray of shape (n_thresholds,)
            The distinct scores, descending. Inputs of equal score are accepted together, so that
            they are one point of the curve.

    Raises
    ------
    ValueError
        If an input is empty or not 1-D, the lengths differ, a score is not finite, or
        ``is_correct`` holds anything but True and False or 1 and 0.

    See Also
    --------
    area_under_risk_coverage_score : The curve in one number.
    skood.inspection.RiskCoverageDisplay : The curve in a figure.
    skood.calibration.RiskControlledDetector : Chooses a threshold whose risk stays below a bound on
        new inputs, which the one with that risk on this curve need not do.

    Notes
    -----
    Without equal scores, the mean of ``risk`` is the area under the curve.

    References
    ----------
    .. [1] R. El-Yaniv, Y. Wiener, "On the foundations of noise-free selective classification",
       Journal of Machine Learning Research 11, 1605-1641, 2010.
       https://jmlr.org/papers/v11/el-yaniv10a.html

    Examples
    --------
    >>> from skood.metrics import risk_coverage_curve
    >>> curve = risk_coverage_curve([True, False, True, True], [0.9, 0.7, 0.7, 0.2])
    >>> curve.coverage
    array([0.25, 0.75, 1.  ])
    >>> curve.risk.round(2)
    array([0.  , 0.33, 0.25])
    >>> curve.thresholds
    array([0.9, 0.7, 0.2])
    """
    thresholds, n_tied, n_wrong = _tied_counts(is_correct, scores)
    accepted = np.cumsum(n_tied)
    return RiskCoverageCurve(accepted / accepted[-1], np.cumsum(n_wrong) / accepted, thresholds)


def _tied_counts(
    is_correct: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """The distinct scores, descending, and how many inputs and errors there are of each."""
    scores = read_scores(scores, "scores")
    is_wrong = ~_read_correct(is_correct, len(scores))
    distinct, position = np.unique(scores, return_inverse=True)
    n_tied = np.bincount(position, minlength=len(distinct))
    n_wrong = np.bincount(position[is_wrong], minlength=len(distinct))
    return distinct[::-1], n_tied[::-1], n_wrong[::-1]


def risk_coverage_of_marks(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """The same area, where the rows marked -1 are the errors."""
    return area_under_risk_coverage_score(
        in_distribution_mask(y_true, len(np.asarray(y_score))), y_score
    )


def _read_correct(is_correct: ArrayLike, n_samples: int) -> NDArray[np.bool_]:
    correct = np.asarray(without_mask(is_correct, "is_correct"))
    if correct.shape != (n_samples,):
        raise ValueError(
            f"is_correct must be 1-D with one value for each of the {n_samples} scores, got an "
            f"array of shape {correct.shape}."
        )
    if correct.dtype == bool:
        return correct
    if others := [value for value in correct.tolist() if not _is_bit(value)]:
        raise ValueError(
            "is_correct must hold True or 1 for correctly classified inputs and False or 0 for "
            f"others, got {others[0]!r}: pass y == predictions, not labels."
        )
    return correct.astype(bool)


def _is_bit(value: Any) -> bool:
    return isinstance(value, Number | np.bool_) and value in (0, 1)  # pandas' NA equals nothing
