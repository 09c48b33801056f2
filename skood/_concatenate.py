"""Stacking the samples of several `Activations`: what has to be the same, and what becomes one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._labels import label_kind, unknown_labels
from ._linear_head import same_head
from ._patterns import PackedBits
from ._rows import LazyRows, Stacked, is_on_disk, take

# They are `Activations`, whose module imports this one.
Parts = Sequence[Any]


def check_parts(parts: Parts) -> None:
    """Check that several containers can become one.

    Raises
    ------
    ValueError
        If there is none, or they differ in what has to be the same.
    """
    if not parts:
        raise ValueError("Nothing to concatenate: got no parts.")
    for part in parts:
        if part.layer_shapes != parts[0].layer_shapes:
            raise ValueError(
                f"All parts need the same layers, got {parts[0].layer_shapes} "
                f"and {part.layer_shapes}."
            )
    said = [{c.name: c.metadata() for c in part.columns if c.role == "layer"} for part in parts]
    for name in said[0]:
        _check_same(f"column {name!r}", [found[name] for found in said], operator.eq)
    _check_same("classes", [p.classes for p in parts if p.classes is not None], _same_array)
    heads = [part.head for part in parts if part.head is not None]
    if not all(same_head(heads[0], head) for head in heads[1:]):
        raise ValueError(
            "All parts need the same head, but the weight, bias or input_layer differs: do they "
            "come from different networks?"
        )
    for name in ("predictions", "labels"):
        kinds = [kind for part in parts if (kind := _kind_of(name, part)) is not None]
        _check_same(f"kind of {name}", kinds, operator.eq)
    _check_predictions_are_known(parts)


def _check_predictions_are_known(parts: Parts) -> None:
    # Predictions that come without classes may be of classes that no other part has.
    known = next((part.classes for part in parts if part.classes is not None), None)
    for labels in (part.predictions for part in parts if part.classes is None):
        if labels is not None and known is not None and (new := unknown_labels(labels, known)):
            raise ValueError(
                f"Some parts are of a network with the classes {known.tolist()}, but others "
                f"carry the predictions {new}."
            )


def _kind_of(name: str, part: Any) -> str | None:
    """Whether labels or predictions are text; reads none."""
    found = [column for column in part.columns if column.name == name and column.role != "layer"]
    if not found and name == "predictions" and part.classes is not None:
        return label_kind(part.classes)
    return label_kind(found[0].array) if found else None


def _has(role: str, part: Any) -> bool:
    return any(column.role == role for column in part.columns)


def _follow_from_logits(parts: Parts) -> bool:
    """Whether predictions are those of logits that stay on disk, and need no column."""
    if any(_has("prediction", part) or not _has("logits", part) for part in parts):
        return False
    return any(is_on_disk(part._held_part("logits")) for part in parts)


def _check_same(what: str, values: list[Any], same: Callable[[Any, Any], bool]) -> None:
    for value in values[1:]:
        if not same(values[0], value):
            raise ValueError(f"All parts need the same {what}, got {values[0]} and {value}.")


def _same_array(a: NDArray, b: NDArray) -> bool:
    return label_kind(a) == label_kind(b) and np.array_equal(a, b)


def stack(arrays: Sequence[Any]) -> Any:
    """The rows of several arrays, or of packed bits, in order; not read where some are on disk."""
    packed = [array for array in arrays if array.dtype == bool and hasattr(_whole(array), "words")]
    if not packed:
        return _stack_arrays(arrays)
    if len(packed) < len(arrays):
        raise ValueError("A layer is packed bits in some of the parts only.")
    return PackedBits._of(_stack_arrays([_words(bits) for bits in packed]), packed[0].shape[1])


def _stack_arrays(arrays: Sequence[Any]) -> Any:
    if any(map(is_on_disk, arrays)):
        return Stacked(arrays)
    return np.concatenate([take(array, range(len(array))) for array in arrays])


def _whole(array: Any) -> Any:
    return array.array if isinstance(array, LazyRows) else array


def _words(bits: Any) -> Any:
    return LazyRows(bits.array.words, bits.rows) if isinstance(bits, LazyRows) else bits.words


def stack_part(name: str, parts: Parts) -> Any:
    """A part that is no layer, where every one of several containers has it."""
    # Features that no layer was changed for are those of the layer, and need no column.
    if name == "features" and not any(_has("features", part) for part in parts):
        return None
    if name == "predictions" and _follow_from_logits(parts):
        return None
    arrays = [array for part in parts if (array := part._held_part(name)) is not None]
    if len(arrays) == len(parts):
        is_short = name == "mask" and not any(map(is_on_disk, arrays))
        return stack(pad_masks(arrays) if is_short else arrays)
    if name in _NEVER_DROPPED and arrays:
        raise ValueError(f"Some parts carry {_NEVER_DROPPED[name]}, and others carry none.")
    return None


_NEVER_DROPPED = {
    "features": "the features that the head read before its layer was changed",
    "mask": "a mask of tokens",
}
"""Parts without which other values would be taken for theirs, and what they are."""


def pad_masks(masks: Sequence[NDArray]) -> list[NDArray]:
    """Masks of the length of the longest, whose additional tokens are padding."""
    length = max(mask.shape[1] for mask in masks)
    return [np.pad(mask, [(0, 0), (0, length - mask.shape[1])]) for mask in masks]
