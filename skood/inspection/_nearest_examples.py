"""The training examples nearest to a sample, and what each of their neurons does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import euclidean_distances

from .._layer_names import layer_columns
from .._marks import check_mark_is_no_class, in_distribution_mask, labels_at, read_labels
from ..activations import Activations, PackedBits
from ..detectors import NearestExamples


def keeps_samples(detector: Any) -> bool:
    """Whether a detector finds the training samples that it was fitted on by itself."""
    return hasattr(detector, "nearest_examples")


def kept_examples(
    detector: Any,
    X: Any,
    A_train: Activations | None,
    y_train: ArrayLike | None,
    n_neighbors: int,
) -> NearestExamples:
    """Nearest examples among those that a detector keeps.

    Parameters
    ----------
    detector : fitted detector
        One that ``keeps_samples``.
    X : Activations or array-like
        The samples, as the detector takes them.
    A_train : Activations or None
        What it was fitted on. Only for predictions where it keeps no classes, and for layers that
        it does not read.
    y_train : array-like of shape (n_training_samples,) or None
        Labels of the rows of ``fit``; by default the classes that the detector keeps, if any.
    n_neighbors : int
        How many to find.

    Raises
    ------
    ValueError
        If there are not as many labels, or samples in ``A_train``, as in ``fit``.
    """
    n_seen = detector.n_samples_seen_
    if A_train is not None and len(A_train) != n_seen:
        raise ValueError(
            f"{type(detector).__name__} was fitted on {n_seen} samples, but X_train has "
            f"{len(A_train)}. It keeps them, so X_train can be left out."
        )
    labels = _check_labels(y_train, n_seen)
    found = detector.nearest_examples(X, n_neighbors)
    if A_train is None:
        return found if labels is None else replace(found, labels=labels_at(labels, found.rows))
    if labels is None and found.labels is None:
        labels = A_train.predictions
    return replace(
        found,
        labels=found.labels if labels is None else labels_at(labels, found.rows),
        layers=_values_at(A_train, found.rows) | found.layers,
    )


def reference_examples(
    detector: Any,
    A: Activations,
    X: Any,
    A_train: Activations,
    y_train: ArrayLike | None,
    n_neighbors: int,
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
    y_train : array-like of shape (n_training_samples,) or None
        Labels of the training data; rows marked -1 are not looked at. By default the predicted
        classes, if there are any.
    n_neighbors : int
        How many to find.

    Raises
    ------
    ValueError
        If there are not as many labels as training samples, all of them are marked -1, or the
        detector finds neighbours among other samples than these.
    """
    labels = _check_labels(y_train, len(A_train))
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
    return NearestExamples(distances, rows, labels_at(labels, rows), _values_at(A_train, rows))


def _values_at(A_train: Activations, rows: NDArray[np.intp]) -> dict[str, NDArray]:
    """What the neurons of the rows found do; anything where there is none."""
    found = A_train[np.maximum(rows, 0).ravel()]
    return {
        name: _unpacked(found[name]).reshape(*rows.shape, *shape)
        for name, shape in found.layer_shapes.items()
    }


def _search(
    A: Activations, A_train: Activations, inside: NDArray[np.bool_], n_neighbors: int
) -> tuple[NDArray, NDArray[np.intp]]:
    """Distances to the nearest rows of the predicted class, where predictions are known."""
    if not inside.any():
        raise ValueError(f"All {len(A_train)} samples of X_train are marked -1 in y_train.")
    predicted, stored = A.predictions, A_train.predictions
    if predicted is None or stored is None:
        predicted, stored = np.zeros(len(A), dtype=int), np.zeros(len(A_train), dtype=int)
    are_bits = all(column.dtype == bool for column in layer_columns(A_train))
    scales = dict.fromkeys(A.layer_names, 1.0) if are_bits else _mean_squares(A_train[inside])
    distances = np.full((len(A), n_neighbors), np.inf)
    rows = np.full((len(A), n_neighbors), -1)
    for label in np.unique(predicted):
        samples = np.flatnonzero(predicted == label)
        candidates = np.flatnonzero(inside & (stored == label))
        if len(candidates) == 0:
            continue
        squares, nearest = _nearest(A[samples], A_train[candidates], scales, n_neighbors)
        distances[samples, : nearest.shape[1]] = squares if are_bits else np.sqrt(squares)
        rows[samples, : nearest.shape[1]] = candidates[nearest]
    return distances, rows


def _nearest(
    A: Activations, candidates: Activations, scales: dict[str, float], n_neighbors: int
) -> tuple[NDArray, NDArray[np.intp]]:
    """Squared distances to the nearest candidates, ascending, and the places of these.

    A block of candidates is read at a time; of those at the same distance, the first are nearest.
    """
    squares: NDArray = np.empty((len(A), 0))
    places: NDArray[np.intp] = np.empty((len(A), 0), dtype=np.intp)
    start = 0
    for block in candidates.batches():
        of_layers = [
            _squared_distances(A[name], block[name]) / scale for name, scale in scales.items()
        ]
        numbers = np.arange(start, start + len(block))
        squares = np.hstack([squares, np.sum(of_layers, axis=0)])
        places = np.hstack([places, np.broadcast_to(numbers, (len(A), len(block)))])
        order = np.argsort(squares, axis=1, kind="stable")[:, :n_neighbors]
        squares, places = (np.take_along_axis(of_all, order, 1) for of_all in (squares, places))
        start += len(block)
    return squares, places


def _mean_squares(A: Activations) -> dict[str, float]:
    """Mean squared norm of the samples in each layer; 1 where all are 0."""
    sums = dict.fromkeys(A.layer_names, 0.0)
    for block in A.batches():
        for name in sums:
            values = _unpacked(block[name]).ravel()
            sums[name] += float(np.einsum("i,i->", values, values, dtype=np.float64))
    return {name: total / len(A) or 1.0 for name, total in sums.items()}


def _unpacked(layer: Any) -> NDArray:
    return layer.unpack() if isinstance(layer, PackedBits) else layer


def _squared_distances(samples: Any, candidates: Any) -> NDArray:
    flat = [
        np.asarray(_unpacked(layer), dtype=np.float64).reshape(len(layer), -1)
        for layer in (samples, candidates)
    ]
    return euclidean_distances(*flat, squared=True)


def _check_labels(y_train: ArrayLike | None, n_samples: int) -> NDArray | None:
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
