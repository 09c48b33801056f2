"""The calls of modules and functions in a forward pass of a torch network."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import TorchFunctionMode

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
ADDITION = "add"
PRODUCTS = frozenset({"addmm", "einsum", "inner", "linear", "matmul", "mm", "mv", "tensordot"})
"""Functions that may multiply by a weight."""
_REPORTED_FUNCTIONS = ACTIVATION_FUNCTIONS | SQUASHING_FUNCTIONS | PRODUCTS | {ADDITION}


@dataclass(frozen=True)
class Call:
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

    @property
    def key(self) -> tuple[str, int]:
        """Identifies the call in its forward pass."""
        return (self.name, self.number)


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
    functions : bool, default=True
        Whether to report calls of functions.
    """

    def __init__(
        self,
        network: nn.Module,
        on_call: Callable[[Call], Tensor | None],
        *,
        names: Collection[str] | None = None,
        functions: bool = True,
    ) -> None:
        self._network = network
        self._on_call = on_call
        self._names = names
        self._function_listener = _FunctionListener(self._function_called) if functions else None
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._running: list[tuple[str, nn.Module]] = [("", network)]
        self._counts: Counter[str] = Counter()
        self._reporting = False
        self._thread = threading.get_ident()

    def __enter__(self) -> CallListener:
        try:
            for name, module in self._modules_to_hook():
                self._add_hooks(name, module)
        except BaseException:
            self._remove_hooks()
            raise
        if self._function_listener is not None:
            self._function_listener.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._function_listener is not None:
            self._function_listener.__exit__(kind, error, traceback)
        self._remove_hooks()

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _modules_to_hook(self) -> Iterator[tuple[str, nn.Module]]:
        if self._names is not None and self._function_listener is None:
            return ((name, self._network.get_submodule(name)) for name in self._names)
        # All of them: which one calls a function is known from those that are running.
        return readable_modules(self._network)

    def _add_hooks(self, name: str, module: nn.Module) -> None:
        # The methods of nn.Module: scripted modules refuse theirs, but call the hooks.
        if self._function_listener is not None:
            enter = partial(self._module_entered, name)
            self._handles.append(nn.Module.register_forward_pre_hook(module, enter))
        leave = partial(self._module_left, name, uncompiled(module))
        self._handles.append(nn.Module.register_forward_hook(module, leave, with_kwargs=True))

    def _module_entered(self, name: str, module: nn.Module, args: tuple) -> None:
        if threading.get_ident() == self._thread:
            self._running.append((name, uncompiled(module)))

    def _module_left(
        self, name: str, called: nn.Module, module: nn.Module, args: tuple, *others: Any
    ) -> Tensor | None:
        if threading.get_ident() != self._thread:
            # Such a call has no keyword arguments where this hook was just added or removed.
            return None
        kwargs, output = others
        if self._function_listener is not None:
            self._running.pop()
        return self._report(name, called, args, kwargs, output)

    def _function_called(
        self, function: str, args: tuple, kwargs: dict, output: Any
    ) -> Tensor | None:
        caller, module = self._running[-1]
        if self._reporting or _is_part(function, module):
            return None
        name = f"{caller}.{function}" if caller else function
        name = f"{name}()" if function in PRODUCTS else name
        return self._report(name, function, args, kwargs, output)

    def _report(
        self, name: str, called: nn.Module | str, args: tuple, kwargs: dict, output: Any
    ) -> Tensor | None:
        if self._names is not None and name not in self._names:
            return None
        number = self._counts[name]
        self._counts[name] += 1
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        self._reporting = True
        try:
            return self._on_call(Call(name, number, called, inputs, first_tensor(output)))
        finally:
            self._reporting = False


def _is_part(function: str, module: nn.Module) -> bool:
    """Whether a module is reported as a whole, without such a function that it calls."""
    is_linear = isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
    return isinstance(module, ACTIVATION_MODULES) or (is_linear and function in PRODUCTS)


class _FunctionListener(TorchFunctionMode):
    """Reports calls of activation functions, under whichever of their names."""

    def __init__(self, on_function: Callable[[str, tuple, dict, Any], Any]) -> None:
        super().__init__()
        self._on_function = on_function

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        function = getattr(func, "__name__", "").strip("_")
        if function in _REPORTED_FUNCTIONS:
            changed = self._on_function(function, args, kwargs, output)
            return output if changed is None else changed
        return output


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


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in nested tuples, lists and mappings, or None."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return None
    return next((found for item in value if (found := first_tensor(item)) is not None), None)
