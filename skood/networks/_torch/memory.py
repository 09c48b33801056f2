"""Tensors as arrays that share their memory, and leave it to torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def as_array(tensor: Tensor) -> NDArray:
    """The values of a tensor, which can be read only; in its own memory where that is here.

    Torch refuses to resize the memory of a tensor that was given away by ``Tensor.numpy``.
    """
    values = tensor.detach().cpu().resolve_conj().resolve_neg()
    array: NDArray = np.from_dlpack(values)
    array.flags.writeable = False
    return array
