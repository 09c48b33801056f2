"""How well scores separate sets of OOD images from the test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skood.metrics import fpr_at_tpr_score, ood_roc_auc_score


class Quality(NamedTuple):
    """Both in percent."""

    fpr95: float
    """Share of the OOD images accepted where 95 % of the test images are."""
    auroc: float


BySet = dict[str, Quality]


def compare(inside: NDArray, outside: NDArray) -> Quality:
    y = np.repeat([1, -1], [len(inside), len(outside)])
    scores = np.concatenate([inside, outside])
    fpr95 = fpr_at_tpr_score(y, scores, tpr=0.95, positive="id")
    return Quality(100 * fpr95, 100 * ood_roc_auc_score(y, scores))


def mean_over(by_set: BySet, names: Sequence[str]) -> Quality:
    """Means of both measures over some of the sets."""
    fpr95, auroc = np.mean([by_set[name] for name in names], axis=0)
    return Quality(float(fpr95), float(auroc))
