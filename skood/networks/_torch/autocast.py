"""Automatic mixed precision while a network is read: off, unless it is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch

Autocast = bool | str | torch.dtype
"""Whether to run with it, or the type that it casts to, or the name of this."""

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def lower_precision(wanted: Autocast, device: torch.device) -> torch.dtype | None:
    """The type that a network is to compute in, or None for that of its weights.

    Where only ``True`` is wanted, it is that of the context that the caller stands in, or else the
    usual one of the device.

    Raises
    ------
    ValueError
        If it is no type that torch casts to, or torch does not cast on this device.
    """
    if isinstance(wanted, bool | str):
        if wanted is False:
            return None
        dtype = _type_of(device) if wanted is True else _TYPES.get(wanted.removeprefix("torch."))
    else:
        dtype = wanted
    if dtype not in _TYPES.values():
        raise ValueError(
            f"autocast must be True, False, or one of the types {sorted(_TYPES)}, or its name; "
            f"got {wanted!r}."
        )
    return dtype


def _type_of(device: torch.device) -> torch.dtype:
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(device.type)
    # The functions of releases of torch before 2.4.
    return (
        torch.get_autocast_cpu_dtype() if device.type == "cpu" else torch.get_autocast_gpu_dtype()
    )


def casting(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[None]:
    """Compute in lower precision, or for None in that of the weights, whatever the caller does.

    What a network turns on or off itself counts, as it always does.
    """
    surrounded = [kind for kind in sorted({"cpu", device.type}) if _is_on(kind)]
    return nullcontext() if dtype is None and not surrounded else _cast(dtype, device, surrounded)


@contextmanager
def _cast(dtype: torch.dtype | None, device: torch.device, surrounded: list[str]) -> Iterator[None]:
    with ExitStack() as stack:
        for kind in surrounded:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if dtype is not None:
            # Weights that are cast without gradients would be found again in training.
            stack.enter_context(torch.autocast(device.type, dtype=dtype, cache_enabled=False))
        try:
            yield
        finally:
            if surrounded:  # those that a network itself has cast
                torch.clear_autocast_cache()


def _is_on(kind: str) -> bool:
    try:
        return torch.is_autocast_enabled(kind)
    except TypeError:  # before torch 2.4
        return torch.is_autocast_cpu_enabled() if kind == "cpu" else torch.is_autocast_enabled()
    except RuntimeError:  # on this device torch does not cast
        return False
