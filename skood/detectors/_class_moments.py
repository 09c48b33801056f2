"""What batches of samples teach of the classes: their moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._classes import TrainingClasses, check_same_kind


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
class ClassMoments:
    """Moments of each class that has samples."""

    moments: dict[Any, Moments]

    @classmethod
    def of(cls, rows: NDArray, classes: TrainingClasses) -> ClassMoments:
        """Moments of the rows that count, by the classes for which they do."""
        labels = np.unique(classes.own[classes.counts])
        chosen = ((label, classes.counts & (classes.own == label)) for label in labels)
        return cls({label: Moments.of(rows[is_own]) for label, is_own in chosen})

    def merge(self, other: ClassMoments) -> ClassMoments:
        """The moments of the samples of both."""
        mine, theirs = (np.array(list(part.moments)) for part in (self, other))
        check_same_kind(mine, theirs)
        moments = dict(self.moments)
        for label, more in other.moments.items():
            moments[label] = moments[label].merge(more) if label in moments else more
        return ClassMoments(moments)
