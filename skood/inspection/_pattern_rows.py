"""The rows of a pattern display: samples class by class, or one beside its nearest pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

from .._patterns import pack_layers
from .._validation import check_activations
from ..activations import Activations
from ..detectors import HammingNAPDetector
from ._drawing import descending_order, rows_by_set


class PatternRows(NamedTuple):
    """Patterns of shape (n_rows, n_neurons), the set of each row, and each layer's neurons."""

    patterns: NDArray[np.bool_]
    groups: NDArray
    neurons: dict[str, NDArray[np.intp]]


def rows_by_class(
    X: Activations,
    groups: ArrayLike,
    max_per_class: int | None,
    sort_neurons: bool,
    sort_by: Mapping[str, ArrayLike] | None,
) -> PatternRows:
    """Patterns of at most that many samples of each class, in ascending order of the classes.

    Raises
    ------
    KeyError
        If ``sort_by`` lacks a layer.
    ValueError
        If ``groups`` has another length than ``X``, ``sort_by`` another width than a layer, or a
        layer has maps.
    """
    _check_no_maps(X)
    labels = column_or_1d(groups)
    sets = rows_by_set(labels, len(X))
    names = sorted(sets, key=lambda name: labels[sets[name][0]])
    drawn = [evenly(sets[name], max_per_class) for name in names]
    blocks, neurons = [], {}
    for layer, shape in X.layer_shapes.items():
        order = np.arange(shape[0])
        if sort_by is not None:
            order = descending_order(sort_by, layer, shape[0])
        elif sort_neurons:
            shares = [_bits(X[sets[name]], layer).mean(axis=0) for name in names]
            order = _order_by_class(np.array(shares))
        blocks.append(_bits(X[np.concatenate(drawn)], layer)[:, order])
        neurons[layer] = order
    set_of_row = np.repeat(names, [len(rows) for rows in drawn])
    return PatternRows(np.hstack(blocks), set_of_row, neurons)


def rows_of_sample(detector: HammingNAPDetector, X: Any) -> tuple[PatternRows, str]:
    """The nearest stored pattern, the pattern of the one sample in ``X``, and what to say of them.

    Raises
    ------
    ValueError
        If no pattern is stored for the sample's class.
    """
    verdict = "alarm" if detector.predict(X)[0] == -1 else "no alarm"
    found = detector.nearest_examples(X, n_examples=1)
    X = check_activations(detector, X, reset=False)
    predicted = "" if found.labels is None else f"class {X.predictions.tolist()[0]}, "
    if found.rows[0, 0] < 0:
        label, known = X.predictions.tolist()[0], list(detector.stores_)
        raise ValueError(f"No pattern is stored for class {label!r}; there are some for {known}.")
    pattern = np.hstack([_bits(X, layer) for layer in X.layer_names])
    # Of equally near ones this is the most common: stores are in that order.
    nearest = np.hstack([values[:, 0] for values in found.layers.values()])
    n_differ = found.distances[0, 0]
    rows = PatternRows(
        np.vstack([nearest, pattern]),
        np.array(["stored pattern", "sample"]),
        {layer: np.arange(shape[0]) for layer, shape in X.layer_shapes.items()},
    )
    differ = "differs" if n_differ == 1 else "differ"
    return rows, f"{predicted}{verdict}: {n_differ} of {pattern.size} neurons {differ}"


def evenly(rows: NDArray, n_kept: int | None) -> NDArray:
    """At most that many of the rows, at even distances; all for None."""
    if n_kept is None or len(rows) <= n_kept:
        return rows
    return rows[np.arange(n_kept) * len(rows) // n_kept]


def _check_no_maps(X: Activations) -> None:
    for layer, shape in X.layer_shapes.items():
        if len(shape) > 1:
            raise ValueError(
                "PatternDisplay expects layers of shape (n_samples, n_units), but a sample of "
                f"layer {layer!r} has shape {shape}: pool it first, for example by PoolingReducer."
            )


def _bits(X: Activations, layer: str) -> NDArray[np.bool_]:
    (bits,) = pack_layers(X[[layer]])
    return bits.unpack()


def _order_by_class(shares: NDArray[np.float64]) -> NDArray[np.intp]:
    """Order of the neurons, from the share of each class's samples in which each is active."""
    distinction = shares.max(axis=0) - shares.mean(axis=0)
    typical_of = np.where(np.ptp(shares, axis=0) > 0, shares.argmax(axis=0), len(shares))
    return np.lexsort((-distinction, typical_of))
