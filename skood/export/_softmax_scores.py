"""Forms of the detectors that read more of the softmax than its largest probability."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .._validation import ARRAY_LAYER
from ..detectors import (
    TAIL_SHIFT,
    GENDetector,
    KLMatchingDetector,
    MCDropoutDetector,
    OpenMaxDetector,
)
from ._arrays import Form, row_lengths
from ._logit import LogitForm, below_largest
from ._registry import form_of
from ._tensors import TensorActivations

_LARGEST_EXPONENT = 700
"""From here on the probability of a tail is 1, and the exponential would overflow."""


@form_of(GENDetector)
class GENForm(LogitForm):
    """Generalised entropy of the largest probabilities."""

    gamma: Tensor

    def __init__(self, detector: GENDetector) -> None:
        super().__init__(detector)
        self.n_largest = int(detector.n_largest)
        self.keep("gamma", detector.gamma)

    def score(self, logits: Tensor) -> Tensor:
        below, is_largest = below_largest(logits)
        below = below.masked_fill(is_largest, -torch.inf)
        log_odds_against = torch.logsumexp(below, dim=1, keepdim=True)
        log_largest = -torch.nn.functional.softplus(log_odds_against, threshold=1e6)
        largest = torch.exp(self.gamma * (2 * log_largest + log_odds_against))
        log_others = self._largest_of(below) + log_largest
        others = torch.exp(self.gamma * (log_others + torch.log1p(-torch.exp(log_others))))
        return -(largest[:, 0] + others.sum(dim=1))

    def _largest_of(self, below: Tensor) -> Tensor:
        """Those that count beside the largest logit, which is minus infinity here."""
        n_others = min(self.n_largest, below.shape[1]) - 1
        return below.topk(n_others, dim=1, sorted=False).values


@form_of(KLMatchingDetector)
class KLMatchingForm(LogitForm):
    """Divergence from the nearest typical softmax."""

    log_distributions: Tensor

    def __init__(self, detector: KLMatchingDetector) -> None:
        super().__init__(detector)
        least = np.finfo(np.float64).min / 2
        self.keep("log_distributions", np.maximum(detector._log_distributions, least))

    def score(self, logits: Tensor) -> Tensor:
        below, is_largest = below_largest(logits)
        others = below.exp().masked_fill(is_largest, 0)
        log_p = below - torch.log1p(others.sum(dim=1, keepdim=True))
        nearest = (log_p.exp() @ self.log_distributions.T).argmax(dim=1)
        return -_divergences(log_p, self.log_distributions[nearest])


def _divergences(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback-Leibler divergences of rows from rows, as sums of terms that are not negative."""
    p, log_ratio = log_p.exp(), log_p - log_q
    near = p * (log_ratio + torch.expm1(-log_ratio.clamp(min=-1)))
    far = p * log_ratio - p + log_q.exp()
    return torch.where(log_ratio > -1, near, far).sum(dim=1)


@form_of(OpenMaxDetector)
class OpenMaxForm(LogitForm):
    """Energy of the revised logits, less the logit of the unknown class."""

    means: Tensor
    tails: Tensor
    has_tail: Tensor
    cosine_weight: Tensor
    unknown: Tensor
    shift: Tensor
    least: Tensor
    shares: Tensor

    def __init__(self, detector: OpenMaxDetector) -> None:
        super().__init__(detector)
        has_tail = ~np.isnan(detector.tails_[:, 0])
        self.has_cosine = detector.cosine_weight > 0
        self.keep("has_tail", has_tail, torch.bool)
        self.keep("means", np.where(has_tail[:, np.newaxis], detector._means, 0))
        self.keep("tails", np.where(has_tail[:, np.newaxis], detector.tails_, [0, 0, 1]))
        self.keep("cosine_weight", detector.cosine_weight)
        self.keep("unknown", detector.unknown_class_score_)
        self.keep("shift", TAIL_SHIFT)
        self.keep("least", np.nextafter(-1, 0))
        n_revised = min(detector.n_revised, len(has_tail))
        self.keep("shares", 1 - np.arange(n_revised) / n_revised)

    def score(self, logits: Tensor) -> Tensor:
        remaining, revised = logits, logits
        unknown = torch.zeros_like(logits[:, 0])
        for share in self.shares:
            column = remaining.argmax(dim=1, keepdim=True)
            remaining = remaining.scatter(1, column, -torch.inf)
            moved = share * self._beyond_tail(logits, column[:, 0]) * logits.gather(1, column)[:, 0]
            unknown = unknown + moved
            revised = revised.scatter_add(1, column, -moved[:, None])
        scores = torch.logsumexp(revised, dim=1) - unknown
        lowered = torch.minimum(scores, self.unknown)
        return torch.where(self.has_tail[logits.argmax(dim=1)], scores, lowered)

    def _beyond_tail(self, logits: Tensor, column: Tensor) -> Tensor:
        """Probability that the distance to the mean of a class is beyond its tail."""
        start, location, spread = self.tails[column].unbind(dim=1)
        beyond = (self._distances(logits, self.means[column]) - start) / self.shift
        shifted = self.shift * torch.log1p(torch.maximum(beyond, self.least))
        exponent = ((shifted - location) / spread).clamp(max=_LARGEST_EXPONENT)
        probability = -torch.expm1(-torch.exp(exponent))
        return torch.where(self.has_tail[column], probability, 1.0)

    def _distances(self, logits: Tensor, means: Tensor) -> Tensor:
        euclidean = row_lengths(logits - means)
        if not self.has_cosine:
            return euclidean
        lengths = row_lengths(logits) * row_lengths(means)
        cosines = (logits * means).sum(dim=1) / torch.where(lengths == 0, 1.0, lengths)
        return (1 - self.cosine_weight) * euclidean + self.cosine_weight * (1 - cosines)


@form_of(MCDropoutDetector)
class MCDropoutForm(Form):
    """Minus the uncertainty over passes, which a layer holds, or of the logits alone."""

    n_free: Tensor

    def __init__(self, detector: MCDropoutDetector) -> None:
        super().__init__()
        shapes = getattr(detector, "layer_shapes_", {ARRAY_LAYER: (detector.n_features_in_,)})
        ((self.layer, shape),) = shapes.items()
        self.statistic = _STATISTICS[detector.statistic]
        n_passes = 1 if len(shape) == 1 else shape[0]
        self.keep("n_free", max(n_passes - 1, 1) * shape[-1])

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        logits = A.layers.get(self.layer, A.logits)
        assert logits is not None
        logits = logits.to(torch.float64)
        passes = logits if logits.ndim == 3 else logits[:, None]
        return 0.0 - self.statistic(passes, self.n_free)


def _mean_and_deviations(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean softmax over passes, and the deviation of each pass from it."""
    probabilities = torch.softmax(logits, dim=2)
    deviations = probabilities - probabilities[:, :1]
    mean_deviation = deviations.mean(dim=1, keepdim=True)
    return probabilities[:, 0] + mean_deviation[:, 0], deviations - mean_deviation


def _entropy(logits: Tensor, n_free: Tensor) -> Tensor:
    mean, _ = _mean_and_deviations(logits)
    others = mean.scatter(1, mean.argmax(dim=1, keepdim=True), 0.0)
    complement = others.sum(dim=1)
    of_largest = _times_log1p(1 - complement, -complement)
    logs = torch.log(torch.where(others > 0, others, 1.0))
    return -(others * logs).sum(dim=1) - of_largest


def _mutual_information(logits: Tensor, n_free: Tensor) -> Tensor:
    mean, deviations = _mean_and_deviations(logits)
    mean = mean.clamp(min=float(np.finfo(np.float64).tiny))[:, None]
    relative = (deviations / mean).clamp(min=-1)
    terms = mean * (_times_log1p(1 + relative, relative) - relative).clamp(min=0)
    return terms.sum(dim=2).mean(dim=1)


def _variation_ratio(logits: Tensor, n_free: Tensor) -> Tensor:
    classes = torch.arange(logits.shape[2], device=logits.device)
    votes = (logits.argmax(dim=2, keepdim=True) == classes).to(torch.float64)
    return 1 - votes.mean(dim=1).amax(dim=1)


def _variance(logits: Tensor, n_free: Tensor) -> Tensor:
    _, deviations = _mean_and_deviations(logits)
    return deviations.square().sum(dim=(1, 2)) / n_free


_STATISTICS = {
    "entropy": _entropy,
    "mutual_information": _mutual_information,
    "variation_ratio": _variation_ratio,
    "variance": _variance,
}


def _times_log1p(factors: Tensor, values: Tensor) -> Tensor:
    """Factors times ``log(1 + values)``; 0 where a factor is 0."""
    logs = torch.log1p(torch.where(factors > 0, values, 0.0))
    return torch.where(factors > 0, factors * logs, 0.0)
