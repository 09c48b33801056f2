"""Forms of thresholds: verdicts and p-values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .._conformal import p_values_of_ranks
from ..calibration import ConformalDetector, RankedScores, RiskControlledDetector
from ._arrays import Form, SortedTable, class_codes, own_classes
from ._ensemble import AnyAlarmForm
from ._registry import form, form_of
from ._tensors import TensorActivations


class Judgement(NamedTuple):
    """What is said of samples: tensors of shape (n_samples,)."""

    score: Tensor
    p_value: Tensor
    """NaN where no rows that are held out tell it."""
    is_accepted: Tensor


class OwnThreshold(Form):
    """A detector with the threshold that ``fit`` has set."""

    lowest: Tensor

    def __init__(self, detector: Any, made: nn.Module) -> None:
        super().__init__()
        self.detector = made
        # What is lower by rounding only is accepted.
        self.keep("lowest", [min(detector.offset_, detector._lowest_accepted)])

    def judge(self, A: TensorActivations) -> Judgement:
        """Score, p-value and verdict."""
        score = self.detector(A)
        return Judgement(score, torch.full_like(score, torch.nan), score >= self.lowest)


class RanksForm(Form):
    """Ranks of scores among those of calibration rows, of all or of the predicted class.

    Parameters
    ----------
    ranked : sequence of RankedScores
        By class, the last for classes without calibration rows; or one for all.
    codes : ndarray of shape (n_network_classes,) or None
        Which of them are those of each class of the network, by default the only one.
    promise : dict
        ``guarantee`` and ``confidence``.
    """

    codes: Tensor
    least: Tensor
    p_values: Tensor

    def __init__(self, ranked: Sequence[RankedScores], codes: Any, promise: dict[str, Any]) -> None:
        super().__init__()
        self.by_class = codes is not None
        self.keep("codes", np.zeros(1) if codes is None else codes, torch.int64)
        by_detector = zip(*(each.lowest for each in ranked), strict=True)
        self.tables = nn.ModuleList(SortedTable(columns) for columns in by_detector)
        self.keep("least", [each.rank for each in ranked], torch.int64)
        longest = max(map(len, ranked))
        # A p-value for each rank from 1 on; the last ones, which none has, are 1.
        p_values = np.ones((len(ranked), longest + 1))
        for row, each in zip(p_values, ranked, strict=True):
            ranks = np.arange(1, len(each) + 2)
            row[: len(ranks)] = p_values_of_ranks(ranks, len(each), **promise)
        self.keep("p_values", p_values.ravel())
        self.width = longest + 1

    def forward(self, scores: Sequence[Tensor], A: TensorActivations) -> tuple[Tensor, Tensor]:
        """p-values and whether samples are accepted, by scores of each detector."""
        first = scores[0]
        group = torch.zeros_like(first, dtype=torch.int64)
        if self.by_class:
            group = own_classes(A, self.codes)
        not_above = torch.zeros_like(group)
        for table, score in zip(self.tables, scores, strict=True):
            assert isinstance(table, SortedTable)
            not_above = not_above + table.count_not_above(score, group)
        is_accepted = not_above + 1 > self.least.index_select(0, group)
        return self.p_values.index_select(0, group * self.width + not_above), is_accepted


def ranks_of(detector: ConformalDetector) -> RanksForm:
    """How a calibrated detector compares scores with those of calibration rows."""
    if detector.group_by is None:
        return RanksForm([detector._pool], None, detector._promised)
    known = list(detector._classes)
    none = detector._ranked(np.empty((2, 0)), np.empty(0, dtype=np.intp))
    codes = class_codes(detector, known, detector._network)
    codes = np.where(codes < 0, len(known), codes)
    return RanksForm([*detector._classes.values(), none], codes, detector._promised)


@form_of(ConformalDetector)
class ConformalForm(Form):
    """Scores of a calibrated detector, and of several by folds one of all."""

    threshold: Tensor

    def __init__(self, detector: ConformalDetector) -> None:
        super().__init__()
        self.detectors = nn.ModuleList(form(each) for each in detector.estimators_)
        self.ranks = ranks_of(detector)
        if len(self.detectors) > 1:
            self._keep_margins(detector._pool)

    def _keep_margins(self, pool: RankedScores) -> None:
        """What :meth:`~skood.calibration.RankedScores.one_score` compares several scores with."""
        rank = pool.rank_of_one_score
        self.rank = 0 if rank is None else rank
        self.keep("threshold", [pool._smallest(self.rank) if self.rank else 0.0])
        for number, pair in enumerate(zip(pool.by_detector, pool.lowest, strict=True)):
            for name, values in zip(("ascending", "lowest"), pair, strict=True):
                self.keep(f"{name}_{number}", values[: self.rank])

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        return self._one_score([detector(A) for detector in self.detectors])

    def judge(self, A: TensorActivations) -> Judgement:
        """Score, p-value and verdict."""
        scores = [detector(A) for detector in self.detectors]
        return Judgement(self._one_score(scores), *self.ranks(scores, A))

    def _one_score(self, scores: list[Tensor]) -> Tensor:
        if len(scores) == 1:
            return scores[0]
        if not self.rank:
            return torch.stack(scores).sort(dim=0).values[len(scores) // 2]
        found = []
        for number, score in enumerate(scores):
            ascending = getattr(self, f"ascending_{number}")
            lowest = getattr(self, f"lowest_{number}")
            own = score[:, None]
            is_equal = (lowest <= own) & (own <= ascending)
            found.append(torch.where(is_equal, 0.0, own - ascending))
        return torch.cat(found, dim=1).topk(self.rank, dim=1).values[:, -1] + self.threshold


@form_of(RiskControlledDetector)
class RiskControlledForm(Form):
    """A detector with a threshold that bounds the error rate of what is accepted."""

    offset: Tensor

    def __init__(self, detector: RiskControlledDetector) -> None:
        super().__init__()
        self.detector = form(detector.estimator_)
        self.is_certified = bool(detector.offset_ < np.inf)
        self.keep("offset", [detector.offset_])

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        scores: Tensor = self.detector(A)
        return scores

    def judge(self, A: TensorActivations) -> Judgement:
        """Score, p-value and verdict."""
        score = self(A)
        # Where no threshold was certified, nothing is accepted, however high its score is.
        is_accepted = (score >= self.offset) & self.is_certified
        return Judgement(score, torch.full_like(score, torch.nan), is_accepted)


class HeldOutForm(Form):
    """A detector, or several with a threshold each, that rows held out have calibrated.

    Parameters
    ----------
    detector : estimator
        What scores in the end.
    by_name : dict of str to ConformalDetector
        What calibrates it, or each of several.
    """

    def __init__(self, detector: Any, by_name: dict[str, ConformalDetector]) -> None:
        super().__init__()
        self.detector = form(detector)
        self.names = list(by_name)
        self.ranks = nn.ModuleList(ranks_of(each) for each in by_name.values())

    def judge(self, A: TensorActivations) -> Judgement:
        """Score, p-value and verdict."""
        if isinstance(self.detector, AnyAlarmForm):
            each = self.detector.score_each(A)
            score = self.detector.smallest(each)
        else:
            score = self.detector(A)
            each = dict.fromkeys(self.names, score)
        p_values, are_accepted = [], []
        for name, ranks in zip(self.names, self.ranks, strict=True):
            p_value, is_accepted = ranks([each[name]], A)
            p_values.append(p_value)
            are_accepted.append(is_accepted)
        # Several tests of the same samples, by Bonferroni's bound.
        joint = (len(p_values) * torch.stack(p_values).amin(dim=0)).clamp(max=1)
        return Judgement(score, joint, torch.stack(are_accepted).all(dim=0))


def judge_of(detector: Any, by_name: dict[str, ConformalDetector] | None) -> nn.Module:
    """What says of activations what a monitor says; ``by_name`` is what calibrates it, if any."""
    if by_name is not None:
        return HeldOutForm(detector, by_name)
    made = form(detector)
    return made if hasattr(made, "judge") else OwnThreshold(detector, made)
