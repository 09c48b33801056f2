"""What a run may leave behind in a network, or beside it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Marks = dict[str, Any]
"""States by the names of what they are states of."""

_SIMPLE = (bool, int, float, str, type(None))


def take_marks(network: nn.Module) -> Marks:
    """All that can be seen of a network without running it, and the states of the process."""
    marks: Marks = {
        "random state of torch": torch.get_rng_state().numpy().tobytes(),
        "random state of NumPy": repr(np.random.get_state()),  # noqa: NPY002
        "random state of Python": random.getstate(),
        "whether gradients are recorded": torch.is_grad_enabled(),
        "fast path of transformers": torch.backends.mha.get_fastpath_enabled(),
        "default type": torch.get_default_dtype(),
    }
    for name, module in network.named_modules():
        for attribute, value in vars(module).items():
            # A copy of the table, with the objects themselves: they cannot be freed meanwhile, and
            # others take their addresses.
            table = dict(value) if isinstance(value, Mapping) else value
            marks[f"{name}.{attribute}"] = table
        for own, tensor in [*module._parameters.items(), *module._buffers.items()]:
            marks[f"content of {name}.{own}"] = None if tensor is None else _content(tensor)
    return marks


def find_changes(before: Marks, after: Marks) -> set[str]:
    """The names of all that is no longer the same."""
    common = before.keys() & after.keys()
    return (before.keys() ^ after.keys()) | {
        name for name in common if not _is_same(before[name], after[name])
    }


def _is_same(old: Any, new: Any) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return list(old) == list(new) and all(_is_same(old[key], new[key]) for key in old)
    if isinstance(old, (*_SIMPLE, bytes, tuple)) and type(old) is type(new):
        # Of tuples, the states of Python's generator and sizes: what holds tensors is no state.
        return old is new or _are_equal(old, new)
    return old is new or (isinstance(old, torch.dtype) and old == new)


def _are_equal(old: Any, new: Any) -> bool:
    try:
        return bool(old == new)
    except (RuntimeError, ValueError):  # tensors or arrays of several values
        return False


def _content(tensor: Tensor) -> tuple[bool, bytes | None, bytes]:
    """Whether it is trained, its gradient and its values."""
    gradient = None if tensor.grad is None else _digest(tensor.grad)
    return tensor.requires_grad, gradient, _digest(tensor)


def _digest(tensor: Tensor) -> bytes:
    octets = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.blake2b(octets.data, digest_size=16).digest()
