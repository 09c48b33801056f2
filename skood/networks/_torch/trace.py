"""The layers, the head and the logits of a torch network, found in one forward pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from torch import Tensor, nn

from .._base import LEAST_ROUNDING, PENULTIMATE, Trace
from .auto_layers import AutoLayers, find_candidates
from .calls import ELEMENTARY, Call, Callers, CallListener
from .fingerprint import Written
from .flow import Flow
from .heads import explain_missing_head, find_path, find_source, rounding
from .inputs import Integers
from .outputs import AUTO, Path, Wanted, find_output
from .recorded import Layer, Location, RecordedCall


@dataclass(frozen=True, kw_only=True)
class TorchTrace(Trace):
    """What is needed to run a torch network again and find the same layers."""

    locations: dict[str, Location]
    """Where to find each layer, in forward order."""
    functions: dict[str, frozenset[str]]
    """Names of the calls that are calls of functions, with those of all modules that run then."""
    parents: dict[str, frozenset[str]]
    """Names of modules, with those of the modules that call them."""
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
    integers: Integers = Integers.AS_FLOATS
    """How the network takes integer inputs."""

    def callers(self, names: Collection[str]) -> Callers:
        """Where the functions among calls of some names are called."""
        outer = frozenset(chain.from_iterable(self.functions.get(name, ()) for name in names))
        quiet = (m for m, parents in self.parents.items() if m not in outer and parents & outer)
        return Callers(outer, frozenset(quiet))


class TraceResult(NamedTuple):
    """Trace of a pass, and its values."""

    trace: TorchTrace
    values: dict[str, Tensor]
    """Of each layer, in forward order."""
    logits: Tensor | None
    """What counts as the logits, of any shape."""


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
    flow = Flow(network)

    def on_call(call: Call) -> None:
        flow.note(call)
        calls.append(RecordedCall(call, n_samples))

    with flow, CallListener(network, on_call):
        returned = run()
    larger = [c for c in calls if c.call.called not in ELEMENTARY]
    path = find_path(returned, wanted, fits, larger)
    logits = wanted(returned) if callable(wanted) else find_output(returned, path)
    squashing, candidate = find_source(larger, logits)
    why_no_head = explain_missing_head(larger, logits, candidate)
    head = None if why_no_head else candidate
    candidates = find_candidates(calls, flow)
    layers = _name_layers(calls, head, candidates.functions)
    if known is not None:
        layers = {name: layer for name, layer in layers.items() if name in known}
    features = [name for name, layer in layers.items() if layer.feeds(head)]
    source = logits if squashing is None else squashing.input
    auto = AutoLayers(_name_calls(calls), layers, candidates, flow)
    if source is not None and fits(source):
        auto.leave_out_logits(squashing, source, flow.find(logits))
    chosen = auto.choose(features)
    trace = TorchTrace(
        auto=chosen.layers,
        left_out=chosen.left_out,
        features=features,
        n_axes={name: layer.value.ndim for name, layer in layers.items()},
        locations={name: layer.location for name, layer in layers.items()},
        functions=_unite((c.call.name, c.call.running) for c in calls if c.is_function),
        parents=_unite((c.call.name, c.call.running[:1]) for c in calls if not c.is_function),
        logits=None if squashing is None else Location(squashing.call.key, before=True),
        head=None if head is None else head.call.name,
        why_no_head=why_no_head,
        head_rounding=LEAST_ROUNDING if head is None else rounding(head),
        output=path,
    )
    return TraceResult(trace, {name: layer.value for name, layer in layers.items()}, source)


def _unite(pairs: Iterable[tuple[str, Iterable[str]]]) -> dict[str, frozenset[str]]:
    united: defaultdict[str, set[str]] = defaultdict(set)
    for key, values in pairs:
        united[key].update(values)
    return {key: frozenset(values) for key, values in united.items()}


def _name_layers(
    calls: list[RecordedCall], head: RecordedCall | None, functions: Collection[tuple[str, int]]
) -> dict[str, Layer]:
    """The values that can be extracted; of calls of functions those of some keys, too."""
    layers: dict[str, Layer] = {}
    named = _name_calls(calls)
    taken = {c.call.name for c in calls}
    for name, c in named.items():
        if c is head and c.input is not None:
            features = PENULTIMATE if PENULTIMATE not in taken else f"{PENULTIMATE}_input"
            layers[features] = Layer(c, Location(c.call.key, before=True), c.input.flatten(1))
        if c.output is not None and (
            not c.is_function or c.is_activation or c.call.key in functions
        ):
            layers[name] = Layer(c, Location(c.call.key), c.output)
    return layers


def _name_calls(calls: list[RecordedCall]) -> dict[str, RecordedCall]:
    """Calls by name, with their number where there are several of a name."""
    counts = Counter(c.call.name for c in calls)
    return {
        f"{c.call.name}[{c.call.number}]" if counts[c.call.name] > 1 else c.call.name: c
        for c in calls
    }
