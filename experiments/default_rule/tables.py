"""Tables, what is held out of them, and perceptrons of scikit-learn to learn them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, make_classification, make_regression
from sklearn.neural_network import MLPClassifier, MLPRegressor

HELD_OUT, NOISE, SHUFFLED = "held out", "noise", "shuffled columns"
SCALED, MIXED = "times 3", "mixed"
FACTOR = 3

Learn = Callable[[NDArray, NDArray], Any]
"""From rows and labels, a trained network."""


class TableData(NamedTuple):
    """Rows of a table, and a network to train on them."""

    X: NDArray
    y: NDArray
    is_known: NDArray[np.bool_]
    """Rows to learn from or to test with; the others are held out."""
    learn: Learn


def digits(seed: int) -> TableData:
    """Without two of the classes."""
    X, y = load_digits(return_X_y=True)
    held_out = np.random.default_rng(seed).choice(10, 2, replace=False)
    return TableData(X / 16, y, ~np.isin(y, held_out), learn_perceptron(seed))


def synthetic(seed: int) -> TableData:
    """Eight classes, one of which is held out."""
    X, y = make_classification(
        4000, 20, n_informative=12, n_redundant=4, n_classes=8, n_clusters_per_class=1,
        random_state=seed,
    )  # fmt: skip
    return TableData(X, y, y != seed % 8, learn_perceptron(seed))


def regression(seed: int) -> TableData:
    """Correlated columns; the tenth with the largest targets is held out."""
    X, y = make_regression(
        2000, 20, n_informative=10, effective_rank=6, tail_strength=0.1, random_state=seed
    )
    y = np.tanh(y / y.std()) + 0.05 * np.random.default_rng(seed).normal(size=len(y))
    known = y < np.quantile(y, 0.9)
    learn = learn_perceptron(seed, MLPRegressor)
    return TableData(X / X[known].std(axis=0), y, known, learn)


TABLES = {"digits perceptron": digits, "synthetic perceptron": synthetic}


def learn_perceptron(
    seed: int, kind: Any = MLPClassifier, widths: tuple[int, ...] = (64, 32)
) -> Learn:
    return partial(_fit, kind(hidden_layer_sizes=widths, max_iter=300, random_state=seed))


def _fit(network: Any, X: NDArray, y: NDArray) -> Any:
    return network.fit(X, y)


def outside_of(
    data: TableData, X: NDArray, X_test: NDArray, y_test: NDArray, rng: np.random.Generator
) -> dict[str, NDArray]:
    """OOD sets: of the table, and made of training rows ``X`` and of rows to test with."""
    noise = X.mean(axis=0) + X.std(axis=0) * rng.normal(size=X_test.shape)
    found = {
        HELD_OUT: data.X[~data.is_known],
        NOISE: noise,
        SHUFFLED: rng.permuted(X_test, axis=0),
        SCALED: FACTOR * X_test,
    }
    if data.y.dtype.kind == "i":
        found[MIXED] = _between_classes(X_test, y_test, rng)
    return {name: rows.astype(X.dtype) for name, rows in found.items()}


def _between_classes(X: NDArray, y: NDArray, rng: np.random.Generator) -> NDArray:
    """Means of two rows of different classes."""
    other = rng.permutation(len(X))
    differ = y != y[other]
    return (X[differ] + X[other][differ]) / 2
