"""In which axis of a value the units are, and which inputs are sequences of any length."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .calls import ACTIVATION_FUNCTIONS
from .recorded import Layer, RecordedCall, content_key

_OF_VECTORS = {"linear": 0, "layer_norm": 0, "rms_norm": 0, "matmul": 0, "mm": 0, "addmm": 1}
"""Functions of vectors along the last axis of an argument, and the number of this argument."""
_OF_CHANNELS = frozenset(
    {
        *(f"conv{n}d" for n in (1, 2, 3)),
        *(f"conv_transpose{n}d" for n in (1, 2, 3)),
        *(f"{kind}_pool{n}d" for kind in ("max", "avg", "lp") for n in (1, 2, 3)),
        *(f"adaptive_{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)),
        "batch_norm",
        "group_norm",
        "instance_norm",
        "pixel_shuffle",
        "pixel_unshuffle",
    }
)
"""Functions of an argument that has its channels in the second axis."""
_OF_VALUES = ACTIVATION_FUNCTIONS | {
    *("add", "iadd", "radd", "sub", "isub", "rsub", "mul", "imul", "rmul", "div", "truediv"),
    *("dropout", "clone"),
}
"""Functions that treat each value on its own, so that nothing moves to another axis."""
_ATTENTION = "scaled_dot_product_attention"
_MOVES = frozenset({"flatten", "permute", "reshape", "swapaxes", "transpose", "view"})
"""Functions that give the values other axes."""


def _axis_of_einsum(args: tuple, kwargs: Mapping[str, Any], output: Tensor) -> int | None:
    """The last axis that comes from weights alone, where it is behind the second."""
    equation = args[0].replace(" ", "") if isinstance(args[0], str) else ""
    given, arrow, got = equation.partition("->")
    if not arrow or not got or "." in got.removeprefix("..."):
        return None
    with_samples = {c for term in given.split(",") if got[0] in term for c in term}
    axes = [output.ndim - len(got) + i for i, c in enumerate(got) if c not in with_samples]
    return axes[-1] if axes and axes[-1] > 1 else None


def _axis_of_stack(args: tuple, kwargs: Mapping[str, Any], output: Tensor) -> int | None:
    """The last axis, where vectors of units, one for each sample, are stacked along another."""
    parts = args[0] if args else kwargs.get("tensors", ())
    axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    return 2 if axis not in (2, -1) and all(part.ndim == 2 for part in parts) else None


_HINTS = {"einsum": _axis_of_einsum, "stack": _axis_of_stack}
"""Functions that tell where units are if nothing else does."""
_ALL = (
    _OF_CHANNELS
    | _OF_VALUES
    | _OF_VECTORS.keys()
    | _HINTS.keys()
    | _MOVES
    | {"embedding", _ATTENTION}
)


Shape = tuple[int, ...]


class _Axis(NamedTuple):
    """Where the units of a value are."""

    is_last: bool
    """Whether they are in the last axis, or else in the second."""
    n_units: int

    def of(self, shape: Shape) -> int | None:
        """Its number, in what may have another shape; None where it is none of this."""
        axis = len(shape) - 1 if self.is_last else 1
        return axis if shape[axis] == self.n_units else None


_Value = tuple[tuple, Shape]
"""What a value is known by: its memory, and its shape there."""


class UnitAxisListener(TorchFunctionMode):
    """Context manager that notes where functions take the units of their arguments to be.

    It recognises values by the memory that they are in.
    """

    def __init__(self) -> None:
        super().__init__()
        self._axes: defaultdict[tuple, list[_Axis]] = defaultdict(list)
        self._alike: list[tuple[_Value, _Value]] = []
        self._hints: dict[_Value, int] = {}
        # No other value is given the memory of one that is still there.
        self._alive: list[Any] = []
        self._is_paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context in which nothing is noted."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", "").strip("_"), kwargs or {}
        if self._is_paused or name not in _ALL:
            return func(*args, **kwargs)
        # Before the call, which may write to them.
        given = [(v, content_key(v)) for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        output = func(*args, **kwargs)
        if isinstance(output, Tensor):
            self._alive += [given, output]
            if name in _HINTS:
                self._hint(output, _HINTS[name](args, kwargs, output))
            elif name in _MOVES:
                self._hint(output, self._axis_of_moved(given, output))
            elif given:
                self._note(name, args, given, output)
        return output

    def _note(
        self, name: str, args: tuple, given: list[tuple[Tensor, tuple]], output: Tensor
    ) -> None:
        key = content_key(output)
        if name in _OF_VALUES:
            shape = tuple(output.shape)
            alike = [k for value, k in given if value.shape == shape]
            self._alike += [((k, shape), (key, shape)) for k in alike]
        elif name in _OF_CHANNELS:
            self._vote(output, key, is_last=False)
            self._vote(*given[0], is_last=False)
        elif name == "embedding":
            self._vote(output, key, is_last=True)
        elif name == _ATTENTION:
            for value in ((output, key), *given[:3]):
                self._vote(*value, is_last=True)
        elif _is_of_vectors(name, args, given):
            self._vote(output, key, is_last=True)
            self._vote(*given[_OF_VECTORS[name]], is_last=True)

    def _axis_of_moved(self, given: list[tuple[Tensor, tuple]], output: Tensor) -> int | None:
        """The last axis, where that of the units was the last and stays it."""
        if not given or not _stays_last(value := given[0][0], output):
            return None
        key, last = given[0][1], value.ndim - 1
        is_hinted = self._hints.get((key, tuple(value.shape))) == last
        votes = self._axes.get(key, ())
        is_last = is_hinted or any(axis == _Axis(True, value.shape[-1]) for axis in votes)
        return output.ndim - 1 if is_last else None

    def _hint(self, output: Tensor, axis: int | None) -> None:
        if axis is not None:
            self._hints[content_key(output), tuple(output.shape)] = axis

    def _vote(self, value: Tensor, key: tuple, *, is_last: bool) -> None:
        if value.ndim > 1:
            is_last = is_last or value.ndim == 2
            self._axes[key].append(_Axis(is_last, value.shape[-1 if is_last else 1]))

    def find(self, layers: Mapping[str, Layer], calls: Iterable[RecordedCall]) -> dict[str, int]:
        """The axis of the units of each layer of at least three axes that functions tell of."""
        same_shape = [link for c in calls for link in self._note_call(c)]
        wanted = {n: _value_of(layer) for n, layer in layers.items() if layer.value.ndim > 2}
        found = self._spread({}, [*self._alike, *((value, value) for value in wanted.values())])
        # What a module returns in the shape of its input has the same axes, as far as is known.
        found = self._spread({**self._hints, **found}, [*self._alike, *same_shape])
        return {name: found[value] for name, value in wanted.items() if value in found}

    def _note_call(self, c: RecordedCall) -> list[tuple[_Value, _Value]]:
        """Note what a module tells; the values that it has in the same shape, if it has."""
        given, got = c.call.inputs[c.index] if c.call.inputs else None, c.call.output
        if given is None or got is None or c.input_key is None or c.output_key is None:
            return []
        if _is_module_of_vectors(c.call.called):
            self._vote(got, c.output_key, is_last=True)
            self._vote(given, c.input_key, is_last=True)
        shape = tuple(got.shape)
        return [((c.input_key, shape), (c.output_key, shape))] if given.shape == shape else []

    def _spread(
        self, known: Mapping[_Value, int], alike: Iterable[tuple[_Value, _Value]]
    ) -> dict[_Value, int]:
        """The axes of values, and of all that are the same in this, from the nearest."""
        neighbors: defaultdict[_Value, list[_Value]] = defaultdict(list)
        for one, other in alike:
            neighbors[one].append(other)
            neighbors[other].append(one)
        own = {value: axis for value in neighbors if (axis := self._axis_of(*value)) is not None}
        found = {**known, **own}
        waiting = deque(found)
        while waiting:
            value = waiting.popleft()
            for other in neighbors[value]:
                if other not in found:
                    found[other] = found[value]
                    waiting.append(other)
        return found

    def _axis_of(self, key: tuple, shape: Shape) -> int | None:
        axes = (axis.of(shape) for axis in self._axes.get(key, ()))
        return next((axis for axis in axes if axis is not None), None)


def _is_of_vectors(name: str, args: tuple, given: list[tuple[Tensor, tuple]]) -> bool:
    if name == "layer_norm":
        return len(args) < 2 or len(args[1]) == 1
    # A product with a matrix of weights, and not of two values.
    return name not in ("matmul", "mm") or (len(given) == 2 and given[1][0].ndim == 2)


def _stays_last(value: Tensor, moved: Tensor) -> bool:
    """Whether the last axis is the last of the moved values, perhaps with others before it."""
    if moved.ndim < 3:
        return False
    if moved.ndim == value.ndim:
        return (moved.shape[-1], moved.stride(-1)) == (value.shape[-1], value.stride(-1))
    return moved.ndim < value.ndim and moved.shape[:-1] == value.shape[: moved.ndim - 1]


def _is_module_of_vectors(called: nn.Module | str) -> bool:
    """Whether a module reads and returns vectors along the last axis, by functions of its own."""
    if isinstance(called, nn.RNNBase | nn.MultiheadAttention):
        return called.batch_first
    return hasattr(called, "in_features") and hasattr(called, "out_features")


def _value_of(layer: Layer) -> _Value:
    source = layer.source
    key = source.input_key if layer.location.before else source.output_key
    assert key is not None  # there is a value
    return key, tuple(layer.value.shape)


def axes_by_size(values: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, int]:
    """The only axis of each layer whose size is the same for inputs of another size."""
    found = {}
    for name, value in values.items():
        if name in others and value.ndim == others[name].ndim >= 3:
            sizes = zip(value.shape, others[name].shape, strict=True)
            same = [axis for axis, (size, other) in enumerate(sizes) if axis and size == other]
            if len(same) == 1:
                found[name] = same[0]
    return found
