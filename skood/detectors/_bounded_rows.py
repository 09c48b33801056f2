"""Training rows that a detector stores: all of them, or no more than it may."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .._threshold_sample import hash_rows
from ..activations import Activations


@dataclass(frozen=True, eq=False)
class BoundedRows:
    """Rows of some arrays, all while they are no more than ``max_rows``.

    Of more, equal rows are held once, twice if there are no others, and of the different ones those
    whose hashes are smallest. A
    hash depends on the row alone, so that the rows held are a random sample of all, which depends
    neither on their order nor on the batches that they come in.

    Attributes
    ----------
    columns : tuple of ndarray of shape (n_rows, ...)
        What is held of each row.
    places : ndarray of shape (n_rows,)
        Which of all rows they are; of equal ones the first.
    n_seen : int
        Number of all rows.
    max_rows : int or None
        How many may be held; None for all.
    keys : ndarray of shape (n_rows,) or None
        Hashes of the rows, where ``max_rows`` is given.
    """

    columns: tuple[NDArray, ...]
    places: NDArray[np.intp]
    n_seen: int
    max_rows: int | None
    keys: NDArray[np.uint64] | None

    @classmethod
    def of(cls, X: Activations, columns: tuple[NDArray, ...], max_rows: int | None) -> BoundedRows:
        """What is held of a batch; its layers tell rows apart."""
        keys = None if max_rows is None else hash_layers(X)
        return cls(columns, np.arange(len(X)), len(X), max_rows, keys)._bounded()

    def merge(self, other: BoundedRows) -> BoundedRows:
        """The rows of both, those of ``other`` last; neither is changed."""
        keys = None
        if self.keys is not None and other.keys is not None:
            keys = np.concatenate([self.keys, other.keys])
        return BoundedRows(
            tuple(np.concatenate(pair) for pair in zip(self.columns, other.columns, strict=True)),
            np.concatenate([self.places, self.n_seen + other.places]),
            self.n_seen + other.n_seen,
            self.max_rows,
            keys,
        )._bounded()

    @property
    def keys_of_part(self) -> NDArray[np.uint64] | None:
        """Hashes of the rows that are held, ascending, where these are not all."""
        is_all = self.max_rows is None or self.n_seen <= self.max_rows
        return None if is_all else self.keys

    def _bounded(self) -> BoundedRows:
        if self.max_rows is None or self.keys is None or self.n_seen <= self.max_rows:
            return self
        keys, first = np.unique(self.keys, return_index=True)
        keys, first = keys[: self.max_rows], first[: self.max_rows]
        if len(keys) == 1:  # a row has a neighbour that equals it
            keys, first = self.keys[:2], np.arange(len(self.keys))[:2]
        columns = tuple(column[first] for column in self.columns)
        return replace(self, columns=columns, places=self.places[first], keys=keys)


def are_held(X: Activations, keys: NDArray[np.uint64] | None) -> NDArray[np.bool_]:
    """Which samples are among those whose ascending hashes are given; all, where none are."""
    if keys is None:
        return np.ones(len(X), dtype=bool)
    hashes = hash_layers(X)
    return keys[np.minimum(np.searchsorted(keys, hashes), len(keys) - 1)] == hashes


def hash_layers(X: Activations) -> NDArray[np.uint64]:
    """A number for each sample that depends on the values of its layers alone."""
    # Read as they came: what is computed from them may differ in its last bits.
    return hash_rows(Activations(dict(X.items())), None)
