"""Distance to the nearest training samples."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._side_by_side import split_layers
from .._sklearn import Interval
from .._too_few import TooFewSamplesError
from .._values import SQUARABLE, Floats
from .._warnings import warn_user
from ..activations import Activations
from ._base_incremental import BaseIncrementalDetector
from ._bounded_rows import BoundedRows, are_held
from ._neighbor_search import EuclideanNeighbors
from ._row_lengths import row_lengths
from ._stored_samples import StoredSamplesMixin, pad_neighbors


class KNNDetector(StoredSamplesMixin, BaseIncrementalDetector):
    """Distance to the k-th nearest training sample.

    Activations are divided by their norm, and the score is minus the Euclidean distance to those
    of the k-th nearest training sample [1]_.

    Parameters
    ----------
    n_neighbors : int, default=50
        Which of the nearest training samples counts: k.
    normalize : bool, default=True
        Whether to divide the activations of each sample, layer by layer, by their Euclidean norm.
        Samples without any activation are not changed.
    max_samples : int, default=None
        How many training samples are stored at most; all by default. Of more, equal ones are stored
        once, and of the different ones those whose hash is smallest: a random sample that depends
        neither on the order of the samples nor on the batches that they come in. k is then
        ``n_neighbors`` times the share of the samples that is stored. Where that is less than one
        half, as it may be where few samples differ, k is 1, and a warning says so.

    Attributes
    ----------
    stored_rows_ : ndarray of shape (n_stored_samples,)
        Rows of ``X`` in ``fit`` that are stored.
    n_neighbors_ : int
        The k that is used: ``n_neighbors``, or fewer if there are too few samples or not all are
        stored.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each with itself left out.

    See Also
    --------
    HammingNAPDetector : Distance between binary patterns, to samples of the predicted class.
    MahalanobisDetector : Distance to the mean of the nearest class.
    skood.preprocessing.LayerSelector :
        Restricts the layers in a pipeline; the paper reads the last hidden layer.

    Notes
    -----
    Several layers are put side by side. Where they are normalised, the whole is divided by the
    square root of their number, so that it has norm 1 too: the squared distance is then the mean
    of those of the layers, and no layer counts more because its activations are larger.

    The authors use k = 50 for 50,000 training images in 10 classes, and 1,000 for a million in
    1,000 classes. Where there are not k other training samples, the farthest of them counts.

    All training samples are stored, but for ``max_samples``: :ref:`what that costs
    <many_patterns_subsampling>` was measured. The search is exact; it uses faiss where that is
    installed, and scikit-learn otherwise. Where activations are
    normalised, ``nearest_examples`` gives them the norm of the sample that they are found for.

    References
    ----------
    .. [1] Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-distribution detection with deep nearest
       neighbors", ICML 2022. arXiv:2204.06507

    Examples
    --------
    >>> from skood.detectors import KNNDetector
    >>> X = [[0.0, 1.0], [0.0, 2.0], [0.0, 4.0], [0.0, 5.0]]
    >>> detector = KNNDetector(n_neighbors=2, normalize=False).fit(X)
    >>> detector.score_samples([[0.0, 2.0], [0.0, 9.0]])
    array([-1., -5.])
    >>> KNNDetector(n_neighbors=2).fit(X).score_samples([[0.0, 9.0], [2.0, 0.0]]).round(2)
    array([-0.  , -1.41])
    """

    _sizes_of_values = SQUARABLE
    _params_after_learning = BaseIncrementalDetector._params_after_learning | {"n_neighbors"}

    _parameter_constraints: dict = {
        **BaseIncrementalDetector._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "normalize": ["boolean"],
        "max_samples": [Interval(Integral, 2, None, closed="left"), None],
    }

    def __init__(
        self,
        *,
        n_neighbors: int = 50,
        normalize: bool = True,
        max_samples: int | None = None,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.n_neighbors = n_neighbors
        self.normalize = normalize
        self.max_samples = max_samples

    def _learn(self, X: Activations, y: NDArray | None) -> BoundedRows:
        rows = self._as_rows(X)
        if np.may_share_memory(rows, X[X.layer_names[0]]):
            rows = rows.copy()  # whoever made the samples may change them
        return BoundedRows.of(X, (rows,), self.max_samples)

    def _finish(self, summary: BoundedRows) -> None:
        (rows,) = summary.columns
        if len(rows) < 2:
            raise TooFewSamplesError(
                "KNNDetector needs at least 2 in-distribution samples, "
                f"got n_samples = {len(rows)}."
            )
        share = len(rows) / summary.n_seen if summary.keys_of_part is not None else 1
        wanted = max(1, round(self.n_neighbors * share))
        self._warn_if_too_few_are_stored(len(rows), share)
        self.n_neighbors_ = int(min(wanted, len(rows) - 1))
        if self.n_neighbors_ < wanted:
            warn_user(
                f"n_neighbors={self.n_neighbors}, but a sample has only {len(rows) - 1} others: "
                "the farthest one counts."
            )
        self.stored_rows_ = self._learnt_runs.at(summary.places)
        self._keys_of_part = summary.keys_of_part
        self._neighbors = EuclideanNeighbors(rows)

    def _warn_if_too_few_are_stored(self, n_stored: int, share: float) -> None:
        if self.n_neighbors > 1 and self.n_neighbors * share < 0.5:
            warn_user(
                f"max_samples={self.max_samples} stores {n_stored} of {n_stored / share:.0f} "
                f"samples, equal ones once: n_neighbors={self.n_neighbors} of all are less than "
                "one of these. The nearest one counts, as if n_neighbors were about "
                f"{1 / share:.0f}. Set n_neighbors to that or more, or store all samples by "
                "max_samples=None."
            )

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        rows, is_stored = self._as_rows(X), are_held(X, self._keys_of_part)
        scores = np.empty(len(rows))
        # No row is nearer to a sample than its own, so the next one is the k-th of the others.
        for chosen, k in ((is_stored, self.n_neighbors_ + 1), (~is_stored, self.n_neighbors_)):
            if chosen.any():
                scores[chosen] = -self._neighbors.kth_distances(rows[chosen], k)
        return scores

    def _as_rows(self, X: Activations) -> NDArray:
        """Layers side by side, in the precision of the input, single or double."""
        layers = [np.asarray(layer) for _, layer in X.items()]
        is_single = np.result_type(*layers, np.float32) == np.float32
        dtype = np.float32 if is_single else np.float64
        if self.normalize:
            length = 1 / np.sqrt(len(layers))
            layers = [_scale_rows(layer, length, dtype) for layer in layers]
        if len(layers) == 1:
            return layers[0].astype(dtype, copy=False)
        return np.concatenate(layers, axis=1, dtype=dtype)

    def _score_samples(self, X: Activations) -> Floats:
        return -self._neighbors.kth_distances(self._as_rows(X), self.n_neighbors_)

    def _stored_rows(self) -> NDArray[np.intp]:
        return self.stored_rows_

    def _nearest_stored(self, X: Activations, n_neighbors: int) -> tuple[NDArray, NDArray[np.intp]]:
        n_found = min(n_neighbors, len(self._neighbors.rows))
        found = self._neighbors.kneighbors(self._as_rows(X), n_found)
        return pad_neighbors(*found, n_neighbors, farthest=np.inf)

    def _stored_layers(self, X: Activations, positions: NDArray[np.intp]) -> dict[str, NDArray]:
        layers = split_layers(self._neighbors.rows[positions], X.layer_shapes)
        if not self.normalize:
            return layers
        return {name: _as_long_as(X[name], values) for name, values in layers.items()}


def _as_long_as(samples: Any, examples: NDArray) -> NDArray:
    """Examples with the norm of the sample that they are found for, as only directions are kept."""
    wanted = np.linalg.norm(samples, axis=1)[:, np.newaxis, np.newaxis]
    norms = np.linalg.norm(examples, axis=2, keepdims=True)
    scaled = examples * np.divide(
        wanted, norms, out=np.ones_like(norms), where=(norms > 0) & (wanted > 0)
    )
    # What was divided and multiplied again is not the same to the last bit.
    own = np.asarray(samples)[:, np.newaxis]
    return np.where(np.isclose(scaled, own, rtol=1e-6, atol=0), own, scaled)


def _scale_rows(rows: NDArray, length: float, dtype: type[np.floating]) -> NDArray:
    """Rows of the given Euclidean norm; rows of zeros stay so."""
    scaled = np.empty(rows.shape, dtype)
    for batch in row_batches(*rows.shape):
        # A copy in double precision is made faster than a step reads single precision as double.
        wide = rows[batch].astype(dtype, copy=False).astype(np.float64)
        norms = row_lengths(wide)
        wide /= np.where(norms > 0, norms / length, 1)[:, np.newaxis]
        scaled[batch] = wide
    return scaled
