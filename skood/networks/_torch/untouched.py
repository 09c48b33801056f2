"""Running a torch network without leaving a mark on it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.backends import mha

from .autocast import casting
from .random_numbers import numbers_given_back

# Another thread that ran the same network would take the evaluation mode, and the hooks that
# observe it, for the network's own.
_LOCK = threading.RLock()
_CPU = torch.device("cpu")


def alone() -> AbstractContextManager:
    """Context in which no other thread runs a network, and so changes it temporarily."""
    return _LOCK


@contextmanager
def untouched(
    network: nn.Module, precision: torch.dtype | None = None, device: torch.device = _CPU
) -> Iterator[None]:
    """Evaluate a network without gradients; leave it and all random states as they were.

    Other threads may call it meanwhile. Where it is in evaluation mode already, they see no change.

    Gradients are only turned off. In ``torch.inference_mode``, tensors that a network caches
    in its ``forward`` could not take part in training later.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    precision : torch.dtype, default=None
        What to cast to in automatic mixed precision; by default nothing is cast.
    device : torch.device
        Where the network is.
    """
    modules = list(network.modules())
    with (
        _LOCK,
        numbers_given_back(),
        _tensors_kept(modules),
        _evaluation_mode(modules),
        _transformer_fast_path_off(),
        _compiled_code_off(network),
        casting(precision, device),
        torch.no_grad(),
    ):
        yield


@contextmanager
def _evaluation_mode(modules: list[nn.Module]) -> Iterator[None]:
    # A frozen scripted module has no mode.
    modes = [(m, m.training) for m in modules if hasattr(m, "training")]
    try:
        # Not by network.eval(), which may be overridden to do more than can be undone here.
        for module, _ in modes:
            _set_mode(module, training=False)
        yield
    finally:
        for module, training in modes:
            _set_mode(module, training=training)


def _set_mode(module: nn.Module, *, training: bool) -> None:
    if module.training != training:  # to set an attribute of a module is slow
        module.training = training


@contextmanager
def _tensors_kept(modules: list[nn.Module]) -> Iterator[None]:
    """Undo what ``forward`` may write even in evaluation mode, such as counts in buffers."""
    buffers = [
        (module._buffers, dict(module._buffers))
        for module in modules
        if not isinstance(module, torch.jit.ScriptModule)  # makes new objects at every look
    ]
    written = list({id(tensor): tensor for tensor in _written_in_forward(modules)}.values())
    copies = _Copies(written)
    try:
        yield
    finally:
        for present, before in buffers:
            if list(map(id, present.values())) != list(map(id, before.values())):
                present.clear()
                present.update(before)
        copies.write_back()


class _Copies:
    """Copies of many small tensors, as a few large ones."""

    def __init__(self, tensors: list[Tensor]) -> None:
        kinds: dict[tuple[object, ...], list[Tensor]] = {}
        for tensor in tensors:
            is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
            kind = (tensor.dtype, tensor.device) if is_plain else (id(tensor),)
            kinds.setdefault(kind, []).append(tensor)
        self._copies = [(alike, _joined(alike)) for alike in kinds.values()]

    def write_back(self) -> None:
        """Undo all changes since."""
        for tensors, before in self._copies:
            if torch.equal(_joined(tensors), before):
                continue
            with torch.no_grad():
                parts = (
                    [before] if len(tensors) == 1 else before.split([*map(Tensor.numel, tensors)])
                )
                for tensor, part in zip(tensors, parts, strict=True):
                    copy = part.reshape(tensor.shape)
                    # Writing unchanged values would still spoil a pending backward pass.
                    if not torch.equal(tensor, copy):
                        tensor.copy_(copy)


def _joined(tensors: list[Tensor]) -> Tensor:
    if len(tensors) == 1:
        return tensors[0].detach().clone()
    # To reshape all of them takes longer than to copy them.
    with torch.no_grad():
        return torch.cat([t if t.ndim == 1 else t.reshape(-1) for t in tensors])


def _written_in_forward(modules: list[nn.Module]) -> Iterator[Tensor]:
    for module in modules:
        yield from (tensor for tensor in module._buffers.values() if tensor is not None)
        # These embeddings rescale the rows that they look up, in place.
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
            yield module.weight


@contextmanager
def _transformer_fast_path_off() -> Iterator[None]:
    """On its fast path a transformer layer computes everything at once, calling no submodule.

    The switch of torch is that of all threads, so that what asks for it is exchanged.
    """
    reader, ask = threading.get_ident(), mha.get_fastpath_enabled

    def is_enabled() -> bool:
        return threading.get_ident() != reader and ask()

    mha.get_fastpath_enabled = is_enabled
    try:
        yield
    finally:
        mha.get_fastpath_enabled = ask


def _compiled_code_off(network: nn.Module) -> AbstractContextManager:
    """Compiled code calls no hook, or is compiled anew, which takes long, where hooks appear."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled yet
        return nullcontext()
    if hasattr(torch.compiler, "set_stance"):
        return torch.compiler.set_stance("force_eager")
    for name, module in network.named_modules():
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise TypeError(
                f"The part {name!r} of the network is compiled, and torch {torch.__version__} "
                "cannot run it uncompiled meanwhile: put what torch.compile was "
                "given, its `_orig_mod`, in its place, or install torch 2.6 or later."
            )
    return nullcontext()
