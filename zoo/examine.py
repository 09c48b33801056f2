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
from torch import Tensor

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
    faults = of_steps or [fault for fault, is_so in found.items() if is_so]
    return _without_known(faults, specimen.known)


def _without_known(faults: list[str], known: str) -> list[str]:
    if known and not any(known in fault for fault in faults):
        return [*faults, f"no longer so: {known}"]
    return [fault for fault in faults if not (known and known in fault)]


def examine(specimen: Specimen, repetitions: int = 3) -> Finding:
    """Make the network and read it. No error leaves this function: it is part of the finding."""
    finding, start = Finding(specimen.name), perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.manual_seed(0)
        case = _attempt(finding, "make", specimen.make)
        if case is not None:
            _Examination(finding, case).run(repetitions)
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


class _Examination:
    """Reads the network of a case, and calls a copy of it, which skood never sees."""

    def __init__(self, finding: Finding, case: Case) -> None:
        self.finding, self.case = finding, case
        stir(case.network)
        finding.n_parameters = sum(p.numel() for p in case.network.parameters())
        self.reference = copy.deepcopy(case.network).eval()
        # It must be in this mode afterwards, too; all that is read is in evaluation mode.
        case.network.train()

    def run(self, repetitions: int) -> None:
        called = self._attempt("direct call", self._call)
        if called is None:
            return
        logits, own_changes = called
        before = take_marks(self.case.network)
        self._attempt("extraction", lambda: self._extract(logits))
        monitor = None
        if not self.finding.errors:
            monitor = self._attempt("monitor", self._fit_monitor)
        after = take_marks(self.case.network)
        self.finding.changes = sorted(find_changes(before, after) - own_changes)
        if monitor is not None:
            self._attempt("time", lambda: self._take_times(monitor["extract"], repetitions))

    def _attempt(self, step: str, function: Callable[[], Any]) -> Any:
        return _attempt(self.finding, step, function)

    def _call(self) -> tuple[NDArray, set[str]]:
        """The logits, and what the network changes in itself when it is called."""
        before = take_marks(self.reference)
        with _fast_path_off():
            logits = self.case.logits_of(self.reference).numpy()
        if not np.isfinite(logits).all():
            raise ValueError("the logits are not finite")
        return logits, find_changes(before, take_marks(self.reference))

    def _extract(self, logits: NDArray) -> None:
        extractor = ActivationExtractor(self.case.network)
        A = extractor.fit_transform(self.case.inputs)
        self.finding.layers, self.finding.left_out = extractor.layers_, extractor.left_out_
        self.finding.logits_equal = A.logits is not None and np.array_equal(A.logits, logits)
        self._examine_head(A)
        self._compare_layers(A, logits)

    def _examine_head(self, A: Activations) -> None:
        if A.head is None or A.logits is None or A.head.input_layer is None:
            self.finding.why_no_head = self._why_no_head()
            return
        self.finding.head = A.head.input_layer
        product = A.head.logits(A[A.head.input_layer])
        self.finding.head_error = _relative_change(A.logits, product)

    def _why_no_head(self) -> str:
        """The reason as a user is told it who asks for the input of the head."""
        try:
            ActivationExtractor(self.case.network, "penultimate").fit(self.case.inputs)
        except ValueError as error:
            text = str(error)
            reason = re.search(r"since (.+?)[;:] (?:known|name) ", text)
            return reason[1] if reason else _first_line(text)
        return "no reason was given"

    def _compare_layers(self, A: Activations, logits: NDArray) -> None:
        """Compare the layers that are modules with what hooks on a copy of the network see."""
        seen = self._values_of_modules(A.layer_names)
        self.finding.n_compared = len(seen)
        self.finding.wrong_layers = [
            layer for layer, value in seen.items() if not np.array_equal(value, A[layer])
        ]
        self.finding.twice = _find_twice(A)
        self.finding.logits_among_layers = [
            layer for layer in A.layer_names if np.array_equal(np.asarray(A[layer]), logits)
        ]

    def _values_of_modules(self, layers: Sequence[str]) -> dict[str, NDArray]:
        """The first tensor that each of the modules returns; not of those that are called often."""
        modules = dict(self.reference.named_modules())
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
                self.case.logits_of(self.reference)
        finally:
            for hook in hooks:
                hook.remove()
        return {layer: values[0] for layer, values in seen.items() if len(values) == 1}

    def _fit_monitor(self) -> Pipeline:
        monitor = make_monitor(self.case.network).fit(self.case.inputs)
        self._attempt("decisions", lambda: self._judge(monitor))
        self._attempt("padding", lambda: self._compare_padded(monitor["extract"]))
        return monitor

    def _judge(self, monitor: Pipeline) -> None:
        others = self.case.others
        decisions, scores = monitor.predict(others), monitor.score_samples(others)
        if decisions.shape != (N_OTHERS,) or not set(decisions) <= {-1, 1}:
            raise ValueError(f"the monitor decides {decisions}")
        if not np.isfinite(scores).all():
            raise ValueError(f"the scores of the monitor are {scores}")
        self.finding.monitor = True

    def _compare_padded(self, pooled: ActivationExtractor) -> None:
        if self.case.padded is None:
            return
        less, more = pooled.transform(self.case.inputs), pooled.transform(self.case.padded)
        assert less.logits is not None
        assert more.logits is not None
        if _relative_change(less.logits, more.logits) > ROUNDING:
            return  # the network itself reads the padding
        self.finding.padding = max(
            _relative_change(np.asarray(values), np.asarray(more[layer]))
            for layer, values in less.items()
        )

    def _take_times(self, pooled: ActivationExtractor, repetitions: int) -> None:
        timings = Timings(
            {
                "bare": lambda: self.case.logits_of(self.reference),
                "extraction": lambda: pooled.transform(self.case.inputs),
            },
            repetitions,
            clock=process_time,
        )
        self.finding.ratio = timings.ratio("extraction", "bare")


@contextmanager
def _fast_path_off() -> Iterator[None]:
    """On its fast path a transformer layer of torch rounds otherwise, and calls no module."""
    is_on = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_on)


def _find_twice(A: Activations) -> list[str]:
    """Layers of the shape and the values of an earlier one."""
    earlier, twice = set(), []
    for layer, values in A.items():
        digest = hashlib.blake2b(np.ascontiguousarray(values).data).digest()
        if (values.shape, digest) in earlier:
            twice.append(layer)
        earlier.add((values.shape, digest))
    return twice


def _first_tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    values = output.values() if hasattr(output, "values") else output
    return next(_first_tensor(value) for value in values if value is not None)


def _relative_change(before: NDArray, after: NDArray) -> float:
    return float(np.abs(before - after).max() / np.abs(before).max())
