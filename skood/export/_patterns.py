"""Forms of what makes binary patterns, and of what compares them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._export_error import ExportError
from .._patterns import IndexedPatternStore
from ..detectors import HammingNAPDetector
from ..preprocessing import PercentileBinarizer
from ._arrays import Form, class_codes
from ._registry import form_of
from ._tensors import TensorActivations

_LARGEST_EXACT = 2**24
"""Products of this many bits and more are not exact in 32-bit floats."""
_MOST_NUMBERS = 2**25
"""So many bits are unpacked at a time, 128 MiB of floats, and as many products of a batch made."""
_N_ROWS = 256
"""Rows of such a batch."""


@form_of(PercentileBinarizer)
class PercentileBinarizerForm(Form):
    """Layers as booleans, which are not packed."""

    def __init__(self, binarizer: PercentileBinarizer) -> None:
        super().__init__()
        self.rule, self.percentile = binarizer.rule, float(binarizer.percentile)

    def forward(self, A: TensorActivations) -> TensorActivations:
        """The same samples, with bits for values."""
        return A.with_layers({name: self.bits(layer) for name, layer in A.layers.items()})

    def bits(self, layer: Tensor) -> Tensor:
        """The bits of one layer."""
        if layer.dtype == torch.bool:
            return layer
        if self.rule == "zero":
            return layer > 0
        if self.rule == "rank":
            return self._top_share(layer)
        last = layer.shape[1] - 1
        rank = int(self.percentile * last / 100)
        # The smallest of the largest ones, of which there are all from this rank on.
        lower = layer.topk(layer.shape[1] - rank, dim=1).values[:, -1:]
        return layer > lower.clamp(min=0)

    def _top_share(self, layer: Tensor) -> Tensor:
        n_zeros = int(layer.shape[1] * self.percentile / 100)
        if n_zeros == 0:
            return torch.ones_like(layer, dtype=torch.bool)
        # Of equal values, those of earlier neurons are the smaller ones.
        threshold = layer.topk(layer.shape[1] - n_zeros + 1, dim=1).values[:, -1:]
        is_equal = layer == threshold
        n_below = (layer < threshold).sum(dim=1, keepdim=True)
        place = n_below + is_equal.to(torch.int64).cumsum(dim=1)
        return (layer > threshold) | (is_equal & (place > n_zeros))


class StoredPatterns(Form):
    """Distances to all patterns of several stores by products of bits; those of a class count.

    The patterns are held as one bit a neuron, and are unpacked some at a time. Products of bits are
    sums of so many ones, which 32-bit floats hold exactly.

    Parameters
    ----------
    detectors : sequence of HammingNAPDetector
        Of patterns of the same neurons.
    """

    octets: Tensor
    powers: Tensor
    sizes: Tensor
    shares: Tensor
    numbers: Tensor
    codes: Tensor
    farthest: Tensor

    def __init__(self, detectors: Sequence[HammingNAPDetector]) -> None:
        super().__init__()
        stores = [_stores_of(detector) for detector in detectors]
        self.n_bits = int(detectors[0].n_features_in_)
        self.by_class = bool(detectors[0]._by_class)
        bits = [np.concatenate([s.patterns.unpack() for s in each.values()]) for each in stores]
        self.keep("octets", _stack([np.packbits(each, axis=1) for each in bits]), torch.uint8)
        self.keep("powers", 2 ** np.arange(8)[::-1], torch.uint8)
        self.keep("sizes", _stack([each.sum(axis=1) for each in bits])[:, None], torch.float32)
        pairs = list(zip(detectors, stores, strict=True))
        self.keep("shares", _stack([_shares(*pair) for pair in pairs])[:, None])
        numbers = [np.repeat(np.arange(len(e)), [s.n_patterns for s in e.values()]) for e in stores]
        # What fills up is of no class.
        self.keep("numbers", _stack(numbers, -2)[:, None], torch.int64)
        codes = [class_codes(d, list(e)) if self.by_class else np.zeros(1) for d, e in pairs]
        self.keep("codes", np.stack(codes)[:, :, None], torch.int64)
        self.keep("farthest", [-self.n_bits])
        self.parts = parts_of(self.octets.shape[1], self.n_bits, len(bits))

    def forward(self, bits: Tensor, A: TensorActivations) -> Tensor:
        """Scores of bits of shape (n_stores, n_samples, n_bits), as (n_samples, n_stores)."""
        bits, codes = bits.to(torch.float32), self.codes
        if self.by_class:
            assert A.predictions is not None
            codes = codes.index_select(1, A.predictions)
        highest = [self._highest(bits, codes, some) for some in self.parts]
        return reduce(torch.maximum, highest).mT

    def _highest(self, bits: Tensor, codes: Tensor, some: slice) -> Tensor:
        """Highest score by some of the patterns, of shape (n_stores, n_samples)."""
        patterns = (self.octets[:, some, :, None] & self.powers).to(torch.bool).flatten(2)
        products = bits @ patterns[:, :, : self.n_bits].to(torch.float32).mT
        distances = bits.sum(dim=2, keepdim=True) + self.sizes[:, :, some] - 2 * products
        # A share is below 1: the most common of the nearest patterns has the highest score.
        scores = self.shares[:, :, some] - distances.to(torch.float64)
        return torch.where(codes == self.numbers[:, :, some], scores, self.farthest).amax(dim=2)


def parts_of(n_patterns: int, n_bits: int, n_stores: int = 1) -> list[slice]:
    """Parts of stored patterns, each of as many as are unpacked at a time."""
    n_at_once = max(_MOST_NUMBERS // (n_stores * max(n_bits, _N_ROWS)), 1)
    return [slice(start, start + n_at_once) for start in range(0, n_patterns, n_at_once)]


def _stack(arrays: Sequence[NDArray], filler: float = 0) -> NDArray:
    """Arrays of different lengths one above the other."""
    longest = max(map(len, arrays))
    widths = [[(0, longest - len(a)), *[(0, 0)] * (a.ndim - 1)] for a in arrays]
    pairs = zip(arrays, widths, strict=True)
    return np.stack([np.pad(array, width, constant_values=filler) for array, width in pairs])


def _shares(detector: HammingNAPDetector, stores: Any) -> NDArray:
    """How common each pattern is, where that breaks ties."""
    is_told = float(detector.break_ties)
    parts = [is_told * store.counts / (store.n_rows + 1) for store in stores.values()]
    return np.concatenate(parts)


def _stores_of(detector: HammingNAPDetector) -> Any:
    """The patterns of each class.

    Raises
    ------
    ExportError
        If an approximate index finds them, or there are too many neurons.
    """
    detector._find_moved()
    if any(isinstance(store, IndexedPatternStore) for store in detector.stores_.values()):
        raise ExportError(
            f"HammingNAPDetector cannot be exported with index={detector.index!r}, which is "
            "approximate: a graph of tensors compares with all patterns. Set index='flat' before "
            "fit."
        )
    if detector.n_features_in_ >= _LARGEST_EXACT:
        raise ExportError(
            f"HammingNAPDetector cannot be exported for patterns of {detector.n_features_in_} "
            f"neurons: distances are exact below {_LARGEST_EXACT}."
        )
    return detector.stores_


@form_of(HammingNAPDetector)
class HammingNAPForm(Form):
    """Distances to the patterns of all layers side by side."""

    def __init__(self, detector: HammingNAPDetector) -> None:
        super().__init__()
        self.stored = StoredPatterns([detector])

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        layers = [layer.flatten(1) > 0 for layer in A.layers.values()]
        bits = layers[0] if len(layers) == 1 else torch.cat(layers, dim=1)
        scores: Tensor = self.stored(bits[None], A)
        return scores[:, 0]


class LayerPatterns(Form):
    """Scores by the patterns of several layers of as many neurons, each at several percentiles.

    Parameters
    ----------
    layers : sequence of str
        The layers.
    percentiles : sequence of float
        Of ``rule="quantile"``.
    detectors : sequence of HammingNAPDetector
        Of the first layer at each percentile, then those of the next.
    """

    ranks: Tensor

    def __init__(
        self, layers: Sequence[str], percentiles: Sequence[float], detectors: Sequence[Any]
    ) -> None:
        super().__init__()
        self.layers, self.n_units = list(layers), int(detectors[0].n_features_in_)
        lower = np.array([int(percentile * (self.n_units - 1) / 100) for percentile in percentiles])
        self.n_largest = int(self.n_units - lower.min())
        # Counted from the largest value.
        self.keep("ranks", self.n_units - 1 - lower, torch.int64)
        self.stored = StoredPatterns(detectors)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of shape (n_samples, n_layers * n_percentiles)."""
        rows = torch.stack([A.layers[name] for name in self.layers])[:, None]
        scores: Tensor = self.stored(self._bits(rows).flatten(0, 1), A)
        return scores

    def _bits(self, rows: Tensor) -> Tensor:
        """Bits at each percentile of rows of shape (n_layers, 1, n_samples, n_units)."""
        if rows.dtype == torch.bool:
            return rows.expand(-1, len(self.ranks), -1, -1)
        largest = rows.topk(self.n_largest, dim=3).values.index_select(3, self.ranks)
        return rows > largest.clamp(min=0).transpose(1, 3)
