"""Forms of the detectors that compare a sample with what is usual for its predicted class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._values import ROUNDING
from ..detectors import ActivationIntervalDetector, GaussianActivationDetector, SHEDetector
from ._arrays import row_lengths
from ._lookup import KnownClassForm
from ._registry import form_of
from ._tensors import TensorActivations


@form_of(SHEDetector)
class SHEForm(KnownClassForm):
    """Similarity with the mean of the class."""

    means: Tensor

    def __init__(self, detector: SHEDetector) -> None:
        super().__init__(detector)
        self.metric = detector.metric
        self.keep("means", detector._means)

    def compare(self, A: TensorActivations, place: Tensor) -> Tensor:
        samples, means = A.matrix(), self.means[place]
        if self.metric == "euclidean":
            return -(samples - means).square().sum(dim=1).sqrt()
        products = (samples * means).sum(dim=1)
        if self.metric == "inner_product":
            return products
        lengths = row_lengths(samples) * row_lengths(means)
        return torch.where(lengths > 0, products / torch.where(lengths > 0, lengths, 1.0), 0.0)


@form_of(GaussianActivationDetector)
class GaussianActivationForm(KnownClassForm):
    """Density under the Gaussian of the class."""

    means: Tensor
    variances: Tensor
    log_volumes: Tensor

    def __init__(self, detector: GaussianActivationDetector) -> None:
        super().__init__(detector)
        self.keep("means", detector.means_)
        self.keep("variances", detector.variances_)
        self.keep("log_volumes", np.log(2 * np.pi * detector.variances_).sum(axis=1))

    def compare(self, A: TensorActivations, place: Tensor) -> Tensor:
        squares = (A.matrix() - self.means[place]).square() / self.variances[place]
        return -0.5 * (squares.sum(dim=1) + self.log_volumes[place])


class _IntervalForm(KnownClassForm):
    """Minus the share of units that are outside."""

    def compare(self, A: TensorActivations, place: Tensor) -> Tensor:
        values = A.matrix()
        return -(self.are_outside(values, place).sum(dim=1).to(values.dtype) / values.shape[1])

    def are_outside(self, values: Tensor, place: Tensor) -> Tensor:
        """Which values of shape (n_samples, n_units) are not usual for the class at a place."""
        raise NotImplementedError


class _EndsForm(_IntervalForm):
    """Units are outside that are beyond the ends of an interval."""

    lower: Tensor
    upper: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__(detector)
        lower, upper = detector.lower_, detector.upper_
        self.keep("lower", lower - ROUNDING * np.abs(lower))
        self.keep("upper", upper + ROUNDING * np.abs(upper))

    def are_outside(self, values: Tensor, place: Tensor) -> Tensor:
        return (values < self.lower[place]) | (values > self.upper[place])


class _LevelsForm(_IntervalForm):
    """Units are outside that are on a level where no training sample of the class was."""

    edges: Tensor
    is_missing: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__(detector)
        maxima = detector.unit_maxima_
        self.keep("edges", [np.zeros_like(maxima), maxima / 3, 2 * maxima / 3])
        self.keep("is_missing", detector.level_counts_ <= 0, torch.bool)

    def are_outside(self, values: Tensor, place: Tensor) -> Tensor:
        level = (values[:, None] > self.edges).sum(dim=1)
        return self.is_missing[place].gather(2, level[:, :, None])[:, :, 0]


@form_of(ActivationIntervalDetector)
def activation_interval_form(detector: ActivationIntervalDetector) -> _IntervalForm:
    """By what counts as an interval."""
    return (_LevelsForm if detector.intervals == "levels" else _EndsForm)(detector)
