"""Rules that turn activations into bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._rows import partition_rows
from ._packed_bits import PackedBits


class Layers(Protocol):
    """What :class:`~skood.Activations` offer of their layers, in forward order."""

    def items(self) -> Iterable[tuple[str, Any]]: ...


def pack_layers(X: Layers) -> list[PackedBits]:
    """The patterns of each layer: "value above 0" where a layer is not packed yet."""
    return [
        layer if isinstance(layer, PackedBits) else PackedBits.pack(np.asarray(layer) > 0)
        for _, layer in X.items()
    ]


def quantile_bits(array: NDArray, percentiles: Sequence[float]) -> Iterator[NDArray[np.bool_]]:
    """Yield, for each percentile, the bits above the sample's own percentile and above 0.

    An interpolated quantile lies between two neighbouring values of the sample, so a value
    is above it exactly if it is above the lower one: no interpolation is needed.
    """
    lower = [rank_of_percentile(array.shape[1], percentile) for percentile in percentiles]
    ordered = partition_rows(array, sorted(set(lower)))
    for rank in lower:
        yield array > np.maximum(ordered[:, rank, np.newaxis], 0)


def rank_of_percentile(n_units: int, percentile: float) -> int:
    """The rank, from 0, of the value of a sample that its percentile is not below."""
    return int(percentile * (n_units - 1) / 100)


def top_share(array: NDArray, percentile: float) -> NDArray[np.bool_]:
    """Bits of the values that are not among the ``percentile`` percent smallest of a sample."""
    n_zeros = int(array.shape[1] * percentile / 100)
    bits = np.ones(array.shape, dtype=bool)
    smallest = np.argsort(array, axis=1, kind="stable")[:, :n_zeros]
    np.put_along_axis(bits, smallest, False, axis=1)
    return bits
