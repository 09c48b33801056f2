"""What is learnt, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .._classes import NetworkClasses
from .._export_error import ExportError
from ._tensors import TensorActivations


class Form(nn.Module):
    """Base class of forms: a module whose arrays are buffers.

    So are numbers that are learnt: ONNX rounds those that are written in code to 32 bits, and what
    is compared would no longer be equal.
    """

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

    blocks: Tensor
    first: Tensor

    def __init__(self, columns: Sequence[NDArray]) -> None:
        super().__init__()
        longest = max((len(column) for column in columns), default=0)
        # No number is at least NaN: what fills up, one place or more, is never counted.
        self.width = ceil(sqrt(longest + 1))
        table = np.full((len(columns), self.width**2), np.nan)
        for row, column in zip(table, columns, strict=True):
            row[: len(column)] = column
        self.keep("blocks", table.reshape(-1, self.width))
        self.keep("first", table[:, :: self.width])

    def count_not_above(self, values: Tensor, columns: Tensor) -> Tensor:
        """How many numbers of given columns are at most each of some values.

        First among the first numbers of blocks and then in one block, as graphs have no search of
        their own, and to compare with all numbers takes much memory.

        Parameters
        ----------
        values : Tensor of shape (n_values,)
            The values.
        columns : Tensor of shape (n_values,), dtype int64
            In which column to look each of them up.
        """
        own = values[:, None]
        n_begun = (self.first.index_select(0, columns) <= own).sum(dim=1)
        block = (n_begun - 1).clamp(min=0)
        inside = self.blocks.index_select(0, columns * self.width + block) <= own
        return block * self.width + inside.sum(dim=1)

    def at(self, columns: Tensor, positions: Tensor) -> Tensor:
        """Numbers at positions of given columns; NaN behind the last one."""
        return self.blocks.flatten().index_select(0, columns * self.width**2 + positions)


def unit_rows(rows: Tensor) -> Tensor:
    """Rows, along the last axis, divided by their Euclidean norm; rows of zeros stay so."""
    # First by the largest value, as squares of very large or small ones leave the range of floats.
    largest = rows.abs().amax(dim=-1, keepdim=True)
    is_zero = largest == 0
    relative = rows / largest.masked_fill(is_zero, 1)
    lengths = (relative * relative).sum(dim=-1, keepdim=True).sqrt()
    return relative / lengths.masked_fill(is_zero, 1)


def row_lengths(rows: Tensor) -> Tensor:
    """Euclidean norm of each row, which neither overflows nor vanishes."""
    largest = rows.abs().amax(dim=1)
    relative = rows / largest.masked_fill(largest == 0, 1)[:, None]
    return largest * (relative * relative).sum(dim=1).sqrt()
