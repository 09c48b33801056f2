"""Forms of the detectors that read the last linear layer and what goes into it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..detectors import (
    RESIDUAL_ROUNDING,
    COREDetector,
    FDBDDetector,
    GradNormDetector,
    NCIDetector,
    ViMDetector,
)
from ._arrays import Form, is_of_array, row_lengths, unit_rows
from ._registry import form_of
from ._tensors import TensorActivations


class HeadForm(Form):
    """Base class of these: ``score`` takes features and logits, in float64."""

    weight: Tensor
    bias: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.is_of_array = is_of_array(detector)
        self.layer = detector.head_.input_layer
        self.has_logits = self.is_of_array or detector._network_classes.labels is not None
        if not self.has_logits:
            self.keep("weight", detector.head_.weight)
            bias = detector.head_.bias
            self.keep("bias", 0.0 if bias is None else bias)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        features = A.only_layer() if self.is_of_array else A.layers[self.layer]
        features = features.to(torch.float64)
        if self.is_of_array:
            return self.score(features, features)
        if A.logits is None:
            return self.score(features, features @ self.weight.T + self.bias)
        return self.score(features, A.logits.to(torch.float64))

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        """Scores of features (n_samples, n_units) and logits (n_samples, n_classes)."""
        raise NotImplementedError


@form_of(FDBDDetector)
class FDBDForm(HeadForm):
    center: Tensor
    per_logit: Tensor
    n_boundaries: Tensor

    def __init__(self, detector: FDBDDetector) -> None:
        super().__init__(detector)
        self.keep("center", detector.mean_ if detector.center == "mean" else 0.0)
        self.keep("per_logit", detector._per_logit)
        self.keep("n_boundaries", detector._n_boundaries)
        self.least_distance = float(detector._least_distance)

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        predicted = logits.argmax(dim=1)
        margins = logits.amax(dim=1, keepdim=True) - logits
        to_boundaries = (margins * self.per_logit.index_select(0, predicted)).sum(dim=1)
        to_boundaries = to_boundaries / self.n_boundaries.index_select(0, predicted)
        return to_boundaries / row_lengths(features - self.center).clamp(min=self.least_distance)


@form_of(ViMDetector)
class ViMForm(HeadForm):
    """Energy minus the weighed norm outside of the principal subspace."""

    origin: Tensor
    axes: Tensor
    alpha: Tensor

    def __init__(self, detector: ViMDetector) -> None:
        super().__init__(detector)
        self.keep("origin", detector.origin_)
        self.keep("axes", detector._residual_axes)
        self.keep("alpha", detector.alpha_)

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        residuals = (features - self.origin) @ self.axes
        norms = residuals.square().sum(dim=1).sqrt()
        return torch.logsumexp(logits, dim=1) - self.alpha * norms


@form_of(NCIDetector)
class NCIForm(HeadForm):
    """Proximity to the weights of the predicted class, and the size of the features."""

    weights: Tensor
    mean: Tensor
    least_distance: Tensor
    alpha: Tensor

    def __init__(self, detector: NCIDetector) -> None:
        super().__init__(detector)
        self.keep("weights", detector.head_.weight)
        self.keep("mean", detector.mean_)
        self.keep("least_distance", detector._least_distance)
        self.keep("alpha", detector.alpha)

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        from_mean = features - self.mean
        is_far = from_mean.abs().amax(dim=1, keepdim=True) > self.least_distance
        directions = unit_rows(torch.where(is_far, from_mean, 0.0))
        proximity = (self.weights[logits.argmax(dim=1)] * directions).sum(dim=1)
        return proximity + self.alpha * features.abs().sum(dim=1)


@form_of(GradNormDetector)
class GradNormForm(HeadForm):
    """Size of the gradient towards a uniform softmax."""

    temperature: Tensor
    uniform: Tensor

    def __init__(self, detector: GradNormDetector) -> None:
        super().__init__(detector)
        self.keep("temperature", detector.temperature)
        self.keep("uniform", 1 / len(detector.head_.weight))

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        gradients = torch.softmax(logits / self.temperature, dim=1) - self.uniform
        sizes = features.abs().sum(dim=1) * gradients.abs().sum(dim=1)
        return sizes / self.temperature


@form_of(COREDetector)
class COREForm(HeadForm):
    """Energy, and the direction of what the head does not read."""

    read_axes: Tensor
    directions: Tensor
    has_members: Tensor
    moments: Tensor
    unknown: Tensor
    rounding: Tensor

    def __init__(self, detector: COREDetector) -> None:
        super().__init__(detector)
        self.keep("read_axes", detector._read_axes)
        self.keep("directions", _unit_means(detector.residual_means_))
        self.keep("has_members", detector.class_counts_ > 0, torch.bool)
        self.keep("moments", detector._moments)
        self.keep("unknown", detector.unknown_class_score_)
        self.keep("rounding", RESIDUAL_ROUNDING)

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        predicted = logits.argmax(dim=1)
        cosines = (unit_rows(self._residuals(features)) * self.directions[predicted]).sum(dim=1)
        of_energy, of_cosine = self.moments
        scores = (torch.logsumexp(logits, dim=1) - of_energy[0]) * of_energy[1]
        scores = scores + (cosines.clamp(min=-1) - of_cosine[0]) * of_cosine[1]
        return torch.where(self.has_members[predicted], scores, self.unknown)

    def _residuals(self, features: Tensor) -> Tensor:
        residuals = features - features @ self.read_axes @ self.read_axes.T
        sizes, of_features = (
            rows.abs().amax(dim=1, keepdim=True) for rows in (residuals, features)
        )
        return torch.where(sizes > self.rounding * of_features, residuals, 0.0)


def _unit_means(means: Any) -> Any:
    """Means of norm 1, by the same steps as those of samples."""
    return unit_rows(torch.as_tensor(np.array(means, dtype=np.float64))).numpy()
