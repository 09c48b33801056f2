"""Methods of skood, each beside the same one of pytorch-ood, for timing and for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.pipeline import make_pipeline
from torch import nn

from skood.detectors import (
    EnergyDetector,
    EntropyDetector,
    FDBDDetector,
    GENDetector,
    GradNormDetector,
    KLMatchingDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxLogitDetector,
    MaxSoftmaxDetector,
    NCIDetector,
    NNGuideDetector,
    OpenMaxDetector,
    SHEDetector,
    ViMDetector,
)
from skood.shaping import ASH, DICE, SCALE, ReAct

LOGITS, FEATURES, MAPS = "logits", "features", "feature_maps"
"""What a detector of pytorch-ood reads."""


@dataclass(frozen=True)
class Pair:
    """An estimator of skood, and how pytorch-ood constructs its own.

    ``make`` takes the module ``pytorch_ood.detector`` and the head that turns features into logits.
    """

    estimator: Any
    reads: str
    make: Callable[[Any, nn.Linear], Any]


def maps_head(head: nn.Linear) -> nn.Module:
    """The head of features in the shape of maps with one pixel."""
    return nn.Sequential(nn.Flatten(), head)


def max_softmax(temperature: float = 1.0) -> Pair:
    return Pair(
        MaxSoftmaxDetector(temperature=temperature),
        LOGITS,
        lambda library, head: library.MaxSoftmax(None, t=temperature),
    )


def max_logit() -> Pair:
    return Pair(MaxLogitDetector(), LOGITS, lambda library, head: library.MaxLogit(None))


def energy(temperature: float = 1.0) -> Pair:
    return Pair(
        EnergyDetector(temperature=temperature),
        LOGITS,
        lambda library, head: library.EnergyBased(None, t=temperature),
    )


def entropy() -> Pair:
    return Pair(EntropyDetector(), LOGITS, lambda library, head: library.Entropy(None))


def gen(gamma: float = 0.1, n_largest: int = 100) -> Pair:
    return Pair(
        GENDetector(gamma=gamma, n_largest=n_largest),
        LOGITS,
        lambda library, head: library.GEN(None, gamma=gamma, M=n_largest),
    )


def kl_matching() -> Pair:
    return Pair(KLMatchingDetector(), LOGITS, lambda library, head: library.KLMatching(None))


def open_max(tail_size: int = 20, n_revised: int = 3) -> Pair:
    return Pair(
        OpenMaxDetector(tail_size=tail_size, n_revised=n_revised, group_by="label"),
        LOGITS,
        lambda library, head: library.OpenMax(None, tailsize=tail_size, alpha=n_revised),
    )


def mahalanobis() -> Pair:
    return Pair(MahalanobisDetector(), FEATURES, lambda library, head: library.Mahalanobis(None))


def relative_mahalanobis() -> Pair:
    return Pair(
        MahalanobisDetector(relative=True), FEATURES, lambda library, head: library.RMD(None)
    )


def knn(n_neighbors: int = 50, normalize: bool = True) -> Pair:
    return Pair(
        KNNDetector(n_neighbors=n_neighbors, normalize=normalize),
        FEATURES,
        lambda library, head: library.KNN(None, k=n_neighbors, normalize=normalize),
    )


def vim(n_components: int) -> Pair:
    return Pair(
        ViMDetector(n_components=n_components),
        FEATURES,
        lambda library, head: library.ViM(None, n_components, head.weight, head.bias),
    )


def she() -> Pair:
    return Pair(SHEDetector(), FEATURES, lambda library, head: library.SHE(None, head))


def grad_norm(temperature: float = 1.0) -> Pair:
    return Pair(
        GradNormDetector(temperature=temperature),
        FEATURES,
        lambda library, head: library.GradNorm(
            head, lambda name: name == "weight", temperature=temperature
        ),
    )


def nn_guide(n_neighbors: int = 10) -> Pair:
    return Pair(
        NNGuideDetector(n_neighbors=n_neighbors),
        FEATURES,
        lambda library, head: library.NNGuide(None, head, k=n_neighbors),
    )


def fdbd() -> Pair:
    return Pair(FDBDDetector(), FEATURES, lambda library, head: library.fDBD(None, head))


def nci(alpha: float) -> Pair:
    return Pair(
        NCIDetector(alpha=alpha), FEATURES, lambda library, head: library.NCI(None, head, alpha)
    )


def react(percentile: float = 90) -> Pair:
    return Pair(
        make_pipeline(ReAct(percentile=percentile), EnergyDetector()),
        MAPS,
        lambda library, head: library.ReAct(None, maps_head(head), percentile=percentile / 100),
    )


def ash(variant: str, percentile: float = 90) -> Pair:
    return Pair(
        make_pipeline(ASH(variant=variant, percentile=percentile), EnergyDetector()),
        MAPS,
        lambda library, head: library.ASH(
            None, maps_head(head), f"ash-{variant}", percentile / 100
        ),
    )


def ash_and_max_softmax(variant: str, percentile: float) -> Pair:
    return Pair(
        make_pipeline(ASH(variant=variant, percentile=percentile), MaxSoftmaxDetector()),
        MAPS,
        lambda library, head: library.ASH(
            None, maps_head(head), f"ash-{variant}", percentile / 100, library.MaxSoftmax.score
        ),
    )


def scale(percentile: float = 85) -> Pair:
    return Pair(
        make_pipeline(SCALE(percentile=percentile), EnergyDetector()),
        MAPS,
        lambda library, head: library.SCALE(None, maps_head(head), percentile / 100),
    )


def dice(sparsity: float = 90) -> Pair:
    return Pair(
        make_pipeline(DICE(sparsity=sparsity), EnergyDetector()),
        FEATURES,
        lambda library, head: library.DICE(None, head.weight, head.bias, sparsity / 100),
    )
