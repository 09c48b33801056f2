"""Any ONNX model as a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .._base import (
    LEAST_ROUNDING,
    PENULTIMATE,
    Batch,
    LayerCallback,
    NetworkAdapter,
    Trace,
    count_samples,
    take_samples,
    two_class_head,
)
from .._fingerprint import Fingerprint
from .auto_layers import choose_layers
from .graph import Graph
from .heads import (
    Head,
    Logits,
    as_matrix_of_rows,
    find_head,
    find_linear,
    find_logits,
    find_named,
    rounding_of,
)
from .inputs import as_array, fixed_batch_size, halve_sequences, to_arrays
from .model import Place, open_model
from .outputs import AUTO, BINARY, Wanted, choose_logits, outputs_of
from .unit_axes import unit_axes

_Values = dict[str, NDArray]


@dataclass(frozen=True, kw_only=True)
class OnnxTrace(Trace):
    """What is needed to run a model again and find the same layers."""

    values: dict[str, str]
    """The value of the graph that each layer is, in forward order."""
    logits: Logits | None
    """None where there are none, or the user's function computes them."""
    n_classes: int | None
    """Number of columns of the logits, or None where there are none."""
    found_head: Head
    penultimate: str = ""
    """The layer that is the input of the head as a matrix."""


class OnnxAdapter(NetworkAdapter):
    """Runs a model with its inner values as further outputs, in sessions of its own.

    Parameters
    ----------
    network : str, PathLike, onnxruntime.InferenceSession, onnx.ModelProto or bytes
        The path of a model, a session, a model in memory, or its serialised form.
    device : str or torch.device, default="auto"
        "cpu" or "cuda"; "auto" is where a given session runs, else the CPU.
    logits : "auto", "binary", str, int or callable, default="auto"
        Which output holds the logits. A callable is given a mapping of the names of all outputs
        to arrays, in their order, which takes their numbers too.
    head : "auto", str or LinearHead, default="auto"
        The name of the node that is the last linear layer, or weight and bias themselves.
    """

    kept_as = "model"
    capabilities = frozenset({"device", "logits", "head"})
    written_by_passes = False
    kind = "an ONNX model"

    def __init__(
        self, network: Any, device: Any = AUTO, logits: Wanted = AUTO, head: Any = AUTO
    ) -> None:
        self.network = network
        self._model = open_model(network)
        self._graph = self._model.graph
        self._session = network if isinstance(network, ort.InferenceSession) else None
        self._place = Place(device, self._session)
        self._n_fixed = fixed_batch_size(self._graph.inputs)
        self._wanted, self._wanted_head = logits, head
        self._is_binary = isinstance(logits, str) and logits == BINARY
        self.classes = _class_labels(self._graph)
        _refuse_training(self._graph)

    def stamp(self, trace: Any = None) -> Any:
        # The file, or the model in memory, may have changed since it was opened.
        return self._model.stamp_of(self.network)

    def whole_model(self) -> bytes:
        """The model itself, with its weights."""
        return self._model.whole()

    def fingerprint(self, trace: Any = None) -> Fingerprint:
        return open_model(self.network).fingerprint

    def trace(self, batch: Batch) -> tuple[OnnxTrace, _Values]:
        graph = self._graph
        # Not kept: it holds the weights once more, and what is extracted has a session of its own.
        session = self._model.open(self._traced_values(), self._place)
        values = self._run(batch, session)
        self._compare_with_session(batch, values)
        floats = {n: v for n, v in values.items() if n in graph.data and v.dtype.kind == "f"}
        rows = self._with_rows(batch, floats, session)
        logits = choose_logits(graph, self._wanted, values, rows)
        source = self._source(values, logits)
        as_logits = self._as_logits(source, logits)
        raw = None if as_logits is None or source is None else source.reshape(len(source), -1)
        head = find_head(graph, self._wanted_head, logits, raw, values, rows)
        shapes = {name: value.shape for name, value in floats.items()}
        single = [] if logits else _of_one_value(graph, values, count_samples(batch))
        chosen, left_out = choose_layers(graph, shapes, rows, logits and logits.value, head, single)
        layers, features = _name_layers(graph, rows, head)
        auto = [
            name for name, value in layers.items() if value in chosen and name not in features[:1]
        ]
        if features and not set(features) & set(auto):
            auto = [name for name in layers if name in {*auto, features[0]}]
        axes = unit_axes(graph, shapes)
        sequence = self._find_sequence(batch, session)
        trace = OnnxTrace(
            auto=auto,
            features=features,
            n_axes={n: 2 if n in features[:1] else rows[v].ndim for n, v in layers.items()},
            why_no_head=head.why_not,
            head_rounding=LEAST_ROUNDING if raw is None else rounding_of(raw),
            unit_axes={
                name: axes[v]
                for name, v in layers.items()
                if axes.get(v, 1) > 1 and name not in features[:1]
            },
            takes_any_length=bool(sequence),
            sequence=sequence,
            left_out={graph.names[value]: reason for value, reason in left_out.items()},
            values=layers,
            logits=logits,
            n_classes=None if as_logits is None else as_logits.shape[1],
            found_head=head,
            penultimate=features[0] if features else "",
        )
        return trace, {name: self._as_layer(trace, name, rows) for name in layers}

    def _traced_values(self) -> list[str]:
        """All data, what the model returns, and constants that a head may be made of."""
        graph = self._graph
        found = [find_linear(graph, find_logits(graph, output).value) for output in graph.outputs]
        if isinstance(self._wanted_head, str) and self._wanted_head != AUTO:
            found.append(find_named(graph, self._wanted_head))
        constants = [name for linear in found if linear is not None for name in linear.constants()]
        return list(dict.fromkeys([*graph.data_outputs(), *graph.outputs, *constants]))

    def _with_rows(self, batch: Batch, values: _Values, session: Any) -> _Values:
        """Those of values of two samples that have a row of values for each sample."""
        n_samples = count_samples(batch)
        order = list(range(n_samples))
        found = {n: v for n, v in values.items() if v.ndim > 1 and len(v) == n_samples}
        if self._n_fixed is None:
            # Where there are as many of something else, one more sample tells.
            order.append(n_samples - 1)
            others = self._run(take_samples(batch, order), session)
            return {n: v for n, v in found.items() if others[n].shape == (len(order), *v.shape[1:])}
        others = self._run(take_samples(batch, order[::-1]), session)
        return {n: v for n, v in found.items() if _nearly(others[n][::-1], v)}

    def _compare_with_session(self, batch: Batch, values: _Values) -> None:
        """Check that the model which was found for a session is the one that it runs."""
        if self._session is None:
            return
        inputs = next(self._portions(batch))
        names = [o.name for o in self._session.get_outputs()]
        of_session = dict(zip(names, self._session.run(names, inputs), strict=True))
        for name in of_session.keys() & values.keys():
            theirs, ours = (v[name][: count_samples(batch)] for v in (of_session, values))
            if ours.dtype.kind == "f" and not _nearly(theirs, ours):
                raise ValueError(
                    f"The output {name!r} of the session is not that of the model which it was "
                    "made from: has the file been overwritten since? Make the session anew, or "
                    "pass the path."
                )

    def _find_sequence(self, batch: Batch, session: Any) -> str:
        """Name of an input that is a sequence, where half of its length is taken too; or none."""
        arrays = to_arrays(batch, self._graph.inputs)
        shorter = halve_sequences(arrays, self._graph.inputs)
        if not shorter:
            return ""
        try:
            self._run({**arrays, **shorter}, session)
        except ValueError:
            return ""
        return next(iter(shorter))

    def forward(
        self, batch: Batch, trace: OnnxTrace, layers: Sequence[str], keep: LayerCallback
    ) -> NDArray | None:
        wanted = {trace.values[layer] for layer in layers}
        if trace.logits is not None:
            wanted.add(trace.logits.value)
        elif callable(self._wanted):
            wanted.update(self._graph.outputs)
        values = self._run(batch, self._session_of(wanted))
        for layer in layers:
            keep(layer, self._as_layer(trace, layer, values))
        logits = self._as_logits(self._source(values, trace.logits), trace.logits)
        got = None if logits is None else logits.shape[1]
        if got != trace.n_classes:
            raise ValueError(
                f"The ONNX model returned {trace.n_classes} logits for each sample in fit, but "
                f"{got} for a batch of {count_samples(batch)}."
            )
        return logits

    @staticmethod
    def _as_layer(trace: OnnxTrace, layer: str, values: _Values) -> NDArray:
        value = values[trace.values[layer]]
        return value.reshape(len(value), -1) if layer == trace.penultimate else value

    def head(self, trace: OnnxTrace) -> tuple[NDArray, NDArray | None] | None:
        weight, bias = trace.found_head.weight, trace.found_head.bias
        if weight is None:
            return None
        bias = None if bias is None else self.to_numpy(bias).copy()
        # One row is that of the second of two classes.
        weight = self.to_numpy(weight).copy()
        return two_class_head(weight, bias) if len(weight) == 1 else (weight, bias)

    def to_numpy(self, value: Any) -> NDArray:
        # Inputs may be tensors. NumPy computes slowly in half precision.
        array = as_array(value)
        return array.astype(np.float32) if array.dtype == np.float16 else array

    def _source(self, values: _Values, logits: Logits | None) -> Any:
        """What holds the logits, of any shape; a matrix where all further axes have one place."""
        if logits is not None:
            value = values.get(logits.value)
            matrix = as_matrix_of_rows(value)
            return value if matrix is None else matrix
        return self._wanted(outputs_of(self._graph, values)) if callable(self._wanted) else None

    def _as_logits(self, source: Any, logits: Logits | None) -> NDArray | None:
        is_one = self._is_binary or (logits is not None and logits.is_log_odds)
        if not _may_be_logits(source, is_one):
            if isinstance(self._wanted, str) and self._wanted == AUTO:
                return None
            needed = "one value a sample" if is_one else "a column for each class"
            shape = getattr(source, "shape", None)
            got = type(source).__name__ if shape is None else f"shape {tuple(shape)}"
            raise ValueError(f"logits={self._wanted!r} needs {needed}, but selects {got}.")
        if not is_one:
            return source
        log_odds = source.reshape(-1, 1)
        return np.concatenate([np.zeros_like(log_odds), log_odds], axis=1)

    def _session_of(self, values: Iterable[str]) -> Any:
        return self._model.session(values, self._place)

    def _run(self, batch: Batch, session: Any) -> _Values:
        """All that a session yields, with a row for each sample where it has rows."""
        parts = [self._model.run(inputs, session) for inputs in self._portions(batch)]
        if self._n_fixed is None:
            return parts[0]
        n_samples = count_samples(batch)
        return {
            name: np.concatenate([part[name] for part in parts])[:n_samples]
            if name in self._graph.data and value.shape[:1] == (self._n_fixed,)
            else value
            for name, value in parts[0].items()
        }

    def _portions(self, batch: Batch) -> Iterator[_Values]:
        """Inputs of as many samples as the model takes."""
        inputs = to_arrays(batch, self._graph.inputs)
        n_samples, size = count_samples(batch), self._n_fixed
        if size is None:
            yield inputs
            return
        for start in range(0, n_samples, size):
            # The last sample stands in where there are too few.
            places = np.minimum(np.arange(start, start + size), n_samples - 1)
            yield {name: array[places] for name, array in inputs.items()}


def _name_layers(
    graph: Graph, rows: Mapping[str, NDArray], head: Head
) -> tuple[dict[str, str], list[str]]:
    """The value that each layer is, in forward order; and the layers that the head reads.

    The first of these is there for the head alone.
    """
    layers = {graph.names[value]: value for value in graph.data_outputs() if value in rows}
    if head.weight is None:
        return layers, []
    penultimate = PENULTIMATE if PENULTIMATE not in layers else f"{PENULTIMATE}_input"
    same = [name for name, value in layers.items() if value in head.same]
    names = list(layers)
    # After the value that it is, or before all where that is an input.
    holding = [name for name, value in layers.items() if value in {*head.same, head.features}]
    place = max((names.index(name) + 1 for name in holding), default=0)
    ordered = [*names[:place], penultimate, *names[place:]]
    layers[penultimate] = head.features
    return {name: layers[name] for name in ordered}, [penultimate, *same]


def _of_one_value(graph: Graph, values: _Values, n_samples: int) -> list[str]:
    """The output of a model with one output, where that is one number a sample."""
    found = [values[output] for output in graph.outputs if output in values]
    is_one = all(v.dtype.kind == "f" and v.shape[:1] == (n_samples,) == (v.size,) for v in found)
    return graph.outputs if len(found) == 1 and is_one else []


def _may_be_logits(value: Any, is_one: bool) -> bool:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return False
    if is_one:
        return value.ndim > 0 and value.size == len(value)
    return value.ndim == 2 and value.shape[1] > 1


def _nearly(one: NDArray, other: NDArray) -> bool:
    """Whether values agree, up to what other kernels and fusions make of them."""
    largest = np.abs(other, where=np.isfinite(other), out=np.zeros_like(other)).max(initial=0)
    return one.shape == other.shape and np.allclose(
        one, other, rtol=1e-2, atol=1e-2 * float(largest), equal_nan=True
    )


def _class_labels(graph: Graph) -> NDArray | None:
    """The labels of the classes, where the model returns probabilities by label."""
    for node in graph.nodes:
        for kind in ("classlabels_int64s", "classlabels_ints", "classlabels_strings"):
            if node.op == "ZipMap" and node.attributes.get(kind):
                return np.asarray(node.attributes[kind])
    return None


def _refuse_training(graph: Graph) -> None:
    for node in graph.nodes:
        training = node.op == "BatchNormalization" and node.attributes.get("training_mode")
        if node.op == "Dropout" and len(node.inputs) > 2 and node.inputs[2]:
            mode = graph.constant(node.inputs[2])
            training = mode is not None and bool(mode.all())
        if training:
            raise ValueError(
                f"The node {node.name or node.outputs[0]!r} of the ONNX model, a {node.op}, is "
                "in training mode: export the model in evaluation mode."
            )
