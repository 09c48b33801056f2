"""What is remembered of the training samples of classes, in a form that batches can be added to."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of each unit."""

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, rows):
        rows = np.asarray(rows, dtype=np.float64)
        mean = rows.mean(axis=0)
        return cls(len(rows), mean, np.sum((rows - mean) ** 2, axis=0))

    def merge(self, other):
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = difference**2 * (self.count * other.count / count)
        return Moments(count, mean, self.squares + other.squares + between)


@dataclass
class Samples:
    """Stored training samples, one entry a sample."""

    rows: NDArray
    asked: NDArray  # the class under which the sample is scored
    is_own: NDArray[np.bool_]  # whether that is the class it counts for
    hashes: NDArray[np.uint64]

    def _parts(self):
        return self.rows, self.asked, self.is_own, self.hashes

    def take_some(self, n_samples):
        """The samples with the smallest hashes, in order."""
        rows = np.sort(np.argsort(self.hashes, kind="stable")[:n_samples])
        return Samples(*(part[rows] for part in self._parts()))

    def append(self, other):
        pairs = zip(self._parts(), other._parts(), strict=True)
        return Samples(*(np.concatenate(pair) for pair in pairs))


@dataclass
class Seen:
    """What is remembered of the in-distribution training samples."""

    moments: dict
    stored: Samples

    def merge(self, other):
        moments = dict(self.moments)
        for label, theirs in other.moments.items():
            moments[label] = moments[label].merge(theirs) if label in moments else theirs
        return Seen(moments, self.stored.append(other.stored))


def hash_rows(rows: NDArray, asked: NDArray) -> NDArray[np.uint64]:
    """A number for each sample that depends on its values and its class alone."""
    labels, codes = np.unique(asked, return_inverse=True)
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
