"""What rows of several classes teach of their means and of the covariance that they share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._classes import check_same_kind
from .._threshold_sample import hash_rows, merged
from .._values import Floats
from ..activations import Activations

_WIDEST_SCATTER = 8192
"""Of so many units, the products of all pairs take 512 MiB."""
_LEFT_OVER = 1e-12
"""Share of a scatter that rounding may leave over when all of it is taken away."""


@dataclass(frozen=True)
class TiedMoments:
    """Counts and means of classes, and how their rows scatter about them.

    Where no row differs from its class mean, the scatter is exactly 0, also once merged.

    Attributes
    ----------
    labels : ndarray of shape (n_classes,)
        The classes, ascending.
    counts : ndarray of shape (n_classes,)
        How many rows each has, at least one.
    means : ndarray of shape (n_classes, n_units)
        Their means.
    scatter : ndarray of shape (n_units, n_units)
        Sum of the outer products of rows minus the mean of their class.
    rounding : float
        Differences from a mean up to this share of it are taken for rounding, which is none.
    """

    labels: NDArray
    counts: NDArray[np.intp]
    means: Floats
    scatter: Floats
    rounding: float

    @property
    def n_rows(self) -> int:
        return int(self.counts.sum())

    @property
    def varying(self) -> NDArray[np.bool_]:
        """In which units a row differs from its class mean."""
        return self.scatter.diagonal() > 0

    def summed(self) -> TiedMoments:
        return self

    def pooled(self, label: NDArray) -> TiedMoments:
        """The moments of the same rows as rows of one class, whose label is the one in an array."""
        if not len(self.labels):
            return self
        mean, apart = _common_mean(self)
        between = np.sqrt(self.counts)[:, np.newaxis] * apart
        return TiedMoments(
            label,
            np.array([self.n_rows]),
            mean[np.newaxis],
            self.scatter + between.T @ between,
            self.rounding,
        )

    def merge(self, other: TiedMoments | TiedRows) -> TiedMoments:
        """The moments of the rows of both [1]_.

        References
        ----------
        .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm
           for computing sample variances", COMPSTAT 1982.
           https://doi.org/10.1007/978-3-642-51461-6_3
        """
        other = other.summed()
        check_same_kind(self.labels, other.labels)
        if not len(self.labels) or not len(other.labels):
            return self if len(self.labels) else other
        labels = np.union1d(self.labels, other.labels)
        mine, theirs = (np.searchsorted(labels, part.labels) for part in (self, other))
        before, new = np.zeros((2, len(labels)))
        means = np.empty((len(labels), self.means.shape[1]))
        means[theirs], new[theirs] = other.means, other.counts
        means[mine], before[mine] = self.means, self.counts
        counts, rounding = before + new, max(self.rounding, other.rounding)
        difference = other.means - means[theirs]
        _drop_rounding(difference, other.means, rounding)
        between = np.sqrt(before * new / counts)[theirs, np.newaxis] * difference
        means[theirs] += (new / counts)[theirs, np.newaxis] * difference
        scatter = self.scatter + other.scatter + between.T @ between
        return TiedMoments(labels, counts.astype(np.intp), means, scatter, rounding)

    def without(self, other: TiedMoments) -> TiedMoments:
        """The moments that are left without some of the rows, which ``other`` is made of.

        To rounding: of a class or a unit that only these rows varied in, little may be left over.
        """
        mine = np.searchsorted(self.labels, other.labels)
        counts, means = self.counts.copy(), self.means.copy()
        counts[mine] -= other.counts
        kept = counts > 0
        share = (other.counts / np.maximum(counts[mine], 1))[:, np.newaxis]
        difference = self.means[mine] - other.means
        _drop_rounding(difference, other.means, self.rounding)
        means[mine] += share * difference
        lost = np.sqrt(self.counts[mine, np.newaxis] * share * kept[mine, np.newaxis]) * difference
        scatter = self.scatter - other.scatter - lost.T @ lost
        # What is left over in units in which only these rows varied.
        is_over = scatter.diagonal() <= _LEFT_OVER * self.scatter.diagonal()
        scatter[is_over], scatter[:, is_over] = 0, 0
        return TiedMoments(self.labels[kept], counts[kept], means[kept], scatter, self.rounding)


@dataclass(frozen=True)
class TiedRows:
    """The same, with the rows minus the mean of their class in place of the sum of their products.

    Attributes
    ----------
    name : str
        The layer, for messages.
    labels, counts, means, rounding
        As of :class:`TiedMoments`.
    residuals : ndarray of shape (n_rows, n_units)
        Rows minus the mean of their class.
    codes : ndarray of shape (n_rows,)
        The number of the class of each.
    """

    name: str
    labels: NDArray
    counts: NDArray[np.intp]
    means: Floats
    residuals: Floats
    codes: NDArray[np.intp]
    rounding: float

    @classmethod
    def of(
        cls,
        name: str,
        rows: Floats,
        codes: NDArray[np.intp],
        labels: NDArray,
        rounding: float = 0.0,
    ) -> TiedRows:
        """Of rows of shape (n_rows, n_units), and the number of the label of each: all occur."""
        means = _class_means(rows, codes)
        residuals = np.empty(rows.shape)
        for batch in row_batches(*rows.shape, n_copies=4):
            residuals[batch] = rows[batch] - means[codes[batch]]
            _drop_rounding(residuals[batch], rows[batch], rounding)
        return cls(name, labels, np.bincount(codes), means, residuals, codes, rounding)

    @property
    def n_rows(self) -> int:
        return len(self.residuals)

    @property
    def varying(self) -> NDArray[np.bool_]:
        """In which units a row differs from its class mean."""
        return np.asarray(self.residuals.any(axis=0))

    def summed(self) -> TiedMoments:
        """The moments, without the rows."""
        varying = self.varying
        n_varying = int(varying.sum())
        scatter = np.zeros((n_varying, n_varying))
        # Units that do not vary are left out of some rows at a time: a copy of all is as large.
        for batch in row_batches(self.n_rows, n_varying, are_products=True):
            some = self.residuals[batch] if varying.all() else self.residuals[batch][:, varying]
            scatter += some.T @ some
        if n_varying < len(varying):
            of_varying, scatter = scatter, np.zeros((len(varying), len(varying)))
            scatter[np.ix_(varying, varying)] = of_varying
        return TiedMoments(self.labels, self.counts, self.means, scatter, self.rounding)

    def pooled(self, label: NDArray) -> TiedRows:
        """The same rows as rows of one class, whose label is the one in an array."""
        if not len(self.labels):
            return self
        mean, apart = _common_mean(self)
        return TiedRows(
            self.name,
            label,
            np.array([self.n_rows]),
            mean[np.newaxis],
            self.residuals + apart[self.codes],
            np.zeros_like(self.codes),
            self.rounding,
        )

    def merge(self, other: TiedMoments | TiedRows) -> TiedMoments | TiedRows:
        """The moments of the rows of both.

        Raises
        ------
        ValueError
            If there are too many units for a matrix of all pairs of them.
        """
        if not len(self.labels) or not len(other.labels):
            return self if len(self.labels) else other
        return self._summed_of_few_units().merge(other)

    def without(self, other: TiedMoments) -> TiedMoments:
        """The moments that are left without some of the rows; refused as a merge is."""
        return self._summed_of_few_units().without(other)

    def _summed_of_few_units(self) -> TiedMoments:
        n_units = self.means.shape[1]
        if n_units > _WIDEST_SCATTER:
            raise ValueError(
                f"Layer {self.name!r} has {n_units:,} units, of which all are learnt from at once: "
                f"batches of it add up in a matrix with a column for each unit, and these may be "
                f"{_WIDEST_SCATTER:,}. Call fit, with a larger working_memory of scikit-learn "
                "(sklearn.set_config) if the rows do not fit; or give the layer fewer units, as by "
                "PoolingReducer or NeuronSelector."
            )
        return self.summed()


N_PARTS = 5
_FEWEST_IN_PARTS = 50
"""Of fewer rows, parts by chance are too unlike in size."""


@dataclass(frozen=True)
class TiedParts:
    """Moments of rows in five parts, of which each can be left out of all.

    What a row holds decides which part it is in: neither its place among others nor the batch that
    it comes in.

    Attributes
    ----------
    parts : tuple of TiedMoments
        Of no rows, some of them.
    """

    parts: tuple[TiedMoments, ...]

    @classmethod
    def of(
        cls,
        name: str,
        rows: Floats,
        codes: NDArray[np.intp],
        labels: NDArray,
        rounding: float,
        numbers: NDArray[np.intp],
    ) -> TiedParts:
        """As of :class:`TiedRows`, with the number of the part of each row."""
        parts = []
        for number in range(N_PARTS):
            members = np.flatnonzero(numbers == number)
            known, own = np.unique(codes[members], return_inverse=True)
            learnt = TiedRows.of(name, rows[members], own, labels[known], rounding)
            parts.append(learnt.summed())
        return cls(tuple(parts))

    @property
    def n_rows(self) -> int:
        return sum(part.n_rows for part in self.parts)

    @property
    def whole(self) -> TiedMoments:
        """The moments of all rows."""
        return merged(self.parts)

    @property
    def can_be_left_out(self) -> bool:
        """Whether there are many rows, and no part holds most of them."""
        return can_be_left_out([part.n_rows for part in self.parts], self.n_rows)

    def without_part(self, number: int) -> TiedMoments:
        """The moments of the rows of the other parts."""
        return merged([*self.parts[:number], *self.parts[number + 1 :]])

    def pooled(self, label: NDArray) -> TiedParts:
        """The same rows as rows of one class, whose label is the one in an array."""
        return TiedParts(tuple(part.pooled(label) for part in self.parts))

    def merge(self, other: TiedParts) -> TiedParts:
        """The moments of the rows of both."""
        pairs = zip(self.parts, other.parts, strict=True)
        return TiedParts(tuple(mine.merge(theirs) for mine, theirs in pairs))


def can_be_left_out(sizes: Iterable[int], n_rows: int) -> bool:
    """Whether there are many rows, and no part holds most of them, as where rows repeat."""
    return n_rows >= _FEWEST_IN_PARTS and 2 * max(sizes) <= n_rows


def number_parts(rows: NDArray) -> NDArray[np.intp]:
    """The part of each row, by what it holds."""
    hashes = hash_rows(Activations({"layer": rows}), None)
    return ((hashes >> np.uint64(32)) * np.uint64(N_PARTS) >> np.uint64(32)).astype(np.intp)


def _class_means(rows: Floats, codes: NDArray[np.intp]) -> Floats:
    """Taken relative to one row of the class, so that the mean of equal rows is exactly theirs."""
    if not len(rows):
        return rows
    means = []
    by_class = np.argsort(codes, kind="stable")
    for of_class in np.split(by_class, np.cumsum(np.bincount(codes))[:-1]):
        members = rows[of_class]  # a copy, which is changed
        first = members[0].copy()
        members -= first
        means.append(first + members.mean(axis=0))
    return np.array(means)


def _common_mean(moments: TiedMoments | TiedRows) -> tuple[Floats, Floats]:
    """The mean of all rows, and how far the means of classes are apart from it."""
    first = moments.means[0]
    mean = first + moments.counts @ (moments.means - first) / moments.n_rows
    apart = moments.means - mean
    _drop_rounding(apart, moments.means, moments.rounding)
    return mean, apart


def _drop_rounding(differences: Floats, values: Floats, rounding: float) -> None:
    """Set differences from the values to 0, in place, where they are no more than rounding."""
    if rounding:
        differences[np.abs(differences) <= rounding * np.abs(values)] = 0
