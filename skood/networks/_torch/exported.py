"""Programs of torch.export, whose graphs call operators and no modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .._base import Batch, LayerCallback, count_samples, take_samples
from .._options import known_options
from .adapter import TorchAdapter
from .calls import (
    ACTIVATION_MODULES,
    CONVOLUTIONS,
    SQUASHING_MODULES,
    Report,
    name_function,
    plain_name,
)
from .chosen_head import WantedHead
from .outputs import AUTO, Wanted
from .recorded import content_key
from .stamp import look_at
from .trace import TorchTrace

# Stand-ins of others would lack attributes by which these are told apart.
_KNOWN = (nn.Linear, *CONVOLUTIONS, *ACTIVATION_MODULES, *SQUASHING_MODULES)
# Operators, with the position of the argument that says whether they act as in training.
_MODES = {
    "alpha_dropout": 2,
    "batch_norm": 5,
    "dropout": 2,
    "feature_dropout": 2,
    "native_dropout": 2,
}


def adapt_program(
    program: torch.export.ExportedProgram, logits: Wanted = AUTO, head: WantedHead = AUTO
) -> ExportedAdapter:
    """The adapter of an exported program."""
    return ExportedAdapter(program, logits, head)


def adapt_graph(module: fx.GraphModule, **options: Any) -> TorchAdapter:
    """The adapter of a module with a graph: of operators, as an exported one, or of modules."""
    called = [node.target for node in module.graph.nodes if node.op == "call_function"]
    of_operators = any(isinstance(target, torch._ops.OpOverload) for target in called)
    adapter = ExportedAdapter if of_operators else TorchAdapter
    return adapter(module, **known_options(module, adapter, options))


class ExportedAdapter(TorchAdapter):
    """Runs a graph of operators, and names their values after the modules that they come from."""

    # What torch writes of a program runs code when it is loaded.
    kept_as = "nothing"
    capabilities = frozenset({"gradients", "perturbation", "logits", "head"})

    def __init__(
        self,
        network: fx.GraphModule | torch.export.ExportedProgram,
        logits: Wanted = AUTO,
        head: WantedHead = AUTO,
    ) -> None:
        super().__init__(network, "auto", logits, head)
        if self.network.n_rows is not None:
            self.capabilities -= {"gradients"}

    @property
    def kind(self) -> str:
        return "an exported program"

    @property
    def _original(self) -> nn.Module:
        given = self._given
        return ExportedNetwork(given if isinstance(given, fx.GraphModule) else given.module())

    def stamp(self, trace: Any = None) -> Any:
        given = self._given
        if isinstance(given, fx.GraphModule):
            return _codes_of(given), look_at([tensor for *_, tensor in _tensors_of(given)])
        # The module around a program takes long to make, and its tensors are the program's own.
        held = [*given.state_dict.values(), *given.constants.values()]
        tensors = [value for value in held if isinstance(value, Tensor)]
        return _codes_of(given.graph_module), look_at(tensors)

    def glance(self, trace: Any = None, *, after_pass: bool = False) -> Any:
        return self.stamp(trace)

    def trace(self, batch: Batch) -> tuple[TorchTrace, dict[str, Tensor]]:
        if self.network.n_rows is None:
            return super().trace(batch)
        # As many samples as the program takes at once, whose values are told as they come.
        n_samples = count_samples(batch)
        rows = [min(row, n_samples - 1) for row in range(self.network.n_rows)]
        trace, layers = super().trace(take_samples(batch, rows))
        values: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor) -> None:
            values[name] = value.clone()

        self.forward(batch, trace, list(layers), keep)
        return trace, {name: values[name] for name in layers}

    def forward_with_gradients(
        self,
        batch: Batch,
        trace: Any,
        layers: Sequence[str],
        keep: LayerCallback,
        keep_gradient: LayerCallback,
    ) -> Tensor:
        if self.network.n_rows is not None:
            raise ValueError(
                "gradients=True needs a program for batches of any size, but this one takes "
                f"{self.network.n_rows} samples: give torch.export.export dynamic_shapes for the "
                "first axis of its inputs."
            )
        return super().forward_with_gradients(batch, trace, layers, keep, keep_gradient)


class ExportedNetwork(nn.Module):
    """Runs a graph node by node, and reports the modules and functions that it was made from.

    Parameters
    ----------
    program : torch.fx.GraphModule
        A graph of operators, whose nodes may know the modules that they come from.

    Attributes
    ----------
    n_rows : int or None
        Size of the batches that the program takes; None for any.
    """

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__()
        _check_mode(program)
        self.code = _codes_of(program)
        self._program = program.graph, dict(program.named_modules())
        self.report: Report | None = None
        """What is told of each call, while somebody listens."""
        self._add_weights(program)
        self._called = _modules_called(self, program.graph)
        self._shapes = {n.name: _shape_of(n) for n in program.graph.nodes if n.op == "placeholder"}
        sizes = {shape[0] for shape in self._shapes.values() if shape}
        self.n_rows = sizes.pop() if len(sizes) == 1 else None

    def _add_weights(self, program: fx.GraphModule) -> None:
        """Take parameters and buffers, under the names that they have in the program."""
        for name, key, value in _tensors_of(program):
            holder = _holder(self, name)
            if isinstance(value, nn.Parameter):
                holder.register_parameter(key, value)
            else:
                holder.register_buffer(key, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program, on a batch of any size."""
        values = self._bind(args, kwargs)
        n_samples = len(values[0])
        if self.n_rows in (None, n_samples):
            return self._run(values, self.report)
        parts = _Parts(n_samples, self.n_rows)
        returned = [self._run(part, parts.recorder()) for part in parts.cut(values)]
        if self.report is not None:
            for name, called, told in parts.joined():
                self.report(name, called, *told)
        return parts.join(list(map(parts.hold, returned)))

    def _run(self, values: list[Tensor], report: Report | None) -> Any:
        graph, modules = self._program
        run = _Interpreter(graph, modules, self._called, report)
        return graph.process_outputs(run.run(*values, enable_io_processing=False))

    def _bind(self, args: tuple, kwargs: dict[str, Any]) -> list[Tensor]:
        """The inputs in the order of the program."""
        names = list(self._shapes)
        given = [*pytree.tree_leaves(args), *(kwargs[n] for n in names if n in kwargs)]
        if len(given) != len(names) or not kwargs.keys() <= set(names):
            raise ValueError(
                f"The exported program takes the inputs {names}, got "
                f"{sorted(kwargs) or len(given)}: pass a mapping of these names to arrays."
            )
        for name, value in zip(names, given, strict=True):
            expected = self._shapes[name]
            found = tuple(value.shape)
            fits = len(found) == len(expected) and all(
                e in (None, f) for e, f in zip(expected[1:], found[1:], strict=True)
            )
            if expected and not fits:
                shape = ", ".join("any" if e is None else str(e) for e in expected[1:])
                raise ValueError(
                    f"The exported program takes inputs {name!r} of shape (n_samples, {shape}), "
                    f"got {found}: export it with dynamic_shapes for axes that change."
                )
        return given


def _codes_of(program: nn.Module) -> list[str]:
    return [module.code for module in program.modules() if isinstance(module, fx.GraphModule)]


def _tensors_of(program: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """The name of each module, and the names and values of its buffers and parameters."""
    for name, owner in program.named_modules(remove_duplicate=False):
        if isinstance(owner, fx.GraphModule) and name:
            continue
        attributes = {k: v for k, v in vars(owner).items() if isinstance(v, Tensor)}
        held = {**owner._buffers, **attributes, **owner._parameters}
        yield from ((name, key, value) for key, value in held.items() if value is not None)


def _holder(network: nn.Module, path: str) -> nn.Module:
    """The module of a path, made where it is missing."""
    for part in filter(None, path.split(".")):
        if part not in network._modules:
            network.add_module(part, nn.Module())
        network = network.get_submodule(part)
    return network


def _shape_of(node: fx.Node) -> tuple[int | None, ...]:
    """Shape of an input, with None for what may change; empty where it is not known."""
    value = node.meta.get("val")
    sizes = value.shape if isinstance(value, Tensor) else ()
    return tuple(size if isinstance(size, int) else None for size in sizes)


def _check_mode(program: fx.GraphModule) -> None:
    for node in program.graph.nodes:
        position = _MODES.get(plain_name(node.target)) if node.op == "call_function" else None
        if position is not None and len(node.args) > position and node.args[position] is True:
            raise ValueError(
                f"The exported program acts as in training at {node.name!r}: call network.eval() "
                "before torch.export.export."
            )


def _modules_called(network: nn.Module, graph: fx.Graph) -> dict[str, nn.Module]:
    """Stand-ins for the modules that a graph was made from, by name, with their weights."""
    called: dict[str, nn.Module] = {}
    for node in graph.nodes:
        for _, name, kind in _stack_of(node):
            if name not in called:
                called[name] = _stand_in(network, name, kind)
            if isinstance(called[name], CONVOLUTIONS) and "conv" in plain_name(node.target):
                _describe_convolution(called[name], node)
    return called


def _stand_in(network: nn.Module, name: str, kind: type[nn.Module]) -> nn.Module:
    module: Any = object.__new__(kind)
    nn.Module.__init__(module)
    try:
        holder = network.get_submodule(name)
    except AttributeError:  # without weights
        return module
    vars(module).update(_parameters=holder._parameters, _buffers=holder._buffers)
    if issubclass(kind, nn.Linear):
        vars(module).update(zip(("out_features", "in_features"), module.weight.shape, strict=True))
    if issubclass(kind, (nn.Linear, *CONVOLUTIONS)):
        # Where its weights are looked for.
        parent, _, key = name.rpartition(".")
        network.get_submodule(parent)._modules[key] = module
    return module


def _describe_convolution(module: Any, node: Any) -> None:
    given, padding = node.args[0], node.args[4] if len(node.args) > 4 else 0
    weight = module.weight
    module.padding_mode = "zeros"
    module.kernel_size = tuple(weight.shape[2:])
    module.groups = given.meta["val"].shape[1] // weight.shape[1]
    module.padding = padding if isinstance(padding, str) else np.ravel(padding).tolist()


def _stack_of(node: fx.Node) -> list[tuple[str, str, type[nn.Module]]]:
    """The modules in which an operator is called, from the outermost: call, name and class."""
    stack = node.meta.get("nn_module_stack") or {}
    return [(call, name, _class_of(kind)) for call, (name, kind) in stack.items() if name]


def _class_of(kind: Any) -> type[nn.Module]:
    """The class of a module that is known by its class; of all others the general one."""
    path = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    found = getattr(nn, path.rpartition(".")[2], None) if path.startswith("torch.nn.") else None
    return found if isinstance(found, type) and issubclass(found, _KNOWN) else nn.Module


@dataclass
class _Running:
    """A call of a module that has not returned."""

    call: str
    name: str
    last: fx.Node
    """Yields what the module returns, as far as it has come."""
    inputs: list[Tensor] = field(default_factory=list)
    computed: set[fx.Node] = field(default_factory=set)


class _Interpreter(fx.Interpreter):
    """Reports the calls of modules and functions that the operators of a graph were."""

    def __init__(
        self,
        graph: fx.Graph,
        modules: dict[str, nn.Module],
        called: dict[str, nn.Module],
        report: Report | None,
    ) -> None:
        super().__init__(modules[""], graph=graph)
        self._called = called
        self._report = report
        self._running: list[_Running] = []

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_module" and n.target == "_guards_fn":
            return None  # the shapes are checked before
        if n.op == "output":
            self._leave(0)
        if self._report is None or n.op != "call_function":
            return super().run_node(n)
        self._enter(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        value = super().run_node(n)
        for running in self._running:
            inputs = [i for i in n.all_input_nodes if i.op != "get_attr"]
            given = [self.env[i] for i in inputs if i not in running.computed]
            running.inputs += [g for g in given if isinstance(g, Tensor)]
            running.computed.add(n)
            running.last = n
        return self._report_function(n, args, kwargs, value)

    def _enter(self, node: fx.Node) -> None:
        stack = _stack_of(node)
        same = 0
        for running, (call, _, _) in zip(self._running, stack, strict=False):
            if running.call != call:
                break
            same += 1
        self._leave(same)
        self._running += [_Running(call, name, node) for call, name, _ in stack[same:]]

    def _leave(self, n_left: int) -> None:
        while len(self._running) > n_left:
            left = self._running.pop()
            if self._report is None:
                continue
            called, output = self._called[left.name], self.env.get(left.last)
            changed = self._report(left.name, called, tuple(left.inputs), {}, output)
            if changed is not None:
                self.env[left.last] = changed

    def _report_function(self, node: fx.Node, args: tuple, kwargs: dict, value: Any) -> Any:
        """Returns what takes the place of the value."""
        caller = self._running[-1].name if self._running else ""
        function = plain_name(node.target)
        name = name_function(function, caller, self._called.get(caller, self.module))
        if name is None or self._report is None:
            return value
        changed = self._report(name, function, args, kwargs, value)
        return value if changed is None else changed


@dataclass(frozen=True)
class _Held:
    """A value of some rows, kept as it was when it was told."""

    key: tuple
    original: Tensor
    """Alive, so that no other value gets its place."""
    copy: Tensor


Told = tuple[tuple, dict, Any]
"""Arguments, keyword arguments, and what was returned."""


class _Parts:
    """A batch that runs in parts of a fixed size, and is told as one.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    n_rows : int
        Size of each part; the last one is filled up with its last sample.
    """

    def __init__(self, n_samples: int, n_rows: int) -> None:
        self._n_samples, self._n_rows = n_samples, n_rows
        self._calls: list[list[tuple[str, Any, Told]]] = []
        self._joined: dict[tuple, Tensor] = {}

    def cut(self, values: list[Tensor]) -> Iterator[list[Tensor]]:
        """The inputs of each part."""
        for start in range(0, self._n_samples, self._n_rows):
            rows = torch.arange(start, start + self._n_rows).clamp(max=self._n_samples - 1)
            yield [value[rows.to(value.device)] for value in values]

    def recorder(self) -> Report:
        """What is told of the calls of the next part."""
        calls: list[tuple[str, Any, Told]] = []
        self._calls.append(calls)

        def record(name: str, called: Any, args: tuple, kwargs: dict, output: Any) -> None:
            calls.append((name, called, self.hold((args, kwargs, output))))

        return record

    def hold(self, told: Any) -> Any:
        """The same with copies of the tensors that have a row for each sample."""
        return pytree.tree_map_only(Tensor, self._hold_tensor, told)

    def _hold_tensor(self, value: Tensor) -> Any:
        if isinstance(value, nn.Parameter) or value.ndim == 0 or len(value) != self._n_rows:
            return value
        return _Held(content_key(value), value, value.clone())

    def joined(self) -> Iterator[tuple[str, Any, Told]]:
        """The calls of all parts as one."""
        for calls in zip(*self._calls, strict=True):
            name, called, _ = calls[0]
            yield name, called, self.join([told for _, _, told in calls])

    def join(self, told: list[Any]) -> Any:
        """What was held of each part as one."""
        leaves = zip(*(pytree.tree_leaves(one) for one in told), strict=True)
        return pytree.tree_unflatten(
            [self._join_leaf(parts) for parts in leaves], pytree.tree_structure(told[0])
        )

    def _join_leaf(self, parts: tuple[Any, ...]) -> Any:
        if not isinstance(parts[0], _Held):
            return parts[0]
        key = tuple(part.key for part in parts)
        if key not in self._joined:
            copies = torch.cat([part.copy for part in parts])
            self._joined[key] = copies[: self._n_samples].clone()
        whole, shape = self._joined[key], parts[0].copy.shape[1:]
        if whole.shape[1:] == shape:
            return whole
        # The same memory in another shape, as of what is flattened.
        if (*key, shape) not in self._joined:
            self._joined[*key, shape] = whole.reshape(len(whole), *shape)
        return self._joined[*key, shape]
