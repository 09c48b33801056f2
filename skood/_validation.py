"""What every estimator asks of its input: the counterpart of scikit-learn's ``validate_data``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import validate_data

from ._marks import (
    check_mark_is_no_class,
    in_distribution,
    plain_labels,
    read_labels,
    refuse_missing,
)
from ._values import (
    ANY_SIZE,
    LOGITS_ADVICE,
    check_finite,
    check_real,
    check_size,
    without_mask,
)
from ._warnings import warn_user
from .activations import Activations, PackedBits, unknown_labels

ARRAY_LAYER = "X"
"""Name of the one layer that an ordinary array becomes."""


ON_LOGITS = (
    "a single logit becomes the logits of two classes with ActivationExtractor(network, "
    "logits='binary'), and logits= also names the one of several outputs that holds them"
)
"""What to do where a network seems to have no logits."""


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
        If values are masked, not finite or no real numbers, or so large or small that squares
        overflow or vanish; if there are no samples or too few features; or if the layers, or the
        classes of the network, are not those of ``fit``.
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
        _check_layer(estimator, name, layer, reset=reset, allow_nd=allow_nd)
    return X


def _check_layer(estimator: Any, name: str, layer: Any, *, reset: bool, allow_nd: bool) -> None:
    if layer.ndim > 2 and not allow_nd:
        raise ValueError(
            f"{_name(estimator)} expects layers of shape (n_samples, n_units), but layer "
            f"{name!r} has shape {layer.shape}: pool it first, for example by PoolingReducer."
        )
    if not isinstance(layer, PackedBits):
        _check_values(estimator, name, layer, reset=reset)


def _check_values(estimator: Any, name: str, layer: NDArray, *, reset: bool) -> None:
    described = f"layer {name!r}"
    check_real(layer, f"{_name(estimator)}: {described}")
    if get_config()["assume_finite"]:
        return
    is_logits = name == "logits"
    advice = LOGITS_ADVICE if is_logits else "Leave these samples out, or look for the cause."
    check_finite(layer, f"{_name(estimator)}: {described}", advice)
    sizes = getattr(estimator, "_sizes_of_values", ANY_SIZE)
    check_size(layer, f"{_name(estimator)}: {described}", sizes, reset=reset)


def _check_plain_array(
    estimator: Any, X: Any, *, reset: bool, allow_nd: bool, ensure_min_features: int
) -> Activations:
    if reset:
        vars(estimator).pop("layer_shapes_", None)
        vars(estimator).pop("_network_classes", None)
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


def _check_same_layers(estimator: Any, X: Activations) -> None:
    if not hasattr(estimator, "layer_shapes_"):
        raise ValueError(
            f"{_name(estimator)} was fitted on an array of {estimator.n_features_in_} features, "
            f"but got Activations with the layers {list(X.layer_names)}."
        )
    fitted = estimator.layer_shapes_
    if X.layer_shapes != fitted or X.layer_names != tuple(fitted):
        raise ValueError(
            f"X has the layers {X.layer_shapes}, but {_name(estimator)} was fitted on {fitted}."
        )
    estimator._network_classes.check(X, _name(estimator))


@dataclass(frozen=True)
class NetworkClasses:
    """What the activations that an estimator is fitted on tell of the classes of the network.

    Attributes
    ----------
    labels : ndarray or None
        Label of each logit, where that is known.
    are_text : bool or None
        Whether classes are texts, where there are labels or predictions.
    """

    labels: NDArray | None
    are_text: bool | None

    @classmethod
    def of(cls, X: Activations) -> NetworkClasses:
        if X.classes is not None:
            return cls(X.classes, _is_text(X.classes))
        # Without classes there are no logits, so that nothing is computed here.
        return cls(None, None if X.predictions is None else _is_text(X.predictions))

    def check(self, X: Activations, fitted: str) -> None:
        """Raise a ValueError where ``X`` comes from a network with other classes.

        Predictions that come without logits may be of a class that was never seen: detectors that
        learn by class reject them.
        """
        new = NetworkClasses.of(X)
        known, told = self.labels, new.labels
        # Not by lists, which take long for one sample of a network of many classes.
        if known is not None and told is not None and not np.array_equal(known, told):
            raise ValueError(
                f"X comes from a network with the classes {_listed(told)}, but {fitted} was "
                f"fitted on one with the classes {_listed(known)}."
            )
        if self.are_text is not None and new.are_text not in (None, self.are_text):
            kinds = {True: "text", False: "numbers"}
            raise ValueError(
                f"Class labels must be of one kind: those of X are {kinds[bool(new.are_text)]}, "
                f"but those that {fitted} was fitted on are {kinds[self.are_text]}."
            )


def _is_text(labels: NDArray) -> bool:
    if labels.dtype.kind == "O":
        return any(isinstance(label, str) for label in labels.flat)
    return labels.dtype.kind in "US"


def _listed(labels: NDArray) -> str:
    """Labels for a message, which does not grow with their number."""
    first = str(labels[:10].tolist())
    return first if len(labels) <= 10 else f"{first[:-1]}, ...] ({len(labels)} in all)"


def check_layers_exist(X: Activations, names: Sequence[str]) -> None:
    """Raise a ValueError that lists the known layers where one of ``names`` is not among them."""
    if missing := [name for name in names if name not in X]:
        raise ValueError(f"X has no layers {missing}; it has {list(X.layer_names)}.")


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
        numbered = any(not isinstance(item, str) for item in unmatched)
        numbers = f", numbered from 0 to {len(known) - 1}" if numbered else ""
        raise ValueError(f"No layers match {unmatched}; known are {list(known)}{numbers}.")
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
    """Mask of shape (n_samples,) of the rows that are not marked -1, as :func:`read_labels` reads.

    Raises
    ------
    ValueError
        If ``y`` has another length, or lacks labels.
    """
    labels = read_labels(y)
    if len(labels) != n_samples:
        raise ValueError(f"X has {n_samples} samples, but y has {len(labels)}.")
    return in_distribution(labels)


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
    """The given in-distribution rows of ``X`` and ``y``; a view of the whole where they are all.

    Raises
    ------
    ValueError
        If labels are given and are of several kinds, or -1 is a class of the network.
    """
    labels = None
    if y is not None:
        check_mark_is_no_class(X)
        read = read_labels(y)
        _warn_if_marks_are_a_class(X, read)
        labels = plain_labels(read[rows])
    return X if len(rows) == len(X) else X[rows], labels


def _warn_if_marks_are_a_class(X: Activations, labels: NDArray) -> None:
    """Warn where -1 and one other label are what a network of two classes predicts.

    Whoever codes two classes as -1 and 1 and gives a network that counts them as 0 and 1 would
    have one of them left out.
    """
    if X.classes is None or len(X.classes) != 2 or len(set(labels.tolist())) != 2:
        return
    is_first, is_in = X.predictions == X.classes[0], in_distribution(labels)
    if is_in.all() or abs(is_first[is_in].mean() - is_first[~is_in].mean()) < 0.8:
        return
    warn_user(
        "The rows marked -1 are most of those that the network takes for one of its two classes: "
        "is -1 the label of that class? Here it marks out-of-distribution rows, which are left "
        "out. If they are in-distribution, code the classes as 0 and 1, or pass y=None; if the "
        "marks are meant, all is well."
    )


def check_class_labels(X: Activations, y: NDArray | None, wanted_by: str) -> None:
    """Check that predictions and labels are there and speak of the same classes.

    Raises
    ------
    ValueError
        If ``X`` carries no predictions, ``y`` is None, or holds a label that is not among the
        classes of the network, or -1 is one of these. The message begins with ``wanted_by``.
    """
    if X.predictions is None:
        raise ValueError(f"{wanted_by} needs predictions of the network, but X carries none.")
    if y is None:
        raise ValueError(f"{wanted_by} needs the class labels y, got None.")
    check_mark_is_no_class(X)
    if X.classes is None:
        return
    if unknown := unknown_labels(y, X.classes):
        raise ValueError(
            f"{wanted_by} needs labels among the classes of the network, {X.classes.tolist()}, "
            f"or -1 for out-of-distribution; got {unknown}."
        )


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
        If the estimator tells classes apart and ``X`` carries no predictions, or such as are
        missing or come from logits that are not finite.
    """
    if not by_class:
        return np.zeros(len(X), dtype=int)
    if (predictions := X.predictions) is None:
        raise ValueError(
            f"{_name(estimator)} was fitted on predicted classes, but X carries no predictions."
        )
    refuse_missing(predictions, "predictions")
    return predictions


def _name(estimator: Any) -> str:
    return type(estimator).__name__
