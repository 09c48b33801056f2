"""Energy, and the direction of what the head does not read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._values import Floats
from ..activations import Activations
from ._base_head import BaseHeadDetector, float64_batches
from ._row_lengths import unit_rows
from ._softmax import log_sum_exp

RESIDUAL_ROUNDING = 1e-12
"""Residuals that are smaller, relative to the features, have no direction but that of rounding."""


class COREDetector(BaseHeadDetector):
    """Energy of the logits, and how usual that part of the features is which the head ignores.

    What lies across all class weights changes no logit: the residual of the features. It still
    has a direction of its own in every class. Confidence and orthogonal residual scoring
    (CORE) [1]_ adds two scores, each minus its mean and divided by its standard deviation over the
    training samples: the energy ``logsumexp(logits)``, and the cosine of the residual with the
    mean residual of the training samples of the predicted class.

    Attributes
    ----------
    residual_means_ : ndarray of shape (n_classes, `n_features_in_`)
        Mean residual of each class, 0 for a class that was never predicted in training.
    class_counts_ : ndarray of shape (n_classes,)
        Number of training samples for which each class was predicted.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each by the mean residual of the others.

    See Also
    --------
    ViMDetector : Energy minus the norm of what is outside the principal subspace.
    NCIDetector : Looks at the direction in which the head reads.

    Notes
    -----
    Reads the logits of ``Activations``, their head, and the layer that it reads. An ordinary array
    is taken as logits, which leave no residual. Nor do features of no more units than there are
    classes, as a rule. Then the cosine is 0 for all samples, and the energy decides alone.

    The predicted class is that of the largest logit of ``X``, not ``X.predictions``. A sample of a
    class that was never predicted in training has nothing to be compared with. It is rejected,
    with a score below that of every training sample.

    A score that does not vary over the training samples has no part in the sum.

    There is neither ``partial_fit`` nor ``merge``. How much cosines vary is known once the mean
    residuals are, and these once all samples are: ``fit`` reads them twice, as many at a time as
    scikit-learn's ``working_memory`` holds.

    References
    ----------
    .. [1] J. M. Yang, H.-S. Kim, S. Bahk, "CORE: Robust out-of-distribution detection via
       confidence and orthogonal residual scoring", 2026. arXiv:2603.18290

    Examples
    --------
    The third unit is not read by the head; in training it says of which class a sample is.

    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.detectors import COREDetector
    >>> head = LinearHead(np.eye(3)[:2], input_layer="fc")
    >>> features = [[4.0, 0.0, 1.0], [5.0, 0.0, 2.0], [0.0, 4.0, -1.0], [0.0, 5.0, 0.0]]
    >>> detector = COREDetector().fit(Activations({"fc": features}, head=head))
    >>> detector.residual_means_
    array([[ 0. ,  0. ,  1.5],
           [ 0. ,  0. , -0.5]])
    >>> others = Activations({"fc": [[5.0, 0.0, 1.0], [5.0, 0.0, -1.0]]}, head=head)
    >>> detector.score_samples(others).round(2)
    array([ 1.58, -3.04])
    """

    def __init__(self, *, false_alarm_rate: float = 0.05, validation: Any = None) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)

    def _fit(self, X: Activations, y: NDArray | None) -> Floats:
        self._read_axes = _row_space(self.head_.weight)
        energies = self._average_residuals(X)
        cosines, of_others = np.empty((2, len(X)))
        for rows, *batch in float64_batches(X):
            cosines[rows] = self._cosines(*batch)
            of_others[rows] = self._cosines(*batch, leave_out=True)
        self._moments = [_mean_and_factor(energies), _mean_and_factor(cosines)]
        scores = self._combine(energies, of_others)
        return self._set_unknown_class_score(scores, ~np.isneginf(scores))

    def _average_residuals(self, X: Activations) -> Floats:
        """Learn the mean residuals of the classes, and return the energies of the samples."""
        sums, energies = np.zeros(self.head_.shape), np.empty(len(X))
        self.class_counts_ = np.zeros(len(sums), dtype=np.intp)
        for rows, features, logits in float64_batches(X):
            is_predicted = logits.argmax(axis=1) == np.arange(len(sums))[:, np.newaxis]
            sums += is_predicted.astype(np.float64) @ self._residuals(features)
            self.class_counts_ += np.count_nonzero(is_predicted, axis=1)
            energies[rows] = log_sum_exp(logits)
        self.residual_means_ = sums / np.maximum(self.class_counts_, 1)[:, np.newaxis]
        return energies

    def _score_rows(self, features: Floats, logits: Floats) -> Floats:
        scores = self._combine(log_sum_exp(logits), self._cosines(features, logits))
        return self._reject_unknown(scores, ~np.isneginf(scores))

    def _cosines(self, features: Floats, logits: Floats, *, leave_out: bool = False) -> Floats:
        """Cosines with the mean of the predicted class, or, left out of it, of the others in it."""
        predicted = logits.argmax(axis=1)
        counts = self.class_counts_[predicted] - leave_out
        residuals, means = self._residuals(features), self.residual_means_[predicted]
        if leave_out:
            means = means + (means - residuals) / np.maximum(counts, 1)[:, np.newaxis]
        cosines = np.einsum("rf,rf->r", unit_rows(residuals), unit_rows(means))
        return np.where(counts > 0, cosines, -np.inf)

    def _combine(self, energies: Floats, cosines: Floats) -> Floats:
        (energy, per_energy), (cosine, per_cosine) = self._moments
        # A cosine of -inf, of a class without a mean, counts even with a factor of 0.
        scores = np.where(np.isneginf(cosines), -np.inf, 0)
        scores += (energies - energy) * per_energy
        return scores + (np.maximum(cosines, -1) - cosine) * per_cosine

    def _residuals(self, features: Floats) -> Floats:
        residuals = features - (features @ self._read_axes) @ self._read_axes.T
        sizes, of_features = (np.abs(rows).max(axis=1) for rows in (residuals, features))
        residuals[sizes <= RESIDUAL_ROUNDING * of_features] = 0
        return residuals


def _row_space(weight: NDArray) -> Floats:
    """Orthonormal axes, as columns, of what the rows of a matrix span."""
    _, sizes, axes = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    rounding = max(weight.shape) * np.finfo(np.result_type(weight, np.float32)).eps
    return axes[sizes > rounding * sizes[0]].T


def _mean_and_factor(values: Floats) -> tuple[float, float]:
    """Mean, and 1 divided by the standard deviation: 0 where that is no more than rounding."""
    deviation = values.std()
    is_spread = deviation > RESIDUAL_ROUNDING * np.abs(values).max()
    return values.mean(), 1 / deviation if is_spread else 0.0
