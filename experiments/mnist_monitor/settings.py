"""What the validation says of single settings, and what a percentile trades for another."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skood import Activations
from skood.ensemble import AutoNAPDetector
from skood.inspection import SettingAccuracyDisplay

from .outcomes import Singles

SPARSE, DENSE = 90, 30


def compare_settings(
    detector: AutoNAPDetector,
    inside: Activations,
    outside: Mapping[str, Activations],
    panels: NDArray,
) -> dict[str, SettingAccuracyDisplay]:
    """Accuracies of all settings on each set, against those on the set of the validation."""
    displays = {}
    for (name, A), ax in zip(outside.items(), panels.flat, strict=True):
        together = Activations.concatenate([inside, A])
        y = np.repeat([1, -1], [len(inside), len(A)])
        displays[name] = SettingAccuracyDisplay.from_estimator(detector, together, y, s=16, ax=ax)
    return displays


class Trade(NamedTuple):
    """A layer, a set that the low percentile finds better, and one that the high one does."""

    layer: str
    for_dense: str
    for_sparse: str
    gain: float
    """The smaller of the two differences in AUROC."""
    is_found: bool
    """Whether either set is found well, AUROC above .8, by its better percentile."""


def find_trade(singles: Singles) -> Trade:
    """The layer and the two sets for which a percentile gains most here and loses there."""
    trades = []
    for layer in dict.fromkeys(layer for layer, _ in singles):
        dense, sparse = (
            {name: outcome.auroc for name, outcome in singles[layer, percentile].items()}
            for percentile in (DENSE, SPARSE)
        )
        for one, other in permutations(dense, 2):
            gain = min(dense[one] - sparse[one], sparse[other] - dense[other])
            is_found = min(dense[one], sparse[other]) > 0.8
            trades.append(Trade(layer, one, other, gain, is_found))
    return max(trades, key=lambda trade: (trade.is_found and trade.gain > 0, trade.gain))
