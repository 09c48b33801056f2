"""The calls of modules and functions in a forward pass of a torch network."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import TorchFunctionMode, _get_current_function_mode

_NOT_ACTIVATIONS = {"MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "LogSoftmax"}
ACTIVATION_MODULES = tuple(
    getattr(nn, name) for name in nn.modules.activation.__all__ if name not in _NOT_ACTIVATIONS
)
ACTIVATION_FUNCTIONS = frozenset(
    {
        "celu",
        "elu",
        "gelu",
        "glu",
        "hardshrink",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "log_sigmoid",
        "mish",
        "prelu",
        "relu",
        "relu6",
        "rrelu",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "softshrink",
        "softsign",
        "tanh",
        "tanhshrink",
        "threshold",
    }
)
SQUASHING_MODULES = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)
SQUASHING_FUNCTIONS = frozenset({"log_softmax", "sigmoid", "softmax"})
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PRODUCTS = frozenset({"addmm", "einsum", "inner", "linear", "matmul", "mm", "mv", "tensordot"})
"""Functions that may multiply by a weight."""
SUMS = frozenset({"add", "addcdiv", "addcmul", "radd", "rsub", "sub", "subtract"})
"""Functions that may add a skip."""
BENDS = frozenset(
    {
        "abs",
        "absolute",
        "arcsinh",
        "arctan",
        "asinh",
        "atan",
        "clamp",
        "clamp_max",
        "clamp_min",
        "clip",
        "cos",
        "div",
        "divide",
        "erf",
        "erfc",
        "exp",
        "exp2",
        "expit",
        "expm1",
        "float_power",
        "log",
        "log1p",
        "masked_fill",
        "max",
        "maximum",
        "min",
        "minimum",
        "mul",
        "multiply",
        "pow",
        "rdiv",
        "reciprocal",
        "rpow",
        "rsqrt",
        "setitem",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "tan",
        "true_divide",
        "where",
    }
)
"""Functions that may be activation functions, or the last that computes one."""
ELEMENTARY = (SUMS - {"add"}) | BENDS
"""Functions that many values go through, and which only "auto" looks at."""
_REPORTED_FUNCTIONS = ACTIVATION_FUNCTIONS | SQUASHING_FUNCTIONS | PRODUCTS | SUMS | BENDS

Report = Callable[[str, "nn.Module | str", tuple, dict, Any], Tensor | None]
"""Told the name of a call, the module or function, its arguments, and what it returned; what it
returns itself takes the place of this."""


class Call(NamedTuple):
    """One call of a module or of a function, as it has just returned."""

    name: str
    """Of the module; or of the module in whose ``forward`` the function is called, a dot, and the
    name of the function, for a product with parentheses, as it is no layer."""
    number: int
    """How many calls of this name there were before in the same forward pass."""
    called: nn.Module | str
    """The module, or the bare name of the function."""
    inputs: list[Tensor]
    output: Tensor | None
    """The first tensor in what is returned."""
    running: tuple[str, ...] = ()
    """Names of the modules in whose ``forward`` it is called, the innermost first; only where all
    calls are reported."""

    @property
    def key(self) -> tuple[str, int]:
        """Identifies the call in its forward pass."""
        return (self.name, self.number)


class StandingHook:
    """A hook that reports to the listener of the thread that runs, or does nothing.

    A copy of a network has hooks that only take themselves away, at the first call.

    Parameters
    ----------
    here : threading.local or None
        Of each thread, the ``listener``; None in a copy.
    report : callable
        Given the listener, the name, and what the module was given and returned.
    name : str
        Name of the module.
    """

    __slots__ = ("_here", "_name", "_report")

    def __init__(self, here: Any, report: Callable[..., Tensor | None], name: str) -> None:
        self._here, self._report, self._name = here, report, name

    def __call__(self, module: nn.Module, *call: Any) -> Tensor | None:
        if self._here is None:
            self._leave(module)
            return None
        listener = getattr(self._here, "listener", None)
        return None if listener is None else self._report(listener, self._name, module, *call)

    def _leave(self, module: nn.Module) -> None:
        for kind in ("_forward_hooks", "_forward_pre_hooks"):
            hooks = vars(module)[kind]
            for number in [number for number, hook in hooks.items() if hook is self]:
                del hooks[number]
                module._forward_hooks_with_kwargs.pop(number, None)

    def __reduce__(self) -> Any:
        return _unheard_hook, ()

    def __deepcopy__(self, memo: dict) -> StandingHook:
        return _unheard_hook()


def _unheard_hook() -> StandingHook:
    return StandingHook(None, lambda listener, *call: None, "")


class ListeningPost:
    """Hooks on modules of a network, for one listener of each thread.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    names : collection of str, default=None
        Names of the calls to report; by default all.
    quiet : collection of str, default=()
        Names of modules in which a listener to functions pauses.
    certain : collection of str, default=()
        Of ``names``, those of modules whose calls are heard as they are.
    """

    def __init__(
        self,
        network: Any,
        names: Collection[str] | None = None,
        quiet: Collection[str] = (),
        certain: Collection[str] = (),
    ) -> None:
        self._network, self._names, self._quiet = network, names, quiet
        self._certain = certain
        self._names_by_id: dict[int, str] = {}
        self._hooked: list[tuple[str, nn.Module]] | None = None
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self.here = threading.local()
        """Of each thread, the ``listener``."""

    @property
    def names_by_id(self) -> dict[int, str]:
        """The name of each module whose calls can be observed, by its identity."""
        self._names_by_id = self._names_by_id or _names_by_id(self._network)
        return self._names_by_id

    @property
    def is_manned(self) -> bool:
        """Whether the hooks are there."""
        return bool(self._handles)

    def man(self) -> None:
        """Add the hooks."""
        try:
            if self._hooked is None:
                self._hooked = list(self._modules_to_hook())
            for name, module in self._hooked:
                is_certain = name in self._certain
                report = CallListener.module_heard if is_certain else CallListener.module_left
                self._add(nn.Module.register_forward_hook, module, report, name, with_kwargs=True)
            for name in self._quiet:
                module = self._network.get_submodule(name)
                self._add(nn.Module.register_forward_pre_hook, module, CallListener.pause, name)
                self._add(nn.Module.register_forward_hook, module, CallListener.go_on, name)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Remove the hooks."""
        while self._handles:
            self._handles.pop().remove()

    def _add(
        self, register: Callable[..., Any], module: nn.Module, report: Any, name: str, **kwargs: Any
    ) -> None:
        # The method of nn.Module: scripted modules refuse theirs, but call the hooks.
        self._handles.append(register(module, StandingHook(self.here, report, name), **kwargs))

    def _modules_to_hook(self) -> Iterator[tuple[str, nn.Module]]:
        if self._names is None:
            yield from readable_modules(self._network)
            return
        for name in self._names:
            # There is no such module where this is the name of a function.
            with suppress(AttributeError):
                yield name, self._network.get_submodule(name)


class CallListener:
    """Context manager that reports each call of a module or function in a forward pass.

    Calls of the network from other threads are not reported.

    Parameters
    ----------
    network : torch.nn.Module
        The network, whose own call is not reported.
    on_call : callable
        Called with each :class:`Call`. A tensor that it returns takes the place of the output.
    names : collection of str, default=None
        Names of the calls to report; by default all.
    callers : Callers, default=None
        Where the functions among ``names`` are called, if that is known; to listen there alone
        costs less.
    post : ListeningPost, default=None
        Where it listens, for the same names and callers, with hooks that may be there already.
    hear : callable, default=None
        Called in place of ``on_call`` where a module is among ``certain`` of the post: with its
        name, what it was given by position and by keyword, and what it returned.
    """

    def __init__(
        self,
        network: Any,
        on_call: Callable[[Call], Tensor | None],
        *,
        names: Collection[str] | None = None,
        callers: Callers | None = None,
        post: ListeningPost | None = None,
        hear: Callable[[str, tuple, dict, Any], None] | None = None,
    ) -> None:
        self._network = network
        self._on_call, self._hear = on_call, hear
        self._names = names
        self._functions = _REPORTED_FUNCTIONS
        self._function_listener: _FunctionListener | None = None
        if callers is None or callers.outer:
            self._function_listener = _FunctionListener(self._function_called)
            if names is not None:
                self._functions &= {name.rpartition(".")[2].removesuffix("()") for name in names}
        quiet = frozenset() if callers is None else callers.quiet
        self._post = ListeningPost(network, names, quiet) if post is None else post
        self._mans_post = False
        self._names_by_id: dict[int, str] = {}
        self._counts: Counter[str] = Counter()
        self._reporting = False

    def __enter__(self) -> CallListener:
        if hasattr(self._network, "report"):
            # It calls no modules, and reports what it was made from itself.
            self._network.report = self._report
            return self
        if not self._post.is_manned:
            self._post.man()
            self._mans_post = True
        self._post.here.listener = self
        if self._function_listener is not None:
            self._names_by_id = self._post.names_by_id
            self._function_listener.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if hasattr(self._network, "report"):
            self._network.report = None
            return
        if self._function_listener is not None:
            self._function_listener.__exit__(kind, error, traceback)
        self._post.here.listener = None
        if self._mans_post:
            self._post.leave()

    def pause(self, *args: Any) -> None:
        """Hear no functions while a module runs."""
        if self._function_listener is not None:
            self._function_listener.pause()

    def go_on(self, *args: Any) -> None:
        """Hear them again."""
        if self._function_listener is not None:
            self._function_listener.go_on()

    def module_heard(
        self, name: str, module: nn.Module, args: tuple, kwargs: dict, output: Any
    ) -> None:
        """Hear a call of a module of which all is known that can be."""
        assert self._hear is not None
        self._reporting = True
        try:
            self._hear(name, args, kwargs, output)
        finally:
            self._reporting = False

    def module_left(
        self, name: str, module: nn.Module, args: tuple, kwargs: dict, output: Any
    ) -> Tensor | None:
        """Report a call of a module."""
        return self._report(name, uncompiled(module), args, kwargs, output)

    def _function_called(
        self, function: str, args: tuple, kwargs: dict, output: Any
    ) -> Tensor | None:
        if self._reporting or function not in self._functions:
            return None
        module = next(_running_modules(self._names_by_id), None)
        if module is None:
            return None
        name = name_function(function, self._names_by_id[id(module)], module)
        return None if name is None else self._report(name, function, args, kwargs, output)

    def _report(
        self, name: str, called: nn.Module | str, args: tuple, kwargs: dict, output: Any
    ) -> Tensor | None:
        if self._names is not None and name not in self._names:
            return None
        number = self._counts[name]
        self._counts[name] += 1
        inputs = tensors_in(args, kwargs)
        running: tuple[str, ...] = ()
        if self._names is None:
            modules = _running_modules(self._names_by_id)
            running = tuple(self._names_by_id[id(m)] for m in modules if m is not called)
        self._reporting = True
        try:
            return self._on_call(Call(name, number, called, inputs, first_tensor(output), running))
        finally:
            self._reporting = False


def name_function(function: str, caller: str, module: nn.Module) -> str | None:
    """Name of the call of a function by a module, or None where it is not reported.

    Some modules are reported as a whole, without the functions that they call.
    """
    is_linear = isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
    is_part = isinstance(module, ACTIVATION_MODULES) or (is_linear and function in PRODUCTS)
    # The network's own call is not reported as a whole.
    if (is_part and caller) or function not in _REPORTED_FUNCTIONS:
        return None
    name = f"{caller}.{function}" if caller else function
    return f"{name}()" if function in PRODUCTS else name


class Callers(NamedTuple):
    """Where functions are called that are to be reported."""

    outer: frozenset[str]
    """Names of the modules that run when they are called; none if there are no such functions."""
    quiet: frozenset[str]
    """Names of modules that these call, and in which no such function is called."""


class _FunctionListener(TorchFunctionMode):
    """Reports calls of functions, under whichever of their names; can be paused."""

    def __init__(self, on_function: Callable[[str, tuple, dict, Any], Any]) -> None:
        super().__init__()
        self._on_function = on_function
        self._is_paused = False
        self._n_pauses = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        function = plain_name(func)
        if function in _REPORTED_FUNCTIONS:
            yielded = args[0] if function == "setitem" else output
            changed = self._on_function(function, args, kwargs, yielded)
            return output if changed is None else changed
        return output

    def __exit__(self, *error: Any) -> None:
        # What raised an error while there was a pause has not ended it.
        if not self._is_paused:
            super().__exit__(*error)

    def pause(self) -> None:
        """Hear nothing, where that is possible, until ``go_on`` is called as often."""
        self._n_pauses += 1
        # A mode of the network's own that came later must be left first.
        if self._n_pauses == 1 and _get_current_function_mode() is self:
            self._is_paused = True
            super().__exit__(None, None, None)

    def go_on(self) -> None:
        """End a pause."""
        self._n_pauses -= 1
        if self._n_pauses == 0 and self._is_paused:
            self._is_paused = False
            self.__enter__()


_CODE_OF_CALLS = nn.Module._call_impl.__code__


def _running_modules(known: Mapping[int, str]) -> Iterator[nn.Module]:
    """The known modules in whose ``forward`` this thread is, the innermost first.

    They are read from the stack, which costs less than hooks on all modules that say so.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CODE_OF_CALLS and id(module := frame.f_locals["self"]) in known:
            yield module
        frame = frame.f_back


def _names_by_id(network: nn.Module) -> dict[int, str]:
    """The name of each module whose calls can be observed, by its identity."""
    return {id(network): ""} | {
        id(uncompiled(module)): name for name, module in readable_modules(network)
    }


def plain_name(function: Any) -> str:
    """Name of a function of torch, which operators and methods in place have in other forms."""
    name = getattr(function, "__name__", "").partition(".")[0].strip("_")
    return str(name).removeprefix("special_")


def readable_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules inside a network whose calls can be observed, with their names.

    What torch.compile wraps has the name of the wrapper. Calls inside a scripted module
    cannot be observed, and modules that compute weights are no layers.
    """
    seen: set[int] = set()

    def visit(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        if isinstance(module, torch.jit.ScriptModule | ParametrizationList):
            return
        for key, child in uncompiled(module)._modules.items():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                if not isinstance(child, ParametrizationList):
                    yield prefix + key, child
                yield from visit(child, f"{prefix}{key}.")

    return visit(network, "")


def uncompiled(module: nn.Module) -> nn.Module:
    """The module that torch.compile wrapped, or the module itself."""
    while "_orig_mod" in module._modules:
        module = module._modules["_orig_mod"]  # type: ignore[assignment]
    return module


def tensors_in(args: tuple, kwargs: dict) -> list[Tensor]:
    """The tensors that a call is given."""
    return [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in nested tuples, lists and mappings, or None."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return None
    return next((found for item in value if (found := first_tensor(item)) is not None), None)
