"""Random numbers that the reading thread draws, and that are given back.

The global generators belong to all threads. They are put back only where the reading thread has
drawn from them: otherwise what another thread has drawn meanwhile would be drawn again.
"""

from __future__ import annotations

import copy
import ctypes
import random
import sys
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

SOURCES = frozenset({"torch", "numpy", "random"})
_OF_NUMPY = "MT19937"
_N_OCTETS = 4 * (624 + 1)
"""Of the state of this generator: its key, and the position in it."""
_N_HEARD = 2
"""Of what a loader yields first, the number that tell whether its data set draws."""
_END = object()

# Which listener to a generator is active must be known to those who take its place.
_LOCK = threading.RLock()
_local = threading.local()


@contextmanager
def numbers_given_back() -> Iterator[None]:
    """Give back, at the end, what this thread has drawn in the blocks of ``drawing`` inside.

    Networks that draw nothing leave the generators alone. A block inside another is part of it.
    """
    if getattr(_local, "drawn", None) is not None:
        yield
        return
    drawn = _local.drawn = _Drawn()
    try:
        yield
    finally:
        _local.drawn = None
        drawn.give_back()


@contextmanager
def drawing(
    known: Set[str] = frozenset(),
    *,
    listen: bool = False,
    again: Callable[[], Any] | None = None,
) -> Iterator[Set[str]]:
    """Block in which this thread may draw numbers; to be used in ``numbers_given_back``.

    Yields the generators that it has drawn from, known at the end.

    Parameters
    ----------
    known : set of str, default=frozenset()
        Generators that it draws from, of ``SOURCES``.
    listen : bool, default=False
        Whether to find out who draws at once, where there are other threads.
    again : callable, default=None
        Does the same again, by which to find out who has drawn.
    """
    found: set[str] = set()
    with numbers_given_back():
        drawn: _Drawn = _local.drawn
        before = _States()
        listener = _Listener(SOURCES if listen and _has_company() else drawn.unclear)
        try:
            with listener.active() if listener.sources else nullcontext():
                yield found
        finally:
            if changed := before.changed():
                found.update(_own(changed, known, listener, drawn, again))
                drawn.note(found, before)


def _own(
    changed: set[str],
    known: Set[str],
    listener: _Listener,
    drawn: _Drawn,
    again: Callable[[], Any] | None,
) -> set[str]:
    """Which of the changed generators this thread has drawn from."""
    if not _has_company():
        return changed
    unclear = changed - known - listener.sources
    if unclear and again is not None:
        drawn.unclear |= unclear
        listener = _Listener(unclear | listener.sources, listener.drew)
        try:
            with listener.active():
                again()
        except Exception:  # what cannot be repeated may have drawn
            listener.drew |= unclear
    return changed & (known | listener.drew)


def _has_company() -> bool:
    return threading.active_count() > 1


class _Drawn:
    """What a thread has drawn so far."""

    def __init__(self) -> None:
        self.unclear: set[str] = set()
        """Generators that others may draw from at the same time."""
        self._states: dict[str, _States] = {}

    def note(self, sources: Set[str], before: _States) -> None:
        for source in sources:
            self._states.setdefault(source, before)

    def give_back(self) -> None:
        for source, states in self._states.items():
            states.restore(source)


class _States:
    """The states of the global generators."""

    def __init__(self) -> None:
        self._torch = _states_of_torch()
        self._numpy = _OF_GLOBAL_NUMPY.state()
        self._random = random.getstate()

    def changed(self) -> set[str]:
        torch_now = _states_of_torch()
        is_same = {
            "torch": len(torch_now) == len(self._torch)
            and all(map(torch.equal, self._torch, torch_now)),
            "numpy": self._numpy == _OF_GLOBAL_NUMPY.state(),
            "random": self._random == random.getstate(),
        }
        return {source for source in is_same if not is_same[source]}

    def restore(self, source: str) -> None:
        if source == "random":
            random.setstate(self._random)
        elif source == "numpy":
            _OF_GLOBAL_NUMPY.restore(self._numpy)
        else:
            torch.set_rng_state(self._torch[0])
            for number, state in enumerate(self._torch[1:]):
                torch.cuda.set_rng_state(state, number)


def _states_of_torch() -> list[torch.Tensor]:
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]


class _NumPy:
    """State of the global generator of NumPy, read in no time where nothing has been drawn.

    Beside its key and its position stands the normal number that it keeps for the next call, which
    is drawn without a change of them. Only its own way to read the state tells of that, and takes
    longer than small networks do; so it is asked once for each key and position with none kept.
    """

    _none_kept_at = b""

    def state(self) -> Any:
        generator = _generator_of_numpy()
        if type(generator).__name__ != _OF_NUMPY:
            return generator.state, self._kept()
        octets = ctypes.string_at(generator.ctypes.state_address, _N_OCTETS)
        if octets == self._none_kept_at:
            return octets, (0, 0.0)
        kept = self._kept()
        self._none_kept_at = b"" if kept[0] else octets
        return octets, kept

    def restore(self, state: Any) -> None:
        self._none_kept_at = b""
        octets, kept = state
        if isinstance(octets, bytes):
            numbers = np.frombuffer(octets, np.uint32)
            before: Any = (_OF_NUMPY, numbers[:-1], int(numbers[-1]), *kept)
        else:
            before = {**octets, "has_gauss": kept[0], "gauss": kept[1]}
        np.random.set_state(before)  # noqa: NPY002

    def _kept(self) -> tuple[int, float]:
        state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
        return (state["has_gauss"], state["gauss"]) if state["has_gauss"] else (0, 0.0)


def _generator_of_numpy() -> Any:
    return np.random.get_bit_generator()  # type: ignore[attr-defined]


_OF_GLOBAL_NUMPY = _NumPy()


class _Listener:
    """Finds out from which generators this thread draws, whatever other threads do."""

    def __init__(self, sources: Set[str], drew: Set[str] = frozenset()) -> None:
        self.sources = sources
        self.drew = set(drew)
        self._thread = threading.get_ident()

    @contextmanager
    def active(self) -> Iterator[None]:
        ways: dict[str, Callable[[], AbstractContextManager[Any]]] = {
            "torch": lambda: _Operations(self.drew),
            "numpy": self._hearing_numpy,
            "random": self._hearing_random,
        }
        with ExitStack() as stack:
            for source in self.sources:
                stack.enter_context(ways[source]())
            yield

    @contextmanager
    def _hearing_random(self) -> Iterator[None]:
        previous = sys.getprofile()

        def heard(frame: Any, event: Any, called: Any) -> None:
            is_draw = event == "c_call" and getattr(called, "__self__", None) is _RANDOM
            # A number that it keeps for the next call is drawn without a call of the generator.
            if is_draw or (event == "call" and _is_gauss(frame)):
                self.drew.add("random")
            if callable(previous):  # what else measures
                previous(frame, event, called)

        sys.setprofile(heard)  # of this thread alone
        try:
            yield
        finally:
            sys.setprofile(previous)

    @contextmanager
    def _hearing_numpy(self) -> Iterator[None]:
        """Its functions are compiled and call no profiler: report those of this thread."""
        functions = {
            name: function
            for name, function in vars(np.random).items()
            if getattr(function, "__self__", None) is _NUMPY
        }
        with _LOCK:
            try:
                for name, function in functions.items():
                    setattr(np.random, name, self._reporting(function))
                yield
            finally:
                for name, function in functions.items():
                    setattr(np.random, name, function)

    def _reporting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def reporting(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == self._thread:
                self.drew.add("numpy")
            return function(*args, **kwargs)

        return reporting


def _is_gauss(frame: Any) -> bool:
    return frame.f_code is random.Random.gauss.__code__ and frame.f_locals.get("self") is _RANDOM


_RANDOM = random.random.__self__  # type: ignore[attr-defined]
_NUMPY = np.random.random_sample.__self__  # type: ignore[attr-defined]


class _Operations(TorchDispatchMode):
    """Finds out whether operations of this thread draw."""

    supports_higher_order_operators = True

    def __init__(self, drew: set[str]) -> None:
        super().__init__()
        self._drew = drew

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _draws(func, args, kwargs):
            self._drew.add("torch")
        return func(*args, **kwargs)


def _draws(function: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether an operation draws from a global generator."""
    if torch.Tag.nondeterministic_seeded not in getattr(function, "tags", ()):
        return False
    values = {argument.name: argument.default_value for argument in function._schema.arguments}
    values.update(zip(values, args, strict=False))
    values.update(kwargs)
    leaves_out = values.get("dropout_p", 1.0) != 0
    in_training = values.get("training", values.get("train", True)) is not False
    return leaves_out and in_training and values.get("generator") is None


def drawn_apart(loader: DataLoader) -> Iterator[Any]:
    """What a loader yields; what it draws in this thread is given back.

    The seeds of a pass are those that the loader would draw, without drawing them.
    """
    has_processes = loader.num_workers > 0  # they would go on listening
    with drawing(SOURCES if has_processes else frozenset(), listen=not has_processes):
        items = _start(loader)
    known: Set[str] = frozenset()
    for number in count():
        with drawing(known, listen=not has_processes and number < _N_HEARD) as drew:
            item = next(items, _END)
        if item is _END:
            return
        yield item
        known = known | drew if number else known  # of the first, it may have been a seed


def _start(loader: DataLoader) -> Iterator[Any]:
    if loader.generator is not None or loader.persistent_workers:
        return iter(loader)
    own, of_order = torch.Generator(), torch.Generator()
    own.set_state(torch.get_rng_state())
    loader = copy.copy(loader)
    loader.generator = own
    # One of other processes is asked for its order at once.
    is_shuffled = loader.num_workers == 0 and _give_order(loader, of_order)
    items = iter(loader)
    if is_shuffled:
        of_order.manual_seed(_draw_seed(own))
    return items


def _give_order(loader: DataLoader, generator: torch.Generator) -> bool:
    """Let a loader draw its order from a generator, where it would seed one by the global one."""
    sampler: Any = loader.sampler
    if type(sampler) is not RandomSampler or sampler.generator is not None:
        return False
    if type(loader.batch_sampler) is not BatchSampler:
        return False
    sampler, batch_sampler = copy.copy(sampler), copy.copy(loader.batch_sampler)
    sampler.generator = generator
    batch_sampler.sampler = sampler
    vars(loader).update(sampler=sampler, batch_sampler=batch_sampler)
    return True


def _draw_seed(generator: torch.Generator) -> int:
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())
