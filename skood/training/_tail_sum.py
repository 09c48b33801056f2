"""A sum over the last iterations of a training, whose number is not known beforehand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_MAX_MARKS = 256


class TailSum:
    """Sum of a vector that every iteration yields, over the last share of the iterations.

    The sum over all iterations is kept as it was at up to 256 marks, evenly spaced. When there are
    that many, every second one is given up. So the memory is bounded, and there is a mark
    within 1 % of the iterations from where the last share begins.

    Parameters
    ----------
    length : int
        Length of the vectors.
    """

    def __init__(self, length: int) -> None:
        self.n_iterations = 0
        self._total = torch.zeros(length, dtype=torch.float64)
        self._marks: list[Tensor] = []
        self._spacing = 1

    def begin_iteration(self) -> None:
        """Count one more iteration, before its values are added."""
        if self.n_iterations % self._spacing == 0:
            self._marks.append(self._total.clone())
        if len(self._marks) == _MAX_MARKS:
            self._marks = self._marks[::2]
            self._spacing *= 2
        self.n_iterations += 1

    def add(self, values: Tensor) -> None:
        """Add values of the present iteration."""
        if self._total.device != values.device:
            # Apple's accelerators know no double precision.
            dtype = torch.float32 if values.device.type == "mps" else torch.float64
            self._total = self._total.to(values.device, dtype)
        self._total += values

    def last(self, share: float) -> tuple[Tensor, int]:
        """The sum over the last share of the iterations, one at least, and their number."""
        n_wanted = max(1, round(share * self.n_iterations))
        mark = round((self.n_iterations - n_wanted) / self._spacing)
        mark = min(mark, len(self._marks) - 1)
        total = self._total.cpu().double() - self._marks[mark].cpu()
        return total, self.n_iterations - mark * self._spacing

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled on a machine with an accelerator is read on one without.
        marks = [mark.cpu() for mark in self._marks]
        return {**self.__dict__, "_total": self._total.cpu(), "_marks": marks}
