"""Copies between the memory of the CPU and that of the device on which a network computes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Transfers:
    """Copies to and from a device, of which the CPU waits for each.

    Parameters
    ----------
    device : torch.device
        Where the network is; that may be the CPU.
    """

    overlap = False
    """Whether the device goes on computing meanwhile."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def to_device(self, values: Tensor, dtype: torch.dtype, *, copy: bool) -> Tensor:
        """Values on the device, as another type; ``copy`` says whether their memory is not ours."""
        return values.to(self._device, dtype, copy=copy)

    def begin(self, value: Tensor) -> Callable[[], Tensor]:
        """Begin to copy a value to the memory of the CPU; what is returned waits until it is there.

        The network may write over the value at once.
        """
        copied = value.detach().to("cpu", copy=True)
        return lambda: copied


class CudaTransfers(Transfers):
    """Copies by way of page-locked memory, each direction in a stream of its own.

    A stream runs beside that in which the network computes. So a batch is brought in while the one
    before is computed, and what that one yields is brought back while the next one is.
    """

    overlap = True

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._coming, self._going = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def to_device(self, values: Tensor, dtype: torch.dtype, *, copy: bool) -> Tensor:
        if values.device.type != "cpu" or values.layout is not torch.strided:
            return super().to_device(values, dtype, copy=copy)
        with torch.cuda.stream(self._coming):
            moved = values.pin_memory().to(self._device, non_blocking=True)
        # The caller may write over the values. This does not wait for the network.
        self._coming.synchronize()
        moved.record_stream(torch.cuda.current_stream(self._device))
        return moved.to(dtype)

    def begin(self, value: Tensor) -> Callable[[], Tensor]:
        if value.device != self._device:  # of a network on several
            return super().begin(value)
        copied = value.detach().clone()
        self._going.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._going):
            arriving = torch.empty_like(copied, device="cpu", pin_memory=True)
            arriving.copy_(copied, non_blocking=True)
            is_there = self._going.record_event()
        # Its memory is not to be used for something else before it is copied.
        copied.record_stream(self._going)

        def receive() -> Tensor:
            is_there.synchronize()
            return arriving

        return receive


def transfers_of(device: torch.device) -> Transfers:
    """How to copy to and from a device."""
    return CudaTransfers(device) if device.type == "cuda" else Transfers(device)
