"""The layers, the head and the logits of a torch network, found in one forward pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from torch import Tensor, nn

from .._base import LEAST_ROUNDING, OF_COSINES, PENULTIMATE, Trace
from .auto_layers import LOGITS, ONE_VALUE, AutoLayers, find_candidates
from .calls import ELEMENTARY, Call, Callers, CallListener
from .candidate_outputs import find_path
from .chosen_head import WantedHead, place_given, refuse_named
from .fingerprint import Written
from .flow import Flow
from .heads import Found, Head, Search, find_source
from .inputs import Integers
from .outputs import AUTO, Path, Wanted, explain_missing_logits, select_output
from .products import own_tensors, reads_rows, rounding
from .recorded import Layer, Location, RecordedCall, storage
from .unit_axes import UnitAxisListener
from .why_no_head import explain_missing_head


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
    unit_axes: dict[str, int]
    """The axis of the units of each layer of which it is known."""
    n_calls: Counter[str]
    """How often each module and function was called."""


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
    flow = Flow(network)
    n_calls: Counter[str] = Counter()
    axes, calls, returned = _record(network, run, n_samples, flow, n_calls)
    larger = [c for c in calls if c.call.called not in ELEMENTARY]
    search = Search(network, larger, None if head == AUTO or not isinstance(head, str) else head)
    logits = _find_logits(returned, wanted, fits, n_samples, search, flow)
    found = None
    if logits.has_rows(n_samples) and isinstance(head, str):
        select = partial(select_output, wanted=wanted, path=logits.path)
        probe = partial(_probe, network, run, select, logits.location)
        found = search.find(logits.values, logits.direct, probe)
    is_cosine = head == AUTO and found is not None and found.is_cosine(network)
    found = None if is_cosine else found
    _check_wanted(head, found, network, logits, larger)
    candidates = find_candidates(calls, flow, returned)
    layers = _name_layers(calls, found, candidates.functions)
    if known is not None:
        layers = {name: layer for name, layer in layers.items() if name in known}
    head_rounding = LEAST_ROUNDING if found is None else found.head.rounding
    features = [n for n, layer in layers.items() if layer.feeds(found and found.recorded)]
    if not isinstance(head, str):
        features, layers = place_given(head, layers, larger, logits.values)
        head_rounding = rounding(logits.values.dtype)
    auto = AutoLayers(_name_calls(calls), layers, candidates, flow)
    if logits.has_rows(n_samples) and (reason := _why_no_layer(logits.values, fits)):
        auto.leave_out_logits(logits.squashing, logits.values, flow.find(logits.output), reason)
    chosen = auto.choose(features)
    trace = TorchTrace(
        auto=chosen.layers,
        left_out=chosen.left_out,
        features=features,
        n_axes={name: layer.value.ndim for name, layer in layers.items()},
        locations={name: layer.location for name, layer in layers.items()},
        functions=_unite((c.call.name, c.call.running) for c in calls if c.is_function),
        parents=_unite((c.call.name, c.call.running[:1]) for c in calls if not c.is_function),
        logits=logits.location,
        head=None if found is None else found.head,
        why_no_logits=logits.why_none,
        why_no_head=_explain(search, logits, is_cosine) if not features else "",
        head_rounding=head_rounding,
        output=logits.path,
    )
    values = {name: layer.value for name, layer in layers.items()}
    return TraceResult(trace, values, logits.source, axes.find(layers, calls), n_calls)


class _Logits(NamedTuple):
    """What a network returns as its logits, and where they come from."""

    output: Tensor | None
    path: Path | None
    squashing: RecordedCall | None
    """The softmax or sigmoid that yields the output."""
    direct: RecordedCall | None
    """What seems to be the last linear layer, where it yields the very logits."""
    why_none: str
    """Why the output cannot hold logits; otherwise empty."""

    @property
    def source(self) -> Tensor | None:
        """The logits, before a softmax or sigmoid, of any shape."""
        return self.output if self.squashing is None else self.squashing.input

    @property
    def values(self) -> Tensor:
        """The logits, which there are."""
        assert self.source is not None
        return self.source

    @property
    def location(self) -> Location | None:
        """Where to find them, unless the network returns them."""
        return None if self.squashing is None else Location(self.squashing.call.key, before=True)

    def has_rows(self, n_samples: int) -> bool:
        """Whether there are numbers for each sample, if not enough."""
        source = self.source
        return (
            source is not None
            and source.is_floating_point()
            and source.ndim > 0
            and len(source) == n_samples
        )


def _find_logits(
    returned: Any,
    wanted: Wanted,
    fits: Callable[[Tensor], bool],
    n_samples: int,
    search: Search,
    flow: Flow,
) -> _Logits:
    path = find_path(returned, wanted, fits, search, flow)
    output = select_output(returned, wanted, path)
    is_known = output is not None and fits(output)
    why_none = "" if is_known else explain_missing_logits(returned, n_samples, fits)
    squashing, direct = find_source(search.calls, output)
    return _Logits(output, path, squashing, direct, why_none)


def _why_no_layer(output: Tensor, fits: Callable[[Tensor], bool]) -> str:
    """Why "auto" leaves out what a network returns; empty where it does not."""
    if fits(output):
        return LOGITS
    return ONE_VALUE if output.numel() == len(output) else ""


def _explain(search: Search, logits: _Logits, is_cosine: bool) -> str:
    if is_cosine:
        return OF_COSINES
    return logits.why_none or explain_missing_head(search, logits.source, logits.direct)


def _check_wanted(
    head: WantedHead,
    found: Found | None,
    network: nn.Module,
    logits: _Logits,
    calls: list[RecordedCall],
) -> None:
    """Raise a ValueError where a named module is not the head, or there are no logits."""
    if head == AUTO:
        return
    if logits.why_none:
        raise ValueError(f"head= needs logits to be compared with, but {logits.why_none}.")
    if found is None and isinstance(head, str):
        refuse_named(network, calls, logits.values, head)


def _unite(pairs: Iterable[tuple[str, Iterable[str]]]) -> dict[str, frozenset[str]]:
    united: defaultdict[str, set[str]] = defaultdict(set)
    for key, values in pairs:
        united[key].update(values)
    return {key: frozenset(values) for key, values in united.items()}


def _record(
    network: nn.Module,
    run: Callable[[], Any],
    n_samples: int,
    flow: Flow,
    n_calls: Counter[str],
) -> tuple[UnitAxisListener, list[RecordedCall], Any]:
    """Where units are, the calls of a pass, and what the network returns; counts all calls."""
    weights = {storage(tensor) for _, _, tensor in own_tensors(network)}
    calls: list[RecordedCall] = []
    axes = UnitAxisListener()

    def on_call(call: Call) -> None:
        n_calls[call.name] += 1
        with axes.paused():
            flow.note(call)
            recorded = RecordedCall(call, n_samples, weights)
            # Products of values with each other are many, and no layers.
            if not recorded.is_product or recorded.has_weight or reads_rows(recorded):
                calls.append(recorded)

    with flow, axes, CallListener(network, on_call):
        return axes, calls, run()


def _probe(
    network: nn.Module,
    run: Callable[[], Any],
    select: Callable[[Any], Tensor | None],
    logits_at: Location | None,
    scaled: list[RecordedCall],
    factor: float,
) -> Tensor | None:
    """The logits where the outputs of calls are multiplied by a factor, or None."""
    squashed: list[Tensor | None] = []

    def on_call(call: Call) -> Tensor | None:
        if logits_at is not None and call.key == logits_at.call:
            value = logits_at.read(call)
            squashed.append(None if value is None else value.clone())
        is_one = call.key in keys and call.output is not None
        return call.output * factor if is_one and call.output is not None else None

    keys = {c.call.key for c in scaled}
    heard = keys | (set() if logits_at is None else {logits_at.call})
    # A network need not bear such values.
    with suppress(Exception), CallListener(network, on_call, names={name for name, _ in heard}):
        returned = run()
        return squashed[0] if squashed else select(returned)
    return None


def _name_layers(
    calls: list[RecordedCall], found: Found | None, functions: Collection[tuple[str, int]]
) -> dict[str, Layer]:
    """The values that can be extracted; of calls of functions those of some keys, too."""
    layers: dict[str, Layer] = {}
    named = _name_calls(calls)
    taken = {c.call.name for c in calls}
    for name, c in named.items():
        if found is not None and c is found.recorded:
            features = PENULTIMATE if PENULTIMATE not in taken else f"{PENULTIMATE}_input"
            layers[features] = Layer(c, found.head.location, found.features)
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
