"""What is done with each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._adapter import Keep, NetworkAdapter, Trace
from ._gradients import with_gradients
from ._perturbation import BasePerturbation


@dataclass(frozen=True)
class Mode:
    """What is done with each batch, beside running the network on it."""

    perturbation: BasePerturbation | None = None
    gradients: bool = False

    def content(self) -> tuple[Any, ...]:
        """All that changes the result, for a cache to go by."""
        return self.perturbation and self.perturbation._content(), self.gradients

    def names(self, layers: list[str]) -> list[str]:
        """Names of all that comes of layers, in the order in which it is collected."""
        return with_gradients(layers) if self.gradients else layers

    def run(
        self, adapter: NetworkAdapter, batch: Any, trace: Trace, layers: list[str], keep: Keep
    ) -> tuple[Any, Any]:
        """Run on a batch; return its logits, and those before the perturbation, or None."""
        logits_before = None
        if self.perturbation is not None:
            batch, logits_before = adapter.perturb(batch, trace, self.perturbation)
        run = adapter.forward_with_gradients if self.gradients else adapter.forward
        return run(batch, trace, layers, keep), logits_before

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
