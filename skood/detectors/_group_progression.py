"""How the nearest training patterns change from layer to layer."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from joblib import delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier, is_outlier_detector
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from .._classes import GROUP_BY
from .._diagram import MembersMixin
from .._patterns import pack_layers
from .._progress import CountingParallel, steps
from .._sklearn import HasMethods, Interval, StrOptions
from .._streams import check_fitted
from .._values import Floats
from .._warnings import warn_user
from ..activations import Activations
from ._base import BaseOneClassDetector
from ._pattern_groups import PatternGroups, Progression
from ._stored_samples import StoredSamplesMixin, pad_neighbors


class GroupProgressionDetector(MembersMixin, StoredSamplesMixin, BaseOneClassDetector):
    """Groups of nearest training patterns, followed through the layers.

    In each layer, the training samples whose patterns are nearest to that of a sample are its
    group [1]_. Going back from the last layer, the final group of an in-distribution sample stays
    near, and the groups of earlier layers are of the predicted class too; those of other
    samples drift apart.

    Parameters
    ----------
    n_neighbors : int, default=300
        Number of training samples in a group.
    features : {"both", "distance", "matching"}, default="both"
        What a sample is scored by, one number a layer:

        - "distance": the mean Hamming distance to the members of the *final* group, the one of the
          last layer.
        - "matching": the share of that *layer's* group whose class is the predicted class.
    estimator : estimator, default=None
        Scores these numbers, which are given as shares between 0 and 1: of bits that agree with
        the final group, and of members that match. A classifier learns to separate the samples
        that ``y`` marks with -1 from the others; an outlier detector learns from the others alone.
        By default a small multilayer perceptron if there are samples marked -1; if there are none,
        the mean of the numbers, each standardised over the training samples.
    random_state : int, RandomState instance or None, default=None
        Sets the initial weights of the default perceptron.
    n_jobs : int, default=None
        Number of processes that fit a classifier, for the folds of its cross-validation. None
        means 1, -1 all processors.
    verbose : int, default=0
        Whether ``fit`` shows progress bars: one for the groups, and one for the classifiers; see
        :ref:`progress`.

    Attributes
    ----------
    layers_ : list of str
        Names of the layers, in forward order; "X" where ``fit`` saw an array.
    n_neighbors_ : int
        Size of a group: ``n_neighbors``, or fewer where there are too few training samples.
    estimator_ : estimator
        The fitted classifier or outlier detector; where standardised numbers are averaged, the
        :class:`~sklearn.preprocessing.StandardScaler`.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores. Each sample is left out of its own groups, and a classifier scores samples
        that it has not learnt from.

    See Also
    --------
    PercentileBinarizer : Makes the patterns; those of the thesis with ``rule="rank"``.
    HammingNAPDetector : Distance to the one nearest pattern.
    skood.model_selection.OODKFold : With ``ood_in_train=True`` and ``groups``, tests a classifier
        on kinds of out-of-distribution samples that it has not seen.

    Notes
    -----
    Layers that are not :class:`~skood.activations.PackedBits` are binarised by "value above 0".
    Without predictions, as in an ordinary array, all training samples are of one class and the
    matching shares are 1.

    The default perceptron has one hidden layer of 16 tanh units, a strong penalty on its weights
    (``alpha=5``) and standardised inputs. That of the thesis has hidden layers as wide as the
    layers of ``X``, Adam with a learning rate of 0.001 and batches of 100, which takes minutes
    for a few thousand samples:
    ``make_pipeline(StandardScaler(), MLPClassifier(widths, batch_size=100, max_iter=1000))``.
    The score of a classifier is the log-odds of being in-distribution. Where in-distribution or
    OOD samples are far more numerous, choose a balanced part of the data, or an estimator with
    ``class_weight="balanced"``.

    The scores that set the threshold of a classifier come from 5-fold cross-validation, so it is
    fitted six times, in ``n_jobs`` processes.

    A sample of a predicted class that no stored pattern has is rejected: its score is below that of
    all training samples of other classes.

    Among equally near patterns the choice is arbitrary, but always the same, and does not depend
    on the order of the training samples.

    ``kneighbors`` and ``nearest_examples`` find the first members of the final group.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations, GroupProgressionDetector
    >>> rng = np.random.default_rng(0)
    >>> classes = np.arange(200) % 2
    >>> def as_layers(centers, noise):
    ...     return {name: np.maximum(centers + noise * rng.normal(size=(len(centers), 8)), 0)
    ...             for name in ("relu1", "relu2")}
    >>> centers = rng.normal(size=(2, 8))
    >>> A = Activations(as_layers(centers[classes], 0.2), predictions=classes)
    >>> unlike = Activations(as_layers(np.zeros((50, 8)), 1.0), predictions=np.arange(50) % 2)
    >>> detector = GroupProgressionDetector(n_neighbors=20).fit(A)
    >>> detector.progression(A).matching.mean(axis=0)
    array([1., 1.])
    >>> round(detector.score(Activations.concatenate([A, unlike]), [*classes, *[-1] * 50]), 2)
    1.0
    """

    _learns_from_ood = True
    _n_stages_of_fit = 2

    _parameter_constraints: dict = {
        **BaseOneClassDetector._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "features": [StrOptions({"both", "distance", "matching"})],
        "estimator": [HasMethods(["fit"]), None],
        "group_by": GROUP_BY,
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        n_neighbors: int = 300,
        features: str = "both",
        estimator: Any = None,
        group_by: str = "prediction",
        false_alarm_rate: float = 0.05,
        validation: Any = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.n_neighbors = n_neighbors
        self.features = features
        self.estimator = estimator
        self.group_by = group_by
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _fit(
        self, X: Activations, y: NDArray | None, *, X_ood: Activations | None = None
    ) -> NDArray[np.float64]:
        outside = X[:0] if X_ood is None else X_ood
        self.estimator_ = self._new_estimator(len(outside))
        self._learn_groups(X, y)
        if is_classifier(self.estimator_):
            scores = self._fit_classifier(*self._training_features(X, outside))
        else:
            [inside] = self._training_features(X, outside[:0])
            self.estimator_.fit(inside)
            scores = self._rate(inside)
        return self._set_unknown_class_score(scores, self._groups.knows(self._lookup_classes(X)))

    def _training_features(self, X: Activations, outside: Activations) -> list[Floats]:
        """The numbers of the training samples, each left out of its groups, and those of others."""
        n_samples = len(X) + len(outside)
        with steps(self, n_samples, "samples", are_counted=True) as told:
            progressions = [self._progression_left_out(X, told.advance)]
            if len(outside):
                progressions.append(self._progression(outside, told.advance))
        return [self._features(progression) for progression in progressions]

    def _progression_left_out(self, X: Activations, after_batch: Callable) -> Progression:
        """The groups of the training samples, without those of them that are stored themselves."""
        stored, others = np.flatnonzero(self._is_stored), np.flatnonzero(~self._is_stored)
        distance, matching = np.empty((2, len(X), len(self.layers_)))
        distance[stored], matching[stored] = self._groups.progression_left_out(
            self._lookup_classes(X)[stored], after_batch
        )
        if len(others):
            distance[others], matching[others] = self._progression(X[others], after_batch)
        return Progression(distance, matching)

    def _new_estimator(self, n_outside: int) -> Any:
        if self.estimator is None and n_outside == 0:
            return StandardScaler()
        estimator = self._perceptron() if self.estimator is None else clone(self.estimator)
        if is_outlier_detector(estimator):
            return estimator
        if not is_classifier(estimator):
            raise ValueError(
                f"estimator must be a classifier or an outlier detector, got {estimator!r}."
            )
        if n_outside < 2:
            raise ValueError(
                "A classifier needs at least 2 out-of-distribution samples (y == -1), "
                f"got {n_outside}."
            )
        return estimator

    def _perceptron(self) -> Pipeline:
        # A dozen numbers need few units and a strong penalty. With smooth units, this solver ends
        # after some tens of steps, near enough to the optimum.
        perceptron = MLPClassifier(
            (16,),
            activation="tanh",
            solver="lbfgs",
            alpha=5,
            tol=1e-3,
            max_iter=1000,
            random_state=self.random_state,
        )
        return make_pipeline(StandardScaler(), perceptron)

    def _learn_groups(self, X: Activations, y: NDArray | None) -> None:
        if self.features == "matching" and not self._by_class:
            raise ValueError("features='matching' needs predictions, but X carries none.")
        self.layers_ = list(X.layer_names)
        classes = self._training_classes(X, y)
        self._is_stored = classes.counts
        n_stored = int(classes.counts.sum())
        self._check_enough(n_stored)
        self.n_neighbors_ = int(min(self.n_neighbors, n_stored - 1))
        if self.n_neighbors_ < self.n_neighbors:
            warn_user(
                f"n_neighbors={self.n_neighbors}, but a sample has only {n_stored - 1} others: a "
                "group is all of them."
            )
        stored = [bits[np.flatnonzero(classes.counts)] for bits in pack_layers(X)]
        self._groups = PatternGroups(stored, classes.own[classes.counts], self.n_neighbors_)

    def _check_enough(self, n_stored: int) -> None:
        if n_stored < 2:
            raise ValueError(
                "GroupProgressionDetector needs at least 2 in-distribution samples, and with "
                "group_by='correct' at least 2 correctly classified ones; "
                f"got n_samples = {n_stored}."
            )

    def _fit_classifier(self, inside: Floats, outside: Floats) -> Floats:
        """Fit on in-distribution and OOD samples; returns cross-validated scores of the former."""
        samples = np.concatenate([inside, outside])
        is_ood = np.repeat([0, 1], [len(inside), len(outside)])
        folds = StratifiedKFold(min(5, len(inside), len(outside)), shuffle=True, random_state=0)
        splits = list(folds.split(samples, is_ood))
        parts = [*(learnt for learnt, _ in splits), np.arange(len(samples))]
        # More threads than one only wait for each other in products of a dozen numbers.
        with (
            threadpool_limits(1 if self.estimator is None else None),
            steps(self, len(parts), "classifiers", are_counted=True) as told,
        ):
            *of_folds, self.estimator_ = CountingParallel(told, n_jobs=self.n_jobs)(
                delayed(clone(self.estimator_).fit)(samples[rows], is_ood[rows]) for rows in parts
            )
        scores = np.empty(len(samples))
        for classifier, (_, held_out) in zip(of_folds, splits, strict=True):
            scores[held_out] = _log_odds(classifier, samples[held_out])
        return scores[: len(inside)]

    def _nearest_stored(self, X: Activations, n_neighbors: int) -> tuple[NDArray, NDArray[np.intp]]:
        n_found = min(n_neighbors, len(self._learnt_runs))
        found = self._groups.nearest(pack_layers(X)[-1], n_found)
        return pad_neighbors(*found, n_neighbors, farthest=self._groups.widths[-1])

    def _stored_layers(self, X: Activations, positions: NDArray[np.intp]) -> dict[str, NDArray]:
        return dict(zip(X.layer_names, self._groups.patterns(positions), strict=True))

    def _stored_rows(self) -> NDArray[np.intp]:
        return self._learnt_runs.at(np.flatnonzero(self._is_stored))

    def _stored_labels(self) -> NDArray | None:
        return self._groups.classes if self._by_class else None

    def progression(self, X: Activations | ArrayLike) -> Progression:
        """Describe the groups of each sample, layer by layer.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Patterns of the layers seen in ``fit``.

        Returns
        -------
        distance : ndarray of shape (n_samples, n_layers)
            Mean Hamming distance, in bits of that layer, to the members of the final group.
        matching : ndarray of shape (n_samples, n_layers)
            Share of the layer's group whose class is the one predicted for the sample.
        """
        check_fitted(self)
        return self._progression(self._validate(X, reset=False))

    def _progression(self, X: Activations, after_batch: Callable[[int], Any] = bool) -> Progression:
        classes = self._lookup_classes(X)
        return self._groups.progression(pack_layers(X), classes, after_batch)

    def _features(self, progression: Progression) -> Floats:
        """The numbers that a sample is scored by: shares, high for in-distribution samples."""
        agreement = 1 - progression.distance / self._groups.widths
        if self.features == "distance":
            return agreement
        if self.features == "matching":
            return progression.matching
        return np.concatenate([agreement, progression.matching], axis=1)

    def _rate(self, features: Floats) -> Floats:
        if is_classifier(self.estimator_):
            return _log_odds(self.estimator_, features)
        if is_outlier_detector(self.estimator_):
            return self.estimator_.decision_function(features)
        return self.estimator_.transform(features).mean(axis=1)

    def _score_samples(self, X: Activations) -> Floats:
        scores = self._rate(self._features(self._progression(X)))
        return self._reject_unknown(scores, self._groups.knows(self._lookup_classes(X)))


def _log_odds(classifier: Any, features: Floats) -> Floats:
    """How a classifier trained on 0 (in-distribution) and 1 rates samples; high for the former."""
    if hasattr(classifier, "decision_function"):
        return -classifier.decision_function(features)
    # Probabilities of 0 and 1 are finite too.
    inside, outside = np.maximum(classifier.predict_proba(features), np.finfo(float).tiny).T
    return np.log(inside) - np.log(outside)
