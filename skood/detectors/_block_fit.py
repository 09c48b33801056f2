"""Fitting on rows that lie in blocks elsewhere: what is done with each block, and in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from .._held_out import Rows
from .._marks import in_distribution_rows, take_rows
from .._warnings import Said, collecting_warnings
from ..activations import Activations
from ._base import joined, rows_of, without_overflow_warnings
from ._base_incremental import BaseIncrementalDetector, batches_of, forget_batches

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class BlockScores:
    """What a detector says of the rows of a block that may set its threshold.

    Attributes
    ----------
    found : ndarray or None
        A row for each of them, of which scores are made when all are known; None without any.
    rows : ndarray of int
        Their numbers in the block.
    n_samples : int
        Number of all rows of the block.
    said : Activations or None
        The predictions of the network for them, where they are held out.
    y : ndarray or None
        Their labels.
    """

    found: NDArray | None
    rows: Rows
    n_samples: int
    said: Activations | None
    y: NDArray | None


@dataclass(frozen=True)
class BlockFit:
    """A detector between blocks of rows: it has learnt from some, and may be finished.

    An engine learns from each block by itself, merges what neighbours have learnt, two and two,
    finishes what is left at the end, and scores each block once more; of all scores, ``complete``
    makes what ``fit`` would have made of all rows. Each step needs one block at a time. Before it
    scores, it merges what blocks teach in each of ``looks``, where there are any.

    Attributes
    ----------
    detector : BaseIncrementalDetector
        With all attributes that are known by now.
    said : frozenset of (type, str)
        Warnings about the blocks.
    """

    detector: BaseIncrementalDetector
    said: Said = frozenset()

    @classmethod
    def learn(
        cls,
        detector: BaseIncrementalDetector,
        X: Any,
        y: NDArray | None,
        split: tuple[Rows, Rows] | None = None,
        *,
        keeps_sample: bool = False,
    ) -> Self:
        """Learn from a block.

        Parameters
        ----------
        detector : BaseIncrementalDetector
            Says how to learn; it is unchanged.
        X : Activations or ndarray of shape (n_samples, n_features)
            The rows of the block, one or more.
        y : ndarray of shape (n_samples,) or None
            Their labels.
        split : tuple of two ndarrays of int, default=None
            Which of the in-distribution rows to learn from, and which are held out and set the
            threshold; by default all do both.
        keeps_sample : bool, default=False
            Whether to keep some rows, of bounded size, for the threshold after more batches.
        """
        part = clone(detector)
        keeps_sample = keeps_sample or part._max_threshold_samples() is not None
        with collecting_warnings() as said:
            part._learn_batch(X, y, allow_none=True, split=split, keeps_sample=keeps_sample)
        return cls(part, frozenset(said))

    def merge(self, other: Self) -> Self:
        """What both have learnt, the rows of the other numbered after these; none is changed.

        Raises
        ------
        ValueError
            If they have learnt from other layers, or networks.
        """
        both = copy(self.detector)._take_in(other.detector)
        return type(self)(both, self.said | other.said)

    def finish(self) -> Self:
        """The finished detector, whose threshold is not set.

        Raises
        ------
        ValueError
            If there was no row to learn from.
        """
        detector = copy(self.detector)
        _refuse_none(detector)
        with without_overflow_warnings():
            detector._finish_all()
        return type(self)(detector, self.said)

    @property
    def looks(self) -> list[Any]:
        """Keys of further looks at all blocks that the finished detector needs to score them."""
        return [] if self.detector.validation is not None else self.detector._looks()

    def look(self, key: Any, X: Any, y: NDArray | None) -> Any:
        """What the rows of a block teach in a look; None without any, otherwise to be merged.

        Parameters
        ----------
        key : object
            The look, of ``looks``.
        X : Activations or ndarray of shape (n_samples, n_features)
            The rows of the block, one or more.
        y : ndarray of shape (n_samples,) or None
            Their labels.
        """
        X = self.detector._validate(X, reset=False)
        rows = in_distribution_rows(y, len(X), allow_none=True)
        if not len(rows):
            return None
        X, y = take_rows(X, y, rows)
        with without_overflow_warnings():
            return self.detector._look_in_batches(key, X, y)

    def after_look(self, key: Any, summary: Any) -> Any:
        """What follows from what all blocks have taught in a look."""
        with without_overflow_warnings():
            return self.detector._after_look(key, summary)

    def with_looks(self, found: dict[Any, Any]) -> Self:
        """The finished detector with what followed from all looks, by their keys."""
        detector = copy(self.detector)
        detector._keep_looks(found)
        return type(self)(detector, self.said)

    def score(
        self, X: Any, y: NDArray | None, split: tuple[Rows, Rows] | None = None
    ) -> BlockScores:
        """What the finished detector says of the rows of a block that may set the threshold.

        Parameters
        ----------
        X : Activations or ndarray of shape (n_samples, n_features)
            The rows of the block, one or more.
        y : ndarray of shape (n_samples,) or None
            Their labels.
        split : tuple of two ndarrays of int, default=None
            As in ``learn``.
        """
        detector = self.detector
        X, n_samples = detector._validate(X, reset=False), len(X)
        rows = in_distribution_rows(y, n_samples, allow_none=True)
        X, y = take_rows(X, y, rows)
        if split is None:
            how = detector._left_out_scores
        else:
            rows, (X, y) = rows[split[1]], rows_of(X, y, split[1])
            how = _as_held_out(detector)
        with without_overflow_warnings():
            found = [how(*batch) for batch in batches_of(X, y)] if len(rows) else []
        said = None if split is None else _what_the_network_said(X)
        return BlockScores(joined(found) if found else None, rows, n_samples, said, y)

    def complete(self, parts: Sequence[BlockScores]) -> Self:
        """The detector, its threshold set by all rows that do, as by one ``fit``.

        What only more batches need is dropped, since rows may be among it.
        """
        detector = copy(self.detector)
        starts = np.cumsum([0, *(part.n_samples for part in parts)])
        rows = [start + part.rows for start, part in zip(starts, parts, strict=False)]
        some = [part for part in parts if part.found is not None]
        detector.training_rows_ = np.concatenate(rows)
        found = np.concatenate([part.found for part in some])
        with without_overflow_warnings():
            if detector.validation is None:
                scores = detector._complete_scores(found)
            else:
                scores = _complete_held_out(detector, found, some)
            detector._set_threshold(scores)
        forget_batches(detector)
        return type(self)(detector, self.said)

    def concluded(self) -> Self:
        """The finished detector; the rows that it keeps set the threshold.

        Raises
        ------
        ValueError
            If there was no row to learn from, or too few.
        """
        detector = copy(self.detector)
        _refuse_none(detector)
        detector._finish_by_sample()
        return type(self)(detector, self.said)

    def add_to(self, detector: BaseIncrementalDetector) -> BaseIncrementalDetector:
        """Let a detector learn what was learnt here, as from its first or one more batch.

        Raises
        ------
        ValueError
            If there was no row to learn from in the first, or it learnt from others.
        """
        if hasattr(detector, "n_samples_seen_"):
            return detector._take_in(self.detector)._conclude()
        _refuse_none(self.detector)
        detector._become(self.detector)
        return detector._conclude()


def _refuse_none(detector: BaseIncrementalDetector) -> None:
    if not len(detector._learnt_runs):
        n_samples = detector.n_samples_seen_
        in_distribution_rows(np.full(n_samples, -1), n_samples)  # which says so


def _as_held_out(detector: BaseIncrementalDetector) -> Callable[..., NDArray]:
    def score(X: Activations, y: NDArray | None) -> NDArray:
        return detector._held_out_scores(X)

    return score


def _what_the_network_said(X: Activations) -> Activations:
    """The same rows with predictions and classes alone."""
    nothing = {"none": np.zeros((len(X), 1))}
    return Activations(nothing, predictions=X.predictions, classes=X.classes)


def _complete_held_out(
    detector: BaseIncrementalDetector, found: NDArray, parts: Sequence[BlockScores]
) -> Scores:
    """Scores of those rows that are held out and may set the threshold, which are noted."""
    X = Activations.concatenate([part.said for part in parts if part.said is not None])
    labels = [part.y for part in parts if part.y is not None]
    y = np.concatenate(labels) if labels else None
    detector.__dict__.pop("_sample", None)  # these are the first rows to set it
    may_set = np.flatnonzero(detector._may_set_threshold(X, y))
    detector.training_rows_ = detector.training_rows_[may_set]
    return detector._complete_held_out(found[may_set], *rows_of(X, y, may_set))
