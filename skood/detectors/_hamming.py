"""Binary neuron activation patterns compared by Hamming distance."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from .._classes import check_class_labels, lookup_classes
from .._estimator_checks import FEW_PATTERNS, failed_outlier_checks
from .._fit_context import fit_context
from .._marks import in_distribution_rows, take_rows
from .._patterns import PackedBits, build_stores, nearest_of_class, pack_layers
from .._sklearn import Interval, StrOptions
from .._validation import check_activations
from ._base import BaseOneClassDetector
from ._stored_samples import StoredSamplesMixin, split_layers


class HammingNAPDetector(StoredSamplesMixin, BaseOneClassDetector):
    """Hamming distance to the nearest activation pattern of the predicted class.

    The detector stores the binary activation patterns of the training samples, class by class [1]_.
    A sample is in-distribution if the network's neurons fire as they did for some training
    sample of the class that the network predicts.

    Parameters
    ----------
    tau : float, default=None
        Threshold: a sample is out-of-distribution if its distance is larger, or if no pattern of
        its class is stored. ``false_alarm_rate`` is then not used. By default the threshold rejects
        that share of the training samples, each scored with itself left out.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Share of in-distribution samples to reject, where ``tau`` is None.
    group_by : {"prediction", "label"}, default="prediction"
        Class under which a training pattern is stored: the one that the network predicted, or the
        one that ``y`` tells. Samples are always looked up under their predicted class.
    store : {"all", "correct"}, default="all"
        Which training patterns to store: all, or those of the samples that the network
        classified correctly, which ``y`` tells.
    break_ties : bool, default=True
        Tell equal distances apart by how common the nearest pattern was in training. It adds a
        share below 1 to the score, and so never overrules one bit of distance.

    Attributes
    ----------
    stores_ : dict of label to PatternStore
        Stored patterns by class. Each has ``patterns`` (:class:`~skood.activations.PackedBits`, the
        most common
        first) and ``counts``. The one key is 0 where ``fit`` saw no predictions.
    training_rows_ : ndarray of shape (n_in_distribution_samples,)
        Rows that were learnt from: those not marked -1.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each with itself left out.
    offset_ : float
        Threshold on ``score_samples``.
    n_samples_seen_ : int
        Number of rows that ``fit`` and ``partial_fit`` were given.
    n_features_in_ : int
        Number of neurons seen in ``fit``, over all layers.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where ``fit`` saw a data frame with string names.
    layer_shapes_ : dict of str to tuple
        Shape of one sample in each layer, where ``fit`` saw ``Activations``.

    See Also
    --------
    PercentileBinarizer : Makes the patterns.
    skood.ensemble.AutoNAPDetector : Chooses layers, poolings and percentiles.

    Notes
    -----
        Layers that are not :class:`~skood.activations.PackedBits` are binarised by "value above 0".
        The distance
    over several layers is the sum of theirs. A class that no stored pattern has is as far as
    can be, and rejected: the distance is the number of neurons. Where the training samples of such
    classes are more than the threshold rejects, they are all that it rejects. With
    ``store="correct"``,
    ``tau=gamma`` and patterns from ``PercentileBinarizer(rule="zero")`` this is the monitor
    of [2]_.

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
        **BaseOneClassDetector._parameter_constraints,
        "tau": [Interval(Real, 0, None, closed="left"), None],
        "group_by": [StrOptions({"prediction", "label"})],
        "store": [StrOptions({"all", "correct"})],
        "break_ties": ["boolean"],
    }

    def __init__(
        self,
        *,
        tau=None,
        false_alarm_rate=0.05,
        group_by="prediction",
        store="all",
        break_ties=True,
    ):
        super().__init__(false_alarm_rate=false_alarm_rate)
        self.tau = tau
        self.group_by = group_by
        self.store = store
        self.break_ties = break_ties

    def fit(self, X, y=None):
        """Store the patterns of the in-distribution samples and set the threshold.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Patterns by layer, or those of one layer. Values above 0 count as 1.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution sample, which is left out.

        Returns
        -------
        self : object
            Fitted detector.

        Raises
        ------
        ValueError
            If labels or predictions are missing that ``group_by`` or ``store`` asks for, a label is
            not among the classes of the network, or no sample is left.
        """
        return super().fit(X, y)

    def _fit(self, X, y):
        self._by_class = X.predictions is not None
        self._unknown_class_score = -float(self.n_features_in_)
        self._remember(self._read(X, y, self.training_rows_))

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Store the patterns of more samples; any batches give what one ``fit`` gives.

        The threshold is computed anew from all samples seen so far.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            As in ``fit``.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        self : object
            Fitted detector.
        """
        if not hasattr(self, "stores_"):
            return self.fit(X, y)
        X = check_activations(self, X, reset=False)
        rows = in_distribution_rows(y, len(X), allow_none=True)
        batch = self._read(*take_rows(X, y, rows), self.n_samples_seen_ + rows)
        self.n_samples_seen_ += len(X)
        self._remember(self._seen.append(batch))
        self.training_rows_ = self._seen.rows
        self._set_threshold(self._score_training_samples(X))
        return self

    def _read(self, X, y, rows):
        if self.group_by == "label" or self.store == "correct":
            wanted = f"group_by={self.group_by!r} with store={self.store!r}"
            check_class_labels(X, y, wanted)
        asked = lookup_classes(self, X, by_class=self._by_class)
        return _Seen(
            bits=_pack(X),
            asked=asked,
            kept=y if self.group_by == "label" else asked,
            stored=asked == y if self.store == "correct" else np.ones(len(X), dtype=bool),
            rows=rows,
        )

    def _remember(self, seen):
        if not seen.stored.any():
            raise ValueError(
                "No pattern to store: store='correct' needs a sample that is classified correctly."
            )
        self._seen = seen
        stored = np.flatnonzero(seen.stored)
        self.stores_ = build_stores(seen.bits[stored], seen.kept[stored], seen.rows[stored])
        if self.break_ties:
            errors = [store.n_rows * store.squared_share_error for store in self.stores_.values()]
            self._score_error = float(np.sqrt(np.sum(errors) / len(stored)))

    def _threshold(self, training_scores):
        if self.tau is None:
            return super()._threshold(training_scores)
        # Where a class has no pattern, no tau is large enough.
        above_unknown = float(np.nextafter(self._unknown_class_score, 0.0))
        return max(-float(np.floor(self.tau)), above_unknown)

    def _score_training_samples(self, X):
        # Of all batches; a sample is left out of the store in which it would find itself.
        seen = self._seen
        elsewhere = np.flatnonzero(~seen.stored | (seen.kept != seen.asked))
        scores = np.empty(len(seen.asked))
        scores[elsewhere] = self._look_up(seen.bits[elsewhere], seen.asked[elsewhere])
        for label, store in self.stores_.items():
            in_store = seen.stored & (seen.kept == label)
            finds_itself = seen.asked[in_store] == label
            left_out = self._similarity(*store.nearest_left_out())
            scores[np.flatnonzero(in_store)[finds_itself]] = left_out[finds_itself]
        return scores

    def _look_up(self, bits, asked):
        return self._similarity(*nearest_of_class(self.stores_, bits, asked))

    def _similarity(self, distances, shares):
        return (shares if self.break_ties else 0.0) - distances

    def _score_samples(self, X):
        return self._look_up(_pack(X), lookup_classes(self, X, by_class=self._by_class))

    def _nearest_stored(self, X, n_neighbors):
        bits, asked = _pack(X), lookup_classes(self, X, by_class=self._by_class)
        distances = np.full((len(X), n_neighbors), bits.n_bits)
        found = np.full((len(X), n_neighbors), -1)
        for label, store in self.stores_.items():
            if (rows := np.flatnonzero(asked == label)).size:
                distances[rows], found[rows] = store.kneighbors(bits[rows], n_neighbors)
        return distances, np.where(found < 0, -1, np.searchsorted(self.training_rows_, found))

    def _stored_layers(self, X, positions):
        bits = self._seen.bits[positions.ravel()].unpack()
        return split_layers(X, bits.reshape(*positions.shape, -1))

    def _stored_labels(self):
        return self._seen.kept if self._by_class else None

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
class _Seen:
    """What is remembered of the in-distribution training samples, one entry a sample."""

    bits: PackedBits
    asked: NDArray  # the class under which the sample is looked up
    kept: NDArray  # the class under which it is stored
    stored: NDArray[np.bool_]  # whether it is stored
    rows: NDArray[np.intp]

    def append(self, other):
        return _Seen(
            PackedBits(np.concatenate([self.bits.words, other.bits.words]), self.bits.n_bits),
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in ("asked", "kept", "stored", "rows")
            ),
        )


def _pack(X):
    """The patterns of all layers side by side."""
    packed = pack_layers(X)
    if len(packed) == 1:
        return packed[0]
    return PackedBits.pack(np.concatenate([bits.unpack() for bits in packed], axis=1))
