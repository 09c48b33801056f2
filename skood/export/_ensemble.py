"""Forms of ensembles, and of what makes one score of several."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..ensemble import (
    EDGE,
    ERROR_POWER,
    FAR,
    HIGHEST,
    HINGE,
    LOWEST,
    TAIL,
    AdaptiveEnsembleDetector,
    AnyAlarmDetector,
    Calibration,
    LayerEnsembleDetector,
)
from ._arrays import Form, SortedTable
from ._registry import form, form_of
from ._tensors import TensorActivations


class CalibrationForm(Form):
    """Compares scores of members, (n_samples, n_members), with those of training samples."""

    mean: Tensor
    rounding: Tensor
    is_constant: Tensor
    spread: Tensor
    edges: Tensor
    lowest_edges: Tensor
    excess: Tensor
    columns: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        for name in ("mean", "rounding", "spread", "edges", "lowest_edges", "excess"):
            self.keep(name, getattr(calibration, f"_{name}"))
        self.keep("is_constant", calibration._is_constant, torch.bool)
        self.n_calibration = len(calibration._ascending)
        self.table = SortedTable(calibration._lowest)
        self.keep("columns", np.arange(len(calibration._lowest)), torch.int64)

    def without_rounding(self, scores: Tensor) -> Tensor:
        """Scores, of which those of constant members are the mean where they are near to it."""
        near = self.is_constant & ((scores - self.mean).abs() <= self.rounding)
        return torch.where(near, self.mean, scores)

    def p_values(self, scores: Tensor) -> Tensor:
        """Conformal p-value of each score."""
        scores = self.without_rounding(scores)
        columns = self.columns.expand(scores.shape).flatten()
        n_not_above = self.table.count_not_above(scores.flatten(), columns).reshape(scores.shape)
        return (n_not_above + 1).to(torch.float64) / (self.n_calibration + 1)

    def log_p_values(self, scores: Tensor) -> Tensor:
        """Logarithm of the p-value of each score, of an exponential tail where it is below 0.1."""
        usual, scores = self.p_values(scores).clamp(min=TAIL).log(), self.without_rounding(scores)
        beyond = float(np.log(TAIL)) - (self.edges - scores) / self.excess
        log_p = torch.where(scores < self.lowest_edges, beyond, usual)
        return _softly_above(log_p)

    def standardize(self, scores: Tensor) -> Tensor:
        """Scores in standard deviations of those of training samples above their mean."""
        deviations = (self.without_rounding(scores) - self.mean) / self.spread
        return _softly_above(deviations).clamp(max=HIGHEST)


def _softly_above(values: Tensor) -> Tensor:
    """Values, of which only the logarithm counts of how far they are below the lowest."""
    excess = (LOWEST - values).clamp(min=0)
    return values.clamp(min=LOWEST) - torch.log1p(excess)


class Members(Form):
    """Base class of ensembles, whose members may have learnt nothing of a predicted class."""

    of_unknown: Tensor

    def reject_unknown(self, combined: Tensor, scores: Tensor, lowest: float) -> Tensor:
        """Combined scores; ``lowest`` where a member has learnt nothing of the class."""
        unknown = (scores == self.of_unknown).any(dim=1)
        return torch.where(unknown, lowest, combined)


@form_of(LayerEnsembleDetector)
class LayerEnsembleForm(Members):
    weights: Tensor
    knowledge: Tensor
    counting: Tensor

    def __init__(self, detector: LayerEnsembleDetector) -> None:
        super().__init__()
        self.combine_by = detector.combine
        self.inputs = [list(names) for names in detector._inputs]
        self.members = nn.ModuleList(form(member) for member in detector.estimators_)
        self.keep("of_unknown", detector._scores_of_unknown)
        self.keep("counting", np.flatnonzero(detector._counting), torch.int64)
        self.calibration = CalibrationForm(detector._calibration)
        self.lowest = float(detector.unknown_class_score_)
        counting: NDArray[np.bool_] = detector._counting
        if detector.combine == "informed":
            knowledge = detector.knowledge_[counting]
            self.keep("knowledge", knowledge if knowledge.any() else np.ones_like(knowledge))
        elif detector.combine == "vote":
            self.vote_level = float(detector._vote_level)
        elif detector.combine != "fisher":
            weights = np.ones(int(counting.sum()))
            if detector.combine == "weighted":
                weights = detector.weights_[counting]
            self.keep("weights", weights / weights.sum())

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        pairs = zip(self.members, self.inputs, strict=True)
        scores = torch.stack([member(A.select(names)) for member, names in pairs], dim=1)
        combined = self._combine(scores.index_select(1, self.counting))
        return self.reject_unknown(combined, scores, self.lowest)

    def _combine(self, scores: Tensor) -> Tensor:
        if self.combine_by == "informed":
            log_p, knowledge = self.calibration.log_p_values(scores), self.knowledge
            beyond = (log_p - float(np.log(EDGE))).clamp(max=0)
            return (log_p * knowledge + beyond * (1 - knowledge)).sum(dim=1) / knowledge.sum()
        if self.combine_by == "vote":
            p = self.calibration.p_values(scores)
            return (p >= self.vote_level).to(torch.float64).mean(dim=1)
        if self.combine_by == "fisher":
            return self.calibration.p_values(scores).log().sum(dim=1)
        return (self.calibration.standardize(scores) * self.weights).sum(dim=1)


@form_of(AdaptiveEnsembleDetector)
class AdaptiveEnsembleForm(Members):
    plain: Tensor
    alarm: Tensor
    far: Tensor

    def __init__(self, detector: AdaptiveEnsembleDetector) -> None:
        super().__init__()
        self.layers, self.looks_at_classes = list(detector.layers_), detector._looks_at_classes
        self.features_layer = detector._features_layer
        self.groups = list(detector._groups)
        self.members = nn.ModuleList(form(m) for m in detector.named_estimators_.values())
        self.keep("of_unknown", detector._scores_of_unknown)
        self.lowest = float(detector.unknown_class_score_)
        self.calibration = CalibrationForm(detector._calibration)
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
        log_p = self.calibration.log_p_values(scores)
        combined = self.plain * log_p + self.alarm * (log_p - float(HINGE)).clamp(max=0)
        combined = (combined + self.far * (log_p - float(FAR)).clamp(max=0)).sum(dim=1)
        return self.reject_unknown(combined, scores, self.lowest)

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

    def __init__(self, relative: Any) -> None:
        super().__init__()
        self.keep("scores", relative._scores)
        self.keep("log_p", relative._log_p)
        self.table = SortedTable([relative._scores])
        self.excess_below, self.excess_above = relative._excess_below, relative._excess_above
        self.threshold, self.at_threshold = (
            float(relative._threshold),
            float(relative._at_threshold),
        )
        self.last = len(relative._scores) - 1

    def forward(self, scores: Tensor) -> Tensor:
        """Negative where a score is below the threshold."""
        relative = self._log_p_values(scores) - self.at_threshold
        rejected = relative.clamp(max=-float(np.finfo(np.float64).tiny))
        return torch.where(scores >= self.threshold, relative.clamp(min=0), rejected)

    def _log_p_values(self, scores: Tensor) -> Tensor:
        n_not_above = self.table.count_not_above(
            scores, torch.zeros_like(scores, dtype=torch.int64)
        )
        below = (n_not_above - 1).clamp(0, max(self.last - 1, 0))
        above = (below + 1).clamp(max=self.last)
        low, high = self.scores[below], self.scores[above]
        width = torch.where(high > low, high - low, 1.0)
        share = ((scores - low) / width).clamp(0, 1)
        log_p = self.log_p[below] + share * (self.log_p[above] - self.log_p[below])
        too_low = (self.scores[0] - scores).clamp(min=0) / self.excess_below
        too_high = (scores - self.scores[-1]).clamp(min=0) / self.excess_above
        return log_p - too_low + too_high


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
