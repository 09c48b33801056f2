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
        learnt: Rows | None = None,
        setting: Rows | None = None,
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
        learnt : ndarray of int, default=None
            Which of them to learn from, by default all that are in-distribution.
        setting : ndarray of int, default=None
            Which of them set the threshold, by default those that are learnt from.
        keeps_sample : bool, default=False
            Whether to keep some rows, of bounded size, for the threshold after more batches.
        """
        part = clone(detector)
        with collecting_warnings() as said:
            part._learn_block(X, y, learnt, setting, keeps_sample=keeps_sample)
        return cls(part, frozenset(said))

    def merge(self, other: Self) -> Self:
        """What both have learnt, the rows of the other numbered after these; none is changed.

        Raises
        ------
        ValueError
            If they have learnt from other layers, or networks.
        """
        first, second = self.detector, other.detector
        first._check_same_input(second)
        both, start = copy(first), first.n_samples_seen_
        both._complete_input(second)
        both._summary = first._summary.merge(second._summary)
        both.n_samples_seen_ = start + second.n_samples_seen_
        both.learnt_rows_ = np.concatenate([first.learnt_rows_, start + second.learnt_rows_])
        if hasattr(first, "_sample"):
            both._sample = first._sample.merge(second._sample.numbered_from(start))
        return type(self)(both, self.said | other.said)

    def finish(self, *, by_sample: bool = False) -> Self:
        """The finished detector; it lacks the threshold where all rows are to set this.

        Parameters
        ----------
        by_sample : bool, default=False
            Whether the rows that are kept set it, as after several batches. Otherwise what more
            batches need is dropped, since rows may be among it.

        Raises
        ------
        ValueError
            If there was no row to learn from.
        """
        detector = copy(self.detector)
        if not len(detector.learnt_rows_):
            n_samples = detector.n_samples_seen_
            in_distribution_rows(np.full(n_samples, -1), n_samples)  # which says so
        with without_overflow_warnings():
            detector._finish_all(detector._summary)
            if by_sample or detector._max_threshold_samples() is not None:
                as_new = detector.validation is not None
                score = detector._as_new if as_new else detector._left_out_scores
                detector._set_threshold(detector._score_sample(score))
        if not by_sample:
            forget_batches(detector)
        return type(self)(detector, self.said)

    def score(self, X: Any, y: NDArray | None, setting: Rows | None = None) -> tuple[Scores, Rows]:
        """Scores of the rows of a block that set the threshold, and which rows they are.

        Parameters
        ----------
        X : Activations or ndarray of shape (n_samples, n_features)
            The rows of the block, one or more.
        y : ndarray of shape (n_samples,) or None
            Their labels.
        setting : ndarray of int, default=None
            Rows that were held out of what was learnt; by default all that were learnt from.
        """
        detector = self.detector
        X = detector._validate(X, reset=False)
        rows = in_distribution_rows(y, len(X), allow_none=True) if setting is None else setting
        X, y = take_rows(X, y, rows)
        how = detector._left_out_scores
        if setting is not None and len(rows):
            may_set = np.flatnonzero(detector._may_set_threshold(X, y))
            rows, how = rows[may_set], detector._as_new
            X, y = rows_of(X, y, may_set)
        if not len(rows):
            return np.empty(0), rows
        with without_overflow_warnings():
            return joined([how(*batch) for batch in batches_of(X, y)]), rows

    def complete(self, scores: Scores, rows: Rows) -> BaseIncrementalDetector:
        """The detector, its threshold set by the scores of all rows that do."""
        detector = copy(self.detector)
        detector.training_rows_ = rows
        with without_overflow_warnings():
            detector._set_threshold(detector._complete_scores(scores))
        return detector

    def add_to(self, detector: BaseIncrementalDetector) -> BaseIncrementalDetector:
        """Let a fitted detector learn what was learnt here, as from one more batch."""
        part = self.detector
        detector._check_can_learn_more()
        detector._check_same_input(part)
        detector._complete_input(part)
        return detector._learn_more(
            part._summary, part.learnt_rows_, part.n_samples_seen_, part._sample
        )
