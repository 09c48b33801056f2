"""How many neurons a sample activates, and how often these were active in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from .._batches import row_batches
from .._estimator_checks import failed_outlier_checks
from .._sklearn import StrOptions
from .._validation import ARRAY_LAYER
from .._values import Floats
from .._warnings import warn_user
from ..activations import Activations, Layer, PackedBits
from ._base_incremental import BaseIncrementalDetector, layers_of


class NeuronCountDetector(BaseIncrementalDetector):
    """Number of active neurons, plain or weighted by how often each was active in training.

    A neuron is active where its output is above 0. Out-of-distribution samples are expected to
    activate more neurons, and rarer ones, than in-distribution samples [1]_.

    Parameters
    ----------
    statistic : {"count", "coefficient", "mean_activation_count"}, default="count"
        What is computed of a sample's active neurons, over all layers of ``X``:

        - "count": their number; high for out-of-distribution samples.
        - "coefficient": the neuron activation coefficient, the sum over them of ``m - n``, where
          ``n`` is the neuron's activation count and ``m`` the largest of all neurons; high for
          out-of-distribution samples.
        - "mean_activation_count": the mean of their activation counts, 0 where none is active;
          high for in-distribution samples.
    two_sided : bool, default=False
        Whether to score by the distance to the median of the training samples, in either
        direction: for networks in which out-of-distribution samples activate fewer neurons.
    activation_counts : dict of str to array-like, or array-like, default=None
        How often each neuron was active in training: arrays of shape (n_units,) by layer, or one
        of shape (n_features,) where ``X`` is an array. Other layers than those of ``X``
        may be among them: ``m`` is the largest of all that are given. By default the
        training samples of ``fit`` are counted. The statistic "count" does not use them.

    Attributes
    ----------
    activation_counts_ : dict of str to ndarray of shape (n_units,)
        Activation count of each neuron in the layers of ``X``, in forward order; an ndarray of
        shape (n_features,) where ``fit`` saw an array.
    largest_count_ : int or float
        The largest activation count, ``m``.
    median_ : float
        Median of the statistic over the training samples.

    See Also
    --------
    skood.preprocessing.LayerSelector : Restricts the layers in a pipeline.
    ClusterDistanceDetector : Looks at which neurons are active, not only at how many.

    Notes
    -----
    The score is the statistic where high means in-distribution, and minus the statistic
    otherwise. With ``two_sided=True`` it is ``-abs(statistic - median_)``.

    Feature maps have to be pooled first. After ``PoolingReducer(pooling="max")``, a channel
    is active where any of its positions is.

    Activation counts of batches add up, so that ``partial_fit`` and ``merge`` give what one ``fit``
    gives. A median of a statistic that changes with these counts does not: the methods are missing
    with ``two_sided=True`` then, and otherwise ``median_`` is that of the samples that set the
    threshold.

    "count" and "coefficient" are whole numbers, so that many samples tie, and a threshold may
    reject a smaller share of the training samples than ``false_alarm_rate``. They also
    grow with the width of a layer: over several layers, the widest ones decide.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood import NeuronCountDetector
    >>> X = [[5.0, 0.1, 0.0, 0.0], [3.0, 0.0, 2.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    >>> detector = NeuronCountDetector().fit(X)
    >>> detector.score_samples([[9.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    array([-1., -4.])
    >>> detector = NeuronCountDetector(statistic="coefficient").fit(X)
    >>> detector.activation_counts_
    array([3, 2, 1, 0])
    >>> detector.score_samples([[9.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    array([-3., -6.])
    """

    _parameter_constraints: dict = {
        **BaseIncrementalDetector._parameter_constraints,
        "statistic": [StrOptions({"count", "coefficient", "mean_activation_count"})],
        "two_sided": ["boolean"],
        "activation_counts": [dict, "array-like", None],
    }

    def __init__(
        self,
        *,
        statistic: str = "count",
        two_sided: bool = False,
        activation_counts: Mapping[str, ArrayLike] | ArrayLike | None = None,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.statistic = statistic
        self.two_sided = two_sided
        self.activation_counts = activation_counts

    def _why_not_in_batches(self) -> str:
        if not self.two_sided or self._is_fixed():
            return ""
        return (
            f"the {self.statistic!r} statistic of each, of which two_sided=True takes the median, "
            "changes with the activation counts. statistic='count' does not, nor do any "
            "activation_counts that are given."
        )

    def _is_fixed(self) -> bool:
        """Whether the statistic of a sample does not depend on the others."""
        return self.statistic == "count" or self.activation_counts is not None

    def _learn(self, X: Activations, y: NDArray | None) -> _Activated:
        is_given = self.activation_counts is not None
        counts = self._given_counts(X) if is_given else _count_activations(X)
        statistics = None
        if self._is_fixed() or self.two_sided:
            own = {name: counts[name] for name in X.layer_names}
            statistics = Counter(self._statistic(X, own, _largest(counts)).tolist())
        return _Activated(counts, is_given, statistics)

    def _finish(self, summary: _Activated) -> None:
        counts = summary.counts
        self.largest_count_ = _largest(counts)
        own = {name: counts[name] for name, _ in layers_of(self)}
        is_by_layer = hasattr(self, "layer_shapes_")
        self.activation_counts_: dict[str, NDArray] | NDArray = (
            own if is_by_layer else own[ARRAY_LAYER]
        )
        self._warn_of_dead_neurons()
        if summary.statistics is not None:
            self.median_ = _median(summary.statistics)

    def _complete_scores(self, scores: Floats) -> Floats:
        if not self._is_fixed() and not self.two_sided:
            self.median_ = float(np.median(scores if self._is_high_inside() else -scores))
        return super()._complete_scores(scores)

    def _warn_of_dead_neurons(self) -> None:
        if self.statistic != "count" and self.largest_count_ == 0:
            warn_user(
                f"No neuron was ever active in training: the {self.statistic!r} statistic is 0 for "
                "all samples. Leave dead layers out, for example by LayerSelector, or use "
                "statistic='count'."
            )

    def _given_counts(self, X: Activations) -> dict[str, NDArray]:
        by_layer = isinstance(self.activation_counts, dict)
        if by_layer != hasattr(self, "layer_shapes_"):
            raise ValueError(
                "activation_counts must be a dict for Activations and an array for an array, got "
                f"{type(self.activation_counts).__name__} for X with the layers "
                f"{list(X.layer_names)}."
            )
        given: Any = self.activation_counts
        given = given if by_layer else {ARRAY_LAYER: given}
        if missing := [name for name in X.layer_names if name not in given]:
            raise ValueError(f"activation_counts has no layers {missing}; it has {list(given)}.")
        return {
            name: _check_counts(counts, name, X.layer_shapes.get(name))
            for name, counts in given.items()
        }

    def _statistic(self, X: Activations, counts: dict[str, NDArray], largest: float) -> Floats:
        if self.statistic == "coefficient":
            return _sum_over_active(X, {name: largest - count for name, count in counts.items()})
        n_active = _sum_over_active(X, {name: np.ones(len(c)) for name, c in counts.items()})
        if self.statistic == "count":
            return n_active
        return _sum_over_active(X, counts) / np.maximum(n_active, 1)

    def _is_high_inside(self) -> bool:
        return self.statistic == "mean_activation_count"

    def _score_samples(self, X: Activations) -> Floats:
        counts = self.activation_counts_
        counts = counts if isinstance(counts, dict) else {ARRAY_LAYER: counts}
        statistic = self._statistic(X, counts, self.largest_count_)
        if self.two_sided:
            return -np.abs(statistic - self.median_)
        return statistic if self._is_high_inside() else -statistic

    def _expected_failed_checks(self) -> dict[str, str]:
        if self.two_sided or self.statistic == "mean_activation_count":
            return {}
        return failed_outlier_checks(
            "The data of the check have two neurons, of which none, one or both are active: no "
            "threshold rejects only a few samples."
        )


@dataclass(frozen=True)
class _Activated:
    """How often samples activate each neuron, and what statistics they have.

    Attributes
    ----------
    counts : dict of str to ndarray of shape (n_units,)
        Activation counts by layer.
    are_given : bool
        Whether these are not those of the samples.
    statistics : Counter or None
        How many samples have each value of the statistic, where it is known.
    """

    counts: dict[str, NDArray]
    are_given: bool
    statistics: Counter[float] | None

    def merge(self, other: _Activated) -> _Activated:
        """Those of the samples of both."""
        counts = self.counts
        if not self.are_given:
            counts = {name: count + other.counts[name] for name, count in counts.items()}
        statistics = None
        if self.statistics is not None and other.statistics is not None:
            statistics = self.statistics + other.statistics
        return _Activated(counts, self.are_given, statistics)


def _largest(counts: Mapping[str, NDArray]) -> float:
    return max(layer.max(initial=0) for layer in counts.values()).item()


def _median(numbers: Counter[float]) -> float:
    """Median of values, by how many there are of each."""
    values = np.array(sorted(numbers))
    last = np.cumsum([numbers[value] for value in values])
    middle = np.searchsorted(last, [(last[-1] - 1) // 2, last[-1] // 2], side="right")
    return float(values[middle].mean())


def _check_counts(counts: Any, name: str, shape: tuple[int, ...] | None) -> Floats:
    described = f"activation_counts of layer {name!r}"
    counts = check_array(counts, ensure_2d=False, dtype=np.float64, input_name=described)
    # Layers that X does not have may be of any width.
    expected = (counts.size,) if shape is None else shape
    if counts.shape != expected:
        raise ValueError(f"{described} must have shape {expected}, got {counts.shape}.")
    if counts.min() < 0:
        raise ValueError(f"{described} must not be negative, got {counts.min()}.")
    return counts


def _count_activations(X: Activations) -> dict[str, NDArray]:
    """How many samples activate each neuron, by layer."""
    counts = {}
    for name, layer in X.items():
        counts[name] = np.zeros(layer.shape[1], dtype=np.intp)
        for _, active in _active_batches(layer):
            counts[name] += np.count_nonzero(active, axis=0)
    return counts


def _sum_over_active(X: Activations, weights: Mapping[str, NDArray]) -> Floats:
    """Sum, for each sample, of the weights of its active neurons in all layers."""
    total = np.zeros(len(X))
    for name, layer in X.items():
        for rows, active in _active_batches(layer):
            # As float64, which BLAS multiplies, where NumPy would loop over booleans.
            total[rows] += active.astype(np.float64) @ weights[name]
    return total


def _active_batches(layer: Layer) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Yield batches of rows, and which neurons are active in them."""
    for rows in row_batches(*layer.shape):
        batch = layer[rows]
        yield rows, batch.unpack() if isinstance(batch, PackedBits) else batch > 0
