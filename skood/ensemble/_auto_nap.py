"""Auto-configured binary neuron activation patterns."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

from .._classes import GROUP_BY, TrainingClasses, tells_classes
from .._elsewhere import run_elsewhere
from .._estimator_checks import FEW_PATTERNS, failed_outlier_checks
from .._fit_context import fit_context
from .._held_out import split_held_out
from .._marks import in_distribution_mask
from .._pooling import ENDS, POOLINGS
from .._progress import Progress, steps
from .._sklearn import HasMethods, Interval, StrOptions
from .._streams import check_fitted
from .._validation import check_activations
from .._values import Floats
from ..activations import Activations, PackedBits
from ..detectors import BaseDetector
from ._nap_configuration import (
    choose_layers,
    choose_percentile,
    choose_pooling,
    percentile_weight,
)
from ._nap_members import (
    Choice,
    Member,
    RowRoles,
    Source,
    sources_by_layer,
    try_percentiles,
    with_stand_ins,
)

Tried = list[list[tuple[NDArray, NDArray]]]
"""Thresholds and accuracies of all percentiles, by layer and pooling."""


class AutoNAPDetector(BaseDetector):
    """Ensemble of activation-pattern monitors that configures itself.

    For every layer the detector tries all poolings and percentiles, finds the threshold on
    the Hamming distance that separates validation samples best, keeps the best
    setting, and combines the layers that do best [1]_. It learns from rows marked
    out-of-distribution: they choose the settings, and no pattern of theirs is stored.

    Parameters
    ----------
    percentiles : sequence of float in (0, 100), default=(10, 30, 50, 70, 90)
        Percentiles to try, as in :class:`~skood.PercentileBinarizer`.
    poolings : sequence of {"max", "avg", "flatten"}, default=("max", "avg")
        Poolings to try. On ties the later one is chosen.
    n_layers : int, default=9
        Number of layers to combine; all where there are fewer.
    combine : {"weighted", "vote"}, default="weighted"
        How ``predict`` decides: by the sign of the weighted sum of ``distance - tau``, or by the
        majority of the layers, where a tie means in-distribution.
    criterion : {"accuracy", "threshold"}, default="accuracy"
        Which pooling of a layer is kept: the one of the better validation accuracy, or of
        the smaller threshold.
    validation : float in (0, 1) or splitter, default=0.2
        Which in-distribution samples set thresholds instead of storing patterns: a
        random share, or the test part of the first split of a scikit-learn splitter.
        Not used where ``fit`` gets ``sample_split``.
    group_by : {"prediction", "label", "correct"}, default="label"
        Class under which a training pattern is stored: the predicted one; its label in ``y``; or,
        with "correct", the predicted one where it is right, while other patterns are not stored.
        Samples are always looked up under their predicted class.
    keep_settings : bool, default=False
        Whether to keep the patterns of all settings that were tried, and not only of those that
        are combined, so that :meth:`score_settings` can measure how well each of them would have
        done. It takes as many times the memory as there are settings to each one combined.
    random_state : int, RandomState instance or None, default=None
        Seed of the random share, and of the stand-ins for missing OOD samples.
    verbose : int, default=0
        Whether to show which layers are tried; see :ref:`progress`.

    Attributes
    ----------
    layers_ : list of str
        The layers combined, in forward order.
    poolings_ : list of str
        Pooling of each. Where a layer has no spatial axes, all are the same.
    percentiles_ : ndarray of shape (n_layers_combined,)
        Percentile of each.
    taus_ : ndarray of shape (n_layers_combined,)
        Threshold of each: a distance above it means out-of-distribution.
    accuracies_ : ndarray of shape (n_layers_combined,)
        Accuracy of each on the validation samples.
    weights_ : ndarray of shape (n_layers_combined,)
        Weight of each in the sum.
    results_ : dict of str to ndarray of shape (n_settings,)
        What was tried: "layer", "pooling", "percentile", and their "tau" and "accuracy".
    distinct_settings_ : ndarray of shape (n_settings,), dtype bool
        Which of these to look at: of settings that give the same patterns, the last one.
    learnt_rows_ : ndarray of shape (n_stored_samples,)
        The rows of ``X`` in ``fit`` that store a pattern.
    training_rows_ : ndarray of shape (n_validation_samples,)
        The in-distribution rows of ``X`` in ``fit`` that set the thresholds.
    training_scores_ : ndarray of shape (n_validation_samples,)
        Their scores.
    offset_ : float
        Threshold on ``score_samples``: 0.

    See Also
    --------
    LayerEnsembleDetector : Combines any detector over layers, with or without OOD samples.
    skood.HammingNAPDetector : One such monitor.

    Notes
    -----
    Settings are chosen by all samples at once, so that there is neither ``partial_fit`` nor
    ``merge``.

    Layers may be unpooled maps, or pooled before by ``PoolingReducer(pooling=["max", "avg"])``:
    columns of one layer of the network with the poolings "max" and "avg" count as two poolings of
    that layer. Gradients and stochastic passes, which are columns of another ``kind``, are not
    read.

    ``score_samples`` is minus the weighted sum, for either ``combine``. With "vote",
    ``decision_function`` is one half minus the share of layers that vote out-of-distribution.

    The accuracy counts all validation samples alike: give about as many OOD as validation
    samples, as the authors do.

    Where no row is marked out-of-distribution, stand-ins are made from the validation samples:
    each unit's values are shuffled among them, which keeps every unit's distribution and breaks
    their coactivation.

    References
    ----------
    .. [1] B. Olber, K. Radlak, A. Popowicz, M. Szczepankiewicz, K. Chachula, "Detection of
       out-of-distribution samples using binary neuron activation patterns", CVPR 2023.
       arXiv:2212.14268

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.ensemble import AutoNAPDetector
    >>> rng = np.random.default_rng(0)
    >>> label = np.repeat([0, 1], 100)
    >>> centers = rng.normal(size=(2, 64))
    >>> inside = np.maximum(centers[label] + 0.1 * rng.normal(size=(200, 64)), 0)
    >>> outside = np.maximum(rng.normal(size=(100, 64)), 0)
    >>> A = Activations(
    ...     {"relu": np.vstack([inside, outside])},
    ...     predictions=np.r_[label, rng.integers(0, 2, 100)],
    ... )
    >>> y = np.r_[label, np.full(100, -1)]
    >>> detector = AutoNAPDetector(random_state=0).fit(A, y)
    >>> detector.layers_, detector.accuracies_
    (['relu'], array([1.]))
    """

    _learns_from_ood = True

    _parameter_constraints: dict = {
        "percentiles": ["array-like"],
        "poolings": ["array-like"],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "combine": [StrOptions({"weighted", "vote"})],
        "criterion": [StrOptions({"accuracy", "threshold"})],
        "validation": [Interval(Real, 0, 1, closed="neither"), HasMethods("split")],
        "group_by": GROUP_BY,
        "keep_settings": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _n_stages_of_fit = 1

    def __init__(
        self,
        *,
        percentiles: Sequence[float] = (10, 30, 50, 70, 90),
        poolings: Sequence[str] = ("max", "avg"),
        n_layers: int = 9,
        combine: str = "weighted",
        criterion: str = "accuracy",
        validation: Any = 0.2,
        group_by: str = "label",
        keep_settings: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.percentiles = percentiles
        self.poolings = poolings
        self.n_layers = n_layers
        self.combine = combine
        self.criterion = criterion
        self.validation = validation
        self.group_by = group_by
        self.keep_settings = keep_settings
        self.random_state = random_state
        self.verbose = verbose

    @run_elsewhere("fit")
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Activations | ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_split: ArrayLike | None = None,
    ) -> Self:
        """Store patterns and choose settings.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations by layer, or those of one layer.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution sample.
        sample_split : array-like of shape (n_samples,), default=None
            For each in-distribution sample -1 if it stores a pattern and 0 if it sets thresholds.
            OOD samples always set thresholds. By default ``validation`` decides.

        Returns
        -------
        self : object
            Fitted detector.

        Raises
        ------
        ValueError
            If no sample stores a pattern or sets thresholds, labels are missing or are
            not classes of the network, a layer is packed bits already, or none holds activations.
        """
        return self._fit_split(X, y, sample_split=sample_split)

    def _fit(
        self,
        X: Activations,
        y: NDArray | None,
        *,
        X_ood: Activations | None = None,
        sample_split: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        self._check_grid()
        outside = X[:0] if X_ood is None else X_ood
        roles = self._assign_rows(X, y, outside, sample_split)
        layers = sources_by_layer(X, self.poolings)
        n_sources = sum(map(len, layers))
        with steps(self, n_sources * (1 + self.keep_settings) + 1, "pooled layers") as told:
            tried = self._try_all((X, outside), roles, layers, told)
            self._record(X, layers, tried)
            self._settings = self._build_all(X, roles, layers, told) if self.keep_settings else None
            with told.step("the best"):
                self._choose(X, roles, layers, tried)
        self.learnt_rows_ = self.training_rows_[roles.stored]
        self.training_rows_ = self.training_rows_[roles.inside]
        return self._score_samples(X[roles.inside])

    def _threshold(self, training_scores: NDArray[np.float64]) -> float:
        return 0.0

    def _validate(self, X: Any, *, reset: bool) -> Activations:
        X = check_activations(self, X, reset=reset, allow_nd=True)
        if packed := [name for name, layer in X.items() if isinstance(layer, PackedBits)]:
            raise ValueError(
                f"AutoNAPDetector binarises activations itself, but got packed bits: {packed}."
            )
        return X

    def _check_grid(self) -> None:
        percentiles = np.asarray(self.percentiles, dtype=float)
        if not percentiles.size or not ((percentiles > 0) & (percentiles < 100)).all():
            raise ValueError(
                f"percentiles must lie strictly between 0 and 100, got {self.percentiles}."
            )
        known = [pooling for pooling in POOLINGS if pooling not in ENDS]
        if not len(self.poolings) or not set(self.poolings) <= set(known):
            raise ValueError(f"poolings must be among {known}, got {self.poolings}.")

    def _assign_rows(
        self,
        X: Activations,
        y: NDArray | None,
        outside: Activations,
        sample_split: ArrayLike | None,
    ) -> RowRoles:
        classes = self._training_classes(X, y)
        if sample_split is None:
            stored, validating = split_held_out(len(X), y, self.validation, self.random_state)
        else:
            stored, validating = self._read_split(sample_split)
        stored = stored[classes.counts[stored]]
        self._check_any_counts(len(stored))
        lookup = classes.lookup
        if len(outside):
            lookup = np.concatenate([lookup, self._lookup_classes(outside)])
        rows_outside = len(X) + np.arange(len(outside))
        return RowRoles(stored, validating, rows_outside, classes.own, lookup)

    def _training_classes(
        self, X: Activations, y: NDArray | None, *, are_classes: bool | None = None
    ) -> TrainingClasses:
        if not self._by_class:
            return TrainingClasses.all_count(self._lookup_classes(X))
        classes = super()._training_classes(X, y)
        if self.group_by == "prediction" or y is None or tells_classes(y):
            return classes
        if tells_classes(X.predictions):
            raise ValueError(
                f"group_by={self.group_by!r} needs the class of each sample, but y holds the one "
                f"label {y[0]!r}; where y holds nothing but 1 and -1, use group_by='prediction'."
            )
        return classes

    def _read_split(self, sample_split: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        split = column_or_1d(sample_split)
        if len(split) != self.n_samples_seen_:
            raise ValueError(
                f"X has {self.n_samples_seen_} samples, but sample_split has {len(split)}."
            )
        split = split[self.training_rows_]
        stored, validating = np.flatnonzero(split == -1), np.flatnonzero(split == 0)
        if len(stored) + len(validating) < len(split):
            raise ValueError(
                "sample_split must be -1 (stores a pattern) or 0 (sets thresholds) for every "
                f"in-distribution sample, got {np.unique(split).tolist()}."
            )
        if len(stored) == 0 or len(validating) == 0:
            raise ValueError(
                f"{len(stored)} in-distribution samples store patterns and {len(validating)} set "
                "thresholds; both need at least one."
            )
        return stored, validating

    def _try_all(
        self,
        parts: tuple[Activations, Activations],
        roles: RowRoles,
        layers: list[list[Source]],
        told: Progress,
    ) -> Tried:
        """Thresholds and accuracies: a list a layer, a pair of arrays a pooling."""
        X, outside = parts
        random_state = check_random_state(self.random_state)
        tried = []
        for sources in layers:
            outcomes = {}
            for source in (source for source in sources if source.key(X) not in outcomes):
                with told.step(source.label):
                    values, rows = source.values(X), roles
                    if len(outside):
                        values = np.concatenate([values, source.values(outside)])
                    else:
                        values, rows = with_stand_ins(values, roles, random_state)
                    outcomes[source.key(X)] = try_percentiles(values, rows, self.percentiles)
            tried.append([outcomes[source.key(X)] for source in sources])
        return tried

    def _record(self, X: Activations, layers: list[list[Source]], tried: Tried) -> None:
        settings = [
            (source.layer, source.pooling, percentile, tau, accuracy)
            for sources, outcomes in zip(layers, tried, strict=True)
            for source, outcome in zip(sources, outcomes, strict=True)
            for percentile, tau, accuracy in zip(self.percentiles, *outcome, strict=True)
        ]
        columns = ("layer", "pooling", "percentile", "tau", "accuracy")
        self.results_ = {
            column: np.array(values)
            for column, values in zip(columns, zip(*settings, strict=True), strict=True)
        }
        # Of settings that give the same patterns, the last is the one that is chosen.
        last = {source.key(X): source for sources in layers for source in sources}
        is_last = [last[source.key(X)] is source for sources in layers for source in sources]
        self.distinct_settings_ = np.repeat(is_last, len(self.percentiles))

    def _build_all(
        self, X: Activations, roles: RowRoles, layers: list[list[Source]], told: Progress
    ) -> list[Member]:
        """The members that all settings would be, in the order of ``results_``."""
        built = {}
        for source in (source for sources in layers for source in sources):
            if source.key(X) not in built:
                with told.step(source.label):
                    built[source.key(X)] = [
                        Member.build(X, roles, source, percentile)
                        for percentile in self.percentiles
                    ]
        return [member for sources in layers for s in sources for member in built[s.key(X)]]

    def _choose(
        self, X: Activations, roles: RowRoles, layers: list[list[Source]], tried: Tried
    ) -> None:
        best = [
            self._best_of_layer(sources, outcomes)
            for sources, outcomes in zip(layers, tried, strict=True)
        ]
        kept = choose_layers(np.array([choice.accuracy for choice in best]), self.n_layers)
        chosen = [best[i] for i in kept]
        self.layers_ = [choice.source.layer for choice in chosen]
        self.poolings_ = [choice.source.pooling for choice in chosen]
        self.percentiles_ = np.array([choice.percentile for choice in chosen])
        self.taus_ = np.array([choice.tau for choice in chosen])
        self.accuracies_ = np.array([choice.accuracy for choice in chosen])
        widths = np.array([choice.source.width(X) for choice in chosen])
        widest = max(source.width(X) for sources in layers for source in sources)
        self.weights_ = percentile_weight(self.percentiles_) * (widest / widths)
        self._members = [Member.build(X, roles, c.source, c.percentile) for c in chosen]

    def _best_of_layer(
        self, sources: list[Source], outcomes: list[tuple[NDArray, NDArray]]
    ) -> Choice:
        weights = percentile_weight(np.asarray(self.percentiles))
        choices = []
        for source, (taus, accuracies) in zip(sources, outcomes, strict=True):
            i = choose_percentile(taus, accuracies, weights)
            choices.append(Choice(source, self.percentiles[i], taus[i], accuracies[i]))
        k = choose_pooling(
            [choice.tau for choice in choices],
            [choice.accuracy for choice in choices],
            self.criterion,
        )
        return choices[k]

    def _distances(self, X: Activations) -> NDArray[np.intp]:
        lookup = self._lookup_classes(X)
        return np.column_stack([member.distances(X, lookup) for member in self._members])

    def distances(self, X: Activations | ArrayLike) -> NDArray[np.intp]:
        """Measure the distances of samples in each of the layers that are combined.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_layers_combined)
            Hamming distance to the nearest pattern of the predicted class, in the order of
            ``layers_``, dtype int. Above ``taus_`` it means out-of-distribution.
        """
        check_fitted(self)
        return self._distances(self._validate(X, reset=False))

    def score_settings(self, X: Activations | ArrayLike, y: ArrayLike) -> Floats:
        """Measure the accuracy of every setting that was tried, on in-distribution and OOD samples.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.
        y : array-like of shape (n_samples,)
            Labels; -1 marks an out-of-distribution sample, any other value an in-distribution one.

        Returns
        -------
        accuracies : ndarray of shape (n_settings,)
            Share of the samples that each setting of ``results_`` classifies correctly, at its
            ``tau``.

        Raises
        ------
        ValueError
            If the detector was fitted without ``keep_settings=True``, or one of the two kinds of
            samples is missing.
        """
        check_fitted(self)
        if self._settings is None:
            raise ValueError(
                "The patterns of the settings that were not chosen are gone: fit "
                "AutoNAPDetector(keep_settings=True)."
            )
        X = self._validate(X, reset=False)
        is_in = in_distribution_mask(y, len(X))
        if is_in.all() or not is_in.any():
            raise ValueError(
                "Accuracy needs in-distribution and OOD samples, but "
                f"{is_in.sum()} of {len(X)} are in-distribution."
            )
        lookup = self._lookup_classes(X)
        return np.array(
            [
                np.mean((member.distances(X, lookup) <= tau) == is_in)
                for member, tau in zip(self._settings, self.results_["tau"], strict=True)
            ]
        )

    def _score_samples(self, X: Activations) -> Floats:
        scores = (self.taus_ - self._distances(X)) @ self.weights_
        # A sum that cancels is 0, in-distribution, however its terms were rounded.
        return np.round(scores, 9) + 0.0

    @run_elsewhere("scores")
    def decision_function(self, X: Activations | ArrayLike) -> Floats:
        """Score samples relative to the threshold: negative for out-of-distribution.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            ``score_samples(X)``; with ``combine="vote"`` one half minus the share of layers
            that vote out-of-distribution.
        """
        if self.combine == "weighted":
            return super().decision_function(X)
        check_fitted(self)
        distances = self._distances(self._validate(X, reset=False))
        return 0.5 - (distances > self.taus_).mean(axis=1)

    def _expected_failed_checks(self) -> dict[str, str]:
        # The published rules compare whole numbers of bits.
        return failed_outlier_checks(FEW_PATTERNS)
