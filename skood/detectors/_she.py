"""Similarity with the mean activations of the predicted class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._classes import GROUP_BY, refuse_unknown_labels
from .._labels import find_classes
from .._side_by_side import split_layers
from .._sklearn import StrOptions
from .._values import SQUARABLE, Floats
from .._warnings import warn_user
from ..activations import Activations
from ._base_incremental import BaseIncrementalDetector, layers_of
from ._class_sums import ClassSums
from ._labels_seen import LabelsSeen
from ._row_lengths import row_lengths


class SHEDetector(BaseIncrementalDetector):
    """Similarity with the mean activations of the predicted class.

    The mean of a class is that of the training samples that the network rightly predicts to be of
    that class: its pattern in the paper. The score of a sample is how similar it is to the mean of
    its predicted class, the simplified Hopfield energy (SHE) [1]_.

    Parameters
    ----------
    metric : {"inner_product", "cosine", "euclidean"}, default="inner_product"
        What similarity is: the inner product, as in the paper, its quotient by both norms, or
        minus the distance.

    Attributes
    ----------
    class_means_ : dict of str to ndarray of shape (n_classes, n_units)
        Mean activations of the classes that have training samples which count, by layer.
    class_labels_ : ndarray of shape (n_classes,)
        These classes, ascending; one class 0 where ``fit`` saw no predictions.

    See Also
    --------
    MahalanobisDetector : Distance to the nearest class, in units of the spread of classes.
    skood.preprocessing.LayerSelector :
        Restricts the layers in a pipeline; the paper reads the last hidden layer.

    Notes
    -----
    Without predictions, as in an ordinary array, all samples are of one class.

    A class that has no mean, because it was never predicted in training or never rightly, makes
    a sample OOD: its score is the smallest score of another training sample minus one, which is
    below the threshold. Where the training samples of such classes are more than the threshold
    rejects, they are all that it rejects.

    Several layers are put side by side. The cosine with a mean or a sample that is 0 everywhere
    is 0.

    Batches, by ``partial_fit`` and ``merge``, add to the sums that the means are made of. Whatever
    their order and sizes, the result is that of one ``fit``, to rounding. One label for all samples
    of a batch is no class until another batch has another label, as in one ``fit``.

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
    >>> detector.class_means_["fc"]
    array([[2., 0.],
           [0., 2.]])
    >>> detector.score_samples(A)
    array([6., 2., 4., 2.])
    """

    _sizes_of_values = SQUARABLE
    _labels_optional_for = "correct"
    _rejects_unknown_classes = True

    _parameter_constraints: dict = {
        **BaseIncrementalDetector._parameter_constraints,
        "group_by": GROUP_BY,
        "metric": [StrOptions({"inner_product", "cosine", "euclidean"})],
    }

    def __init__(
        self,
        *,
        metric: str = "inner_product",
        group_by: str = "correct",
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.metric = metric
        self.group_by = group_by

    def _learn(self, X: Activations, y: NDArray | None) -> _Patterns:
        rows, classes = np.asarray(X), self._training_classes(X, y)
        everything = right = ClassSums.of(rows, *classes.numbered())
        if self.group_by != "correct" or not self._by_class:
            return _Patterns(LabelsSeen(), everything, right)
        seen = LabelsSeen.of(y, len(X))
        if y is not None and not seen.tell_classes:
            of_label = replace(classes, counts=np.asarray(classes.lookup == y))
            right = ClassSums.of(rows, *of_label.numbered())
        return _Patterns(seen, everything, right)

    def _finish(self, summary: _Patterns) -> None:
        known = summary.known()
        if summary.seen.tell_classes and hasattr(self, "_network_classes"):
            classes = self._network_classes.labels
            refuse_unknown_labels(summary.seen.labels, classes, "group_by='correct'")
        self._check_any_counts(len(known.labels))
        self.class_labels_ = known.labels
        self._means = known.sums / known.counts[:, np.newaxis]
        self.class_means_ = split_layers(self._means, dict(layers_of(self)))
        self._warn_of_silent_classes()

    def _warn_of_silent_classes(self) -> None:
        silent = self.class_labels_[~self._means.any(axis=1)]
        if len(silent) and self.metric != "euclidean":
            warn_user(
                f"No unit is active in the training samples of the classes {silent.tolist()}: with "
                f"metric={self.metric!r}, the score of all samples of these classes is 0. Use "
                "metric='euclidean', or leave silent layers out, for example by LayerSelector."
            )

    def _score_samples(self, X: Activations) -> Floats:
        return self._reject_unknown(*self._similarities(X))

    def _similarities(self, X: Activations) -> tuple[Floats, NDArray[np.bool_]]:
        """Similarity to the mean of the predicted class, and whether there is one."""
        position, has_mean = find_classes(self._lookup_classes(X), self.class_labels_)
        scores = np.empty(len(X))
        for rows in row_batches(len(X), 2 * X.shape[1]):
            samples = np.asarray(X[rows], dtype=np.float64)
            scores[rows] = self._similarity(samples, self._means[position[rows]])
        return scores, has_mean

    def _similarity(self, samples: Floats, means: Floats) -> Floats:
        if self.metric == "euclidean":
            return -np.linalg.norm(samples - means, axis=1)
        products = np.einsum("sf,sf->s", samples, means)
        if self.metric == "inner_product":
            return products
        norms = row_lengths(samples) * row_lengths(means)
        return np.divide(products, norms, out=np.zeros(len(products)), where=norms > 0)


@dataclass(frozen=True)
class _Patterns:
    """Sums by predicted class: of all samples, and of those that are predicted rightly.

    Until labels are known to be classes, which one batch alone may not show, all count.
    """

    seen: LabelsSeen
    everything: ClassSums
    right: ClassSums

    def merge(self, other: _Patterns) -> _Patterns:
        return _Patterns(
            self.seen.merge(other.seen),
            self.everything.merge(other.everything),
            self.right.merge(other.right),
        )

    def known(self) -> ClassSums:
        """The sums of the samples that count."""
        return self.right if self.seen.tell_classes else self.everything
