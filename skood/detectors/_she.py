"""Similarity with the mean activations of the predicted class."""

import numpy as np

from .._batches import row_batches
from .._classes import check_class_labels, find_classes, lookup_classes
from .._sklearn import StrOptions
from .._values import SQUARABLE, below_all
from .._warnings import warn_user
from ._base import BaseOneClassDetector
from ._row_lengths import row_lengths


class SHEDetector(BaseOneClassDetector):
    """Similarity with the mean activations of the predicted class.

    The pattern of a class is the mean of the activations of the training samples that the network
    rightly predicts to be of that class. The score of a sample is how similar it is to the pattern
    of its predicted class, the simplified Hopfield energy (SHE) [1]_.

    Parameters
    ----------
    metric : {"inner_product", "cosine", "euclidean"}, default="inner_product"
        What similarity is: the inner product, as in the paper, its quotient by both norms, or
        minus the distance.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of the in-distribution training samples that the threshold rejects.

    Attributes
    ----------
    patterns_ : ndarray of shape (n_classes, `n_features_in_`)
        Pattern of each class that has one.
    class_labels_ : ndarray of shape (n_classes,)
        Their classes, ascending; one class 0 where ``fit`` saw no predictions.
    training_rows_ : ndarray of shape (n_in_distribution_samples,)
        Rows of ``X`` in ``fit`` that were learnt from: those not marked -1.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores.
    offset_ : float
        Threshold on ``score_samples``.
    n_samples_seen_ : int
        Number of rows of ``X`` in ``fit``.
    n_features_in_ : int
        Number of units seen in ``fit``, over all layers.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where ``fit`` saw a data frame with string names.
    layer_shapes_ : dict of str to tuple
        Shape of one sample in each layer, where ``fit`` saw ``Activations``.

    See Also
    --------
    MahalanobisDetector : Distance to the nearest class, in units of the spread of classes.
    skood.preprocessing.LayerSelector :
        Restricts the layers in a pipeline; the paper reads the last hidden layer.

    Notes
    -----
    ``y`` tells which predictions are right. Without it, or where it holds one label only, as 1
    for in-distribution beside -1, the pattern of a class is the mean of all training samples with
    that prediction. Without predictions, as in an ordinary array, all samples are of one class.

    A class that has no pattern, because it was never predicted in training or never rightly, tells
    against a sample: its score is the smallest score of another training sample, less one, which is
    below the threshold. Where the training samples of such classes are more than the threshold
    rejects, they are all that it rejects.

    Several layers are put side by side. The cosine with a pattern or a sample that is 0
    everywhere is 0.

    References
    ----------
    .. [1] J. Zhang, Q. Fu, X. Chen, L. Du, Z. Li, G. Wang, X. Liu, S. Han, D. Zhang,
       "Out-of-distribution detection based on in-distribution data patterns memorization with
       modern Hopfield energy", ICLR 2023. https://openreview.net/forum?id=KkazG4lgKL

    Examples
    --------
    >>> from skood import Activations
    >>> from skood.detectors import SHEDetector
    >>> A = Activations({"fc": [[3, 0], [1, 0], [0, 2], [1, 1]]}, predictions=[0, 0, 1, 1])
    >>> detector = SHEDetector().fit(A, [0, 0, 1, 0])
    >>> detector.patterns_
    array([[2., 0.],
           [0., 2.]])
    >>> detector.score_samples(A)
    array([6., 2., 4., 2.])
    """

    _sizes_of_values = SQUARABLE

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
        "metric": [StrOptions({"inner_product", "cosine", "euclidean"})],
    }

    def __init__(self, *, metric="inner_product", false_alarm_rate=0.05):
        super().__init__(false_alarm_rate=false_alarm_rate)
        self.metric = metric

    def fit(self, X, y=None):
        """Learn the patterns of the in-distribution samples and set the threshold.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations by layer, or those of one layer.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution sample, which is left out.

        Returns
        -------
        self : object
            Fitted detector.

        Raises
        ------
        ValueError
            If values are not finite, no sample is in-distribution or classified correctly, or a
            label is not among the classes of the network.
        """
        return super().fit(X, y)

    def _fit(self, X, y):
        self._by_class = X.predictions is not None
        asked = lookup_classes(self, X, by_class=self._by_class)
        if self._by_class and y is not None and len(np.unique(y)) > 1:
            check_class_labels(X, y, "SHEDetector")
            is_right = np.flatnonzero(asked == y)
            if len(is_right) == 0:
                raise ValueError(
                    "No pattern to learn: SHEDetector needs a sample that is classified correctly, "
                    f"but none of {len(X)} is."
                )
            X, asked = X[is_right], asked[is_right]
        matrix = np.asarray(X)
        self.class_labels_ = np.unique(asked)
        self.patterns_ = np.array(
            [matrix[asked == label].mean(axis=0, dtype=np.float64) for label in self.class_labels_]
        )
        self._warn_of_silent_patterns()

    def _warn_of_silent_patterns(self):
        silent = self.class_labels_[~self.patterns_.any(axis=1)]
        if len(silent) and self.metric != "euclidean":
            warn_user(
                f"No unit is active in the training samples of the classes {silent.tolist()}: with "
                f"metric={self.metric!r}, the score of all samples of these classes is 0. Use "
                "metric='euclidean', or leave silent layers out, for example by LayerSelector."
            )

    def _score_training_samples(self, X):
        scores, has_pattern = self._similarities(X)
        self._unknown_class_score = below_all(scores[has_pattern])
        return np.where(has_pattern, scores, self._unknown_class_score)

    def _score_samples(self, X):
        scores, has_pattern = self._similarities(X)
        return np.where(has_pattern, scores, self._unknown_class_score)

    def _similarities(self, X):
        """Similarity to the pattern of the predicted class, and whether there is one."""
        asked = lookup_classes(self, X, by_class=self._by_class)
        position, has_pattern = find_classes(asked, self.class_labels_)
        scores = np.empty(len(X))
        for rows in row_batches(*X.shape):
            samples = np.asarray(X[rows], dtype=np.float64)
            scores[rows] = self._similarity(samples, self.patterns_[position[rows]])
        return scores, has_pattern

    def _similarity(self, samples, patterns):
        if self.metric == "euclidean":
            return -np.linalg.norm(samples - patterns, axis=1)
        products = np.einsum("sf,sf->s", samples, patterns)
        if self.metric == "inner_product":
            return products
        norms = row_lengths(samples) * row_lengths(patterns)
        return np.divide(products, norms, out=np.zeros(len(products)), where=norms > 0)
