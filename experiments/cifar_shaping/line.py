"""LINe step by step, over its threshold, and what the classes of a network share."""

from __future__ import annotations

from numpy.typing import NDArray
from sklearn.pipeline import Pipeline, make_pipeline

from skood import Activations
from skood.detectors import EnergyDetector
from skood.shaping import LINe, shared_top_neurons

from .._common.quality import BySet
from .activations import Tested
from .data import Task
from .quality import evaluate

DEFAULT_DELTA = 1.0
OVERLAP = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
"""Shares of the classes that have to have a neuron for it to count as shared."""
DELTAS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, None)


def make_line(task: Task, delta: float | None = DEFAULT_DELTA) -> Pipeline:
    activation_percentile, weight_percentile = task.line_percentiles
    line = LINe(
        activation_percentile=activation_percentile, weight_percentile=weight_percentile, clip=delta
    )
    return make_pipeline(line, EnergyDetector())


def evaluate_steps(
    task: Task, train: Activations, y_train: NDArray, tested: Tested
) -> dict[str, BySet]:
    """The energy score, what each part of LINe makes of it, and LINe."""
    activations, weights = task.line_percentiles
    shapers = {
        "energy": "passthrough",
        "energy + clipping": LINe(
            activation_percentile=None, weight_percentile=None, clip=DEFAULT_DELTA
        ),
        "LINe without weight pruning": LINe(
            activation_percentile=activations, weight_percentile=None, clip=DEFAULT_DELTA
        ),
        "LINe without activation pruning": LINe(
            activation_percentile=None, weight_percentile=weights, clip=DEFAULT_DELTA
        ),
        "LINe": LINe(
            activation_percentile=activations, weight_percentile=weights, clip=DEFAULT_DELTA
        ),
    }
    return {
        name: evaluate(make_pipeline(shaper, EnergyDetector()).fit(train, y_train), tested)
        for name, shaper in shapers.items()
    }


def evaluate_thresholds(
    task: Task, train: Activations, y_train: NDArray, tested: Tested
) -> dict[float | None, BySet]:
    """LINe with different thresholds, None being no clipping."""
    return {delta: evaluate(make_line(task, delta).fit(train, y_train), tested) for delta in DELTAS}


def measure_sharing(train: Activations, y_train: NDArray) -> NDArray:
    """Share of each class's top neurons that more than a share of the classes have too."""
    return shared_top_neurons(LINe().fit(train, y_train), overlap=OVERLAP, average=False)


def delta_name(delta: float | None) -> str:
    return "none" if delta is None else str(delta)
