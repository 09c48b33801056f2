"""What is done with each batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any, NamedTuple

from .._column import Kind
from ..networks import NetworkAdapter, Trace, count_samples, take_samples
from ._passes import Passes
from ._perturbation import BasePerturbation

Source = tuple[str, Kind]
"""A layer of the network, and what is extracted of it."""

Keep = Callable[[Source, Any], None]
"""Called with what is extracted of a layer, the moment the layer has it."""


class Outcome(NamedTuple):
    """What a batch yields beside its layers."""

    logits: Any
    logits_before: Any
    """Those before the perturbation, or None."""
    passes: Any
    """Logits of the stochastic passes, (n_samples, n_passes, n_classes), or None."""


@dataclass(frozen=True)
class Mode:
    """What is done with each batch, beside running the network on it."""

    perturbation: BasePerturbation | None = None
    gradients: bool = False
    passes: Passes | None = None

    def content(self) -> tuple[Any, ...]:
        """All that changes the result, for a cache to go by."""
        perturbation = self.perturbation and self.perturbation.content()
        return perturbation, self.gradients, self.passes and astuple(self.passes)

    def sources(self, layers: list[str]) -> list[Source]:
        """All that is extracted of layers, in the order in which it is collected."""
        kinds: tuple[Kind, ...] = ("value", "gradient") if self.gradients else ("value",)
        return [(layer, kind) for layer in layers for kind in kinds]

    def run(
        self,
        adapter: NetworkAdapter,
        batch: Any,
        trace: Trace,
        layers: list[str],
        keep: Keep,
        *,
        number: int = 0,
        n_at_once: int = 2,
    ) -> Outcome:
        """Run on the batch of the given number.

        Where that fails, on one of ``n_at_once`` samples that repeats the last one.
        """
        run = partial(self._run, adapter, trace=trace, layers=layers, number=number)
        if count_samples(batch) >= n_at_once:
            return run(batch, keep=keep)
        few = _Few(trace.n_axes, count_samples(batch))
        try:
            outcome = few.run(run, batch)
        except Exception as error:
            outcome = few.run_filled_up(run, batch, n_at_once, error)
        for source, value in few.kept:
            keep(source, value)
        return outcome

    def _run(
        self,
        adapter: NetworkAdapter,
        batch: Any,
        *,
        trace: Trace,
        layers: list[str],
        keep: Keep,
        number: int,
    ) -> Outcome:
        logits_before = None
        if self.perturbation is not None:
            batch, logits_before = adapter.perturb(batch, trace, self.perturbation)

        def keep_value(layer: str, value: Any) -> None:
            keep((layer, "value"), value)

        def keep_gradient(layer: str, gradient: Any) -> None:
            keep((layer, "gradient"), gradient)

        if self.gradients:
            logits = adapter.forward_with_gradients(batch, trace, layers, keep_value, keep_gradient)
        else:
            logits = adapter.forward(batch, trace, layers, keep_value)
        passes = None
        if self.passes is not None:
            n_passes, seed = self.passes.n_passes, self.passes.batch_seed(number)
            passes = adapter.forward_with_dropout(batch, trace, n_passes, seed)
        return Outcome(logits, logits_before, passes)

    def check(self, known: list[str]) -> None:
        """Check the perturbation, whose layers must be known ones."""
        if self.perturbation is not None:
            self.perturbation.check(known)


class _Few:
    """A batch of few samples, whose values are held back until it is known that they have its rows.

    A network that squeezes its values loses the axis of the samples where there is one alone, and
    one that is written for batches of one size fails on the last one.
    """

    def __init__(self, n_axes: dict[str, int], n_samples: int) -> None:
        self._n_axes = n_axes
        self._n_samples = n_samples
        self.kept: list[tuple[Source, Any]] = []

    def hold(self, n_rows: int, source: Source, value: Any) -> None:
        """Copy the rows of the samples of a layer, which may be overwritten afterwards."""
        layer, _ = source
        n_axes = self._n_axes.get(layer, value.ndim)
        if value.ndim != n_axes or len(value) != n_rows:
            raise ValueError(
                f"Layer {layer!r} has shape {tuple(value.shape)} for a batch of {n_rows}, where "
                f"{n_axes} axes and a row for each sample were expected: does the network squeeze?"
            )
        rows = value[: self._n_samples]
        self.kept.append((source, rows.clone() if hasattr(rows, "clone") else rows.copy()))

    def run(self, run: Callable[..., Outcome], batch: Any) -> Outcome:
        """Run on the samples, or on a batch that begins with them."""
        self.kept.clear()
        n_rows = count_samples(batch)
        outcome = run(batch, keep=partial(self.hold, n_rows))
        if outcome.logits is not None and len(outcome.logits) != n_rows:
            raise ValueError(
                f"The network returned logits of shape {tuple(outcome.logits.shape)} for a batch "
                f"of {n_rows}: does it squeeze?"
            )
        return Outcome(*(None if part is None else part[: self._n_samples] for part in outcome))

    def run_filled_up(
        self, run: Callable[..., Outcome], batch: Any, n_rows: int, error: Exception
    ) -> Outcome:
        """Run on a larger batch; what fails again fails with the first error."""
        last = self._n_samples - 1
        rows = [min(row, last) for row in range(n_rows)]
        try:
            return self.run(run, take_samples(batch, rows))
        except Exception:
            raise error from None
