"""A cheap look at a torch network that tells whether it seems unchanged."""

from __future__ import annotations

import operator
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import chain, starmap
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._fingerprint import SCALARS, attributes_of_class, held_by, sample_octets, used_by
from .fingerprint import GLOBAL_HOOKS, name_uncompiled
from .memory import as_array

_WEIGHTS_AND_HOOKS = (
    "_parameters",
    "_buffers",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_VERSION = operator.attrgetter("_version")
_N_CHUNKS, _CHUNK = 3, 8
"""Of a tensor, how many parts are looked at, of how many values: what lies side by side is fast."""
_N_SMALL = 20_000
"""Number of values of a network that is looked at in whole."""
_N_SAMPLED = 1000
"""Of how many tensors values are looked at; of the others where they are, and their versions."""
_N_HELD = 20_000
"""Number of objects beside the attributes of modules that are looked at, which takes about 1 ms."""
# Of as many objects a look takes the time.
_COST_OF_SLOT, _COST_OF_FUNCTION, _COST_OF_ARRAY = 3, 10, 100
# Those that nobody holds any more are of no use.
_LATEST: WeakValueDictionary[int, Stamp] = WeakValueDictionary()
_PLAIN_DICTS = (dict, OrderedDict)
_NOT_LOOKED_INTO = (*SCALARS, types.ModuleType, types.CodeType, Tensor, np.ndarray, type)


def find_stamp(
    network: nn.Module, left_out: Set[str], *, at_a_glance: bool = False, after_pass: bool = False
) -> Stamp | None:
    """A stamp of now, equal to the latest one if all seems unchanged; None if there was none.

    At a glance, no values of tensors are looked at, and after a pass no weights, hooks and types.
    """
    latest = _LATEST.get(id(network))
    if latest is None or not latest.fits(network, left_out):
        return None
    if latest.is_current(at_a_glance=at_a_glance, after_pass=after_pass):
        return latest
    return latest.renewed(at_a_glance=at_a_glance)


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
        weights, others = _tensors_of(network, met, left_out)
        self._tensors = _Tensors([*weights, *others])
        self._marks_of_others = _Marks(others)
        self._look_anew(None, at_a_glance=False)

    def _look_anew(self, last: _Seen | None, *, at_a_glance: bool) -> None:
        self._records, self._parts = self._holders.records.look(), self._holders.parts.look()
        self._of_others = self._marks_of_others.look()
        self._seen = self._tensors.look(last, at_a_glance=at_a_glance)

    def fits(self, network: nn.Module, left_out: Set[str]) -> bool:
        """Whether it is a stamp of this very network."""
        return network is self._network and left_out == self._left_out

    def is_current(self, *, at_a_glance: bool = False, after_pass: bool = False) -> bool:
        """Whether a stamp of now would be equal; fast where nothing has changed."""
        if not self._holders.records.hold(self._records):
            return False
        if after_pass:
            return self._marks_of_others.look() == self._of_others
        return self._holders.parts.hold(self._parts) and self._tensors.show(
            self._seen, at_a_glance=at_a_glance
        )

    def renewed(self, *, at_a_glance: bool = False) -> Stamp:
        """A stamp of now."""
        new = object.__new__(Stamp)
        vars(new).update(vars(self))
        new._look_anew(self._seen, at_a_glance=at_a_glance)
        return new

    def __deepcopy__(self, memo: dict) -> Stamp:
        return self  # of the same network, whatever its owner becomes

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Stamp) or other._holders is not self._holders:
            return False
        return (
            self._seen == other._seen
            and _hold_same(self._records, other._records)
            and _hold_same(self._parts, other._parts)
        )

    __hash__ = None  # type: ignore[assignment]


class _Holders:
    """Objects that may be changed in place, and how to look at what they hold.

    Where there is more than a look has time for, the last ones that were met are left out.

    Attributes
    ----------
    records : _Objects
        All that a pass may exchange, but for weights.
    parts : _Objects
        Weights, hooks and types: what these are is no matter of a pass.
    """

    def __init__(self, network: nn.Module, met: list[Any], left_out: Set[str]) -> None:
        self._modules = [value for value in met if isinstance(value, nn.Module)]
        self._attributes = [*map(vars, self._modules)]
        self._hidden = list(_positions_left_out(network, self._modules, left_out))
        """Which of the attributes of all modules are no settings."""
        self._typed: list[Any] = [*self._modules]
        self._dicts = self._own_dicts(["_modules"])
        dicts_of_parts = self._own_dicts(_WEIGHTS_AND_HOOKS)
        dicts_of_parts += [getattr(nn.modules.module, name) for name in GLOBAL_HOOKS]
        self._known = set(map(id, [*self._dicts, *dicts_of_parts]))
        self._classes: list[Mapping[str, Any]] = []
        self._rows: list[tuple[type, Any]] = []
        self._slots: list[tuple[types.MemberDescriptorType, Any]] = []
        self._functions: list[types.FunctionType] = []
        self._variables: list[tuple[dict[str, Any], str]] = []
        self._arrays: list[NDArray] = []
        self._room = _N_HELD
        for value in met:
            if self._room <= 0:
                break
            with suppress(Exception):  # objects of others may do anything where they are looked at
                self._add(value)
        self._in_records, self._in_parts = _Dicts(self._dicts), _Dicts(dicts_of_parts)
        self.records, self.parts = _Objects(self._look_at_records), _Objects(self._look_at_parts)

    def _own_dicts(self, kinds: Sequence[str]) -> list[dict[Any, Any]]:
        """Those of some kinds that all modules have."""
        held = (vars(module).get(kind) for module in self._modules for kind in kinds)
        return [value for value in held if isinstance(value, dict)]

    def _has_room(self, n: int) -> bool:
        """Whether a number of values more can be looked at; counts them if so."""
        if n > self._room:
            return False
        self._room -= n
        return True

    # One branch for each kind of object.
    def _add(self, value: Any) -> None:  # noqa: C901, PLR0912
        if isinstance(value, types.FunctionType):
            variables = list(used_by(value))
            if self._has_room(_COST_OF_FUNCTION + len(variables)):
                self._functions.append(value)
                self._variables += variables
        elif isinstance(value, type):
            if attributes_of_class(value) and self._has_room(len(vars(value))):
                self._classes.append(vars(value))
        elif isinstance(value, np.ndarray):
            if self._has_room(_COST_OF_ARRAY):
                self._arrays.append(value)
        elif isinstance(value, dict):
            self._add_dict(value)
        elif isinstance(value, list | deque | set):
            if self._has_room(len(value)):
                kind = next(kind for kind in (list, deque, set) if isinstance(value, kind))
                self._rows.append((kind, value))
        elif not isinstance(value, _NOT_LOOKED_INTO):
            self._add_object(value)

    def _add_dict(self, value: dict[Any, Any]) -> None:
        if id(value) not in self._known and self._has_room(dict.__len__(value)):
            self._known.add(id(value))
            self._dicts.append(value)

    def _add_object(self, value: Any) -> None:
        # That of an annotation such as ``dict[str, int]`` is the one of the class.
        is_module = isinstance(value, nn.Module)  # whose type and attributes are looked at already
        if not is_module and isinstance(held := getattr(value, "__dict__", None), dict):
            self._typed.append(value)
            self._add_dict(held)
        slots = [
            held
            for kind in type(value).__mro__
            for name, held in vars(kind).items()
            if isinstance(held, types.MemberDescriptorType) and not name.startswith("__")
        ]
        if slots and self._has_room(_COST_OF_SLOT * len(slots)):
            self._slots += [(slot, value) for slot in slots]

    def _look_at_records(self) -> list[Any]:
        # In loops that Python itself runs, and by no code of others: there are many objects.
        held: list[Any] = list(chain.from_iterable(map(dict.values, self._attributes)))
        hidden = self._hidden
        if hidden and hidden[-1] >= len(held):  # where attributes are gone
            hidden = [position for position in hidden if position < len(held)]
        for position in hidden:
            held[position] = None
        held += self._in_records.values()
        for attributes_of_one in self._classes:
            held.extend(attributes_of_one.values())
        for kind, row in self._rows:
            held.extend(kind.__iter__(row))  # type: ignore[attr-defined]
        for function in self._functions:
            held += (function.__code__, function.__defaults__, function.__kwdefaults__)
            held += map(held_by, function.__closure__ or ())
        held += [holder.get(name) for holder, name in self._variables]
        held += starmap(_in_slot, self._slots)
        held += map(sample_octets, self._arrays)
        return held

    def _look_at_parts(self) -> list[Any]:
        # Of modules, what is looked at in records is this very dict.
        has_same_dicts = all(map(operator.is_, map(vars, self._modules), self._attributes))
        return [has_same_dicts, *map(type, self._typed), *self._in_parts.values()]


class _Dicts:
    """Dicts, of which most may be for hooks that nobody has added."""

    def __init__(self, dicts: list[dict[Any, Any]]) -> None:
        self._vacant = [held for held in dicts if type(held) in _PLAIN_DICTS and not held]
        empty = set(map(id, self._vacant))
        self._others = [held for held in dicts if id(held) not in empty]

    def values(self) -> Iterator[Any]:
        """All that they hold, in one order."""
        held = chain(self._others, self._vacant) if any(self._vacant) else self._others
        return chain.from_iterable(map(dict.values, held))


class _Objects:
    """What is found in some places, again and again.

    Parameters
    ----------
    look : callable
        Returns a list of it, in one order.
    """

    def __init__(self, look: Callable[[], list[Any]]) -> None:
        self.look = look
        self._decided = [place for place, value in enumerate(look()) if _decides(value)]
        """Which of the objects say themselves what they are equal to."""

    def hold(self, known: list[Any]) -> bool:
        """Whether the places hold what they were seen to hold."""
        held = self.look()
        try:  # of lists, the items that are the same objects are equal; others are here and there
            if held == known:
                return all(_is_same(held[place], known[place]) for place in self._decided)
        except Exception:  # tensors that are not the same say nothing of being equal
            pass
        return _hold_same(held, known)


def _positions_left_out(
    network: nn.Module, modules: list[nn.Module], left_out: Set[str]
) -> Iterator[int]:
    """Which of the attributes of modules, one module after the other, are not to be looked at."""
    names = {id(module): name_uncompiled(name) for name, module in network.named_modules()}
    keys = ((names.get(id(module)), key) for module in modules for key in vars(module))
    for position, (name, key) in enumerate(keys):
        if key == "training" or f"{name}.{key}" in left_out:
            yield position


def _in_slot(slot: types.MemberDescriptorType, value: Any) -> Any:
    try:
        return slot.__get__(value)
    except AttributeError:  # not assigned yet
        return None


class _Marks:
    """By what it shows that tensors were written to, or lie elsewhere."""

    def __init__(self, tensors: list[Tensor]) -> None:
        # Those of inference mode have no version.
        plain = [tensor for tensor in tensors if _is_plain(tensor)]
        self._tensors = [tensor for tensor in plain if not tensor.is_inference()]
        self._uncounted = [tensor for tensor in plain if tensor.is_inference()]
        self._others = [t for t in tensors if not (_is_plain(t) or t.is_inference())]

    def look(self) -> list[int]:
        """The versions of tensors and where they are."""
        marks = [*map(_VERSION, self._tensors), *map(Tensor.data_ptr, self._tensors)]
        marks += map(Tensor.data_ptr, self._uncounted)
        marks += map(_VERSION, self._others)
        return marks

    def places_in(self, marks: list[int]) -> list[int]:
        """Those of the marks that say where tensors are."""
        n = len(self._tensors)
        return marks[n : 2 * n + len(self._uncounted)]


class _Seen:
    """What was seen of tensors."""

    def __init__(self, marks: list[int], samples: list[bytes] | None) -> None:
        self.marks, self.samples = marks, samples

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Seen) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class _Tensors:
    """Tensors, with views of some of their values that are gathered at once."""

    def __init__(self, tensors: list[Tensor]) -> None:
        is_small = sum(tensor.numel() for tensor in tensors) <= _N_SMALL
        plain = [tensor for tensor in tensors if _is_plain(tensor)]
        self._marks = _Marks(tensors)
        self._octets: list[memoryview] = []
        """Values in the memory of this process, which are sooner read without torch."""
        views = defaultdict(list)
        step = -(-len(plain) // _N_SAMPLED)
        for tensor in plain[:: max(step, 1)]:
            flat = _flat(tensor.detach())
            octets = _octets_of(flat)
            for chunk in [slice(None)] if is_small else _chunks(len(flat)):
                if octets is None:
                    views[tensor.dtype, tensor.device].append(flat[chunk])
                else:
                    self._octets.append(octets[chunk])
        self._views = list(views.values())

    def look(self, last: _Seen | None = None, *, at_a_glance: bool = False) -> _Seen:
        """What is seen now; of what ``last`` was seen, the values at a glance."""
        marks, places_in = self._marks.look(), self._marks.places_in
        if last is not None and places_in(marks) != places_in(last.marks):
            return _Seen(marks, None)  # the memory of the views may be gone
        if last is not None and at_a_glance:
            return _Seen(marks, last.samples)
        return _Seen(marks, self._samples())

    def show(self, seen: _Seen, *, at_a_glance: bool) -> bool:
        """Whether they show what was seen; at a glance, no values are looked at."""
        if self._marks.look() != seen.marks:
            return False
        return at_a_glance or self._samples() == seen.samples

    def _samples(self) -> list[bytes]:
        with torch.no_grad():
            samples = [torch.cat(views).view(torch.uint8).cpu() for views in self._views]
        return [b"".join(self._octets), *(sample.numpy().tobytes() for sample in samples)]


def _tensors_of(
    network: nn.Module, met: list[Any], left_out: Set[str]
) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and buffers, and the tensors beside them that were met."""
    named = chain(network.named_parameters(), network.named_buffers())
    weights = [tensor for name, tensor in named if name_uncompiled(name) not in left_out]
    known = set(map(id, weights))
    others = (value for value in met if isinstance(value, Tensor) and id(value) not in known)
    return weights, list(others)


def _is_plain(tensor: Tensor) -> bool:
    """Whether it has memory of its own, in which numbers lie by strides."""
    return (
        type(tensor) in (Tensor, nn.Parameter, nn.Buffer)
        and tensor.layout is torch.strided
        and not (tensor.is_quantized or tensor.is_meta or tensor.is_nested)
        and tensor.numel() > 0
    )


def _flat(tensor: Tensor) -> Tensor:
    """A view of all values, or where these do not lie side by side of those along one axis."""
    if not tensor.is_contiguous():
        # Along the longest axis.
        axis = max(range(tensor.ndim), key=tensor.shape.__getitem__)
        tensor = tensor[tuple(slice(None) if i == axis else 0 for i in range(tensor.ndim))]
    return tensor.view(-1) if tensor.is_contiguous() else tensor


def _octets_of(flat: Tensor) -> memoryview | None:
    """The octets of each value, where these lie side by side in the memory of this process."""
    lies_here = flat.device.type == "cpu" and flat.is_contiguous()
    if not lies_here or flat.is_conj() or flat.is_neg():
        return None
    octets: Any = as_array(flat.view(torch.uint8))
    return memoryview(octets.reshape(len(flat), flat.element_size()))


def _chunks(n_values: int) -> list[slice]:
    """Which of so many values are looked at."""
    if n_values <= _N_CHUNKS * _CHUNK:
        return [slice(None)]
    starts = [i * (n_values - _CHUNK) // (_N_CHUNKS - 1) for i in range(_N_CHUNKS)]
    return [slice(start, start + _CHUNK) for start in starts]


def _hold_same(held: list[Any], others: list[Any]) -> bool:
    if len(held) != len(others):
        return False
    if all(map(operator.is_, held, others)):
        return True
    return _are_same(held, others)


def _is_same(one: Any, other: Any) -> bool:
    """Whether what a pass may have made anew is what was there before."""
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, Tensor):
        return _is_plain(one) and _is_plain(other) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and _are_same(one.values(), other.values())
    if isinstance(one, tuple | list):
        return len(one) == len(other) and _are_same(one, other)
    return isinstance(one, SCALARS) and bool(one == other)


def _are_same(ones: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(a is b or _is_same(a, b) for a, b in zip(ones, others, strict=True))


def _decides(value: Any) -> bool:
    """Whether an object that is not the same may be called equal without being like it."""
    kind = type(value)  # what it says of its class may be an error
    if issubclass(kind, tuple):
        return any(map(_decides, tuple.__iter__(value)))
    if issubclass(kind, np.ndarray):
        return True
    return isinstance(kind.__eq__, types.FunctionType) and not issubclass(kind, Tensor)
