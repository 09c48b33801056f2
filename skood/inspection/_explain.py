"""Why a detector scores a sample as it does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, is_outlier_detector

from .._batches import row_batches
from .._foreign import (
    detector_of,
    in_distribution_scores,
    is_calibrated,
    rows_of_fit,
    scoring_steps,
)
from .._layer_names import unit_axes
from .._patterns import pack_layers
from .._progress import steps
from .._samples import n_rows_of, take_samples
from .._sklearn import Interval, validate_params
from .._streams import check_fitted
from .._validation import ARRAY_LAYER
from ..activations import Activations, PackedBits
from ..detectors import NearestExamples
from ..ensemble import AdaptiveEnsembleDetector, LayerEnsembleDetector
from ..shaping import BaseShaper
from ._explanation import Explanation
from ._nearest_examples import keeps_samples, kept_examples, reference_examples

Score = Callable[[Activations], NDArray]


@validate_params(
    {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_neurons": [Interval(Integral, 1, None, closed="left")],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def explain(
    detector: Any,
    X: Any,
    *,
    X_train: Any = None,
    y_train: ArrayLike | None = None,
    n_neighbors: int = 5,
    n_neurons: int = 10,
    verbose: int = 0,
) -> Explanation:
    """Explain the score of a few samples: by training examples, neurons and layers.

    Parameters
    ----------
    detector : fitted outlier detector, or Pipeline, search or Monitor that ends in one
        With ``score_samples`` or ``decision_function``, the higher the more in-distribution. Of a
        :class:`~skood.calibration.ConformalDetector`, and of a monitor that is calibrated, the
        scores of what it calibrates are explained, of several detectors those of the first; alarms
        and threshold are its own.
    X : Activations or array-like of shape (n_samples, n_features)
        What the detector, or the pipeline, scores.
    X_train : Activations or array-like of shape (n_training_samples, n_features), default=None
        What it was fitted on, or other samples to compare with. Not needed for detectors that keep
        their training samples, those with a method ``nearest_examples``, such as
        :class:`~skood.HammingNAPDetector` and :class:`~skood.detectors.KNNDetector`.
    y_train : array-like of shape (n_training_samples,), default=None
        Classes of the training samples; -1 marks an out-of-distribution one, which is not compared
        with. By default the classes are those predicted by the network, where these are known.
    n_neighbors : int, default=5
        How many training examples to find for each sample.
    n_neurons : int, default=10
        How many neurons to name in the report. The weights of all are kept.
    verbose : int, default=0
        Whether to show the progress; see :ref:`progress`.

    Returns
    -------
    Explanation
        What was found.

    Raises
    ------
    TypeError
        If ``detector`` is no outlier detector.
    ValueError
        If ``X_train`` is needed and missing, has other layers than ``X``, or is not what a
        detector that keeps its training samples was fitted on; or if ``y_train`` has
        another length.

    See Also
    --------
    PatternDisplay : Draws a sample's pattern against the nearest one.

    Notes
    -----
    **Weights.** The weight of a neuron is the rise of the score if this neuron did what it does in
    the nearest training example and all others did not change. A layer is changed as a whole.
    The unit of a feature map is a channel: the second axis, or the ``unit_axis`` of its column.
    The predicted class remains the network's own. Logits follow a change of the layer that the
    head reads, and of no other: the change is not sent through the rest of the network. Weights of
    single neurons need not add up to that of their layer, except where the score is a sum over
    neurons.

    **Neighbours** are found by the detector's own search where it has one (``nearest_examples``, or
    ``kneighbors`` of other libraries). Otherwise they are the training samples of the
    predicted class that are nearest by Hamming distance, where all layers are binary, or else by
    Euclidean distance with each layer divided by the root mean square of its norm in ``X_train``.
    A training sample is its own nearest example, and then all weights are 0.

    **Pipelines.** The neurons are those that the last step sees: bits after a
    :class:`~skood.PercentileBinarizer`, reduced maps after a :class:`~skood.PoolingReducer`.
    Shaping, such as :class:`~skood.shaping.ReAct`, counts as part of the detector that follows it,
    so the neurons are the network's own, unless that detector keeps its training samples.

    **Kinds of detectors.** With a ``HammingNAPDetector`` each neuron that differs from the nearest
    pattern weighs 1, up to the share that breaks ties, and a layer weighs as many as differ. A
    ``KNNDetector`` with ``normalize=True`` keeps directions: a neighbour gets the norm
    that the sample has. A :class:`~skood.ensemble.LayerEnsembleDetector` with
    ``combine="fisher"`` or ``"vote"`` ranks its members' scores, and ranks do not see what a single
    neuron does to a sample that is far away: the weights are those of the same ensemble
    with ``combine="mean"``. With ``combine="informed"``, and in an
    :class:`~skood.ensemble.AdaptiveEnsembleDetector`, there are ranks in the bulk only, where
    neurons that change no rank weigh 0.

    **Size.** An input on a wrong scale moves all layers at once, and no layer alone brings it back.
    The report then names the layers whose norm is twice that of the nearest examples or more, or
    half of it or less (``norm_ratios``), and, of an ``AdaptiveEnsembleDetector``, the detectors
    that lower the score, such as "norms" (``contributions``). Of an
    :class:`~skood.ensemble.AnyAlarmDetector` it names those that reject the sample.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations, HammingNAPDetector
    >>> from skood.inspection import explain
    >>> fires = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]])
    >>> A = Activations({"relu": fires}, predictions=[0, 0, 1, 1])
    >>> detector = HammingNAPDetector(tau=1, break_ties=False).fit(A)
    >>> new = Activations({"relu": [[0, 1, 1, 0]]}, predictions=[0])
    >>> print(explain(detector, new, n_neighbors=2))
    Sample 0: alarm (score -2, threshold -1)
      predicted class: 0
      nearest training examples  distance  class
        row 0                           2  0
        row 1                           2  0
      layers that weigh most: relu +2
      neurons that weigh most      weight     here   nearby
        relu[0]                        +1        0        1
        relu[2]                        +1        1        0
    """
    whole, given = detector, X
    detector, shape, X, X_train = _split(detector, X, X_train)
    shaped = shape(X)
    scores = _score(detector, shaped)
    # What calibrates has another threshold than the detector whose scores are explained.
    decides = (whole, given) if _has_own_threshold(whole) else (detector, shaped)
    A = _as_activations(X)
    examples = _find_in_fit(whole, detector, A, X, X_train, y_train, n_neighbors)
    A = _as_compared(A, examples)
    axes = unit_axes(A)
    score = _scorer(_without_ranks(detector), shape, X)
    layer_weights, neuron_weights = _weigh(score, _with_head(A, detector), examples, verbose)
    return Explanation(
        scores=scores,
        threshold=_threshold(*decides, scores),
        alarms=_alarms(*decides),
        predictions=A.predictions,
        neighbors=examples.rows,
        distances=examples.distances,
        neighbor_labels=examples.labels,
        layer_weights=layer_weights,
        neuron_weights=neuron_weights,
        values={name: _by_unit(np.asarray(layer), axes[name]) for name, layer in A.items()},
        neighbor_values=_mean_values(A, examples),
        n_neurons=n_neurons,
        contributions=_contributions(detector, shaped, decides),
    )


def _contributions(
    detector: Any, X: Any, decides: tuple[Any, Any]
) -> dict[str, NDArray[np.float64]] | None:
    """What each detector of an ensemble adds, or by how much it is above a threshold of its own."""
    if isinstance(detector, AdaptiveEnsembleDetector):
        return detector.contributions(X)
    whole, given = decides if hasattr(decides[0], "decision_each") else (detector, X)
    return whole.decision_each(given) if hasattr(whole, "decision_each") else None


def _split(detector: Any, X: Any, X_train: Any) -> tuple[Any, Callable, Any, Any]:
    """The detector, the shaping before it, and what comes into these of ``X`` and ``X_train``."""
    *before, last = scoring_steps(detector)
    if not isinstance(last, BaseEstimator) or not is_outlier_detector(last):
        raise TypeError(f"Expected an outlier detector, got {last!r}.")
    check_fitted(last)
    n_before = len(before)
    if not keeps_samples(last):
        while n_before and isinstance(before[n_before - 1], BaseShaper):
            n_before -= 1
    first, shaping = before[:n_before], before[n_before:]
    X_train = None if X_train is None else _transformed(first, X_train)
    return last, partial(_transformed, shaping), _transformed(first, X), X_train


def _transformed(steps: list[Any], X: Any) -> Any:
    for step in steps:
        X = step.transform(X)
    return X


def _has_own_threshold(detector: Any) -> bool:
    """Whether a detector, or a monitor, has another threshold than what gives its scores."""
    return hasattr(detector, "calibration_") or is_calibrated(detector_of(detector))


def _alarms(detector: Any, X: Any) -> NDArray[np.bool_]:
    return np.asarray(detector.predict(X)) == -1


def _as_activations(X: Any) -> Activations:
    return X if isinstance(X, Activations) else Activations({ARRAY_LAYER: np.asarray(X)})


def _with_head(A: Activations, detector: Any) -> Activations:
    """A detector that has stored a head also uses it for samples that come without."""
    return A.assign(head=detector.head_) if A.head is None and hasattr(detector, "head_") else A


def _score(detector: Any, X: Any) -> NDArray[np.float64]:
    return in_distribution_scores(detector, X).astype(np.float64)


def _without_ranks(detector: Any) -> Any:
    """An ensemble that ranks scores as one that averages them: ranks do not see small changes."""
    ranks = isinstance(detector, LayerEnsembleDetector) and detector.combine in ("fisher", "vote")
    if not ranks:
        return detector
    averaging = copy(detector)
    averaging.combine = "mean"
    return averaging


def _scorer(detector: Any, shape: Callable, X: Any) -> Score:
    """Scores changed copies, which the detector gets as what it was given."""
    if isinstance(X, Activations):
        return lambda copies: _score(detector, shape(copies))

    def score(copies: Activations) -> NDArray:
        with warnings.catch_warnings():
            # Copies of a row of a data frame are plain arrays.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return _score(detector, shape(np.asarray(copies)))

    return score


def _threshold(detector: Any, X: Any, scores: NDArray) -> float | None:
    """The score that decides, None where it is not the score alone, as in a vote of layers."""
    # Of some of scikit-learn's detectors it is an array of one value.
    offset = np.asarray(getattr(detector, "offset_", 0.0)).item()
    decides = np.allclose(detector.decision_function(X), scores - offset)
    return float(offset) if decides else None


def _find_in_fit(
    whole: Any,
    detector: Any,
    A: Activations,
    X: Any,
    X_train: Any,
    y_train: ArrayLike | None,
    n_neighbors: int,
) -> NearestExamples:
    """Nearest examples by their rows in the ``fit`` of the whole, which may have held out some."""
    known = rows_of_fit(whole)
    if known is None or not (keeps_samples(detector) or hasattr(detector, "kneighbors")):
        return _find(detector, A, X, X_train, y_train, n_neighbors)
    rows, n_rows = known
    if X_train is not None and n_rows_of(X_train) == n_rows:
        X_train = take_samples(X_train, rows)
    if y_train is not None and len(labels := np.asarray(y_train)) == n_rows:
        y_train = labels[rows]
    examples = _find(detector, A, X, X_train, y_train, n_neighbors)
    return replace(examples, rows=np.where(examples.rows < 0, -1, rows[examples.rows]))


def _find(
    detector: Any,
    A: Activations,
    X: Any,
    X_train: Any,
    y_train: ArrayLike | None,
    n_neighbors: int,
) -> NearestExamples:
    A_train = None if X_train is None else _as_activations(X_train)
    if A_train is not None and A_train.layer_shapes != A.layer_shapes:
        raise ValueError(
            f"X_train has the layers {A_train.layer_shapes}, but X has {A.layer_shapes}."
        )
    if keeps_samples(detector):
        return kept_examples(detector, X, A_train, y_train, n_neighbors)
    if A_train is None:
        raise ValueError(
            f"{type(detector).__name__} does not keep its training samples: give them, or others "
            "to compare with, as X_train."
        )
    return reference_examples(detector, A, X, A_train, y_train, n_neighbors)


def _as_compared(A: Activations, examples: NearestExamples) -> Activations:
    """The samples in the form of their examples: as patterns where these are patterns."""
    names = [
        name
        for name, values in examples.layers.items()
        if values.dtype == bool and A[name].dtype != bool
    ]
    if not names:
        return A
    return A.replace(dict(A.items()) | dict(zip(names, pack_layers(A[names]), strict=True)))


def _weigh(
    score: Score, A: Activations, examples: NearestExamples, verbose: int
) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    A = _in_double(A)
    layer_weights = {name: np.full(len(A), np.nan) for name in A.layer_names}
    axes, neuron_weights = unit_axes(A), _unknown_by_unit(A)
    rows = np.flatnonzero(examples.rows[:, 0] >= 0)
    with steps("explain", len(rows), "samples", verbose=verbose, are_counted=True) as told:
        for i in rows:
            sample = A[[i]]
            own_score = score(sample)
            for name in A.layer_names:
                # Of layers that the detector does not read, examples may hold nothing.
                kept = examples.layers.get(name)
                example = sample[name][0] if kept is None else kept[i, 0]
                rises = _score_changes(score, sample, own_score, name, example, axes[name])
                rises -= own_score
                # One row and many are not rounded alike.
                rises[np.abs(rises) <= 1e-12 * np.abs(own_score)] = 0
                neuron_weights[name][i], layer_weights[name][i] = rises[:-1], rises[-1]
            told.advance()
    return layer_weights, neuron_weights


def _in_double(A: Activations) -> Activations:
    """In single precision, one row and many differ by more than neurons that do not matter."""
    layers = {
        name: np.asarray(layer, dtype=np.float64)
        for name, layer in A.items()
        if layer.dtype.kind == "f"
    }
    if A.logits is None:
        return A.assign(layers)
    return A.assign(layers, logits=A.logits.astype(np.float64))


def _score_changes(
    score: Score,
    sample: Activations,
    own_score: NDArray,
    name: str,
    example: NDArray,
    unit_axis: int,
) -> NDArray[np.float64]:
    """Score with each unit of a layer as in the example, and last with all of them."""
    own = np.asarray(sample[name])[0]
    n_units = own.shape[unit_axis - 1]
    positions = tuple(axis for axis in range(own.ndim) if axis != unit_axis - 1)
    scores = np.repeat(own_score, n_units + 1)
    # What does the same in the example weighs exactly 0, and need not be scored.
    changes = np.flatnonzero((own != example).any(axis=positions))
    if len(changes) == 0:
        return scores
    changes = np.append(changes, n_units)
    for batch in row_batches(len(changes), sample.shape[1], are_products=True):
        chosen = changes[batch, np.newaxis]
        is_changed = (chosen == np.arange(n_units)) | (chosen == n_units)
        is_changed = np.expand_dims(is_changed, tuple(1 + axis for axis in positions))
        copies = sample[np.zeros(len(chosen), dtype=int)]
        scores[changes[batch]] = score(_put(copies, name, np.where(is_changed, example, own)))
    return scores


def _put(copies: Activations, name: str, values: NDArray) -> Activations:
    """Exchange a layer; logits follow where the head reads it."""
    if values.dtype == bool:
        packed = isinstance(copies[name], PackedBits)
        return copies.assign({name: PackedBits.pack(values) if packed else values})
    logits, head = copies.logits, copies.head
    if logits is None or head is None or head.shape[1:] != values.shape[1:]:
        return copies.assign({name: values})
    if head.input_layer != name and (head.input_layer is not None or len(copies.layer_names) > 1):
        return copies.assign({name: values})
    return copies.assign({name: values}, logits=logits + (values - copies[name]) @ head.weight.T)


def _by_unit(values: NDArray, unit_axis: int, n_axes_before: int = 1) -> NDArray:
    """The mean over positions, for units that are channels."""
    positions = tuple(axis for axis in range(n_axes_before, values.ndim) if axis != unit_axis)
    return values.mean(axis=positions) if positions else values


def _unknown_by_unit(A: Activations) -> dict[str, NDArray[np.float64]]:
    """NaN for each sample and unit."""
    axes, shapes = unit_axes(A), A.layer_shapes
    return {name: np.full((len(A), shapes[name][axes[name] - 1]), np.nan) for name in axes}


def _mean_values(A: Activations, examples: NearestExamples) -> dict[str, NDArray[np.float64]]:
    """What each unit does on average in the examples found, NaN where that is not known."""
    found = (examples.rows >= 0)[:, :, np.newaxis]
    counts = found.sum(axis=1)
    axes, means = unit_axes(A), _unknown_by_unit(A)
    for name, values in examples.layers.items():
        total = np.sum(_by_unit(values, axes[name] + 1, 2), axis=1, where=found, dtype=np.float64)
        np.divide(total, counts, out=means[name], where=counts > 0)
    return means
