"""Forms of what makes binary patterns, and of what compares them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._export_error import ExportError
from .._patterns import IndexedPatternStore
from ..detectors import HammingNAPDetector
from ..preprocessing import PercentileBinarizer
from ._arrays import Form, class_codes, own_classes
from ._registry import form_of
from ._tensors import TensorActivations

_LARGEST_EXACT = 2**24
"""Products of this many bits and more are not exact in 32-bit floats."""


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


@form_of(HammingNAPDetector)
class HammingNAPForm(Form):
    """Distances to all stored patterns by one product, of which those of a class count.

    The patterns are held as one bit a neuron. Products of bits are sums of so many ones, which
    32-bit floats hold exactly.
    """

    octets: Tensor
    powers: Tensor
    sizes: Tensor
    shares: Tensor
    numbers: Tensor
    codes: Tensor

    def __init__(self, detector: HammingNAPDetector) -> None:
        super().__init__()
        detector._find_moved()
        stores = detector.stores_
        _refuse_approximate(stores.values())
        self.n_bits = int(detector.n_features_in_)
        if self.n_bits >= _LARGEST_EXACT:
            raise ExportError(
                f"HammingNAPDetector cannot be exported for patterns of {self.n_bits} neurons: "
                f"distances are exact below {_LARGEST_EXACT}."
            )
        self.by_class = detector._by_class
        bits = np.concatenate([store.patterns.unpack() for store in stores.values()])
        self.keep("octets", np.packbits(bits, axis=1), torch.uint8)
        self.keep("powers", 2 ** np.arange(8)[::-1], torch.uint8)
        self.keep("sizes", bits.sum(axis=1, dtype=np.int64), torch.float32)
        is_kept = float(detector.break_ties)
        shares = [is_kept * store.counts / (store.n_rows + 1) for store in stores.values()]
        self.keep("shares", np.concatenate(shares))
        n_patterns = [store.n_patterns for store in stores.values()]
        self.keep("numbers", np.repeat(np.arange(len(stores)), n_patterns), torch.int64)
        codes = class_codes(detector, list(stores)) if self.by_class else np.zeros(1)
        self.keep("codes", codes, torch.int64)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        layers = [layer.flatten(1) > 0 for layer in A.layers.values()]
        bits = (layers[0] if len(layers) == 1 else torch.cat(layers, dim=1)).to(torch.float32)
        distances = bits.sum(dim=1, keepdim=True) + self.sizes - 2 * (bits @ self.patterns().T)
        # A share is below 1: the most common of the nearest patterns has the highest score.
        scores = self.shares - distances.to(torch.float64)
        if self.by_class:
            is_own = own_classes(A, self.codes)[:, None] == self.numbers
            scores = torch.where(is_own, scores, -float(self.n_bits))
        return scores.amax(dim=1)

    def patterns(self) -> Tensor:
        """The stored patterns, of shape (n_patterns, n_bits)."""
        bits = (self.octets[:, :, None] & self.powers).to(torch.bool)
        return bits.flatten(1)[:, : self.n_bits].to(torch.float32)


def _refuse_approximate(stores: Any) -> None:
    for store in stores:
        if isinstance(store, IndexedPatternStore):
            raise ExportError(
                "HammingNAPDetector cannot be exported with an approximate index, since a graph of "
                "tensors finds the nearest pattern itself: set index='flat', and fit or learn more."
            )
