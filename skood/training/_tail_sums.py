"""Sums over the last iterations of a training, whose number is not known beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_MARKS = 256


class TailSums:
    """Sums of what each backward pass yields for each layer, over the last share of the passes.

    The sums over all passes are kept as they were at up to 256 marks, evenly spaced. When there are
    that many, every second one is given up. So the memory is bounded, and the beginning of the
    last share is at most half a spacing, which is below 0.5 % of the passes, from a mark.
    """

    def __init__(self) -> None:
        self.n_iterations = 0
        self._totals: dict[str, Tensor] = {}
        self._marks: list[dict[str, Tensor]] = []
        self._spacing = 1
        self._reached: set[str] = set()

    def reach(self, layer: str) -> None:
        """Take note that a backward pass reaches a layer, before adding what it yields."""
        # A pass reaches no layer twice, so at the second time it is the next one. Not all
        # passes need to reach all layers.
        if not self._reached or layer in self._reached:
            self._begin_iteration()
        self._reached.add(layer)

    def _begin_iteration(self) -> None:
        if self.n_iterations % self._spacing == 0:
            self._marks.append({layer: total.clone() for layer, total in self._totals.items()})
        if len(self._marks) == _MAX_MARKS:
            self._marks = self._marks[::2]
            self._spacing *= 2
        self.n_iterations += 1
        self._reached.clear()

    def add(self, layer: str, values: Tensor) -> None:
        """Add what the present pass yields for a layer."""
        add_to(self._totals, layer, values)

    def last(self, share: float) -> tuple[dict[str, Tensor], int]:
        """The sums over the last share of the passes, for layers that were reached, and how many.

        At least the last pass counts.
        """
        n_wanted = max(1, round(share * self.n_iterations))
        mark = round((self.n_iterations - n_wanted) / self._spacing)
        mark = min(mark, len(self._marks) - 1)
        before = self._marks[mark]
        sums = {
            layer: total.cpu() - before[layer].cpu() if layer in before else total.cpu()
            for layer, total in self._totals.items()
        }
        return sums, self.n_iterations - mark * self._spacing

    def __getstate__(self) -> dict:
        # What is pickled on a machine with an accelerator is read on one without.
        return {
            **self.__dict__,
            "_totals": to_cpu(self._totals),
            "_marks": [to_cpu(mark) for mark in self._marks],
        }


def add_to(totals: dict[str, Tensor], layer: str, values: Tensor) -> None:
    """Add values in place to a total that holds long integers or double precision."""
    total = totals.get(layer)
    if total is None:
        totals[layer] = values.to(_dtype_of_total(values))
        return
    if total.device != values.device:
        total = totals[layer] = total.to(values.device)
    total += values


def _dtype_of_total(values: Tensor) -> torch.dtype:
    if not values.is_floating_point():
        return torch.int64
    # Apple's accelerators know no double precision.
    return torch.float32 if values.device.type == "mps" else torch.float64


def to_cpu(totals: dict[str, Tensor]) -> dict[str, Tensor]:
    """The totals in main memory."""
    return {layer: total.cpu() for layer, total in totals.items()}
