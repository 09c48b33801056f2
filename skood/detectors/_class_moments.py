"""What batches of samples teach of the classes: moments, and some samples for the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._classes import check_same_kind

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of each unit."""

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray) -> Moments:
        """Moments of the units of rows of shape (n_rows, n_units)."""
        rows = np.asarray(rows, dtype=np.float64)
        mean = rows.mean(axis=0)
        return cls(len(rows), mean, np.sum((rows - mean) ** 2, axis=0))

    def merge(self, other: Moments) -> Moments:
        """Moments of the rows of both."""
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = difference**2 * (self.count * other.count / count)
        return Moments(count, mean, self.squares + other.squares + between)


@dataclass
class ThresholdSamples:
    """Training samples that are kept for the threshold, one entry a sample."""

    rows: NDArray
    lookup: NDArray  # the class under which the sample is scored
    is_own: NDArray[np.bool_]  # whether it counts for that class
    hashes: NDArray[np.uint64]

    def _parts(self) -> tuple[NDArray, ...]:
        return self.rows, self.lookup, self.is_own, self.hashes

    def take_some(self, n_samples: int) -> ThresholdSamples:
        """The samples with the smallest hashes, in order."""
        rows = np.sort(np.argsort(self.hashes, kind="stable")[:n_samples])
        return ThresholdSamples(*(part[rows] for part in self._parts()))

    def append(self, other: ThresholdSamples) -> ThresholdSamples:
        """These samples and then the others."""
        pairs = zip(self._parts(), other._parts(), strict=True)
        return ThresholdSamples(*(np.concatenate(pair) for pair in pairs))


@dataclass
class ClassMoments:
    """Moments of each class, and up to ``n_stored`` samples."""

    moments: dict[Any, Moments]
    stored: ThresholdSamples
    n_stored: int

    def __post_init__(self) -> None:
        self.stored = self.stored.take_some(self.n_stored)

    def merge(self, other: ClassMoments) -> ClassMoments:
        """The moments of the samples of both; which of these are stored depends on no order."""
        mine, theirs = (np.array(list(part.moments)) for part in (self, other))
        check_same_kind(mine, theirs)
        moments = dict(self.moments)
        for label, more in other.moments.items():
            moments[label] = moments[label].merge(more) if label in moments else more
        return ClassMoments(moments, self.stored.append(other.stored), self.n_stored)


def hash_rows(rows: NDArray, lookup: NDArray) -> NDArray[np.uint64]:
    """A number for each sample that depends on its values and its class alone."""
    labels, codes = np.unique(lookup, return_inverse=True)
    digests = [blake2b(str(label).encode(), digest_size=8).digest() for label in labels]
    hashes = np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)[codes]
    weights = np.random.default_rng(0).integers(2**63, size=rows.shape[1], dtype=np.uint64)
    for batch in row_batches(*rows.shape):
        # Adding 0 makes a zero of -0.
        values = np.ascontiguousarray(rows[batch], dtype=np.float64) + 0.0
        hashes[batch] += _scramble(values.view(np.uint64)) @ (2 * weights + np.uint64(1))
    return _scramble(hashes)


def _scramble(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Let all bits of a number depend on all others; products alone only reach upwards."""
    for _ in range(2):
        words = (words ^ (words >> np.uint64(32))) * _MULTIPLIER
    return words ^ (words >> np.uint64(32))
