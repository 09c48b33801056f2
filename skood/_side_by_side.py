"""Values that lie side by side in one array, such as those of several layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray


def stretches(sizes: Iterable[int]) -> list[slice]:
    """Where parts of some sizes are that lie side by side."""
    stops = [0, *accumulate(sizes)]
    return [slice(*ends) for ends in pairwise(stops)]


def split_layers(values: NDArray, sizes: Mapping[str, int | tuple[int, ...]]) -> dict[str, NDArray]:
    """Cut the last axis of an array into layers, of the given numbers of units or shapes."""
    ends = np.cumsum([np.prod(size, dtype=int) for size in sizes.values()])
    return dict(zip(sizes, np.split(values, ends[:-1], axis=-1), strict=True))
