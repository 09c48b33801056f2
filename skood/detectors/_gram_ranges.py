"""Row sums of Gram matrices, and the ranges that they had in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._values import ROUNDING, Floats
from ..activations import Layer

_EPS = 1e-6
"""The authors' addition to a bound before it divides: many bounds are 0 after a ReLU."""


class GramRanges:
    """Smallest and largest row sums of Gram matrices of one layer, by class.

    With the channels of a sample as rows of a matrix F, one column a position in space, the Gram
    matrix of order p is ``(F**p @ (F**p).T) ** (1 / p)``, element by element. As in the authors'
    code, the elements of a row are added before the root is taken: one number for each channel.

    Parameters
    ----------
    layer : array-like of shape (n_rows, n_channels, ...)
        Activations of the training rows.
    codes : ndarray of shape (n_rows,)
        Class of each, 0 to ``n_classes - 1``, all of which are there; -1 for rows
        that set no range.
    powers : sequence of int
        The orders, ascending.

    Attributes
    ----------
    lower, upper : ndarray of shape (n_classes, n_powers, n_channels)
        The ranges.
    """

    def __init__(self, layer: Layer, codes: NDArray[np.intp], powers: Sequence[int]) -> None:
        self._powers = list(powers)
        # Of both ends, the outermost value, and the one that is so without it.
        self._smallest = np.full((2, codes.max() + 1, len(powers), layer.shape[1]), np.inf)
        self._negated_largest = self._smallest.copy()
        for rows, sums in self._batches(layer, np.argsort(codes, kind="stable")):
            for code in np.unique(codes[rows][codes[rows] >= 0]):
                members = sums[codes[rows] == code]
                _keep_two_smallest(self._smallest[:, code], members)
                _keep_two_smallest(self._negated_largest[:, code], -members)
        self.lower, self.upper = self._smallest[0].copy(), -self._negated_largest[0]

    def deviations(self, layer: Layer, codes: NDArray[np.intp]) -> Floats:
        """How far each row is outside of the ranges of a class, of shape (n_rows,).

        The code -1 stands for a class without ranges, from which rows deviate by infinity.
        """
        found = np.full(len(codes), np.inf)
        for rows, sums in self._batches(layer, np.flatnonzero(codes >= 0)):
            found[rows] = _deviations(sums, self.lower[codes[rows]], self.upper[codes[rows]])
        return found

    def left_out_deviations(
        self, layer: Layer, codes: NDArray[np.intp], own: NDArray[np.intp]
    ) -> Floats:
        """Deviations of the training rows, each from the ranges that there are without it.

        Parameters
        ----------
        layer : array-like of shape (n_rows, n_channels, ...)
            The training rows, in their order.
        codes : ndarray of shape (n_rows,)
            Class whose ranges a row is compared with, or -1.
        own : ndarray of shape (n_rows,)
            Class whose ranges it took part in, or -1.
        """
        found = np.full(len(codes), np.inf)
        is_alone = (codes == own) & (np.bincount(own + 1)[own + 1] == 1)
        # In the batches of the constructor, so that a row that set a bound meets it exactly.
        for rows, sums in self._batches(layer, np.argsort(own, kind="stable")):
            kept = (codes[rows] >= 0) & ~is_alone[rows]
            rows, sums = rows[kept], sums[kept]
            is_own = (codes[rows] == own[rows])[:, np.newaxis, np.newaxis]
            lower = _without(sums, self._smallest[:, codes[rows]], is_own)
            upper = -_without(-sums, self._negated_largest[:, codes[rows]], is_own)
            found[rows] = _deviations(sums, lower, upper)
        return found

    def forget_second(self) -> None:
        """Free what only :meth:`left_out_deviations` needs."""
        del self._smallest, self._negated_largest

    def _batches(
        self, layer: Layer, order: NDArray[np.intp]
    ) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        """Numbers of some rows at a time, in the order given, and their row sums."""
        n_channels = layer.shape[1]
        n_values = max(int(np.prod(layer.shape[1:])), len(self._powers) * n_channels)
        for batch in row_batches(len(order), n_values):
            rows = order[batch]
            maps = np.asarray(layer[rows], dtype=np.float64)
            yield rows, gram_row_sums(maps.reshape(len(rows), n_channels, -1), self._powers)


def gram_row_sums(maps: Floats, powers: Sequence[int]) -> Floats:
    """Row sums of the Gram matrices, of shape (n_samples, n_powers, n_channels)."""
    largest = np.abs(maps).max(axis=(1, 2), initial=0)[:, np.newaxis, np.newaxis]
    # All orders grow as the square of the activations; powers of large ones would overflow.
    scaled = maps / np.where(largest > 0, largest, 1)
    sums = np.empty((len(maps), len(powers), maps.shape[1]))
    raised, order = np.ones_like(scaled), 0
    for number, power in enumerate(powers):
        raised, order = raised * scaled ** (power - order), power
        products = np.einsum("scl,sl->sc", raised, raised.sum(axis=1))
        sums[:, number] = np.sign(products) * np.abs(products) ** (1 / power)
    return sums * largest**2


def _keep_two_smallest(smallest: Floats, rows: Floats) -> None:
    both = np.concatenate([smallest, rows])
    smallest[:] = np.partition(both, 1, axis=0)[:2]


def _without(sums: Floats, smallest: Floats, is_own: NDArray[np.bool_]) -> Floats:
    """Smallest sums of the other rows."""
    return np.where(is_own & (sums == smallest[0]), smallest[1], smallest[0])


def _deviations(sums: Floats, lower: Floats, upper: Floats) -> Floats:
    return (_excess(lower - sums, lower) + _excess(sums - upper, upper)).sum(axis=(1, 2))


def _excess(beyond: Floats, end: Floats) -> Floats:
    """How far sums are beyond an end of their range, relative to it; 0 for those within."""
    # Equal inputs have sums that differ in their last bits.
    return np.where(beyond > ROUNDING * np.abs(end), beyond, 0.0) / (np.abs(end) + _EPS)
