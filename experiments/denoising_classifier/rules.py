"""Rules for the thresholds, and what comes of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skood.metrics import ood_roc_auc_score
from skood.training import DenoisingClassifier

from .digits import UNKNOWN, Digits

# As published: the decoder has the last word.
DRAWN = ("noise+rotation+decoder", "noise+occlusion+decoder")

# Thresholds: the probability, and the quantile of the errors of images unlike known ones.
RULES: dict[str, dict[str, Any]] = {
    "automatic": {},
    "automatic, by rotation": {"pseudo_ood": ("rotation",)},
    "automatic, by occlusion": {"pseudo_ood": ("occlusion",)},
    "softmax alone, automatic": {"error_quantile": None},
    "softmax alone, .659": {"softmax_threshold": 0.659, "error_quantile": None},
    ".659 and smallest error, both kinds": {"softmax_threshold": 0.659, "error_quantile": 0.0},
    ".659 and smallest error, occlusion": {
        "softmax_threshold": 0.659,
        "error_quantile": 0.0,
        "pseudo_ood": ("occlusion",),
    },
    ".659 and smallest error, noised first and drawn": {
        "softmax_threshold": 0.659,
        "error_quantile": 0.0,
        "pseudo_ood": DRAWN,
    },
    "automatic, noised first and drawn": {"pseudo_ood": DRAWN},
}


@dataclass(frozen=True)
class Outcome:
    """Shares, of the test images, under one pair of thresholds."""

    softmax_threshold: float
    error_threshold: float
    found: float
    """Zeros that are rejected."""
    kept: float
    """Other digits that are accepted and classified right."""
    accuracy: float
    """Other digits that are classified right, whether accepted or not."""
    auroc: float
    """Of the score, zeros against other digits."""


def evaluate(net: DenoisingClassifier, digits: Digits, rule: Mapping[str, Any]) -> Outcome:
    """Set the thresholds by a rule and score the test images; the network stays as it is."""
    defaults = DenoisingClassifier().get_params()
    names = ("softmax_threshold", "error_quantile", "pseudo_ood")
    net.set_params(**{name: rule.get(name, defaults[name]) for name in names})
    net.set_thresholds(digits.X_held_out)
    scores = net.score_samples(digits.X_test)
    right = net.classes_[net.predict_proba(digits.X_test).argmax(axis=1)] == digits.y_test
    unknown = digits.y_test == UNKNOWN
    return Outcome(
        softmax_threshold=net.softmax_threshold_,
        error_threshold=net.error_threshold_,
        found=(scores[unknown] < 0).mean(),
        kept=(right & (scores >= 0))[~unknown].mean(),
        accuracy=right[~unknown].mean(),
        auroc=ood_roc_auc_score(np.where(unknown, -1, 1), scores),
    )
