"""What is done with each batch."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

from ._adapter import Keep, NetworkAdapter, Trace
from ._gradients import with_gradients
from ._passes import Passes
from ._perturbation import BasePerturbation


class Outcome(NamedTuple):
    """What a batch yields beside its layers."""

    logits: Any
    logits_before: Any
    """Those before the perturbation, or None."""
    passes: Any
    """Logits of the passes with dropout, (n_samples, n_passes, n_classes), or None."""


@dataclass(frozen=True)
class Mode:
    """What is done with each batch, beside running the network on it."""

    perturbation: BasePerturbation | None = None
    gradients: bool = False
    passes: Passes | None = None

    def content(self) -> tuple[Any, ...]:
        """All that changes the result, for a cache to go by."""
        perturbation = self.perturbation and self.perturbation._content()
        return perturbation, self.gradients, self.passes and astuple(self.passes)

    def names(self, layers: list[str]) -> list[str]:
        """Names of all that comes of layers, in the order in which it is collected."""
        return with_gradients(layers) if self.gradients else layers

    def run(
        self,
        adapter: NetworkAdapter,
        batch: Any,
        trace: Trace,
        layers: list[str],
        keep: Keep,
        *,
        number: int = 0,
    ) -> Outcome:
        """Run on the batch of the given number."""
        logits_before = None
        if self.perturbation is not None:
            batch, logits_before = adapter.perturb(batch, trace, self.perturbation)
        run = adapter.forward_with_gradients if self.gradients else adapter.forward
        logits, passes = run(batch, trace, layers, keep), None
        if self.passes is not None:
            n_passes, seed = self.passes.n_passes, self.passes.batch_seed(number)
            passes = adapter.forward_with_dropout(batch, trace, n_passes, seed)
        return Outcome(logits, logits_before, passes)

    def check(self, known: list[str]) -> None:
        """Check the perturbation, whose layers must be known ones."""
        if self.perturbation is None:
            return
        self.perturbation._validate_params()
        if unknown := [name for name in self.perturbation._layers() if name not in known]:
            raise ValueError(
                f"The detector of {type(self.perturbation).__name__} was fitted to the layers "
                f"{unknown}, which the network does not have; its layers are {known}."
            )
