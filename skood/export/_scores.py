"""Scores of members, compared with those of training samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ensemble import HIGHEST, LOWEST, TAIL, Calibration
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


class LogPForm(Form):
    """p-values of scores of shape (n_samples, n_members), and their logarithms."""

    edges: Tensor
    lowest_edges: Tensor
    excess: Tensor
    columns: Tensor
    n_ranks: Tensor
    log_tail: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        all_count = np.ones(len(calibration._lowest), dtype=bool)
        self.standardized = StandardizeForm([calibration], [all_count])
        for name in ("edges", "lowest_edges", "excess"):
            self.keep(name, getattr(calibration, f"_{name}"))
        self.table = SortedTable(calibration._lowest)
        self.keep("columns", np.arange(len(all_count)), torch.int64)
        self.keep("n_ranks", [len(calibration._ascending) + 1])
        self.keep("log_tail", [np.log(TAIL)])

    def p_values(self, scores: Tensor) -> Tensor:
        """Conformal p-value of each score."""
        scores = self.standardized.without_rounding(scores)
        columns = self.columns.expand(scores.shape).flatten()
        n_not_above = self.table.count_not_above(scores.flatten(), columns).reshape(scores.shape)
        return (n_not_above + 1) / self.n_ranks

    def forward(self, scores: Tensor) -> Tensor:
        """Logarithm of the p-value of each score, of an exponential tail where it is below 0.1."""
        usual = torch.maximum(self.p_values(scores).log(), self.log_tail)
        scores = self.standardized.without_rounding(scores)
        beyond = self.log_tail - (self.edges - scores) / self.excess
        return softly_above(torch.where(scores < self.lowest_edges, beyond, usual))


def softly_above(values: Tensor) -> Tensor:
    """Values, of which only the logarithm counts of how far they are below the lowest."""
    return values.clamp(min=LOWEST) - torch.log1p((LOWEST - values).clamp(min=0))
