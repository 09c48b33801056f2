"""What every estimator asks of its input: the counterpart of scikit-learn's ``validate_data``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import column_or_1d, validate_data

from .activations import Activations, PackedBits

OOD_LABEL = -1
ARRAY_LAYER = "X"
"""Name of the one layer that an ordinary array becomes."""


def check_activations(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    allow_nd: bool = False,
    ensure_min_features: int = 1,
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

    Returns
    -------
    Activations
        The same samples.

    Raises
    ------
    ValueError
        If values are not finite, there are no samples or too few features, or the layers are
        not those of ``fit``.
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
    for name, layer in X.items():
        if isinstance(layer, PackedBits):
            continue
        if layer.ndim > 2 and not allow_nd:
            raise ValueError(
                f"{_name(estimator)} expects layers of shape (n_samples, n_units), but layer "
                f"{name!r} has shape {layer.shape}: pool it first, for example by PoolingReducer."
            )
        _check_values(estimator, name, layer)
    return X


def _check_values(estimator: Any, name: str, layer: NDArray) -> None:
    if layer.dtype.kind in "biu":
        return
    if layer.dtype.kind == "f":
        # Far faster for one sample than the check below, which is left to find what is wrong.
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(layer.sum()):
                return
    check_array(
        layer, allow_nd=True, dtype="numeric", input_name=f"layer {name!r}", estimator=estimator
    )


def _check_plain_array(
    estimator: Any, X: Any, *, reset: bool, allow_nd: bool, ensure_min_features: int
) -> Activations:
    if reset:
        vars(estimator).pop("layer_shapes_", None)
    elif hasattr(estimator, "layer_shapes_"):
        raise ValueError(
            f"{_name(estimator)} was fitted on Activations with the layers "
            f"{list(estimator.layer_shapes_)}, but got {type(X).__name__}."
        )
    X = validate_data(
        estimator, X, reset=reset, allow_nd=allow_nd, ensure_min_features=ensure_min_features
    )
    return Activations({ARRAY_LAYER: X})


def remember_layers(estimator: Any, X: Activations) -> None:
    """Set what an estimator that is fitted on ``Activations`` knows of them."""
    vars(estimator).pop("feature_names_in_", None)
    estimator.layer_shapes_ = X.layer_shapes
    estimator.n_features_in_ = X.shape[1]


def _check_same_layers(estimator: Any, X: Activations) -> None:
    if not hasattr(estimator, "layer_shapes_"):
        raise ValueError(
            f"{_name(estimator)} was fitted on an array of {estimator.n_features_in_} features, "
            f"but got Activations with the layers {list(X.layers)}."
        )
    fitted = estimator.layer_shapes_
    if X.layer_shapes != fitted or X.layers != tuple(fitted):
        raise ValueError(
            f"X has the layers {X.layer_shapes}, but {_name(estimator)} was fitted on {fitted}."
        )


def check_layers_exist(X: Activations, names: Sequence[str]) -> None:
    """Raise a ValueError that lists the known layers where one of ``names`` is not among them."""
    if missing := [name for name in names if name not in X]:
        raise ValueError(f"X has no layers {missing}; it has {list(X.layers)}.")


def layer_list(layers: Any) -> list[Any]:
    """Names, patterns, numbers and slices that select layers, as a list of plain Python objects.

    Raises
    ------
    ValueError, TypeError
        If one of them is of another kind; it is an error of both types.
    """
    several = isinstance(layers, Iterable) and not isinstance(layers, str)
    return [_as_plain(item) for item in (layers if several else [layers])]


def _as_plain(item: Any) -> Any:
    if isinstance(item, str):
        return str(item)
    if isinstance(item, slice):
        return item
    # A mask of layers would be read as the numbers 0 and 1.
    if not isinstance(item, Integral) or isinstance(item, bool):
        raise InvalidParameterError(
            "Layers are given by name, glob pattern, number or slice of numbers; "
            f"got {item!r} of type {type(item).__name__}."
        )
    return int(item)


def match_layers(layers: Any, known: Sequence[str]) -> list[str]:
    """Names among ``known`` that are selected, in the order of ``known``.

    Parameters
    ----------
    layers : str, int, slice or sequence of them
        Names or glob patterns; "all" by itself selects every name. A known name is taken literally,
        whatever special characters it holds. Numbers and slices are positions in ``known``, from
        the end where negative; a number that is text is a name.
    known : sequence of str
        Names of the layers.

    Returns
    -------
    list of str
        The names.

    Raises
    ------
    ValueError
        If one of ``layers`` selects nothing; the message lists the known names.
    """
    wanted = layer_list(layers)
    if isinstance(layers, str) and layers == "all" and layers not in known:
        wanted = ["*"]
    matches = [_matches(item, known) for item in wanted]
    if not matches or not all(matches):
        unmatched = [item for item, found in zip(wanted, matches, strict=True) if not found]
        raise ValueError(
            f"No layers match {unmatched}; known are {list(known)}, numbered from 0 to "
            f"{len(known) - 1}."
        )
    selected = set().union(*matches)
    return [name for name in known if name in selected]


def _matches(item: str | int | slice, known: Sequence[str]) -> list[str]:
    if isinstance(item, slice):
        return list(known[item])
    if isinstance(item, int) or item in known:
        found = find_layer(item, known)
        return [] if found is None else [found]
    return [name for name in known if fnmatchcase(name, item)]


def find_layer(layer: Any, known: Sequence[str]) -> str | None:
    """Name of the layer that is given by its name, or its number in ``known``; None for none."""
    (layer,) = layer_list([layer])
    if isinstance(layer, int):
        return known[layer] if -len(known) <= layer < len(known) else None
    return layer if layer in known else None


def in_distribution_mask(y: ArrayLike, n_samples: int) -> NDArray[np.bool_]:
    """Mask of shape (n_samples,) of the rows whose label is not -1.

    Raises
    ------
    ValueError
        If ``y`` has another length, or holds NaN.
    """
    labels: NDArray = column_or_1d(y)
    if len(labels) != n_samples:
        raise ValueError(f"X has {n_samples} samples, but y has {len(labels)}.")
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    if labels.dtype.kind in "US":
        return np.ones(n_samples, dtype=bool)
    return np.asarray(labels != OOD_LABEL, dtype=bool)


def in_distribution_rows(
    y: ArrayLike | None, n_samples: int, *, allow_none: bool = False
) -> NDArray[np.intp]:
    """Numbers of the rows that a detector may learn from: all but those marked -1.

    Raises
    ------
    ValueError
        If no row is left, unless that is allowed, as in a later one of several batches.
    """
    if y is None:
        return np.arange(n_samples)
    rows = np.flatnonzero(in_distribution_mask(y, n_samples))
    if len(rows) == 0 and not allow_none:
        raise ValueError(
            f"All {n_samples} samples are marked out-of-distribution (y == -1): none is left."
        )
    return rows


def take_rows(
    X: Activations, y: ArrayLike | None, rows: NDArray[np.intp]
) -> tuple[Activations, NDArray | None]:
    """The given rows of ``X`` and ``y``; a view of the whole where they are all."""
    y = None if y is None else column_or_1d(y)
    if len(rows) == len(X):
        return X, y
    return X[rows], None if y is None else y[rows]


def check_class_labels(X: Activations, y: NDArray | None, wanted_by: str) -> None:
    """Check that predictions and labels are there and speak of the same classes.

    Raises
    ------
    ValueError
        If ``X`` carries no predictions, ``y`` is None, or holds a label that is not among the
        classes of the network. The message begins with ``wanted_by``.
    """
    if X.predictions is None:
        raise ValueError(f"{wanted_by} needs predictions of the network, but X carries none.")
    if y is None:
        raise ValueError(f"{wanted_by} needs the class labels y, got None.")
    if X.classes is None:
        return
    if unknown := unknown_labels(y, X.classes):
        raise ValueError(
            f"{wanted_by} needs labels among the classes of the network, {X.classes.tolist()}, "
            f"or -1 for out-of-distribution; got {unknown}."
        )


def unknown_labels(labels: NDArray, classes: NDArray) -> list[Any]:
    """Labels that are not among the classes, ascending."""
    # Not `numpy.isin`, for which the label "1" is the class 1.
    return sorted(set(np.unique(labels).tolist()).difference(classes.tolist()))


def class_columns(y: Any, classes: Any) -> NDArray[np.intp]:
    """Column of each label, for labels that are all among the classes."""
    order = np.argsort(classes)
    return order[np.searchsorted(classes, y.astype(classes.dtype), sorter=order)]


def find_classes(asked: NDArray, labels: NDArray) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """A position among ascending labels for each class asked for, and whether it is that class's.

    Positions of classes that are not there are within bounds all the same.
    """
    # Without the last label, no position is beyond them.
    positions = np.searchsorted(labels[:-1], asked)
    return positions, labels[positions] == asked


def classes_asked(estimator: Any, X: Activations, *, by_class: bool) -> NDArray:
    """The class under which each sample is looked up: the predicted one, or 0 for all.

    Raises
    ------
    ValueError
        If the estimator tells classes apart and ``X`` carries no predictions.
    """
    if not by_class:
        return np.zeros(len(X), dtype=int)
    if (predictions := X.predictions) is None:
        raise ValueError(
            f"{_name(estimator)} was fitted on predicted classes, but X carries no predictions."
        )
    return predictions


def _name(estimator: Any) -> str:
    return type(estimator).__name__
