"""How wrong a classifier is on the inputs that a score lets through."""

from __future__ import annotations

from numbers import Number
from typing import Any

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
    scores = read_scores(scores, "scores")
    is_wrong = ~_read_correct(is_correct, len(scores))
    distinct, position = np.unique(scores, return_inverse=True)
    # From the highest score on.
    n_tied = np.bincount(position, minlength=len(distinct))[::-1]
    n_wrong = np.bincount(position[is_wrong], minlength=len(distinct))[::-1]
    accepted = np.arange(1, len(scores) + 1)
    before, wrong_before = np.cumsum(n_tied) - n_tied, np.cumsum(n_wrong) - n_wrong
    tie = np.repeat(np.arange(len(distinct)), n_tied)
    errors = wrong_before[tie] + (accepted - before[tie]) * n_wrong[tie] / n_tied[tie]
    return float(np.mean(errors / accepted))


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
