"""Fitted scikit-learn multilayer perceptrons as networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted

from ._adapter import Keep, NetworkAdapter, Trace, two_class_head
from ._fingerprint import hash_content

_FUNCTIONS: dict[str, Callable[[NDArray], NDArray]] = {
    "exp": np.exp,
    "identity": np.asarray,
    "logistic": expit,
    "relu": lambda values: np.maximum(values, 0),
    "softmax": lambda values: softmax(values, axis=1),
    "tanh": np.tanh,
}


class MLPAdapter(NetworkAdapter):
    """Runs a perceptron by its coefficients.

    Its layers are "hidden_0", "hidden_1", ... and "output", after their activation functions.
    """

    def __init__(self, mlp: MLPClassifier | MLPRegressor) -> None:
        check_is_fitted(mlp)
        self._mlp = mlp
        self._hidden = [f"hidden_{number}" for number in range(mlp.n_layers_ - 2)]
        # Where a sample may have several labels, the outputs are no logits of classes.
        several = mlp.out_activation_ == "logistic" and mlp.n_outputs_ > 1
        self._has_logits = isinstance(mlp, MLPClassifier) and not several
        self.classes = mlp.classes_ if self._has_logits else None

    def fingerprint(self) -> str:
        mlp = self._mlp
        arrays = [*mlp.coefs_, *mlp.intercepts_]
        return hash_content(
            [type(mlp).__name__, mlp.activation, mlp.out_activation_],
            ((str(number), array) for number, array in enumerate(arrays)),
        )

    def trace(self, batch: Any) -> tuple[Trace, dict[str, NDArray]]:
        trace = Trace(auto=self._hidden, features=self._hidden[-1:])
        values: dict[str, NDArray] = {}
        self.forward(batch, trace, [*self._hidden, "output"], values.__setitem__)
        return trace, values

    def forward(
        self, batch: Any, trace: Trace, layers: Sequence[str], keep: Keep
    ) -> NDArray | None:
        mlp = self._mlp
        values = self._check_batch(batch)
        *hidden, last = zip(mlp.coefs_, mlp.intercepts_, strict=True)
        for name, (weight, bias) in zip(self._hidden, hidden, strict=True):
            values = _FUNCTIONS[mlp.activation](values @ weight + bias)
            if name in layers:
                keep(name, values)
        values = values @ last[0] + last[1]
        if "output" in layers:
            keep("output", _FUNCTIONS[mlp.out_activation_](values))
        if not self._has_logits:
            return None
        is_binary = values.shape[1] == 1
        return np.hstack([np.zeros_like(values), values]) if is_binary else values

    def head(self, trace: Trace) -> tuple[NDArray, NDArray | None] | None:
        if not self._has_logits:
            return None
        weight, bias = self._mlp.coefs_[-1].T.copy(), self._mlp.intercepts_[-1].copy()
        return two_class_head(weight, bias) if len(weight) == 1 else (weight, bias)

    def to_numpy(self, value: Any) -> NDArray:
        return np.asarray(value)

    def _check_batch(self, batch: Any) -> NDArray:
        values = np.asarray(batch)
        n_features = self._mlp.n_features_in_
        if values.ndim != 2 or values.shape[1] != n_features:
            raise ValueError(
                f"{type(self._mlp).__name__} expects inputs of shape (n_samples, {n_features}), "
                f"got {values.shape}."
            )
        return values
