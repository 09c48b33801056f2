"""Layers and head, weighed by what the layers know: the detector of the default monitor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from math import ceil
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import row_norms

from .._batches import row_batches
from .._block_transform import in_blocks_if_larger
from .._classes import has_predictions, rows_to_accept, tells_classes
from .._diagram import MembersMixin
from .._foreign import are_named
from .._held_out import Rows
from .._layer_names import value_names
from .._memory import may_be_kept
from .._named_detectors import NamedDetectors
from .._progress import Progress, steps
from .._sklearn import Interval, StrOptions
from .._spread import evenly
from .._streams import check_fitted
from .._tables import memory_text
from .._threshold_sample import (
    ThresholdSample,
    bytes_of_row,
    evenly_fewer,
    hash_rows,
    rows_allowed,
)
from .._values import Floats, below_all, differ_within_classes
from .._warnings import saying_nothing
from ..activations import Activations, read_once
from ..detectors import BaseIncrementalDetector, forget_batches, joined, rows_of
from ._adaptive_members import (
    feature_detectors,
    head_detectors,
    joint_detectors,
    layer_detectors,
)
from ._calibrations import TailCalibration
from ._knowledge import class_knowledge, predicted_classes
from ._layers import LayerEnsembleDetector
from ._members import fit_and_calibrate, layers_to_read, member_scores, of_detector
from ._together import FEW, Reading, Together

Keys = NDArray[np.uint64]

HINGE = np.log(0.1)
"""Log p-value above which what watches layers is silent beside a head that knows more."""
ERROR_POWER = 4
"""Of the share of the layers: errors are told by the softmax, unless all layers know better."""
FAR = np.log(0.01)
"""Log p-value below which what watches all layers at once is heard."""
_SAME_NORMS = "the norms of all training samples of a class are the same in every layer"
_KEPT_BYTES = 2**26
"""Of samples, which ``fit`` keeps for more batches: 64 MiB."""
_ROWS_PER_CLASS = 10
"""With fewer on average, layers are compared with those of samples of all classes."""


class AdaptiveEnsembleDetector(MembersMixin, BaseIncrementalDetector, NamedDetectors):
    """Layers and head of a network, each with the voice that the network itself gives it.

    No single method is good on every network: distances and patterns of all layers are best where
    every layer knows the classes, as in perceptrons on tables, and lose to plain scores of the
    logits where early layers know nothing of them, as in deep networks on small images. How much
    layers know is seen in in-distribution data; it decides who is listened to.

    Parameters
    ----------
    target : {"ood", "misclassified"}, default="ood"
        What a low score stands for: out-of-distribution inputs, or inputs whose predicted class is
        wrong. See Notes for the score of each.
    layer_detectors : list of (str, detector), default=None
        Detectors that watch every layer, a copy for each layer, combined by
        :class:`LayerEnsembleDetector` with ``combine="informed"``. The default are Mahalanobis
        distances of normalised values [1]_, relative ones [2]_ for errors, and Hamming distances
        of activation patterns at the percentiles 30, 50 and 70 [3]_.
    head_detectors : list of (str, detector), default=None
        Detectors that watch logits and head. The default are distances to the decision
        boundaries [4]_ and the energy [5]_, and for errors the largest softmax probability.
    feature_detectors : list of (str, detector), default=None
        Detectors that watch the layer that the head reads. The default is that of Mahalanobis
        distances, and none for errors.
    joint_detectors : list of (str, detector), default=None
        Detectors that watch all layers at once, and are heard where they are far from what is
        usual. The default are the norms of the layers [6]_, and none for errors.
    max_layers : int, default=24
        Layers to watch, at most: of more, so many are taken in even steps.
    max_samples : int, default=10000
        Training samples to learn from, at most: of more, those with the smallest hashes of their
        values, which are a random part and the same in any order or batches. It bounds memory and
        time.
    n_jobs : int, default=None
        Number of threads that fit and score the members of each layer. None means 1, -1 all
        processors.
    verbose : int, default=0
        Whether to show which of the detectors are fitted; see :ref:`progress`.

    Attributes
    ----------
    layers_ : list of str
        The layers that are watched, in forward order.
    knowledge_ : ndarray of shape (n_layers,)
        How well each of them tells the predicted classes apart, from 0 for chance to 1.
    layer_share_ : float
        Weight of the layers, the square of their mean knowledge; 1 without a head.
    named_estimators_ : dict of str to estimator
        The fitted detectors by name, those of the layers first.
    left_out_ : dict of str to str
        Why layers or detectors are left out, by their names.

    See Also
    --------
    LayerEnsembleDetector : One kind of detector over all layers.
    skood.make_monitor : Builds a monitor of a network with this detector.

    Notes
    -----
    **Evidence.** Each score becomes a log p-value: of its rank among the scores of training
    samples, as if these had not been learnt from, and below their 10 % quantile of an exponential
    tail with their mean excess. Ranks rise evenly between some of these scores, as with
    ``combine="informed"``, so that rounding moves a score no more than it moves those of members.
    The layers' scores are combined by what each of them knows, see
    ``combine="informed"`` in :class:`LayerEnsembleDetector`, and so is one log p-value for each of
    the ``layer_detectors``.

    **Score for OOD inputs.** With a the ``layer_share_``, a times the sum for the layers, plus
    1 - a times the sum for the head and, for layers and features, of how far each is below the log
    of 0.1. Where layers know little of the classes, they have no say about what looks ordinary,
    which keeps what the head knows about inputs near to the training data, and all the more
    about what does not. What is far from usual norms, below the log of 0.01, is added by how far.

    **Score for errors.** The sum for the head, plus the fourth power of a times that for layers.

    **Threshold.** With ``validation`` and ``target="misclassified"``, only rows that are classified
    correctly set it where ``y`` tells classes: these are the ones to accept.

    **Less than a classifier.** Without logits or head, detectors that need them are left out; with
    ``target="misclassified"`` there has to be one. Without predictions, as of a regression network,
    all samples are of one class, layers count alike and in full. With fewer than 10 samples a
    predicted class on average, layers are compared with those of samples of all classes. Constant
    layers are left out. Otherwise a sample of a predicted class that no training sample was of is
    rejected.

    **Memory** of a fitted detector, for each layer of d units, and once more for what the head
    reads: at most 8 d (min(d, 2048) + 3 C) bytes for distances to C predicted classes, twice that
    for relative ones, and d + 350 bytes for each of at most ``max_samples`` training samples, for
    patterns and scores. Beside this there are 16 bytes for each sample given to ``fit``, and some
    KiB for each member. A monitor that scores single inputs keeps half of the distances and the
    patterns once more, in the order in which it reads them. For more batches, all values of
    training samples are kept: of up to ``max_samples``, or as many as take 32 MiB if those are
    more. ``fit`` keeps them if they take no more than 64 MiB and an eighth of the memory that is
    left, and otherwise none; ``partial_fit`` always does.

    **Batches.** ``partial_fit`` and ``merge`` fit the members anew, on the samples that one ``fit``
    of all would learn from: all, or those with the smallest hashes. What is learnt is the same for
    any order and batches; so is the threshold as long as all samples are kept, and otherwise it
    comes from those that are. Each batch takes as long as a ``fit`` of what is kept, so that few
    large ones are faster.

    **Limits.** Distances and patterns look at directions: inputs whose activations are those of
    ordinary ones but for a factor are found by their norms, where these are far from all others,
    and otherwise left to the head. Nothing is to be seen of the scale of an input in a network
    that takes it away at the beginning, as by a layer norm. Where the layers know all classes, as
    in perceptrons on tables, the head is hardly heard, also if it knows more about inputs between
    two classes. Patterns count as much as distances, also in layers without zeros, as after tanh or
    layer normalisation, where they tell less. ``make_monitor(search=True)`` finds out where OOD
    samples are at hand.

    All decisions inside rest on in-distribution samples; rows marked -1 are not learnt from.

    References
    ----------
    .. [1] M. Müller, M. Hein, "Mahalanobis++: Improving OOD detection via feature normalization",
       ICML 2025. arXiv:2505.18032
    .. [2] J. Ren, S. Fort, J. Liu, A. G. Roy, S. Padhy, B. Lakshminarayanan, "A simple fix to
       Mahalanobis distance for improving near-OOD detection", 2021. arXiv:2106.09022
    .. [3] B. Olber, K. Radlak, A. Popowicz, M. Szczepankiewicz, K. Chachuła, "Detection of
       out-of-distribution samples using binary neuron activation patterns", CVPR 2023.
       arXiv:2212.14268
    .. [4] L. Liu, Y. Qin, "Fast decision boundary based out-of-distribution detector", ICML 2024.
       arXiv:2312.11536
    .. [5] W. Liu, X. Wang, J. Owens, Y. Li, "Energy-based out-of-distribution detection",
       NeurIPS 2020. arXiv:2010.03759
    .. [6] J. Park, J. C. L. Chai, J. Yoon, A. B. J. Teoh, "Understanding the feature norm for
       out-of-distribution detection", ICCV 2023. arXiv:2310.05316

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.ensemble import AdaptiveEnsembleDetector
    >>> rng = np.random.default_rng(0)
    >>> label = np.repeat([0, 1], 100)
    >>> hidden = np.eye(2)[label] + 0.1 * rng.normal(size=(200, 2))
    >>> head = LinearHead(4 * np.eye(2), input_layer="relu")
    >>> A = Activations({"relu": hidden}, logits=4 * hidden, head=head)
    >>> detector = AdaptiveEnsembleDetector().fit(A)
    >>> new = np.array([[0.9, 0.1], [0.9, 0.9]])
    >>> detector.predict(Activations({"relu": new}, logits=4 * new, head=head))
    array([ 1, -1])
    >>> detector.knowledge_, detector.layer_share_, list(detector.named_estimators_)
    (array([1.]), 1.0, ['distances', 'patterns', 'features', 'norms', 'boundaries', 'energy'])
    """

    _lists_of_detectors = (
        "layer_detectors",
        "head_detectors",
        "feature_detectors",
        "joint_detectors",
    )

    _parameter_constraints: dict = {
        **BaseIncrementalDetector._parameter_constraints,
        "target": [StrOptions({"ood", "misclassified"})],
        "layer_detectors": [list, None],
        "head_detectors": [list, None],
        "feature_detectors": [list, None],
        "joint_detectors": [list, None],
        "max_layers": [Interval(Integral, 1, None, closed="left")],
        "max_samples": [Interval(Integral, 2, None, closed="left")],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    _prototypes = frozenset(_lists_of_detectors)
    _n_stages_of_fit = 1

    def __init__(
        self,
        *,
        target: str = "ood",
        layer_detectors: Sequence[tuple[str, Any]] | None = None,
        head_detectors: Sequence[tuple[str, Any]] | None = None,
        feature_detectors: Sequence[tuple[str, Any]] | None = None,
        joint_detectors: Sequence[tuple[str, Any]] | None = None,
        max_layers: int = 24,
        max_samples: int = 10_000,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.target = target
        self.layer_detectors = layer_detectors
        self.head_detectors = head_detectors
        self.feature_detectors = feature_detectors
        self.joint_detectors = joint_detectors
        self.max_layers = max_layers
        self.max_samples = max_samples
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _fit(self, X: Activations, y: NDArray | None) -> Floats:  # type: ignore[override]
        forget_batches(self)
        keys = None
        if len(X) > self.max_samples:
            keys = hash_rows(X, y)
        rows = rows_to_learn_from(keys, np.ones(len(X), dtype=np.intp), self.max_samples)
        learnt, labels = rows_of(X, y, rows)
        # All members read them, which lie far apart in files of all samples.
        self._learn_from(in_blocks_if_larger(learnt, read_once), labels)
        del learnt
        self._keep(X, y, keys)
        if keys is None:
            return self._learnt_scores
        return self._scores_by_key(X, keys, keys[rows])

    def _learn_from(self, X: Activations, y: NDArray | None) -> None:
        """Fit the members on all samples; sets the combined scores of these, each left out."""
        self._check_names()
        self.left_out_: dict[str, str] = {}
        self.named_estimators_: dict[str, Any] = {}
        self._groups: list[str] = []
        n_detectors = sum(map(len, self._all_detectors().values()))
        with steps(self, n_detectors, "detectors") as told:
            scores = [
                *self._fit_layers(X, y, told),
                *self._fit_features(X, y, told),
                *self._fit_joint(X, y, told),
                *self._fit_head(X, y, told),
            ]
        self._learnt_scores = self._calibrate(np.column_stack(scores))

    def _all_detectors(self) -> dict[str, list[tuple[str, Any]]]:
        """Those to fit by parameter, some of which may be left out."""
        defaults = {
            "layer_detectors": layer_detectors(self.target, have_classes=True),
            "feature_detectors": feature_detectors(self.target),
            "joint_detectors": joint_detectors(self.target),
            "head_detectors": head_detectors(self.target),
        }
        given = {name: getattr(self, name) for name in defaults}
        return {name: defaults[name] if given[name] is None else given[name] for name in given}

    def _members_shown(self) -> list[tuple[str, Any]]:
        if hasattr(self, "named_estimators_"):
            return list(self.named_estimators_.items())
        of_layers, *others = self._all_detectors().values()
        watching = [(name, self._of_all_layers(detector, None)) for name, detector in of_layers]
        return [*watching, *(pair for pairs in others for pair in pairs)]

    def _keep(self, X: Activations, y: NDArray | None, keys: Keys | None) -> None:
        """Keep what more batches need, unless that takes much more memory than all else."""
        n_bytes = min(len(X), self._max_kept(X)) * bytes_of_row(X)
        self._are_too_large = not may_be_kept(n_bytes, _KEPT_BYTES)
        if self._are_too_large or not self._keeps_batches:
            return
        self._summary = ThresholdSample.of(X, y, np.arange(len(X)), self._max_kept(X), keys)
        if self.validation is None:
            rows = self.training_rows_[self._summary.rows]
            self._sample = replace(self._summary, rows=rows)

    def _max_kept(self, X: Activations) -> int:
        return max(self.max_samples, rows_allowed(X))

    def _begin(self) -> None:
        super()._begin()
        self._are_too_large = False
        self.__dict__.pop("_accepts_right_ones", None)

    def _check_can_learn_more(self) -> None:
        if self._are_too_large:
            raise ValueError(
                f"Samples that this {type(self).__name__} learns from, up to max_samples="
                f"{self.max_samples}, take more than {memory_text(_KEPT_BYTES)}, or than an eighth "
                "of the memory that was left, and so fit has kept none that more could be added "
                "to: begin with partial_fit, which does, or set max_samples lower."
            )
        super()._check_can_learn_more()

    def _learn(self, X: Activations, y: NDArray | None) -> ThresholdSample:
        return ThresholdSample.of(X, y, np.arange(len(X)), self._max_kept(X))

    def _learn_in_batches(self, X: Activations, y: NDArray | None) -> ThresholdSample:
        return self._learn(X, y)  # which reads the samples that are kept, and hashes in batches

    def _finish(self, summary: ThresholdSample) -> None:
        keys = None
        if summary.n_seen > self.max_samples:
            keys = hash_rows(summary.X, summary.y) if summary.keys is None else summary.keys
        rows = rows_to_learn_from(keys, summary.counts, self.max_samples)
        X, y = rows_of(summary.X, summary.y, rows)
        # What members say of very few samples is said of the next ones, if it is still so.
        are_few = len(X) < _ROWS_PER_CLASS * len(np.unique(predicted_classes(X)))
        with saying_nothing() if are_few else nullcontext():
            self._learn_from(X, y)
        self._learnt_keys = hash_rows(X, y) if keys is None else keys[rows]

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        return self._scores_by_key(X, hash_rows(X, y), self._learnt_keys)

    def _scores_by_key(self, X: Activations, keys: Keys, learnt: Keys) -> Floats:
        """Scores of samples, of which those with the keys of learnt ones are left out."""
        order, scores, start = np.argsort(learnt, kind="stable"), np.empty(len(X)), 0
        ordered = learnt[order]
        for block in X.batches():
            own, found = keys[start : start + len(block)], scores[start : start + len(block)]
            places = np.minimum(np.searchsorted(ordered, own), len(learnt) - 1)
            is_learnt = ordered[places] == own
            found[is_learnt] = self._learnt_scores[order[places[is_learnt]]]
            if not is_learnt.all():
                found[~is_learnt] = self._score_in_batches(block[~is_learnt])
            start += len(block)
        return scores

    def _sample_of(self, X: Activations, y: NDArray | None, rows: Rows) -> ThresholdSample:
        if self.validation is not None:
            return super()._sample_of(X, y, rows)
        return ThresholdSample.of(X, y, rows, self._max_kept(X))

    def _score_sample(self) -> Floats:
        if self.validation is None:  # they hold the same samples
            self._sample = replace(self._sample, X=self._summary.X, y=self._summary.y)
        return super()._score_sample()

    def _score_held_out(self, X: Activations, y: NDArray | None) -> Floats:
        if not hasattr(self, "_summary"):
            return self._score_in_batches(X)
        return super()._score_held_out(X, y)

    def _may_set_threshold(self, X: Activations, y: NDArray | None) -> NDArray[np.bool_]:
        if not hasattr(self, "_sample"):
            self._accepts_right_ones = self.target == "misclassified" and tells_classes(y)
            return rows_to_accept(self.target, X, y)
        # Of later batches, which may be small, labels tell no more than those of the first.
        if not self._accepts_right_ones or y is None:
            return np.ones(len(X), dtype=bool)
        return np.asarray(X.predictions == y)

    def _check_names(self) -> None:
        given = [
            self.layer_detectors,
            self.feature_detectors,
            self.joint_detectors,
            self.head_detectors,
        ]
        defaults = [
            layer_detectors(self.target, have_classes=True),
            feature_detectors(self.target),
            joint_detectors(self.target),
            head_detectors(self.target),
        ]
        pairs = [
            pair
            for own, default in zip(given, defaults, strict=True)
            for pair in (default if own is None else own)
        ]
        if not pairs or not are_named(pairs) or len({name for name, _ in pairs}) < len(pairs):
            raise ValueError(
                "layer_detectors, feature_detectors, joint_detectors and head_detectors must be "
                "lists of pairs of a name and a detector, one pair or more in all and each name "
                "once, also beside the defaults "
                f"{[name for default in defaults for name, _ in default]}; got {given}."
            )
        self._validate_names([name for name, _ in pairs])

    def _fit_layers(self, X: Activations, y: NDArray | None, told: Progress) -> list[Floats]:
        """Learn from the layers; returns each detector's scores with each sample left out."""
        n_classes = len(np.unique(predicted_classes(X)))
        self.layers_ = self._layers_to_watch(X)
        self._looks_at_classes = len(X) >= _ROWS_PER_CLASS * n_classes
        named = self.layer_detectors
        if named is None:
            have_classes = self._looks_at_classes and n_classes > 1
            named = layer_detectors(self.target, have_classes=have_classes)
        layers, scores = self._read_layers(X), []
        knowledge: Floats | None = None
        if not (named and self._looks_at_classes):
            knowledge = class_knowledge(X[self.layers_])
        for name, detector in named:
            ensemble = self._of_all_layers(detector, knowledge)
            scores.append(self._fit_member("layers", name, ensemble, layers, y, told))
            # The first of them finds it, from its own distances where it can.
            knowledge = self.named_estimators_[name].knowledge_
        self.knowledge_ = np.asarray(knowledge)
        return scores

    def _of_all_layers(self, detector: Any, knowledge: Floats | None) -> LayerEnsembleDetector:
        return LayerEnsembleDetector(
            detector, combine="informed", knowledge=knowledge, n_jobs=self.n_jobs
        )

    def _layers_to_watch(self, X: Activations) -> list[str]:
        names = value_names(X)
        classes = np.unique(predicted_classes(X), return_inverse=True)[1]
        # Where nothing varies, nothing better is to be had.
        varying = [name for name in names if _varies(X[[name]], _only_layer, classes)] or names
        kept = evenly(varying, self.max_layers)
        for name in names:
            if name not in varying:
                self.left_out_[name] = "it gives all training samples of a class the same values"
            elif name not in kept:
                self.left_out_[name] = f"of {len(varying)} layers, {len(kept)} are watched"
        return kept

    def _read_layers(self, X: Activations) -> Activations:
        """The layers that are watched, with predictions where there are enough of each class."""
        layers = X[self.layers_]
        if self._looks_at_classes or not has_predictions(X):
            return layers
        return layers._layers_alone()

    def _fit_features(self, X: Activations, y: NDArray | None, told: Progress) -> list[Floats]:
        named = self.feature_detectors
        named = feature_detectors(self.target) if named is None else named
        if reason := _why_no_features(X):
            self.left_out_.update((name, reason) for name, _ in named)
            named = []
        self._features_layer = None if X.head is None else X.head.input_layer
        features = self._read_features(X) if named else X
        return [self._fit_member("features", *pair, features, y, told) for pair in named]

    def _read_features(self, X: Activations) -> Activations:
        """The features alone; of activations without a head, the layer that it reads."""
        features, layer = X._held_part("features"), self._features_layer
        if features is None and layer is not None and layer in X:
            features = X._table.hold(X._table.find(layer))
        if features is None:
            raise ValueError(
                f"AdaptiveEnsembleDetector was fitted with the features that the head reads, but X "
                f"has neither features nor a layer {layer!r}."
            )
        if X._trust is not None:
            return X._with_layers({"features": np.asarray(features)})
        return Activations({"features": features}, predictions=X.predictions)

    def _fit_joint(self, X: Activations, y: NDArray | None, told: Progress) -> list[Floats]:
        named = self.joint_detectors
        layers = self._read_layers(X)
        if named is None:
            named = joint_detectors(self.target)
            if not _norms_vary(layers):
                self.left_out_.update((name, _SAME_NORMS) for name, _ in named)
                named = []
        return [self._fit_member("joint", *pair, layers, y, told) for pair in named]

    def _fit_head(self, X: Activations, y: NDArray | None, told: Progress) -> list[Floats]:
        named = self.head_detectors
        scores = []
        for name, detector in head_detectors(self.target) if named is None else named:
            try:
                scores.append(self._fit_member("head", name, detector, X, y, told))
            except ValueError as error:
                if self.target == "misclassified" or _has_parts_of_head(X):
                    raise
                self.left_out_[name] = str(error)
        return scores

    def _fit_member(
        self,
        group: str,
        name: str,
        detector: Any,
        X: Activations,
        y: NDArray | None,
        told: Progress,
    ) -> Floats:
        member = clone(detector)
        with told.step(name, member):
            fitted, scores = fit_and_calibrate(member, X, y)
        forget_batches(fitted)
        self.named_estimators_[name] = fitted
        self._groups.append(group)
        return scores

    def _member_scores(self, X: Activations) -> Floats:
        if X._trust is not None and len(X) <= FEW:
            together = X._trust.once(self, partial(self._together, X))
            if (found := together.scores(X)) is not None:
                return found
        layers = self._read_layers(X)
        read = {"layers": layers, "joint": layers, "head": X}
        if "features" in self._groups:
            read["features"] = self._read_features(X)
        members = zip(self.named_estimators_.values(), self._groups, strict=True)
        return np.column_stack([member_scores(member, read[group]) for member, group in members])

    def _together(self, X: Activations) -> Together:
        layers = Reading(self._read_layers, self.layers_)
        readings = {"layers": layers, "joint": layers, "head": Reading(lambda X: X, X.layer_names)}
        if "features" in self._groups:
            features, layer = self._read_features(X)["features"], self._features_layer
            # Where they are a layer, that may be watched, too.
            key = layer if layer in X.layer_names and X[layer] is features else None
            readings["features"] = Reading(self._read_features, ["features"], {"features": key})
        return Together(
            [*self.named_estimators_.values()],
            [readings[group] for group in self._groups],
            LayerEnsembleDetector,
            X,
        )

    def _calibrate(self, scores: Floats) -> Floats:
        """Combined scores of the training samples, those of unknown classes below all others."""
        self.layer_share_ = float(self.knowledge_.mean() ** 2) if "head" in self._groups else 1.0
        members = self.named_estimators_.values()
        self._scores_of_unknown = [of_detector(m, "unknown_class_score_", -np.inf) for m in members]
        is_known = ~self._are_of_unknown_class(scores)
        self._calibration = TailCalibration(scores[is_known] if is_known.any() else scores)
        combined = self._combine(scores, left_out=True)
        self.unknown_class_score_ = below_all(combined)
        return self._reject_unknown(combined, is_known)

    def _are_of_unknown_class(self, scores: Floats) -> NDArray[np.bool_]:
        return (scores == self._scores_of_unknown).any(axis=1)

    def contributions(self, X: Activations) -> dict[str, Floats]:
        """What each detector adds to the scores, which is less than 0 where it objects.

        Parameters
        ----------
        X : Activations
            Activations of the layers seen in ``fit``.

        Returns
        -------
        dict of str to ndarray of shape (n_samples,)
            For each of ``named_estimators_``. They add up to what ``score_samples`` gives, but for
            samples of a predicted class of which nothing was learnt.
        """
        check_fitted(self)
        scores = self._member_scores(self._validate(X, reset=False))
        return dict(zip(self.named_estimators_, self._weigh(scores).T, strict=True))

    def _combine(self, scores: Floats, *, left_out: bool = False) -> Floats:
        return self._weigh(scores, left_out=left_out).sum(axis=1)

    def _weigh(self, scores: Floats, *, left_out: bool = False) -> Floats:
        """What each member adds to the combined score, by the group that it is of."""
        log_p = self._calibration.log_p_values(scores, left_out=left_out)
        groups = [_weights(self.target, group, self.layer_share_) for group in self._groups]
        plain, alarmed, far = np.array(groups).T
        return np.asarray(
            plain * log_p
            + alarmed * np.minimum(log_p - HINGE, 0)
            + far * np.minimum(log_p - FAR, 0)
        )

    def _score_in_batches(self, X: Activations) -> Floats:
        # Each batch is read once for all members.
        return joined([self._score_samples(read_once(batch)) for batch in X.batches()])

    def _layers_to_read(self) -> set[str] | None:
        members = zip(self.named_estimators_.values(), self._groups, strict=True)
        read = layers_to_read([member for member, group in members if group == "head"])
        return None if read is None else read.union(self.layers_, [str(self._features_layer)])

    def _score_samples(self, X: Activations) -> Floats:
        scores = self._member_scores(X)
        return self._reject_unknown(self._combine(scores), ~self._are_of_unknown_class(scores))


def _weights(target: str, group: str, share: float) -> tuple[float, float, float]:
    """Of log p-values of members of a group, and of how far these are below two levels."""
    if target == "misclassified":
        return {"layers": share**ERROR_POWER, "head": 1.0}.get(group, 0.0), 0.0, 0.0
    return {
        "layers": (share, 1 - share, 0.0),
        "features": (0.0, 1 - share, 0.0),
        "joint": (0.0, 0.0, 1.0),
        "head": (1 - share, 0.0, 0.0),
    }[group]


def rows_to_learn_from(keys: Keys | None, counts: Rows, max_samples: int) -> Rows:
    """Which rows to learn from, some of them several times; depends on no order of them.

    Without keys, all. Otherwise equal rows have the same key, and the different ones with the
    smallest keys are learnt from, as often as they were seen. A row counts no more often than each
    of those is to stand for on average, and if they are too many even so, evenly fewer.

    Parameters
    ----------
    keys : ndarray of shape (n_rows,) or None
        Hashes of the rows.
    counts : ndarray of shape (n_rows,)
        How often each was seen.
    max_samples : int
        How many rows to learn from, at most.
    """
    if keys is None:
        return np.repeat(np.arange(len(counts)), counts)
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    times = np.bincount(same, counts).astype(np.intp)[:max_samples]
    if len(first) > max_samples:
        times = np.minimum(times, ceil(counts.sum() / max_samples))
    return np.repeat(first[:max_samples], evenly_fewer(times, max_samples))


def _norms_vary(X: Activations) -> bool:
    """Whether samples of a class differ in the norm of any layer by more than its rounding."""
    classes = np.unique(predicted_classes(X), return_inverse=True)[1]
    for name in X.layer_names:
        layer = X[[name]]
        parts = (part for block in layer.batches() for part in _parts(_only_layer(block)))
        largest = max(np.finfo(np.float64).tiny, *(float(np.abs(part).max()) for part in parts))
        parts = (part for block in layer.batches() for part in _parts(_only_layer(block)))
        norms = np.concatenate([row_norms(part / largest) for part in parts])[:, np.newaxis]
        dtype = _only_layer(X[:1][[name]]).dtype
        if differ_within_classes(norms / max(norms.max(), 1.0), classes, dtype):
            return True
    return False


def _only_layer(X: Activations) -> NDArray:
    return np.asarray(X[X.layer_names[0]])


def _features(X: Activations) -> NDArray:
    return np.asarray(X.features)


def _varies(
    X: Activations, read: Callable[[Activations], NDArray], classes: NDArray[np.intp]
) -> bool:
    """Whether samples of a class differ in more than their norm and its rounding.

    No more of what is read of them is held at a time than memory should hold.
    """
    rows = read(X[np.unique(classes, return_index=True)[1]])
    first, dtype, start = normalize(rows.astype(np.float64)), rows.dtype, 0
    for part in (part for block in X.batches() for part in _parts(read(block))):
        both = np.concatenate([first, normalize(part)])
        stop = start + len(part)
        codes = np.concatenate([np.arange(len(first)), classes[start:stop]])
        if differ_within_classes(both, codes, dtype):
            return True
        start = stop
    return False


def _parts(rows: NDArray) -> Iterator[Floats]:
    """All rows as 64-bit numbers, some at a time."""
    batches = row_batches(len(rows), rows[:1].size)
    return (rows[batch].astype(np.float64) for batch in batches)


def _why_no_features(X: Activations) -> str:
    """The reason, or nothing where there are features that can be told apart."""
    if X._held_part("features") is not None:
        classes = np.unique(predicted_classes(X), return_inverse=True)[1]
        same = "the features of all training samples of a class are the same"
        return "" if _varies(X, _features, classes) else same
    if X.head is not None:
        return f"the layer that the head reads is not among the layers {list(X.layer_names)}"
    return X.why_missing.get("head", "there is no head")


def _has_parts_of_head(X: Activations) -> bool:
    """Whether there is all that a detector may read of a head, which tells two classes or more."""
    head, names = X.head, X.layer_names
    if head is None or X.logits is None or len(head.weight) < 2:
        return False
    return head.input_layer in names
