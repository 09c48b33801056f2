"""When the values of a network are there as arrays, and what is done with them then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from ..networks import NetworkAdapter


class Deliveries:
    """Steps that go on with values as arrays, in the order in which they were asked for.

    Each is taken at once where the network computes in the memory that arrays are in. Where it
    computes on a device, pooled values are brought back while it computes the next batch, and the
    steps of a batch are taken together when those of the next one are all known: one batch at most
    is on its way. What is not pooled would fill that memory, and is waited for.

    Parameters
    ----------
    adapter : NetworkAdapter
        Where the values come from.
    pooled : bool
        Whether they are pooled.
    """

    def __init__(self, adapter: NetworkAdapter, *, pooled: bool) -> None:
        self._adapter = adapter
        self._overlap = pooled and adapter.overlaps
        self._steps: list[Callable[[], None]] = []
        self._on_their_way: list[Callable[[], None]] = []

    def array(self, value: Any) -> NDArray:
        """A value as an array, now."""
        return self._adapter.to_numpy(value)

    def kept(self, array: NDArray | None) -> NDArray | None:
        """An array, or None, for a later step: a copy where others may write over it until then."""
        return array.copy() if array is not None and self._overlap else array

    def send(self, value: Any) -> Callable[[], Any]:
        """Ask for a value, or None; a step that is asked for later may call what is returned."""
        if value is not None and self._overlap:
            return self._adapter.send(value)
        return lambda: None if value is None else self._adapter.to_numpy(value)

    def then(self, step: Callable[[], None]) -> None:
        """Take a step when the values that were asked for before are there."""
        if self._overlap:
            self._steps.append(step)
        else:
            step()

    def end_batch(self) -> None:
        """Take the steps of the batch before this one."""
        self._take_steps()
        self._on_their_way, self._steps = self._steps, []

    def finish(self) -> None:
        """Take all steps that were asked for."""
        self.end_batch()
        self._take_steps()

    def _take_steps(self) -> None:
        steps, self._on_their_way = self._on_their_way, []
        for step in steps:
            step()
