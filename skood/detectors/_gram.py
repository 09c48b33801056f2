"""Deviations of Gram matrices from their ranges in training."""

from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._classes import check_class_labels, find_classes, lookup_classes
from .._estimator_checks import LEFT_OUT, failed_outlier_checks
from .._validation import check_activations
from .._values import SQUARABLE, below_all
from ._base import BaseOneClassDetector
from ._gram_ranges import GramRanges


class GramDetector(BaseOneClassDetector):
    """How far the correlations between channels are outside of their ranges in training.

    The Gram matrix of a layer tells which of its channels, or units, are active together. For every
    class, the detector keeps the smallest and the largest value of each training sample's
    matrices [1]_. The score of a sample is minus the sum of what lies outside the ranges of its
    predicted class, as a share of the bound, over layers: each divided by its mean over
    the training samples.

    Parameters
    ----------
    powers : array-like of int, default=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
        The orders p of the matrices: activations are raised to p, and elements of the matrix to
        1 / p. High orders look at the largest activations.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of the in-distribution training samples that the threshold rejects, each scored with
        itself left out.

    Attributes
    ----------
    class_labels_ : ndarray of shape (n_classes,)
        The classes that have ranges, ascending; one class 0 where ``fit`` saw no predictions.
    lower_bounds_, upper_bounds_ : dict of str to ndarray of shape (n_classes, n_powers, n_channels)
        The ranges, by layer.
    mean_deviations_ : ndarray of shape (n_layers,)
        What the deviations of each layer are divided by: their mean over the training samples, each
        left out of the ranges; 1 where none deviates.
    training_rows_ : ndarray of shape (n_in_distribution_samples,)
        Rows of ``X`` in ``fit`` that were learnt from: those not marked -1.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each with itself left out of the ranges.
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
    ActivationIntervalDetector : Asks which single units are outside of their ranges.
    MahalanobisDetector : Distance to the nearest class, in units of the spread of classes.

    Notes
    -----
    Maps of shape (n_samples, n_channels, height, width) are read as they are, before pooling. In a
    layer of shape (n_samples, n_units), each unit is a channel of one pixel. As in the authors'
    code, the elements of each row of the matrix are added before the root is taken: one number for
    each channel and order, for which the matrix itself is never needed. 0.000001 is added to the
    size of a bound before it divides. The authors' code also divides deviations by the largest
    softmax probability, which is not done here.

    Ranges are those of the labels ``y``; where it is not given or holds one label only, as 1 for
    in-distribution beside -1, those of the predicted classes; and without predictions, as in an
    ordinary array, those of all samples. A sample of a class that has no ranges is rejected: its
    score is below that of every training sample.

    The training samples set the ranges, so that none of them is outside. They are therefore
    scored with each of them left out, which is exact and needs only the next value at either
    end of every range. This takes a second pass over the layers in ``fit``.

    References
    ----------
    .. [1] C. S. Sastry, S. Oore, "Detecting out-of-distribution examples with Gram matrices",
       ICML 2020. arXiv:1912.12510

    Examples
    --------
    >>> from skood.detectors import GramDetector
    >>> detector = GramDetector(powers=[1]).fit([[1.0, 1.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])
    >>> detector.lower_bounds_["X"], detector.upper_bounds_["X"]
    (array([[[2., 2.]]]), array([[[8., 8.]]]))
    >>> detector.layer_scores([[1.0, 2.0], [2.0, 4.0]]).round(2)
    array([[ 0. ],
           [-2.5]])
    """

    _sizes_of_values = SQUARABLE

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
        "powers": ["array-like"],
    }

    def __init__(self, powers=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), *, false_alarm_rate=0.05):
        super().__init__(false_alarm_rate=false_alarm_rate)
        self.powers = powers

    def _validate(self, X, *, reset):
        return check_activations(self, X, reset=reset, allow_nd=True)

    def fit(self, X, y=None):
        """Learn the ranges of the in-distribution samples and set the threshold.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_channels, ...)
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
            If values are not finite, or their squares leave the range of floats, no sample is
            in-distribution, a label is not
            among the classes of the network, or ``powers`` are not whole numbers from 1 on.
        """
        return super().fit(X, y)

    def _fit(self, X, y):
        powers = _checked_powers(self.powers)
        self._by_class = X.predictions is not None
        asked = lookup_classes(self, X, by_class=self._by_class)
        own = self._learnt_classes(X, y, asked)
        self.class_labels_, codes = np.unique(own, return_inverse=True)
        self._ranges = {name: GramRanges(layer, codes, powers) for name, layer in X.items()}
        self._left_out = np.column_stack(
            [
                self._ranges[name].left_out_deviations(layer, self._find(asked), codes)
                for name, layer in X.items()
            ]
        )
        for ranges in self._ranges.values():
            ranges.forget_second()
        self.lower_bounds_ = {name: ranges.lower for name, ranges in self._ranges.items()}
        self.upper_bounds_ = {name: ranges.upper for name, ranges in self._ranges.items()}

    def _learnt_classes(self, X, y, asked):
        if not self._by_class or y is None or len(np.unique(y)) == 1:
            return asked
        check_class_labels(X, y, "GramDetector")
        return y

    def _find(self, asked):
        positions, has_ranges = find_classes(asked, self.class_labels_)
        return np.where(has_ranges, positions, -1)

    def _score_training_samples(self, X):
        left_out = self.__dict__.pop("_left_out")
        known = left_out[np.isfinite(left_out).all(axis=1)]
        means = known.mean(axis=0) if len(known) else np.zeros(left_out.shape[1])
        self.mean_deviations_ = np.where(means > 0, means, 1)
        scores = 0.0 - (left_out / self.mean_deviations_).sum(axis=1)
        self._unknown_class_score = below_all(scores)
        return self._reject_unknown(scores)

    def layer_scores(self, X):
        """Score samples in each layer by itself.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_channels, ...)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_layers)
            Minus the deviations, not divided by ``mean_deviations_``; -inf where the predicted
            class has no ranges.
        """
        check_is_fitted(self)
        return self._layer_scores(self._validate(X, reset=False))

    def _layer_scores(self, X):
        positions = self._find(lookup_classes(self, X, by_class=self._by_class))
        return 0.0 - np.column_stack(
            [self._ranges[name].deviations(layer, positions) for name, layer in X.items()]
        )

    def _score_samples(self, X):
        return self._reject_unknown((self._layer_scores(X) / self.mean_deviations_).sum(axis=1))

    def _expected_failed_checks(self) -> dict[str, str]:
        return failed_outlier_checks(LEFT_OUT)


def _checked_powers(powers):
    """The powers, ascending.

    Raises
    ------
    ValueError
        If there are none, or they are not whole numbers from 1 on.
    """
    powers = list(powers)
    if not powers or any(not isinstance(p, Integral) or p < 1 for p in powers):
        raise ValueError(f"powers must be whole numbers from 1 on, at least one, got {powers}.")
    return sorted({int(power) for power in powers})
