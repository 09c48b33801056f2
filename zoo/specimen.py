"""What is examined: a network, inputs for it, and what is expected of the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

N_SAMPLES = 16
N_OTHERS = 8
N_CLASSES = 10

Call = Callable[[nn.Module, Any], Any]


def call_directly(network: nn.Module, inputs: Any) -> Any:
    """The logits as a user computes them: a mapping becomes keyword arguments."""
    output = network(**inputs) if isinstance(inputs, Mapping) else network(inputs)
    return getattr(output, "logits", output)


@dataclass(frozen=True)
class Case:
    """A network with inputs."""

    network: nn.Module
    inputs: Any
    """Of ``N_SAMPLES`` samples, in one batch."""
    others: Any
    """``N_OTHERS`` more, which may be of another length."""
    padded: Any = None
    """The inputs with more padding, of which an attention mask says that it is that."""
    call: Call = call_directly
    """Computes the logits without skood."""
    prepared: Any = None
    """What ``call`` is given, where this is not the inputs."""

    def logits_of(self, network: nn.Module) -> Tensor:
        with torch.no_grad():
            return self.call(network, self.inputs if self.prepared is None else self.prepared)


@dataclass(frozen=True)
class Specimen:
    """A network that is made when it is needed, and what is expected of it."""

    name: str
    """The library, a slash, and the name that the library has for it."""
    make: Callable[[], Case]
    layers: tuple[str, ...] = ()
    """Patterns, each of which fits at least one of the layers of "auto"."""
    has_head: bool = True
    """Whether one linear layer yields the logits."""
    known: str = ""
    """A fault that is known, as a part of what is said of it; that it is gone is one, too."""
    refusal: str = ""
    """What the error says with which its inputs are refused; empty where they are not."""

    @property
    def library(self) -> str:
        return self.name.partition("/")[0]


def image_case(network: nn.Module, size: int = 64) -> Case:
    """Images of random pixels, which suffice to see what is read."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(N_SAMPLES + N_OTHERS, 3, size, size, generator=generator)
    return Case(network, images[:N_SAMPLES], images[N_SAMPLES:])


def stir(network: nn.Module) -> None:
    """Replace weights that are all the same by random ones near that value.

    Layers of zeros, as many networks have at the start of their training, would hide whether what
    they compute is read.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.is_floating_point() and bool((parameter == parameter.mean()).all()):
                scale = 0.1 if parameter.ndim < 2 else 0.02
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(scale * noise.to(parameter.dtype))
