"""Running a torch network without leaving a mark on it."""

from __future__ import annotations

import operator
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, compress, repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import mha

from .autocast import casting
from .random_numbers import numbers_given_back

# Another thread that ran the same network would take the evaluation mode, and the hooks that
# observe it, for the network's own.
_LOCK = threading.RLock()
_CPU = torch.device("cpu")
_N_OCTETS_COMPARED = 2**16
"""Of buffers whose values are compared after each pass, whatever their counts say."""


def alone() -> AbstractContextManager:
    """Context in which no other thread runs a network, and so changes it temporarily."""
    return _LOCK


class Untouched:
    """Evaluates a network without gradients; leaves it and all random states as they were.

    Other threads may call it meanwhile. Where it is in evaluation mode already, they see no change.

    Gradients are only turned off. In ``torch.inference_mode``, tensors that a network caches
    in its ``forward`` could not take part in training later.

    Parameters
    ----------
    network : torch.nn.Module
        The network, of the modules that it has now.
    precision : torch.dtype, default=None
        What to cast to in automatic mixed precision; by default nothing is cast.
    device : torch.device
        Where the network is.
    writes : bool, default=True
        Whether a pass may write to tensors of the network behind their counts of versions. If not,
        the values of those whose version stays the same are not compared, but of a few buffers.
    """

    def __init__(
        self,
        network: nn.Module,
        precision: torch.dtype | None = None,
        device: torch.device = _CPU,
        *,
        writes: bool = True,
    ) -> None:
        self._network, self._precision, self._device = network, precision, device
        self._writes = writes
        self._modules = _Modules(network)
        # Scripted ones make new objects at every look.
        unscripted = [m for m in network.modules() if not isinstance(m, torch.jit.ScriptModule)]
        self._buffers = [module._buffers for module in unscripted if module._buffers]
        # Layers of torch write none in evaluation mode.
        self._of_users = [
            module._buffers
            for module in unscripted
            if module._buffers and not type(module).__module__.startswith("torch.nn.modules.")
        ]
        self._present: list[Tensor | None] = []
        self._items: list[list[tuple[str, Tensor | None]]] = []
        # These embeddings rescale the rows that they look up, in place.
        self._embeddings = [
            m for m in network.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)
        ]
        self._copies = _Copies([], [])

    @contextmanager
    def context(self) -> Iterator[None]:
        """Block in which the network may be run."""
        with numbers_given_back(), self.context_without_draws():
            yield

    @contextmanager
    def context_without_draws(self) -> Iterator[None]:
        """The same where what is drawn in it is given back otherwise."""
        # One generator in place of several: each takes long that has not run since the last pass.
        with (
            _LOCK,
            _compiled_code_off(self._network),
            casting(self._precision, self._device),
            torch.no_grad(),
        ):
            give_back = self._keep_tensors()
            training, ask = self._modules.in_training(), mha.get_fastpath_enabled
            try:
                # Not by network.eval(), which may be overridden to do more than can be undone here.
                _set_mode(training, is_training=False)
                mha.get_fastpath_enabled = _off_for_this_thread(ask)
                yield
            finally:
                mha.get_fastpath_enabled = ask
                _set_mode(self._modules.in_training(), is_training=False)
                _set_mode(training, is_training=True)
                give_back()

    def _keep_tensors(self) -> Callable[[], None]:
        """What undoes what ``forward`` writes even in evaluation mode, such as to buffers."""
        present, rescaled = self._buffers_now(), self._rescaled_now()
        before = self._items_of(present)
        if self._writes or not self._copies.are_of(present, rescaled):
            self._copies = _Copies(present, rescaled)
        copies, of_few = self._copies, None if self._writes else self._copies_of_few()

        def give_back() -> None:
            if not are_the_same(self._buffers_now(), present):
                for held, items in zip(self._buffers, before, strict=True):
                    if [*map(id, held.values())] != [id(tensor) for _, tensor in items]:
                        held.clear()
                        held.update(items)
            if self._writes or not copies.are_of(present, rescaled):
                copies.write_back()
            if of_few is not None:
                of_few.write_back()

        return give_back

    def _items_of(self, present: list[Tensor | None]) -> list[list[tuple[str, Tensor | None]]]:
        """The buffers that are present, by their names in each module that has some."""
        if not are_the_same(present, self._present) or not self._items:
            self._present = present
            self._items = [list(held.items()) for held in self._buffers]
        return self._items

    def _copies_of_few(self) -> _Copies | None:
        """Copies of what code of users may write to behind the counts, if it is little."""
        held = chain.from_iterable(map(dict.values, self._of_users))
        tensors = [tensor for tensor in held if tensor is not None]
        if not tensors or sum(tensor.nbytes for tensor in tensors) > _N_OCTETS_COMPARED:
            return None
        return _Copies([], tensors)

    def _rescaled_now(self) -> list[Tensor]:
        return [m.weight for m in self._embeddings if m.max_norm is not None]

    def _buffers_now(self) -> list[Tensor | None]:
        return list(chain.from_iterable(map(dict.values, self._buffers)))


def are_the_same(ones: list[Any], others: list[Any]) -> bool:
    return len(ones) == len(others) and all(map(operator.is_, ones, others))


class _Modules:
    """The modules of a network, of which a few look up their mode in their own way.

    They hold their attributes in the very dicts in which they do so now.
    """

    def __init__(self, network: nn.Module) -> None:
        modules = list(network.modules())
        self._plain = [module for module in modules if "training" in vars(module)]
        self._attributes = [*map(vars, self._plain)]
        # A frozen scripted module has no mode.
        self._others = [module for module in modules if "training" not in vars(module)]

    def in_training(self) -> list[nn.Module]:
        """Those that are in training mode."""
        # In a loop that Python itself runs: there are hundreds, and mostly none is.
        modes = list(map(dict.get, self._attributes, repeat("training")))
        training = list(compress(self._plain, modes)) if any(modes) else []
        return training + [m for m in self._others if getattr(m, "training", False)]


def _set_mode(modules: list[nn.Module], *, is_training: bool) -> None:
    for module in modules:
        module.training = is_training


class _Copies:
    """Copies of many small tensors, as a few large ones: what a pass may write to.

    Parameters
    ----------
    buffers : list of Tensor or None
        Buffers, of which some may be there twice.
    rescaled : list of Tensor
        Weights.
    """

    def __init__(self, buffers: list[Tensor | None], rescaled: list[Tensor]) -> None:
        self._held = [*buffers, *rescaled]
        tensors = list({id(t): t for t in self._held if t is not None}.values())
        self._tensors, self._versions = tensors, _versions(tensors)
        kinds: dict[tuple[object, ...], list[Tensor]] = {}
        for tensor in tensors:
            is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
            kind = (tensor.dtype, tensor.device) if is_plain else (id(tensor),)
            kinds.setdefault(kind, []).append(tensor)
        self._copies = [(alike, _joined(alike)) for alike in kinds.values()]

    def are_of(self, buffers: list[Tensor | None], rescaled: list[Tensor]) -> bool:
        """Whether they are of these very tensors, to which nothing was written since, by counts."""
        is_same = are_the_same([*buffers, *rescaled], self._held)
        return is_same and self._versions is not None and self._versions == _versions(self._tensors)

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


def _versions(tensors: list[Tensor]) -> list[int] | None:
    """How often each was written to; None where some do not count that."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:  # of inference mode
        return None


def _joined(tensors: list[Tensor]) -> Tensor:
    if len(tensors) == 1:
        return tensors[0].detach().clone()
    # To reshape all of them takes longer than to copy them.
    with torch.no_grad():
        return torch.cat([t if t.ndim == 1 else t.reshape(-1) for t in tensors])


def _off_for_this_thread(ask: Callable[[], bool]) -> Callable[[], bool]:
    """What says whether transformer layers may go their fast path, which here they may not.

    There they compute everything at once, calling no submodule. The switch of torch is that of all
    threads, so that what asks for it is exchanged.
    """
    reader = threading.get_ident()
    return lambda: threading.get_ident() != reader and ask()


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
