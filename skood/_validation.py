"""What every estimator requires of its input, as scikit-learn's ``validate_data`` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.utils.validation import validate_data

from ._block_transform import is_larger_than_memory
from ._classes import NetworkClasses
from ._column import Column
from ._known_columns import KnownColumns
from ._layer_names import layer_columns
from ._values import ANY_SIZE, check_finite, check_real, check_size, without_mask
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
    if len(X) == 0:
        raise ValueError(f"Found 0 samples in {X!r} while {_name(estimator)} needs at least 1.")
    if X.shape[1] < ensure_min_features:
        raise ValueError(
            f"Found {X.shape[1]} feature(s) in {X!r} while {_name(estimator)} needs at least "
            f"{ensure_min_features}."
        )
    if reset:
        remember_layers(estimator, X)
    else:
        _check_same_layers(estimator, X)
    for column in layer_columns(X):
        _check_axes(estimator, column, allow_nd=allow_nd)
    for name, layer in _sizes_by_block(X) if is_larger_than_memory(X) else X.items():
        if not isinstance(layer, PackedBits):
            _check_values(estimator, name, layer, reset=reset, advice=advice)
    return X


def _check_axes(estimator: Any, column: Column, *, allow_nd: bool) -> None:
    if len(column.shape) > 2 and not allow_nd:
        raise ValueError(
            f"{_name(estimator)} expects layers of shape (n_samples, n_units), but layer "
            f"{column.name!r} has shape {column.shape}: pool it first, for example by "
            "PoolingReducer."
        )


def _sizes_by_block(X: Activations) -> Iterator[tuple[str, Any]]:
    """The largest size of the values of each sample, for each layer, instead of all values.

    It is NaN or infinite where a value is.
    """
    columns = {str(c.name): c for c in layer_columns(X) if not c.is_packed}
    is_checked = not get_config()["assume_finite"]
    sizes = {name: np.zeros((len(X), 1), column.dtype) for name, column in columns.items()}
    first = 0
    for batch in X[list(columns)].batches() if columns and is_checked else ():
        for name, values in batch.items():
            layer = np.asarray(values)
            axes = tuple(range(1, layer.ndim))
            if layer.dtype.kind == "f":
                with np.errstate(invalid="ignore"):
                    of_rows = np.maximum(layer.max(axis=axes), -layer.min(axis=axes))
                sizes[name][first : first + len(batch), 0] = of_rows
        first += len(batch)
    yield from sizes.items()


def _check_values(
    estimator: Any, name: str, layer: NDArray, *, reset: bool, advice: str = _ADVICE
) -> None:
    described = f"layer {name!r}"
    check_real(layer, f"{_name(estimator)}: {described}")
    if get_config()["assume_finite"]:
        return
    check_finite(layer, f"{_name(estimator)}: {described}", advice)
    sizes = getattr(estimator, "_sizes_of_values", ANY_SIZE)
    check_size(layer, f"{_name(estimator)}: {described}", sizes, reset=reset)


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
    X = validate_data(
        estimator,
        without_mask(X, "X"),
        reset=reset,
        allow_nd=allow_nd,
        ensure_min_features=ensure_min_features,
    )
    _check_values(estimator, ARRAY_LAYER, X, reset=reset)
    return Activations({ARRAY_LAYER: X})


def remember_layers(estimator: Any, X: Activations) -> None:
    """Set what an estimator that is fitted on ``Activations`` knows of them."""
    vars(estimator).pop("feature_names_in_", None)
    estimator.layer_shapes_ = X.layer_shapes
    estimator.n_features_in_ = X.shape[1]
    estimator._network_classes = NetworkClasses.of(X)
    estimator._known_columns = KnownColumns.of(X)


def _check_same_layers(estimator: Any, X: Activations) -> None:
    if not hasattr(estimator, "layer_shapes_"):
        raise ValueError(
            f"{_name(estimator)} was fitted on an array of {estimator.n_features_in_} features, "
            f"but got Activations with the layers {list(X.layer_names)}."
        )
    shapes, fitted = X.layer_shapes, estimator.layer_shapes_
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
