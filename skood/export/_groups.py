"""Forms of the detectors that follow patterns through layers, or look them up in some of them."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._patterns import PackedBits
from .._pooling import pool
from ..detectors import GroupProgressionDetector
from ..ensemble import AutoNAPDetector
from ..preprocessing import PercentileBinarizer
from ._arrays import Form
from ._calibrated import Judgement
from ._lookup import ClassLookup
from ._patterns import PercentileBinarizerForm, parts_of
from ._registry import form_of
from ._sklearn import rating_of
from ._tensors import TensorActivations


class StoredBits(Form):
    """Patterns, held as one bit a neuron, to which distances are measured by products.

    Parameters
    ----------
    bits : ndarray of shape (n_patterns, n_bits), dtype bool
        The patterns.
    """

    octets: Tensor
    powers: Tensor
    sizes: Tensor

    def __init__(self, bits: NDArray[np.bool_]) -> None:
        super().__init__()
        self.n_bits = bits.shape[1]
        self.keep("octets", np.packbits(bits, axis=1), torch.uint8)
        self.keep("powers", 2 ** np.arange(8)[::-1], torch.uint8)
        self.keep("sizes", bits.sum(axis=1, dtype=np.int64), torch.float32)

        self.parts = parts_of(len(bits), self.n_bits)

    def forward(self, bits: Tensor) -> Tensor:
        """Numbers of bits that differ, float64, of shape (n_samples, n_patterns)."""
        return torch.cat([self.distances(bits, some) for some in self.parts], dim=1)

    def distances(self, bits: Tensor, some: slice) -> Tensor:
        """Numbers of bits that differ from some of the patterns."""
        asked = bits.to(torch.float32)
        stored = (self.octets[some, :, None] & self.powers).to(torch.bool).flatten(1)
        # Products of bits are sums of so many ones, which 32-bit floats hold exactly.
        products = asked @ stored[:, : self.n_bits].to(torch.float32).T
        distances = asked.sum(dim=1, keepdim=True) + self.sizes[some] - 2 * products
        return distances.to(torch.float64)


@form_of(GroupProgressionDetector)
class GroupProgressionForm(Form):
    """How near the groups of a sample are and how many of them are of its class, rated."""

    codes: Tensor
    places: Tensor
    widths: Tensor
    unknown: Tensor

    def __init__(self, detector: GroupProgressionDetector) -> None:
        super().__init__()
        groups = detector._groups
        self.features, self.k = detector.features, groups._n_neighbors
        self.lookup = ClassLookup(detector, groups._known)
        words = zip(groups._words, groups.widths, strict=True)
        patterns = [PackedBits(*pair).unpack() for pair in words]
        self.stored = nn.ModuleList(StoredBits(bits) for bits in patterns)
        self.keep("codes", groups._codes, torch.int64)
        self.keep("places", np.arange(len(groups._codes)))
        self.keep("widths", groups.widths)
        self.keep("unknown", detector.unknown_class_score_)
        self.rate = rating_of(detector.estimator_)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        place = self.lookup(A)
        by_layer = [
            stored(layer > 0) for stored, layer in zip(self.stored, A.layers.values(), strict=True)
        ]
        groups = [self._group(distances) for distances in by_layer]
        members = [distances.gather(1, groups[-1]).mean(dim=1) for distances in by_layer]
        matching = [self._matching(group, place) for group in groups]
        scores = self.rate(self._features(torch.stack(members, 1), torch.stack(matching, 1)))
        return torch.where(place < 0, self.unknown, scores)

    def _group(self, distances: Tensor) -> Tensor:
        """Places of the nearest patterns; of equally near ones, the first."""
        unique = distances * len(self.places) + self.places
        return unique.topk(self.k, dim=1, largest=False, sorted=False).indices

    def _matching(self, group: Tensor, place: Tensor) -> Tensor:
        return (self.codes[group] == place[:, None]).to(torch.float64).mean(dim=1)

    def _features(self, distance: Tensor, matching: Tensor) -> Tensor:
        agreement = 1 - distance / self.widths
        if self.features == "distance":
            return agreement
        return matching if self.features == "matching" else torch.cat([agreement, matching], dim=1)


class NAPMember(Form):
    """Distances of one layer's patterns, pooled and cut at a percentile, to those of the class."""

    numbers: Tensor

    def __init__(self, detector: AutoNAPDetector, member: Any) -> None:
        super().__init__()
        self.source, stores = member.source, member.stores
        self.binarizer = PercentileBinarizerForm(PercentileBinarizer(percentile=member.percentile))
        bits = np.concatenate([store.patterns.unpack() for store in stores.values()])
        self.stored = StoredBits(bits)
        n_patterns = [store.n_patterns for store in stores.values()]
        self.keep("numbers", np.repeat(np.arange(len(stores)), n_patterns), torch.int64)
        self.lookup = ClassLookup(detector, list(stores))

    def forward(self, A: TensorActivations) -> Tensor:
        """Distances of samples, of shape (n_samples,)."""
        units = A.layers[self.source.name].movedim(self.source.unit_axis, 1)
        bits, own = self.binarizer.bits(pool(units, self.source.pooling)), self.lookup(A)[:, None]
        nearest = [self._nearest(bits, own, some) for some in self.stored.parts]
        return reduce(torch.minimum, nearest)

    def _nearest(self, bits: Tensor, own: Tensor, some: slice) -> Tensor:
        distances = self.stored.distances(bits, some)
        is_own = own == self.numbers[some]
        return torch.where(is_own, distances, float(self.stored.n_bits)).amin(dim=1)


@form_of(AutoNAPDetector)
class AutoNAPForm(Form):
    """Weighed distances below the thresholds of the layers."""

    taus: Tensor
    weights: Tensor
    precision: Tensor
    offset: Tensor

    def __init__(self, detector: AutoNAPDetector) -> None:
        super().__init__()
        self.is_vote = detector.combine == "vote"
        self.members = nn.ModuleList(NAPMember(detector, each) for each in detector._members)
        self.keep("taus", detector.taus_)
        self.keep("weights", detector.weights_)
        self.keep("precision", 1e9)
        self.keep("offset", detector.offset_)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        return self._score(self._distances(A))

    def judge(self, A: TensorActivations) -> Judgement:
        """Score, p-value and verdict."""
        distances = self._distances(A)
        score = self._score(distances)
        is_accepted = score >= self.offset
        if self.is_vote:
            is_accepted = (distances > self.taus).to(torch.float64).mean(dim=1) <= 0.5
        return Judgement(score, torch.full_like(score, torch.nan), is_accepted)

    def _distances(self, A: TensorActivations) -> Tensor:
        return torch.stack([member(A) for member in self.members], dim=1)

    def _score(self, distances: Tensor) -> Tensor:
        scores = ((self.taus - distances) * self.weights).sum(dim=1)
        return torch.round(scores * self.precision) / self.precision + 0.0
