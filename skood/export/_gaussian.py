"""Forms of the detectors of distances to class means, and of the norms of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..detectors import SILENCE, ActivationNormDetector, MahalanobisDetector
from ._arrays import Form, row_lengths, unit_rows
from ._registry import form, form_of
from ._tensors import TensorActivations


class TiedGaussianForm(Form):
    """Squared Mahalanobis distance to the nearest of several means."""

    center: Tensor
    factor: Tensor
    means: Tensor
    per_unit: Tensor
    per_axis: Tensor

    def __init__(self, gaussian: Any) -> None:
        super().__init__()
        self.keep("center", gaussian._center)
        self.keep("factor", gaussian._factor)
        self.keep("means", gaussian._projected_means)
        self.has_other = bool(gaussian._other)
        if self.has_other:
            self.keep("per_unit", gaussian._counting / gaussian._other)
            self.keep("per_axis", gaussian._variances / gaussian._other)

    def forward(self, rows: Tensor) -> Tensor:
        """Squared distances of float64 rows, of shape (n_rows,)."""
        centered = rows - self.center
        projected = centered @ self.factor
        squares = (self.means * self.means).sum(dim=1) - 2 * projected @ self.means.T
        # Not from the expanded square, whose rounding depends on the size of all.
        residuals = projected - self.means.index_select(0, squares.argmin(dim=1))
        distances = (residuals * residuals).sum(dim=1)
        if not self.has_other:
            return distances
        outside = (centered * centered) @ self.per_unit - (projected * projected) @ self.per_axis
        return distances + outside.clamp(min=0)


@form_of(MahalanobisDetector)
class MahalanobisForm(Form):
    weights: Tensor

    def __init__(self, detector: MahalanobisDetector) -> None:
        super().__init__()
        self.names, self.normalize = list(detector._gaussians), detector.normalize
        self.gaussians = nn.ModuleList(
            nn.ModuleList(map(TiedGaussianForm, gaussians))
            for gaussians in detector._gaussians.values()
        )
        self.keep("weights", detector.layer_weights_)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        by_layer = [
            self._score(A.layers[name].to(torch.float64), gaussians)
            for name, gaussians in zip(self.names, self.gaussians, strict=True)
        ]
        return (torch.stack(by_layer, dim=1) * self.weights).sum(dim=1)

    def _score(self, rows: Tensor, gaussians: Any) -> Tensor:
        units = unit_rows(rows) if self.normalize else rows
        to_classes, *to_all = [gaussian(units) for gaussian in gaussians]
        return -0.5 * (to_classes - to_all[0] if to_all else to_classes)


@form_of(ActivationNormDetector)
class ActivationNormForm(Form):
    means: Tensor

    def __init__(self, detector: ActivationNormDetector) -> None:
        super().__init__()
        self.names = list(detector.mean_norms_)
        self.keep("means", np.array(list(detector.mean_norms_.values())))
        self.silence = SILENCE
        self.distances = None if detector.distances_ is None else form(detector.distances_)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        if self.distances is None:
            first = next(iter(A.layers.values()))
            return torch.zeros_like(first.flatten(1)[:, 0], dtype=torch.float64)
        norms = [row_lengths(A.layers[name].to(torch.float64)) for name in self.names]
        logs = torch.log(torch.stack(norms, dim=1) / self.means + self.silence)
        scores: Tensor = self.distances(A.with_layers({"log norms": logs}))
        return scores
