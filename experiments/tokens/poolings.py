"""What is kept of tokens, and how well a monitor works with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from skood import Activations, PoolingReducer, make_monitor
from skood.activations import Column
from skood.metrics import ood_roc_auc_score

View = Callable[[Activations], Activations]
DEFAULT = "default of make_monitor"
SECOND_AXIS = "second axis taken for the units"


def _named(A: Activations, view: str, found: Activations) -> dict[str, Column]:
    """The layers that were pooled, as columns of a view; what has no tokens is no part of it."""
    return {
        f"{column.name}:{view}": Column(found[str(column.name)], layer=column.layer, pooling=view)
        for column in found.columns
        if column.role == "layer" and len(A.layer_shapes[str(column.layer)]) > 1
    }


def _with_units_second(A: Activations) -> Activations:
    """As if nothing were known of tokens."""
    return A.assign(
        {name: Column(layer, layer=name) for name, layer in A.items() if layer.ndim > 2}, mask=None
    )


def _by_units(A: Activations, pooling: str) -> Activations:
    """One value of each token, of which padding has one too."""
    reducer = PoolingReducer(pooling="avg", token_pooling=[pooling])
    found = reducer.fit_transform(A.assign(mask=None))
    return found[[name for name in found.layer_names if name.endswith(f":token_{pooling}")]]


VIEWS: dict[str, View] = {
    "max": PoolingReducer(pooling="max").fit_transform,
    "avg": PoolingReducer(pooling="avg").fit_transform,
    "first": PoolingReducer(pooling="first").fit_transform,
    "all": PoolingReducer(pooling="flatten").fit_transform,
    "max of units": partial(_by_units, pooling="max"),
    "avg of units": partial(_by_units, pooling="avg"),
    "second max": lambda A: PoolingReducer(pooling="max").fit_transform(_with_units_second(A)),
    "second avg": lambda A: PoolingReducer(pooling="avg").fit_transform(_with_units_second(A)),
}

POOLINGS: dict[str, tuple[str, ...]] = {
    SECOND_AXIS: ("second max", "second avg"),
    "avg of tokens": ("avg",),
    "max and avg of tokens": ("max", "avg"),
    "first token": ("first",),
    "max and avg of units": ("max of units", "avg of units"),
    "avg of tokens, max and avg of units": ("avg", "max of units", "avg of units"),
    "max and avg of tokens, max of units": ("max", "avg", "max of units"),
    "max and avg of tokens, max and avg of units": ("max", "avg", "max of units", "avg of units"),
    "max and avg of tokens, first token": ("max", "avg", "first"),
    "all values": ("all",),
}
"""Views that a monitor has of each layer, by what the tables call them."""


def pool(A: Activations, views: tuple[str, ...]) -> Activations:
    """Several views of the tokens of each layer, and the layers without tokens as they are."""
    columns: dict[str, Column] = {}
    for view in views:
        columns |= _named(A, view, VIEWS[view](A))
    plain = {name: Column(layer) for name, layer in A.items() if layer.ndim == 2}
    return A.replace({**columns, **plain}).assign(mask=None)


def compare(
    train: Activations, test: Activations, outside: Mapping[str, Activations]
) -> dict[str, dict[str, float]]:
    """AUROC of the detector of ``make_monitor`` by pooling and OOD set."""
    found = {}
    for name, views in POOLINGS.items():
        if "first" in views and any(len(shape) > 2 for shape in train.layer_shapes.values()):
            continue  # there is no first token in a grid
        detector = make_monitor(None)[-1].fit(pool(train, views))
        inside = detector.score_samples(pool(test, views))
        found[name] = {
            key: auroc(inside, detector.score_samples(pool(A, views))) for key, A in outside.items()
        }
    return found


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Of scores of in-distribution and of OOD samples."""
    y = np.repeat([1, -1], [len(inside), len(outside)])
    return float(ood_roc_auc_score(y, np.concatenate([inside, outside])))
