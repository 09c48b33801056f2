"""Gaussians of several classes that share one covariance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.extmath import randomized_range_finder, randomized_svd, row_norms

from .._values import Floats
from ._row_lengths import squared_lengths
from ._tied_moments import TiedMoments, TiedRows

_LEAST_REMAINING = 1e-6
"""Share of a row's variance in the others below which they are taken to have none there."""
_WIDEST_MATRIX = 2048
"""Up to so many units, the whole covariance is decomposed even where few of its axes are kept."""


class TiedGaussian:
    """Means of the classes of some rows, and one covariance: that of rows minus their class mean.

    Distances are Euclidean ones in the coordinates in which the covariance is the identity. Where
    no row differs from its class mean there is no such coordinate, and distances do not count:
    the precision is the pseudo-inverse of the covariance.

    With ``shrinkage`` or ``n_components``, all directions but the principal axes have one variance
    in common. In these, only the directions in which the means differ are coordinates; what is
    outside of all coordinates is the same for all means, and its length is added.

    Parameters
    ----------
    learnt : TiedMoments or TiedRows
        What the rows teach, or these themselves where :func:`needs_rows` says so.
    covariance : estimator, default=None
        Covariance estimator, which is cloned and fitted on the rows minus their class mean. By
        default the mean of their outer products.
    shrinkage : float, default=0.0
        Share of the identity, times the mean variance of all units, in the covariance.
    n_components : int, default=None
        How many principal axes have a variance of their own, by default all.

    Attributes
    ----------
    means : ndarray of shape (n_classes, n_units)
        Class means.
    is_truncated : bool
        Whether rows vary beside the axes that are kept.
    """

    def __init__(
        self,
        learnt: TiedMoments | TiedRows,
        covariance: Any = None,
        *,
        shrinkage: float = 0.0,
        n_components: int | None = None,
    ) -> None:
        self.means, self._sizes = learnt.means, learnt.counts
        varying = learnt.varying
        variances, axes, unexplained = _principal_axes(learnt, varying, covariance, n_components)
        # Far from the origin, distances would be small differences of large numbers.
        self._center = self.means.mean(axis=0)
        self._shrinkage = shrinkage
        self.is_truncated = unexplained > 0
        self._set_variances(variances, unexplained, varying)
        self._set_coordinates(axes, varying)

    def _set_variances(self, variances: Floats, unexplained: float, varying: NDArray) -> None:
        """Variances of the axes, and the one of all other directions, 0 where these do not count.

        Units that do not vary count if they have a variance by shrinkage.
        """
        kept = 1 - self._shrinkage
        # As a product with the share last, which may be tiny.
        floor = (variances.sum() + unexplained) / len(varying) * self._shrinkage
        self._n_axes = len(variances)
        self._counting = np.ones_like(varying) if floor else varying
        self._n_other = int(self._counting.sum()) - self._n_axes
        self._floor = floor
        self._other = kept * unexplained / self._n_other + floor if self._n_other else 0.0
        self._variances = kept * variances + floor

    def _set_coordinates(self, axes: Floats, varying: NDArray) -> None:
        directions = np.zeros((len(varying), self._n_axes))
        directions[varying] = axes
        if self._other:
            others = np.zeros((len(varying), min(len(self.means) - 1, self._n_other)))
            others[self._counting] = _further_directions(
                directions[self._counting], self.means[:, self._counting]
            )
            directions = np.hstack([directions, others])
            self._variances = np.r_[self._variances, np.full(others.shape[1], self._other)]
        self._factor = directions / np.sqrt(self._variances)
        self._projected_means = (self.means - self._center) @ self._factor
        self._squared_means = row_norms(self._projected_means, squared=True)
        self._per_unit = self._counting / self._other if self._other else None
        self._per_axis = self._variances / self._other if self._other else None

    @property
    def is_blind(self) -> bool:
        """Whether no direction counts: no row differs from its class mean."""
        return self._factor.shape[1] == 0 and not self._other

    @property
    def precision(self) -> Floats:
        """Inverse of the covariance, of shape (n_units, n_units)."""
        if not self._other:
            return self._factor @ self._factor.T
        inverse = self._factor * (1 - self._variances / self._other) @ self._factor.T
        inverse[np.diag_indices_from(inverse)] += self._counting / self._other
        return inverse

    def triangle(self) -> Floats:
        """Lower triangular matrix L whose product L L' is the precision, (n_units, n_units).

        Rows times it have the coordinates of all directions that count, but for a rotation.
        """
        n_units, n_axes = self._factor.shape
        whole = np.zeros((n_units, int(self._counting.sum()) if self._other else n_axes))
        whole[:, :n_axes] = self._factor
        if self._other:
            directions = (self._factor * np.sqrt(self._variances))[self._counting]
            others = np.linalg.qr(directions, mode="complete")[0][:, n_axes:]
            whole[self._counting, n_axes:] = others / np.sqrt(self._other)
        triangle = np.zeros((n_units, n_units))
        triangle[:, : whole.shape[1]] = np.asarray(np.linalg.qr(whole.T, mode="r")).T
        return triangle

    def squared_distances(self, rows: Floats) -> tuple[Floats, NDArray[np.intp]]:
        """Squared Mahalanobis distance of each row to the nearest mean, and the class of that.

        Both of shape (n_rows,).
        """
        projected, outside = self._project(rows)
        # Without the squares of the row itself, which are the same for all means.
        relative = self._squared_means - 2 * (projected @ self._projected_means.T)
        nearest = relative.argmin(axis=1)
        # Not from the expanded square, whose rounding depends on the other rows.
        residuals = projected - self._projected_means[nearest]
        return squared_lengths(residuals) + outside, nearest

    def left_out_distances(
        self, rows: Floats, codes: NDArray[np.intp]
    ) -> tuple[Floats, NDArray[np.intp]]:
        """Squared distances of the rows given, each as if it had not been one of those learnt.

        Only for the default covariance with all its axes. The mean variance that it is shrunk to
        stays, but for the number of rows that it is divided by.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_units)
            Some of the rows that were learnt.
        codes : ndarray of shape (n_rows,)
            The numbers of their classes.

        Returns
        -------
        distances : ndarray of shape (n_rows,)
            To the nearest mean.
        nearest : ndarray of shape (n_rows,)
            The class that it is of.
        """
        sizes = self._sizes
        n_learnt = int(sizes.sum())
        if n_learnt == 1:
            return np.zeros(len(rows)), codes
        growth = (sizes / np.maximum(sizes - 1, 1))[codes]
        projected, outside = self._project(rows)
        squares = self._along_axes(projected, codes, growth, n_learnt)
        if self._other:
            squares += self._beside_axes(projected, outside)
        # A row that is the only one of its class leaves none to be near to.
        squares[np.arange(len(codes)), codes] += np.where(sizes[codes] > 1, 0, np.inf)
        nearest = squares.argmin(axis=1)
        distances = np.take_along_axis(squares, nearest[:, np.newaxis], axis=1)[:, 0]
        return distances * (n_learnt - 1) / n_learnt, nearest

    def _along_axes(
        self, projected: Floats, codes: NDArray[np.intp], growth: Floats, n_learnt: int
    ) -> Floats:
        """Left-out squared distances to all means along the principal axes.

        ``growth`` is the factor by which a class mean moves away from a row without it.
        """
        projected = projected[:, : self._n_axes]
        means = self._projected_means[:, : self._n_axes]
        own = np.arange(len(codes)), codes
        residuals = projected - means[codes]
        norms = row_norms(residuals, squared=True)
        squares = _squares(projected, means)
        squares[own] = growth**2 * norms
        along = _products(residuals, projected, means)
        along[own] = growth * norms
        # Without a row, the covariance loses a matrix of rank one (Sherman and Morrison).
        share = (1 - self._shrinkage) * growth
        remaining = np.maximum(1 - share * norms / n_learnt, self._least_remaining())
        is_alone = remaining < (0 if self._floor else _LEAST_REMAINING)
        gain = np.where(is_alone, 0, share / n_learnt / np.where(is_alone, 1, remaining))
        squares += gain[:, np.newaxis] * along**2
        if is_alone.any():
            # It loses a direction altogether, in which distances then do not count.
            lost = residuals[is_alone] / self._variances[: self._n_axes]
            lost /= np.sum(lost * residuals[is_alone], axis=1, keepdims=True)
            across = _products(lost, projected[is_alone], means)
            across[np.arange(len(lost)), codes[is_alone]] = growth[is_alone]
            along = along[is_alone]
            squares[is_alone] += along * (
                along * row_norms(lost, squared=True)[:, np.newaxis] - 2 * across
            )
        return squares

    def _least_remaining(self) -> float:
        """What shrinkage leaves of the variance of a row that has all there is."""
        return self._shrinkage / ((1 - self._shrinkage) * len(self._center) + self._shrinkage)

    def _beside_axes(self, projected: Floats, outside: Floats) -> Floats:
        """Squared distances to all means where no row varied, which leaving one out leaves so."""
        means = self._projected_means[:, self._n_axes :]
        return _squares(projected[:, self._n_axes :], means) + outside[:, np.newaxis]

    def _project(self, rows: Floats) -> tuple[Floats, Floats]:
        """Coordinates of rows, and their squared distances from the space of all coordinates."""
        centered = rows - self._center
        projected = centered @ self._factor
        if self._per_unit is None or self._per_axis is None:
            return projected, np.zeros(len(rows))
        outside = centered**2 @ self._per_unit
        outside -= projected**2 @ self._per_axis
        return projected, np.maximum(outside, 0)


def _squares(projected: Floats, means: Floats) -> Floats:
    """Squared distance of each row to each mean."""
    products = projected @ means.T
    return (
        row_norms(projected, squared=True)[:, np.newaxis]
        - 2 * products
        + row_norms(means, squared=True)
    )


def _products(directions: Floats, projected: Floats, means: Floats) -> Floats:
    """Product of each row's direction with its difference from each mean."""
    with_row = np.einsum("rk,rk->r", directions, projected)
    return with_row[:, np.newaxis] - directions @ means.T


def _further_directions(axes: Floats, means: Floats) -> Floats:
    """Orthonormal directions in which means differ beside orthonormal axes, in the columns."""
    # Reflections keep all columns orthogonal, also if there is no further direction.
    return np.linalg.qr(np.hstack([axes, (means[1:] - means[0]).T]))[0][:, axes.shape[1] :]


def needs_rows(n_units: int, covariance: Any, n_components: int | None) -> bool:
    """Whether a Gaussian of all rows at once is made of these, and not of their moments."""
    return covariance is not None or (
        n_components is not None and n_units > max(n_components, _WIDEST_MATRIX)
    )


def _principal_axes(
    learnt: TiedMoments | TiedRows,
    varying: NDArray[np.bool_],
    covariance: Any,
    n_components: int | None,
) -> tuple[Floats, Floats, float]:
    """Largest variances that are not 0 but for rounding, their directions, and what is left."""
    n_units = int(varying.sum())
    size = max(learnt.n_rows, n_units)
    if n_units == 0:
        return np.empty(0), np.empty((0, 0)), 0.0
    if covariance is not None:
        variances, axes = _estimated_axes(_residuals(learnt, varying), covariance)
        total = variances.sum()
    else:
        variances, axes, total = _sample_axes(learnt, varying, n_components)
        variances, axes = _positive_part(variances, axes, size)
    if n_components is None:
        return variances, axes, 0.0
    largest = np.argsort(variances)[-n_components:]
    unexplained = total - variances[largest].sum()
    is_rounding = unexplained <= size * np.finfo(np.float64).eps * total
    return variances[largest], axes[:, largest], 0.0 if is_rounding else float(unexplained)


def _sample_axes(
    learnt: TiedMoments | TiedRows, varying: NDArray[np.bool_], n_components: int | None
) -> tuple[Floats, Floats, float]:
    """Variances, ascending, and principal axes; and the sum of all variances.

    All axes, or the leading ones of very many units.
    """
    is_wide = needs_rows(int(varying.sum()), None, n_components)
    if is_wide and isinstance(learnt, TiedRows):
        residuals = _residuals(learnt, varying)
        total = np.einsum("ru,ru->", residuals, residuals) / learnt.n_rows
        return *_leading_of_rows(residuals, int(n_components or 0)), total
    scatter = learnt.summed().scatter
    covariance = (scatter if varying.all() else scatter[np.ix_(varying, varying)]) / learnt.n_rows
    total = float(covariance.trace())
    if is_wide:
        return *_leading_of_matrix(covariance, int(n_components or 0)), total
    return *np.linalg.eigh(covariance), total


def _residuals(learnt: TiedMoments | TiedRows, varying: NDArray[np.bool_]) -> Floats:
    """Rows minus the mean of their class, in the units in which they vary."""
    assert isinstance(learnt, TiedRows)  # as `needs_rows` says
    return learnt.residuals if varying.all() else learnt.residuals[:, varying]


def _leading_of_rows(residuals: Floats, n_components: int) -> tuple[Floats, Floats]:
    if len(residuals) <= n_components:
        axes, lengths, _ = np.linalg.svd(residuals.T, full_matrices=False)
    else:
        # Not transposed, so that the variances are exactly those along the axes that are found.
        axes, lengths, _ = randomized_svd(
            residuals.T, n_components, n_iter=4, transpose=False, flip_sign=False, random_state=0
        )
    return lengths[::-1] ** 2 / len(residuals), axes[:, ::-1]


def _leading_of_matrix(covariance: Floats, n_components: int) -> tuple[Floats, Floats]:
    """By the same method, whose steps go twice as far with products of the whole covariance."""
    size = min(n_components + 10, len(covariance))
    some = randomized_range_finder(covariance, size=size, n_iter=4, random_state=0)
    variances, axes = np.linalg.eigh(some.T @ covariance @ some)
    return variances[-n_components:], some @ axes[:, -n_components:]


def _estimated_axes(residuals: Floats, covariance: Any) -> tuple[Floats, Floats]:
    """Variances and principal axes of the covariance that an estimator finds."""
    estimator = clone(covariance)
    if "assume_centered" in estimator.get_params(deep=False):
        estimator.set_params(assume_centered=True)
    precision = estimator.fit(residuals).get_precision()
    inverses, axes = _positive_part(*np.linalg.eigh(precision), residuals.shape[1])
    return 1 / inverses, axes


def _positive_part(values: Floats, vectors: Floats, size: int) -> tuple[Floats, Floats]:
    is_positive = values > size * np.finfo(np.float64).eps * values[-1]
    return values[is_positive], vectors[:, is_positive]
