"""Deviations of Gram matrices from their ranges in training."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._classes import GROUP_BY
from .._estimator_checks import LEFT_OUT, failed_outlier_checks
from .._labels import find_classes
from .._layer_names import units_second
from .._streams import check_fitted
from .._validation import check_activations
from .._values import SQUARABLE, Floats
from ..activations import Activations
from ._base_layer_scores import BaseLayerScoresDetector
from ._extremes import Extremes, ends_by_class
from ._gram_ranges import gram_deviations, gram_extremes
from ._labels_seen import ByClass


class GramDetector(BaseLayerScoresDetector):
    """How far the correlations between channels are outside of their ranges in training.

    The Gram matrix of a layer shows which of its channels, or units, are active together. For every
    class, the detector keeps the smallest and the largest value of each training sample's
    matrices [1]_. The score of a sample is minus the sum of what lies outside the ranges of its
    predicted class, as a share of the bound, over layers: each divided by its mean over
    the training samples.

    Parameters
    ----------
    powers : array-like of int, default=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
        The orders p of the matrices: activations are raised to p, and elements of the matrix to
        1 / p. High orders look at the largest activations.

    Attributes
    ----------
    class_labels_ : ndarray of shape (n_classes,)
        The classes that have ranges, ascending; one class 0 where ``fit`` saw no predictions.
    lower_bounds_, upper_bounds_ : dict of str to ndarray of shape (n_classes, n_powers, n_channels)
        The ranges, by layer.
    mean_deviations_ : ndarray of shape (n_layers,)
        What the deviations of each layer are divided by: their mean over the training samples, each
        left out of the ranges; 1 where none deviates.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each with itself left out of the ranges.

    See Also
    --------
    ActivationIntervalDetector : Counts single units outside of their ranges.
    MahalanobisDetector : Distance to the nearest class, in units of the spread of classes.

    Notes
    -----
    Maps of shape (n_samples, n_channels, height, width) are read without pooling. In a
    layer of shape (n_samples, n_units), each unit is a channel of one pixel. As in the authors'
    code, the elements of each row of the matrix are added before the root is taken: one number for
    each channel and order, for which the matrix itself is never needed. 0.000001 is added to the
    size of a bound before it divides. The authors' code also divides deviations by the largest
    softmax probability, which is not done here.

    Without predictions, as in an ordinary array, the ranges are those of all samples. A sample of
    a class that has no ranges is rejected: its score is below that of every training sample.

    The training samples set the ranges, so that none of them is outside. They are therefore
    scored with each of them left out, which is exact and needs only the next value at either
    end of every range. This takes a second pass over the layers in ``fit``.

    Ranges of batches are those of all their samples, bit by bit. The mean deviations come from the
    samples that set the threshold, which after ``partial_fit`` and ``merge`` are all samples while
    these are few, and from then on a random part of 32 MiB or 1,000 samples; with ``validation``,
    from as many of those that are learnt from.

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
    _labels_optional_for = "label"
    _rejects_unknown_classes = True

    _parameter_constraints: dict = {
        **BaseLayerScoresDetector._parameter_constraints,
        "powers": ["array-like"],
        "group_by": GROUP_BY,
    }

    def __init__(
        self,
        *,
        powers: ArrayLike = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        group_by: str = "label",
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.powers = powers
        self.group_by = group_by

    def _validate(self, X: Any, *, reset: bool) -> Activations:
        return check_activations(self, X, reset=reset, allow_nd=True)

    def _learn_classes(self, X: Activations, y: NDArray | None) -> ByClass:
        X, powers = units_second(X), _checked_powers(self.powers)
        labels, codes = self._training_classes(X, y).numbered()
        layers = {name: gram_extremes(layer, codes, labels, powers) for name, layer in X.items()}
        return ByClass(self._labels_seen(X, y), layers)

    def _finish_layers(self, classes: ByClass) -> None:
        self._powers = _checked_powers(self.powers)
        self.class_labels_ = next(iter(classes.layers.values())).labels
        self._check_any_counts(len(self.class_labels_))
        self.lower_bounds_ = {name: found.lower for name, found in classes.layers.items()}
        self.upper_bounds_ = {name: found.upper for name, found in classes.layers.items()}

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        """The deviations of each layer; infinite for samples of a class that has no others."""
        X, learnt = units_second(X), self._summary.classes
        classes = self._training_classes(X, y, are_classes=learnt.seen.tell_classes)
        codes, is_own = self._find(classes.lookup), classes.finds_itself

        def of_layer(name: str) -> Floats:
            extremes: Extremes = learnt.layers[name]
            is_alone = is_own & (extremes.counts[codes] == 1)
            compared = np.flatnonzero((codes >= 0) & ~is_alone)
            ends_of = extremes.ends_of(codes, is_own)
            return gram_deviations(X[name], compared, ends_of, self._powers)

        return np.column_stack([of_layer(name) for name in X.layer_names])

    def _weigh(self, found: Floats, outside: Activations | None) -> Floats:
        """Find the mean deviations and return the sums of what they divide."""
        known = found[np.isfinite(found).all(axis=1)]
        means = known.mean(axis=0) if len(known) else np.zeros(found.shape[1])
        self.mean_deviations_ = np.where(means > 0, means, 1)
        return self._weighed(found)

    def _weighed(self, deviations: Floats) -> Floats:
        scores = 0.0 - (deviations / self.mean_deviations_).sum(axis=1)
        return self._reject_unknown(scores, ~np.isneginf(scores))

    def _find(self, lookup: NDArray) -> NDArray[np.intp]:
        positions, has_ranges = find_classes(lookup, self.class_labels_)
        return np.where(has_ranges, positions, -1)

    def layer_scores(self, X: Activations | ArrayLike) -> Floats:
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
        check_fitted(self)
        return self._layer_scores(self._validate(X, reset=False))

    def _layer_scores(self, X: Activations) -> Floats:
        return 0.0 - self._deviations(X)

    def _deviations(self, X: Activations) -> Floats:
        X = units_second(X)
        codes = self._find(self._lookup_classes(X))

        def of_layer(name: str) -> Floats:
            ends_of = ends_by_class(self.lower_bounds_[name], self.upper_bounds_[name], codes)
            return gram_deviations(X[name], np.flatnonzero(codes >= 0), ends_of, self._powers)

        return np.column_stack([of_layer(name) for name in X.layer_names])

    def _score_samples(self, X: Activations) -> Floats:
        return self._weighed(self._deviations(X))

    def _expected_failed_checks(self) -> dict[str, str]:
        return failed_outlier_checks(LEFT_OUT)


def _checked_powers(powers: Any) -> list[int]:
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
