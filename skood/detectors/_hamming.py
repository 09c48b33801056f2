"""Binary neuron activation patterns compared by Hamming distance."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._classes import GROUP_BY, TrainingClasses, check_same_kind
from .._estimator_checks import FEW_PATTERNS, failed_outlier_checks
from .._marks import labels_at
from .._patterns import (
    MIN_PATTERNS,
    BasePatternStore,
    IndexedPatternStore,
    PackedBits,
    PatternRuns,
    PatternStore,
    build_stores,
    import_faiss,
    nearest_of_class,
    pack_layers,
)
from .._side_by_side import split_layers
from .._sklearn import Interval, StrOptions
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
    store : str or path-like, default=None
        A folder for the patterns, which are written there in pieces and mapped into memory a few at
        a time; by default they are kept in memory. The answers are the same, bit for bit. Each fit
        makes folders of its own in it, which are deleted with the detector, unless it was pickled
        or copied. Where the folder was moved, set the parameter to where it is now.
    index : {"flat", "ivf", "hnsw"}, default="flat"
        "flat" compares a sample with all patterns of its class, and is exact. The others, for
        classes of 50,000 patterns and more, find the nearest pattern for most samples and one a
        few bits farther for the rest, in far less time: by an inverted file, "ivf", of lists of
        patterns that are near to one of them; or by a graph of near patterns, "hnsw", which takes
        long to build. Both need faiss, and memory for all patterns, wherever ``store`` is.

    Attributes
    ----------
    stores_ : dict of label to store
        Stored patterns by class. Each has ``patterns`` (:class:`~skood.activations.PackedBits`, the
        most common first) and ``counts``; with ``store``, both are read when they are asked for.
        The one key is 0 where ``fit`` saw no predictions.
    recall_ : float
        Share of samples for which the search finds a pattern as near as the nearest: 1 for "flat".
        Otherwise it is measured in ``fit``, by patterns that the index has not been given yet. More
        lists or candidates are looked at until it is about 0.95.
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

    An approximate index can only find a pattern that is too far: scores are then too low, and
    a few more samples are rejected. The threshold comes from the same search. ``kneighbors`` and
    ``nearest_examples`` are always exact.

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
        "store": [str, PathLike, None],
        "index": [StrOptions({"flat", "ivf", "hnsw"})],
    }
    _params_after_learning = BaseIncrementalDetector._params_after_learning | {
        "tau",
        "break_ties",
        "index",
        "store",
    }

    def __init__(
        self,
        *,
        tau: float | None = None,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
        group_by: str = "prediction",
        break_ties: bool = True,
        store: str | PathLike[str] | None = None,
        index: str = "flat",
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.tau = tau
        self.group_by = group_by
        self.break_ties = break_ties
        self.store = store
        self.index = index

    def _learn(self, X: Activations, y: NDArray | None) -> _TrainingPatterns | _StoredPatterns:
        if self.index != "flat":
            import_faiss()
        bits, classes = _pack(X), self._training_classes(X, y)
        if self.store is None:
            return _TrainingPatterns(bits, classes)
        rows = np.flatnonzero(classes.counts)
        labels = classes.own[rows]
        root = Path(self.store)
        return _StoredPatterns(
            PatternRuns.of(root, bits[rows], labels, rows, len(bits)), labels[:1]
        )

    def _finish(self, summary: _TrainingPatterns | _StoredPatterns) -> None:
        self._check_any_counts(summary.n_stored)
        self.unknown_class_score_ = -float(self.n_features_in_)
        self._set_stores(summary.build_stores())
        if self.break_ties:
            errors = [store.n_rows * store.squared_share_error for store in self.stores_.values()]
            self.score_error_ = float(np.sqrt(np.sum(errors) / summary.n_stored))

    def _set_stores(self, stores: dict[Any, BasePatternStore]) -> None:
        """Keep the stores, and index those of many patterns."""
        recall = dict.fromkeys(stores, 1.0)
        if self.index != "flat":
            for label, store in stores.items():
                if store.n_patterns >= MIN_PATTERNS:
                    stores[label] = indexed = IndexedPatternStore(store, self.index)
                    recall[label] = indexed.recall
        self.stores_ = stores
        n_rows = [store.n_rows for store in stores.values()]
        self.recall_ = float(np.average(list(recall.values()), weights=n_rows))

    @property
    def _are_in_memory(self) -> bool:
        """Whether all patterns are in memory, and searched one by one."""
        return all(type(store) is PatternStore for store in self.stores_.values())

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
        self._find_moved()
        return self._similarity(*nearest_of_class(self.stores_, bits, lookup))

    def _similarity(self, distances: NDArray, shares: NDArray) -> Floats:
        return (shares if self.break_ties else 0.0) - distances

    def _score_samples(self, X: Activations) -> Floats:
        return self._look_up(_pack(X), self._lookup_classes(X))

    def _find_moved(self) -> None:
        """Follow the folder of the patterns, where ``store`` says that it is elsewhere now."""
        if self.store is not None:
            for store in self.stores_.values():
                store.move_to(Path(self.store))

    def _nearest_stored(self, X: Activations, n_neighbors: int) -> tuple[NDArray, NDArray[np.intp]]:
        bits, lookup = _pack(X), self._lookup_classes(X)
        self._find_moved()
        distances = np.full((len(X), n_neighbors), bits.n_bits)
        found = np.full((len(X), n_neighbors), -1)
        for label, store in self.stores_.items():
            if (rows := np.flatnonzero(lookup == label)).size:
                distances[rows], found[rows] = store.kneighbors(bits[rows], n_neighbors)
        return distances, found

    def _stored_layers(self, X: Activations, positions: NDArray[np.intp]) -> dict[str, NDArray]:
        bits, lookup = _pack(X), self._lookup_classes(X)
        words = np.zeros((*positions.shape, bits.words.shape[1]), dtype=np.uint64)
        for label, store in self.stores_.items():
            if (rows := np.flatnonzero(lookup == label)).size:
                words[rows] = store.neighbor_patterns(bits[rows], positions.shape[1])
        unpacked = PackedBits(words.reshape(-1, words.shape[2]), bits.n_bits).unpack()
        return split_layers(unpacked.reshape(*positions.shape, -1), X.layer_shapes)

    def _labels_of(self, X: Activations, positions: NDArray[np.intp]) -> NDArray | None:
        if not self._by_class:
            return None
        # A sample is compared with patterns that are stored under the class that it is looked up
        # under.
        rows = np.arange(len(X))[:, np.newaxis]
        return labels_at(self._lookup_classes(X), np.where(positions < 0, -1, rows))

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

    @property
    def n_stored(self) -> int:
        return int(self.classes.counts.sum())

    def build_stores(self) -> dict[Any, BasePatternStore]:
        rows = np.flatnonzero(self.classes.counts)
        return build_stores(self.bits[rows], self.classes.own[rows], rows)

    def merge(self, other: _TrainingPatterns) -> _TrainingPatterns:
        _check_same_place(self, other)
        words = np.concatenate([self.bits.words, other.bits.words])
        bits = PackedBits(words, self.bits.n_bits)
        return _TrainingPatterns(bits, self.classes.merge(other.classes))


@dataclass
class _StoredPatterns:
    """The same on the disk; ``a_label`` is one of those of the stored patterns, where any are."""

    runs: PatternRuns
    a_label: NDArray

    @property
    def n_stored(self) -> int:
        return self.runs.n_stored

    def build_stores(self) -> dict[Any, BasePatternStore]:
        return dict(self.runs.build())

    def merge(self, other: _StoredPatterns) -> _StoredPatterns:
        _check_same_place(self, other)
        check_same_kind(self.a_label, other.a_label)
        a_label = self.a_label if len(self.a_label) else other.a_label
        return _StoredPatterns(self.runs.merge(other.runs), a_label)


def _check_same_place(summary: Any, other: Any) -> None:
    if type(summary) is not type(other):
        raise ValueError(
            "Some patterns are kept in memory and others in a folder, which cannot be merged: set "
            "the parameter 'store' as it was for the first samples, or call fit."
        )


def _pack(X: Activations) -> PackedBits:
    """The patterns of all layers side by side."""
    packed = pack_layers(X)
    if len(packed) == 1:
        return packed[0]
    return PackedBits.pack(np.concatenate([bits.unpack() for bits in packed], axis=1))
