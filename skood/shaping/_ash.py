"""Shaping of each sample by its own largest activations."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._sklearn import Interval, StrOptions
from ..activations import Activations
from ._base import FeatureShaper

Floats = NDArray[np.floating]


class _SampleShaper(FeatureShaper):
    """Template of the shaping that treats each sample on its own and learns nothing."""

    percentile: float

    _parameter_constraints: dict[str, Any] = {"percentile": [Interval(Real, 0, 100, closed="both")]}
    _learns_from_rows = False

    def _fit(self, X: Activations, y: NDArray | None) -> None:
        """Nothing depends on other samples."""

    def _shape_features(self, features: Floats) -> Floats:
        n_units = features.shape[1]
        n_kept = n_units - round(n_units * self.percentile / 100)
        return self._shape_rows(np.ascontiguousarray(features), n_kept)

    @abstractmethod
    def _shape_rows(self, rows: Floats, n_kept: int) -> Floats:
        """Shaped copies of rows (n_samples, n_units) by the ``n_kept`` largest values of each."""


class ASH(_SampleShaper):
    """Keep the largest features of each sample and remove the others.

    Of ``n`` features of a sample the largest ``k = n - round(n * percentile / 100)`` are kept, the
    others become 0. The kept features may then be shaped too [1]_. With ``s1`` and ``s2`` the sums
    over the sample's features before and after the removal:

    - "p" (prune): kept values do not change;
    - "b" (binarise): every kept value becomes ``s1 / k``;
    - "s" (scale): kept values are multiplied by ``exp(s1 / s2)``.

    Parameters
    ----------
    variant : {"p", "b", "s"}, default="s"
        How to shape the kept values.
    percentile : float in [0, 100], default=90
        Share of each sample's features that are removed, in per cent.

    See Also
    --------
    SCALE : Multiplies all features, and removes none.
    ReAct : Clips large features instead.

    Notes
    -----
    Among equal values, those of earlier units are kept. Half a feature is rounded to the even
    number. A sample whose kept values do not have a positive sum is not scaled, and the exponent is
    bounded where shaped features would leave the range of their precision. Half precision is shaped
    and returned as single precision.

    References
    ----------
    .. [1] A. Djurisic, N. Bozanic, A. Ashok, R. Liu, "Extremely simple activation shaping for
       out-of-distribution detection", ICLR 2023. arXiv:2209.09858

    Examples
    --------
    >>> from skood.shaping import ASH
    >>> ASH(variant="p", percentile=50).fit_transform([[1.0, 4.0, 0.0, 3.0]])
    array([[0., 4., 0., 3.]])
    >>> ASH(variant="b", percentile=50).fit_transform([[1.0, 4.0, 0.0, 3.0]])
    array([[0., 4., 0., 4.]])
    >>> ASH(variant="s", percentile=50).fit_transform([[1.0, 4.0, 0.0, 3.0]]).round(2)
    array([[ 0.  , 12.54,  0.  ,  9.41]])
    """

    _parameter_constraints: dict[str, Any] = {
        **_SampleShaper._parameter_constraints,
        "variant": [StrOptions({"p", "b", "s"})],
    }

    def __init__(self, *, variant: str = "s", percentile: float = 90) -> None:
        self.variant = variant
        self.percentile = percentile

    def _shape_rows(self, rows: Floats, n_kept: int) -> Floats:
        largest = _largest_values(rows, n_kept)
        kept = _is_among(largest, rows)
        if self.variant == "b":
            return np.where(kept, _even_share(rows, n_kept), 0)
        pruned = np.where(kept, rows, 0)
        return pruned if self.variant == "p" else pruned * _factor(rows, largest)


class SCALE(_SampleShaper):
    """Multiply the features of each sample by a factor that its largest ones determine.

    The factor is ``exp(s1 / s2)``, where ``s1`` is the sum of all ``n`` features of the sample and
    ``s2`` that of the ``n - round(n * percentile / 100)`` largest [1]_. It is the factor of
    :class:`ASH`, but nothing is removed, so that the order of a sample's features is kept.

    Parameters
    ----------
    percentile : float in [0, 100], default=85
        Share of each sample's features that are left out of ``s2``, in per cent.

    See Also
    --------
    ASH : Removes the smaller features as well.

    Notes
    -----
    A sample whose largest features do not have a positive sum is not scaled, and the exponent is
    bounded where shaped features would leave the range of their precision. Half precision is shaped
    and returned as single precision.

    References
    ----------
    .. [1] K. Xu, R. Chen, G. Franchi, A. Yao, "Scaling for training time and post-hoc
       out-of-distribution detection enhancement", ICLR 2024. arXiv:2310.00227

    Examples
    --------
    >>> from skood.shaping import SCALE
    >>> SCALE(percentile=50).fit_transform([[1.0, 4.0, 0.0, 3.0]]).round(2)
    array([[ 3.14, 12.54,  0.  ,  9.41]])
    """

    def __init__(self, *, percentile: float = 85) -> None:
        self.percentile = percentile

    def _shape_rows(self, rows: Floats, n_kept: int) -> Floats:
        return rows * _factor(rows, _largest_values(rows, n_kept))


def _largest_values(rows: Floats, n_kept: int) -> Floats:
    """The ``n_kept`` largest values of each row, the smallest of them first."""
    n_removed = rows.shape[1] - n_kept
    return np.partition(rows, min(n_removed, rows.shape[1] - 1), axis=1)[:, n_removed:]


def _is_among(largest: Floats, rows: Floats) -> NDArray[np.bool_]:
    """Mask of the values that are the largest; of equal ones, those of earlier units."""
    n_kept = largest.shape[1]
    if n_kept == 0:
        return np.zeros(rows.shape, dtype=bool)
    kept = rows >= largest[:, :1]
    n_surplus = np.count_nonzero(kept, axis=1) - n_kept
    tied = np.flatnonzero(n_surplus)
    if len(tied):
        equal = rows[tied] == largest[tied, :1]
        n_equal = np.cumsum(equal, axis=1, dtype=np.int32)
        kept[tied] &= ~equal | (n_equal <= n_equal[:, -1:] - n_surplus[tied, np.newaxis])
    return kept


def _even_share(rows: Floats, n_kept: int) -> Floats:
    """Sum of each row divided by ``n_kept``, of shape (n_samples, 1)."""
    bound = np.finfo(rows.dtype).max
    share = np.clip(_sums(rows) / max(n_kept, 1), -bound, bound)
    return share.astype(rows.dtype)[:, np.newaxis]


def _factor(rows: Floats, largest: Floats) -> Floats:
    """Exponential of the sum of each row over the sum of its largest values, (n_samples, 1)."""
    total, of_largest = _sums(rows), _sums(largest)
    with np.errstate(over="ignore"):
        exponent = np.divide(total, of_largest, out=np.zeros_like(total), where=of_largest > 0)
    largest_exponent = np.log(np.finfo(rows.dtype).max)
    magnitude = np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64)
    within_range = np.maximum(0, largest_exponent - 1e-3 - np.log(np.maximum(magnitude, 1)))
    # A quarter of the range of exponents is left to the head, which sums what is scaled here.
    exponent = np.minimum(exponent, np.minimum(within_range, 0.75 * largest_exponent))
    return np.exp(exponent).astype(rows.dtype)[:, np.newaxis]


def _sums(rows: Floats) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.nan_to_num(rows.sum(axis=1, dtype=np.float64))
