"""Forms of the detectors that read the last linear layer and what goes into it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..detectors import FDBDDetector
from ._arrays import Form, is_of_array, row_lengths
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
