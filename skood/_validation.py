"""What every estimator requires of its input, as scikit-learn's ``validate_data`` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.utils.validation import validate_data

from ._classes import NetworkClasses
from ._known_columns import KnownColumns
from ._values import (
    ANY_SIZE,
    all_finite,
    check_real,
    check_size,
    largest_size,
    may_leave_range,
    refuse_not_finite,
    without_mask,
)
from .activations import Activations, PackedBits

ARRAY_LAYER = "X"
"""Name of the one layer that an ordinary array becomes."""

_ADVICE = "Leave these samples out, or look for the cause."


def check_activations(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    allow_nd: bool = False,
    ensure_min_features: int = 1,
    advice: str = _ADVICE,
) -> Activations:
    """Validate ``X`` as ``validate_data`` does and return it as ``Activations``.

    An ordinary array becomes the one layer "X", with no predictions.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_`` and, when fitted on ``Activations``, ``layer_shapes_``.
    X : Activations or array-like of shape (n_samples, n_features)
        The input.
    reset : bool
        True in ``fit``: the layers are stored. False later: they are compared.
    allow_nd : bool, default=False
        Whether layers may have more than two dimensions.
    ensure_min_features : int, default=1
        Smallest number of features, over all layers.
    advice : str, default="Leave these samples out, or look for the cause."
        What to do about values of layers that are not finite.

    Returns
    -------
    Activations
        The same samples.

    Raises
    ------
    ValueError
        If values are masked, not finite or no real numbers, or so large or small that squares
        overflow or vanish; if there are no samples or too few features; or if the layers, what
        their columns say of them, or the classes of the network are not those of ``fit``.
    """
    if not isinstance(X, Activations):
        return _check_plain_array(
            estimator, X, reset=reset, allow_nd=allow_nd, ensure_min_features=ensure_min_features
        )
    if X._trust is not None and not reset:
        return X
    if len(X) == 0:
        raise ValueError(f"Found 0 samples in {X!r} while {_name(estimator)} needs at least 1.")
    if ensure_min_features > 1 and X.shape[1] < ensure_min_features:
        raise ValueError(
            f"Found {X.shape[1]} feature(s) in {X!r} while {_name(estimator)} needs at least "
            f"{ensure_min_features}."
        )
    shapes = X.layer_shapes
    if reset:
        remember_layers(estimator, X)
    else:
        _check_same_layers(estimator, X, shapes)
    if not allow_nd:
        _refuse_maps(estimator, X, shapes)
    if not get_config()["assume_finite"]:
        _check_values(estimator, X, reset=reset, advice=advice)
    return X


def _refuse_maps(estimator: Any, X: Activations, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        if len(shape) > 1:
            raise ValueError(
                f"{_name(estimator)} expects layers of shape (n_samples, n_units), but layer "
                f"{name!r} has shape {(len(X), *shape)}: pool it first, for example by "
                "PoolingReducer."
            )


def _check_values(estimator: Any, X: Activations, *, reset: bool, advice: str = _ADVICE) -> None:
    """Refuse values that cannot be computed with; a block of rows is read at a time."""
    if all(column.is_packed for _, column in X._table.layers()):
        return
    sizes = _sizes(estimator)
    largest: dict[str, float] = {}
    for block in X.batches():
        for name, layer in block.items():
            if isinstance(layer, PackedBits):
                continue
            if not all_finite(layer):
                whole = (each[name] for each in X.batches())
                refuse_not_finite(whole, _described(estimator, name), advice)
            if may_leave_range(layer.dtype, sizes):
                largest[name] = max(largest.get(name, 0.0), largest_size(layer))
    for name, size in largest.items():
        check_size(size, _described(estimator, name), sizes, reset=reset)


def _sizes(estimator: Any) -> tuple[float, float]:
    sizes: tuple[float, float] = getattr(estimator, "_sizes_of_values", ANY_SIZE)
    return sizes


def _described(estimator: Any, name: str) -> str:
    return f"{_name(estimator)}: layer {name!r}"


def _check_plain_array(
    estimator: Any, X: Any, *, reset: bool, allow_nd: bool, ensure_min_features: int
) -> Activations:
    if reset:
        vars(estimator).pop("layer_shapes_", None)
        vars(estimator).pop("_network_classes", None)
        vars(estimator).pop("_known_columns", None)
    elif hasattr(estimator, "layer_shapes_"):
        raise ValueError(
            f"{_name(estimator)} was fitted on Activations with the layers "
            f"{list(estimator.layer_shapes_)}, but got {type(X).__name__}."
        )
    if not reset and _is_usual(estimator, X):
        return _as_layer(estimator, X, reset=reset)
    X = validate_data(
        estimator,
        without_mask(X, "X"),
        reset=reset,
        allow_nd=allow_nd,
        ensure_min_features=ensure_min_features,
    )
    check_real(X, _described(estimator, ARRAY_LAYER))
    return _as_layer(estimator, X, reset=reset)


def _is_usual(estimator: Any, X: Any) -> bool:
    """Whether ``validate_data`` would return an array of new samples as it is, and say nothing.

    That takes it longer than many detectors take to score a sample.
    """
    return (
        type(X) is np.ndarray
        and X.dtype.char in "fd"
        and X.ndim == 2
        and len(X) > 0
        and X.shape[1] == getattr(estimator, "n_features_in_", None)
        and not hasattr(estimator, "feature_names_in_")
        and (get_config()["assume_finite"] or all_finite(X))
    )


def _as_layer(estimator: Any, X: NDArray, *, reset: bool) -> Activations:
    """A validated array as the one layer, whose values are refused where they are too large."""
    as_layer = Activations({ARRAY_LAYER: X})
    if may_leave_range(X.dtype, _sizes(estimator)) and not get_config()["assume_finite"]:
        _check_values(estimator, as_layer, reset=reset)
    return as_layer


def remember_layers(estimator: Any, X: Activations) -> None:
    """Set what an estimator that is fitted on ``Activations`` knows of them."""
    vars(estimator).pop("feature_names_in_", None)
    estimator.layer_shapes_ = X.layer_shapes
    estimator.n_features_in_ = X.shape[1]
    estimator._network_classes = NetworkClasses.of(X)
    estimator._known_columns = KnownColumns.of(X)


def _check_same_layers(
    estimator: Any, X: Activations, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    if not hasattr(estimator, "layer_shapes_"):
        raise ValueError(
            f"{_name(estimator)} was fitted on an array of {estimator.n_features_in_} features, "
            f"but got Activations with the layers {list(X.layer_names)}."
        )
    fitted = estimator.layer_shapes_
    # In this order, too: dicts are equal in any.
    is_other = shapes != fitted or list(shapes) != list(fitted)
    if is_other and not getattr(estimator, "_takes_also", _takes_no_other)(X):
        raise ValueError(
            f"X has the layers {shapes}, but {_name(estimator)} was fitted on {fitted}."
        )
    estimator._known_columns.check(X, _name(estimator))
    estimator._network_classes.check(X, _name(estimator))


def _takes_no_other(X: Activations) -> bool:
    """Whether an estimator can be given other layers than those that it was fitted on."""
    return False


def _name(estimator: Any) -> str:
    return type(estimator).__name__
