"""What to extract, found out from two samples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from .._column import free_name, usual_name
from .._layer_names import layer_columns, match_layers
from ..activations import Activations, Column, PackedBits
from ..networks import PENULTIMATE, Batch, NetworkAdapter, Trace, count_samples, take_samples
from ._failures import Explaining
from ._inputs import Batches
from ._masks import read_mask, warn_of_padding
from ._mode import Mode, Source
from ._reduction import reduce_activations

AUTO = "auto"

Template = dict[str, Column]
"""Columns by name, without a row."""


@dataclass(frozen=True)
class InputKind:
    """What one input of a network is like, of which no value is kept but the ends of two samples.

    Attributes
    ----------
    shape : tuple of int
        Shape of one sample.
    dtype : dtype
        Type of its values, of those that NumPy has.
    lowest, highest : float
        The smallest and the largest value.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Any, to_numpy: Callable[[Any], NDArray]) -> InputKind | None:
        """That of some samples, or None where they are no numbers."""
        if hasattr(values, "detach"):
            values = values.detach()
        array = values.toarray() if issparse(values) else np.asarray(to_numpy(values))
        if array.dtype.kind not in "biufc":
            return None
        ends = float(array.real.min()), float(array.real.max())
        return cls(array.shape[1:], array.dtype, *ends)

    def draw(self, n_samples: int, random: np.random.Generator) -> NDArray:
        """Samples of this kind, of values between the ends."""
        shape = n_samples, *self.shape
        if self.dtype.kind in "iub":
            ends = int(self.lowest), int(self.highest) + 1
            return random.integers(*ends, size=shape).astype(self.dtype)
        return random.uniform(self.lowest, self.highest, shape).astype(self.dtype)


@dataclass(frozen=True)
class Plan:
    """How to run a network, and what comes out."""

    trace: Trace
    layers: list[str]
    """Layers of the network to extract, in forward order."""
    names: dict[Source, str]
    """Name of each column that is extracted of them, in this order."""
    passes_name: str
    """Name of the layer of stochastic passes, where there are any."""
    head_input: str | None
    """Extracted layer that holds what the head reads."""
    template: Template
    """What is extracted, reduced."""
    n_at_once: int = 2
    """Number of samples that the network was run on."""
    inputs: dict[str | None, InputKind] = field(default_factory=dict)
    """Inputs by their names, of one without a name by None, as the network takes them."""

    def __getstate__(self) -> dict[str, Any]:
        # Objects of JSON, such as those of skops, have texts for keys, and neither pairs nor None.
        names = [[*source, name] for source, name in self.names.items()]
        return {**vars(self), "names": names, "inputs": list(self.inputs.items())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        names = {(layer, kind): name for layer, kind, name in state["names"]}
        vars(self).update({**state, "names": names, "inputs": dict(state["inputs"])})


def make_plan(
    adapter: NetworkAdapter,
    batches: Batches,
    wanted: str | Sequence[str],
    reducer: Any,
    mode: Mode,
    mask: str | None,
) -> Plan:
    """Run the network on two samples and choose the ``wanted`` ones among its layers.

    Raises
    ------
    ValueError
        If a name or pattern selects nothing, or "auto" finds nothing; the network does not
        yield what the mode needs; or no input is the mask.
    """
    with adapter.untouched():
        some, (trace, values) = _trace(adapter, batches)
        tokens = read_mask(some, mask, trace, adapter.to_numpy)
        layers = _choose(wanted, trace, list(values))
        warn_of_padding(some, mask, trace, layers, reducer)
        mode.check(list(values))
        arrays: dict[Source, NDArray] = {
            (layer, "value"): adapter.to_numpy(values[layer]) for layer in layers
        }
        outcome = None
        if mode != Mode():

            def keep(source: Source, value: Any) -> None:
                arrays[source] = np.array(adapter.to_numpy(value))

            outcome = mode.run(adapter, some, trace, layers, keep)
    names = _choose_names(mode.sources(layers))
    reduced = Activations(as_columns(arrays, names, trace), mask=tokens)
    if reducer is not None:
        reduced = reduce_activations(reducer, reduced)
    holds_features = (
        layer
        for layer in trace.features
        if layer in layers
        and layer in reduced
        and np.array_equal(reduced[layer], arrays[layer, "value"])
    )
    passes_name = free_name(usual_name("", "pass"), {*layers, *reduced.layer_names})
    if outcome is not None and outcome.passes is not None:
        passes = Column(adapter.to_numpy(outcome.passes), kind="pass")
        reduced = reduced.assign({passes_name: passes})
    head_input = next(holds_features, None)
    template = template_of(reduced)
    n_at_once = count_samples(some)
    inputs = _kinds_of(some, adapter)
    return Plan(trace, layers, names, passes_name, head_input, template, n_at_once, inputs)


def _kinds_of(some: Batch, adapter: NetworkAdapter) -> dict[str | None, InputKind]:
    def to_numpy(values: Any) -> NDArray:
        return values if isinstance(values, np.ndarray) else adapter.to_numpy(values)

    named = some.items() if isinstance(some, Mapping) else [(None, some)]
    kinds = {name: InputKind.of(values, to_numpy) for name, values in named}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _trace(adapter: NetworkAdapter, batches: Batches) -> tuple[Batch, tuple[Trace, dict[str, Any]]]:
    """A run on two samples, or on the first batch where the network takes no fewer."""
    first = batches.first()
    two = take_samples(first, [0, -1])
    with Explaining(adapter, two, first if batches.data is None else batches.data):
        try:
            return two, adapter.trace(two)
        except Exception as error:
            if count_samples(first) < 3 or adapter.explain(error) is None:
                raise
            with suppress(Exception):
                return first, adapter.trace(first)
            raise


def as_columns(
    arrays: Mapping[Source, NDArray], names: Mapping[Source, str], trace: Trace
) -> dict[str, Column]:
    """What was extracted of layers, by name; with the axis of units as a trace knows it."""
    return {
        name: Column(
            arrays[layer, kind],
            layer=layer,
            kind=kind,
            unit_axis=trace.unit_axes.get(layer, 1),
        )
        for (layer, kind), name in names.items()
    }


def _choose_names(sources: Sequence[Source]) -> dict[Source, str]:
    names = {source: usual_name(*source) for source in sources}
    # A layer of the network keeps its name.
    taken = {layer for layer, _ in sources}
    return {
        source: name if source[1] == "value" else free_name(name, taken)
        for source, name in names.items()
    }


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
    if PENULTIMATE in names and PENULTIMATE not in known and trace.features:
        # Where each layer has a name of its own, it is one of these.
        return match_layers([trace.features[0] if n == PENULTIMATE else n for n in names], known)
    return match_layers(wanted, known)


def summarize(layers: Sequence[str], left_out: Mapping[str, str]) -> str:
    """What "auto" takes, and how much it leaves out for which reason."""
    kinds = Counter(re.split(r" '|:", reason)[0] for reason in left_out.values())
    reasons = "; ".join(f"{count} ({kind})" for kind, count in kinds.items())
    taken = f"{len(layers)} layer{'s' * (len(layers) > 1)}, from {layers[0]!r} to {layers[-1]!r}"
    return f"layers='auto' takes {taken}, and leaves out {reasons or 'none'}."


def template_of(activations: Activations) -> Template:
    """The columns of the layers, without a row; reads no data."""
    template = {}
    for column in layer_columns(activations):
        no_rows: Any = np.empty((0, *column.shape[1:]), column.dtype)
        if column.is_packed:
            no_rows = PackedBits.pack(no_rows)
        template[str(column.name)] = column.with_array(no_rows)
    return template


def fits(activations: Activations, template: Template) -> bool:
    """Whether activations hold layers of the kind, shape and type of packing of a template."""
    found = {column.name: column for column in layer_columns(activations)}
    return all(
        name in found and _likeness(found[name]) == _likeness(column)
        for name, column in template.items()
    )


def _likeness(column: Column) -> tuple[Any, ...]:
    return column.kind, column.shape[1:], column.is_packed
