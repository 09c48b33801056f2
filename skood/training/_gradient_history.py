"""What the last iterations of a training yielded, whose number is not known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MAX_WAITING = 64
_GOLDEN_RATIO = 0.6180339887498949


class GradientHistory:
    """Vectors that iterations yield, kept as long as the last iterations may include them.

    Where the last share of the iterations begins is known at the end only, so each vector is kept
    until that beginning has passed it. From then on it cannot come back: the beginning only
    moves forward.

    Parameters
    ----------
    length : int
        Length of the vectors.
    last_share : float
        The largest share of the iterations, the last ones, that will be asked for.
    read_share : float
        Share of the iterations that are asked for their vector. Which ones follows no period, as
        the iterations themselves may.
    """

    def __init__(self, length: int, *, last_share: float, read_share: float) -> None:
        self.length = length
        self.last_share = last_share
        self.read_share = read_share
        self.n_iterations = 0
        self._chunks: list[tuple[NDArray[np.int64], NDArray[np.floating]]] = []
        self._waiting: list[tuple[int, Tensor]] = []

    def begin_iteration(self) -> bool:
        """Count one more iteration, and tell whether its vector is asked for."""
        self.n_iterations += 1
        return bool(self._is_read(self.n_iterations - 1))

    def add(self, values: Tensor) -> None:
        """Add to the vector of the present iteration, which is zeros if nothing is added."""
        if self._waiting and self._waiting[0][1].device != values.device:
            self.flush()
        self._waiting.append((self.n_iterations - 1, values))
        if len(self._waiting) == _MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Move what waits out of the device's memory, and forget what is not needed any more."""
        if not self._waiting:
            return
        numbers, vectors = zip(*self._waiting, strict=True)
        self._chunks.append((np.array(numbers), torch.stack(vectors).cpu().numpy()))
        self._waiting.clear()
        first = self._first_read(self.last_share)
        self._chunks = [chunk for chunk in self._chunks if chunk[0][-1] >= first]

    def last(self, share: float) -> tuple[NDArray[np.float64], int]:
        """The mean over the last share of the iterations, one at least, and their number.

        Raises
        ------
        ValueError
            If the share is larger than what was kept.
        """
        if share > self.last_share:
            raise ValueError(
                f"Gradients were recorded for last_share={self.last_share}, those before are not "
                f"kept: last_share can be lowered afterwards but not raised, got {share}."
            )
        self.flush()
        first = self._first_read(share)
        total = np.zeros(self.length)
        for numbers, vectors in self._chunks:
            total += vectors[numbers >= first].sum(axis=0, dtype=np.float64)
        n_read = np.count_nonzero(self._is_read(np.arange(first, self.n_iterations)))
        return total / n_read, self._n_last(share)

    def _n_last(self, share: float) -> int:
        return max(1, round(share * self.n_iterations))

    def _first_read(self, share: float) -> int:
        """The first iteration of the last share, or a read one before where it has none."""
        first = self.n_iterations - self._n_last(share)
        while first > 0 and not self._is_read(np.arange(first, self.n_iterations)).any():
            first -= 1
        return first

    def _is_read(self, number: Any) -> Any:
        # The very first is always read.
        return number * _GOLDEN_RATIO % 1 < self.read_share

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled on a machine with an accelerator is read on one without.
        self.flush()
        return self.__dict__.copy()
