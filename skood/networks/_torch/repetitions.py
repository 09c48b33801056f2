"""Which of many calls a layer is, where their number follows the length of the inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction

from .recorded import Location
from .trace import TorchTrace, TraceResult

_Pairs = dict[Location, int]
"""The number that a call has in another pass, by where it is in the first."""


def follow_length(traced: TraceResult, shorter: TraceResult) -> TorchTrace:
    """The trace, in which the last step of a loop stays the last for inputs of any length.

    Parameters
    ----------
    traced : TraceResult
        Of a pass.
    shorter : TraceResult
        Of a pass on shorter inputs.
    """
    trace, fewer = traced.trace, shorter.n_calls
    varying = {name for name, n in traced.n_calls.items() if fewer.get(name, n) != n}
    if not varying:
        return trace
    ends = _ends(trace)
    pairs = _pair(ends, _ends(shorter.trace))
    pairs |= _pair(_at(trace, trace.auto), _at(shorter.trace, shorter.trace.auto))
    pairs |= _pair(_at(trace, trace.features), _at(shorter.trace, shorter.trace.features))

    def place(location: Location) -> Location:
        name, number = location.call
        if name not in varying:
            return location
        n, m = traced.n_calls[name], fewer[name]
        is_last = number == n - 1 or location in ends
        fallback = number - n + m if is_last else number
        return _follow(location, n, m, pairs.get(location, fallback))

    return _replaced(trace, place)


def _at(trace: TorchTrace, layers: Iterable[str]) -> list[Location]:
    return [trace.locations[layer] for layer in layers]


def _ends(trace: TorchTrace) -> list[Location]:
    """Where the head and the logits are."""
    at_head = [] if trace.head is None else [trace.head.location]
    return at_head if trace.logits is None else [*at_head, trace.logits]


def _pair(ours: Iterable[Location], theirs: Iterable[Location]) -> _Pairs:
    """Calls of the same names in two passes, in their order, where there are as many."""
    calls: defaultdict[tuple, tuple[list[Location], list[int]]] = defaultdict(lambda: ([], []))
    for location in ours:
        calls[location.call[0], location.before][0].append(location)
    for location in theirs:
        calls[location.call[0], location.before][1].append(location.call[1])
    return {
        location: number
        for one, other in calls.values()
        if len(one) == len(other)
        for location, number in zip(one, other, strict=True)
    }


def _follow(location: Location, n_calls: int, n_fewer: int, number: int) -> Location:
    share = Fraction(location.call[1] - number, n_calls - n_fewer)
    return replace(location, n_calls=n_calls, share=share) if 0 < share <= 1 else location


def _replaced(trace: TorchTrace, place: Callable[[Location], Location]) -> TorchTrace:
    head, logits = trace.head, trace.logits
    return replace(
        trace,
        locations={layer: place(location) for layer, location in trace.locations.items()},
        head=None if head is None else replace(head, location=place(head.location)),
        logits=None if logits is None else place(logits),
    )
