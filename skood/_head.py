"""The last linear layer of a network and what it reads, for all that need both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._logits import MissingPartError
from ._validation import ARRAY_LAYER, check_activations
from ._values import LOGITS_ADVICE, all_finite, check_finite, check_real, refuse_not_finite
from .activations import Activations, LinearHead


def validate_head_input(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    ensure_min_classes: int = 1,
    in_blocks: bool = False,
) -> Activations:
    """Validate the layer that the head reads, and the logits; no other layer is read.

    An ordinary array is taken as logits: as features of a head that passes them on unchanged.

    Parameters
    ----------
    estimator : estimator
        Gets ``head_``, whose ``input_layer`` is the name of the layer, and what
        ``check_activations`` sets.
    X : Activations or array-like of shape (n_samples, n_features)
        The input.
    reset : bool
        True in ``fit``: the head is stored. False later: the layer of the stored one is checked.
    ensure_min_classes : int, default=1
        Smallest number of classes.
    in_blocks : bool, default=False
        Whether logits are checked alone and left as they are: :func:`head_blocks` reads them, of
        no more samples than memory should hold at a time.

    Returns
    -------
    Activations
        The same samples with that layer alone, float64 logits and the stored head.

    Raises
    ------
    ValueError
        If there is no head, it has too few classes, its layer is missing or of another shape,
        logits have another number of classes, or values are not finite.
    """
    if in_blocks and not reset and isinstance(X, Activations) and X._trust is not None:
        return X[[estimator.head_.input_layer]]._with_head(estimator.head_)
    if isinstance(X, Activations) and (reset or hasattr(estimator, "layer_shapes_")):
        X, head = _check_extracted(estimator, X, reset=reset, min_classes=ensure_min_classes)
        return _with_logits(estimator, X, head, in_blocks=in_blocks)
    X = check_activations(
        estimator, X, reset=reset, ensure_min_features=ensure_min_classes if reset else 1
    )
    if reset:
        estimator.head_ = LinearHead(np.eye(estimator.n_features_in_), input_layer=ARRAY_LAYER)
    return X.assign(logits=np.asarray(X[ARRAY_LAYER], dtype=np.float64), head=estimator.head_)


def _check_extracted(
    estimator: Any, X: Activations, *, reset: bool, min_classes: int
) -> tuple[Activations, LinearHead]:
    name = type(estimator).__name__
    head = _head_of(X, name) if reset else estimator.head_
    if len(head.weight) < min_classes:
        raise ValueError(
            f"{name} needs at least {min_classes} classes, but the head has {len(head.weight)}."
        )
    if (layer := head.input_layer) is None or layer not in X:
        raise ValueError(
            f"{name} needs the layer that the head reads, {head.input_layer!r}, but X has the "
            f"layers {list(X.layer_names)}."
        )
    if X.classes is not None:
        _check_n_classes(len(X.classes), head, name)
    X = check_activations(estimator, X[[layer]], reset=reset)
    estimator.head_ = head
    return X, head


def _with_logits(
    estimator: Any, X: Activations, head: LinearHead, *, in_blocks: bool
) -> Activations:
    if not in_blocks:
        return X.assign(logits=float64_logits(estimator, X, head), head=head)
    described = _described(estimator)
    for block in X.batches():
        logits = _logits(estimator, block, head)
        if not all_finite(logits):
            whole = (_logits(estimator, each, head) for each in X.batches())
            refuse_not_finite(whole, described, LOGITS_ADVICE)
    is_made = len(logits) == len(X) and all(column.role != "logits" for column in X.columns)
    return X.assign(logits=logits if is_made else None, head=head)


def head_blocks(
    X: Activations,
) -> Iterator[tuple[slice, NDArray[np.floating], NDArray[np.float64]]]:
    """What the head reads and its logits, of as many validated samples as memory should hold.

    Yields
    ------
    rows, features, logits : tuple of slice and two ndarrays of shape (n_rows, ...)
        Consecutive rows, :func:`head_features` of these, and the logits of these as float64.
    """
    start = 0
    for block in X.batches():
        features, rows = head_features(block), slice(start, start + len(block))
        logits = block.logits
        if logits is None:
            assert X.head is not None  # of validated Activations
            logits = head_logits(X.head, np.asarray(block[block.layer_names[0]]))
        yield rows, features, np.asarray(logits, dtype=np.float64)
        start = rows.stop


def float64_logits(estimator: Any, X: Activations, head: LinearHead) -> NDArray[np.float64]:
    """Logits that ``X`` carries, or else those that the head makes, as float64.

    Raises
    ------
    ValueError
        If they have another number of classes than the head, or are not finite.
    """
    logits = _logits(estimator, X, head)
    check_finite(logits, _described(estimator), LOGITS_ADVICE)
    return logits.astype(np.float64, copy=False)


def _logits(estimator: Any, X: Activations, head: LinearHead) -> NDArray[np.floating]:
    """Logits that ``X`` carries, or else those that the head makes, as numbers of any type."""
    logits = X.logits
    if logits is None:
        logits = head_logits(head, np.asarray(X[str(head.input_layer)]))
    _check_n_classes(logits.shape[1], head, type(estimator).__name__)
    check_real(logits, _described(estimator))
    return logits


def _described(estimator: Any) -> str:
    return f"{type(estimator).__name__}: layer 'logits'"


def _check_n_classes(n_classes: int, head: LinearHead, name: str) -> None:
    if n_classes != len(head.weight):
        raise ValueError(
            f"{name} expects logits of {len(head.weight)} classes, as the head has, "
            f"but got {n_classes}."
        )


def head_logits(head: LinearHead, features: NDArray) -> NDArray[np.floating]:
    """Logits of features, in double precision where they leave the range of their own."""
    with np.errstate(over="ignore", invalid="ignore"):
        logits = head.logits(features)
        return logits if all_finite(logits) else head.logits(features.astype(np.float64))


def _head_of(X: Activations, wanted_by: str) -> LinearHead:
    if X.head is None:
        why = f", since {X.why_missing['head']}" if "head" in X.why_missing else ""
        raise MissingPartError(
            f"{wanted_by} needs the head of the network, its last linear layer, but {X!r} "
            f"carries none{why}. What an extractor takes for the head is a linear map whose weight "
            "times input plus bias is the logits, up to a constant scale; where a network clips or "
            "averages what that yields, or normalises the weight, there is none. Give one by "
            "X.assign(head=LinearHead(...)), or to the extractor by head=, or use a method without "
            "a head."
        )
    head = X.head
    if head.input_layer is None and len(X.layer_names) == 1:
        head = LinearHead(head.weight, head.bias, X.layer_names[0])
        _check_makes_logits(head, X, wanted_by)
    if head.input_layer is None:
        raise ValueError(
            f"{wanted_by} needs to know which of the layers {list(X.layer_names)} the head reads: "
            "set input_layer of the LinearHead."
        )
    if head.input_layer in X and X.layer_shapes[head.input_layer] != head.shape[1:]:
        raise ValueError(
            f"{wanted_by} got a head that reads {head.shape[1]} units, but the layer "
            f"{head.input_layer!r} has shape {X.layer_shapes[head.input_layer]}."
        )
    return head


_N_COMPARED = 20
"""Samples whose logits show whether a head reads a layer."""


def _check_makes_logits(head: LinearHead, X: Activations, wanted_by: str) -> None:
    """Refuse the only layer in place of the one that the head reads, where their widths agree."""
    layer = str(head.input_layer)
    if X.logits is None or X.layer_shapes[layer] != head.shape[1:]:
        return
    few = X[:_N_COMPARED]
    features = np.asarray(few[layer], dtype=np.float64)
    known = np.asarray(few.logits, dtype=np.float64).ravel()
    made = head.logits(features).ravel()
    # Logits may be those of the head up to a scale.
    scale = known @ made / max(made @ made, np.finfo(np.float64).tiny)
    if known.shape == made.shape and np.linalg.norm(known - scale * made) > 0.1 * np.linalg.norm(
        known
    ):
        raise MissingPartError(
            f"{wanted_by} needs the layer that the head reads, and X has but the layer {layer!r}, "
            "of which the head does not make the logits: select the layer that it reads, too."
        )


def network_features(X: Activations) -> NDArray:
    """``X.features`` of checked Activations, whose head makes sure that there are some."""
    features = X.features
    assert features is not None
    return features


def head_features(X: Activations) -> NDArray[np.floating]:
    """What the head of checked Activations reads, ndarray of shape (n_samples, n_units)."""
    return as_head_features(X[X.layer_names[0]])


def as_head_features(layer: Any) -> NDArray[np.floating]:
    """A layer as numbers that the head can be applied to.

    Bits and integers are given as 64-bit floats, half precision, whose sums soon leave its range,
    as single precision.
    """
    features = np.asarray(layer)
    if features.dtype.kind != "f":
        return features.astype(np.float64)
    return features.astype(np.result_type(features, np.float32), copy=False)
