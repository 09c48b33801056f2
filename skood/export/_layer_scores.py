"""Forms of the detectors that compare values of layers with ranges or counts of training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .._values import ROUNDING
from ..detectors import (
    STATE_ROUNDING,
    GramDetector,
    NACDetector,
    NeuronCountDetector,
    end_sizes,
)
from ._arrays import Form
from ._lookup import KnownClassForm, unit_axis_of
from ._registry import form_of
from ._tensors import TensorActivations


class GramLayer(Form):
    """How far row sums of Gram matrices of one layer are outside of the ranges of a class."""

    lower: Tensor
    upper: Tensor
    lower_sizes: Tensor
    upper_sizes: Tensor
    rounding: Tensor
    roots: Tensor

    def __init__(self, detector: GramDetector, name: str) -> None:
        super().__init__()
        self.unit_axis = unit_axis_of(detector, name)
        self.powers: list[int] = detector._powers
        self.keep("lower", detector.lower_bounds_[name])
        self.keep("upper", detector.upper_bounds_[name])
        self.keep("lower_sizes", end_sizes(detector.lower_bounds_[name]))
        self.keep("upper_sizes", end_sizes(detector.upper_bounds_[name]))
        self.keep("rounding", ROUNDING)
        self.keep("roots", 1 / np.array(self.powers))

    def forward(self, layer: Tensor, place: Tensor) -> Tensor:
        """Deviations of samples from the class at a place, of shape (n_samples,)."""
        maps = layer.to(torch.float64).movedim(self.unit_axis, 1)
        sums = self._row_sums(maps.unsqueeze(-1).flatten(2))
        lower, upper = self.lower[place], self.upper[place]
        below = self._excess(lower - sums, lower, self.lower_sizes[place])
        above = self._excess(sums - upper, upper, self.upper_sizes[place])
        return (below + above).sum(dim=(1, 2))

    def _row_sums(self, maps: Tensor) -> Tensor:
        """Row sums of shape (n_samples, n_powers, n_channels)."""
        largest = maps.abs().amax(dim=(1, 2), keepdim=True)
        scaled = maps / torch.where(largest > 0, largest, 1.0)
        raised, order, sums = torch.ones_like(scaled), 0, []
        for power, root in zip(self.powers, self.roots, strict=True):
            for _ in range(power - order):
                raised = raised * scaled
            order = power
            products = (raised * raised.sum(dim=1, keepdim=True)).sum(dim=2)
            sums.append(products.sign() * products.abs() ** root)
        return torch.stack(sums, dim=1) * largest.square()

    def _excess(self, beyond: Tensor, end: Tensor, sizes: Tensor) -> Tensor:
        return torch.where(beyond > self.rounding * end.abs(), beyond, 0.0) / sizes


@form_of(GramDetector)
class GramForm(KnownClassForm):
    """Minus the deviations of all layers, each relative to its mean in training."""

    mean_deviations: Tensor

    def __init__(self, detector: GramDetector) -> None:
        super().__init__(detector)
        names = list(detector.lower_bounds_)
        self.by_layer = nn.ModuleList(GramLayer(detector, name) for name in names)
        self.keep("mean_deviations", detector.mean_deviations_)

    def compare(self, A: TensorActivations, place: Tensor) -> Tensor:
        pairs = zip(self.by_layer, A.layers.values(), strict=True)
        deviations = torch.stack([layer(values, place) for layer, values in pairs], dim=1)
        return 0.0 - (deviations / self.mean_deviations).sum(dim=1)


class NACLayer(Form):
    """How usual the states of one layer's units are: by gradients, or by distances to means."""

    mean: Tensor
    deviation: Tensor
    steepness: Tensor
    rounding: Tensor
    weight: Tensor
    bias: Tensor
    uniform: Tensor
    edges: Tensor
    coverage: Tensor
    starts: Tensor

    def __init__(self, detector: NACDetector, name: str) -> None:
        super().__init__()
        states, bins = detector._states, detector._bins[name]
        self.name, self.gradients = name, states.gradient_names.get(name)
        self.is_standard = name in states.standards
        if self.is_standard:
            self.keep("mean", states.standards[name][0])
            self.keep("deviation", states.standards[name][1])
            self.keep("rounding", STATE_ROUNDING)
        else:
            self.keep("steepness", states.steepness[name])
        if not self.is_standard and self.gradients is None:
            assert states.head is not None  # or it would be standardised
            self.keep("weight", states.head.weight)
            self.keep("bias", np.asarray(states.head.bias))
            self.keep("uniform", 1 / len(states.head.weight))
        self.keep("edges", bins.inner_edges)
        n_units, n_bins = bins.counts.shape
        self.keep("coverage", np.minimum(bins.counts / detector._enough[name], 1).ravel())
        self.keep("starts", n_bins * np.arange(n_units), torch.int64)

    def forward(self, A: TensorActivations) -> Tensor:
        """Mean coverage of samples, of shape (n_samples,)."""
        signals = self._signals(A.layers[self.name].to(torch.float64), A)
        places = torch.bucketize(signals, self.edges, right=True) + self.starts
        return self.coverage[places].mean(dim=1)

    def _signals(self, values: Tensor, A: TensorActivations) -> Tensor:
        """What the sigmoid would turn into states."""
        if self.is_standard:
            return (values - self.mean) / self.deviation + self.rounding
        return self.steepness * values * self._gradients(values, A)

    def _gradients(self, values: Tensor, A: TensorActivations) -> Tensor:
        if self.gradients is not None:
            return A.layers[self.gradients].to(torch.float64)
        if A.logits is None:
            logits = values @ self.weight.T + self.bias
        else:
            logits = A.logits.to(torch.float64)
        return (torch.softmax(logits, dim=1) - self.uniform) @ self.weight


@form_of(NACDetector)
class NACForm(nn.Module):
    """Mean coverage over the layers."""

    def __init__(self, detector: NACDetector) -> None:
        super().__init__()
        self.by_layer = nn.ModuleList(NACLayer(detector, name) for name in detector._bins)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        return torch.stack([layer(A) for layer in self.by_layer], dim=1).mean(dim=1)


@form_of(NeuronCountDetector)
class NeuronCountForm(Form):
    """Number of active neurons, plain or by how often they were active in training."""

    counts: Tensor
    median: Tensor

    def __init__(self, detector: NeuronCountDetector) -> None:
        super().__init__()
        counts = detector.activation_counts_
        counts = np.concatenate(list(counts.values()) if isinstance(counts, dict) else [counts])
        self.statistic, self.two_sided = detector.statistic, detector.two_sided
        is_rarity = detector.statistic == "coefficient"
        self.keep("counts", detector.largest_count_ - counts if is_rarity else counts)
        self.keep("median", detector.median_ if detector.two_sided else 0)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        statistic = self._statistic((A.matrix() > 0).to(torch.float64))
        if self.two_sided:
            return -(statistic - self.median).abs()
        return statistic if self.statistic == "mean_activation_count" else -statistic

    def _statistic(self, active: Tensor) -> Tensor:
        n_active = active.sum(dim=1)
        if self.statistic == "count":
            return n_active
        if self.statistic == "coefficient":
            return active @ self.counts
        return (active @ self.counts) / n_active.clamp(min=1)
