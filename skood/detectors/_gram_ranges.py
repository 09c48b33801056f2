"""Row sums of Gram matrices, and the ranges that they had in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._values import ROUNDING, Floats
from ..activations import Layer
from ._extremes import EndsOf, Extremes

_EPS = 1e-6
"""The authors' addition to a bound before it divides: many bounds are 0 after a ReLU."""


def gram_extremes(
    layer: Layer, codes: NDArray[np.intp], labels: NDArray, powers: Sequence[int]
) -> Extremes:
    """Smallest and largest row sums of Gram matrices of one layer, by class.

    With the channels of a sample as rows of a matrix F, one column a position in space, the Gram
    matrix of order p is ``(F**p @ (F**p).T) ** (1 / p)``, element by element. As in the authors'
    code, the elements of a row are added before the root is taken: one number for each channel.

    Parameters
    ----------
    layer : array-like of shape (n_rows, n_channels, ...)
        Activations of the training rows.
    codes : ndarray of shape (n_rows,)
        Number of the class of each; -1 for rows that set no range.
    labels : ndarray of shape (n_classes,)
        The classes.
    powers : sequence of int
        The orders, ascending.

    Returns
    -------
    extremes : Extremes
        Of the orders and channels.
    """
    # By class, so that few classes have samples in a batch.
    order = np.argsort(codes, kind="stable")
    batches = ((codes[rows], sums) for rows, sums in _batches(layer, order, powers))
    return Extremes.of(batches, labels, (len(powers), layer.shape[1]))


def gram_deviations(
    layer: Layer, compared: NDArray[np.intp], ends_of: EndsOf, powers: Sequence[int]
) -> Floats:
    """How far each row is outside of the ranges of a class, of shape (n_rows,).

    Parameters
    ----------
    layer : array-like of shape (n_rows, n_channels, ...)
        Activations.
    compared : ndarray of int
        The rows that there are ranges for; the others deviate by infinity.
    ends_of : callable
        Gives the lower and the upper ends for some of these rows, each of shape (n_some, n_powers,
        n_channels).
    powers : sequence of int
        The orders, ascending.
    """
    found = np.full(len(layer), np.inf)
    for rows, sums in _batches(layer, compared, powers):
        found[rows] = _deviations(sums, *ends_of(rows))
    return found


def _batches(
    layer: Layer, order: NDArray[np.intp], powers: Sequence[int]
) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Numbers of some rows at a time, in the order given, and their row sums."""
    n_channels = layer.shape[1]
    n_values = max(int(np.prod(layer.shape[1:])), len(powers) * n_channels)
    for batch in row_batches(len(order), n_values):
        rows = order[batch]
        maps = np.asarray(layer[rows], dtype=np.float64)
        yield rows, gram_row_sums(maps.reshape(len(rows), n_channels, -1), powers)


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


def _deviations(sums: Floats, lower: Floats, upper: Floats) -> Floats:
    return (_excess(lower - sums, lower) + _excess(sums - upper, upper)).sum(axis=(1, 2))


def _excess(beyond: Floats, end: Floats) -> Floats:
    """How far sums are beyond an end of their range, relative to it; 0 for those within."""
    # Equal inputs have sums that differ in their last bits.
    return np.where(beyond > ROUNDING * np.abs(end), beyond, 0.0) / end_sizes(end)


def end_sizes(ends: Floats) -> Floats:
    """What deviations from ends of ranges are divided by."""
    return np.abs(ends) + _EPS
