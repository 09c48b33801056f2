"""Forms of what makes binary patterns, and of what compares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._export_error import ExportError
from .._patterns import BasePatternStore, IndexedPatternStore
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
        return bits_above(layer, self.percentile)

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


def bits_above(layer: Tensor, percentile: float) -> Tensor:
    """Which values of a sample are above its own percentile, and above 0."""
    last = layer.shape[1] - 1
    rank = int(percentile * last / 100)
    # The smallest of the largest ones, of which there are all from this rank on.
    lower = layer.topk(layer.shape[1] - rank, dim=1).values[:, -1:]
    return layer > lower.clamp(min=0)


class StoredBits(Form):
    """Patterns, held as one bit a neuron, to which distances are measured by one product.

    Products of bits are sums of so many ones, which 32-bit floats hold exactly.

    Parameters
    ----------
    bits : ndarray of shape (n_patterns, n_bits), dtype bool
        The patterns.
    wanted_by : str
        Name of the detector, for messages.
    """

    octets: Tensor
    powers: Tensor
    sizes: Tensor

    def __init__(self, bits: NDArray[np.bool_], wanted_by: str) -> None:
        super().__init__()
        self.n_bits = bits.shape[1]
        if self.n_bits >= _LARGEST_EXACT:
            raise ExportError(
                f"{wanted_by} cannot be exported for patterns of {self.n_bits} neurons: distances "
                f"are exact below {_LARGEST_EXACT}."
            )
        self.keep("octets", np.packbits(bits, axis=1), torch.uint8)
        self.keep("powers", 2 ** np.arange(8)[::-1], torch.uint8)
        self.keep("sizes", bits.sum(axis=1, dtype=np.int64), torch.float32)

    def forward(self, bits: Tensor) -> Tensor:
        """Numbers of bits that differ, float64, of shape (n_samples, n_patterns)."""
        asked = bits.to(torch.float32)
        stored = (self.octets[:, :, None] & self.powers).to(torch.bool).flatten(1)
        products = asked @ stored[:, : self.n_bits].to(torch.float32).T
        distances = asked.sum(dim=1, keepdim=True) + self.sizes - 2 * products
        return distances.to(torch.float64)


class StoresForm(Form):
    """Patterns of several classes, of which those of the predicted one count.

    Parameters
    ----------
    detector : estimator
        Knows whether classes are told apart, and those of the network.
    stores : dict of label to store
        The patterns that it stores for each class.
    """

    shares: Tensor
    numbers: Tensor
    codes: Tensor

    def __init__(self, detector: Any, stores: Mapping[Any, BasePatternStore]) -> None:
        super().__init__()
        bits = np.concatenate([store.patterns.unpack() for store in stores.values()])
        self.stored = StoredBits(bits, type(detector).__name__)
        shares = [store.counts / (store.n_rows + 1) for store in stores.values()]
        self.keep("shares", np.concatenate(shares))
        n_patterns = [store.n_patterns for store in stores.values()]
        self.keep("numbers", np.repeat(np.arange(len(stores)), n_patterns), torch.int64)
        self.by_class = detector._by_class
        codes = class_codes(detector, list(stores)) if self.by_class else np.zeros(1)
        self.keep("codes", codes, torch.int64)

    def forward(self, bits: Tensor, A: TensorActivations, *, break_ties: bool) -> Tensor:
        """Minus the distance to the nearest pattern, plus how common that is where ties break."""
        scores = -self.stored(bits)
        if break_ties:
            # A share is below 1: the most common of the nearest patterns has the highest score.
            scores = scores + self.shares
        if self.by_class:
            is_own = own_classes(A, self.codes)[:, None] == self.numbers
            scores = torch.where(is_own, scores, -float(self.stored.n_bits))
        return scores.amax(dim=1)


@form_of(HammingNAPDetector)
class HammingNAPForm(Form):
    """Minus the distance to the nearest pattern of the class."""

    def __init__(self, detector: HammingNAPDetector) -> None:
        super().__init__()
        detector._find_moved()
        _refuse_approximate(detector.stores_.values())
        self.break_ties = bool(detector.break_ties)
        self.stores = StoresForm(detector, detector.stores_)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        layers = [layer.flatten(1) > 0 for layer in A.layers.values()]
        bits = layers[0] if len(layers) == 1 else torch.cat(layers, dim=1)
        scores: Tensor = self.stores(bits, A, break_ties=self.break_ties)
        return scores


def _refuse_approximate(stores: Any) -> None:
    for store in stores:
        if isinstance(store, IndexedPatternStore):
            raise ExportError(
                "HammingNAPDetector cannot be exported with an approximate index, since a graph of "
                "tensors finds the nearest pattern itself: set index='flat', and fit or learn more."
            )
