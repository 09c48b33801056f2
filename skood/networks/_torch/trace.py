"""The layers, the head and the logits of a torch network, found in one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from .._base import LEAST_ROUNDING, PENULTIMATE, Trace
from .auto_layers import choose_layers, find_residual_blocks
from .calls import Call, CallListener
from .chosen_head import WantedHead, place_given, refuse_named
from .fingerprint import Written
from .heads import Found, Head, Search, find_path, find_source
from .inputs import Integers
from .outputs import AUTO, Path, Wanted, select_output
from .products import own_tensors, reads_rows
from .recorded import Layer, Location, RecordedCall, storage
from .unit_axes import UnitAxisListener
from .why_no_head import explain_missing_head


@dataclass(frozen=True, kw_only=True)
class TorchTrace(Trace):
    """What is needed to run a torch network again and find the same layers."""

    locations: dict[str, Location]
    """Where to find each layer, in forward order."""
    functions: frozenset[str]
    """Names of the calls that are calls of functions."""
    logits: Location | None
    """Where to find the logits; None where the network returns them."""
    head: Head | None
    """The linear map that yields the logits."""
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
    head: WantedHead = AUTO,
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
    head : str or GivenHead, default="auto"
        The name of the module that is the head, or the head.
    fits : callable
        Whether a tensor may be the logits.
    known : collection of str, default=None
        Names of the only values that may be layers.

    Raises
    ------
    ValueError
        If there is no such output, or ``head`` does not yield the logits.
    """
    axes, calls, returned = _record(network, run, n_samples)
    named = head if isinstance(head, str) and head != AUTO else None
    search = Search(network, calls, named)
    path = find_path(returned, wanted, fits, calls, search)
    logits = select_output(returned, wanted, path)
    squashing, direct = find_source(calls, logits)
    logits_at = None if squashing is None else Location(squashing.call.key, before=True)
    source = logits if squashing is None else squashing.input
    found = None
    if source is not None and _has_rows(source, n_samples) and isinstance(head, str):
        probe = partial(_probe, network, run, lambda r: select_output(r, wanted, path), logits_at)
        found = search.find(source, direct, probe)
    if named is not None and found is None:
        refuse_named(network, calls, source, named)
    layers = _name_layers(calls, found)
    if known is not None:
        layers = {name: layer for name, layer in layers.items() if name in known}
    features = [n for n, layer in layers.items() if layer.feeds(found and found.recorded)]
    if not isinstance(head, str):
        features = place_given(head, layers, calls, source)
    trace = TorchTrace(
        auto=choose_layers(layers, features, squashing, find_residual_blocks(network, calls)),
        features=features,
        n_axes={name: layer.value.ndim for name, layer in layers.items()},
        locations={name: layer.location for name, layer in layers.items()},
        functions=frozenset(c.call.name for c in calls if isinstance(c.call.called, str)),
        logits=logits_at,
        head=None if found is None else found.head,
        why_no_head="" if features else explain_missing_head(search, source, direct),
        head_rounding=LEAST_ROUNDING if found is None else found.head.rounding,
        output=path,
    )
    values = {name: layer.value for name, layer in layers.items()}
    return TraceResult(trace, values, source, axes.find(layers, calls))


def _record(
    network: nn.Module, run: Callable[[], Any], n_samples: int
) -> tuple[UnitAxisListener, list[RecordedCall], Any]:
    """Where units are, the calls of a pass, and what the network returns."""
    weights = {storage(tensor) for _, _, tensor in own_tensors(network)}
    calls: list[RecordedCall] = []
    axes = UnitAxisListener()

    def on_call(call: Call) -> None:
        with axes.paused():
            recorded = RecordedCall(call, n_samples, weights)
            # Products of values with each other are many, and no layers.
            if not recorded.is_product or recorded.has_weight or reads_rows(recorded):
                calls.append(recorded)

    with axes, CallListener(network, on_call):
        return axes, calls, run()


def _probe(
    network: nn.Module,
    run: Callable[[], Any],
    select: Callable[[Any], Tensor | None],
    logits_at: Location | None,
    recorded: RecordedCall,
    factor: float,
) -> Tensor | None:
    """The logits where the output of a call is multiplied by a factor, or None."""
    squashed: list[Tensor | None] = []

    def on_call(call: Call) -> Tensor | None:
        if logits_at is not None and call.key == logits_at.call:
            value = logits_at.read(call)
            squashed.append(None if value is None else value.clone())
        is_it = call.key == recorded.call.key and call.output is not None
        return call.output * factor if is_it and call.output is not None else None

    keys = [recorded.call.key] + ([] if logits_at is None else [logits_at.call])
    # A network need not bear such values.
    with suppress(Exception), CallListener(network, on_call, names={name for name, _ in keys}):
        returned = run()
        return squashed[0] if squashed else select(returned)
    return None


def _has_rows(logits: Tensor, n_samples: int) -> bool:
    return logits.is_floating_point() and logits.ndim > 0 and len(logits) == n_samples


def _name_layers(calls: list[RecordedCall], found: Found | None) -> dict[str, Layer]:
    counts = Counter(c.call.name for c in calls)
    layers: dict[str, Layer] = {}
    for c in calls:
        if found is not None and c is found.recorded:
            name = PENULTIMATE if PENULTIMATE not in counts else f"{PENULTIMATE}_input"
            layers[name] = Layer(c, found.head.location, found.features)
        if c.output is not None and (isinstance(c.call.called, nn.Module) or c.is_activation):
            name, number = c.call.key
            name = f"{name}[{number}]" if counts[name] > 1 else name
            layers[name] = Layer(c, Location(c.call.key), c.output)
    return layers
