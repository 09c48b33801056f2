"""In which axis of a value the units are, and which inputs are sequences of any length."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
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
_ALL = _OF_CHANNELS | _OF_VALUES | _OF_VECTORS.keys() | {"embedding"}


class _Axis(NamedTuple):
    """Where the units of a value are."""

    is_last: bool
    """Whether they are in the last axis, or else in the second."""
    n_units: int

    def of(self, shape: tuple[int, ...]) -> int | None:
        """Its number, in what may have another shape; None where it is none of this."""
        axis = len(shape) - 1 if self.is_last else 1
        return axis if shape[axis] == self.n_units else None


class UnitAxisListener(TorchFunctionMode):
    """Context manager that notes where functions take the units of their arguments to be.

    It recognises values by the memory that they are in.
    """

    def __init__(self) -> None:
        super().__init__()
        self._axes: defaultdict[tuple, list[_Axis]] = defaultdict(list)
        self._alike: list[tuple[tuple, tuple]] = []
        # No other value is given the memory of one that is still there.
        self._alive: list[Any] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", "").strip("_"), kwargs or {}
        if name not in _ALL:
            return func(*args, **kwargs)
        # Before the call, which may write to them.
        given = [(v, content_key(v)) for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        output = func(*args, **kwargs)
        if isinstance(output, Tensor) and given:
            self._alive += [given, output]
            self._note(name, args, given, output)
        return output

    def _note(
        self, name: str, args: tuple, given: list[tuple[Tensor, tuple]], output: Tensor
    ) -> None:
        key = content_key(output)
        if name in _OF_VALUES:
            self._alike += [(k, key) for value, k in given if value.shape == output.shape]
        elif name in _OF_CHANNELS:
            self._vote(*given[0], is_last=False)
            self._vote(output, key, is_last=False)
        elif name == "embedding":
            self._vote(output, key, is_last=True)
        elif _is_of_vectors(name, args, given):
            self._vote(*given[_OF_VECTORS[name]], is_last=True)
            self._vote(output, key, is_last=True)

    def _vote(self, value: Tensor, key: tuple, *, is_last: bool) -> None:
        if value.ndim > 1:
            is_last = is_last or value.ndim == 2
            self._axes[key].append(_Axis(is_last, value.shape[-1 if is_last else 1]))

    def find(self, layers: Mapping[str, Layer], calls: Iterable[RecordedCall]) -> dict[str, int]:
        """The axis of the units of each layer of at least three axes that functions tell of."""
        same_shape = []
        for c in calls:
            if not c.call.inputs or c.call.output is None:
                continue
            given, got, keys = c.call.inputs[0], c.call.output, (c.input_key, c.output_key)
            if _is_module_of_vectors(c.call.called):
                self._vote(got, keys[1], is_last=True)
                self._vote(given, keys[0], is_last=True)
            if given.shape == got.shape:
                same_shape.append(keys)
        axes = _spread(self._axes, self._alike)
        # What a module returns in the shape of its input has the same axes, as far as is known.
        axes = _spread(axes, [*self._alike, *same_shape])
        found = {name: _axis_of(layer, axes) for name, layer in layers.items()}
        return {name: axis for name, axis in found.items() if axis is not None}


def _is_of_vectors(name: str, args: tuple, given: list[tuple[Tensor, tuple]]) -> bool:
    if name == "layer_norm":
        return len(args) < 2 or len(args[1]) == 1
    # A product with a matrix of weights, and not of two values.
    return name not in ("matmul", "mm") or (len(given) == 2 and given[1][0].ndim == 2)


def _is_module_of_vectors(called: nn.Module | str) -> bool:
    """Whether a module reads and returns vectors along the last axis, by functions of its own."""
    if isinstance(called, nn.RNNBase | nn.MultiheadAttention):
        return called.batch_first
    return hasattr(called, "in_features") and hasattr(called, "out_features")


def _spread(
    axes: Mapping[tuple, list[_Axis]], alike: Iterable[tuple[tuple, tuple]]
) -> dict[tuple, list[_Axis]]:
    """The axes of values, and of all that have them in common, the nearest first."""
    neighbors: defaultdict[tuple, list[tuple]] = defaultdict(list)
    for one, other in alike:
        neighbors[one].append(other)
        neighbors[other].append(one)
    found, waiting = dict(axes), deque(axes)
    while waiting:
        key = waiting.popleft()
        for other in neighbors[key]:
            if other not in found:
                found[other] = found[key]
                waiting.append(other)
    return found


def _axis_of(layer: Layer, axes: Mapping[tuple, list[_Axis]]) -> int | None:
    source, shape = layer.source, tuple(layer.value.shape)
    key = source.input_key if layer.location.before else source.output_key
    if len(shape) < 3 or key is None:
        return None
    return next((axis for a in axes.get(key, ()) if (axis := a.of(shape)) is not None), None)


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
