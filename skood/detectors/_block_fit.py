"""Fitting on rows that lie in blocks elsewhere: what is done with each block, and in between."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from .._held_out import Rows
from .._marks import in_distribution_rows, take_rows
from .._warnings import Said, collecting_warnings
from ._base import joined, rows_of, without_overflow_warnings
from ._base_incremental import BaseIncrementalDetector, batches_of, forget_batches

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class BlockFit:
    """A detector between blocks of rows: it has learnt from some, and may be finished.

    An engine learns from each block by itself, merges what neighbours have learnt, two and two,
    finishes what is left at the end, and scores each block once more; of all scores, ``complete``
    makes what ``fit`` would have made of all rows. Each step needs one block at a time.

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
        """The finished detector, without a threshold where the scores of all rows are to set it.

        What only more batches need is dropped, since rows may be among it.

        Raises
        ------
        ValueError
            If there was no row to learn from.
        """
        detector = copy(self.detector)
        _refuse_none(detector)
        if detector._max_threshold_samples() is not None:
            detector._conclude()
        else:
            with without_overflow_warnings():
                detector._finish_all()
        forget_batches(detector)
        return type(self)(detector, self.said)

    def score(
        self, X: Any, y: NDArray | None, split: tuple[Rows, Rows] | None = None
    ) -> tuple[Scores, Rows]:
        """Scores of the rows of a block that set the threshold, and which rows they are.

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
        X = detector._validate(X, reset=False)
        rows = in_distribution_rows(y, len(X), allow_none=True)
        X, y = take_rows(X, y, rows)
        if split is not None:
            held_out = split[1]
            held_out = held_out[detector._may_set_threshold(*rows_of(X, y, held_out))]
            rows, (X, y) = rows[held_out], rows_of(X, y, held_out)
        if not len(rows):
            return np.empty(0), rows
        with without_overflow_warnings():
            scores = [detector._score_setting(*batch) for batch in batches_of(X, y)]
        return joined(scores), rows

    def complete(self, scores: Scores, rows: Rows) -> BaseIncrementalDetector:
        """The detector, its threshold set by the scores of all rows that do."""
        detector = copy(self.detector)
        detector.training_rows_ = rows
        with without_overflow_warnings():
            detector._set_threshold(detector._complete_scores(scores))
        return detector

    def concluded(self) -> BaseIncrementalDetector:
        """The detector as after one ``partial_fit``: the rows that it keeps set the threshold.

        Raises
        ------
        ValueError
            If there was no row to learn from.
        """
        _refuse_none(self.detector)
        return copy(self.detector)._conclude()

    def add_to(self, detector: BaseIncrementalDetector) -> BaseIncrementalDetector:
        """Let a fitted detector learn what was learnt here, as from one more batch."""
        return detector._take_in(self.detector)._conclude()


def _refuse_none(detector: BaseIncrementalDetector) -> None:
    if not len(detector.learnt_rows_):
        n_samples = detector.n_samples_seen_
        in_distribution_rows(np.full(n_samples, -1), n_samples)  # which says so
