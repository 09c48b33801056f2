"""What decides the values that a torch network computes, beside its inputs."""

from __future__ import annotations

import hashlib
import io
import operator
import re
import types
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Set
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from .._fingerprint import (
    SCALARS,
    ContentReader,
    Fingerprint,
    Unreadable,
    attributes_of_class,
    fingerprint_of_parts,
    hash_octets,
)
from .._notes import is_note, without_placement
from .calls import StandingHook
from .memory import as_array

# They have no effect on a pass, or are read separately.
_ATTRIBUTES_LEFT_OUT = frozenset(
    {
        "training",
        "__overloads__",  # of TorchScript, which notes there what it has looked for
        "_buffers",
        "_compiled_call_impl",
        "_is_torch_compile",
        "_load_state_dict_post_hooks",
        "_load_state_dict_pre_hooks",
        "_modules",
        "_non_persistent_buffers_set",
        "_parameters",
        # Of an exported program, which is read by its code and its weights.
        "_called",
        "_program",
        "report",
        "_state_dict_hooks",
        "_state_dict_pre_hooks",
    }
)
_HOW_HOOKS_ARE_CALLED = "_is_full_backward_hook"
_COMPILED = "_orig_mod"
"""What torch.compile calls the module that it wraps."""
GLOBAL_HOOKS = [f"_global_{kind}_hooks" for kind in ("forward", "forward_pre", "backward")]
_RECORDS = (*SCALARS, Tensor, np.ndarray, list, tuple, deque, Set, Mapping)
_COMPILED_FROM = "_torchdynamo_orig_callable"
_HASHED_BY_NAME = (
    torch.dtype,
    torch.layout,
    torch.memory_format,
    torch.qscheme,
    torch._ops.OpOverload,
    torch._ops.OpOverloadPacket,
)


class Written(NamedTuple):
    """Attributes that a pass changes."""

    records: frozenset[str] = frozenset()
    """Counts, and tensors that a pass leaves behind."""
    unclear: frozenset[str] = frozenset()
    """All others, which may hold settings as well."""


def fingerprint_of(network: nn.Module, written: Written) -> tuple[Fingerprint, list[Any]]:
    """Hash of weights, attributes, hooks and code; without the attributes that a pass changes.

    Changed attributes that may be more than records are reported as unread. Also returns the
    objects that were read.
    """
    reader = TorchReader(network)
    settings = dict(chain(_attributes(network), _code(network)))
    weights = dict(_weights(network))
    unclear = sorted(written.unclear & (settings.keys() | weights.keys()))
    reader.unread += [f"{place} (which changes as the network runs)" for place in unclear]
    left_out = written.records | written.unclear
    found = fingerprint_of_parts(reader, weights, settings.items(), left_out)
    return found, reader.met()


Attributes = dict[str, tuple[Any, bytes]]


def read_attributes(network: nn.Module) -> Attributes:
    """Attributes, buffers and what code refers to, and their hashes."""
    of_buffers = TorchReader(network)
    buffers = {
        place: (tensor, of_buffers.digest(tensor))
        for place, tensor in _weights(network)
        if isinstance(tensor, Tensor) and not isinstance(tensor, nn.Parameter)
    }
    reader = TorchReader(network)
    for name, weight in chain(network.named_parameters(), network.named_buffers()):
        reader.know(weight, name_uncompiled(name))
    attributes = {
        # A pass may append to the list itself.
        place: (list(value) if isinstance(value, list) else value, reader.digest(value))
        for place, value in chain(_attributes(network), _code(network))
    }
    return attributes | buffers


def written_between(before: Attributes, after: Attributes) -> Written:
    """What a pass between two readings has changed."""
    changed = {
        place
        for place in before.keys() | after.keys()
        if place not in before or place not in after or before[place][1] != after[place][1]
    }
    nothing = (None, b"")
    records = {
        place
        for place in changed
        if _is_record(before.get(place, nothing)[0], after.get(place, nothing)[0])
    }
    return Written(frozenset(records), frozenset(changed - records))


def _is_record(before: Any, after: Any) -> bool:
    """Whether a pass wrote a value without reading it, by all that can be seen, or counts."""
    if isinstance(after, Tensor):
        if after is before:  # changed in place, as counts are
            return not (after.is_floating_point() or after.is_complex())
        return before is None or isinstance(before, Tensor)
    if isinstance(after, list) and isinstance(before, list):
        return len(after) > len(before) and all(map(operator.is_, before, after))
    return type(after) is int and type(before) in (int, type(None))


def renewed_between(before: Attributes, after: Attributes) -> frozenset[str]:
    """Where a pass has put another tensor that holds the same."""
    return frozenset(
        place
        for place in before.keys() & after.keys()
        if isinstance(after[place][0], Tensor)
        and after[place][0] is not before[place][0]
        and after[place][1] == before[place][1]
    )


def _attributes(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes of all modules, and the hooks."""
    for hooks in GLOBAL_HOOKS:
        yield hooks, list(getattr(nn.modules.module, hooks).values())
    for name, module in _modules(network):
        for key, value in _own_attributes(module):
            yield f"{name}.{key}", value
        for kind in reversed(type(module).__mro__):  # the last of one name counts
            for key, value in _records_of_class(kind):
                yield f"{name}.{kind.__name__}.{key}", value
        has_state = type(module).get_extra_state is not nn.Module.get_extra_state
        if has_state and not _is_scripted(module):
            try:
                yield f"{name}.get_extra_state()", module.get_extra_state()
            except Exception as error:
                yield f"{name}.get_extra_state()", Unreadable(error)


def _own_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes of one module, and its hooks."""
    is_wrapper = _COMPILED in module._modules or _is_scripted(module)
    own = _numbers_of_own_hooks(module)
    for key, value in sorted(without_placement(module).items()):
        if key in _ATTRIBUTES_LEFT_OUT or is_note(type(module), key, value):
            continue
        if key.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
            # The keys are numbers that differ between processes.
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            if hooks := [hook for number, hook in pairs if number not in own]:
                yield key, hooks
        elif not is_wrapper:
            # Where no hook of gradients is left, it is as before the first one.
            says_nothing = key == _HOW_HOOKS_ARE_CALLED and not module._backward_hooks
            yield key, None if says_nothing else value


def _numbers_of_own_hooks(module: nn.Module) -> set[int]:
    """Those of hooks by which an open monitor listens, and that change nothing."""
    held = [vars(module).get(key) for key in ("_forward_hooks", "_forward_pre_hooks")]
    hooks = chain.from_iterable(hooks.items() for hooks in held if isinstance(hooks, dict))
    return {number for number, hook in hooks if isinstance(hook, StandingHook)}


def _records_of_class(kind: type) -> list[tuple[str, Any]]:
    """What a class holds beside code: settings, or counts that a pass changes."""
    if not issubclass(kind, nn.Module):
        return []
    return [(key, value) for key, value in attributes_of_class(kind) if isinstance(value, _RECORDS)]


def _weights(network: nn.Module) -> Iterator[tuple[str, Any]]:
    # The tensors themselves, since a state_dict leaves out non-persistent buffers.
    for name, module in _modules(network):
        if not _is_scripted(module):
            for key, tensor in chain(module._parameters.items(), module._buffers.items()):
                yield f"{name}.{key}".removeprefix("."), _as_used(module, key, tensor)


def _as_used(module: Any, key: str, tensor: Tensor | None) -> Any:
    """A weight, or its hash as a pass would leave it behind that looks up all of it."""
    is_embedding = isinstance(module, nn.Embedding | nn.EmbeddingBag) and key == "weight"
    if not is_embedding or module.max_norm is None:
        return tensor
    rows = torch.arange(len(module.weight), device=module.weight.device)
    with torch.no_grad():
        rescaled = torch.embedding_renorm_(
            module.weight.detach().clone(), rows, module.max_norm, module.norm_type
        )
    return TorchReader(module).digest(rescaled)


def _code(network: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in _modules(network):
        if _is_scripted(module):
            yield f"{name}:script", _archive(module)
        elif _COMPILED not in module._modules:
            yield f"{name}:class", type(module)
            yield f"{name}:forward", type(module).forward


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules under all of their names, but not what is inside a scripted one."""
    scripted: tuple[str, ...] = ()
    for name, module in network.named_modules(remove_duplicate=False):
        if not name.startswith(scripted):
            if _is_scripted(module):
                scripted = (*scripted, f"{name}.")
            yield name_uncompiled(name), module


def name_uncompiled(name: str) -> str:
    """The name that a module, or what it holds, has where nothing is compiled."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _archive(module: Any) -> Any:
    """Hash of a saved scripted module, without what differs between copies."""
    file = io.BytesIO()
    try:
        torch.jit.save(module, file)
    except RuntimeError:  # it holds something that cannot be saved, and so not be read
        return module._c
    with zipfile.ZipFile(file) as archive:
        files = [(name, archive.read(name)) for name in archive.namelist()]
    left_out = (".debug_pkl", "/.data/serialization_id")
    mangled = r"[/.]?___torch_mangle_\d+"
    parts = sorted(
        (re.sub(mangled, "", name), re.sub(mangled.encode(), b"", content))
        for name, content in files
        if not name.endswith(left_out) and "/traced_inputs" not in name
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


class TorchReader(ContentReader):
    """Knows tensors, and takes the modules of a network by their names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._kinds = {kind for module in network.modules() for kind in type(module).__mro__}
        for name, module in network.named_modules():
            self.know(module, f"module {name_uncompiled(name)}")

    def _attributes_of_class(self, kind: type) -> list[tuple[str, Any]]:
        attributes = super()._attributes_of_class(kind)
        if kind not in self._kinds:
            return attributes
        # Read with the attributes of the modules, of which some may be left out.
        records = {key for key, _ in _records_of_class(kind)}
        return [(key, value) for key, value in attributes if key not in records]

    # One branch for each kind of object.
    def _parts(self, value: Any) -> Iterator[str | bytes]:  # noqa: C901, PLR0912
        if isinstance(value, Tensor):
            yield from self._tensor(value)
        elif isinstance(value, nn.Module):
            for part in (_attributes, _weights, _code):
                for place, content in part(value):
                    yield place
                    yield self.digest(content)
        elif isinstance(value, _HASHED_BY_NAME):
            yield str(value)
        elif isinstance(value, torch.device):
            pass  # a network that moves to another one computes the same
        elif isinstance(value, types.FunctionType) and _COMPILED_FROM in vars(value):
            # What torch.compile keeps beside the function changes with its first call.
            yield self.digest(vars(value)[_COMPILED_FROM])
        elif isinstance(value, torch.jit.ScriptFunction):
            yield str(value.code)
        elif isinstance(value, torch.fx.Graph):
            yield str(value)
            yield from self._all([n.target for n in value.nodes if callable(n.target)])
        else:
            yield from super()._parts(value)

    def _tensor(self, tensor: Tensor) -> Iterator[str | bytes]:
        yield f"{tensor.dtype} {tuple(tensor.shape)} {tensor.layout}"
        if isinstance(tensor, FakeTensor):
            return  # of a graph, where it stands for a shape
        if hasattr(tensor, "__tensor_flatten__"):
            names, context = tensor.__tensor_flatten__()
            yield from self._all([context, *(getattr(tensor, name) for name in names)])
        elif tensor.is_quantized:
            yield str(tensor.qscheme())
            yield from map(_hash, [tensor.dequantize(), tensor.int_repr()])
        elif tensor.layout is torch.sparse_coo:
            coalesced = tensor.detach().coalesce()
            yield from map(_hash, [coalesced.indices(), coalesced.values()])
        elif tensor.layout is not torch.strided:
            yield _hash(tensor.detach().to_dense())
        elif tensor.is_meta or tensor.is_nested:
            self.unread.append(f"{self.place} ({type(tensor).__name__})")
        else:
            yield _hash(tensor)


def _hash(tensor: Tensor) -> bytes:
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return hash_octets(as_array(flat.view(torch.uint8)))
