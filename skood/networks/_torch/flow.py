"""From which values a forward pass computes each value, and by what."""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .calls import (
    ACTIVATION_FUNCTIONS,
    BENDS,
    SUMS,
    Call,
    first_tensor,
    plain_name,
    readable_modules,
)

_SAME_VALUES = frozenset(
    {
        "alias",
        "as_strided",
        "bfloat16",
        "chunk",
        "clone",
        "constant_pad_nd",
        "contiguous",
        "copy",
        "cpu",
        "cuda",
        "detach",
        "double",
        "expand",
        "expand_as",
        "flatten",
        "flip",
        "float",
        "get",
        "getitem",
        "half",
        "lift_fresh_copy",
        "moveaxis",
        "movedim",
        "narrow",
        "pad",
        "permute",
        "pixel_shuffle",
        "pixel_unshuffle",
        "repeat",
        "reshape",
        "reshape_as",
        "roll",
        "select",
        "setitem",
        "split",
        "squeeze",
        "swapaxes",
        "swapdims",
        "t",
        "tensor_split",
        "to",
        "to_copy",
        "transpose",
        "type",
        "type_as",
        "unbind",
        "unflatten",
        "unsafe_view",
        "unsqueeze",
        "view",
        "view_as",
    }
)
_NORMS_AND_POOLS = frozenset(
    {
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
        "adaptive_max_pool1d",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
        "alpha_dropout",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "batch_norm",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "feature_alpha_dropout",
        "feature_dropout",
        "group_norm",
        "instance_norm",
        "interpolate",
        "layer_norm",
        "local_response_norm",
        "lp_pool1d",
        "lp_pool2d",
        "max_pool1d",
        "max_pool2d",
        "max_pool2d_with_indices",
        "max_pool3d",
        "max_pool3d_with_indices",
        "native_batch_norm_legit_no_training",
        "native_dropout",
        "native_group_norm",
        "native_layer_norm",
        "normalize",
        "rms_norm",
        "upsample",
        "upsample_bilinear",
        "upsample_nearest",
    }
)
LIGHT = _SAME_VALUES | _NORMS_AND_POOLS
"""Functions of one value that keep its units apart, or only norm them."""
MULTIPLICATIONS = frozenset(
    {
        "div",
        "divide",
        "mul",
        "multiply",
        "rmul",
        "true_divide",
        "truediv",
    }
)
CHOICES = frozenset({"masked_fill", "setitem", "where"})
"""Functions that take values where a condition holds."""
COMPARISONS = frozenset({"eq", "ge", "gt", "isfinite", "isnan", "le", "logical_not", "lt", "ne"})
ELEMENTWISE = (
    ACTIVATION_FUNCTIONS
    | SUMS
    | MULTIPLICATIONS
    | (BENDS - {"max", "min", "setitem"})
    | COMPARISONS
    | frozenset(
        {
            "acos",
            "acosh",
            "arccos",
            "arccosh",
            "arcsin",
            "arctanh",
            "asin",
            "atan2",
            "atanh",
            "cosh",
            "hypot",
            "lerp",
            "log10",
            "log2",
            "logit",
            "logaddexp",
            "nan_to_num",
            "neg",
            "negative",
            "positive",
            "sgn",
        }
    )
)
_CONDITIONS = frozenset({"argwhere", "masked_select", "nonzero"})
"""Functions that yield as many rows as there are values for which a condition holds."""
_WRITERS = frozenset(
    {
        "copy",
        "index_add",
        "index_copy",
        "index_put",
        "index_reduce",
        "masked_scatter",
        "scatter",
        "scatter_add",
        "scatter_reduce",
        "setitem",
    }
)
"""Functions that write to some rows of the first value that they are given."""
_OF_SHAPES = frozenset(
    {
        "empty_like",
        "full_like",
        "new_empty",
        "new_full",
        "new_ones",
        "new_tensor",
        "new_zeros",
        "ones_like",
        "zeros_like",
    }
)
"""Functions that read nothing but the shape of a value."""
_LINEAR_MIXERS = frozenset(
    {
        "addbmm",
        "addmm",
        "baddbmm",
        "bilinear",
        "bmm",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "convolution",
        "einsum",
        "fft_fft",
        "fft_fft2",
        "fft_ifft",
        "fft_ifft2",
        "fft_irfft",
        "fft_irfft2",
        "fft_rfft",
        "fft_rfft2",
        "inner",
        "linear",
        "matmul",
        "mm",
        "mv",
        "rmatmul",
        "tensordot",
    }
)
_OTHER_MIXERS = frozenset(
    {
        "gru",
        "gru_cell",
        "lstm",
        "lstm_cell",
        "multi_head_attention_forward",
        "rnn_relu",
        "rnn_relu_cell",
        "rnn_tanh",
        "rnn_tanh_cell",
        "scaled_dot_product_attention",
    }
)
MODULE = "(module)"
"""What yields a value that no function is seen to yield, such as compiled code."""


@dataclass(frozen=True, eq=False)
class Node:
    """A value, and what it is computed from."""

    number: int
    """Nodes are numbered as they come."""
    function: str
    """Bare name of the function that yields it; empty for what is not computed."""
    parents: tuple[Node, ...]
    shape: tuple[int, ...]
    is_variable: bool
    """Whether it depends on the inputs of the network, as far as is known."""
    weights: frozenset[int]
    """Identities of the weights that are used beside values that depend on the inputs."""
    is_float: bool = True
    rows_vary: bool = False
    """Whether its rows are those where a condition holds, so that other inputs have others."""

    @property
    def variables(self) -> list[Node]:
        """What it is computed from, of what depends on the inputs."""
        return [parent for parent in self.parents if parent.is_variable]

    @property
    def mixes(self) -> bool:
        """Whether each of its values may depend on all units of another value."""
        is_module = self.function == MODULE and bool(self.weights)
        return is_module or self.function in _LINEAR_MIXERS or self.function in _OTHER_MIXERS

    @property
    def bends(self) -> bool:
        """Whether it is no linear map of another value, as far as is known."""
        if self.function in MULTIPLICATIONS or self.function in SUMS:
            return self.function in MULTIPLICATIONS and len(self.variables) > 1
        return self.function not in LIGHT and self.function not in _LINEAR_MIXERS

    @property
    def is_gated(self) -> bool:
        """Whether it is a product of two values of its shape."""
        alike = [parent for parent in self.variables if parent.shape == self.shape]
        return self.function in MULTIPLICATIONS and len(alike) > 1


@dataclass(frozen=True)
class Ends:
    """What a call was given, and the first tensor that it returned."""

    given: tuple[Node, ...]
    """Tensors that a module was given."""
    start: int
    """The number of the first node that was made in it."""
    output: Node


class Flow(TorchFunctionMode):
    """Context manager that notes what each value of a forward pass is computed from.

    ``note`` is to be called with each call that a listener reports meanwhile. Values are not kept
    alive.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self._weights = {id(t) for t in chain(network.parameters(), network.buffers())}
        self._nodes: dict[int, tuple[weakref.ref, Node]] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._entered: list[tuple[str, tuple[Node, ...], int]] = []
        self._count = 0
        self._thread = threading.get_ident()
        self.callers: dict[int, str] = {}
        """Of sums, by the number of their node, the name of the module in whose ``forward`` they
        are."""
        self.ends: dict[tuple[str, int], Ends] = {}
        """Of calls, by their key."""

    def __enter__(self) -> Flow:
        modules = [("", self._network), *readable_modules(self._network)]
        for name, module in modules:
            enter = partial(self._module_entered, name)
            handle = nn.Module.register_forward_pre_hook(module, enter, with_kwargs=True)
            self._handles.append(handle)
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        for handle in self._handles:
            handle.remove()

    def _module_entered(self, name: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if threading.get_ident() != self._thread:
            return
        tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        given = tuple(map(self._find, tensors))
        if name:  # the call of the network itself is not noted
            self._entered.append((name, given, self._count))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        function = plain_name(func)
        parents = tuple(map(self._find, _tensors((*args, *kwargs.values()))))
        output = func(*args, **kwargs)
        written = args[:1] if function == "setitem" else output
        chooses = self._chooses_rows(function, args)
        for tensor in _tensors(written):
            self._make(tensor, function, parents, chooses=chooses)
        return output

    def _chooses_rows(self, function: str, args: tuple) -> bool:
        """Whether a function yields the rows, or their numbers, where a condition holds."""
        if function == "where":
            is_condition = len(args) == 1
        elif function == "getitem":
            index = args[1] if isinstance(args[1], tuple) else args[1:]
            first = next((item for item in index if item is not None), None)
            is_condition = isinstance(first, Tensor) and first.dtype in (torch.bool, torch.uint8)
            args = (first,)
        else:
            is_condition = function in _CONDITIONS
        return is_condition and any(self._find(value).is_variable for value in _tensors(args))

    def note(self, call: Call) -> None:
        """Note what a call was given and returned, when it has just returned."""
        is_function = isinstance(call.called, str)
        given, start = ((), self._count) if is_function else self._begin_of(call)
        if call.output is None:
            return
        if isinstance(call.called, nn.Module) and self._known(call.output) is None:
            self._make(call.output, MODULE, given, frozenset(map(id, call.called.parameters())))
        output = self._find(call.output)
        self.ends[call.key] = Ends(given, start, output)
        if is_function:
            self.callers[output.number] = call.name.rpartition(".")[0]

    def _begin_of(self, call: Call) -> tuple[tuple[Node, ...], int]:
        """What a module was given, and the number of the first node that was made in it."""
        if self._entered and self._entered[-1][0] == call.name:
            _, given, start = self._entered.pop()
            return given, start
        # It stands for a part of a graph, which calls no module.
        given = tuple(map(self._find, call.inputs))
        return given, min((node.number for node in given), default=-1) + 1

    def that_lead_to(self, returned: Any) -> dict[int, Node]:
        """All that the tensors are computed from that a network returned, by number."""
        found = (self._known(tensor) for tensor in _tensors(returned))
        return ancestors(node for node in found if node is not None)

    def find(self, value: Any) -> Node | None:
        """The node of a value that is still there."""
        value = first_tensor(value)
        return None if value is None else self._known(value)

    def _known(self, value: Tensor) -> Node | None:
        reference, node = self._nodes.get(id(value), (None, None))
        return node if reference is not None and reference() is value else None

    def _find(self, value: Tensor) -> Node:
        """The node of a value, a new one if nothing is known of it."""
        return self._known(value) or self._make(value, "", ())

    def _make(
        self,
        value: Tensor,
        function: str,
        parents: tuple[Node, ...],
        weights: frozenset[int] = frozenset(),
        *,
        chooses: bool = False,
    ) -> Node:
        is_weight = not function and id(value) in self._weights
        is_variable = any(p.is_variable for p in parents) if function else not is_weight
        is_variable = is_variable and function not in _OF_SHAPES
        if is_weight:
            weights = frozenset([id(value)])
        fixed = (parent.weights for parent in parents if not parent.is_variable)
        node = Node(
            self._count,
            function,
            parents,
            tuple(value.shape),
            is_variable,
            weights.union(*fixed),
            value.is_floating_point(),
            _rows_vary(function, parents, tuple(value.shape), chooses),
        )
        self._count += 1
        self._nodes[id(value)] = weakref.ref(value), node
        # What is written to a view is written to the value that it is a view of.
        if function and (base := value._base) is not None and function not in LIGHT:
            self._nodes[id(base)] = weakref.ref(base), node
        return node


def _rows_vary(
    function: str, parents: tuple[Node, ...], shape: tuple[int, ...], chooses: bool
) -> bool:
    if function in _WRITERS:
        return parents[0].rows_vary
    if chooses or not any(parent.rows_vary for parent in parents):
        return chooses
    # What is computed value by value from a whole batch and one number is a whole batch.
    return function not in ELEMENTWISE or not any(
        parent.shape == shape and not parent.rows_vary for parent in parents
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))


def ancestors(nodes: Iterable[Node], *, since: int = 0) -> dict[int, Node]:
    """All that nodes are computed from, themselves included, by number, no older than a number."""
    found: dict[int, Node] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.number not in found and node.number >= since:
            found[node.number] = node
            waiting.extend(node.parents)
    return found


def uses(nodes: Mapping[int, Node]) -> defaultdict[int, list[Node]]:
    """For each of some nodes, by its number, those of them that are computed from it directly."""
    found: defaultdict[int, list[Node]] = defaultdict(list)
    for node in nodes.values():
        for parent in node.parents:
            found[parent.number].append(node)
    return found


def nearest_layers(node: Node) -> list[Node]:
    """What layers with weights yield that a value comes from directly."""
    found: list[Node] = []
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one.number in seen:
            continue
        seen.add(one.number)
        if one.mixes and one.weights:
            found.append(one)
        else:
            waiting.extend(one.variables)
    return found
