"""What is learnt, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .._classes import NetworkClasses
from .._export_error import ExportError
from ._tensors import TensorActivations


class Form(nn.Module):
    """Base class of forms: a module whose arrays are buffers."""

    def keep(self, name: str, values: ArrayLike, dtype: torch.dtype = torch.float64) -> None:
        """Hold a copy of an array as the buffer of a name."""
        array = np.array(values)  # of its own, in order
        self.register_buffer(name, torch.as_tensor(array).to(dtype))


def is_of_array(estimator: Any) -> bool:
    """Whether an estimator was fitted on an ordinary array, and not on Activations."""
    return not hasattr(estimator, "layer_shapes_")


def class_codes(
    estimator: Any, known: ArrayLike, network: NetworkClasses | None = None
) -> NDArray[np.int64]:
    """Position among known classes of each class of the network; -1 for those that are not known.

    Parameters
    ----------
    estimator : estimator
        What looks them up.
    known : array-like of shape (n_known,)
        Labels.
    network : NetworkClasses, default=None
        Classes of the network, by default those that the estimator was fitted on.

    Raises
    ------
    ExportError
        If the estimator was fitted on predictions without logits, whose classes have no numbers.
    """
    if network is None and not is_of_array(estimator):
        network = estimator._network_classes
    labels = None if network is None else network.labels
    if labels is None:
        raise ExportError(
            f"{type(estimator).__name__} looks up predicted classes, but was fitted on predictions "
            "without logits: a graph of tensors has no predictions but the largest logit."
        )
    position = {label: i for i, label in enumerate(np.asarray(known).tolist())}
    return np.array([position.get(label, -1) for label in labels.tolist()], dtype=np.int64)


def own_classes(A: TensorActivations, codes: Tensor) -> Tensor:
    """What ``codes``, an entry for each class of the network, hold of each predicted class."""
    assert A.predictions is not None
    return codes.index_select(0, A.predictions)


class SortedTable(Form):
    """Columns of ascending numbers, in which others are looked up.

    Parameters
    ----------
    columns : sequence of ndarray
        Ascending, of any lengths.
    """

    def __init__(self, columns: Sequence[NDArray]) -> None:
        super().__init__()
        longest = max((len(column) for column in columns), default=0)
        self.n_steps = max(int(longest).bit_length(), 1)
        self.width = 2**self.n_steps - 1
        # No number is at least NaN: what fills up is never counted.
        table = np.full((len(columns), self.width), np.nan)
        for row, column in zip(table, columns, strict=True):
            row[: len(column)] = column
        self.keep("table", table.ravel())

    def count_not_above(self, values: Tensor, columns: Tensor) -> Tensor:
        """How many numbers of given columns are at most each of some values, of the same shape.

        By halving, for which graphs have all that it takes, and no search of their own.
        """
        start = columns * self.width
        found = torch.zeros_like(start.expand(values.shape))
        for step in reversed(range(self.n_steps)):
            further = found + 2**step
            is_above = self.table[start + further - 1] <= values
            found = torch.where(is_above, further, found)
        return found


def unit_rows(rows: Tensor) -> Tensor:
    """Rows divided by their Euclidean norm; rows of zeros stay so."""
    # First by the largest value, as squares of very large or small ones leave the range of floats.
    largest = rows.abs().amax(dim=1, keepdim=True)
    relative = rows / torch.where(largest > 0, largest, 1.0)
    lengths = (relative * relative).sum(dim=1, keepdim=True).sqrt()
    return relative / torch.where(largest > 0, lengths, 1.0)


def row_lengths(rows: Tensor) -> Tensor:
    """Euclidean norm of each row, which neither overflows nor vanishes."""
    largest = rows.abs().amax(dim=1)
    scale = torch.where(largest > 0, largest, 1.0)
    relative = rows / scale[:, None]
    return scale * (relative * relative).sum(dim=1).sqrt()
