"""The training samples nearest to a sample, for detectors that keep their training samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_scalar

from .._elsewhere import run_elsewhere
from .._marks import labels_at
from .._streams import check_fitted
from ..activations import Activations

_N_WITHOUT_OWN_NUMBER = 5


@dataclass(frozen=True, eq=False)
class NearestExamples:
    """The training samples nearest to each of some samples, and what their neurons do.

    Detectors that keep their training samples return it from ``nearest_examples``.

    Parameters
    ----------
    distances : ndarray of shape (n_samples, n_examples)
        Distances as the detector measures them, ascending.
    rows : ndarray of shape (n_samples, n_examples)
        Rows of the training samples in the ``X`` of ``fit``, or in the rows of all ``partial_fit``
        calls one after the other; -1 where there is no example.
    labels : ndarray of shape (n_samples, n_examples) or None
        Classes under which the detector keeps the examples, -1 or "" where there is none. None
        where it knows no classes.
    layers : dict of str to ndarray of shape (n_samples, n_examples, n_units)
        What each neuron of the examples does, in the layers that the detector reads: bits where it
        compares patterns. Where there is no example, the values mean nothing.

    See Also
    --------
    skood.inspection.explain : Explains a score by the nearest examples.

    Examples
    --------
    >>> from skood import Activations, HammingNAPDetector
    >>> A = Activations({"relu": [[1, 1, 0], [1, 0, 0], [0, 0, 1]]}, predictions=[0, 0, 1])
    >>> new = Activations({"relu": [[0, 1, 1]]}, predictions=[0])
    >>> found = HammingNAPDetector().fit(A).nearest_examples(new, 3)
    >>> found.distances, found.rows, found.labels
    (array([[2, 3, 3]]), array([[ 0,  1, -1]]), array([[ 0,  0, -1]]))
    >>> found.layers["relu"][0, 0].astype(int)
    array([1, 1, 0])
    """

    distances: NDArray
    rows: NDArray[np.intp]
    labels: NDArray | None
    layers: dict[str, NDArray]


class StoredSamplesMixin:
    """Finds training samples, in detectors that keep them.

    A subclass searches (``_nearest_stored``) and says what the neurons of the samples found do
    (``_stored_layers``). It names the rows that it keeps, where these are not all that it learned
    from (``_stored_rows``), and their classes, where it knows any (``_stored_labels``).
    """

    learnt_rows_: NDArray[np.intp]
    _validate: Callable[..., Activations]  # of BaseDetector

    @run_elsewhere("refuse")
    def kneighbors(self, X: Any, n_neighbors: int | None = None) -> tuple[NDArray, NDArray]:
        """Find the nearest training samples, among those that a sample is compared with.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Samples with the layers seen in ``fit``.
        n_neighbors : int, default=None
            How many to find; by default ``n_neighbors_`` of a detector that has it, otherwise 5.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_neighbors)
            Distances as the detector measures them, ascending.
        rows : ndarray of shape (n_samples, n_neighbors)
            Their rows in the ``X`` of ``fit``, or in the rows of all ``partial_fit`` calls one
            after the other. Where a sample is compared with fewer, the row is -1, and the distance
            the largest possible: the number of neurons for patterns, otherwise infinity.

        Raises
        ------
        TypeError
            If ``n_neighbors`` is not an integer, or True or False.
        ValueError
            If ``n_neighbors`` is below 1, or ``X`` is refused as by ``score_samples``.
        """
        check_fitted(self)
        if n_neighbors is None:
            n_neighbors = getattr(self, "n_neighbors_", _N_WITHOUT_OWN_NUMBER)
        n_neighbors = _as_count(n_neighbors, "n_neighbors")
        distances, positions = self._nearest_stored(self._validate(X, reset=False), n_neighbors)
        return distances, self._rows_at(positions)

    @run_elsewhere("refuse")
    def nearest_examples(self, X: Any, n_examples: int = 5) -> NearestExamples:
        """Find the nearest training samples, and what their neurons do.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Samples with the layers seen in ``fit``.
        n_examples : int, default=5
            How many to find.

        Returns
        -------
        NearestExamples
            Distances and rows as from ``kneighbors``, classes, and the values of all neurons.

        Raises
        ------
        TypeError
            If ``n_examples`` is not an integer, or True or False.
        ValueError
            If ``n_examples`` is below 1, or ``X`` is refused as by ``score_samples``.
        """
        check_fitted(self)
        n_examples = _as_count(n_examples, "n_examples")
        X = self._validate(X, reset=False)
        distances, positions = self._nearest_stored(X, n_examples)
        return NearestExamples(
            distances,
            self._rows_at(positions),
            self._labels_of(X, positions),
            self._stored_layers(X, np.maximum(positions, 0)),
        )

    @abstractmethod
    def _nearest_stored(self, X: Activations, n_neighbors: int) -> tuple[NDArray, NDArray[np.intp]]:
        """Distances, and positions among the stored samples, -1 where there are too few.

        Both have the shape (n_samples, n_neighbors).
        """

    @abstractmethod
    def _stored_layers(self, X: Activations, positions: NDArray[np.intp]) -> dict[str, NDArray]:
        """Values of the stored samples at positions of shape (n_samples, n_examples), by layer."""

    def _stored_rows(self) -> NDArray[np.intp]:
        return self.learnt_rows_

    def _labels_of(self, X: Activations, positions: NDArray[np.intp]) -> NDArray | None:
        """Classes of the stored samples at the positions that were found for ``X``."""
        return labels_at(self._stored_labels(), positions)

    def _stored_labels(self) -> NDArray | None:
        return None

    def _rows_at(self, positions: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.where(positions < 0, -1, self._stored_rows()[positions])


def _as_count(count: Any, name: str) -> int:
    """A Python integer, as faiss takes no other, and small types of NumPy overflow in sums."""
    if isinstance(count, bool):
        raise TypeError(f"{name} must be an integer of at least 1, got {count!r}.")
    check_scalar(count, name, Integral, min_val=1)
    return int(count)


def pad_neighbors(
    distances: NDArray, positions: NDArray, n_neighbors: int, farthest: float
) -> tuple[NDArray, NDArray]:
    """Fill both up to ``n_neighbors`` columns: none is found there."""
    missing = [(0, 0), (0, n_neighbors - distances.shape[1])]
    return (
        np.pad(distances, missing, constant_values=farthest),
        np.pad(positions, missing, constant_values=-1),
    )
