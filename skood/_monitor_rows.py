"""What a monitor remembers of rows: those that it has learnt from, and those that calibrate it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._elsewhere import engine, gathered, lies_elsewhere
from ._marks import read_labels
from ._memory import may_be_kept
from ._monitor_calibration import Evidence, HeldOutThresholds, calibrated, joined
from ._seen_rows import SeenRows
from .activations import Activations

KEPT_BYTES = 2**26
"""Of rows that calibrate, which a monitor keeps to score them anew when it learns more."""


@dataclass(frozen=True)
class LearntRows:
    """What is remembered of all rows that a monitor has learnt from.

    Attributes
    ----------
    n_given : int
        How many there are, with those marked -1.
    seen : SeenRows or None
        By which they are known again, where that is possible.
    evidence : Evidence
        What their labels say of the network.
    """

    n_given: int
    seen: SeenRows | None
    evidence: Evidence

    @classmethod
    def of(cls, A: Any, y: ArrayLike | None) -> LearntRows:
        if lies_elsewhere(A):
            return reduce(cls.merge, engine("each_block")(A, cls.of, y))
        return cls(len(A), SeenRows.of(A), Evidence.of(A, y))

    def merge(self, other: LearntRows) -> LearntRows:
        """That of the rows of both."""
        mine, theirs = self.seen, other.seen
        seen = None if mine is None or theirs is None else mine.merge(theirs)
        evidence = self.evidence.merge(other.evidence)
        return LearntRows(self.n_given + other.n_given, seen, evidence)


@dataclass(frozen=True)
class CalibrationRows:
    """Rows that calibrate a monitor, and what is promised by them.

    Attributes
    ----------
    parts : tuple of (Activations or ndarray, ndarray or None)
        Rows as the last step of the monitor takes them, and their labels as given; those with
        labels and those without apart.
    promise : dict
        ``false_alarm_rate``, ``group_by``, ``guarantee`` and ``confidence``, where they are set.
    """

    parts: tuple[tuple[Any, NDArray | None], ...]
    promise: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, A: Any, y: ArrayLike | None, **promise: Any) -> CalibrationRows:
        return cls(((A, None if y is None else read_labels(y)),), promise)

    @property
    def n_bytes(self) -> float:
        """Size of the rows, none of which is read; NaN where it is not known."""
        return sum(_bytes_of(A) for A, _ in self.parts)

    def kept(self) -> CalibrationRows | None:
        """The rows in memory of their own, also those that lie elsewhere; None of too many."""
        if not may_be_kept(self.n_bytes, KEPT_BYTES):
            return None
        parts = tuple((joined([gathered(A)]), y) for A, y in self.parts)
        return CalibrationRows(parts, self.promise)

    def here(self) -> CalibrationRows | None:
        """The rows in this process, as ``kept`` where some lie elsewhere."""
        return self.kept() if any(lies_elsewhere(A) for A, _ in self.parts) else self

    def merge(self, other: CalibrationRows) -> CalibrationRows:
        """The rows of both.

        Raises
        ------
        ValueError
            If something else is promised by the others.
        """
        if self.promise != other.promise:
            raise ValueError(
                "Merged monitors have to be calibrated alike, but calibrate had "
                f"{self.promise} and {other.promise}."
            )
        both = [*self.parts, *other.parts]
        labelled = [(A, y) for A, y in both if y is not None]
        others = [A for A, y in both if y is None]
        parts: list[tuple[Any, NDArray | None]] = []
        if labelled:
            rows, labels = zip(*labelled, strict=True)
            parts.append((joined(list(rows)), _joined_labels(list(labels))))
        if others:
            parts.append((joined(others), None))
        return CalibrationRows(tuple(parts), self.promise)

    def calibrate(
        self, detector: Any, target: str, inside: Callable[[Any], Any]
    ) -> HeldOutThresholds:
        """Thresholds of a fitted detector by these rows, which ``inside`` makes fit for it."""
        parts = [(inside(A), y) for A, y in self.parts]
        return calibrated(detector, parts, target, **self.promise)

    def are_any_in(self, seen: SeenRows) -> bool:
        """Whether any row may be among others."""
        return any(seen.n_among(A) > 0 for A, _ in self.parts)

    def share_in(self, seen: SeenRows) -> float:
        """Share that is among others, of the part of which most are; more than by chance."""
        return max(seen.share_among(A) for A, _ in self.parts)


def _bytes_of(A: Any) -> float:
    """Size of rows, none of which is read; NaN where it is not known."""
    if isinstance(A, Activations):
        return sum(column.nbytes for column in A.columns)
    return engine("n_bytes")(A) if lies_elsewhere(A) else A.nbytes


def _joined_labels(labels: list[NDArray]) -> NDArray:
    """Labels one after the other; texts beside marks are objects."""
    if len({part.dtype.kind for part in labels} & set("UO")) > 1:
        labels = [part.astype(object) for part in labels]
    return np.concatenate(labels)
