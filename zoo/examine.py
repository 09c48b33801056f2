"""One network, read by skood as its user would, beside the network called without skood."""

from __future__ import annotations

import copy
import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from experiments._common.timing import Timings
from skood import ActivationExtractor, Activations, make_monitor

from .marks import find_changes, take_marks
from .specimen import N_OTHERS, Case, Specimen, stir

MOST_LAYERS = 64
"""About as many as "auto" stands for at most."""
ROUNDING = 1e-4
"""Relative error of values that are computed in another order."""


@dataclass
class Finding:
    """What became of one network. An entry of ``errors`` is a step that failed, and its error."""

    name: str
    n_parameters: int = 0
    layers: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    n_compared: int = 0
    wrong_layers: list[str] = field(default_factory=list)
    """Layers with other values than those that a hook on a copy of the network sees."""
    logits_among_layers: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    """Layers that hold what another layer holds."""
    logits_equal: bool = False
    head: str = ""
    """The layer that it reads; empty where there is none."""
    why_no_head: str = ""
    head_error: float = 0.0
    """Of the product of features and weights, relative to the largest logit."""
    changes: list[str] = field(default_factory=list)
    monitor: bool = False
    padding: float | None = None
    """Largest relative change of a pooled value by more padding; None where there is none, or
    the logits change with it."""
    ratio: float | None = None
    """Time of the extraction of the monitor, of pooled layers, over that of the bare pass."""
    seconds: float = 0.0
    messages: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


def find_faults(finding: Finding, specimen: Specimen) -> list[str]:
    """All that is not as expected, in words; empty where the network is read as it should be."""
    if specimen.refusal:
        error = finding.errors.get("extraction", "no error")
        return [] if specimen.refusal in error else [f"{specimen.refusal!r} is not in {error!r}"]
    missing = [p for p in specimen.layers if not any(fnmatchcase(n, p) for n in finding.layers)]
    found = {
        "the logits differ from those of a direct call": not finding.logits_equal,
        f"layers {finding.wrong_layers[:3]} differ from what a hook sees": finding.wrong_layers,
        f"{finding.logits_among_layers} are the logits": finding.logits_among_layers,
        f"{finding.twice[:3]} hold what other layers hold": finding.twice,
        f"no layer fits {missing}": missing,
        f"{len(finding.layers)} layers are too many": len(finding.layers) > MOST_LAYERS + 1,
        f"no head was found: {finding.why_no_head}": specimen.has_head and not finding.head,
        f"{finding.head} was taken for the input of a head": not specimen.has_head and finding.head,
        "the head does not reproduce the logits": finding.head_error > ROUNDING,
        f"changed: {', '.join(finding.changes[:3])}": finding.changes,
        "padding changes values": (finding.padding or 0.0) > ROUNDING,
    }
    of_steps = [f"{step}: {error}" for step, error in finding.errors.items()]
    return of_steps + [fault for fault, is_so in found.items() if is_so and not of_steps]


def examine(specimen: Specimen, repetitions: int = 3) -> Finding:
    """Make the network and read it. No error leaves this function: it is part of the finding."""
    finding, start = Finding(specimen.name), perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.manual_seed(0)
        case = _attempt(finding, "make", specimen.make)
        if case is not None:
            _examine_case(finding, case, repetitions)
    messages = (str(w.message) for w in caught if w.category in (UserWarning, RuntimeWarning))
    finding.messages = list(dict.fromkeys(_first_line(message) for message in messages))
    finding.seconds = round(perf_counter() - start, 1)
    return finding


def _attempt(finding: Finding, step: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        finding.errors[step] = f"{type(error).__name__}: {_first_line(str(error))}"
        return None


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]


def _examine_case(finding: Finding, case: Case, repetitions: int) -> None:
    network = case.network
    stir(network)
    finding.n_parameters = sum(parameter.numel() for parameter in network.parameters())
    reference = copy.deepcopy(network).eval()
    # In training mode, in which it must be afterwards too; all that is read is in evaluation mode.
    network.train()
    called = _attempt(finding, "direct call", lambda: _call(case, reference))
    if called is None:
        return
    logits, own_changes = called
    before = take_marks(network)
    read = _attempt(finding, "extraction", lambda: _extract(case))
    if read is not None:
        _examine_reading(finding, case, reference, logits, *read)
        monitor = _attempt(finding, "fit", lambda: make_monitor(network).fit(case.inputs))
        if monitor is not None:
            _attempt(finding, "monitor", lambda: _judge(finding, case, monitor))
            pooled = monitor["extract"]
            _attempt(finding, "padding", lambda: _compare_padded(finding, case, pooled))
    finding.changes = sorted(find_changes(before, take_marks(network)) - own_changes)
    if read is not None and monitor is not None:
        _attempt(
            finding, "time", lambda: _take_times(finding, case, reference, pooled, repetitions)
        )


def _call(case: Case, reference: nn.Module) -> tuple[NDArray, set[str]]:
    """The logits, and what the network changes in itself when it is called."""
    before = take_marks(reference)
    with _fast_path_off():
        logits = case.logits_of(reference).numpy()
    if not np.isfinite(logits).all():
        raise ValueError("the logits are not finite")
    return logits, find_changes(before, take_marks(reference))


@contextmanager
def _fast_path_off() -> Iterator[None]:
    """On its fast path a transformer layer of torch rounds otherwise, and calls no module."""
    is_on = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_on)


def _extract(case: Case) -> tuple[ActivationExtractor, Activations]:
    extractor = ActivationExtractor(case.network)
    A = extractor.fit_transform(case.inputs)
    return extractor, A


def _examine_reading(
    finding: Finding,
    case: Case,
    reference: nn.Module,
    logits: NDArray,
    extractor: ActivationExtractor,
    A: Activations,
) -> None:
    finding.layers, finding.left_out = extractor.layers_, extractor.left_out_
    finding.logits_equal = A.logits is not None and np.array_equal(A.logits, logits)
    _attempt(finding, "head", lambda: _examine_head(finding, case, A))
    _attempt(finding, "layers", lambda: _compare_layers(finding, case, reference, A))


def _examine_head(finding: Finding, case: Case, A: Activations) -> None:
    if A.head is None or A.logits is None or A.head.input_layer is None:
        finding.why_no_head = _why_no_head(case)
        return
    finding.head = A.head.input_layer
    product = A.head.logits(A[finding.head])
    finding.head_error = _relative_change(A.logits, product)


def _why_no_head(case: Case) -> str:
    """The reason as a user is told it who asks for the input of the head."""
    try:
        ActivationExtractor(case.network, "penultimate").fit(case.inputs)
    except ValueError as error:
        text = str(error)
        reason = re.search(r"since (.+?)[;:] (?:known|name) ", text)
        return reason[1] if reason else _first_line(text)
    return "no reason was given"


def _compare_layers(finding: Finding, case: Case, reference: nn.Module, A: Activations) -> None:
    """Compare the layers that are modules with what hooks on a copy of the network see."""
    seen = _values_of_modules(case, reference, A.layer_names)
    finding.n_compared = len(seen)
    finding.wrong_layers = [
        layer for layer, value in seen.items() if not np.array_equal(value, A[layer])
    ]
    finding.twice = _find_twice(A)
    assert A.logits is not None
    finding.logits_among_layers = [
        layer for layer in A.layer_names if np.array_equal(np.asarray(A[layer]), A.logits)
    ]


def _find_twice(A: Activations) -> list[str]:
    """Layers of the shape and the values of an earlier one."""
    earlier, twice = set(), []
    for layer, values in A.items():
        digest = hashlib.blake2b(np.ascontiguousarray(values).data).digest()
        if (values.shape, digest) in earlier:
            twice.append(layer)
        earlier.add((values.shape, digest))
    return twice


def _values_of_modules(
    case: Case, reference: nn.Module, layers: Sequence[str]
) -> dict[str, NDArray]:
    """The first tensor that each of the modules returns; not of those that are called often."""
    modules = dict(reference.named_modules())
    seen: dict[str, list[NDArray]] = {}
    hooks = [
        modules[layer].register_forward_hook(
            lambda module, inputs, output, layer=layer: seen.setdefault(layer, []).append(
                _first_tensor(output).float().numpy().copy()
            )
        )
        for layer in layers
        if layer in modules
    ]
    try:
        with _fast_path_off():
            case.logits_of(reference)
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: values[0] for layer, values in seen.items() if len(values) == 1}


def _first_tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    values = output.values() if hasattr(output, "values") else output
    return next(_first_tensor(value) for value in values if value is not None)


def _judge(finding: Finding, case: Case, monitor: Pipeline) -> None:
    decisions, scores = monitor.predict(case.others), monitor.score_samples(case.others)
    finding.monitor = (
        decisions.shape == (N_OTHERS,)
        and set(decisions) <= {-1, 1}
        and bool(np.isfinite(scores).all())
    )
    if not finding.monitor:
        raise ValueError(f"decisions {decisions}, scores {scores}")


def _compare_padded(finding: Finding, case: Case, pooled: ActivationExtractor) -> None:
    if case.padded is None:
        return
    less, more = pooled.transform(case.inputs), pooled.transform(case.padded)
    assert less.logits is not None
    assert more.logits is not None
    if _relative_change(less.logits, more.logits) > ROUNDING:
        return  # the network itself reads the padding
    finding.padding = max(
        _relative_change(np.asarray(values), np.asarray(more[layer]))
        for layer, values in less.items()
    )


def _relative_change(before: NDArray, after: NDArray) -> float:
    return float(np.abs(before - after).max() / np.abs(before).max())


def _take_times(
    finding: Finding,
    case: Case,
    reference: nn.Module,
    pooled: ActivationExtractor,
    repetitions: int,
) -> None:
    timings = Timings(
        {
            "bare": lambda: case.logits_of(reference),
            "extraction": lambda: pooled.transform(case.inputs),
        },
        repetitions,
        clock=process_time,
    )
    finding.ratio = timings.ratio("extraction", "bare")
