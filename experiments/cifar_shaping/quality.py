"""How well a detector separates each set of OOD images from the test images."""

from __future__ import annotations

from typing import Any

from .._common.quality import BySet, compare
from .activations import Tested


def evaluate(detector: Any, tested: Tested) -> BySet:
    """Quality of a fitted detector against each set of OOD images."""
    inside = detector.score_samples(tested.inside)
    return {name: compare(inside, detector.score_samples(A)) for name, A in tested.outside.items()}
