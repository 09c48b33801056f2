"""Divergence from the typical softmax of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._values import Floats
from ..activations import Activations
from ._base_incremental import BaseIncrementalDetector
from ._base_logit import BaseLogitDetector, logit_batches, logits_of, predictions_of
from ._class_sums import ClassSums
from ._softmax import Logits, below_largest, row_sums, smallest_sum

_MANY_CLASSES = 256
"""Of more, a product of a few rows with all distributions takes long to begin."""


class KLMatchingDetector(BaseLogitDetector, BaseIncrementalDetector):
    """Divergence from the nearest class's typical softmax.

    The mean softmax of the training samples that the network predicts as a class is what is typical
    of it. The score is minus the smallest Kullback-Leibler divergence of a sample's softmax from
    these distributions [1]_.

    Attributes
    ----------
    class_distributions_ : ndarray of shape (n_predicted_classes, n_classes)
        Mean softmax of the training samples that are predicted as each class.
    class_labels_ : ndarray of shape (n_predicted_classes,)
        Those classes. One that the network predicts for no training sample is left out.

    See Also
    --------
    MaxSoftmaxDetector : Considers the largest probability alone.
    OpenMaxDetector : Distances of the logits from class means.

    Notes
    -----
    Reads the logits of ``Activations``, and in ``fit`` the network's own predictions; an ordinary
    array is taken as the logits, and predicts the class of the largest. Everything is
    computed from the logarithms of probabilities: scores are finite where a probability is too
    small for a float.

    Batches, by ``partial_fit`` and ``merge``, add to the sums that the mean softmax of a class is
    made of. Whatever their order and sizes, the result is that of one ``fit``, to rounding.

    The authors fit on samples that the network was not trained on. On its training samples its
    softmax is more certain.

    References
    ----------
    .. [1] D. Hendrycks, S. Basart, M. Mazeika, A. Zou, J. Kwon, M. Mostajabi, J. Steinhardt,
       D. Song, "Scaling out-of-distribution detection for real-world settings", ICML 2022.
       arXiv:1911.11132

    Examples
    --------
    >>> from skood.detectors import KLMatchingDetector
    >>> detector = KLMatchingDetector().fit([[0.0, 2.0], [0.0, 3.0], [4.0, 0.0]])
    >>> detector.class_distributions_.round(2)
    array([[0.98, 0.02],
           [0.08, 0.92]])
    >>> detector.score_samples([[0.0, 2.4], [1.0, 1.0]]).round(2)
    array([-0.  , -0.59])
    """

    _min_classes = 2

    def _learn(self, X: Activations, y: NDArray | None) -> _LogSums:
        labels, codes = np.unique(predictions_of(X), return_inverse=True)
        probabilities = np.empty(X.shape)
        for rows, logits in logit_batches(X):
            probabilities[rows] = _softmax(logits)
        sums = ClassSums.of(probabilities, labels, codes)
        with np.errstate(divide="ignore"):
            logs = _LogSums(labels, sums.counts, np.log(sums.sums))
        # Where probabilities are too small for a float, their logarithms are not.
        is_small = sums.sums.min(axis=1) <= smallest_sum(sums.sums.dtype)
        for number in np.flatnonzero(is_small):
            logs.sums[number] = logs._sum(_log_softmax(logits_of(X[codes == number])))
        return logs

    def _finish(self, summary: _LogSums) -> None:
        self.class_labels_ = summary.labels
        # In single precision, too, they are numbers. Exponentials of both are 0.
        self._log_distributions = np.maximum(summary.log_means(), np.finfo(np.float32).min / 2)
        self.class_distributions_ = np.exp(self._log_distributions)

    def _score_logits(self, logits: Logits) -> Floats:
        below, odds, at_largest = below_largest(logits)
        total = row_sums(odds)
        minus_entropies = np.einsum("sk,sk->s", odds, below) / (1 + total) - np.log1p(total)
        odds.reshape(-1)[at_largest] = 1
        products = odds @ self._log_distributions.astype(logits.dtype, copy=False).T
        nearest = products.argmax(axis=1)
        scores = products[np.arange(len(logits)), nearest] / (1 + total) - minus_entropies
        # Differences of larger numbers are precise enough unless they are small.
        if logits.dtype == np.float64:
            is_small = scores > -1e-3
            of_nearest = self._log_distributions[nearest[is_small]]
            log_p = below[is_small] - np.log1p(total[is_small, np.newaxis])
            scores[is_small] = -_divergences(log_p, of_nearest)
        else:
            is_small = scores > -1e-2
            scores[is_small] = self._score_logits(logits[is_small].astype(np.float64))
        return scores

    def _multiplies_many(self) -> bool:
        return len(self._log_distributions) > _MANY_CLASSES


def _softmax(logits: NDArray) -> Floats:
    _, odds, at_largest = below_largest(logits)
    total = row_sums(odds)
    odds.reshape(-1)[at_largest] = 1
    return odds / (1 + total[:, np.newaxis])


def _log_softmax(logits: NDArray) -> NDArray:
    """Logarithms of the softmax, precise where a probability rounds to 1.

    SciPy's, and a difference of logits and ``log_sum_exp``, give 0 there.
    """
    below, others, _ = below_largest(logits)
    return below - np.log1p(row_sums(others)[:, np.newaxis])


@dataclass
class _LogSums(ClassSums):
    """Sums of the softmax of the samples predicted as each class: ``sums`` holds logarithms."""

    _add = np.logaddexp
    _nothing = -np.inf

    @staticmethod
    def _sum(rows: NDArray) -> Floats:
        # That of SciPy takes longer for a few rows than all else.
        largest = np.maximum(rows.max(axis=0), np.finfo(np.float64).min)
        with np.errstate(divide="ignore"):
            return np.asarray(largest + np.log(np.exp(rows - largest).sum(axis=0)))

    def log_means(self) -> Floats:
        """Logarithms of the mean distributions, precise where a probability rounds to 1."""
        log_means = self.sums - np.log(self.counts)[:, np.newaxis]
        top = np.arange(len(log_means)), log_means.argmax(axis=1)
        others = np.exp(log_means)
        others[top] = 0
        log_means[top] = np.log1p(-row_sums(others))
        return log_means


def _divergences(log_p: NDArray, log_q: NDArray) -> NDArray:
    """Kullback-Leibler divergences of rows from rows, given the logarithms.

    The terms ``p * log(p / q) - p + q`` have the sum of ``p * log(p / q)``, and none is negative:
    small divergences do not drown in rounding.
    """
    p, log_ratio = np.exp(log_p), log_p - log_q
    near = p * (log_ratio + np.expm1(-np.maximum(log_ratio, -1)))
    far = p * log_ratio - p + np.exp(log_q)
    return np.where(log_ratio > -1, near, far).sum(axis=1)
