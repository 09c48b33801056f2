"""The layers, the head and the logits of a torch network, found in one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from .._base import LEAST_ROUNDING, PENULTIMATE, Trace
from .auto_layers import choose_layers, find_residual_blocks
from .calls import Call, CallListener
from .fingerprint import Written
from .heads import explain_missing_head, find_path, find_source, rounding
from .inputs import Integers
from .outputs import AUTO, Path, Wanted, find_output
from .recorded import Layer, Location, RecordedCall
from .unit_axes import UnitAxisListener


@dataclass(frozen=True, kw_only=True)
class TorchTrace(Trace):
    """What is needed to run a torch network again and find the same layers."""

    locations: dict[str, Location]
    """Where to find each layer, in forward order."""
    functions: frozenset[str]
    """Names of the calls that are calls of functions."""
    logits: Location | None
    """Where to find the logits; None where the network returns them."""
    head: str | None
    """Name of the linear module that yields the logits."""
    output: Path | None
    """Which output counts as the logits, where the user's function does not compute it."""
    n_classes: int | None = None
    """Number of columns of the logits, or None where there are none."""
    written: Written = field(default=Written())
    """Attributes of modules that a pass changes."""
    draws: frozenset[str] = frozenset()
    """The global random generators that a pass draws from."""
    integers: Integers = Integers.AS_FLOATS
    """How the network takes integer inputs."""


class TraceResult(NamedTuple):
    """Trace of a pass, and its values."""

    trace: TorchTrace
    values: dict[str, Tensor]
    """Of each layer, in forward order."""
    logits: Tensor | None
    """What counts as the logits, of any shape."""
    unit_axes: dict[str, int]
    """The axis of the units of each layer of which it is known."""


def trace_calls(
    network: nn.Module,
    run: Callable[[], Any],
    n_samples: int,
    *,
    wanted: Wanted = AUTO,
    fits: Callable[[Tensor], bool],
    known: Collection[str] | None = None,
) -> TraceResult:
    """Trace a network while ``run`` feeds it ``n_samples`` samples.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    run : callable
        Returns what the network returns.
    n_samples : int
        Number of samples.
    wanted : str, int or callable, default="auto"
        Which output holds the logits.
    fits : callable
        Whether a tensor may be the logits.
    known : collection of str, default=None
        Names of the only values that may be layers.
    """
    calls: list[RecordedCall] = []
    axes = UnitAxisListener()

    def record(call: Call) -> None:
        with axes.paused():
            calls.append(RecordedCall(call, n_samples))

    with axes, CallListener(network, record):
        returned = run()
    path = find_path(returned, wanted, fits, calls)
    logits = wanted(returned) if callable(wanted) else find_output(returned, path)
    squashing, candidate = find_source(calls, logits)
    why_no_head = explain_missing_head(calls, logits, candidate)
    head = None if why_no_head else candidate
    layers = _name_layers(calls, head)
    if known is not None:
        layers = {name: layer for name, layer in layers.items() if name in known}
    features = [name for name, layer in layers.items() if layer.feeds(head)]
    trace = TorchTrace(
        auto=choose_layers(layers, features, squashing, find_residual_blocks(network, calls)),
        features=features,
        n_axes={name: layer.value.ndim for name, layer in layers.items()},
        locations={name: layer.location for name, layer in layers.items()},
        functions=frozenset(c.call.name for c in calls if isinstance(c.call.called, str)),
        logits=None if squashing is None else Location(squashing.call.key, before=True),
        head=None if head is None else head.call.name,
        why_no_head=why_no_head,
        head_rounding=LEAST_ROUNDING if head is None else rounding(head),
        output=path,
    )
    source = logits if squashing is None else squashing.input
    values = {name: layer.value for name, layer in layers.items()}
    return TraceResult(trace, values, source, axes.find(layers, calls))


def _name_layers(calls: list[RecordedCall], head: RecordedCall | None) -> dict[str, Layer]:
    counts = Counter(c.call.name for c in calls)
    layers: dict[str, Layer] = {}
    for c in calls:
        if c is head and c.input is not None:
            name = PENULTIMATE if PENULTIMATE not in counts else f"{PENULTIMATE}_input"
            layers[name] = Layer(c, Location(c.call.key, before=True), c.input.flatten(1))
        if c.output is not None and (isinstance(c.call.called, nn.Module) or c.is_activation):
            name, number = c.call.key
            name = f"{name}[{number}]" if counts[name] > 1 else name
            layers[name] = Layer(c, Location(c.call.key), c.output)
    return layers
