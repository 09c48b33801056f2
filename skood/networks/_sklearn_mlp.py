"""Fitted scikit-learn multilayer perceptrons as networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from .._logits import require_logits, uniform_kl_gradient
from ._base import (
    LEAST_ROUNDING,
    Batch,
    GivenHead,
    LayerCallback,
    LayerReading,
    NetworkAdapter,
    Perturbation,
    Trace,
    check_reached,
    two_class_head,
)
from ._fingerprint import ContentReader, Fingerprint, fingerprint_of_parts, sample_octets
from ._inputs import is_stream, to_array

_NOT_FITTED = (
    "This %(name)s instance is not fitted yet: fit it before its activations are extracted. "
    "Clones, such as a search over networks makes, are not fitted: there, wrap each perceptron in "
    "sklearn.frozen.FrozenEstimator."
)
_INPUTS, _OUTPUT = "inputs", "output"

_FUNCTIONS: dict[str, Callable[[NDArray], NDArray]] = {
    "exp": np.exp,
    "identity": np.asarray,
    "logistic": expit,
    "relu": lambda values: np.maximum(values, 0),
    "softmax": lambda values: softmax(values, axis=1),
    "tanh": np.tanh,
}
# From the gradient with respect to the value of a function to that with respect to its argument.
_PULL_BACKS: dict[str, Callable[[NDArray, NDArray], NDArray]] = {
    "exp": lambda values, gradient: gradient * values,
    "identity": lambda values, gradient: gradient,
    "logistic": lambda values, gradient: gradient * values * (1 - values),
    "relu": lambda values, gradient: gradient * (values > 0),
    "softmax": lambda values, gradient: (
        values * (gradient - (gradient * values).sum(axis=1, keepdims=True))
    ),
    "tanh": lambda values, gradient: gradient * (1 - values**2),
}


class MLPAdapter(NetworkAdapter):
    """Runs a perceptron by its coefficients.

    Its layers are "hidden_0", "hidden_1", ... and "output", after their activation functions.
    """

    kept_as = "state"
    capabilities = frozenset({"gradients", "perturbation", "head"})
    written_by_passes = False

    def __init__(
        self,
        mlp: MLPClassifier | MLPRegressor,
        device: Any = "cpu",
        head: str | GivenHead = "auto",
    ) -> None:
        check_is_fitted(mlp, msg=_NOT_FITTED)
        if str(device) != "cpu":
            raise ValueError(
                f"device={device!r} is for networks of torch: a {type(mlp).__name__} runs on the "
                'CPU. Leave device="auto".'
            )
        self._mlp = self.network = mlp
        self._hidden = [f"hidden_{number}" for number in range(len(mlp.coefs_) - 1)]
        if isinstance(head, str) and head != "auto":
            raise ValueError(
                f"head={head!r} names a module of torch: a {type(mlp).__name__} has its last "
                'coefficients for a head. Leave head="auto", or give a LinearHead.'
            )
        self._given = None if isinstance(head, str) else head
        # Where a sample may have several labels, the outputs are no logits of classes.
        several = mlp.out_activation_ == "logistic" and mlp.n_outputs_ > 1
        self._has_logits = isinstance(mlp, MLPClassifier) and not several
        self.classes = self._classes()

    @property
    def kind(self) -> str:
        return f"scikit-learn's {type(self._mlp).__name__}"

    def prepare(self, X: Any) -> Any:
        if not (isinstance(X, Mapping) or is_stream(X)):
            # Checks the names of columns; the shape of each batch is checked when it is run.
            validate_data(self._mlp, X, reset=False, skip_check_array=True, ensure_2d=False)
        return X

    def fingerprint(self, trace: Trace | None = None) -> Fingerprint:
        mlp = self._mlp
        settings = {
            "class": type(mlp).__name__,
            "activation": mlp.activation,
            "out_activation_": mlp.out_activation_,
            "classes_": self._classes(),
        }
        return fingerprint_of_parts(ContentReader(), self._weights(), settings.items())

    def stamp(self, trace: Trace | None = None) -> Any:
        mlp = self._mlp
        weights = {name: sample_octets(array) for name, array in self._weights().items()}
        return type(mlp), mlp.activation, mlp.out_activation_, repr(self._classes()), weights

    def _classes(self) -> NDArray | None:
        return self._mlp.classes_ if self._has_logits else None

    def _weights(self) -> dict[str, NDArray]:
        kinds = {"coefs_": self._mlp.coefs_, "intercepts_": self._mlp.intercepts_}
        return {f"{kind}[{i}]": a for kind, arrays in kinds.items() for i, a in enumerate(arrays)}

    def trace(self, batch: Batch) -> tuple[Trace, dict[str, NDArray]]:
        values, _ = self._run(self._check_batch(batch), [_OUTPUT])
        n_axes = {name: value.ndim for name, value in values.items()}
        if self._given is not None:
            self._check_given(self._given, values[self._hidden[-1]])
        why = "" if self._has_logits else "a regressor or multilabel classifier has none"
        features = self._hidden[-1:]
        return Trace(self._hidden, features, n_axes, why_no_head=why, why_no_logits=why), values

    def _check_given(self, head: GivenHead, features: NDArray) -> None:
        """Raise a ValueError where a head is not that of the perceptron."""
        own, layer = self._own_head(), self._hidden[-1]
        if own is None:
            raise ValueError(f"A LinearHead is given, but {self.kind} has no logits.")
        own_bias = np.asarray(own[1])
        if head.input_layer not in (None, layer):
            raise ValueError(
                f"The LinearHead reads the layer {head.input_layer!r}, but {self.kind} makes its "
                f"logits of {layer!r}."
            )
        bias = np.zeros(len(head.weight)) if head.bias is None else head.bias
        if np.shape(head.weight) != own[0].shape:
            raise ValueError(
                f"The weight of the LinearHead has shape {np.shape(head.weight)}, but that of "
                f"{self.kind} has shape {own[0].shape}."
            )
        off = np.abs(features @ (head.weight - own[0]).T + (bias - own_bias))
        size = np.abs(features) @ np.abs(own[0]).T + np.abs(own_bias)
        if (off > LEAST_ROUNDING * size).any():
            raise ValueError(
                f"The LinearHead does not make the logits of {layer!r}: weight times values plus "
                f"bias differs from them by up to {off.max():.3g}."
            )

    def forward(
        self, batch: Batch, trace: Trace, layers: Sequence[str], keep: LayerCallback
    ) -> NDArray | None:
        values, output = self._run(self._check_batch(batch), layers)
        for name in layers:
            keep(name, values[name])
        return self._as_logits(output)

    def as_module(
        self, batch: Batch, trace: Trace, layers: Sequence[str], read: LayerReading
    ) -> Any:
        from ._mlp_module import MLPModule  # torch takes seconds to import

        return MLPModule(self._mlp, layers, read, has_logits=self._has_logits)

    def forward_with_gradients(
        self,
        batch: Batch,
        trace: Trace,
        layers: Sequence[str],
        keep: LayerCallback,
        keep_gradient: LayerCallback,
    ) -> NDArray:
        values, output = self._run(self._check_batch(batch), layers)
        logits = require_logits(self._as_logits(output), "gradients=True")
        check_reached([name for name in layers if name == _OUTPUT])
        gradients = self._backpropagate(values, self._at_output(uniform_kl_gradient(logits)), {})
        for name in layers:
            keep(name, values[name])
            keep_gradient(name, gradients[name].astype(values[name].dtype))
        return logits

    def perturb(
        self, batch: Batch, trace: Trace, perturbation: Perturbation
    ) -> tuple[NDArray, NDArray | None]:
        inputs = self._check_batch(batch)
        inputs = inputs.astype(np.result_type(inputs, self._mlp.coefs_[0]), copy=False)
        values, output = self._run(inputs, perturbation.layers())
        logits = self._as_logits(output)
        means = {name: values[name].astype(np.float64) for name in perturbation.layers()}
        wanted = perturbation.gradients(logits, means)
        at_output = np.zeros(output.shape)
        if wanted.logits is not None:
            at_output += self._at_output(wanted.logits)
        if _OUTPUT in means:
            pull_back = _PULL_BACKS[self._mlp.out_activation_]
            at_output += pull_back(means[_OUTPUT], wanted.means[_OUTPUT])
        gradient = self._backpropagate(values, at_output, wanted.means)[_INPUTS]
        steps = perturbation.steps(inputs.shape).astype(inputs.dtype)
        return inputs - steps * np.sign(gradient).astype(inputs.dtype), logits

    def _run(self, inputs: NDArray, layers: Sequence[str]) -> tuple[dict[str, NDArray], NDArray]:
        """Values of the hidden layers, and of "output" if it is among the given ones.

        Also the output before its activation function.
        """
        mlp = self._mlp
        values: dict[str, NDArray] = {}
        *hidden, last = zip(mlp.coefs_, mlp.intercepts_, strict=True)
        for name, (weight, bias) in zip(self._hidden, hidden, strict=True):
            inputs = values[name] = _FUNCTIONS[mlp.activation](inputs @ weight + bias)
        output = inputs @ last[0] + last[1]
        if _OUTPUT in layers:
            values[_OUTPUT] = _FUNCTIONS[mlp.out_activation_](output)
        return values, output

    def _as_logits(self, output: NDArray) -> NDArray | None:
        if not self._has_logits:
            return None
        is_binary = output.shape[1] == 1
        return np.hstack([np.zeros_like(output), output]) if is_binary else output

    def _at_output(self, at_logits: NDArray) -> NDArray:
        """Gradient with respect to the outputs, of which two classes share one."""
        return at_logits[:, -self._mlp.n_outputs_ :]

    def _backpropagate(
        self, values: dict[str, NDArray], at_output: NDArray, at_layers: dict[str, NDArray]
    ) -> dict[str, NDArray]:
        """Gradient at the inputs and each hidden layer, from that at the output.

        Gradients in ``at_layers`` are added to those of the layers.
        """
        gradients = {}
        gradient = at_output
        names = [_INPUTS, *self._hidden]
        for name, weight in zip(reversed(names), reversed(self._mlp.coefs_), strict=True):
            gradient = gradient @ weight.T + at_layers.get(name, 0)
            gradients[name] = gradient
            if name != _INPUTS:
                gradient = _PULL_BACKS[self._mlp.activation](values[name], gradient)
        return gradients

    def head(self, trace: Trace) -> tuple[NDArray, NDArray | None] | None:
        if self._given is not None:
            bias = self._given.bias
            return np.array(self._given.weight), None if bias is None else np.array(bias)
        return self._own_head()

    def _own_head(self) -> tuple[NDArray, NDArray | None] | None:
        if not self._has_logits:
            return None
        weight, bias = self._mlp.coefs_[-1].T.copy(), self._mlp.intercepts_[-1].copy()
        return two_class_head(weight, bias) if len(weight) == 1 else (weight, bias)

    def _check_batch(self, batch: Batch) -> NDArray:
        values = to_array(batch)
        n_features = self._mlp.n_features_in_
        if values.ndim != 2 or values.shape[1] != n_features:
            raise ValueError(
                f"{type(self._mlp).__name__} expects inputs of shape (n_samples, {n_features}), "
                f"got {values.shape}."
            )
        return values
