"""What is learnt, as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ._registry import ExportError


class Form(nn.Module):
    """Base class of forms: a module whose arrays are buffers."""

    def keep(self, name: str, values: ArrayLike, dtype: torch.dtype = torch.float64) -> None:
        """Hold a copy of an array as the buffer of a name."""
        array = np.array(values)  # of its own, in order
        self.register_buffer(name, torch.as_tensor(array).to(dtype))


def is_of_array(estimator: Any) -> bool:
    """Whether an estimator was fitted on an ordinary array, and not on Activations."""
    return not hasattr(estimator, "layer_shapes_")


def class_codes(estimator: Any, known: ArrayLike) -> NDArray[np.int64]:
    """Position among known classes of each class of the network; -1 for those that are not known.

    Raises
    ------
    ExportError
        If the estimator was fitted on predictions without logits, whose classes have no numbers.
    """
    labels = estimator._network_classes.labels if not is_of_array(estimator) else None
    if labels is None:
        raise ExportError(
            f"{type(estimator).__name__} looks up predicted classes, but was fitted on predictions "
            "without logits: a graph of tensors has no predictions but the largest logit."
        )
    position = {label: i for i, label in enumerate(np.asarray(known).tolist())}
    return np.array([position.get(label, -1) for label in labels.tolist()], dtype=np.int64)


def rows_by_class(table: Tensor, codes: Tensor) -> Tensor:
    """Rows of a table, by numbers of which negative ones stand for none: these get the first."""
    return table.index_select(0, codes.clamp(min=0))
