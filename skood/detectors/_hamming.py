"""Binary neuron activation patterns compared by Hamming distance."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._classes import GROUP_BY, TrainingClasses
from .._estimator_checks import FEW_PATTERNS, failed_outlier_checks
from .._patterns import PackedBits, build_stores, nearest_of_class, pack_layers
from .._side_by_side import split_layers
from .._sklearn import Interval
from .._values import Floats
from ..activations import Activations
from ._base_incremental import BaseIncrementalDetector
from ._stored_samples import StoredSamplesMixin


class HammingNAPDetector(StoredSamplesMixin, BaseIncrementalDetector):
    """Hamming distance to the nearest activation pattern of the predicted class.

    The detector stores the binary activation patterns of the training samples, class by class [1]_.
    A sample is in-distribution if the network's neurons fire as they did for some training
    sample of the class that the network predicts.

    Parameters
    ----------
    tau : float, default=None
        Threshold: a sample is out-of-distribution if its distance is larger, or if no pattern of
        its class is stored. Neither ``false_alarm_rate`` nor ``validation`` then sets it. By
        default the threshold rejects that share of the training samples, each scored with itself
        left out.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of in-distribution samples to reject, where ``tau`` is None.
    group_by : {"prediction", "label", "correct"}, default="prediction"
        Class under which a training pattern is stored: the predicted one; its label in ``y``; or,
        with "correct", the predicted one where it is right, while other patterns are not stored.
        Samples are always looked up under their predicted class.
    break_ties : bool, default=True
        Break ties of equal distances by how common the nearest pattern was in training. It adds a
        share below 1 to the score, and so never overrules one bit of distance.

    Attributes
    ----------
    stores_ : dict of label to PatternStore
        Stored patterns by class. Each has ``patterns`` (:class:`~skood.activations.PackedBits`, the
        most common first) and ``counts``. The one key is 0 where ``fit`` saw no predictions.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each with itself left out.

    See Also
    --------
    PercentileBinarizer : Makes the patterns.
    skood.ensemble.AutoNAPDetector : Chooses layers, poolings and percentiles.

    Notes
    -----
    Layers that are not :class:`~skood.activations.PackedBits` are binarised by "value above 0". The
    distance over several layers is the sum of theirs. A class that no stored pattern has is as far
    as can be, and rejected: the distance is the number of neurons. Where the training samples of
    such classes are more than the threshold rejects, they are all that it rejects. With
    ``group_by="correct"``, ``tau=gamma`` and patterns from ``PercentileBinarizer(rule="zero")``
    this is the monitor of [2]_.

    A threshold from samples compared with their own stored patterns would be
    far too strict; leaving each one out, as ``LocalOutlierFactor`` does, keeps the share of false
    alarms near ``false_alarm_rate``.

    References
    ----------
    .. [1] B. Olber, K. Radlak, A. Popowicz, M. Szczepankiewicz, K. Chachula, "Detection of
       out-of-distribution samples using binary neuron activation patterns", CVPR 2023.
       arXiv:2212.14268
    .. [2] C.-H. Cheng, G. Nührenberg, H. Yasuoka, "Runtime monitoring neuron activation
       patterns", DATE 2019. arXiv:1809.06573

    Examples
    --------
    >>> import numpy as np
    >>> from skood import HammingNAPDetector
    >>> X = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]])
    >>> detector = HammingNAPDetector(tau=1, break_ties=False).fit(X)
    >>> detector.score_samples([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    array([ 0., -1., -2.])
    >>> detector.predict([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    array([ 1,  1, -1])
    """

    _parameter_constraints: dict = {
        **BaseIncrementalDetector._parameter_constraints,
        "tau": [Interval(Real, 0, None, closed="left"), None],
        "group_by": GROUP_BY,
        "break_ties": ["boolean"],
    }

    def __init__(
        self,
        *,
        tau: float | None = None,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
        group_by: str = "prediction",
        break_ties: bool = True,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.tau = tau
        self.group_by = group_by
        self.break_ties = break_ties

    def _learn(self, X: Activations, y: NDArray | None) -> _TrainingPatterns:
        return _TrainingPatterns(_pack(X), self._training_classes(X, y))

    def _finish(self, summary: _TrainingPatterns) -> None:
        bits, classes = summary.bits, summary.classes
        stored = np.flatnonzero(classes.counts)
        self._check_any_counts(len(stored))
        self.unknown_class_score_ = -float(self.n_features_in_)
        self.stores_ = build_stores(bits[stored], classes.own[stored], self.learnt_rows_[stored])
        self._patterns, self._own_classes = bits, classes.own
        if self.break_ties:
            errors = [store.n_rows * store.squared_share_error for store in self.stores_.values()]
            self.score_error_ = float(np.sqrt(np.sum(errors) / len(stored)))

    def _threshold(self, training_scores: Floats) -> float:
        if self.tau is None:
            return super()._threshold(training_scores)
        # Where a class has no pattern, no tau is large enough.
        above_unknown = float(np.nextafter(self.unknown_class_score_, 0.0))
        return max(-float(np.floor(self.tau)), above_unknown)

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        # A sample is left out of the store in which it would find itself.
        bits, classes = _pack(X), self._training_classes(X, y)
        scores, finds_itself = np.empty(len(X)), classes.finds_itself
        if len(elsewhere := np.flatnonzero(~finds_itself)):
            scores[elsewhere] = self._look_up(bits[elsewhere], classes.lookup[elsewhere])
        for label, store in self.stores_.items():
            rows = np.flatnonzero(finds_itself & (classes.own == label))
            if len(rows):
                scores[rows] = self._similarity(*store.nearest_left_out(bits[rows]))
        return scores

    def _look_up(self, bits: PackedBits, lookup: NDArray) -> Floats:
        return self._similarity(*nearest_of_class(self.stores_, bits, lookup))

    def _similarity(self, distances: NDArray, shares: NDArray) -> Floats:
        return (shares if self.break_ties else 0.0) - distances

    def _score_samples(self, X: Activations) -> Floats:
        return self._look_up(_pack(X), self._lookup_classes(X))

    def _nearest_stored(self, X: Activations, n_neighbors: int) -> tuple[NDArray, NDArray[np.intp]]:
        bits, lookup = _pack(X), self._lookup_classes(X)
        distances = np.full((len(X), n_neighbors), bits.n_bits)
        found = np.full((len(X), n_neighbors), -1)
        for label, store in self.stores_.items():
            if (rows := np.flatnonzero(lookup == label)).size:
                distances[rows], found[rows] = store.kneighbors(bits[rows], n_neighbors)
        return distances, np.where(found < 0, -1, np.searchsorted(self.learnt_rows_, found))

    def _stored_layers(self, X: Activations, positions: NDArray[np.intp]) -> dict[str, NDArray]:
        bits = self._patterns[positions.ravel()].unpack()
        return split_layers(bits.reshape(*positions.shape, -1), X.layer_shapes)

    def _stored_labels(self) -> NDArray | None:
        return self._own_classes if self._by_class else None

    def _expected_failed_checks(self) -> dict[str, str]:
        if not self.break_ties:
            return failed_outlier_checks(FEW_PATTERNS)
        if self.tau is not None:
            return failed_outlier_checks(
                "A threshold that is given as a distance rejects no training sample of the check: "
                "each is at distance 0 from itself."
            )
        return {}


@dataclass
class _TrainingPatterns:
    """The patterns of in-distribution training samples, and their classes."""

    bits: PackedBits
    classes: TrainingClasses

    def merge(self, other: _TrainingPatterns) -> _TrainingPatterns:
        words = np.concatenate([self.bits.words, other.bits.words])
        bits = PackedBits(words, self.bits.n_bits)
        return _TrainingPatterns(bits, self.classes.merge(other.classes))


def _pack(X: Activations) -> PackedBits:
    """The patterns of all layers side by side."""
    packed = pack_layers(X)
    if len(packed) == 1:
        return packed[0]
    return PackedBits.pack(np.concatenate([bits.unpack() for bits in packed], axis=1))
