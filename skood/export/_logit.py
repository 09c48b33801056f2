"""Forms of the detectors that read the logits alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..detectors import EnergyDetector, EntropyDetector, MaxLogitDetector, MaxSoftmaxDetector
from ._arrays import Form, is_of_array
from ._registry import form_of
from ._tensors import TensorActivations


class LogitForm(Form):
    """Base class of these: ``score`` takes the logits, in float64."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.is_of_array = is_of_array(detector)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        logits = A.only_layer() if self.is_of_array else A.logits
        assert logits is not None
        return self.score(logits.to(torch.float64))

    def score(self, logits: Tensor) -> Tensor:
        """Scores of logits of shape (n_samples, n_classes)."""
        raise NotImplementedError


@form_of(MaxLogitDetector)
class MaxLogitForm(LogitForm):
    def score(self, logits: Tensor) -> Tensor:
        return logits.amax(dim=1)


@form_of(EnergyDetector)
class EnergyForm(LogitForm):
    temperature: Tensor

    def __init__(self, detector: EnergyDetector) -> None:
        super().__init__(detector)
        self.keep("temperature", [detector.temperature])

    def score(self, logits: Tensor) -> Tensor:
        return self.temperature * torch.logsumexp(logits / self.temperature, dim=1)


@form_of(MaxSoftmaxDetector)
class MaxSoftmaxForm(LogitForm):
    temperature: Tensor

    def __init__(self, detector: MaxSoftmaxDetector) -> None:
        super().__init__(detector)
        self.keep("temperature", [detector.temperature])

    def score(self, logits: Tensor) -> Tensor:
        return log_odds_of_largest(logits / self.temperature)


@form_of(EntropyDetector)
class EntropyForm(LogitForm):
    def score(self, logits: Tensor) -> Tensor:
        below, is_largest = below_largest(logits)
        others = below.exp().masked_fill(is_largest, 0)
        total = others.sum(dim=1)
        return (others * below).sum(dim=1) / (1 + total) - torch.log1p(total)


def below_largest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits minus the largest of each row, and where the first of these is."""
    largest = logits.argmax(dim=1, keepdim=True)
    columns = torch.arange(logits.shape[1], device=logits.device)
    return logits - logits.gather(1, largest), columns == largest


def log_odds_of_largest(logits: Tensor) -> Tensor:
    """Log-odds of the largest softmax probability of each row, which do not saturate."""
    below, is_largest = below_largest(logits)
    return 0.0 - torch.logsumexp(below.masked_fill(is_largest, -torch.inf), dim=1)
