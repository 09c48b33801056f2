"""Gaussians of several classes that share one covariance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.extmath import row_norms

from .._batches import row_batches
from .._values import Floats
from ._row_lengths import unit_rows

_LEAST_REMAINING = 1e-6
"""Share of a row's variance in the others below which they are taken to have none there."""


class TiedGaussian:
    """Means of the classes of some rows, and one covariance: that of rows minus their class mean.

    Distances are Euclidean ones in the coordinates in which the covariance is the identity. Where
    no row differs from its class mean there is no such coordinate, and distances do not count:
    the precision is the pseudo-inverse of the covariance.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_units)
        The rows.
    codes : ndarray of shape (n_rows,)
        Class of each, 0 to ``n_classes - 1``, all of which are there.
    covariance : estimator, default=None
        Covariance estimator, which is cloned and fitted on the rows minus their class mean. By
        default the mean of their outer products.
    normalize : bool, default=False
        Whether to divide these rows, and those whose distances are computed, by their norm.

    Attributes
    ----------
    means : ndarray of shape (n_classes, n_units)
        Class means.
    precision : ndarray of shape (n_units, n_units)
        Inverse of the covariance.
    """

    def __init__(
        self,
        rows: NDArray,
        codes: NDArray[np.intp],
        covariance: Any = None,
        *,
        normalize: bool = False,
    ) -> None:
        self._normalize = normalize
        precision = np.finfo(rows.dtype if rows.dtype.kind == "f" else np.float64).eps
        rows = self._prepare(rows)
        self.means = _class_means(rows, codes)
        residuals = rows - self.means[codes]
        if normalize:
            # Rows in proportion differ by rounding once they are divided, which is no variance.
            residuals[np.abs(residuals) <= 4 * precision * np.abs(rows)] = 0
        varying = residuals.any(axis=0)
        self._variances, axes = _principal_axes(residuals[:, varying], covariance)
        self._factor = np.zeros((rows.shape[1], len(self._variances)))
        self._factor[varying] = axes / np.sqrt(self._variances)
        self.precision = self._factor @ self._factor.T
        # Far from the origin, distances would be small differences of large numbers.
        self._center = self.means.mean(axis=0)
        self._projected_means = (self.means - self._center) @ self._factor

    def squared_distances(self, rows: NDArray) -> Floats:
        """Squared Mahalanobis distance of each row to the nearest mean, of shape (n_rows,)."""
        distances = np.empty(len(rows))
        for batch in self._batches(rows):
            projected = self._project(rows[batch])
            nearest = self._squares(projected).argmin(axis=1)
            # Not from the expanded square, whose rounding depends on the other rows.
            distances[batch] = row_norms(projected - self._projected_means[nearest], squared=True)
        return distances

    def left_out_distances(self, rows: NDArray, codes: NDArray[np.intp]) -> Floats:
        """Squared distances of the rows given, each as if it had not been one of them.

        Only for the default covariance.
        """
        if len(rows) == 1:
            return np.zeros(1)
        distances = np.empty(len(rows))
        sizes = np.bincount(codes)
        for batch in self._batches(rows):
            distances[batch] = self._left_out(self._project(rows[batch]), codes[batch], sizes)
        return distances

    def _left_out(self, projected: Floats, codes: NDArray[np.intp], sizes: NDArray) -> Floats:
        n_rows = sizes.sum()
        own = np.arange(len(codes)), codes
        # Without a row, its class mean moves away from it by this factor.
        growth = (sizes / np.maximum(sizes - 1, 1))[codes]
        residuals = projected - self._projected_means[codes]
        norms = row_norms(residuals, squared=True)
        squares = self._squares(projected)
        squares[own] = np.where(sizes[codes] > 1, growth**2 * norms, np.inf)
        along = self._products(residuals, projected)
        along[own] = growth * norms
        # Without a row, the covariance loses a matrix of rank one (Sherman and Morrison).
        remaining = 1 - growth * norms / n_rows
        is_alone = remaining < _LEAST_REMAINING
        gain = np.where(is_alone, 0, growth / n_rows / np.where(is_alone, 1, remaining))
        squares += gain[:, np.newaxis] * along**2
        if is_alone.any():
            # It loses a direction altogether, in which distances then do not count.
            lost = residuals[is_alone] / self._variances
            lost /= np.sum(lost * residuals[is_alone], axis=1, keepdims=True)
            across = self._products(lost, projected[is_alone])
            across[np.arange(len(lost)), codes[is_alone]] = growth[is_alone]
            along = along[is_alone]
            squares[is_alone] += along * (
                along * row_norms(lost, squared=True)[:, np.newaxis] - 2 * across
            )
        return squares.min(axis=1) * (n_rows - 1) / n_rows

    def _batches(self, rows: NDArray) -> Iterator[slice]:
        return row_batches(len(rows), 2 * max(self.means.shape), are_products=True)

    def _prepare(self, rows: NDArray) -> Floats:
        rows = np.asarray(rows, dtype=np.float64)
        return unit_rows(rows) if self._normalize else rows

    def _project(self, rows: NDArray) -> Floats:
        return (self._prepare(rows) - self._center) @ self._factor

    def _squares(self, projected: Floats) -> Floats:
        """Squared distance of each row to each mean."""
        means = self._projected_means
        products = projected @ means.T
        return (
            row_norms(projected, squared=True)[:, np.newaxis]
            - 2 * products
            + row_norms(means, squared=True)
        )

    def _products(self, directions: Floats, projected: Floats) -> Floats:
        """Product of each row's direction with its difference from each mean."""
        with_row = np.einsum("rk,rk->r", directions, projected)
        return with_row[:, np.newaxis] - directions @ self._projected_means.T


def _class_means(rows: Floats, codes: NDArray[np.intp]) -> Floats:
    """Taken relative to one row of the class, so that the mean of equal rows is exactly theirs."""
    means = []
    for code in range(codes.max() + 1):
        members = rows[codes == code]
        means.append(members[0] + (members - members[0]).mean(axis=0))
    return np.array(means)


def _principal_axes(residuals: Floats, covariance: Any) -> tuple[Floats, Floats]:
    """Variances that are not 0 but for rounding, and their directions in the columns."""
    n_rows, n_units = residuals.shape
    if n_units == 0:
        return np.empty(0), np.empty((0, 0))
    if covariance is None:
        return _positive_part(residuals.T @ residuals / n_rows, max(n_rows, n_units))
    estimator = clone(covariance)
    if "assume_centered" in estimator.get_params(deep=False):
        estimator.set_params(assume_centered=True)
    inverses, axes = _positive_part(estimator.fit(residuals).get_precision(), n_units)
    return 1 / inverses, axes


def _positive_part(matrix: Floats, size: int) -> tuple[Floats, Floats]:
    values, vectors = np.linalg.eigh(matrix)
    is_positive = values > size * np.finfo(np.float64).eps * values[-1]
    return values[is_positive], vectors[:, is_positive]
