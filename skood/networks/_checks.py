"""Checks of an adapter against the contract."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from scipy.special import softmax

from ._base import (
    CAPABILITIES,
    Batch,
    LossGradients,
    NetworkAdapter,
    Perturbation,
    Trace,
    count_samples,
    take_samples,
)
from ._fingerprint import Fingerprint
from ._inputs import is_stream, to_array

_ROUNDING = 1e-3
"""What the order of sums may change, relative to the largest value of a layer."""
_N_PROBED = 8
"""Features of the inputs whose slopes are measured."""


def check_adapter(adapter: NetworkAdapter, X: Any) -> None:
    """Check that an adapter keeps to the contract of :class:`NetworkAdapter`.

    It is what :func:`sklearn.utils.estimator_checks.check_estimator` is for estimators: to be run
    in the tests of an adapter, on a network of each kind that it reads. Checked are

    - the trace: known names, a row for each sample, the number of axes;
    - ``forward``: it gives the layers that are named, and these alone, each once, with the values
      of the trace, the same in each run and in batches of another size;
    - the logits, the labels and numbers of classes, and that the head yields the logits;
    - that inputs are not overwritten, in the network's kind of arrays or in NumPy's;
    - the fingerprint: the same after passes, and for a copy of the adapter;
    - each capability: what is named works, gradients have the closed form at the input of the head,
      perturbations follow slopes that are measured by finite differences, dropout depends on the
      seed alone; what is not named is refused.

    Parameters
    ----------
    adapter : NetworkAdapter
        Of a trained network.
    X : array-like, data frame, sequence or mapping
        At least three inputs of the network, not all the same.

    Raises
    ------
    AssertionError
        If something is not as the contract says; the message says what.
    ValueError
        If there are too few inputs, or they come batch by batch.

    See Also
    --------
    register : Lets the adapter be found.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood.networks import adapt, check_adapter
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier((8, 5), max_iter=2000, random_state=0).fit(X, y)
    >>> check_adapter(adapt(network), X[::10])
    """
    _require(isinstance(adapter, NetworkAdapter), f"{adapter!r} is no NetworkAdapter")
    capabilities = adapter.capabilities
    _require(
        isinstance(capabilities, Set) and all(isinstance(name, str) for name in capabilities),
        f"capabilities must be a set of strings, got {capabilities!r}",
    )
    unknown = sorted(capabilities - CAPABILITIES)
    _require(not unknown, f"capabilities names {unknown}, which do not exist")
    batch = _read_inputs(adapter, X)
    with adapter.untouched():
        two = take_samples(batch, [0, -1])
        trace, values = _unchanged(two, adapter.trace, two)
        _check_trace(adapter, trace, values)
        _check_values(adapter, two, trace, values)
        logits = _check_runs(adapter, batch, trace, list(values))
        _check_classes(adapter, trace, logits)
        if logits is not None:
            _check_head(adapter, batch, trace)
        _check_capabilities(adapter, batch, trace)
        _check_fingerprint(adapter, batch, trace)


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(f"{message}.")


def _read_inputs(adapter: NetworkAdapter, X: Any) -> Batch:
    prepared = adapter.prepare(X)
    if is_stream(prepared):
        raise ValueError("X must hold the inputs themselves, not yield them batch by batch.")
    if issparse(prepared):
        prepared = prepared.toarray()
    elif not (isinstance(prepared, Mapping) or hasattr(prepared, "detach")):
        prepared = np.asarray(prepared)
    if count_samples(prepared) < 3:
        raise ValueError(f"X needs at least three inputs, got {count_samples(prepared)}.")
    return prepared


def _arrays(batch: Batch) -> dict[str, NDArray]:
    named = batch if isinstance(batch, Mapping) else {"X": batch}
    return {name: np.array(to_array(values)) for name, values in named.items()}


def _unchanged(batch: Batch, call: Any, *args: Any) -> Any:
    """What a call returns, which must not overwrite the inputs."""
    before = _arrays(batch)
    returned = call(*args)
    for name, values in _arrays(batch).items():
        _require(
            np.array_equal(values, before[name], equal_nan=values.dtype.kind in "fc"),
            f"{getattr(call, '__name__', call)} overwrites the inputs {name!r}",
        )
    return returned


def _run(
    adapter: NetworkAdapter, batch: Batch, trace: Trace, layers: Sequence[str]
) -> tuple[dict[str, NDArray], NDArray | None]:
    kept: dict[str, NDArray] = {}

    def keep(name: str, value: Any) -> None:
        _require(name in layers, f"forward keeps the layer {name!r}, which it was not asked for")
        _require(name not in kept, f"forward keeps the layer {name!r} twice")
        kept[name] = np.array(_to_numpy(adapter, value))

    logits = _unchanged(batch, adapter.forward, batch, trace, layers, keep)
    missing = [name for name in layers if name not in kept]
    _require(not missing, f"forward does not keep the layers {missing}, which it was asked for")
    return kept, None if logits is None else np.array(_to_numpy(adapter, logits))


def _to_numpy(adapter: NetworkAdapter, value: Any) -> NDArray:
    array = adapter.to_numpy(value)
    _require(isinstance(array, np.ndarray), f"to_numpy returns a {type(array).__name__}")
    _require(
        not adapter.overlaps or np.array_equal(adapter.send(value)(), array, equal_nan=True),
        "send yields other values than to_numpy",
    )
    return array


def _check_trace(adapter: NetworkAdapter, trace: Trace, values: Mapping[str, Any]) -> None:
    _require(isinstance(trace, Trace), f"trace returns {type(trace).__name__} in place of a Trace")
    for what in ("auto", "features"):
        unknown = [name for name in getattr(trace, what) if name not in values]
        _require(not unknown, f"trace.{what} names {unknown}, of which trace returns no values")
    for name, value in values.items():
        shape = _to_numpy(adapter, value).shape
        _require(
            len(shape) > 1 and shape[0] == 2,
            f"the layer {name!r} has shape {shape} for two samples: it needs a row for each",
        )
        n_axes = trace.n_axes.get(name)
        _require(
            n_axes == len(shape), f"trace.n_axes of {name!r} is {n_axes}, but its shape {shape}"
        )


def _check_values(
    adapter: NetworkAdapter, two: Batch, trace: Trace, values: Mapping[str, Any]
) -> None:
    traced = {name: np.array(_to_numpy(adapter, value)) for name, value in values.items()}
    for layers in [list(traced), list(traced)[:1], []]:
        kept, _ = _run(adapter, two, trace, layers)
        for name in layers:
            _same(kept[name], traced[name], f"forward and trace differ in the layer {name!r}")


def _check_runs(
    adapter: NetworkAdapter, batch: Batch, trace: Trace, layers: list[str]
) -> NDArray | None:
    """The logits of all samples, which must be the same in each run and each size of batch."""
    n_samples = count_samples(batch)
    kept, logits = _run(adapter, batch, trace, layers)
    again, logits_again = _run(adapter, batch, trace, layers)
    parts = [_run(adapter, take_samples(batch, rows), trace, layers) for rows in ([0, 1], [-2, -1])]
    for name in layers:
        rows = len(kept[name])
        _require(rows == n_samples, f"the layer {name!r} has {rows} rows for {n_samples} samples")
        _same(again[name], kept[name], f"two runs differ in the layer {name!r}")
        for (some, _), place in zip(parts, (slice(2), slice(-2, None)), strict=True):
            _same(some[name], kept[name][place], f"the layer {name!r} depends on the batch size")
    if logits is None:
        _require(logits_again is None, "only the first of two runs yields logits")
        return None
    is_matrix = logits.ndim == 2 and len(logits) == n_samples and logits.dtype.kind == "f"
    _require(
        is_matrix and logits.shape[1] > 1,
        f"logits must be floats of shape ({n_samples}, n_classes), with at least two classes; got "
        f"{logits.dtype} of shape {logits.shape}",
    )
    _same(logits_again, logits, "two runs differ in the logits")
    for (_, part), place in zip(parts, (slice(2), slice(-2, None)), strict=True):
        _same(part, logits[place], "the logits depend on the batch size")
    return logits


def _same(found: NDArray | None, expected: NDArray, message: str) -> None:
    if found is None or found.shape != expected.shape:
        raise AssertionError(f"{message}: in their shapes.")
    atol = _ROUNDING * float(np.abs(expected).max(initial=0))
    _require(np.allclose(found, expected, rtol=0, atol=atol, equal_nan=True), message)


def _check_classes(adapter: NetworkAdapter, trace: Trace, logits: NDArray | None) -> None:
    n_classes = 0 if logits is None else logits.shape[1]
    if adapter.classes is not None and logits is not None:
        n_labels = len(adapter.classes)
        _require(n_labels == n_classes, f"{n_labels} labels in classes, but {n_classes} logits")
    predicted = None if logits is None else adapter.predictions(logits, trace)
    if predicted is not None and logits is not None:
        is_number = predicted.shape == (len(logits),) and predicted.dtype.kind in "iu"
        _require(
            is_number and set(predicted.tolist()) <= set(range(n_classes)),
            f"predictions must be numbers of the {n_classes} classes, got {predicted!r}",
        )


def _check_head(adapter: NetworkAdapter, batch: Batch, trace: Trace) -> None:
    head = adapter.head(trace)
    if head is None:
        _require(trace.why_no_head, "there is no head, but trace.why_no_head does not say why")
        return
    _require(not trace.why_no_head, f"there is a head, but trace says that {trace.why_no_head}")
    _require(
        isinstance(head, tuple) and len(head) == 2,
        f"head must return a tuple of weight and bias, got a {type(head).__name__}",
    )
    weight, bias = head
    _require(
        not np.shares_memory(weight, adapter.head(trace)[0]),  # type: ignore[index]
        "head must return copies of the weights",
    )
    kept, logits = _run(adapter, batch, trace, trace.features)
    _require(
        logits is not None and len(weight) == logits.shape[1],
        f"the head has weights of shape {weight.shape}, which do not fit the number of logits",
    )
    for name, features in kept.items():
        yields = features @ weight.T + (0 if bias is None else bias)
        _same(yields, logits, f"the head does not yield the logits of the layer {name!r}")  # type: ignore[arg-type]


def _check_fingerprint(adapter: NetworkAdapter, batch: Batch, trace: Trace) -> None:
    found = adapter.fingerprint(trace)
    _require(isinstance(found, Fingerprint) and found.digest, f"fingerprint returns {found!r}")
    stamp = adapter.stamp(trace)
    _run(adapter, batch, trace, [])
    _require(adapter.fingerprint(trace) == found, "a pass changes the fingerprint")
    _require(adapter.stamp(trace) == stamp, "a pass changes the stamp")
    try:
        other = copy.deepcopy(adapter)
    except Exception:  # it holds something that cannot be copied
        return
    same = other.fingerprint(trace) == found
    _require(same or found.unread, "a copy of the network has another fingerprint")


class _Slope(Perturbation):
    """The loss is a fixed weighted sum of the logits."""

    def __init__(self, weights: NDArray, size: float) -> None:
        self._weights, self._size = weights, size

    def layers(self) -> list[str]:
        return []

    def gradients(self, logits: NDArray | None, means: Mapping[str, NDArray]) -> LossGradients:
        return LossGradients(self._weights, {})

    def steps(self, shape: Sequence[int]) -> NDArray[np.float64]:
        return np.full([1] * len(shape), self._size)


def _check_capabilities(adapter: NetworkAdapter, batch: Batch, trace: Trace) -> None:
    _, logits = _run(adapter, batch, trace, [])
    n_samples = count_samples(batch)
    shape = (n_samples, 2) if logits is None else logits.shape
    slope = _Slope(np.random.default_rng(0).normal(size=shape), 0.01)
    calls = {
        "gradients": lambda: adapter.forward_with_gradients(batch, trace, [], _ignore, _ignore),
        "dropout": lambda: adapter.forward_with_dropout(batch, trace, 2, 0),
        "perturbation": lambda: adapter.perturb(batch, trace, slope),
    }
    for capability, call in calls.items():
        if not adapter.supports(capability):
            _check_refused(capability, call)
    if logits is None:
        return
    if adapter.supports("gradients"):
        _check_gradients(adapter, batch, trace)
    if adapter.supports("dropout"):
        _check_dropout(adapter, batch, trace, logits)
    floats = not isinstance(batch, Mapping) and _arrays(batch)["X"].dtype.kind == "f"
    if adapter.supports("perturbation") and floats:
        _check_perturbation(adapter, batch, trace, slope)


def _ignore(name: str, value: Any) -> None:
    pass


def _check_refused(capability: str, call: Any) -> None:
    try:
        call()
    except ValueError:
        return
    raise AssertionError(f"{capability!r} works, but capabilities does not name it.")


def _check_gradients(adapter: NetworkAdapter, batch: Batch, trace: Trace) -> None:
    layers = list(dict.fromkeys([*trace.auto, *trace.features]))
    values: dict[str, NDArray] = {}
    gradients: dict[str, NDArray] = {}

    def keep(name: str, value: Any) -> None:
        values[name] = np.array(_to_numpy(adapter, value))

    def keep_gradient(name: str, gradient: Any) -> None:
        gradients[name] = np.array(_to_numpy(adapter, gradient))

    logits = _to_numpy(
        adapter, adapter.forward_with_gradients(batch, trace, layers, keep, keep_gradient)
    )
    for name in layers:
        _require(
            name in values and name in gradients and gradients[name].shape == values[name].shape,
            f"the gradient at the layer {name!r} is not of the shape of its values",
        )
    head = adapter.head(trace)
    if head is not None:
        expected = (softmax(logits, axis=1) - 1 / logits.shape[1]) @ head[0]
        for name in trace.features:
            _same(gradients[name], expected, f"the gradient at {name!r} is not that of the head")


def _check_dropout(adapter: NetworkAdapter, batch: Batch, trace: Trace, logits: NDArray) -> None:
    try:
        passes = [
            _to_numpy(adapter, adapter.forward_with_dropout(batch, trace, 3, seed))
            for seed in (0, 0)
        ]
    except ValueError:  # a network without dropout layers
        return
    expected = (len(logits), 3, logits.shape[1])
    _require(passes[0].shape == expected, f"passes have shape {passes[0].shape}, not {expected}")
    _same(passes[1], passes[0], "the same seed drops something else")


def _check_perturbation(adapter: NetworkAdapter, batch: Batch, trace: Trace, slope: _Slope) -> None:
    """Compare the signs of the gradient with those of slopes, where these are not flat."""
    moved, _ = _unchanged(batch, adapter.perturb, batch, trace, slope)
    X = _arrays(batch)["X"].astype(float)
    change = X - np.asarray(_to_numpy(adapter, moved), dtype=float)
    _require(change.shape == X.shape, "perturb returns inputs of another shape")
    _require(np.abs(change).max() < 0.011, "perturb moves inputs by more than the given steps")
    probed = np.random.default_rng(1).permutation(X[0].size)[:_N_PROBED]
    slopes = np.array([_slope_of(adapter, batch, trace, slope, number) for number in probed]).T
    signs = np.sign(change.reshape(len(X), -1)[:, probed])
    steep = np.abs(slopes) > 0.1 * np.abs(slopes).max()
    agree = np.sign(slopes)[steep] == signs[steep]
    # Some slopes bend within the distance over which they are measured.
    _require(agree.mean() >= 0.9, "perturb does not move inputs against the slope of the loss")


def _slope_of(
    adapter: NetworkAdapter, batch: Batch, trace: Trace, slope: _Slope, number: int
) -> NDArray:
    """Slope of the loss of each sample along one feature of the inputs."""
    losses = []
    for step in (1e-2, -1e-2):
        shifted = batch.clone() if hasattr(batch, "clone") else np.array(batch)
        shifted.reshape(len(shifted), -1)[:, number] += step
        _, logits = _run(adapter, shifted, trace, [])
        losses.append((slope.gradients(logits, {}).logits * logits).sum(axis=1))  # type: ignore[operator]
    return losses[0] - losses[1]
