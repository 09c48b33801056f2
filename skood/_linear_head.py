"""The last linear layer of a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._rows import contiguous
from ._values import check_finite, is_real, without_mask


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The last linear layer of a network: ``logits = features @ weight.T + bias``.

    Parameters
    ----------
    weight : array-like of shape (n_classes, n_units)
        Its weights.
    bias : array-like of shape (n_classes,), default=None
        Its biases; zeros where the layer has none.
    input_layer : str, default=None
        Name of the layer in :class:`Activations` whose values the head reads.

    Raises
    ------
    ValueError
        If weight and bias do not fit together, or a value is NaN, infinite or masked.
    TypeError
        If one of them does not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.activations import LinearHead
    >>> head = LinearHead(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.5, 0.0]))
    >>> head.logits(np.array([[3.0, 4.0]]))
    array([[3.5, 8. ]])
    """

    weight: NDArray[np.floating]
    bias: NDArray[np.floating] | None = None
    input_layer: str | None = None

    def __post_init__(self) -> None:
        weight = _read_part(self.weight, "weight")
        if weight.ndim != 2:
            raise ValueError(f"weight must be 2-D, got {weight.ndim} dimension(s).")
        if 0 in weight.shape:
            raise ValueError(f"weight has no classes or no units: its shape is {weight.shape}.")
        bias = np.zeros(len(weight), weight.dtype) if self.bias is None else self.bias
        bias = _read_part(bias, "bias")
        if bias.shape != (len(weight),):
            raise ValueError(f"weight has {len(weight)} classes, but bias has shape {bias.shape}.")
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)

    def __reduce__(self) -> tuple[type, tuple]:
        # Through __init__: weights that a worker gets memory-mapped keep the hash of plain ones.
        return type(self), (self.weight, self.bias, self.input_layer)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.weight.nbytes + np.asarray(self.bias).nbytes

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_classes, n_units)."""
        return self.weight.shape

    def logits(self, features: ArrayLike) -> NDArray[np.floating]:
        """Apply the layer.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_units)
            Values of the layer that the head reads.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logits, in single precision at least.
        """
        features = np.asarray(features)
        # Sums of half precision soon leave its range.
        dtype = np.result_type(features, self.weight, np.float32)
        weight = self.weight.astype(dtype, copy=False)
        logits: NDArray[np.floating] = features.astype(dtype, copy=False) @ weight.T
        logits += np.asarray(self.bias)
        return logits


def same_head(a: LinearHead, b: LinearHead) -> bool:
    """Whether two heads read the same layer and have equal weights and biases."""
    return a is b or (a.input_layer == b.input_layer and same_weights(a, b))


def same_weights(a: LinearHead, b: LinearHead) -> bool:
    """Whether two heads have equal weights and biases, whatever layer they read."""
    return np.array_equal(a.weight, b.weight) and np.array_equal(
        np.asarray(a.bias), np.asarray(b.bias)
    )


def _read_part(values: ArrayLike, name: str) -> NDArray:
    array = np.asarray(without_mask(values, name))
    if not is_real(array):
        raise TypeError(f"{name} must hold real numbers, but its dtype is {array.dtype}.")
    if array.ndim:
        check_finite(array, name, "Has the network been trained?")
    return contiguous(array)
