"""The density of activations under one Gaussian for each class and unit."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils.validation import check_is_fitted, column_or_1d

from .._batches import row_batches
from .._classes import check_class_labels, find_classes, lookup_classes
from .._fit_context import fit_context, unchanged_on_failure
from .._marks import in_distribution_rows, take_rows
from .._sklearn import Interval, StrOptions
from .._validation import ARRAY_LAYER
from .._values import SQUARABLE, below_all
from ._base import BaseOneClassDetector
from ._class_moments import Moments, Samples, Seen, hash_rows


class GaussianActivationDetector(BaseOneClassDetector):
    """Density of the activations under the Gaussians of the predicted class.

    Each class has a mean and a variance for each unit [1]_. The score of a sample is its log
    density under those of its predicted class, with units taken as independent. Whole groups of
    samples are compared with their class by :meth:`kl_divergence`.

    Parameters
    ----------
    variance_floor : float, default=0.01
        Smallest variance, relative to the mean variance within classes of the units of the layer.
    group_by : {"prediction", "label"}, default="prediction"
        Class that a training sample counts for: the one that the network predicted, or the one
        that ``y`` tells. Samples are always scored under their predicted class.
    threshold_samples : int, default=10000
        How many training samples to store. They set the threshold.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of the in-distribution training samples that the threshold rejects, each scored with
        itself left out.

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
    training_rows_ : ndarray of shape (n_in_distribution_samples,)
        Rows that were learnt from: those not marked -1.
    training_scores_ : ndarray of shape (n_stored_samples,)
        Scores of the stored samples, in the order of rows, each with itself left out.
    offset_ : float
        Threshold on ``score_samples``.
    n_samples_seen_ : int
        Number of rows that ``fit`` and ``partial_fit`` were given, here and in merged detectors.
    n_features_in_ : int
        Number of units seen in ``fit``, over all layers.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where ``fit`` saw a data frame with string names.
    layer_shapes_ : dict of str to tuple
        Shape of one sample in each layer, where ``fit`` saw ``Activations``.

    See Also
    --------
    ActivationIntervalDetector : Counts the units that leave the range of their class.
    MahalanobisDetector : One covariance for all classes, which knows how units vary together.

    Notes
    -----
    Several layers are put side by side. Units that never vary within a class, such as dead ones,
    have the variance of the floor; in a layer where none varies it is 1.

    Batches and merged detectors combine counts, means and sums of squared deviations [2]_, so that
    means, variances and scores are those of one ``fit`` but for rounding, in whatever order.
    The threshold needs scores under the final Gaussians, and for these some samples are stored.
    Which ones is told by a hash of their values, as if by chance, but always the same whatever the
    order. Up to ``threshold_samples`` all are stored.

    A sample whose predicted class has no Gaussian scores less, by one, than 0 and than any stored
    sample of another class, and is rejected. Where the training samples of such classes are more
    than the threshold rejects, they are all that it rejects.

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

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
        "variance_floor": [Interval(Real, 0, None, closed="neither")],
        "group_by": [StrOptions({"prediction", "label"})],
        "threshold_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        variance_floor=0.01,
        group_by="prediction",
        threshold_samples=10_000,
        false_alarm_rate=0.05,
    ):
        super().__init__(false_alarm_rate=false_alarm_rate)
        self.variance_floor = variance_floor
        self.group_by = group_by
        self.threshold_samples = threshold_samples

    def fit(self, X, y=None):
        """Learn the Gaussians of the in-distribution samples and set the threshold.

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
            If values are not finite, no sample is in-distribution, or labels or predictions are
            missing that ``group_by="label"`` asks for.
        """
        return super().fit(X, y)

    def _fit(self, X, y):
        self._by_class = X.predictions is not None
        widths = [np.prod(shape, dtype=int) for shape in X.layer_shapes.values()]
        self._layer_of_unit = np.repeat(np.arange(len(widths)), widths)
        self._remember(self._read(X, y))

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Learn from more samples; any batches give what one ``fit`` gives.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            As in ``fit``.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``; a later batch may hold out-of-distribution samples alone.

        Returns
        -------
        self : object
            Fitted detector.

        Raises
        ------
        ValueError
            As in ``fit``, or if the layers are not those of the first batch.
        """
        if not hasattr(self, "offset_"):
            return self.fit(X, y)
        X = self._validate(X, reset=False)
        rows = in_distribution_rows(y, len(X), allow_none=True)
        batch = self._read(*take_rows(X, y, rows))
        return self._learn_more(batch, rows, len(X))

    def merge(self, other):
        """Learn what another detector has learnt, as if its samples had come to this one.

        Parameters
        ----------
        other : GaussianActivationDetector
            Fitted on other samples of the same layers, with the same parameters. It is unchanged.

        Returns
        -------
        self : object
            This detector, changed.

        Raises
        ------
        TypeError
            If ``other`` is no ``GaussianActivationDetector``.
        ValueError
            If parameters, layers or feature names differ, only one of both knows predicted
            classes, or the classes of only one are texts.
        """
        check_is_fitted(self)
        if not isinstance(other, GaussianActivationDetector):
            raise TypeError(
                "Only another GaussianActivationDetector can be merged, "
                f"got {type(other).__name__}."
            )
        check_is_fitted(other)
        for what, mine, theirs in (
            ("parameters", self.get_params(), other.get_params()),
            ("layers", _layers_of(self), _layers_of(other)),
            ("feature names", _feature_names_of(self), _feature_names_of(other)),
            ("use of predictions", self._by_class, other._by_class),
        ):
            if mine != theirs:
                raise ValueError(f"Merged detectors need the same {what}, got {mine} and {theirs}.")
        with unchanged_on_failure(self):
            return self._learn_more(other._seen, other.training_rows_, other.n_samples_seen_)

    def _learn_more(self, seen, rows, n_samples):
        mine, theirs = list(self._seen.moments), list(seen.moments)
        if theirs and isinstance(mine[0], str) != isinstance(theirs[0], str):
            raise ValueError(f"Class labels must be of one kind, got {mine} and {theirs}.")
        self._remember(self._seen.merge(seen))
        self.training_rows_ = np.concatenate([self.training_rows_, self.n_samples_seen_ + rows])
        self.n_samples_seen_ += n_samples
        self._set_threshold(self._score_training_samples(None))
        return self

    def _read(self, X, y):
        asked = labels = lookup_classes(self, X, by_class=self._by_class)
        if self.group_by == "label":
            check_class_labels(X, y, "group_by='label'")
            labels = y
        rows = np.asarray(X)
        moments = {label: Moments.of(rows[labels == label]) for label in np.unique(labels)}
        is_own = asked == labels
        # Equal samples that count for different classes are told apart, too.
        return Seen(moments, Samples(rows, asked, is_own, hash_rows(rows, asked) + is_own))

    def _remember(self, seen):
        self._seen = Seen(seen.moments, seen.stored.take_some(self.threshold_samples))
        self.class_labels_ = np.unique(list(seen.moments))
        moments = [seen.moments[label] for label in self.class_labels_]
        self.class_counts_ = np.array([m.count for m in moments])
        self.means_ = np.array([m.mean for m in moments])
        self._squares = np.array([m.squares for m in moments])
        self._floor = self._find_floor()
        self.variances_ = np.maximum(self._squares / self.class_counts_[:, np.newaxis], self._floor)

    def _find_floor(self):
        """Smallest variance of each unit, one value in a layer."""
        shares = self.class_counts_ / self.class_counts_.sum()
        variances = self._squares.sum(axis=0) / self.class_counts_.sum()
        sizes = variances + shares @ self.means_**2
        widths = np.bincount(self._layer_of_unit)
        spread = np.bincount(self._layer_of_unit, variances) / widths
        size = np.bincount(self._layer_of_unit, sizes) / widths
        # What is left of a constant after subtracting its rounded mean is no spread.
        floor = np.where(spread > np.finfo(float).eps * size, self.variance_floor * spread, 1.0)
        return floor[self._layer_of_unit]

    def _score_training_samples(self, X):
        # The stored samples of all batches.
        stored = self._seen.stored
        position, has_gaussian = find_classes(stored.asked, self.class_labels_)
        scores = np.empty(len(stored.rows))
        for rows in row_batches(len(scores), 2 * self.n_features_in_):
            samples = np.asarray(stored.rows[rows], dtype=np.float64)
            inside = self._log_densities(samples, position[rows])
            left_out = self._left_out_log_densities(samples, position[rows])
            scores[rows] = np.where(stored.is_own[rows], left_out, inside)
        self._unknown_class_score = below_all([*scores[has_gaussian], 0.0])
        return np.where(has_gaussian, scores, self._unknown_class_score)

    def _score_samples(self, X):
        asked = lookup_classes(self, X, by_class=self._by_class)
        position, has_gaussian = find_classes(asked, self.class_labels_)
        scores = np.empty(len(X))
        for rows in row_batches(len(X), 2 * self.n_features_in_):
            samples = np.asarray(X[rows], dtype=np.float64)
            scores[rows] = self._log_densities(samples, position[rows])
        scores[~has_gaussian] = self._unknown_class_score
        return scores

    def _log_densities(self, samples, position):
        return _log_densities(samples - self.means_[position], self.variances_[position])

    def _left_out_log_densities(self, samples, position):
        """Densities by means and variances of the other samples of the class."""
        count = self.class_counts_[position][:, np.newaxis]
        # The only sample of its class has no others: it is compared with itself.
        n_others = np.maximum(count - 1, 1)
        deviations = samples - self.means_[position]
        squares = self._squares[position] - deviations**2 * count / n_others
        variances = np.maximum(squares / n_others, self._floor)
        return _log_densities(deviations * count / n_others, variances)

    def kl_divergence(self, X, groups="prediction"):
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
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        groups = self._check_groups(X, groups)
        rows, divergences = np.asarray(X), {}
        for group in np.unique(groups).tolist():
            moments = Moments.of(rows[groups == group])
            known = np.flatnonzero(self.class_labels_ == group) if self._by_class else [0]
            divergence = self._divergence(moments, known[0]) if len(known) else np.inf
            divergences[group] = float(divergence)
        return divergences

    def _check_groups(self, X, groups):
        if isinstance(groups, str):
            if groups != "prediction":
                raise ValueError(f"groups must be 'prediction' or an array, got {groups!r}.")
            return lookup_classes(self, X, by_class=self._by_class)
        groups = column_or_1d(groups)
        if len(groups) != len(X):
            raise ValueError(f"X has {len(X)} samples, but groups has {len(groups)}.")
        return groups

    def _divergence(self, moments, position):
        mean, variance = self.means_[position], self.variances_[position]
        group_variance = np.maximum(moments.squares / moments.count, self._floor)
        ratio = group_variance / variance
        distance = (moments.mean - mean) ** 2 / variance
        return 0.5 * np.sum(ratio - 1 - np.log(ratio) + distance)


def _layers_of(detector):
    # A list, as dicts are equal in any order.
    return list(getattr(detector, "layer_shapes_", {ARRAY_LAYER: detector.n_features_in_}).items())


def _feature_names_of(detector):
    return list(getattr(detector, "feature_names_in_", ()))


def _log_densities(deviations, variances):
    return -0.5 * np.sum(deviations**2 / variances + np.log(2 * np.pi * variances), axis=1)
