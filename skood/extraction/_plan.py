"""What to extract, found out from two samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from .._layer_names import match_layers
from ..activations import Activations, LinearHead, PackedBits
from ..networks import PENULTIMATE, NetworkAdapter, Trace, count_samples
from ._collector import Collector, reduce_activations, units_first, without_false_head
from ._inputs import Batches
from ._mode import Mode
from ._passes import PASSES, check_name_is_free

AUTO = "auto"
Signature = dict[str, tuple[tuple[int, ...], bool]]


@dataclass(frozen=True)
class Plan:
    """How to run a network, and what comes out."""

    trace: Trace
    layers: list[str]
    """Layers of the network to extract, in forward order."""
    head_input: str | None
    """Extracted layer that holds what the head reads."""
    signature: Signature
    """Of the reduced layers."""


def make_plan(
    adapter: NetworkAdapter,
    batches: Batches,
    wanted: str | Sequence[str],
    reducer: Any,
    mode: Mode,
) -> Plan:
    """Run the network on two samples and choose the ``wanted`` ones among its layers.

    Raises
    ------
    ValueError
        If a name or pattern selects nothing, or "auto" finds nothing; or the network does not
        yield what the mode needs.
    """
    with adapter.untouched():
        two = batches.first_two()
        trace, values = adapter.trace(two)
        layers = _choose(wanted, trace, list(values))
        mode.check(list(values))
        if mode.passes is not None:
            check_name_is_free(layers)
        arrays = {name: adapter.to_numpy(values[name]) for name in layers}
        outcome = None
        if mode != Mode():

            def keep(name: str, value: Any) -> None:
                arrays[name] = np.array(adapter.to_numpy(value))

            outcome = mode.run(adapter, two, trace, layers, keep)
    reduced = Activations({name: arrays[name] for name in mode.names(layers)})
    if reducer is not None:
        reduced = reduce_activations(reducer, units_first(reduced, trace.units_last))
    holds_features = (
        name
        for name in trace.features
        if name in reduced and name in arrays and np.array_equal(reduced[name], arrays[name])
    )
    if outcome is not None and outcome.passes is not None:
        reduced = reduced.assign({PASSES: adapter.to_numpy(outcome.passes)})
    return Plan(trace, layers, next(holds_features, None), signature_of(reduced))


def _choose(wanted: str | Sequence[str], trace: Trace, known: list[str]) -> list[str]:
    if isinstance(wanted, str) and wanted == AUTO:
        if trace.auto:
            return trace.auto
        raise ValueError(
            "layers='auto' found no activation function in the network, and no head, since "
            f"{trace.why_no_head}: name the layers to extract; known are {known}."
        )
    names = [wanted] if isinstance(wanted, str) else wanted
    if PENULTIMATE in names and PENULTIMATE not in known and trace.why_no_head:
        raise ValueError(
            f"There is no layer {PENULTIMATE!r}, the input of the head, since "
            f"{trace.why_no_head}; known are {known}."
        )
    return match_layers(wanted, known)


def signature_of(activations: Activations) -> Signature:
    """Shape of a sample in each layer, and whether it is packed; reads one row."""
    one = activations[:1]
    return {
        name: (shape, isinstance(one[name], PackedBits))
        for name, shape in activations.layer_shapes.items()
    }


def extract(
    key: Any,
    layers: list[str],
    reducer: Any,
    *,
    adapter: NetworkAdapter,
    plan: Plan,
    mode: Mode,
    batches: Batches,
    verbose: int,
) -> Activations:
    """Run the network over all batches.

    The arguments before the star are those that a cache goes by; ``key`` stands for the content of
    network, inputs and mode.
    """
    names, units_last = mode.names(layers), plan.trace.units_last
    collector = Collector(reducer, adapter.to_numpy, batches.n_samples, names, units_last)
    bar = tqdm(total=batches.n_samples, unit=" samples", disable=not verbose)
    with bar, adapter.untouched():
        for number, batch in enumerate(batches):
            outcome = mode.run(adapter, batch, plan.trace, layers, collector.keep, number=number)
            n_rows = count_samples(batch)
            collector.end_batch(n_rows, *outcome)
            bar.update(n_rows)
        head = adapter.head(plan.trace)
    extracted = collector.collect(head and LinearHead(*head, plan.head_input), adapter.classes)
    return without_false_head(extracted, plan.trace.head_rounding)
