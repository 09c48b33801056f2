"""How many of the neurons that are important for a class are important for other classes too."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, column_or_1d

from .._sklearn import Interval, validate_params
from ._line import LINe
from ._percentile import percentile_below


@validate_params(
    {
        "contributions": "no_validation",
        "percentile": [Interval(Real, 0, 100, closed="neither")],
        "overlap": ["array-like", Real],
        "average": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def shared_top_neurons(
    contributions: LINe | Pipeline | ArrayLike,
    *,
    percentile: float = 90,
    overlap: float | ArrayLike = (0.1, 0.2, 0.3, 0.4, 0.5),
    average: bool = True,
) -> NDArray[np.float64]:
    """Fraction of a class's most important neurons that other classes share.

    Of the neurons that contribute most to a class, it counts those that are also among the ones
    that contribute most to other classes, so that more than a given fraction of all classes have
    them [1]_. It helps to choose the percentiles of :class:`LINe`.

    Parameters
    ----------
    contributions : LINe, Pipeline or array-like of shape (n_units, n_classes)
        Contribution of each unit to each class: those of a fitted :class:`LINe`, or of the one in a
        fitted pipeline, or an array such as its ``contributions_``.
    percentile : float in (0, 100), default=90
        A class's most important units are those whose contribution is above this percentile of the
        contributions of all units to the class: those that
        ``LINe(activation_percentile=percentile)`` keeps.
    overlap : float or array-like of float in [0, 1), default=(0.1, 0.2, 0.3, 0.4, 0.5)
        Fractions of the classes. A neuron is shared if more than that fraction of the classes, its
        own one included, have it among their most important ones.
    average : bool, default=True
        Whether to return the mean over the classes, or a row for each class.

    Returns
    -------
    shares : ndarray of shape (n_overlaps,) or (n_classes, n_overlaps)
        For each fraction of the classes, the fraction of a class's most important neurons that are
        shared, from 0 to 1. A class to which no unit contributes more than others, such as one
        without training samples, has no such neurons: its row is NaN, and it is left out of the
        mean and of the number of classes.

    Raises
    ------
    ValueError
        If contributions are not finite or not of two dimensions, a parameter is out of its range,
        a pipeline holds no :class:`LINe`, or no class has an important neuron.
    sklearn.exceptions.NotFittedError
        If ``contributions`` is an estimator that is not fitted.

    See Also
    --------
    LINe : Keeps the neurons and weights that are important for the predicted class.
    skood.inspection.SharedNeuronDisplay : Draws these shares.

    Notes
    -----
    Where classes share few of their important neurons, a high ``activation_percentile`` keeps only
    the neurons of the predicted class and removes those that other classes and unknown inputs
    activate. Where they share many, the same neurons are kept for most classes, and weaker ones
    discriminate between classes: a low ``activation_percentile`` keeps these, and
    ``weight_percentile`` selects the weights, of which each class has its own. Compare networks by
    this number and start a search from there: the published settings, 90 and 90 for 10 classes, 10
    and 90 for 100 classes, 10 and 10 for 1,000 classes, do not follow from it alone.

    References
    ----------
    .. [1] Y. H. Ahn, G.-M. Park, S. T. Kim, "LINe: Out-of-distribution detection by leveraging
       important neurons", CVPR 2023. arXiv:2303.13995

    Examples
    --------
    Four units, three classes, of each class the two most important units. Unit 0 is among those of
    all classes, so of each class one of two neurons is shared by more than half of the classes:

    >>> from skood.shaping import shared_top_neurons
    >>> contributions = [[5.0, 5.0, 5.0], [4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]
    >>> shared_top_neurons(contributions, percentile=50, overlap=[0.3, 0.5])
    array([1. , 0.5])
    """
    levels = _check_overlap(overlap)
    checked = _read_contributions(contributions)
    is_top = checked > percentile_below(checked, percentile, axis=0)
    has_top = is_top.any(axis=0)
    if not has_top.any():
        raise ValueError("No unit contributes more than others to any class.")
    # A quotient of counts equals the decimal number that means the same fraction.
    popularity = is_top[:, has_top].sum(axis=1) / has_top.sum()
    is_shared = popularity[:, np.newaxis] > levels
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = (
            is_top.T.astype(float) @ is_shared / is_top.sum(axis=0)[:, np.newaxis]
        )
    return shares[has_top].mean(axis=0) if average else shares


def _check_overlap(overlap: ArrayLike) -> NDArray[np.float64]:
    levels: NDArray = column_or_1d(np.atleast_1d(overlap), dtype=np.float64)
    if not len(levels) or not ((levels >= 0) & (levels < 1)).all():
        raise ValueError(
            f"overlap must be shares of the classes, from 0 to below 1, got {overlap!r}."
        )
    return levels


def _read_contributions(contributions: Any) -> NDArray[np.float64]:
    if isinstance(contributions, Pipeline):
        found = [step for step in contributions.named_steps.values() if isinstance(step, LINe)]
        if len(found) != 1:
            raise ValueError(f"Expected one LINe in the pipeline, found {len(found)}.")
        (contributions,) = found
    if isinstance(contributions, LINe):
        check_is_fitted(contributions)
        contributions = contributions.contributions_
    checked: NDArray[np.float64] = check_array(
        contributions, dtype=np.float64, input_name="contributions"
    )
    return checked
