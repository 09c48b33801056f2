"""A mean over the last iterations of a training, whose number is not known beforehand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_MAX_MARKS = 256
_GOLDEN_RATIO = 0.6180339887498949


class TailMean:
    """Mean of a vector that iterations yield, over the last share of the iterations.

    The sum over all iterations is kept as it was at up to 256 marks, evenly spaced. When there are
    that many, every second one is given up. So the memory is bounded, and there is a mark
    within 1 % of the iterations from where the last share begins.

    To be cheap, from the 256th on only half of the iterations are asked for their vector, which
    then counts twice. Which ones follows no period, as the iterations themselves may.

    Parameters
    ----------
    length : int
        Length of the vectors.
    """

    def __init__(self, length: int) -> None:
        self.n_iterations = 0
        self._weight = 1
        self._sum_of_weights = 0
        self._total = torch.zeros(length, dtype=torch.float64)
        self._marks: list[tuple[int, Tensor]] = []
        self._spacing = 1

    def begin_iteration(self) -> bool:
        """Count one more iteration, and tell whether its vector is asked for."""
        if self.n_iterations % self._spacing == 0:
            self._marks.append((self._sum_of_weights, self._total.clone()))
        if len(self._marks) == _MAX_MARKS:
            self._marks = self._marks[::2]
            self._spacing *= 2
        self.n_iterations += 1
        if self.n_iterations >= _MAX_MARKS:
            self._weight = 2
        is_asked = self._weight == 1 or self.n_iterations * _GOLDEN_RATIO % 1 < 0.5
        self._sum_of_weights += self._weight * is_asked
        return is_asked

    def add(self, values: Tensor) -> None:
        """Add the vector of the present iteration; one that adds nothing counts as zeros."""
        if self._total.device != values.device:
            # Apple's accelerators know no double precision.
            dtype = torch.float32 if values.device.type == "mps" else torch.float64
            self._total = self._total.to(values.device, dtype)
        self._total.add_(values, alpha=self._weight)

    def last(self, share: float) -> tuple[Tensor, int]:
        """The mean over the last share of the iterations, one at least, and their number."""
        n_wanted = max(1, round(share * self.n_iterations))
        mark = round((self.n_iterations - n_wanted) / self._spacing)
        mark = min(mark, len(self._marks) - 1)
        while self._marks[mark][0] == self._sum_of_weights:
            mark -= 1
        weights_before, total_before = self._marks[mark]
        total = self._total.cpu().double() - total_before.cpu()
        mean = total / (self._sum_of_weights - weights_before)
        return mean, self.n_iterations - mark * self._spacing

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled on a machine with an accelerator is read on one without.
        marks = [(weights, total.cpu()) for weights, total in self._marks]
        return {**self.__dict__, "_total": self._total.cpu(), "_marks": marks}
