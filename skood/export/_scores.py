"""Scores of members, compared with those of training samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ensemble import HIGHEST, LOWEST, TAIL, Calibration, RankCalibration, TailCalibration
from ._arrays import Form, SortedTable


class StandardizeForm(Form):
    """Scores in standard deviations of those of training samples above their mean.

    Parameters
    ----------
    calibrations : sequence of Calibration
        One for each row of members.
    counting : sequence of ndarray of shape (n_members,), dtype bool
        Which members they are about; the scores of others stay as they are.
    """

    mean: Tensor
    rounding: Tensor
    is_constant: Tensor
    spread: Tensor

    def __init__(
        self, calibrations: Sequence[Calibration], counting: Sequence[NDArray[np.bool_]]
    ) -> None:
        super().__init__()
        for name, usual in (("mean", 0.0), ("rounding", 0.0), ("spread", 1.0)):
            self.keep(name, _of_all(calibrations, counting, f"_{name}", usual))
        constant = _of_all(calibrations, counting, "_is_constant", 0.0)
        self.keep("is_constant", constant, torch.bool)

    def without_rounding(self, scores: Tensor) -> Tensor:
        """Scores, of which those of constant members are the mean where they are near to it."""
        near = self.is_constant & ((scores - self.mean).abs() <= self.rounding)
        return torch.where(near, self.mean, scores)

    def forward(self, scores: Tensor) -> Tensor:
        """Standardised scores of scores of shape (n_samples, [n_rows,] n_members)."""
        deviations = (self.without_rounding(scores) - self.mean) / self.spread
        return softly_above(deviations).clamp(max=HIGHEST)


def _of_all(
    calibrations: Sequence[Calibration],
    counting: Sequence[NDArray[np.bool_]],
    name: str,
    usual: float,
) -> NDArray:
    """What calibrations say of all members, in one row where there is one of them."""
    rows = np.full((len(counting), len(counting[0])), usual)
    for row, calibration, counts in zip(rows, calibrations, counting, strict=True):
        row[counts] = getattr(calibration, name)
    return rows[0] if len(rows) == 1 else rows


class RankForm(Form):
    """p-values of scores of shape (n_samples, n_members)."""

    columns: Tensor
    n_ranks: Tensor

    def __init__(self, calibration: RankCalibration) -> None:
        super().__init__()
        all_count = np.ones(len(calibration._lowest), dtype=bool)
        self.standardized = StandardizeForm([calibration], [all_count])
        self.table = SortedTable(calibration._lowest)
        self.keep("columns", np.arange(len(all_count)), torch.int64)
        self.keep("n_ranks", [len(calibration._lowest[0]) + 1])

    def forward(self, scores: Tensor) -> Tensor:
        """Conformal p-value of each score."""
        scores = self.standardized.without_rounding(scores)
        columns = self.columns.expand(scores.shape).flatten()
        n_not_above = self.table.count_not_above(scores.flatten(), columns).reshape(scores.shape)
        return (n_not_above + 1) / self.n_ranks


class LogPForm(Form):
    """Logarithms of p-values of scores of shape (n_samples, n_members)."""

    edges: Tensor
    excess: Tensor
    tops: Tensor
    feet: Tensor
    n_at_tops: Tensor
    counts: Tensor
    columns: Tensor
    n_ranks: Tensor
    log_tail: Tensor

    def __init__(self, calibration: TailCalibration) -> None:
        super().__init__()
        of_members = [*zip(calibration.starts(), calibration.ends, strict=True)]
        all_count = np.ones(len(of_members), dtype=bool)
        self.standardized = StandardizeForm([calibration], [all_count])
        for name in ("edges", "excess"):
            self.keep(name, getattr(calibration, f"_{name}"))
        self.keep("tops", calibration.tops)
        self.keep("feet", calibration.feet)
        self.keep("n_at_tops", calibration.counts[calibration.starts() + 1])
        self.table = SortedTable([calibration.levels[start:end] for start, end in of_members])
        # Behind the last one, once more: no calibration score is above it.
        self.width = self.table.width**2 + 1
        counts = [calibration.counts[start : end + 1] for start, end in of_members]
        padded = [np.pad(each, (0, self.width - len(each)), mode="edge") for each in counts]
        self.keep("counts", np.concatenate(padded))
        self.keep("columns", np.arange(len(of_members)), torch.int64)
        self.keep("n_ranks", calibration._n_scores + 1)
        self.keep("log_tail", [np.log(TAIL)])

    def forward(self, scores: Tensor) -> Tensor:
        """Logarithm of the p-value of each score, of an exponential tail where it is below 0.1."""
        scores = self.standardized.without_rounding(scores)
        usual = self._log_p_of_counts(self._count_not_above(scores))
        rise = self._log_p_of_counts(self.n_at_tops) - self._log_p_of_tail(self.tops)
        above_feet = (scores - self.feet).clamp(min=0) / (self.tops - self.feet)
        below = self._log_p_of_tail(scores) + above_feet * rise
        return softly_above(torch.where(scores < self.tops, below, usual))

    def _log_p_of_tail(self, scores: Tensor) -> Tensor:
        return self.log_tail - (self.edges - scores) / self.excess

    def _log_p_of_counts(self, n_not_above: Tensor) -> Tensor:
        return torch.maximum(((n_not_above + 1) / self.n_ranks).log(), self.log_tail)

    def _count_not_above(self, scores: Tensor) -> Tensor:
        """How many calibration scores are at most each; from level to level it rises evenly."""
        columns, flat = self.columns.expand(scores.shape).flatten(), scores.flatten()
        at = self.table.count_not_above(flat, columns).clamp(min=1)
        low, high = self.table.at(columns, at - 1), self.table.at(columns, at)
        # Above the last level, there is none to compare with.
        share = ((flat - low).clamp(min=0) / (high - low)).nan_to_num(0.0)
        n_low, n_high = (
            self.counts.index_select(0, columns * self.width + each) for each in (at, at + 1)
        )
        return (n_low + share * (n_high - n_low)).reshape(scores.shape)


def softly_above(values: Tensor) -> Tensor:
    """Values, of which only the logarithm counts of how far they are below the lowest."""
    return values.clamp(min=LOWEST) - torch.log1p((LOWEST - values).clamp(min=0))
