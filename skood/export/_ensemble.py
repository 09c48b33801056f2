"""Forms of ensembles."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..ensemble import (
    EDGE,
    ERROR_POWER,
    FAR,
    HINGE,
    AdaptiveEnsembleDetector,
    AnyAlarmDetector,
    LayerEnsembleDetector,
)
from ._arrays import Form, SortedTable
from ._registry import form, form_of
from ._scores import LogPForm, RankForm, StandardizeForm
from ._stacks import Members, mean_weights
from ._tensors import TensorActivations


class EnsembleForm(Form):
    """Base class of ensembles, whose members may have learnt nothing of a predicted class."""

    of_unknown: Tensor
    lowest: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.keep("of_unknown", detector._scores_of_unknown)
        self.keep("lowest", [detector.unknown_class_score_])

    def reject_unknown(self, combined: Tensor, scores: Tensor) -> Tensor:
        """Combined scores; the lowest where a member has learnt nothing of the class."""
        return torch.where((scores == self.of_unknown).any(dim=1), self.lowest, combined)


@form_of(LayerEnsembleDetector)
class LayerEnsembleForm(EnsembleForm):
    weights: Tensor
    knowledge: Tensor
    counting: Tensor
    vote_level: Tensor
    log_edge: Tensor

    def __init__(self, detector: LayerEnsembleDetector) -> None:
        super().__init__(detector)
        self.combine_by, counting = detector.combine, detector._counting
        self.members = Members(detector.estimators_, [list(names) for names in detector._inputs])
        self.all_count = bool(counting.all())
        self.keep("counting", np.flatnonzero(counting), torch.int64)
        if detector.combine == "informed":
            self.log_p = LogPForm(detector._calibration)
        elif detector.combine in ("fisher", "vote"):
            self.p_values = RankForm(detector._calibration)
        else:
            self.standardize = StandardizeForm([detector._calibration], [counting])
            self.keep("weights", mean_weights(detector))
        if detector.combine == "informed":
            knowledge = detector.knowledge_[counting]
            self.keep("knowledge", knowledge if knowledge.any() else np.ones_like(knowledge))
            self.keep("log_edge", [np.log(EDGE)])
        elif detector.combine == "vote":
            self.keep("vote_level", [detector._vote_level])

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        scores = self.members(A)
        return self.reject_unknown(self._combine(scores), scores)

    def _combine(self, scores: Tensor) -> Tensor:
        if self.combine_by in ("mean", "weighted"):
            return (self.standardize(scores) * self.weights).sum(dim=1)
        scores = scores if self.all_count else scores.index_select(1, self.counting)
        if self.combine_by == "informed":
            log_p, knowledge = self.log_p(scores), self.knowledge
            beyond = (log_p - self.log_edge).clamp(max=0)
            return (log_p * knowledge + beyond * (1 - knowledge)).sum(dim=1) / knowledge.sum()
        p = self.p_values(scores)
        if self.combine_by == "vote":
            return (p >= self.vote_level).to(torch.float64).mean(dim=1)
        return p.log().sum(dim=1)


@form_of(AdaptiveEnsembleDetector)
class AdaptiveEnsembleForm(EnsembleForm):
    plain: Tensor
    alarm: Tensor
    far: Tensor
    levels: Tensor

    def __init__(self, detector: AdaptiveEnsembleDetector) -> None:
        super().__init__(detector)
        self.layers, self.looks_at_classes = list(detector.layers_), detector._looks_at_classes
        self.features_layer = detector._features_layer
        self.groups = list(detector._groups)
        self.members = nn.ModuleList(form(m) for m in detector.named_estimators_.values())
        self.log_p = LogPForm(detector._calibration)
        self.keep("levels", [HINGE, FAR])
        by_group = _weights_by_group(detector)
        for number, name in enumerate(("plain", "alarm", "far")):
            self.keep(name, [by_group[group][number] for group in self.groups])

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        layers = A.select(self.layers)
        if not self.looks_at_classes:
            layers = TensorActivations(layers.layers)
        read = {"layers": layers, "joint": layers, "head": A}
        if "features" in self.groups:
            read["features"] = self._features(A)
        pairs = zip(self.members, self.groups, strict=True)
        scores = torch.stack([member(read[group]) for member, group in pairs], dim=1)
        log_p = self.log_p(scores)
        alarm, far = ((log_p - self.levels[i : i + 1]).clamp(max=0) for i in (0, 1))
        combined = self.plain * log_p + self.alarm * alarm + self.far * far
        return self.reject_unknown(combined.sum(dim=1), scores)

    def _features(self, A: TensorActivations) -> TensorActivations:
        features = A.read_by_head()
        if features is None:
            features = A.layers[str(self.features_layer)]
        return TensorActivations({"features": features}, predictions=A.predictions)


def _weights_by_group(
    detector: AdaptiveEnsembleDetector,
) -> dict[str, tuple[float, float, float]]:
    """Of each group of members, the factors of log p-values, and of these below two levels."""
    share = detector.layer_share_
    if detector.target == "misclassified":
        layers = share**ERROR_POWER
        return {"layers": (layers, 0, 0), "features": (0, 0, 0), "joint": (0, 0, 0),
                "head": (1, 0, 0)}  # fmt: skip
    return {
        "layers": (share, 1 - share, 0),
        "features": (0, 1 - share, 0),
        "joint": (0, 0, 1),
        "head": (1 - share, 0, 0),
    }


class RelativeLogPForm(Form):
    """Log p-values of scores, less that of a threshold."""

    scores: Tensor
    log_p: Tensor
    excess: Tensor
    threshold: Tensor
    at_threshold: Tensor
    least: Tensor

    def __init__(self, relative: Any) -> None:
        super().__init__()
        self.keep("scores", relative._scores)
        self.keep("log_p", relative._log_p)
        self.table = SortedTable([relative._scores])
        self.keep("excess", [relative._excess_below, relative._excess_above])
        self.keep("threshold", [relative._threshold])
        self.keep("at_threshold", [relative._at_threshold])
        self.keep("least", [-np.finfo(np.float64).tiny])
        self.last = len(relative._scores) - 1

    def forward(self, scores: Tensor) -> Tensor:
        """Negative where a score is below the threshold."""
        relative = self._log_p_values(scores) - self.at_threshold
        rejected = torch.minimum(relative, self.least)
        return torch.where(scores >= self.threshold, relative.clamp(min=0), rejected)

    def _log_p_values(self, scores: Tensor) -> Tensor:
        n_not_above = self.table.count_not_above(scores, torch.zeros_like(scores).to(torch.int64))
        below = (n_not_above - 1).clamp(0, max(self.last - 1, 0))
        above = (below + 1).clamp(max=self.last)
        low, high = self.scores.index_select(0, below), self.scores.index_select(0, above)
        width = (high - low).masked_fill(high == low, 1)
        share = ((scores - low) / width).clamp(0, 1)
        start, stop = self.log_p.index_select(0, below), self.log_p.index_select(0, above)
        too_low = (self.scores[:1] - scores).clamp(min=0) / self.excess[:1]
        too_high = (scores - self.scores[-1:]).clamp(min=0) / self.excess[1:]
        return start + share * (stop - start) - too_low + too_high


@form_of(AnyAlarmDetector)
class AnyAlarmForm(Form):
    def __init__(self, detector: AnyAlarmDetector) -> None:
        super().__init__()
        self.names = list(detector.named_estimators_)
        self.members = nn.ModuleList(form(m) for m in detector.named_estimators_.values())
        self.relative = nn.ModuleList(RelativeLogPForm(detector._relative[n]) for n in self.names)

    def score_each(self, A: TensorActivations) -> dict[str, Tensor]:
        """Scores by each detector alone."""
        return {n: member(A) for n, member in zip(self.names, self.members, strict=True)}

    def smallest(self, scores: dict[str, Tensor]) -> Tensor:
        """One score of those by each detector."""
        pairs = zip(self.relative, scores.values(), strict=True)
        return torch.stack([relative(each) for relative, each in pairs], dim=1).amin(dim=1)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        return self.smallest(self.score_each(A))
