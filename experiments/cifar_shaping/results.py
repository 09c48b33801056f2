"""Everything that the CIFAR experiment computes for one network."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import NDArray

from skood import Activations
from skood.detectors import MaxSoftmaxDetector

from .._common.networks import predicted_classes
from .._common.quality import BySet
from .activations import (
    Settings,
    extract_odin,
    extract_pooled,
    extract_train,
    load_network,
)
from .data import TEST, TRAIN, Accuracy, Task, load_images
from .line import evaluate_steps, evaluate_thresholds, measure_sharing
from .methods import evaluate_all
from .quality import evaluate


@dataclass(frozen=True)
class Results:
    """What one network shows."""

    task: Task
    accuracies: dict[str, Accuracy]
    """Of the network, on the training and test images that it was run on."""
    by_method: dict[str, BySet]
    steps: dict[str, BySet]
    """The energy score, and LINe with some of its steps."""
    thresholds: dict[float | None, BySet]
    """LINe with each threshold."""
    sharing: NDArray
    """Share of each class's top neurons that is shared, for each share of the classes."""


def compute(task: Task, settings: Settings) -> Results:
    """Extract what is not on the disk yet, and try every method."""
    network = load_network(task)
    train, tested = extract_pooled(network, task, settings)
    _, y_train = load_images(task, TRAIN, settings.n_train, settings.seed)
    _, y_test = load_images(task, TEST, settings.n_samples, settings.seed)
    accuracies = {TRAIN: accuracy(train, y_train), TEST: accuracy(tested.inside, y_test)}
    check_accuracies(task, accuracies)
    # This detector learns nothing but a threshold, which is not used here.
    odin = MaxSoftmaxDetector(temperature=1000).fit(train)
    return Results(
        task=task,
        accuracies=accuracies,
        by_method={
            "ODIN*": evaluate(odin, extract_odin(network, task, settings)),
            **evaluate_all(task, train, y_train, tested),
        },
        steps=evaluate_steps(task, train, y_train, tested),
        thresholds=evaluate_thresholds(task, train, y_train, tested),
        sharing=measure_sharing(train, y_train),
    )


def compute_sharing(task: Task, settings: Settings) -> NDArray:
    """What the classes share, from the training images alone."""
    train = extract_train(load_network(task), task, settings)
    _, y_train = load_images(task, TRAIN, settings.n_train, settings.seed)
    return measure_sharing(train, y_train)


def accuracy(A: Activations, y: NDArray) -> Accuracy:
    return Accuracy(float((predicted_classes(A) == y).mean()), len(y))


def check_accuracies(task: Task, accuracies: dict[str, Accuracy]) -> None:
    """On all images of a kind, a network that was rebuilt rightly is as accurate as known."""
    for subset, known in task.accuracies.items():
        found = accuracies[subset]
        if found.n_images == known.n_images:
            assert abs(found.value - known.value) < 1e-4, (
                f"{task.title}, {subset}: expected an accuracy of {known.value:.2%}, got "
                f"{found.value:.2%}."
            )
