"""Coverage of the states of neurons by the training samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from .._batches import row_batches
from .._head import float64_logits
from .._layer_names import gradient_names, layer_columns
from .._logits import uniform_kl_gradient
from .._sklearn import Interval, StrOptions, validate_parameter_constraints
from .._values import SQUARABLE, Floats
from ..activations import Activations, LinearHead
from ._base_incremental import BaseIncrementalDetector

_EDGE_CURVATURE = np.sqrt(1000.0)
"""How much narrower the authors' bins are at a state of 0.5 than at 0 and 1."""
_LEAST_DEVIATION = 1e-10
"""Deviation of a unit that never varies, relative to what it could be mistaken for by rounding."""
STATE_ROUNDING = 1e-9
"""By how much a standardised activation may be off: those on an edge all belong to one bin."""

_OF_LAYER: dict = {
    "n_bins": [Interval(Integral, 2, None, closed="left")],
    "min_count": [Interval(Integral, 1, None, closed="left")],
    "min_fraction": [Interval(Real, 0, 1, closed="neither"), None],
    "steepness": [Interval(Real, 0, None, closed="neither")],
}


class NACDetector(BaseIncrementalDetector):
    """How usual the states of a sample's neurons are: neuron activation coverage (NAC).

    The state of a unit is a number from 0 to 1. The detector counts how often the training samples
    put each unit into each of some bins of states. A state is covered if its bin holds at least
    ``min_count`` training samples, and by ``count / min_count`` if it holds fewer. The score of a
    sample is the mean coverage of its units, averaged over layers [1]_.

    Parameters
    ----------
    gradients : {"auto", True, False}, default="auto"
        Whether states are made from gradients, as in the paper, or from activations alone. "auto"
        uses the gradients wherever they are known, see Notes; True insists on those of all
        layers.
    n_bins : int or dict of str to int, default=50
        Number of bins, for all layers or by layer.
    min_count : int or dict of str to int, default=50
        O of the paper: how many training samples make a bin fully covered.
    min_fraction : float in (0, 1) or dict of str to float, default=None
        The same as a fraction of the training samples, for settings that hold for any number of
        them. ``min_count`` is then not used.
    steepness : float or dict of str to float, default=100.0
        How steeply states rise with activation times gradient.

    Attributes
    ----------
    counts_ : dict of str to ndarray of shape (n_units, n_bins)
        Number of training samples in each bin, by layer.
    gradient_layers_ : tuple of str
        Layers whose states are made from gradients.
    head_ : LinearHead
        The head that gives the gradients of the layer that it reads, where it does.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each with itself not counted.
    n_features_in_ : int
        Number of units seen in ``fit``, over all layers, those of gradients among them.

    See Also
    --------
    GradNormDetector : Size of the gradient of the last layer.
    NeuronCountDetector : Number of active neurons.
    skood.PoolingReducer : Pools maps, and their gradients with them.
    skood.ActivationExtractor : With ``gradients=True`` it adds the gradients of layers.

    Notes
    -----
    With gradients the state is ``sigmoid(steepness * activation * gradient)``, where the gradient
    is that of ``KL(uniform || softmax(logits))`` with respect to the unit. It is the column of
    ``X`` of the kind "gradient", of the same layer and pooling. Where ``X`` has none for what the
    head reads, but carries the head, they are ``(softmax(logits) - 1 / n_classes) @ weight``.

    Without gradients the state is the sigmoid of the activation minus its mean, divided by its
    standard deviation, both over the training samples; ``steepness`` is not used. Units differ in
    scale and, after a ReLU, have no upper bound; a state should move through many bins over the
    values that are usual for its unit. One that never varies in training has one covered state.

    With gradients, bins are narrow at a state of 0.5, where units are that hardly matter, and wide
    at 0 and 1, as in the authors' code, which counts two more for the same bins: their M is
    ``n_bins + 2``. Without gradients bins are equally wide.

    Counts of batches add up where bins do not depend on the samples: ``partial_fit`` and ``merge``
    are there with ``gradients=True``.

    Feature maps have to be pooled first. The authors sum activations and gradients over space,
    ``PoolingReducer(pooling="sum")``.

    Settings matter, and the best differ between layers. The authors use for CIFAR-10 (M, O,
    alpha, which is ``steepness`` here) of (50, 50, 100) in the last layer of features and
    (500, 100, 1000) in the block before.

    References
    ----------
    .. [1] Y. Liu, C. X. Tian, H. Li, L. Ma, S. Wang, "Neuron activation coverage: rethinking
       out-of-distribution detection and generalization", ICLR 2024. arXiv:2306.02879

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.detectors import NACDetector
    >>> A = Activations({"fc": [[-3.0, 0.0], [-1.0, 2.0], [0.0, 2.0], [5.0, 1.0]]})
    >>> detector = NACDetector(n_bins=2, min_count=2).fit(A)
    >>> detector.counts_["fc"]
    array([[3, 1],
           [2, 2]])
    >>> others = Activations({"fc": [[-2.0, 1.0], [4.0, 2.0]]})
    >>> detector.score_samples(others)
    array([1.  , 0.75])
    """

    _sizes_of_values = SQUARABLE

    _parameter_constraints: dict = {
        **BaseIncrementalDetector._parameter_constraints,
        "gradients": ["boolean", StrOptions({"auto"})],
        **{name: [*constraints, dict] for name, constraints in _OF_LAYER.items()},
    }

    def __init__(
        self,
        *,
        gradients: bool | str = "auto",
        n_bins: int | Mapping[str, int] = 50,
        min_count: int | Mapping[str, int] = 50,
        min_fraction: float | Mapping[str, float] | None = None,
        steepness: float | Mapping[str, float] = 100.0,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.gradients = gradients
        self.n_bins = n_bins
        self.min_count = min_count
        self.min_fraction = min_fraction
        self.steepness = steepness

    def _why_not_in_batches(self) -> str:
        if self.gradients is True:
            return ""
        return (
            "the states of units without gradients are relative to the mean and deviation of all "
            "samples. With gradients=True it learns in batches."
        )

    def _learn(self, X: Activations, y: NDArray | None) -> _Covered:
        layers = [str(column.name) for column in layer_columns(X) if column.kind != "gradient"]
        if not layers:
            raise ValueError(f"NACDetector needs a layer beside gradients, but got {X!r}.")
        states = self._find_states(X, layers)
        n_bins = self._by_layer("n_bins", layers)
        covered = {}
        for name in layers:
            has_gradients = name not in states.standards
            edges = _edges(n_bins[name]) if has_gradients else np.linspace(0, 1, n_bins[name] + 1)
            covered[name] = _Bins.of(X.layer_shapes[name][0], edges)
        for batch in X.batches():
            for name, bins in covered.items():
                for _, signals in self._signals(batch, name, states):
                    bins.count(signals)
        return _Covered(len(X), covered, states)

    def _finish(self, summary: _Covered) -> None:
        self._states, self._bins = summary.states, summary.bins
        if summary.states.head is not None:
            self.head_ = summary.states.head
        layers = list(summary.bins)
        self.gradient_layers_ = tuple(name for name in layers if name not in self._states.standards)
        self._enough = self._find_enough(layers, summary.n_samples)
        self.counts_ = {name: bins.counts for name, bins in summary.bins.items()}

    def _find_states(self, X: Activations, layers: list[str]) -> _States:
        """Where the gradients of which layers come from, and how others are distributed."""
        names: dict[str, str] = {}
        head = None
        known: set[str] = set()
        if self.gradients:
            names = gradient_names(X)
            _check_widths(X, names)
            known.update(names)
            of_head = _layer_of_head(X, layers)
            if X.head is not None and of_head is not None and of_head not in known:
                head = LinearHead(X.head.weight, X.head.bias, of_head)
                known.add(of_head)
        missing = [name for name in layers if name not in known]
        if missing and self.gradients is True:
            raise ValueError(
                f"gradients=True needs the gradients of all layers, but X has none of {missing}: "
                "extract them by ActivationExtractor(gradients=True)."
            )
        standards = {name: _standard(X, name) for name in missing}
        return _States(names, head, standards, self._by_layer("steepness", layers))

    def _find_enough(self, layers: list[str], n_samples: int) -> Mapping[str, float]:
        """How many training samples cover a bin of each layer."""
        if self.min_fraction is None:
            return self._by_layer("min_count", layers)
        fractions = self._by_layer("min_fraction", layers)
        return {name: fraction * n_samples for name, fraction in fractions.items()}

    def _by_layer(self, parameter: str, layers: list[str]) -> Mapping[str, Any]:
        """Value of a parameter for each layer."""
        given = getattr(self, parameter)
        if not isinstance(given, dict):
            return dict.fromkeys(layers, given)
        if missing := [name for name in layers if name not in given]:
            raise ValueError(f"{parameter} has no value for {missing}; it has {list(given)}.")
        named = {f"{parameter}[{name!r}]": value for name, value in given.items()}
        constraints = dict.fromkeys(named, _OF_LAYER[parameter])
        validate_parameter_constraints(constraints, named, caller_name=type(self).__name__)
        return given

    def _signals(
        self, X: Activations, name: str, states: _States
    ) -> Iterator[tuple[slice, Floats]]:
        """What the sigmoid would turn into states, for some samples at a time."""
        layer = X[name]
        gradients = self._gradients(X, name, states)
        for rows in row_batches(len(X), layer.shape[1]):
            values = np.asarray(layer[rows], dtype=np.float64)
            if name in states.standards:
                mean, deviation = states.standards[name]
                yield rows, (values - mean) / deviation + STATE_ROUNDING
            else:
                yield rows, states.steepness[name] * values * gradients(rows)

    def _gradients(self, X: Activations, name: str, states: _States) -> Callable[[slice], Floats]:
        if name in states.gradient_names:
            given = X[states.gradient_names[name]]
            return lambda rows: np.asarray(given[rows], dtype=np.float64)
        if states.head is None or name in states.standards:
            return lambda rows: np.empty(0)
        logits = float64_logits(self, X, states.head)
        weight = states.head.weight.astype(np.float64)
        return lambda rows: uniform_kl_gradient(logits[rows]) @ weight

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        return self._mean_coverage(X, but_itself=True)

    def _score_samples(self, X: Activations) -> Floats:
        return self._mean_coverage(X)

    def _mean_coverage(self, X: Activations, *, but_itself: bool = False) -> Floats:
        by_layer = np.empty((len(self._bins), len(X)))
        for scores, (name, bins) in zip(by_layer, self._bins.items(), strict=True):
            for rows, signals in self._signals(X, name, self._states):
                counts = bins.counts_of(signals) - int(but_itself)
                scores[rows] = np.minimum(counts / self._enough[name], 1).mean(axis=1)
        return by_layer.mean(axis=0)


@dataclass(frozen=True)
class _States:
    """Where the states of units come from.

    Attributes
    ----------
    gradient_names : dict of str to str
        The layer of the gradients of each layer that has one.
    head : LinearHead or None
        What the gradients of one more layer are computed from.
    standards : dict of str to tuple of ndarray
        Means and deviations of the units of the other layers.
    steepness : mapping of str to float
        How steeply states rise, by layer.
    """

    gradient_names: dict[str, str]
    head: LinearHead | None
    standards: dict[str, tuple[Floats, Floats]]
    steepness: Mapping[str, float]


@dataclass(frozen=True)
class _Bins:
    """Histograms of the states of one layer's units.

    States themselves are not computed: edges of bins are turned to where they would be before the
    sigmoid. There no state is rounded to 0, 0.5 or 1.
    """

    counts: NDArray[np.int64]
    inner_edges: Floats

    @classmethod
    def of(cls, n_units: int, edges: Floats) -> _Bins:
        return cls(np.zeros((n_units, len(edges) - 1), dtype=np.int64), logit(edges[1:-1]))

    def count(self, signals: Floats) -> None:
        """Add samples to the counts, in place."""
        found = np.bincount(self._positions(signals).ravel(), minlength=self.counts.size)
        np.add(self.counts, found.reshape(self.counts.shape), out=self.counts)

    def counts_of(self, signals: Floats) -> NDArray[np.int64]:
        """How many samples were in the bin of each state."""
        return self.counts.ravel()[self._positions(signals)]

    def merge(self, other: _Bins) -> _Bins:
        """The histograms of the samples of both."""
        return replace(self, counts=self.counts + other.counts)

    def _positions(self, signals: Floats) -> NDArray[np.intp]:
        """Position in the flat counts of the bin of each state."""
        n_units, n_bins = self.counts.shape
        # A state on an edge belongs to the upper bin.
        within = np.searchsorted(self.inner_edges, signals, side="right")
        return within + n_bins * np.arange(n_units)


@dataclass(frozen=True)
class _Covered:
    """How many of some samples were in each bin."""

    n_samples: int
    bins: dict[str, _Bins]
    states: _States

    def merge(self, other: _Covered) -> _Covered:
        """The counts of the samples of both, whose states come from the same place."""
        bins = {name: mine.merge(other.bins[name]) for name, mine in self.bins.items()}
        return _Covered(self.n_samples + other.n_samples, bins, self.states)


def _edges(n_bins: int) -> Floats:
    """Edges of bins from 0 to 1, narrow at 0.5."""
    below = _half_edges(n_bins // 2)
    above = 1 - _half_edges(n_bins - n_bins // 2)[::-1]
    return np.concatenate([below, above[1:]])


def _half_edges(n_bins: int) -> Floats:
    steps = np.arange(n_bins + 1) / n_bins
    return np.log1p((_EDGE_CURVATURE - 1) * steps) / np.log(_EDGE_CURVATURE) / 2


def _layer_of_head(X: Activations, layers: list[str]) -> str | None:
    """Name of the layer that the head of ``X`` reads, None if that is not known or not here."""
    if X.head is None:
        return None
    name = X.head.input_layer
    if name is None and len(layers) == 1:
        name = layers[0]
    return name if name is not None and X.layer_shapes.get(name) == X.head.shape[1:] else None


def _check_widths(X: Activations, gradients: Mapping[str, str]) -> None:
    """Raise a ValueError where a layer and its gradients have another number of units."""
    shapes = X.layer_shapes
    for layer, gradient in gradients.items():
        if shapes[layer] != shapes[gradient]:
            raise ValueError(
                f"NACDetector needs a gradient for each unit, but layer {layer!r} has the shape "
                f"{shapes[layer]} and its gradients {gradient!r} {shapes[gradient]}: extract or "
                "select them together."
            )


def _standard(X: Activations, name: str) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each unit of a layer."""

    def mean_of(function: Callable[[Floats], Floats]) -> Floats:
        layers = (batch[name] for batch in X.batches())
        parts = (
            np.asarray(layer[rows], dtype=np.float64)
            for layer in layers
            for rows in row_batches(*layer.shape)
        )
        return sum(function(values).sum(axis=0) for values in parts) / len(X)

    mean = mean_of(np.asarray)
    deviation = np.sqrt(mean_of(lambda values: np.square(values - mean)))
    usual = np.maximum(np.abs(mean), deviation.max() or 1.0)
    return mean, np.maximum(deviation, _LEAST_DEVIATION * usual)
