"""Coverage of the states of neurons by the training samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from ._base import BaseOneClassDetector

_EDGE_CURVATURE = np.sqrt(1000.0)
"""How much narrower the authors' bins are at a state of 0.5 than at 0 and 1."""
_LEAST_DEVIATION = 1e-10
"""Deviation of a unit that never varies, relative to what it could be mistaken for by rounding."""
_ROUNDING = 1e-9
"""By how much a standardised activation may be off: those on an edge all belong to one bin."""

_OF_LAYER: dict = {
    "n_bins": [Interval(Integral, 2, None, closed="left")],
    "min_count": [Interval(Integral, 1, None, closed="left")],
    "min_fraction": [Interval(Real, 0, 1, closed="neither"), None],
    "steepness": [Interval(Real, 0, None, closed="neither")],
}


class NACDetector(BaseOneClassDetector):
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
        **BaseOneClassDetector._parameter_constraints,
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

    def _fit(self, X: Activations, y: NDArray | None) -> Floats:
        layers = [str(column.name) for column in layer_columns(X) if column.kind != "gradient"]
        if not layers:
            raise ValueError(f"NACDetector needs a layer beside gradients, but got {X!r}.")
        self._find_gradients(X, layers)
        n_bins, enough = self._by_layer("n_bins", layers), self._enough(layers, len(X))
        self._steepness = self._by_layer("steepness", layers)
        self._standards = {
            name: _standard(X, name) for name in layers if name not in self.gradient_layers_
        }
        self._coverages = {}
        for name in layers:
            is_plain = name in self._standards
            edges = np.linspace(0, 1, n_bins[name] + 1) if is_plain else _edges(n_bins[name])
            self._coverages[name] = _Coverage(X.layer_shapes[name][0], edges, enough[name])
        for rows in row_batches(*X.shape):
            part = X[rows]
            for name, coverage in self._coverages.items():
                coverage.count(self._signals(part, name))
        self.counts_ = {name: coverage.counts for name, coverage in self._coverages.items()}
        return self._mean_coverage(X, but_itself=True)

    def _find_gradients(self, X: Activations, layers: list[str]) -> None:
        """Where the gradients of which layers come from."""
        self._gradient_names = {}
        known: set[str] = set()
        if self.gradients:
            self._gradient_names = gradient_names(X)
            _check_widths(X, self._gradient_names)
            known.update(self._gradient_names)
            of_head = _layer_of_head(X, layers)
            if X.head is not None and of_head is not None and of_head not in known:
                self.head_ = LinearHead(X.head.weight, X.head.bias, of_head)
                known.add(of_head)
        self.gradient_layers_ = tuple(name for name in layers if name in known)
        missing = [name for name in layers if name not in known]
        if missing and self.gradients and self.gradients != "auto":
            raise ValueError(
                f"gradients=True needs the gradients of all layers, but X has none of {missing}: "
                "extract them by ActivationExtractor(gradients=True)."
            )

    def _enough(self, layers: list[str], n_samples: int) -> Mapping[str, float]:
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

    def _signals(self, part: Activations, name: str) -> Floats:
        """What the sigmoid would turn into states, ndarray of shape (n_samples, n_units)."""
        values = np.asarray(part[name], dtype=np.float64)
        if name in self._standards:
            mean, deviation = self._standards[name]
            return (values - mean) / deviation + _ROUNDING
        return self._steepness[name] * values * self._gradients(part, name)

    def _gradients(self, part: Activations, name: str) -> Floats:
        if name in self._gradient_names:
            return np.asarray(part[self._gradient_names[name]], dtype=np.float64)
        logits = float64_logits(self, part, self.head_)
        return uniform_kl_gradient(logits) @ self.head_.weight.astype(np.float64)

    def _score_samples(self, X: Activations) -> Floats:
        return self._mean_coverage(X)

    def _mean_coverage(self, X: Activations, *, but_itself: bool = False) -> Floats:
        scores = np.empty(len(X))
        for rows in row_batches(*X.shape):
            part = X[rows]
            by_layer = [
                coverage.of(self._signals(part, name), but_itself=but_itself)
                for name, coverage in self._coverages.items()
            ]
            scores[rows] = np.mean(by_layer, axis=0)
        return scores


class _Coverage:
    """Histograms of the states of one layer's units.

    States themselves are not computed: edges of bins are turned to where they would be before the
    sigmoid. There no state is rounded to 0, 0.5 or 1.
    """

    def __init__(self, n_units: int, edges: Floats, enough: float) -> None:
        self.counts = np.zeros((n_units, len(edges) - 1), dtype=np.int64)
        self._enough = enough
        self._inner_edges = logit(edges[1:-1])

    def count(self, signals: Floats) -> None:
        """Add samples to the counts."""
        found = np.bincount(self._bins(signals).ravel(), minlength=self.counts.size)
        self.counts += found.reshape(self.counts.shape)

    def of(self, signals: Floats, *, but_itself: bool) -> Floats:
        """Mean coverage of the units of each sample, itself counted or not."""
        counts = self.counts.ravel()[self._bins(signals)] - int(but_itself)
        return np.minimum(counts / self._enough, 1).mean(axis=1)

    def _bins(self, signals: Floats) -> NDArray[np.intp]:
        """Position in the flat counts of the bin of each state."""
        n_units, n_bins = self.counts.shape
        # A state on an edge belongs to the upper bin.
        within = np.searchsorted(self._inner_edges, signals, side="right")
        return within + n_bins * np.arange(n_units)


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
        batches = row_batches(len(X), X.layer_shapes[name][0])
        parts = (np.asarray(X[rows][name], dtype=np.float64) for rows in batches)
        return sum(function(values).sum(axis=0) for values in parts) / len(X)

    mean = mean_of(np.asarray)
    deviation = np.sqrt(mean_of(lambda values: np.square(values - mean)))
    usual = np.maximum(np.abs(mean), deviation.max() or 1.0)
    return mean, np.maximum(deviation, _LEAST_DEVIATION * usual)
