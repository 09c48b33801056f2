"""A cheap look at a torch network that tells whether it seems unchanged."""

from __future__ import annotations

import operator
import types
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Set
from itertools import chain
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from .._fingerprint import SCALARS, attributes_of_class, held_by, sample_octets, used_by
from .fingerprint import GLOBAL_HOOKS

_LOOKED_INTO = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_N_CHUNKS, _CHUNK = 3, 8
"""Of a tensor, how many parts are looked at, of how many values: what lies side by side is fast."""
_N_SMALL = 20_000
"""Number of values of a network that is looked at in whole."""
# Those that nobody holds any more are of no use.
_LATEST: WeakValueDictionary[int, Stamp] = WeakValueDictionary()
_NOT_LOOKED_INTO = (*SCALARS, types.ModuleType, types.CodeType, Tensor, np.ndarray, type)


def find_stamp(network: nn.Module, left_out: Set[str]) -> Stamp | None:
    """A stamp of now, equal to the latest one if all seems unchanged; None if there was none."""
    latest = _LATEST.get(id(network))
    if latest is None or not latest.fits(network, left_out):
        return None
    now = latest.renewed()
    return latest if now == latest else now


def make_stamp(network: nn.Module, met: list[Any], left_out: Set[str]) -> Stamp:
    """A stamp of now that others are to be compared with.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    met : list of object
        What its fingerprint was made of.
    left_out : set of str
        Places where the network writes as it runs.
    """
    found, latest = find_stamp(network, left_out), _LATEST.get(id(network))
    if found is None or found is not latest:
        found = _LATEST[id(network)] = Stamp(network, met, left_out)
    return found


def look_at(tensors: list[Tensor]) -> Any:
    """Where tensors are, their versions and some of their values, to be compared with others."""
    return _Tensors(tensors).look()


class Stamp:
    """What a network and the objects that its fingerprint goes by were seen to hold.

    It holds these objects themselves, so that no others can get their addresses, and some of the
    values of each tensor. Compares equal with a later one where all are the same.
    """

    def __init__(self, network: nn.Module, met: list[Any], left_out: Set[str]) -> None:
        self._network = network
        self._left_out = left_out
        self._holders = _Holders(network, met, left_out)
        self._tensors = _Tensors(_tensors_of(network, met, left_out))
        self._held = self._holders.look()
        self._seen = self._tensors.look()

    def fits(self, network: nn.Module, left_out: Set[str]) -> bool:
        """Whether it is a stamp of this very network."""
        return network is self._network and left_out == self._left_out

    def renewed(self) -> Stamp:
        """A stamp of now."""
        new = object.__new__(Stamp)
        vars(new).update(vars(self))
        new._held, new._seen = self._holders.look(), self._tensors.look(self._seen)
        return new

    def __deepcopy__(self, memo: dict) -> Stamp:
        return self  # of the same network, whatever its owner becomes

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Stamp) or other._holders is not self._holders:
            return False
        return self._seen == other._seen and _hold_same(self._held, other._held)

    __hash__ = None  # type: ignore[assignment]


class _Holders:
    """Objects that may be changed in place, and how to look at what they hold."""

    def __init__(self, network: nn.Module, met: list[Any], left_out: Set[str]) -> None:
        names = {id(module): name for name, module in network.named_modules()}
        self._modules = [value for value in met if isinstance(value, nn.Module)]
        self._hidden: list[int] = []
        """Which of the attributes of all modules are no settings."""
        n_attributes = 0
        for module in self._modules:
            name = names.get(id(module))
            for key in vars(module):
                if key == "training" or f"{name}.{key}" in left_out:
                    self._hidden.append(n_attributes)
                n_attributes += 1
        self._dicts: list[dict[Any, Any]] = [
            held
            for module in self._modules
            for key in _LOOKED_INTO
            if isinstance(held := vars(module).get(key), dict)
        ]
        self._mappings: list[Mapping[Any, Any]] = []
        self._dicts += [getattr(nn.modules.module, name) for name in GLOBAL_HOOKS]
        self._rows: list[Iterable[Any]] = []
        self._slots: list[tuple[Any, str]] = []
        self._functions: list[types.FunctionType] = []
        self._variables: list[tuple[dict[str, Any], str]] = []
        self._arrays = [value for value in met if isinstance(value, np.ndarray)]
        for value in met:
            self._add(value)

    def _add(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._functions.append(value)
            self._variables += used_by(value)
        elif isinstance(value, type):
            if attributes_of_class(value):
                self._mappings.append(vars(value))
        elif isinstance(value, dict):
            self._dicts.append(value)
        elif isinstance(value, Mapping):
            self._mappings.append(value)
        elif isinstance(value, list | deque | set):
            self._rows.append(value)
        elif not isinstance(value, _NOT_LOOKED_INTO):
            self._add_object(value)

    def _add_object(self, value: Any) -> None:
        # That of an annotation such as ``dict[str, int]`` is the one of the class.
        if isinstance(held := getattr(value, "__dict__", None), dict):
            self._dicts.append(held)
        for kind in type(value).__mro__:
            members = (types.MemberDescriptorType,)
            names = [name for name, held in vars(kind).items() if isinstance(held, members)]
            self._slots += [(value, name) for name in names if not name.startswith("__")]

    def look(self) -> list[Any]:
        """All that they hold, in one order."""
        # In loops that Python itself runs: there are thousands of objects.
        attributes = map(dict.values, map(vars, self._modules))
        held: list[Any] = list(chain.from_iterable(attributes))
        for position in self._hidden:
            if position < len(held):
                held[position] = None
        held += chain.from_iterable(map(dict.values, filter(None, self._dicts)))
        for mapping in self._mappings:
            held.extend(mapping.values())
        for row in self._rows:
            held.extend(row)
        for function in self._functions:
            held += (function.__code__, function.__defaults__, function.__kwdefaults__)
            held += map(held_by, function.__closure__ or ())
        held += [holder.get(name) for holder, name in self._variables]
        held += [getattr(value, name, None) for value, name in self._slots]
        held += map(sample_octets, self._arrays)
        return held


class _Seen:
    """What was seen of tensors."""

    def __init__(self, places: list[Any], versions: list[Any], samples: list[bytes] | None) -> None:
        self.places, self.versions, self.samples = places, versions, samples

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Seen) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class _Tensors:
    """Tensors, with views of some of their values that are gathered at once."""

    def __init__(self, tensors: list[Tensor]) -> None:
        is_small = sum(tensor.numel() for tensor in tensors) <= _N_SMALL
        self._tensors = [tensor for tensor in tensors if _is_plain(tensor)]
        # Those of inference mode have no version.
        self._counted = [tensor for tensor in tensors if not tensor.is_inference()]
        views = defaultdict(list)
        for tensor in self._tensors:
            parts = _some_of(tensor.detach(), in_whole=is_small)
            views[tensor.dtype, tensor.device].extend(parts)
        self._views = list(views.values())

    def look(self, last: _Seen | None = None) -> _Seen:
        places = [tensor.data_ptr() for tensor in self._tensors]
        versions = [tensor._version for tensor in self._counted]
        if last is not None and last.places != places:
            return _Seen(places, versions, None)  # the memory of the views may be gone
        with torch.no_grad():
            samples = [torch.cat(views).view(torch.uint8).cpu() for views in self._views]
        return _Seen(places, versions, [sample.numpy().tobytes() for sample in samples])


def _tensors_of(network: nn.Module, met: list[Any], left_out: Set[str]) -> list[Tensor]:
    named = chain(network.named_parameters(), network.named_buffers())
    tensors = [tensor for name, tensor in named if name not in left_out]
    known = set(map(id, tensors))
    others = (value for value in met if isinstance(value, Tensor) and id(value) not in known)
    return [*tensors, *others]


def _is_plain(tensor: Tensor) -> bool:
    """Whether it has memory of its own, in which numbers lie by strides."""
    return (
        type(tensor) in (Tensor, nn.Parameter, nn.Buffer)
        and tensor.layout is torch.strided
        and not (tensor.is_quantized or tensor.is_meta or tensor.is_nested)
        and tensor.numel() > 0
    )


def _some_of(tensor: Tensor, *, in_whole: bool) -> list[Tensor]:
    """Views of some of the values, or of all; one after the other where they lie so."""
    if not tensor.is_contiguous():
        # Along the longest axis.
        axis = max(range(tensor.ndim), key=tensor.shape.__getitem__)
        tensor = tensor[tuple(slice(None) if i == axis else 0 for i in range(tensor.ndim))]
    flat = tensor.view(-1) if tensor.is_contiguous() else tensor
    if in_whole or len(flat) <= _N_CHUNKS * _CHUNK:
        return [flat]
    starts = [i * (len(flat) - _CHUNK) // (_N_CHUNKS - 1) for i in range(_N_CHUNKS)]
    return [flat[start : start + _CHUNK] for start in starts]


def _hold_same(held: list[Any], others: list[Any]) -> bool:
    if len(held) != len(others):
        return False
    if all(map(operator.is_, held, others)):
        return True
    return all(_is_same(a, b) for a, b in zip(held, others, strict=True) if a is not b)


def _is_same(one: Any, other: Any) -> bool:
    """Whether what a pass may have made anew is what was there before."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return _is_plain(one) and _is_plain(other) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and _are_same(one.values(), other.values())
    if isinstance(one, tuple | list):
        return len(one) == len(other) and _are_same(one, other)
    return isinstance(one, SCALARS) and bool(one == other)


def _are_same(ones: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(a is b or _is_same(a, b) for a, b in zip(ones, others, strict=True))
