"""The training examples nearest to a sample, and what each of their neurons does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import euclidean_distances

from .._marks import OOD_LABEL, check_mark_is_no_class, in_distribution_mask, read_labels
from .._patterns import hamming_neighbors, pack_layers
from ..activations import Activations, PackedBits
from ..detectors import GroupProgressionDetector, HammingNAPDetector, KNNDetector


@dataclass(frozen=True)
class NearestExamples:
    """Training examples, nearest first; a row of -1 is none."""

    distances: NDArray  # (n_samples, n_neighbors)
    rows: NDArray[np.intp]  # (n_samples, n_neighbors)
    labels: NDArray | None  # (n_samples, n_neighbors)
    layers: Mapping[str, NDArray]  # each (n_samples, n_neighbors, ...)


def keeps_samples(detector: Any) -> bool:
    """Whether a fitted detector knows what its training samples did."""
    return isinstance(detector, GroupProgressionDetector | HammingNAPDetector | KNNDetector)


def keeps_patterns(detector: Any) -> bool:
    """Whether it knows that of them as binary patterns."""
    return isinstance(detector, GroupProgressionDetector | HammingNAPDetector)


def kept_examples(
    detector: Any, A: Activations, X: Any, n_neighbors: int, labels: NDArray | None
) -> NearestExamples:
    """Nearest examples among those that a detector keeps.

    Parameters
    ----------
    detector : fitted detector
        One that ``keeps_samples``.
    A : Activations
        The samples; as patterns, where the detector keeps patterns.
    X : Activations or array-like
        The same samples, as the detector takes them.
    n_neighbors : int
        How many to find.
    labels : ndarray of shape (n_training_samples,)
        Labels of the rows of ``fit``; by default the classes that the detector keeps, if any.
    """
    if isinstance(detector, GroupProgressionDetector):
        return _examples_of_groups(detector, A, n_neighbors, labels)
    n_found = min(n_neighbors, len(detector.training_rows_))
    missing = [(0, 0), (0, n_neighbors - n_found)]
    distances, rows = detector.kneighbors(X, n_found)
    none = np.inf if isinstance(detector, KNNDetector) else A.shape[1]
    distances = np.pad(distances, missing, constant_values=none)
    rows = np.pad(rows, missing, constant_values=-1)
    positions = np.searchsorted(detector.training_rows_, np.maximum(rows, 0))
    if isinstance(detector, HammingNAPDetector):
        stored = detector._summary
        kept = np.reshape(stored.bits[positions.ravel()].unpack(), (*rows.shape, -1))
        layers = _cut_apart(kept, A)
        if labels is None and detector._by_class:
            return NearestExamples(
                distances, rows, _labels_at(stored.classes.own, positions, rows), layers
            )
    else:
        layers = _cut_apart(detector._neighbors.rows[positions], A)
        if detector.normalize:
            layers = {name: _scale_as(A[name], values) for name, values in layers.items()}
    return NearestExamples(distances, rows, _labels_at(labels, rows, rows), layers)


def _examples_of_groups(
    detector: Any, A: Activations, n_neighbors: int, labels: NDArray | None
) -> NearestExamples:
    """The first members of the final group, that of the last layer."""
    groups, bits = detector._groups, pack_layers(A)
    stored_rows = detector.training_rows_[detector._is_stored]
    n_found = min(n_neighbors, len(stored_rows))
    distances = np.full((len(A), n_neighbors), groups.widths[-1])
    positions = np.full((len(A), n_neighbors), -1)
    distances[:, :n_found], positions[:, :n_found] = hamming_neighbors(
        bits[-1].words, groups._words[-1], n_found
    )
    row_at_position = stored_rows[np.argsort(groups._position_of_row)]
    rows = np.where(positions < 0, -1, row_at_position[positions])
    layers = {
        name: PackedBits(words[positions.ravel()], width).unpack().reshape(*positions.shape, width)
        for name, words, width in zip(A.layer_names, groups._words, groups.widths, strict=True)
    }
    if labels is None and detector._by_class:
        found = _labels_at(groups._known[groups._codes], positions, rows)
    else:
        found = _labels_at(labels, rows, rows)
    return NearestExamples(distances, rows, found, layers)


def _cut_apart(kept: NDArray, A: Activations) -> dict[str, NDArray]:
    """Cut layers that lie side by side apart again."""
    ends = np.cumsum([prod(shape) for shape in A.layer_shapes.values()])
    return dict(zip(A.layer_names, np.split(kept, ends[:-1], axis=-1), strict=True))


def _scale_as(sample: NDArray, values: NDArray) -> NDArray:
    """Neighbours' values with the norm of the sample, where only directions were kept."""
    wanted = np.linalg.norm(sample, axis=1)[:, np.newaxis, np.newaxis]
    norms = np.linalg.norm(values, axis=2, keepdims=True)
    scaled = values * np.divide(
        wanted, norms, out=np.ones_like(norms), where=(norms > 0) & (wanted > 0)
    )
    # What was divided and multiplied again is not the same to the last bit.
    own = np.asarray(sample)[:, np.newaxis]
    return np.where(np.isclose(scaled, own, rtol=1e-6, atol=0), own, scaled)


def reference_examples(
    detector: Any,
    A: Activations,
    X: Any,
    A_train: Activations,
    n_neighbors: int,
    labels: NDArray | None,
) -> NearestExamples:
    """Nearest examples in given training data, by the detector's own search if it has one.

    Parameters
    ----------
    detector : fitted detector
        Any.
    A : Activations
        The samples.
    X : Activations or array-like
        The same samples, as the detector takes them.
    A_train : Activations
        Where to look.
    n_neighbors : int
        How many to find.
    labels : ndarray of shape (n_training_samples,)
        Labels of the training data; rows marked -1 are not looked at. By default the predicted
        classes, if there are any.
    """
    inside = np.ones(len(A_train), dtype=bool)
    if labels is not None:
        check_mark_is_no_class(A_train)
        inside = in_distribution_mask(labels, len(A_train))
    # A search of the detector's own would also find rows that are marked -1.
    if hasattr(detector, "kneighbors") and inside.all():
        distances, rows = detector.kneighbors(X, n_neighbors)
        n_seen = getattr(detector, "n_samples_fit_", len(A_train))
        if n_seen != len(A_train) or rows.max() >= len(A_train):
            raise ValueError(
                f"X_train has {len(A_train)} samples, but {type(detector).__name__} finds the "
                "nearest among others. Give those that it was fitted on."
            )
    else:
        distances, rows = _search(A, A_train, inside, n_neighbors)
    if labels is None:
        labels = A_train.predictions
    layers = {
        name: _unpacked(A_train[np.maximum(rows, 0).ravel()][name]).reshape(*rows.shape, *shape)
        for name, shape in A.layer_shapes.items()
    }
    return NearestExamples(distances, rows, _labels_at(labels, rows, rows), layers)


def _search(
    A: Activations, A_train: Activations, inside: NDArray[np.bool_], n_neighbors: int
) -> tuple[NDArray, NDArray[np.intp]]:
    """Distances to the nearest rows of the predicted class, where predictions are known."""
    if not inside.any():
        raise ValueError(f"All {len(A_train)} samples of X_train are marked -1 in y_train.")
    asked, stored = A.predictions, A_train.predictions
    if asked is None or stored is None:
        asked, stored = np.zeros(len(A), dtype=int), np.zeros(len(A_train), dtype=int)
    are_bits = all(_is_bits(A_train[name]) for name in A.layer_names)
    scales = {
        name: 1.0 if are_bits else _mean_square(A_train[name][inside]) for name in A.layer_names
    }
    distances = np.full((len(A), n_neighbors), np.inf)
    rows = np.full((len(A), n_neighbors), -1)
    for label in np.unique(asked):
        samples = np.flatnonzero(asked == label)
        candidates = np.flatnonzero(inside & (stored == label))
        if len(candidates) == 0:
            continue
        squares = np.sum(
            [
                _squared_distances(A[samples][name], A_train[candidates][name]) / scale
                for name, scale in scales.items()
            ],
            axis=0,
        )
        nearest = np.argsort(squares, axis=1, kind="stable")[:, :n_neighbors]
        found = np.take_along_axis(squares, nearest, axis=1)
        distances[samples, : nearest.shape[1]] = found if are_bits else np.sqrt(found)
        rows[samples, : nearest.shape[1]] = candidates[nearest]
    return distances, rows


def _is_bits(layer: Any) -> bool:
    return layer.dtype == bool


def _unpacked(layer: Any) -> NDArray:
    return layer.unpack() if isinstance(layer, PackedBits) else layer


def _mean_square(layer: Any) -> float:
    """Mean squared norm of the samples; 1 where all are 0."""
    values = _unpacked(layer).reshape(len(layer), -1)
    return float(np.einsum("ij,ij->", values, values, dtype=np.float64)) / len(values) or 1.0


def _squared_distances(samples: Any, candidates: Any) -> NDArray:
    flat = [
        np.asarray(_unpacked(layer), dtype=np.float64).reshape(len(layer), -1)
        for layer in (samples, candidates)
    ]
    return euclidean_distances(*flat, squared=True)


def _labels_at(labels: NDArray | None, positions: NDArray, rows: NDArray) -> NDArray | None:
    """Labels of the rows found; -1, or no text, where there is none."""
    if labels is None:
        return None
    none = "" if labels.dtype.kind in "US" else OOD_LABEL
    return np.where(rows < 0, none, labels[positions])


def check_labels(y_train: ArrayLike | None, n_samples: int) -> NDArray | None:
    """Labels of the training data as an array.

    Raises
    ------
    ValueError
        If they are not as many as the samples.
    """
    if y_train is None:
        return None
    labels = read_labels(y_train, "y_train")
    if len(labels) != n_samples:
        raise ValueError(
            f"There are {n_samples} training samples, but y_train has {len(labels)} labels."
        )
    return labels
