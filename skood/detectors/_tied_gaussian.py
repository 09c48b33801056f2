"""Gaussians of several classes that share one covariance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.extmath import randomized_svd, row_norms

from .._values import Floats

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
    rows : ndarray of shape (n_rows, n_units), dtype float64
        The rows.
    codes : ndarray of shape (n_rows,)
        Class of each, 0 to ``n_classes - 1``, all of which are there.
    covariance : estimator, default=None
        Covariance estimator, which is cloned and fitted on the rows minus their class mean. By
        default the mean of their outer products.
    shrinkage : float, default=0.0
        Share of the identity, times the mean variance of all units, in the covariance.
    n_components : int, default=None
        How many principal axes have a variance of their own, by default all.
    rounding : float, default=0.0
        Differences from the class mean up to this share of the value are taken for rounding.

    Attributes
    ----------
    means : ndarray of shape (n_classes, n_units)
        Class means.
    is_truncated : bool
        Whether rows vary beside the axes that are kept.
    """

    def __init__(
        self,
        rows: Floats,
        codes: NDArray[np.intp],
        covariance: Any = None,
        *,
        shrinkage: float = 0.0,
        n_components: int | None = None,
        rounding: float = 0.0,
    ) -> None:
        self.means = _class_means(rows, codes)
        residuals = rows - self.means[codes]
        if rounding:
            residuals[np.abs(residuals) <= rounding * np.abs(rows)] = 0
        varying = np.asarray(residuals.any(axis=0))
        residuals = residuals if varying.all() else residuals[:, varying]
        variances, axes, unexplained = _principal_axes(residuals, covariance, n_components)
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

    def squared_distances(self, rows: Floats) -> tuple[Floats, NDArray[np.intp]]:
        """Squared Mahalanobis distance of each row to the nearest mean, and the class of that.

        Both of shape (n_rows,).
        """
        projected, outside = self._project(rows)
        nearest = _squares(projected, self._projected_means).argmin(axis=1)
        # Not from the expanded square, whose rounding depends on the other rows.
        residuals = projected - self._projected_means[nearest]
        return row_norms(residuals, squared=True) + outside, nearest

    def left_out_distances(
        self, rows: Floats, codes: NDArray[np.intp], sizes: NDArray[np.intp]
    ) -> tuple[Floats, NDArray[np.intp]]:
        """Squared distances of the rows given, each as if it had not been one of those learnt.

        Only for the default covariance with all its axes. The mean variance that it is shrunk to
        stays, but for the number of rows that it is divided by.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_units)
            Some of the rows that were learnt.
        codes : ndarray of shape (n_rows,)
            Their classes.
        sizes : ndarray of shape (n_classes,)
            How many rows of each class were learnt.

        Returns
        -------
        distances : ndarray of shape (n_rows,)
            To the nearest mean.
        nearest : ndarray of shape (n_rows,)
            The class that it is of.
        """
        n_learnt = sizes.sum()
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
        if not self._other:
            return projected, np.zeros(len(rows))
        outside = centered**2 @ (self._counting / self._other)
        outside -= projected**2 @ (self._variances / self._other)
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


def _class_means(rows: Floats, codes: NDArray[np.intp]) -> Floats:
    """Taken relative to one row of the class, so that the mean of equal rows is exactly theirs."""
    means = []
    by_class = np.argsort(codes, kind="stable")
    for of_class in np.split(by_class, np.cumsum(np.bincount(codes))[:-1]):
        members = rows[of_class]
        means.append(members[0] + (members - members[0]).mean(axis=0))
    return np.array(means)


def _further_directions(axes: Floats, means: Floats) -> Floats:
    """Orthonormal directions in which means differ beside orthonormal axes, in the columns."""
    # Reflections keep all columns orthogonal, also if there is no further direction.
    return np.linalg.qr(np.hstack([axes, (means[1:] - means[0]).T]))[0][:, axes.shape[1] :]


def _principal_axes(
    residuals: Floats, covariance: Any, n_components: int | None
) -> tuple[Floats, Floats, float]:
    """Largest variances that are not 0 but for rounding, their directions, and what is left."""
    size = max(residuals.shape)
    if residuals.shape[1] == 0:
        return np.empty(0), np.empty((0, 0)), 0.0
    if covariance is not None:
        variances, axes = _estimated_axes(residuals, covariance)
        total = variances.sum()
    else:
        variances, axes = _positive_part(*_sample_axes(residuals, n_components), size)
        total = np.einsum("ru,ru->", residuals, residuals) / len(residuals)
    if n_components is None:
        return variances, axes, 0.0
    largest = np.argsort(variances)[-n_components:]
    unexplained = total - variances[largest].sum()
    is_rounding = unexplained <= size * np.finfo(np.float64).eps * total
    return variances[largest], axes[:, largest], 0.0 if is_rounding else float(unexplained)


def _sample_axes(residuals: Floats, n_components: int | None) -> tuple[Floats, Floats]:
    """Variances, ascending, and principal axes: all, or the leading ones of very many units."""
    n_rows, n_units = residuals.shape
    if n_components is None or n_units <= max(n_components, _WIDEST_MATRIX):
        return np.linalg.eigh(residuals.T @ residuals / n_rows)
    if n_rows <= n_components:
        axes, lengths, _ = np.linalg.svd(residuals.T, full_matrices=False)
    else:
        # Not transposed, so that the variances are exactly those along the axes that are found.
        axes, lengths, _ = randomized_svd(
            residuals.T, n_components, n_iter=4, transpose=False, flip_sign=False, random_state=0
        )
    return lengths[::-1] ** 2 / n_rows, axes[:, ::-1]


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
