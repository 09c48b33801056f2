"""Values of several layers that lie side by side in one array."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def split_layers(values: NDArray, sizes: Mapping[str, int | tuple[int, ...]]) -> dict[str, NDArray]:
    """Cut the last axis of an array into layers, of the given numbers of units or shapes."""
    ends = np.cumsum([np.prod(size, dtype=int) for size in sizes.values()])
    return dict(zip(sizes, np.split(values, ends[:-1], axis=-1), strict=True))
