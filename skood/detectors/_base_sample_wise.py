"""The template of the detectors that learn nothing but a threshold."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import NDArray

from ..activations import Activations
from ._base_incremental import BaseIncrementalDetector


@dataclass
class Nothing:
    """What samples teach a detector whose score depends on a sample alone."""

    def merge(self, other: Nothing) -> Nothing:
        """Still nothing."""
        return self


class BaseSampleWiseDetector(BaseIncrementalDetector):
    """Template of the detectors whose score depends on the sample alone, and not on training.

    A subclass says how to score (``_score_samples``), by itself or by a template that it inherits
    from beside this one.
    """

    def _learn(self, X: Activations, y: NDArray | None) -> Nothing:
        return Nothing()

    def _finish(self, summary: Nothing) -> None:
        """Samples are scored as they are."""
