"""Forms of the detectors of distances to class means, and of the norms of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..detectors import SILENCE, ActivationNormDetector, MahalanobisDetector
from ._arrays import Form, row_lengths, unit_rows
from ._registry import form, form_of
from ._tensors import TensorActivations


class TiedGaussians(Form):
    """Squared Mahalanobis distances to the nearest of several means, in several layers at once.

    Parameters
    ----------
    gaussians : sequence of TiedGaussian
        One of each layer, of the same number of units and means. Axes that some lack are zeros.
    """

    center: Tensor
    factor: Tensor
    means: Tensor
    squares: Tensor
    per_unit: Tensor
    per_axis: Tensor

    def __init__(self, gaussians: Sequence[Any]) -> None:
        super().__init__()
        n_axes = max(gaussian._factor.shape[1] for gaussian in gaussians)

        def stack(arrays: list[NDArray]) -> NDArray:
            widths = [[(0, 0)] * (a.ndim - 1) + [(0, n_axes - a.shape[-1])] for a in arrays]
            return np.stack([np.pad(a, w) for a, w in zip(arrays, widths, strict=True)])

        means = stack([gaussian._projected_means for gaussian in gaussians])
        self.keep("center", np.stack([gaussian._center for gaussian in gaussians])[:, None])
        self.keep("factor", stack([gaussian._factor for gaussian in gaussians]))
        self.keep("means", means)
        self.keep("squares", np.square(means).sum(axis=2)[:, None])
        self.has_other = any(gaussian._other for gaussian in gaussians)
        if self.has_other:
            scales = [1 / g._other if g._other else 0.0 for g in gaussians]
            pairs = list(zip(gaussians, scales, strict=True))
            self.keep("per_unit", np.stack([g._counting * s for g, s in pairs])[:, :, None])
            self.keep("per_axis", stack([g._variances * s for g, s in pairs])[:, :, None])

    def forward(self, rows: Tensor) -> Tensor:
        """Distances of rows of shape (n_layers, n_samples, n_units), as (n_layers, n_samples)."""
        centered = rows - self.center
        projected = centered @ self.factor
        nearest = (self.squares - 2 * projected @ self.means.mT).argmin(dim=2, keepdim=True)
        # Not from the expanded square, whose rounding depends on the size of all.
        residuals = projected - self.means.gather(1, nearest.expand(projected.shape))
        distances = (residuals * residuals).sum(dim=2)
        if not self.has_other:
            return distances
        outside = (centered * centered) @ self.per_unit - (projected * projected) @ self.per_axis
        return distances + outside[:, :, 0].clamp(min=0)


class LayerDistances(Form):
    """Scores by distances in several layers of as many units, each by Gaussians of its own.

    Parameters
    ----------
    names : sequence of str
        The layers.
    gaussians : sequence of list of TiedGaussian
        Of each layer those of the classes and, for relative distances, that of all rows.
    normalize : bool
        Whether rows are divided by their norms.
    """

    def __init__(self, names: Sequence[str], gaussians: Sequence[Any], *, normalize: bool) -> None:
        super().__init__()
        self.names, self.normalize = list(names), normalize
        self.gaussians = nn.ModuleList(map(TiedGaussians, zip(*gaussians, strict=True)))

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of shape (n_samples, n_layers)."""
        rows = torch.stack([A.layers[name] for name in self.names]).to(torch.float64)
        rows = unit_rows(rows) if self.normalize else rows
        to_classes, *to_all = [gaussians(rows) for gaussians in self.gaussians]
        return -0.5 * (to_classes - to_all[0] if to_all else to_classes).mT


def likeness(detector: MahalanobisDetector, layer: str) -> tuple[Any, ...]:
    """Equal for layers of detectors whose distances can be computed together."""
    gaussians = detector._gaussians[layer]
    means = [gaussian.means.shape for gaussian in gaussians]
    return detector.normalize, means, [bool(gaussian._other) for gaussian in gaussians]


@form_of(MahalanobisDetector)
class MahalanobisForm(Form):
    weights: Tensor

    def __init__(self, detector: MahalanobisDetector) -> None:
        super().__init__()
        self.parts, names = nn.ModuleList(), list(detector._gaussians)
        order: list[int] = []
        for alike in alike_first([likeness(detector, name) for name in names]):
            order += alike
            some = [names[i] for i in alike]
            gaussians = [detector._gaussians[name] for name in some]
            self.parts.append(LayerDistances(some, gaussians, normalize=detector.normalize))
        self.keep("weights", detector.layer_weights_[order])

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        scores = torch.cat([part(A) for part in self.parts], dim=1)
        return (scores * self.weights).sum(dim=1)


def alike_first(keys: Sequence[Any]) -> list[list[int]]:
    """Positions of equal keys, together, in the order in which each key comes first."""
    groups: list[list[int]] = []
    for position, key in enumerate(keys):
        for group in groups:
            if keys[group[0]] == key:
                group.append(position)
                break
        else:
            groups.append([position])
    return groups


@form_of(ActivationNormDetector)
class ActivationNormForm(Form):
    means: Tensor
    silence: Tensor

    def __init__(self, detector: ActivationNormDetector) -> None:
        super().__init__()
        self.names = list(detector.mean_norms_)
        self.keep("means", np.array(list(detector.mean_norms_.values())))
        self.keep("silence", [SILENCE])
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
