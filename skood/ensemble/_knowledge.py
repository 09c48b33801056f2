"""How well layers know the class that the network predicts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..activations import Activations
from ..detectors import MahalanobisDetector


def predicted_classes(X: Activations) -> NDArray:
    """The predicted class of each sample, or one for all where there are no predictions."""
    predictions = X.predictions
    return np.zeros(len(X), dtype=int) if predictions is None else predictions


def class_knowledge(X: Activations) -> NDArray[np.float64]:
    """How well each layer tells the predicted classes apart, from 0 for chance to 1.

    That is the share of samples that lie nearest to the mean of the class that was predicted for
    them, by Mahalanobis distances of normalised values with each sample left out, on the scale
    where that of guessing is 0. It is 1 where there is one class only: then there is nothing to
    know.

    Parameters
    ----------
    X : Activations
        In-distribution samples.

    Returns
    -------
    knowledge : ndarray of shape (n_layers,)
        The knowledge of each layer.
    """
    n_classes = len(np.unique(predicted_classes(X)))
    if n_classes < 2:
        return np.ones(len(X.layer_names))
    if n_classes == len(X):  # no sample is there to be near to
        return np.zeros(len(X.layer_names))
    return _above_chance([*distances().fit(X).class_accuracy_.values()], n_classes)


def tell_knowledge(members: Sequence[Any]) -> bool:
    """Whether members, one a layer, are the very distances by which this is found."""
    wanted = distances().get_params()
    return all(
        type(member) is MahalanobisDetector
        and {**member.get_params(), "false_alarm_rate": wanted["false_alarm_rate"]} == wanted
        for member in members
    )


def knowledge_of_fitted(members: Sequence[Any], n_classes: int) -> NDArray[np.float64]:
    """The same of such members, which were fitted on samples of so many predicted classes."""
    if n_classes < 2:
        return np.ones(len(members))
    found = [*chain.from_iterable(member.class_accuracy_.values() for member in members)]
    return _above_chance(found, n_classes)


def distances(*, relative: bool = False) -> MahalanobisDetector:
    """Of normalised values; fit for few samples, and for layers of thousands of units."""
    return MahalanobisDetector(
        relative=relative, normalize=True, shrinkage=0.1, n_components=2048, group_by="prediction"
    )


def _above_chance(accuracy: Sequence[float], n_classes: int) -> NDArray[np.float64]:
    chance = 1 / n_classes
    return np.clip((np.array(accuracy) - chance) / (1 - chance), 0, 1)
