"""The template of the detectors that weigh layers by their scores of training samples."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._threshold_sample import ThresholdSample
from .._values import Floats
from ..activations import Activations
from ._base import joined
from ._base_incremental import BaseIncrementalDetector, batches_of
from ._labels_seen import ByClass, LabelsSeen


@dataclass(frozen=True)
class LayersLearnt:
    """What batches teach of layers, and samples that weigh them.

    Attributes
    ----------
    classes : ByClass
        What there is to know of each layer.
    inside : ThresholdSample or None
        Samples that were learnt from, where others set the threshold.
    outside : ThresholdSample or None
        Samples marked -1, where there were any.
    """

    classes: ByClass
    inside: ThresholdSample | None = None
    outside: ThresholdSample | None = None

    def merge(self, other: LayersLearnt) -> LayersLearnt:
        """What the samples of both teach."""
        return LayersLearnt(
            self.classes.merge(other.classes),
            _of_both(self.inside, other.inside),
            _of_both(self.outside, other.outside),
        )


class BaseLayerScoresDetector(BaseIncrementalDetector):
    """Template of the detectors that score layers one by one, and then weigh these scores.

    A subclass says what a batch teaches of the layers (``_learn_classes``), what follows
    (``_finish_layers``), what samples that were learnt from score in each layer as if they had not
    been (``_left_out_scores``, one column a layer or more), and how these weigh the layers
    (``_weigh``, which returns their weighed sums). A sample that weighs layers is never one that
    ``validation`` holds out.
    """

    _summary: LayersLearnt
    _ood: Activations

    @abstractmethod
    def _learn_classes(self, X: Activations, y: NDArray | None) -> ByClass:
        """What validated in-distribution samples teach, of which there may be none."""

    @abstractmethod
    def _finish_layers(self, classes: ByClass) -> None:
        """Set what follows from all samples but for the weights of layers."""

    @abstractmethod
    def _weigh(self, found: Floats, outside: Activations | None) -> Floats:
        """Weigh the layers by left-out scores, and OOD samples if there are; returns the sums."""

    def _fit(self, X: Activations, y: NDArray | None, *, X_ood: Activations | None = None) -> None:
        if X_ood is not None and len(X_ood):
            self._ood = X_ood
        super()._fit(X, y, X_ood=X_ood)
        if self.validation is None:
            return
        inside = self._summary.inside
        if inside is None or len(inside.X) < inside.n_seen:
            self._weigh(self._left_out_scores_of(X, y), self._outside())

    def _left_out_width(self) -> int:
        return len(self._summary.classes.layers)

    def _left_out_scores_of(self, X: Activations, y: NDArray | None) -> Floats:
        """Of any number of samples, a batch of them at a time."""
        if self._why_not_in_batches():
            return self._left_out_scores(X, y)
        self._look_again(X, y)
        return joined([self._left_out_scores(*batch) for batch in batches_of(X, y)])

    def _score_learnt(self, X: Activations, y: NDArray | None) -> Floats:
        if self._why_not_in_batches():
            return self._complete_scores(self._left_out_scores(X, y))
        return super()._score_learnt(X, y)

    def _learn(self, X: Activations, y: NDArray | None) -> LayersLearnt:
        inside = None
        if self.validation is not None and not self._why_not_in_batches():
            inside = ThresholdSample.of(X, y, np.arange(len(X)))
        return LayersLearnt(self._learn_classes(X, y), inside)

    def _labels_seen(self, X: Activations, y: NDArray | None) -> LabelsSeen:
        """The labels, where these are classes only if there are several."""
        if self.group_by != self._labels_optional_for or not self._can_look_up():
            return LabelsSeen()
        return LabelsSeen.of(y, len(X))

    def _finish(self, summary: LayersLearnt) -> None:
        self._finish_layers(summary.classes)
        if (inside := summary.inside) is not None:
            found = self._left_out_scores_of(inside.X, inside.y)
            self._weigh(found[inside.counted()[1]], self._outside())

    def _complete_scores(self, scores: Floats) -> Floats:
        if scores.ndim == 2:
            scores = self._weigh(scores, self._outside())
        self.__dict__.pop("_ood", None)
        return super()._complete_scores(scores)

    def _outside(self) -> Activations | None:
        """Samples marked -1: all of ``fit``, or as many as are kept of batches."""
        if hasattr(self, "_ood"):
            return self._ood
        if (sample := self._summary.outside) is None:
            return None
        return sample.X[sample.counted()[1]]


def _of_both(
    mine: ThresholdSample | None, theirs: ThresholdSample | None
) -> ThresholdSample | None:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return mine.merge(theirs)
