"""Any ``torch.nn.Module`` as a network."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from ..._logits import require_logits, uniform_kl_gradient
from ..._side_by_side import stretches
from .._base import (
    Batch,
    LayerCallback,
    LayerReading,
    NetworkAdapter,
    Perturbation,
    check_reached,
    count_samples,
    take_samples,
    two_class_head,
)
from .._fingerprint import Fingerprint
from .._session import NetworkSession
from .autocast import Autocast, lower_precision
from .calls import uncompiled
from .captured import CapturedNetwork, capture
from .chosen_head import WantedHead
from .dropout import draw_themselves, dropout_layers, dropping_out, seed_global
from .failures import explain_failure
from .fingerprint import (
    Attributes,
    Written,
    fingerprint_of,
    read_attributes,
    renewed_between,
    written_between,
)
from .gradients import (
    Inputs,
    LayerGradients,
    exchange,
    input_gradients,
    recorded,
    recording,
    weights_recorded,
)
from .inputs import Integers, call, find_integers, holds_any_integers, to_inputs
from .memory import as_array
from .outputs import AUTO, BINARY, Wanted, describe_output, select_output
from .random_numbers import drawing
from .reading import LayerReader
from .repetitions import follow_length
from .sequences import (
    Shorter,
    Sizes,
    find_token_steps,
    halve_images,
    halve_sequences,
    length_of,
)
from .stamp import find_stamp, make_stamp
from .trace import TorchTrace, TraceResult, trace_calls
from .transfers import transfers_of
from .unit_axes import axes_by_size
from .untouched import Untouched, alone, are_the_same

_N_JOINED = 2**13
"""Tensors of no more numbers are copied into one."""


def _written(trace: Any) -> Written:
    # The trace may be that of a network of another kind, before this one took its place.
    return trace.written if isinstance(trace, TorchTrace) else Written()


class TorchAdapter(NetworkAdapter):
    """Runs a module, or a copy of it where that is wanted on another device."""

    kept_as = "weights"
    capabilities = frozenset({"gradients", "dropout", "perturbation", "device", "logits", "head"})

    _returns_log_odds = False
    """Whether this kind of network yields one logit a sample, also where nobody says so."""

    def __init__(
        self,
        network: nn.Module | torch.export.ExportedProgram,
        device: Any = "auto",
        logits: Wanted = AUTO,
        head: WantedHead = AUTO,
        autocast: Autocast = False,
    ) -> None:
        self._given: Any = network
        self.network = self._original
        self._stamp: Any = None
        tensors = list(_own_tensors(self.network))
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
            raise NotFittedError(
                f"This {type(network).__name__} has parameters that are not initialised yet: "
                "train it before its activations are extracted."
            )
        floats = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
        self._dtype = next(floats, torch.get_default_dtype())
        self._device = tensors[0].device if tensors else torch.device("cpu")
        self._wanted = logits
        is_wanted = isinstance(logits, str) and logits == BINARY
        self._is_binary = is_wanted or self._returns_log_odds
        self._wanted_head = head
        if device != "auto":
            self._move_to(torch.empty(0, device=device).device)
        self._lower = lower_precision(autocast, self._device)
        self._transfers = transfers_of(self._device)

    @property
    def _original(self) -> nn.Module:
        """The module that is to be read now; a wrapper may be given another one."""
        return _readable(self._given)

    @property
    def precision(self) -> str:
        return "" if self._lower is None else str(self._lower)

    def _move_to(self, device: torch.device) -> None:
        if device != self._device:
            self.network = copy.deepcopy(self.network).to(device)
            self._device = device

    def untouched(self) -> AbstractContextManager[None]:
        return Untouched(self.network, self._lower, self._device).context()

    def fingerprint(self, trace: TorchTrace | None = None) -> Fingerprint:
        with alone():
            network = self._original
            found, met = fingerprint_of(network, _written(trace))
            self._stamp = make_stamp(network, met, found.left_out)
        return found

    def stamp(self, trace: TorchTrace | None = None) -> Any:
        written = _written(trace)
        with alone():
            found = find_stamp(self._original, written.records | written.unclear)
            if found is None:
                self.fingerprint(trace)
        return found or self._stamp

    def glance(self, trace: TorchTrace | None = None, *, after_pass: bool = False) -> Any:
        written = _written(trace)
        left_out = written.records | written.unclear
        with alone():
            found = find_stamp(self._original, left_out, at_a_glance=True, after_pass=after_pass)
        return found or self.stamp(trace)

    def session(self, trace: TorchTrace, layers: Sequence[str]) -> NetworkSession:
        return TorchSession(self, trace, layers)

    def trace(self, batch: Batch) -> tuple[TorchTrace, dict[str, Tensor]]:
        if any(tensor.is_meta for tensor in _own_tensors(self.network)):
            raise ValueError(
                f"Weights of the {type(self._given).__name__} are not in memory, but on the device "
                "'meta': they were never loaded, or accelerate has moved them elsewhere until they "
                'are needed (cpu_offload, disk_offload, a device_map with "disk"). Load all of '
                'the network, such as by device_map="cpu".'
            )
        with drawing(again=partial(self._run, batch, Integers.NOT_TRIED)) as drew:
            trace, values = self._trace_with_shapes(batch)
        return replace(trace, draws=frozenset(drew)), values

    def _trace_with_shapes(self, batch: Batch) -> tuple[TorchTrace, dict[str, Tensor]]:
        before = read_attributes(self.network)
        integers = find_integers(self.network, batch, self._run)
        traced = self._trace(batch, integers)
        n_samples = count_samples(batch)
        if any(n_samples in value.shape[1:] for value in traced.values.values()):
            # The samples may lie along another axis. They lie along the first where one more
            # sample yields one more row.
            more = take_samples(batch, [*range(n_samples), -1])
            with suppress(RuntimeError):  # of a network that takes so many samples only
                # Which output holds the logits is settled, and has been warned about.
                path = self._wanted if callable(self._wanted) else traced.trace.output
                known = self._trace(more, integers, path=path).values
                traced = self._trace(batch, integers, known, path)
        logits = self._as_logits(traced.logits)
        shorter = halve_sequences(batch, integers)
        others = None if shorter is None else self._trace_again(shorter.batch, integers, traced)
        sizes = self._find_sizes(batch, integers, traced, shorter, others)
        return replace(
            traced.trace if others is None else follow_length(traced, others),
            written=self._find_written(before, batch, integers),
            integers=integers,
            takes_any_length=sizes.sequence is not None,
            sequence=sizes.sequence or "",
            unit_axes={name: axis for name, axis in sizes.unit_axes.items() if axis != 1},
            token_steps=sizes.token_steps,
            n_classes=None if logits is None else logits.shape[1],
        ), traced.values

    def _find_written(self, before: Attributes, batch: Batch, integers: Integers) -> Written:
        """What a pass changes in the network, given its attributes from before that pass."""
        after = read_attributes(self.network)
        written = written_between(before, after)
        if not (renewed := renewed_between(before, after)):
            return written
        # A record is that of the last inputs; a setting that is copied stays with others too.
        with suppress(Exception):
            self._run(take_samples(batch, [*range(count_samples(batch))][::-1]), integers)
        later = written_between(after, read_attributes(self.network)).records
        return written._replace(records=written.records | (renewed & later))

    def _trace(
        self,
        batch: Batch,
        integers: Integers,
        known: Collection[str] | None = None,
        path: Wanted | None = None,
        head: WantedHead | None = None,
    ) -> TraceResult:
        n_samples = count_samples(batch)
        return trace_calls(
            self.network,
            lambda: self._run(batch, integers),
            n_samples,
            wanted=self._wanted if path is None else path,
            head=self._wanted_head if head is None else head,
            fits=lambda output: self._may_be_logits(output) and len(output) == n_samples,
            known=known,
        )

    def _find_sizes(
        self,
        batch: Batch,
        integers: Integers,
        traced: TraceResult,
        shorter: Shorter | None,
        others: TraceResult | None,
    ) -> Sizes:
        """What depends on the length; ``others`` are the values for ``shorter`` inputs, if any."""
        if shorter is not None and others is not None:
            by_size = axes_by_size(traced.values, others.values)
            if shorter.is_certain or by_size:
                axes = {**traced.unit_axes, **by_size}
                lengths = length_of(batch, shorter.name), length_of(shorter.batch, shorter.name)
                steps = find_token_steps(traced.values, others.values, axes, lengths)
                return Sizes(shorter.name, axes, steps)
        # What has the shape of the inputs has its channels where they have them.
        inputs = batch.values() if isinstance(batch, Mapping) else [batch]
        known = {tuple(values.shape) for values in inputs}
        maps = {n for n, v in traced.values.items() if v.ndim > 2 and tuple(v.shape) not in known}
        smaller = halve_images(batch) if maps - traced.unit_axes.keys() else None
        found = None if smaller is None else self._trace_again(smaller, integers, traced)
        values = {} if found is None else found.values
        return Sizes(None, {**axes_by_size(traced.values, values), **traced.unit_axes})

    def _trace_again(
        self, batch: Batch, integers: Integers, traced: TraceResult
    ) -> TraceResult | None:
        """Trace the network on inputs of another size; None where it refuses them."""
        # Which output holds the logits is known already.
        select = partial(select_output, wanted=self._wanted, path=traced.trace.output)
        try:
            return self._trace(batch, integers, path=select, head=AUTO)
        except Exception:  # a network of inputs of one size
            return None

    def forward(
        self, batch: Batch, trace: TorchTrace, layers: Sequence[str], keep: LayerCallback
    ) -> Tensor | None:
        inputs = self._to_inputs(batch, trace.integers)
        with self._drawing(batch, trace, trace.draws):
            return self._listen(inputs, trace, layers, keep)

    def as_module(
        self, batch: Batch, trace: TorchTrace, layers: Sequence[str], read: LayerReading
    ) -> CapturedNetwork:
        return capture(self, batch, trace, layers, read)

    def codes(self, logits: Tensor, trace: TorchTrace) -> Tensor | None:
        """Numbers of predicted classes, where these are not those of the largest logits."""
        return None

    def predictions(self, logits: Any, trace: TorchTrace) -> NDArray | None:
        if type(self).codes is TorchAdapter.codes:
            return None
        with torch.no_grad():
            codes = self.codes(torch.as_tensor(logits), trace)
        return None if codes is None else self.to_numpy(codes)

    def forward_with_gradients(
        self,
        batch: Batch,
        trace: TorchTrace,
        layers: Sequence[str],
        keep: LayerCallback,
        keep_gradient: LayerCallback,
    ) -> Tensor:
        gradients_at = LayerGradients()

        def keep_value(layer: str, value: Tensor) -> None:
            keep(layer, value.detach())

        with (
            self._drawing(batch, trace, trace.draws),
            recording(self.network),
            weights_recorded(self.network),
        ):
            _, inputs = recorded(self._to_inputs(batch, trace.integers))
            logits = require_logits(
                self._listen(inputs, trace, layers, keep_value, gradients_at.mark),
                "gradients=True",
                trace.why_no_logits,
            )
            at_logits = uniform_kl_gradient(self.to_numpy(logits))
            gradients = gradients_at.compute(logits, torch.as_tensor(at_logits).to(logits))
        # Where the network detaches its features, the graph starts behind what its head reads.
        detached = gradients_at.leaves.intersection(trace.features)
        head = self.head(trace) if detached else None
        at_head = {} if head is None else dict.fromkeys(detached, at_logits @ head[0])
        check_reached([n for n, g in gradients.items() if g is None and n not in at_head])
        for layer, gradient in gradients.items():
            if gradient is None:
                keep_gradient(layer, torch.as_tensor(at_head[layer]).to(logits))
            else:
                keep_gradient(layer, trace.locations[layer].rows_of_gradient(gradient))
        return logits.detach()

    def forward_with_dropout(
        self, batch: Batch, trace: TorchTrace, n_passes: int, seed: int
    ) -> Tensor:
        needed_by = f"n_passes={n_passes}"
        layers, passes = dropout_layers(self.network, needed_by), []
        draws = trace.draws | ({"torch"} if draw_themselves(layers) else set())
        with self._drawing(batch, trace, draws), dropping_out(layers, seed):
            if "torch" in draws:
                seed_global(seed)
            for _ in range(n_passes):
                inputs = self._to_inputs(batch, trace.integers)
                logits = self._listen(inputs, trace, [], lambda layer, value: None)
                # A copy, since a network may return the same tensor again.
                passes.append(require_logits(logits, needed_by, trace.why_no_logits).clone())
        return torch.stack(passes, dim=1)

    def perturb(
        self, batch: Batch, trace: TorchTrace, perturbation: Perturbation
    ) -> tuple[Inputs, Tensor | None]:
        with self._drawing(batch, trace, trace.draws), recording(self.network):
            inputs = self._to_inputs(batch, trace.integers)
            leaves, copies = recorded(inputs)
            if not leaves:
                raise ValueError(
                    f"{type(perturbation).__name__} needs inputs of floating point values: "
                    "integers, such as those that an embedding looks up, have no gradient."
                )
            means: dict[str, Tensor] = {}

            def keep_mean(layer: str, value: Tensor) -> None:
                value = value.movedim(trace.unit_axes.get(layer, 1), 1)
                means[layer] = value.reshape(*value.shape[:2], -1).mean(2)

            logits = self._listen(copies, trace, perturbation.layers(), keep_mean)
            outputs = self._outputs_of_loss(perturbation, logits, means)
            gradients = input_gradients(leaves, *outputs)
        moved = {}
        for name, gradient in gradients.items():
            steps = torch.as_tensor(perturbation.steps(gradient.shape)).to(gradient)
            moved[name] = leaves[name].detach() - steps * gradient.sign()
        return exchange(inputs, moved), None if logits is None else logits.detach()

    def _drawing(
        self, batch: Batch, trace: TorchTrace, known: Set[str]
    ) -> AbstractContextManager[Set[str]]:
        """Block in which the network runs on a batch, of which it is found out whether it draws."""
        return drawing(known, again=partial(self._run, batch, trace.integers))

    def _outputs_of_loss(
        self, perturbation: Perturbation, logits: Tensor | None, means: dict[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs that the loss of a perturbation depends on, and its gradients there."""
        wanted = perturbation.gradients(
            None if logits is None else self.to_numpy(logits),
            {layer: self.to_numpy(mean).astype(np.float64) for layer, mean in means.items()},
        )
        pairs = [(mean, wanted.means[layer]) for layer, mean in means.items()]
        if logits is not None and wanted.logits is not None:
            pairs.append((logits, wanted.logits))
        outputs = [output for output, _ in pairs]
        return outputs, [torch.as_tensor(gradient).to(output) for output, gradient in pairs]

    def _listen(
        self,
        inputs: Inputs,
        trace: TorchTrace,
        layers: Sequence[str],
        keep: LayerCallback,
        mark: LayerCallback | None = None,
    ) -> Tensor | None:
        """Call the network, and keep each layer when it has its value.

        ``mark`` is given the value as it is in the network.
        """
        return self._read(inputs, trace, LayerReader(trace, layers, keep, mark))

    def _read(self, inputs: Inputs, trace: TorchTrace, reader: LayerReader) -> Tensor | None:
        """Call the network for a reader."""
        with reader.listen(self.network):
            returned = self._call(inputs)
        source = reader.finish(returned, self._wanted)
        logits = self._as_logits(source)
        if trace.n_classes != (None if logits is None else logits.shape[1]):
            got = describe_output(source)
            expected = "no logits" if trace.n_classes is None else f"{trace.n_classes} logits"
            raise ValueError(
                f"The network returned {expected} for each sample in fit, but {got} for a batch "
                f"of {count_samples(inputs)}: does it squeeze?"
            )
        return logits

    def head(self, trace: TorchTrace) -> tuple[NDArray, NDArray | None] | None:
        found = self._read_head(trace)
        return two_class_head(*found) if found and self._is_binary and len(found[0]) == 1 else found

    def _read_head(self, trace: TorchTrace) -> tuple[NDArray, NDArray | None] | None:
        if isinstance(self._wanted_head, str):
            return None if trace.head is None else self._copy(*trace.head.read(self.network))
        weight, bias = self._wanted_head.weight, self._wanted_head.bias
        return np.array(weight), None if bias is None else np.array(bias)

    def _copy(self, weight: Tensor, bias: Tensor | None) -> tuple[NDArray, NDArray | None]:
        copied_bias = None if bias is None else self.to_numpy(bias).copy()
        return self.to_numpy(weight).copy(), copied_bias

    def to_numpy(self, value: Tensor) -> NDArray:
        return as_array(_of_a_type_of_numpy(value))

    @property
    def overlaps(self) -> bool:
        return self._transfers.overlap

    def send(self, value: Tensor) -> Callable[[], NDArray]:
        receive = self._transfers.begin(_of_a_type_of_numpy(value))
        return lambda: receive().numpy(force=True)

    def _as_logits(self, output: Tensor | None) -> Tensor | None:
        if output is None or not self._may_be_logits(output):
            if isinstance(self._wanted, str) and self._wanted == AUTO:
                return None
            raise ValueError(self._explain_choice(output))
        if not self._is_binary:
            return output
        log_odds = output.reshape(-1, 1)
        return torch.cat([torch.zeros_like(log_odds), log_odds], dim=1)

    def _explain_choice(self, output: Tensor | None) -> str:
        """Why an output that the user has chosen holds no logits."""
        needed = "one value a sample" if self._is_binary else "a column for each class"
        why = f"logits={self._wanted!r} needs {needed}, but selects {describe_output(output)}."
        is_one = output is not None and output.ndim > 0 and output.numel() == len(output) > 0
        if is_one and not self._is_binary:
            why += (
                " A single log-odds becomes the logits of two classes with logits='binary', or by "
                "a function that returns both columns."
            )
        return why

    def _may_be_logits(self, output: Tensor) -> bool:
        if not output.is_floating_point():
            return False
        if self._is_binary:
            return output.ndim > 0 and output.numel() == len(output)
        return output.ndim == 2 and output.shape[1] > 1

    def _run(self, batch: Batch, integers: Integers) -> Any:
        return self._call(self._to_inputs(batch, integers))

    def explain(self, error: Exception) -> str | None:
        return explain_failure(self.network, error)

    def _call(self, inputs: Inputs) -> Any:
        return call(self.network, inputs)

    def _to_inputs(self, batch: Batch, integers: Integers) -> Inputs:
        if integers is Integers.NOT_TRIED and holds_any_integers(batch):
            integers = find_integers(self.network, take_samples(batch, [0, -1]), self._run)
        return to_inputs(batch, integers, self._dtype, self._transfers)


def _of_a_type_of_numpy(value: Tensor) -> Tensor:
    """The same numbers: NumPy does not know bfloat16 and computes slowly in half precision."""
    value = value.dequantize() if value.is_quantized else value
    is_short = value.is_floating_point() and value.element_size() < 4
    return value.float() if is_short else value


def _own_tensors(network: nn.Module) -> Iterator[Tensor]:
    """All parameters, and then all buffers."""
    modules = list(network.modules())
    for kind in ("_parameters", "_buffers"):
        for module in modules:
            yield from (tensor for tensor in getattr(module, kind).values() if tensor is not None)


def _readable(network: Any) -> nn.Module:
    """The module that calls the layers one by one."""
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"network must be a torch.nn.Module or an exported program of torch, got a "
            f"{type(network).__name__}, which has no layers that can be read."
        )
    if isinstance(network, torch.jit.ScriptModule):
        raise TypeError(
            f"{type(network).__name__} runs compiled code, whose layers cannot be read: pass the "
            "module that it was made from."
        )
    inner = uncompiled(network)
    if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _readable(inner.module)
    if inner is not network:
        return _readable(inner)
    return inner


def _are_alike(values: Sequence[Any]) -> bool:
    """Whether values are few numbers in tensors of one type, on one device."""
    first = values[0] if values else None
    return isinstance(first, Tensor) and all(
        type(value) is Tensor
        and value.dtype is first.dtype
        and value.device == first.device
        and value.numel() <= _N_JOINED
        for value in values
    )


class TorchSession(NetworkSession):
    """Runs a network of torch, of whose modules, hooks and buffers a list is made once."""

    _adapter: TorchAdapter
    _trace: TorchTrace

    def __init__(self, adapter: TorchAdapter, trace: TorchTrace, layers: Sequence[str]) -> None:
        super().__init__(adapter, trace, layers)
        network = adapter.network
        self._modules = list(network.modules())
        self._attributes = [*map(vars, self._modules)]
        self._reader = LayerReader(trace, layers, lambda layer, value: None)
        self._post = self._reader.post(network)
        written = trace.written
        self._untouched = Untouched(
            network,
            adapter._lower,
            adapter._device,
            writes=bool(written.records | written.unclear),
        )
        # Where nobody has closed it.
        weakref.finalize(self, self._post.leave)

    def run(self, batch: Batch, keep: LayerCallback) -> Tensor | None:
        adapter, trace = self._adapter, self._trace
        with self._untouched.context_without_draws():
            inputs = adapter._to_inputs(batch, trace.integers)
            with adapter._drawing(batch, trace, trace.draws):
                logits = adapter._read(inputs, trace, self._reader.again(keep))
            # They may lie in a buffer, which is given back now.
            return None if logits is None else logits.clone()

    def arrays(self, values: Sequence[Any]) -> tuple[list[NDArray], list[NDArray]]:
        if not _are_alike(values):
            return super().arrays(values)
        shapes = [value.shape for value in values]
        with torch.no_grad():
            joined = self._adapter.to_numpy(torch.cat([value.reshape(-1) for value in values]))
        cuts = zip(stretches(map(prod, shapes)), shapes, strict=True)
        return [joined[stretch].reshape(shape) for stretch, shape in cuts], [joined]

    def is_current(self) -> bool:
        network = self._adapter._original
        if network is not self._adapter.network:  # of which it may run a copy
            return False
        modules = list(network.modules())
        has_same_dicts = are_the_same([*map(vars, modules)], self._attributes)
        return are_the_same(modules, self._modules) and has_same_dicts

    def open(self) -> None:
        with alone():
            if not self._post.is_manned:
                self._post.man()

    def close(self) -> None:
        with alone():
            self._post.leave()
