"""Few samples in many layers: what their rows, put side by side, are asked for at once.

Of one row, calls take longer than what is computed, and matrices longer to read than to multiply.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dtpmv

from .._side_by_side import stretches
from .._values import Floats
from ._mahalanobis import MahalanobisDetector
from ._row_lengths import LEAST_PRECISE, row_lengths, unit_rows
from ._tied_gaussian import TiedGaussian

_LARGE_PAGE = 2**21
"""Octets in a large page of most systems."""


class RowsSideBySide:
    """Rows of several layers as one row of 64-bit numbers for each sample.

    Parameters
    ----------
    widths : sequence of int
        Number of units of each layer.

    Attributes
    ----------
    stretches : list of slice
        Where those of each layer are.
    starts : list of int
        Where they begin.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        self.stretches = stretches(widths)
        self.starts = [stretch.start for stretch in self.stretches]
        self._widths = widths

    @cached_property
    def layer_of_unit(self) -> NDArray[np.intp]:
        """The number of the layer that each value is of."""
        return np.repeat(np.arange(len(self._widths)), self._widths)

    def join(self, layers: Sequence[NDArray]) -> Floats:
        """The rows, of shape (n_samples, n_units), in memory of their own."""
        return np.concatenate(layers, axis=1, dtype=np.float64)

    def lengths(self, rows: Floats) -> Floats:
        """Euclidean norm of each row in each layer, of shape (n_samples, n_layers)."""
        lengths = np.sqrt(np.add.reduceat(np.square(rows), self.starts, axis=1))
        if not (is_precise := _are_precise(lengths)).all():
            for layer in np.flatnonzero(~is_precise.all(axis=0)).tolist():
                lengths[:, layer] = row_lengths(rows[:, self.stretches[layer]])
        return np.asarray(lengths)

    def units(self, rows: Floats, lengths: Floats) -> Floats:
        """The rows divided by their lengths, layer by layer; rows of zeros stay so."""
        if (is_precise := _are_precise(lengths)).all():
            return rows / lengths.take(self.layer_of_unit, axis=1)
        units = rows / np.where(is_precise, lengths, 1).take(self.layer_of_unit, axis=1)
        for layer in np.flatnonzero(~is_precise.all(axis=0)).tolist():
            units[:, self.stretches[layer]] = unit_rows(rows[:, self.stretches[layer]])
        return np.asarray(units)


def _are_precise(lengths: Floats) -> NDArray[np.bool_]:
    return (lengths > LEAST_PRECISE) & (lengths < np.inf)


class GaussiansSideBySide:
    """Tied Gaussians of several layers, for few rows at a time.

    Distances are those of each Gaussian, in coordinates that are rotated so that half of the
    numbers that they are computed with are 0, where it has more coordinates than half its units:
    these numbers are neither kept nor read.

    Parameters
    ----------
    gaussians : sequence of TiedGaussian
        Those of the layers.
    rows : RowsSideBySide
        How the rows of these layers are put side by side.
    """

    def __init__(self, gaussians: Sequence[TiedGaussian], rows: RowsSideBySide) -> None:
        n_units, n_classes = len(rows.layer_of_unit), max(len(each.means) for each in gaussians)
        self._rows, self._all_units = rows, np.arange(n_units)
        self._center = np.concatenate([each._center for each in gaussians])
        self._means = np.zeros((n_classes, n_units))
        # Classes that a Gaussian does not have are nearest to nothing.
        self._squared_means = np.full((len(gaussians), n_classes), np.inf)
        self._per_unit, self._per_axis = np.zeros((2, n_units))
        self._triangles: list[tuple[int, int, Floats]] = []
        self._factors: list[tuple[slice, slice, Floats]] = []
        self._means_of_layers: list[tuple[slice, int, int, Floats]] = []
        numbers = _in_large_pages(sum(map(_n_numbers, gaussians)))
        for number, (gaussian, stretch) in enumerate(zip(gaussians, rows.stretches, strict=True)):
            own, numbers = np.split(numbers, [_n_numbers(gaussian)])
            self._add(number, gaussian, stretch, own)
        self._is_any_outside = bool(self._per_unit.any())

    def _add(self, number: int, gaussian: TiedGaussian, stretch: slice, numbers: Floats) -> None:
        n_units, n_axes = gaussian._factor.shape
        n_classes = len(gaussian.means)
        if _is_triangle(gaussian):
            triangle = gaussian.triangle()
            numbers[:] = triangle.T[np.tri(n_units, dtype=bool).T]
            self._triangles.append((stretch.start, n_units, numbers))
            means, n_axes = (gaussian.means - gaussian._center) @ triangle, n_units
        else:
            factor = numbers.reshape(n_units, n_axes)
            factor[:] = gaussian._factor
            axes = slice(stretch.start, stretch.start + n_axes)
            self._factors.append((stretch, axes, factor))
            means = gaussian._projected_means
            if gaussian._per_unit is not None and gaussian._per_axis is not None:
                self._per_unit[stretch] = gaussian._per_unit
                self._per_axis[axes] = gaussian._per_axis
        axes = slice(stretch.start, stretch.start + n_axes)
        self._means[:n_classes, axes] = means
        self._squared_means[number, :n_classes] = np.square(means).sum(axis=1)
        self._means_of_layers.append((axes, number, n_classes, np.ascontiguousarray(means.T)))

    def squared_distances(self, rows: Floats) -> Floats:
        """Squared distance to the nearest mean in each layer, of shape (n_samples, n_layers).

        Parameters
        ----------
        rows : ndarray of shape (n_samples, n_units)
            The rows of all layers, side by side.
        """
        centered = rows - self._center
        projected = self._project(centered)
        residuals = projected - self._nearest_means(projected)
        distances = np.add.reduceat(np.square(residuals, out=residuals), self._rows.starts, axis=1)
        if not self._is_any_outside:
            return np.asarray(distances)
        outside = centered**2 * self._per_unit - projected**2 * self._per_axis
        beside = np.add.reduceat(outside, self._rows.starts, axis=1)
        return np.asarray(distances + np.maximum(beside, 0))

    def _project(self, centered: Floats) -> Floats:
        """Coordinates of each layer, in the places of its first units."""
        projected = centered.copy()
        for units, axes, factor in self._factors:
            projected[:, units] = 0
            np.matmul(centered[:, units], factor, out=projected[:, axes])
        flat = projected.reshape(-1)
        for start in range(0, flat.size, projected.shape[1]):
            for first, n_units, packed in self._triangles:
                # In place; the last three: of the lower triangle, transposed, diagonal not 1.
                dtpmv(n_units, packed, flat, 1, start + first, 1, 1, 0, 1)
        return projected

    def _nearest_means(self, projected: Floats) -> Floats:
        """The nearest mean of each row in each layer, side by side."""
        if len(self._means) == 1:
            return self._means
        products = np.zeros((len(projected), *self._squared_means.shape))
        for axes, number, n_classes, means in self._means_of_layers:
            np.matmul(projected[:, axes], means, out=products[:, number, :n_classes])
        nearest = (self._squared_means - 2 * products).argmin(axis=2)
        return self._means[nearest.take(self._rows.layer_of_unit, axis=1), self._all_units]


def _in_large_pages(n_numbers: int) -> Floats:
    """Memory for numbers: of many, where the system has large pages, that is read sooner."""
    n_bytes = n_numbers * np.dtype(np.float64).itemsize
    if n_bytes < _LARGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(n_numbers)
    try:
        memory = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a system without them, or no memory left, which NumPy then says
        return np.empty(n_numbers)
    return np.frombuffer(memory, dtype=np.float64)


def _n_numbers(gaussian: TiedGaussian) -> int:
    """How many numbers the coordinates of rows are computed with."""
    n_units = len(gaussian._factor)
    return n_units * (n_units + 1) // 2 if _is_triangle(gaussian) else gaussian._factor.size


def _is_triangle(gaussian: TiedGaussian) -> bool:
    """Whether half of a square matrix holds fewer numbers than the one of all coordinates."""
    n_units, n_axes = gaussian._factor.shape
    return n_units + 1 < 2 * n_axes


class DistancesSideBySide:
    """Scores of few rows by fitted detectors of one layer each, which :func:`may_stand` allows.

    Parameters
    ----------
    detectors : sequence of MahalanobisDetector
        The detectors. Where distances are relative, what a detector reads is put side by side
        twice, as it has two Gaussians.

    Attributes
    ----------
    n_of_each : list of int
        How many Gaussians each detector has.
    widths : list of int
        Number of units of each Gaussian.
    """

    def __init__(self, detectors: Sequence[MahalanobisDetector]) -> None:
        of_each = [next(iter(detector._gaussians.values())) for detector in detectors]
        gaussians = [*chain.from_iterable(of_each)]
        self.n_of_each = [len(some) for some in of_each]
        self.widths = [gaussian.means.shape[1] for gaussian in gaussians]
        self._rows = RowsSideBySide(self.widths)
        self._gaussians = GaussiansSideBySide(gaussians, self._rows)
        self._normalize = detectors[0].normalize
        self._weights = np.zeros((len(gaussians), len(detectors)))
        first = 0
        for number, (detector, some) in enumerate(zip(detectors, of_each, strict=True)):
            half = 0.5 * detector.layer_weights_[0]
            self._weights[first, number] = -half
            self._weights[first + 1 : first + len(some), number] = half
            first += len(some)

    def scores(self, rows: Floats, lengths: Floats | None) -> Floats:
        """Scores by each detector, of shape (n_samples, n_detectors).

        Parameters
        ----------
        rows : ndarray of shape (n_samples, n_units)
            What each Gaussian reads, side by side.
        lengths : ndarray of shape (n_samples, n_gaussians)
            Norms of these rows; None where no detector divides by them.
        """
        if lengths is not None and self._normalize:
            rows = self._rows.units(rows, lengths)
        return np.asarray(self._gaussians.squared_distances(rows) @ self._weights)


def may_stand(detector: Any, beside: Any) -> bool:
    """Whether a detector reads one layer, as another one does, and can be scored beside it."""
    return (
        type(detector) is MahalanobisDetector
        and len(detector._gaussians) == 1
        and detector.normalize == beside.normalize
    )


def say_the_same(first: MahalanobisDetector, second: MahalanobisDetector) -> bool:
    """Whether two detectors that may stand beside each other have learnt the very same."""
    (ours,), (theirs,) = first._gaussians.values(), second._gaussians.values()
    return (
        len(ours) == len(theirs)
        and bool(first.layer_weights_[0] == second.layer_weights_[0])
        and all(map(_are_equal, ours, theirs))
    )


def _are_equal(first: TiedGaussian, second: TiedGaussian) -> bool:
    names = "means", "_factor", "_variances", "_counting", "_other"
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)
