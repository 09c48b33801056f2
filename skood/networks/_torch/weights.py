"""The weights of a torch module as arrays, and back into a module of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .memory import as_array

_N_NAMED = 5
_SAME_SIZE = {1: torch.uint8, 2: torch.int16}
"""What tensors of types that NumPy does not have are seen as, by the bytes of a value."""


class StoredTensor(NamedTuple):
    """A parameter or buffer as an array."""

    dtype: str
    """The type of the tensor, such as "bfloat16", for which NumPy may have none."""
    array: NDArray


def read_weights(network: nn.Module) -> dict[str, StoredTensor]:
    """All parameters and buffers that a module's ``state_dict`` has, by their names.

    Tensors that are the same are the same array.

    Raises
    ------
    TypeError
        If one is no dense tensor of numbers, or a module has another state beside.
    """
    known: dict[object, StoredTensor] = {}
    found = {}
    for name, tensor in network.state_dict().items():
        _check_plain(name, tensor)
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        key = place if tensor.numel() else name
        if key not in known:
            known[key] = _stored(tensor)
        found[name] = known[key]
    return found


def _check_plain(name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"The network has a state {name!r} of the type {type(tensor).__name__}, which is no "
            "tensor: it cannot be stored without pickle."
        )
    if tensor.is_quantized or tensor.layout is not torch.strided or tensor.is_meta:
        raise TypeError(
            f"{name!r} of the network is a tensor of the kind {tensor.dtype}, {tensor.layout}, on "
            f"{tensor.device}, which is not stored: dense ones are."
        )


def _stored(tensor: Tensor) -> StoredTensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if not hasattr(np, dtype):
        tensor = tensor.contiguous().view(_SAME_SIZE[tensor.element_size()])
    return StoredTensor(dtype, as_array(tensor).copy())


def load_weights(network: nn.Module, stored: Mapping[str, StoredTensor]) -> None:
    """Put stored weights into a module, and set it to evaluation mode.

    Raises
    ------
    ValueError
        If the module has other parameters and buffers, or of another shape or type.
    """
    present = {n: t for n, t in network.state_dict().items() if isinstance(t, Tensor)}
    wrong = {
        "lacks": [n for n in stored if n not in present],
        "has beside the stored ones": [n for n in present if n not in stored],
        "has in another shape or type": [
            f"{name} ({_said(present[name])} for {_described(held)})"
            for name, held in stored.items()
            if name in present and _said(present[name]) != _described(held)
        ],
    }
    said = [f"{what} {_named(names)}" for what, names in wrong.items() if names]
    if said:
        raise ValueError(
            f"The architecture differs: this {type(network).__name__} {'; it '.join(said)}."
        )
    tensors = {name: _tensor(held) for name, held in stored.items()}
    # Those of the device "meta" have no memory that values could be copied to.
    network.load_state_dict(tensors, assign=any(t.is_meta for t in present.values()))
    network.eval()
    _compute_anew(network)


def _compute_anew(network: nn.Module) -> None:
    """Compute what hooks of ``torch.nn.utils`` make of parameters before each call."""
    with torch.no_grad():
        for module in network.modules():
            for hook in list(module._forward_pre_hooks.values()):
                if type(hook).__module__.startswith("torch.nn.utils."):
                    hook(module, ())


def _described(held: StoredTensor) -> str:
    return f"{held.dtype} {list(held.array.shape)}"


def _said(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    return f"{', '.join(names[:_N_NAMED])}{more}"


def _tensor(held: StoredTensor) -> Tensor:
    tensor = torch.from_numpy(held.array)
    dtype = getattr(torch, held.dtype)
    return tensor if tensor.dtype == dtype else tensor.view(dtype)
