"""The density of activations under one Gaussian for each class and unit."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

from .._batches import row_batches
from .._classes import GROUP_BY
from .._labels import find_classes
from .._sklearn import Interval
from .._streams import check_fitted
from .._values import SQUARABLE, Floats
from ..activations import Activations
from ._base_incremental import BaseIncrementalDetector, layers_of
from ._class_moments import ClassMoments, Moments


class GaussianActivationDetector(BaseIncrementalDetector):
    """Density of the activations under the Gaussians of the predicted class.

    Each class has a mean and a variance for each unit [1]_. The score of a sample is its log
    density under those of its predicted class, with units taken as independent. Whole groups of
    samples are compared with their class by :meth:`kl_divergence`.

    Parameters
    ----------
    variance_floor : float, default=0.01
        Smallest variance, relative to the mean variance within classes of the units of the layer.
    n_threshold_samples : int, default=None
        How many training samples set the threshold, of ``fit`` and of batches alike. By default all
        do in ``fit``, and for later batches as many are stored as for any detector.

    Attributes
    ----------
    means_ : ndarray of shape (n_classes, `n_features_in_`)
        Mean of each unit in each class that has samples.
    variances_ : ndarray of shape (n_classes, `n_features_in_`)
        Their variances, none below the floor.
    class_counts_ : ndarray of shape (n_classes,)
        Number of training samples of each class.
    class_labels_ : ndarray of shape (n_classes,)
        The classes, ascending; one class 0 where ``fit`` saw no predictions.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each with itself left out.

    See Also
    --------
    ActivationIntervalDetector : Counts the units that leave the range of their class.
    MahalanobisDetector : One covariance for all classes, which knows how units vary together.

    Notes
    -----
    Several layers are put side by side. Units that never vary within a class, such as dead ones,
    have the variance of the floor; in a layer where none varies it is 1.

    Batches and merged detectors combine counts, means and sums of squared deviations [2]_, so that
    means, variances and scores are those of one ``fit`` but for rounding, in any order.
    The threshold needs scores under the final Gaussians, and for these some samples are stored.
    A hash of their values selects them, so that the choice depends neither on chance nor on the
    order.

    A sample whose predicted class has no Gaussian scores one below every training sample of another
    class, and is rejected. Where the training samples of such classes are more than the threshold
    rejects, they are all that it rejects.

    References
    ----------
    .. [1] S. K. Gaddipati, J. Bandlamudi, "Monitoring neuron activations for out of distribution
       detection", Hochschule Bonn-Rhein-Sieg, 2020 (slides).
    .. [2] T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for
       computing sample variances", COMPSTAT 1982. https://doi.org/10.1007/978-3-642-51461-6_3

    Examples
    --------
    >>> from skood import Activations
    >>> from skood.detectors import GaussianActivationDetector
    >>> A = Activations({"fc": [[0], [2], [5], [9]]}, predictions=[0, 0, 1, 1])
    >>> detector = GaussianActivationDetector().fit(A)
    >>> detector.means_.ravel(), detector.variances_.ravel()
    (array([1., 7.]), array([1., 4.]))
    >>> new = Activations({"fc": [[1], [1]]}, predictions=[0, 1])
    >>> detector.score_samples(new).round(2)
    array([-0.92, -6.11])
    """

    _sizes_of_values = SQUARABLE
    _rejects_unknown_classes = True
    _params_after_learning = BaseIncrementalDetector._params_after_learning | {"variance_floor"}

    _parameter_constraints: dict = {
        **BaseIncrementalDetector._parameter_constraints,
        "variance_floor": [Interval(Real, 0, None, closed="neither")],
        "group_by": GROUP_BY,
        "n_threshold_samples": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        *,
        variance_floor: float = 0.01,
        group_by: str = "prediction",
        n_threshold_samples: int | None = None,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.variance_floor = variance_floor
        self.group_by = group_by
        self.n_threshold_samples = n_threshold_samples

    def _learn(self, X: Activations, y: NDArray | None) -> ClassMoments:
        return ClassMoments.of(np.asarray(X), self._training_classes(X, y))

    def _finish(self, summary: ClassMoments) -> None:
        self._check_any_counts(len(summary.moments))
        self.class_labels_ = np.unique(list(summary.moments))
        moments = [summary.moments[label] for label in self.class_labels_]
        self.class_counts_ = np.array([m.count for m in moments])
        self.means_ = np.array([m.mean for m in moments])
        self._squares = np.array([m.squares for m in moments])
        self._floor = self._find_floor()
        self.variances_ = np.maximum(self._squares / self.class_counts_[:, np.newaxis], self._floor)

    def _max_threshold_samples(self) -> int | None:
        return self.n_threshold_samples

    def _find_floor(self) -> Floats:
        """Smallest variance of each unit, one value in a layer."""
        shares = self.class_counts_ / self.class_counts_.sum()
        variances = self._squares.sum(axis=0) / self.class_counts_.sum()
        sizes = variances + shares @ self.means_**2
        widths = [np.prod(shape, dtype=int) for _, shape in layers_of(self)]
        layer_of_unit = np.repeat(np.arange(len(widths)), widths)
        spread = np.bincount(layer_of_unit, variances) / widths
        size = np.bincount(layer_of_unit, sizes) / widths
        # What is left of a constant after subtracting its rounded mean is no spread.
        floor = np.where(spread > np.finfo(float).eps * size, self.variance_floor * spread, 1.0)
        return floor[layer_of_unit]

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        is_own = self._training_classes(X, y).finds_itself
        return self._scores(X, is_own)

    def _score_samples(self, X: Activations) -> Floats:
        return self._scores(X, np.zeros(len(X), dtype=bool))

    def _scores(self, X: Activations, is_left_out: NDArray[np.bool_]) -> Floats:
        """Log densities, of some samples by the others of their class."""
        position, has_gaussian = find_classes(self._lookup_classes(X), self.class_labels_)
        scores = np.empty(len(X))
        for rows in row_batches(len(X), 2 * self.n_features_in_):
            samples = np.asarray(X[rows], dtype=np.float64)
            scores[rows] = self._log_densities(samples, position[rows])
            if is_left_out[rows].any():
                left_out = self._left_out_log_densities(samples, position[rows])
                scores[rows] = np.where(is_left_out[rows], left_out, scores[rows])
        return self._reject_unknown(scores, has_gaussian)

    def _log_densities(self, samples: Floats, position: NDArray[np.intp]) -> Floats:
        return _log_densities(samples - self.means_[position], self.variances_[position])

    def _left_out_log_densities(self, samples: Floats, position: NDArray[np.intp]) -> Floats:
        """Densities by means and variances of the other samples of the class."""
        count = self.class_counts_[position][:, np.newaxis]
        # The only sample of its class has no others: it is compared with itself.
        n_others = np.maximum(count - 1, 1)
        deviations = samples - self.means_[position]
        squares = self._squares[position] - deviations**2 * count / n_others
        variances = np.maximum(squares / n_others, self._floor)
        return _log_densities(deviations * count / n_others, variances)

    def kl_divergence(
        self, X: Activations | ArrayLike, groups: str | ArrayLike = "prediction"
    ) -> dict[Any, float]:
        """Compare the Gaussians of groups of samples with those of their class.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.
        groups : "prediction" or array-like of shape (n_samples,), default="prediction"
            The class of each sample; those of one class are a group. Without classes, as after
            ``fit`` on an ordinary array, groups may have any names.

        Returns
        -------
        divergences : dict of label to float
            By group, the Kullback-Leibler divergence of its Gaussians from those of its class in
            nats, summed over units. It is infinite for a class that has no training samples.

        Raises
        ------
        ValueError
            If ``groups`` is another string or of another length.

        Notes
        -----
        Variances of groups have the same floor as those of classes. A group of few samples
        has variances that are too small, and so a divergence that is too large: compare
        groups of like size.

        Examples
        --------
        >>> from skood.detectors import GaussianActivationDetector
        >>> detector = GaussianActivationDetector().fit([[0.0], [2.0]])
        >>> detector.kl_divergence([[0.0], [2.0], [1.0], [3.0]], groups=["a", "a", "b", "b"])
        {'a': 0.0, 'b': 0.5}
        """
        check_fitted(self)
        X = self._validate(X, reset=False)
        groups = self._check_groups(X, groups)
        rows, divergences = np.asarray(X), {}
        for group in np.unique(groups).tolist():
            moments = Moments.of(rows[groups == group])
            known = np.flatnonzero(self.class_labels_ == group) if self._by_class else [0]
            divergence = self._divergence(moments, known[0]) if len(known) else np.inf
            divergences[group] = float(divergence)
        return divergences

    def _check_groups(self, X: Activations, groups: str | ArrayLike) -> NDArray:
        if isinstance(groups, str):
            if groups != "prediction":
                raise ValueError(f"groups must be 'prediction' or an array, got {groups!r}.")
            return self._lookup_classes(X)
        names: NDArray = column_or_1d(groups)
        if len(names) != len(X):
            raise ValueError(f"X has {len(X)} samples, but groups has {len(names)}.")
        return names

    def _divergence(self, moments: Moments, position: int) -> float:
        mean, variance = self.means_[position], self.variances_[position]
        group_variance = np.maximum(moments.squares / moments.count, self._floor)
        ratio = group_variance / variance
        distance = (moments.mean - mean) ** 2 / variance
        return 0.5 * np.sum(ratio - 1 - np.log(ratio) + distance)


def _log_densities(deviations: Floats, variances: Floats) -> Floats:
    return -0.5 * np.sum(deviations**2 / variances + np.log(2 * np.pi * variances), axis=1)
