"""Distance to the nearest cluster of training samples."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import pairwise_distances, silhouette_score
from sklearn.utils import resample

from .._batches import row_batches
from .._sklearn import Interval, StrOptions
from .._streams import check_fitted
from .._values import SQUARABLE, Floats
from ..activations import Activations
from ._base import BaseOneClassDetector

_MOST_CLUSTERS = 32
"""Up to which number of clusters "auto" looks for the best."""
_SILHOUETTE_SAMPLES = 3_000
"""Of how many samples "auto" computes silhouettes, which needs the distances of all pairs."""
_KMEANS_SAMPLES = 10_000
"""Up to how many samples plain k-means is the default."""


class ClusterDistanceDetector(BaseOneClassDetector):
    """Distance to the nearest cluster of training samples, relative to the cluster's own spread.

    k-means finds clusters of the training patterns [1]_. The cluster distance coefficient (CDC) of
    a sample is the distance to the nearest cluster centre, divided by the mean distance of that
    cluster's training samples; the score is minus the CDC. A sample matches where the network
    predicts the dominant class of its cluster, as it mostly does where it is right.

    Parameters
    ----------
    n_clusters : int or "auto", default="auto"
        Number of clusters. "auto" chooses, of 2 to 32, the one with the largest mean silhouette.
        There are never more clusters than distinct training samples.
    kmeans : KMeans or MiniBatchKMeans, default=None
        Clones of it, with ``n_clusters`` and ``random_state`` set anew, find the clusters. By
        default :class:`~sklearn.cluster.KMeans` for up to 10,000 samples and
        :class:`~sklearn.cluster.MiniBatchKMeans` for more, both with ``n_init=3``.
    reject_mismatch : bool, default=False
        Whether a sample is out-of-distribution, however near, where the predicted class
        is not the dominant class of its cluster.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of the in-distribution training samples that the threshold rejects. With
        ``reject_mismatch=True`` those that do not match are among them; where they are more, they
        are all that is rejected.
    random_state : int, RandomState instance or None, default=None
        Sets where k-means starts, and the samples of which silhouettes are computed. Pass an int
        for the same clusters in every call.

    Attributes
    ----------
    n_clusters_ : int
        Number of clusters.
    cluster_centers_ : ndarray of shape (`n_clusters_`, `n_features_in_`)
        Their centres.
    mean_distances_ : ndarray of shape (`n_clusters_`,)
        Mean distance of each cluster's training samples to its centre.
    center_samples_ : ndarray of shape (`n_clusters_`,)
        Row of ``X`` in ``fit`` of each cluster's training sample that is nearest to the centre, the
        first one on ties.
    dominant_classes_ : ndarray of shape (`n_clusters_`,)
        Class that the network predicted most often for each cluster's training samples, the
        lowest on ties; only where ``fit`` saw predictions.
    silhouettes_ : dict of int to float
        Mean silhouette for each number of clusters that was tried; only with ``n_clusters="auto"``.
    training_labels_ : ndarray of shape (n_in_distribution_samples,)
        Cluster of each training sample.

    See Also
    --------
    PercentileBinarizer : Makes patterns; those of the thesis with ``rule="rank"``.
    HammingNAPDetector : Distance to the nearest pattern of the predicted class.
    skood.preprocessing.LayerSelector :
        Restricts the layers in a pipeline; the thesis clusters one at a time.

    Notes
    -----
    Layers are put side by side, bits as 0 and 1, and distances are Euclidean. Real-valued
    activations are not binarised first.

    The silhouette needs the distances of all pairs of samples. Of more than 3,000 training samples
    "auto" therefore draws 3,000 at random, without replacement, and compares the numbers of
    clusters on these; then it clusters all samples with the best one. With fewer than three
    distinct samples there is one cluster.

    k-means needs all samples at once, side by side in memory: there is no ``partial_fit``.

    A cluster whose samples are all the same has a mean distance of 0. Distances to its centre are
    divided by the smallest positive mean distance of another cluster, or by 1 if there is none.

    With ``reject_mismatch=True`` the score of a sample that does not match is lowered by one more
    than the largest CDC of a matching training sample, which puts it below the threshold.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood import Activations, ClusterDistanceDetector
    >>> patterns = [[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 1, 1]]
    >>> A = Activations({"relu1": patterns}, predictions=[3, 3, 3, 8, 8, 8])
    >>> detector = ClusterDistanceDetector(n_clusters=2, random_state=0).fit(A)
    >>> detector.cluster_distance(A).round(2)
    array([0.75, 1.5 , 0.75, 0.75, 1.5 , 0.75])
    >>> others = Activations({"relu1": [[1, 0, 0], [1, 0, 0]]}, predictions=[3, 8])
    >>> detector.matches(others)
    array([ True, False])
    """

    _sizes_of_values = SQUARABLE

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
        "n_clusters": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "kmeans": [KMeans, MiniBatchKMeans, None],
        "reject_mismatch": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_clusters: int | str = "auto",
        kmeans: KMeans | MiniBatchKMeans | None = None,
        reject_mismatch: bool = False,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.n_clusters = n_clusters
        self.kmeans = kmeans
        self.reject_mismatch = reject_mismatch
        self.random_state = random_state

    def _fit(self, X: Activations, y: NDArray | None) -> None:
        if self.reject_mismatch and X.predictions is None:
            raise ValueError("reject_mismatch=True needs predictions, but X carries none.")
        matrix = _as_matrix(X)
        centers = _means(matrix, self._partition(matrix))
        labels, distances = _nearest(matrix, centers)
        # Once all samples have gone to the nearest centre, a cluster may be left without any.
        used, self.training_labels_ = np.unique(labels, return_inverse=True)
        self.cluster_centers_ = centers[used]
        self.n_clusters_ = len(used)
        sizes = np.bincount(self.training_labels_)
        self.mean_distances_ = np.bincount(self.training_labels_, distances) / sizes
        nearest_first = np.lexsort((distances, self.training_labels_))
        self.center_samples_ = self._learnt_runs.at(nearest_first[np.cumsum(sizes) - sizes])
        self._learn_classes(X.predictions, distances)

    def _partition(self, matrix: NDArray) -> NDArray:
        """Cluster of each training sample, by k-means."""
        if not isinstance(self.n_clusters, str):
            return self._k_means(matrix, _count_distinct(matrix, at_most=self.n_clusters))
        sample = matrix
        if len(matrix) > _SILHOUETTE_SAMPLES:
            sample = resample(
                matrix,
                replace=False,
                n_samples=_SILHOUETTE_SAMPLES,
                random_state=self.random_state,
            )
        partitions = {k: self._k_means(sample, k) for k in _candidates(sample)}
        distances = pairwise_distances(_spread_out(sample))
        # Of rows that are nearly equal, k-means may make fewer clusters than requested.
        self.silhouettes_ = {
            k: float(silhouette_score(distances, labels, metric="precomputed"))
            for k, labels in partitions.items()
            if 2 <= len(np.unique(labels)) < len(labels)
        }
        best = max(self.silhouettes_, key=self.silhouettes_.__getitem__, default=1)
        if sample is matrix and best in partitions:
            return partitions[best]
        return self._k_means(matrix, best)

    def _k_means(self, matrix: NDArray, n_clusters: int) -> NDArray:
        if self.kmeans is not None:
            kmeans = clone(self.kmeans)
        elif len(matrix) <= _KMEANS_SAMPLES:
            kmeans = KMeans(n_init=3)
        else:
            kmeans = MiniBatchKMeans(n_init=3)
        kmeans.set_params(n_clusters=n_clusters, random_state=self.random_state)
        return kmeans.fit(matrix).labels_

    def _learn_classes(self, predictions: NDArray | None, distances: Floats) -> None:
        self._largest_matching = 0.0
        if predictions is None:
            return
        classes, codes = np.unique(predictions, return_inverse=True)
        votes = np.zeros((self.n_clusters_, len(classes)), dtype=np.intp)
        np.add.at(votes, (self.training_labels_, codes), 1)
        dominant = votes.argmax(axis=1)
        self.dominant_classes_ = classes[dominant]
        coefficients = self._coefficients(self.training_labels_, distances)
        self._largest_matching = coefficients[codes == dominant[self.training_labels_]].max()

    def _coefficients(self, labels: NDArray, distances: Floats) -> Floats:
        """CDC of samples, given their clusters and the distances to the centres."""
        is_positive = self.mean_distances_ > 0
        otherwise = self.mean_distances_[is_positive].min() if is_positive.any() else 1.0
        return distances / np.where(is_positive, self.mean_distances_, otherwise)[labels]

    def _score_samples(self, X: Activations) -> Floats:
        labels, distances = _nearest(X, self.cluster_centers_)
        scores = -self._coefficients(labels, distances)
        if self.reject_mismatch:
            scores[~self._matches(X, labels)] -= 1 + self._largest_matching
        return scores

    def _threshold(self, training_scores: Floats) -> float:
        threshold = super()._threshold(training_scores)
        if not self.reject_mismatch:
            return threshold
        # Where too few training samples match, the percentile lies below those that do, and would
        # let others pass.
        return max(threshold, -float(self._largest_matching))

    def cluster_distance(self, X: Activations | ArrayLike) -> Floats:
        """Cluster distance coefficient (CDC) of each sample.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Patterns or activations of the layers seen in ``fit``.

        Returns
        -------
        coefficients : ndarray of shape (n_samples,)
            Distance to the nearest cluster centre, as a multiple of the mean distance of that
            cluster's training samples.
        """
        check_fitted(self)
        X = self._validate(X, reset=False)
        return self._coefficients(*_nearest(X, self.cluster_centers_))

    def matches(self, X: Activations | ArrayLike) -> NDArray[np.bool_]:
        """Return for which samples the network predicts the dominant class of their cluster.

        Parameters
        ----------
        X : Activations
            Patterns or activations of the layers seen in ``fit``, with predictions.

        Returns
        -------
        matching : ndarray of shape (n_samples,), dtype bool
            Whether the predicted class is the dominant class of the nearest cluster.

        Raises
        ------
        ValueError
            If ``X``, or the samples of ``fit``, carry no predictions.
        """
        check_fitted(self)
        X = self._validate(X, reset=False)
        return self._matches(X, _nearest(X, self.cluster_centers_)[0])

    def _matches(self, X: Activations, labels: NDArray) -> NDArray[np.bool_]:
        if not hasattr(self, "dominant_classes_"):
            raise ValueError(
                "Which samples match is not known: ClusterDistanceDetector was fitted on X that "
                "carried no predictions."
            )
        return self._lookup_classes(X) == self.dominant_classes_[labels]


def _as_matrix(X: Activations) -> NDArray:
    """Layers side by side, as 64-bit floats unless k-means can square them in single precision."""
    matrix = np.asarray(X)
    is_single = matrix.dtype == np.float32 and 1e-12 < np.abs(matrix).max() < 1e12
    return matrix if is_single else matrix.astype(np.float64, copy=False)


def _spread_out(rows: NDArray) -> Floats:
    """The same rows about their mean and in units of the largest difference from it.

    Distances come from the expanded square, which far from the origin loses what is small.
    """
    centered = rows - rows.mean(axis=0, dtype=np.float64)
    return centered / (np.abs(centered).max() or 1.0)


def _candidates(sample: NDArray) -> range:
    """The numbers of clusters that "auto" compares."""
    n_distinct = _count_distinct(sample, at_most=_MOST_CLUSTERS)
    if n_distinct < 3:
        return range(0)
    # The silhouette is not defined where every sample is a cluster of its own.
    return range(2, min(n_distinct, len(sample) - 1) + 1)


def _count_distinct(matrix: NDArray, *, at_most: int) -> int:
    """Number of distinct rows, counted no further than ``at_most``."""
    distinct = matrix[:0]
    for rows in row_batches(len(matrix), matrix.shape[1]):
        distinct = np.unique(np.concatenate([distinct, matrix[rows]]), axis=0)
        if len(distinct) >= at_most:
            return at_most
    return len(distinct)


def _means(matrix: NDArray, labels: NDArray) -> Floats:
    """Mean of the rows with each label, ndarray of shape (n_labels, n_features), as float64.

    They are taken relative to one of the rows, so that the mean of equal rows is exactly theirs.
    """
    means = []
    for label in np.unique(labels):
        members = matrix[labels == label].astype(np.float64)
        first = members[0].copy()
        means.append(first + (members - first).mean(axis=0))
    return np.array(means)


def _nearest(X: Activations | NDArray, centers: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Nearest centre of each sample, the first one on ties, and the distance to it."""
    labels = np.empty(len(X), dtype=np.intp)
    distances = np.empty(len(X))
    for rows in row_batches(len(X), max(centers.shape)):
        # Not from the expanded square, whose rounding leaves a sample on its centre off it, and
        # depends on the other samples of the batch.
        to_all = cdist(np.asarray(X[rows], dtype=np.float64), centers)
        labels[rows] = to_all.argmin(axis=1)
        distances[rows] = to_all.min(axis=1)
    return labels, distances
