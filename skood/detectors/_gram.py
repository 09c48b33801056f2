"""Deviations of Gram matrices from their ranges in training."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .._classes import GROUP_BY, find_classes
from .._estimator_checks import LEFT_OUT, failed_outlier_checks
from .._layer_names import units_second
from .._validation import check_activations
from .._values import SQUARABLE, Floats
from ..activations import Activations
from ._base import BaseOneClassDetector
from ._gram_ranges import GramRanges


class GramDetector(BaseOneClassDetector):
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

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
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
        return units_second(check_activations(self, X, reset=reset, allow_nd=True))

    def _fit(self, X: Activations, y: NDArray | None) -> NDArray[np.float64]:
        powers = _checked_powers(self.powers)
        classes = self._training_classes(X, y)
        self._check_any_counts(int(classes.counts.sum()))
        self.class_labels_, codes = classes.numbered()
        self._ranges = {name: GramRanges(layer, codes, powers) for name, layer in X.items()}
        left_out = np.column_stack(
            [
                self._ranges[name].left_out_deviations(layer, self._find(classes.lookup), codes)
                for name, layer in X.items()
            ]
        )
        for ranges in self._ranges.values():
            ranges.forget_second()
        self.lower_bounds_ = {name: ranges.lower for name, ranges in self._ranges.items()}
        self.upper_bounds_ = {name: ranges.upper for name, ranges in self._ranges.items()}
        return self._weighed(left_out)

    def _weighed(self, left_out: NDArray[np.float64]) -> NDArray[np.float64]:
        """Find the mean deviations and return the sums of what they divide."""
        known = left_out[np.isfinite(left_out).all(axis=1)]
        means = known.mean(axis=0) if len(known) else np.zeros(left_out.shape[1])
        self.mean_deviations_ = np.where(means > 0, means, 1)
        scores = 0.0 - (left_out / self.mean_deviations_).sum(axis=1)
        return self._set_unknown_class_score(scores, ~np.isneginf(scores))

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
        check_is_fitted(self)
        return self._layer_scores(self._validate(X, reset=False))

    def _layer_scores(self, X: Activations) -> Floats:
        positions = self._find(self._lookup_classes(X))
        return 0.0 - np.column_stack(
            [self._ranges[name].deviations(layer, positions) for name, layer in X.items()]
        )

    def _score_samples(self, X: Activations) -> Floats:
        scores = (self._layer_scores(X) / self.mean_deviations_).sum(axis=1)
        return self._reject_unknown(scores, ~np.isneginf(scores))

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
