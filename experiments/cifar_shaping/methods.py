"""The detectors that the CIFAR experiment compares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline, make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood.detectors import (
    COREDetector,
    EnergyDetector,
    EntropyDetector,
    FDBDDetector,
    GENDetector,
    GradNormDetector,
    GramDetector,
    KLMatchingDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxLogitDetector,
    MaxSoftmaxDetector,
    NACDetector,
    NCIDetector,
    NNGuideDetector,
    OpenMaxDetector,
    SHEDetector,
    ViMDetector,
)
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.preprocessing import LayerSelector
from skood.shaping import ASH, DICE, SCALE, VRA, ReAct

from .._common.images import DATA
from .._common.quality import BySet
from .activations import FEATURES, POOLED, Tested
from .data import Task
from .line import DEFAULT_DELTA, make_line
from .quality import evaluate

Methods = dict[str, Any]
"""Detectors, not fitted, by the names of the tables."""

BLOCK_ENDS = ["trans1.relu:avg", "trans2.relu:avg", FEATURES]
AVERAGED = [f"{layer}:avg" for layer in POOLED]
POOLED_TWICE = [f"{layer}:{pooling}" for layer in POOLED for pooling in ("max", "avg")]


def evaluate_all(
    task: Task, train: Activations, y_train: NDArray, tested: Tested
) -> dict[str, BySet]:
    """Quality of every method that needs one pass through the network."""
    by_layers = [
        (on_outputs(), [FEATURES]),
        (by_shaping(task), [FEATURES]),
        (on_features_and_head(), [FEATURES]),
        (on_features(), [FEATURES]),
        (on_block_ends(), BLOCK_ENDS),
        (on_all_layers(), AVERAGED),
        (on_patterns(), POOLED_TWICE),
        (on_everything(), [*POOLED_TWICE, FEATURES]),
    ]
    return {
        name: evaluate(detector.fit(train[layers], y_train), tested.select(layers))
        for methods, layers in by_layers
        for name, detector in methods.items()
    }


def on_outputs() -> Methods:
    return {
        "MSP": MaxSoftmaxDetector(),
        "MaxLogit": MaxLogitDetector(),
        "energy": EnergyDetector(),
        "entropy": EntropyDetector(),
        "GEN": GENDetector(),
        "KL matching": KLMatchingDetector(),
        "OpenMax": OpenMaxDetector(),
    }


def by_shaping(task: Task) -> Methods:
    """Methods that change features or weights; the energy score of what comes of it."""
    means = np.load(DATA / "models" / "densenet100_feature_means.npz")[task.name]
    steps = {
        "ReAct": [ReAct()],
        "ReAct, threshold 1.0": [ReAct(threshold=DEFAULT_DELTA)],
        "DICE": [DICE()],
        "DICE, published means": [DICE(mean_features=means)],
        "DICE + ReAct": [ReAct(), DICE()],
        "DICE + ReAct, threshold 1.0": [ReAct(threshold=DEFAULT_DELTA), DICE()],
        "VRA": [VRA()],
        "SCALE": [SCALE()],
        "ASH-P": [ASH(variant="p")],
        "ASH-B": [ASH(variant="b")],
        "ASH-S": [ASH(variant="s")],
    }
    shaped = {name: make_pipeline(*step, EnergyDetector()) for name, step in steps.items()}
    return {**shaped, "LINe": make_line(task)}


def on_features_and_head() -> Methods:
    return {
        "ViM": ViMDetector(),
        "GradNorm": GradNormDetector(),
        "NAC": NACDetector(),
        "NNGuide": NNGuideDetector(),
        "fDBD": FDBDDetector(),
        "NCI": NCIDetector(),
        "CORE": COREDetector(),
    }


def on_features() -> Methods:
    return {
        "KNN": KNNDetector(),
        "KNN, 5 neighbours": KNNDetector(n_neighbors=5),
        "SHE": SHEDetector(),
        "Mahalanobis, last layer": MahalanobisDetector(),
        "relative Mahalanobis, last layer": MahalanobisDetector(relative=True),
        "Mahalanobis++, last layer": MahalanobisDetector(normalize=True),
        "relative Mahalanobis++, last layer": MahalanobisDetector(normalize=True, relative=True),
        "KNN and energy, Fisher": LayerEnsembleDetector([KNNDetector(), EnergyDetector()]),
    }


def on_block_ends() -> Methods:
    return {
        "Mahalanobis": MahalanobisDetector(),
        "relative Mahalanobis": MahalanobisDetector(relative=True),
        "Mahalanobis++": MahalanobisDetector(normalize=True),
        "relative Mahalanobis++": MahalanobisDetector(normalize=True, relative=True),
    }


def on_all_layers() -> Methods:
    return {
        "Gram, 15 pooled layers": GramDetector(),
        "Mahalanobis, 15 layers, Fisher": LayerEnsembleDetector(MahalanobisDetector()),
        "KNN, 15 layers, Fisher": LayerEnsembleDetector(KNNDetector()),
        "NAC without gradients, 15 layers": NACDetector(gradients=False),
    }


def on_patterns() -> Methods:
    return {
        "NAP, 15 layers, Fisher": LayerEnsembleDetector(make_nap()),
        "NAP, 15 layers, mean": LayerEnsembleDetector(make_nap(), combine="mean"),
        "NAP, auto-configured": AutoNAPDetector(random_state=0),
    }


def on_everything() -> Methods:
    """Patterns of all layers, and what is best on the last one, each with the same weight."""
    members = [
        LayerEnsembleDetector(make_nap(), layers=POOLED_TWICE),
        make_pipeline(LayerSelector(layers=FEATURES), KNNDetector()),
        make_pipeline(LayerSelector(layers=FEATURES), EnergyDetector()),
    ]
    return {"NAP, KNN and energy, Fisher": LayerEnsembleDetector(members)}


def make_nap() -> Pipeline:
    return make_pipeline(PercentileBinarizer(percentile=30), HammingNAPDetector())
