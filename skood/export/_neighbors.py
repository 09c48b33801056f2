"""Forms of the detectors that look for the nearest of stored samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..detectors import ClusterDistanceDetector, KNNDetector, NNGuideDetector
from ._arrays import Form, class_codes, row_lengths
from ._head import HeadForm
from ._registry import form_of
from ._tensors import TensorActivations

_UNSURE = 8
"""So many places before and after the k-th are ranked by differences, and not by products."""
_MOST_ROWS = 2**17
"""A batch is compared with so many stored samples at a time, 256 rows in 256 MiB."""
_IN_DOUBLE = (torch.float64, torch.int64, torch.int32)
"""Types of layers that are stored in double precision."""


def _largest(compare: Callable[[slice], Tensor], n_rows: int, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of what compares a batch with stored samples, and the places of these.

    Parameters
    ----------
    compare : callable
        Maps a slice of stored samples to an array of shape (n_samples, n_stored).
    n_rows : int
        How many samples are stored.
    k : int
        How many to find, the largest first.
    """
    parts = []
    for start in range(0, n_rows, _MOST_ROWS):
        stop = min(start + _MOST_ROWS, n_rows)
        values, places = compare(slice(start, stop)).topk(min(k, stop - start), dim=1)
        parts.append((values, places + start))
    if len(parts) == 1:
        return parts[0]
    values, places = (torch.cat(each, dim=1) for each in zip(*parts, strict=True))
    found = values.topk(k, dim=1)
    return found.values, places.gather(1, found.indices)


@form_of(KNNDetector)
class KNNForm(Form):
    """Minus the distance to the k-th nearest stored sample."""

    centre: Tensor
    rows: Tensor
    squares: Tensor
    no_distance: Tensor
    length: Tensor

    def __init__(self, detector: KNNDetector) -> None:
        super().__init__()
        neighbors = detector._neighbors
        centered = neighbors.rows.astype(np.float64) - neighbors._center
        self.normalize = detector.normalize
        self.last = min(detector.n_neighbors_ + _UNSURE, len(centered))
        self.first = max(detector.n_neighbors_ - 1 - _UNSURE, 0)
        self.place = detector.n_neighbors_ - self.first
        self.keep("centre", neighbors._center)
        self.keep("rows", centered)
        self.keep("squares", np.square(centered).sum(axis=1))
        self.keep("no_distance", neighbors.equal_up_to())
        self.keep("length", 1 / np.sqrt(len(getattr(detector, "layer_shapes_", [0]))))

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        queries = self._side_by_side(A) - self.centre

        def closeness(some: slice) -> Tensor:
            # Squares by products are differences of larger numbers: good enough to rank most rows.
            return 2 * queries @ self.rows[some].T - self.squares[some]

        found = _largest(closeness, len(self.rows), self.last)[1][:, self.first :]
        apart = self.rows[found] - queries[:, None]
        distances = apart.square().sum(dim=2).sqrt()
        is_equal = apart.abs().amax(dim=2) <= self.no_distance[found]
        distances = torch.where(is_equal, 0.0, distances)
        return -distances.topk(self.place, dim=1, largest=False).values[:, -1]

    def _side_by_side(self, A: TensorActivations) -> Tensor:
        """All layers, each of the same norm where that is asked for, as precise as they came."""
        layers = [layer.to(torch.float64) for layer in A.layers.values()]
        if self.normalize:
            layers = [self._scaled(layer) for layer in layers]
        rows = layers[0] if len(layers) == 1 else torch.cat(layers, dim=1)
        if any(layer.dtype in _IN_DOUBLE for layer in A.layers.values()):
            return rows
        return rows.to(torch.float32).to(torch.float64)

    def _scaled(self, layer: Tensor) -> Tensor:
        lengths = row_lengths(layer)
        return layer / torch.where(lengths > 0, lengths / self.length, 1.0)[:, None]


@form_of(NNGuideDetector)
class NNGuideForm(HeadForm):
    """Energy, guided by the stored samples that guide most."""

    features: Tensor
    factors: Tensor

    def __init__(self, detector: NNGuideDetector) -> None:
        super().__init__(detector)
        self.k = detector.n_neighbors_
        self.keep("features", detector._features)
        self.keep("factors", detector._factors)

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        lengths = row_lengths(features)
        directions = features / torch.where(lengths > 0, lengths, 1.0)[:, None]

        def guidance(some: slice) -> Tensor:
            return (directions @ self.features[some].T) * self.factors[some]

        largest, _ = _largest(guidance, len(self.features), self.k)
        return largest.mean(dim=1) * torch.logsumexp(logits, dim=1)


@form_of(ClusterDistanceDetector)
class ClusterDistanceForm(Form):
    """Minus the distance to the nearest cluster, relative to the distances of its members."""

    origin: Tensor
    centres: Tensor
    squares: Tensor
    scales: Tensor
    penalty: Tensor
    codes: Tensor
    dominant: Tensor

    def __init__(self, detector: ClusterDistanceDetector) -> None:
        super().__init__()
        centres = detector.cluster_centers_
        origin = centres.mean(axis=0)
        self.keep("origin", origin)
        self.keep("centres", centres - origin)
        self.keep("squares", np.square(centres - origin).sum(axis=1))
        n_clusters = len(centres)
        ones, each = np.ones(n_clusters), np.arange(n_clusters)
        self.keep("scales", 1 / detector._coefficients(each, ones))
        self.n_candidates = min(n_clusters, _UNSURE)
        self.reject_mismatch = detector.reject_mismatch
        if self.reject_mismatch:
            known, dominant = np.unique(detector.dominant_classes_, return_inverse=True)
            self.keep("codes", class_codes(detector, known), torch.int64)
            self.keep("dominant", dominant, torch.int64)
            self.keep("penalty", 1 + detector._largest_matching)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        cluster, distances = self._nearest(A.matrix() - self.origin)
        scores = -(distances / self.scales[cluster])
        if not self.reject_mismatch:
            return scores
        matches = self.codes[A.predictions] == self.dominant[cluster]
        return torch.where(matches, scores, scores - self.penalty)

    def _nearest(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest cluster, of equal ones the first, and the distance to its centre."""
        squares = self.squares - 2 * samples @ self.centres.T
        found = squares.topk(self.n_candidates, dim=1, largest=False, sorted=False).indices
        distances = (samples[:, None] - self.centres[found]).square().sum(dim=2).sqrt()
        nearest = distances.amin(dim=1, keepdim=True)
        first = torch.where(distances == nearest, found, len(self.centres)).amin(dim=1)
        return first, nearest[:, 0]
