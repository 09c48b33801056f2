"""What a torch network is called with, of the inputs that the user gives."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum, auto
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._base import Batch
from .calls import readable_modules, uncompiled
from .gradients import Inputs
from .transfers import Transfers


class Integers(Enum):
    """How a network takes integer inputs."""

    UNCHANGED = auto()
    AS_INT64 = auto()
    AS_FLOATS = auto()
    NOT_TRIED = auto()
    """It was only given floats so far."""


_LABELS = frozenset({"labels", "label"})
"""Inputs that are left out where a network does not know them."""


def call(network: nn.Module, inputs: Inputs) -> Any:
    """What a network returns for a tensor, or for tensors by the names of its arguments.

    Labels are left out where it does not take them, and an input that is alone then needs no name.
    """
    if isinstance(inputs, Tensor):
        return network(inputs)
    unknown = _unknown(network, inputs)
    inputs = {key: tensor for key, tensor in inputs.items() if key not in unknown & _LABELS}
    if len(inputs) == 1 and not unknown.isdisjoint(inputs):
        return network(*inputs.values())
    return network(**inputs)


def _unknown(network: nn.Module, names: Iterable[str]) -> set[str]:
    """Names that a network does not take."""
    parameters = inspect.signature(network.forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return set()
    return set(names) - set(parameters)


def to_inputs(batch: Batch, integers: Integers, dtype: torch.dtype, transfers: Transfers) -> Inputs:
    """Copies on the device, since a network may overwrite its inputs; floats as ``dtype``."""
    if isinstance(batch, Mapping):
        return {
            key: _to_tensor(values, integers, dtype, transfers) for key, values in batch.items()
        }
    return _to_tensor(batch, integers, dtype, transfers)


def _to_tensor(values: Any, integers: Integers, dtype: torch.dtype, transfers: Transfers) -> Tensor:
    if holds_integers(values) and integers is not Integers.AS_FLOATS:
        dtype = torch.bool if values.dtype in (bool, torch.bool) else torch.int64
        if integers is Integers.UNCHANGED:
            dtype = _torch_dtype(values)
    if isinstance(values, np.ndarray):
        # Through a type that both NumPy and torch have.
        is_float = dtype.is_floating_point and dtype is not torch.float64
        copied = np.array(values, np.float32 if is_float else _numpy_dtype(dtype))
        return transfers.to_device(torch.from_numpy(copied), dtype, copy=False)
    # Of complex numbers, others would be the real parts alone.
    return transfers.to_device(values, values.dtype if values.is_complex() else dtype, copy=True)


def find_integers(
    network: nn.Module, batch: Batch, run: Callable[[Batch, Integers], Any]
) -> Integers:
    """How to pass the integers of a batch: in the first way that the network accepts.

    They stay integers where they reach an embedding, and in a mapping unless only floats run.
    """
    is_mapping = isinstance(batch, Mapping)
    if not holds_any_integers(batch):
        return Integers.AS_INT64 if is_mapping else Integers.NOT_TRIED
    ways = [Integers.UNCHANGED, Integers.AS_INT64, Integers.AS_FLOATS]
    if not (is_mapping or any(True for _ in network.parameters())):
        ways.sort(key=lambda integers: integers is not Integers.AS_FLOATS)
    for integers in ways:
        reached: list[nn.Module] = []
        with _reporting_weights(network, reached.append), suppress(Exception):
            run(batch, integers)
            return integers
        if reached and isinstance(reached[0], nn.Embedding | nn.EmbeddingBag):
            return Integers.AS_INT64
    return Integers.AS_INT64 if is_mapping else Integers.AS_FLOATS


@contextmanager
def _reporting_weights(
    network: nn.Module, on_module: Callable[[nn.Module], None]
) -> Iterator[None]:
    """Report each call of a module that has weights and no inner modules."""
    thread = threading.get_ident()

    def enter(module: nn.Module, args: tuple) -> None:
        if threading.get_ident() == thread:
            on_module(uncompiled(module))

    handles = [
        nn.Module.register_forward_pre_hook(module, enter)
        for _, module in [("", network), *readable_modules(network)]
        if not any(module.children()) and any(True for _ in module.parameters())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def holds_any_integers(batch: Batch) -> bool:
    """Whether some of the inputs are integers or truth values."""
    return any(map(holds_integers, batch.values() if isinstance(batch, Mapping) else [batch]))


def holds_integers(values: Any) -> bool:
    """Whether an array or tensor holds integers or truth values."""
    if isinstance(values, Tensor):
        return not (values.is_floating_point() or values.is_complex())
    return values.dtype.kind in "iub"


def _torch_dtype(values: Any) -> torch.dtype:
    if isinstance(values, Tensor):
        return values.dtype
    return torch.from_numpy(np.empty(0, values.dtype.newbyteorder("="))).dtype


def _numpy_dtype(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype
