"""The axes of inputs, and how they would have to be changed for a network that takes others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isqrt
from operator import methodcaller
from typing import Any, NamedTuple

SHAPE_OF_FIT = "_shape_of_fit"
"""Attribute of an estimator that holds the shape of a sample in ``fit``."""

Shape = tuple[int, ...]

_LONGEST_AXIS = 4096
"""Of the first axis of what may be one sample."""


class Change(NamedTuple):
    """A change of inputs that are not laid out as a network takes them."""

    code: str
    """As the user would write it."""
    what: str
    """What the inputs seem to be."""
    apply: Callable[[Any], Any]
    """Makes the changed inputs of an array or tensor."""
    of_one: bool = False
    """Whether all of the inputs are one sample."""

    def of(self, batch: Any, whole: Any) -> Any:
        """The changed inputs, of a few samples where they are some; None for too large ones."""
        if not self.of_one:
            return self.apply(batch[:2])
        return self.apply(whole) if len(whole) <= _LONGEST_AXIS else None


def changes_of(X: Any) -> Iterator[Change]:
    """Changes that inputs may need, the more likely ones first, as their library writes them."""
    one = "one sample, without the axis of the samples"
    grey = "grey images, without an axis of channels"
    if X.ndim == 4:
        yield _permuted(X, (0, 3, 1, 2), "images with the channels last (NHWC)")
        yield _permuted(X, (0, 2, 3, 1), "images with the channels first (NCHW)")
    if X.ndim == 3:
        changes = [
            Change("X[:, None]", grey, lambda X: X[:, None]),
            Change("X[None]", one, lambda X: X[None], of_one=True),
        ]
        # So few are rather channels than samples.
        yield from reversed(changes) if X.shape[0] in (1, 3) else changes
        yield _permuted(X, (0, 2, 1), "sequences with their two other axes exchanged")
        yield Change("X[..., None]", grey, lambda X: X[..., None])
    if X.ndim == 2:
        yield Change("X[None, None]", f"{grey}, and {one}", lambda X: X[None, None], of_one=True)
        yield from _images_of(X)
    if X.ndim > 2:
        yield Change(
            "X.reshape(len(X), -1)",
            "samples of several axes, where the network takes vectors",
            lambda X: X.reshape(len(X), -1),
        )
    if X.ndim < 3:
        yield Change("X[None]", one, lambda X: X[None], of_one=True)


def _permuted(X: Any, axes: Shape, what: str) -> Change:
    method = "permute" if hasattr(X, "permute") else "transpose"
    code = f"X.{method}({', '.join(map(str, axes))})"
    return Change(code, what, methodcaller(method, *axes))


def _images_of(X: Any) -> Iterator[Change]:
    """Square images that vectors may be."""
    for n_channels in (1, 3):
        side = isqrt(X.shape[1] // n_channels)
        shape = (-1, n_channels, side, side)
        if side > 1 and n_channels * side**2 == X.shape[1]:
            code, what = f"X.reshape{shape}", "images as vectors"
            yield Change(code, what, methodcaller("reshape", shape))


def check_like_fit(estimator: Any, X: Any, name: str, *, reset: bool, any_length: bool) -> None:
    """Check the axes of an array or tensor, or remember them.

    Raises
    ------
    ValueError
        If there are fewer than two; or others than in ``fit``; or, of more than two, the second
        has another size.
    """
    shape = tuple(X.shape)
    if len(shape) < 2:
        raise ValueError(
            f"Expected 2D array, got {len(shape)}D array: {name} has shape {shape}; inputs need "
            "at least two dimensions, (n_samples, n_features, ...). Reshape it, as X[None] does "
            "with one sample, or yield the inputs of the network first."
        )
    if reset:
        setattr(estimator, SHAPE_OF_FIT, shape[1:])
    else:
        _compare(estimator, X, name, any_length)


def _compare(estimator: Any, X: Any, name: str, any_length: bool) -> None:
    shape: Shape = tuple(X.shape)
    seen: Shape = getattr(estimator, SHAPE_OF_FIT, shape[1:])
    is_other_size = len(shape) > 2 and shape[1] != seen[0] and not any_length
    if len(shape) == len(seen) + 1 and not is_other_size:
        return
    other_size = ""
    if shape[1] != seen[0]:
        other_size = (
            f"X has {shape[1]} features, but {type(estimator).__name__} is expecting {seen[0]} "
            "features as input, in the second axis: "
        )
    raise ValueError(
        f"{other_size}{name} has shape {shape}, but in fit the inputs had shape "
        f"{samples_of(seen)}: {_advise(X, seen)}"
    )


def samples_of(seen: Shape) -> str:
    """The shape of an array of samples, in words."""
    return f"(n_samples, {', '.join(map(str, seen))})"


def _advise(X: Any, seen: Shape) -> str:
    changes = list(changes_of(X))
    if tuple(X.shape) == seen:
        changes.sort(key=lambda change: not change.of_one)
    for change in changes:
        changed = tuple(change.apply(X).shape)[1:]
        if changed == seen or (changed[0] == seen[0] and len(changed) == len(seen) == 3):
            return f"these seem to be {change.what}. Pass {change.code}."
    return "bring them to that shape."
