"""What it costs to look whether a network has changed since ``fit``."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from experiments._common.timing import Timings
from skood import ActivationExtractor, PoolingReducer
from skood.networks import adapt

from .measure import Comparison, Line, Sizes
from .network import BARE, N_CLASSES, vgg

BATCH_SIZES = (256, 16)
LOOKS = "two looks"
"""``transform`` looks before and after the network has run."""


class Block(nn.Module):
    """A residual block."""

    def __init__(self, n_inputs: int, n_units: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(n_inputs, n_units, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_units),
            nn.ReLU(),
            nn.Conv2d(n_units, n_units, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_units),
        )
        self.skip = nn.Sequential()
        if stride > 1:
            self.skip.append(nn.Conv2d(n_inputs, n_units, 1, stride, bias=False))
            self.skip.append(nn.BatchNorm2d(n_units))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Add what the residual makes of the input to the input."""
        return self.relu(self.residual(x) + self.skip(x))


def resnet18() -> nn.Sequential:
    """The residual network of 18 layers with weights."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    n_inputs = 64
    for n_units, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(n_inputs, n_units, stride), Block(n_units, n_units, 1)]
        n_inputs = n_units
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, N_CLASSES)]
    return nn.Sequential(*layers).eval()


def mlp() -> nn.Sequential:
    """A perceptron with two hidden layers for images of 28 x 28."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(784, 256), nn.ReLU()),
        *(nn.Linear(256, 256), nn.ReLU()),
        nn.Linear(256, N_CLASSES),
    ).eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet-18, 64 x 64": (resnet18, (3, 64, 64)),
    "VGG, 28 x 28": (vgg, (1, 28, 28)),
    "MLP": (mlp, (1, 28, 28)),
}


def compare_looks(sizes: Sizes) -> Comparison:
    """Two looks at a network over its bare forward pass, and over the whole ``transform``."""
    lines = []
    for name, (make, shape) in NETWORKS.items():
        network = make()
        for batch_size in BATCH_SIZES:
            batch = torch.randn(min(batch_size, sizes.n_images), *shape)
            lines += time_looks(f"{name}, batch of {len(batch)}", network, batch, sizes)
    batches = " and ".join(map(str, BATCH_SIZES))
    settings = f"Batches of {batches}; {sizes.repetitions} repetitions; time of the process."
    title = "Whether a network has changed"
    return Comparison(title, settings, "over the bare pass, and over transform", lines)


def time_looks(name: str, network: nn.Module, batch: Tensor, sizes: Sizes) -> list[Line]:
    extractor = ActivationExtractor(network, reducer=PoolingReducer(), batch_size=len(batch))
    extractor.fit(batch)
    check_looks(network, extractor, batch)
    adapter = adapt(network)
    seen = adapter.stamp()

    def run() -> Any:
        with torch.inference_mode():
            return network(batch)

    def look_twice() -> None:
        assert adapter.stamp() == seen
        assert adapter.stamp() == seen

    tasks = {BARE: run, "transform": lambda: extractor.transform(batch), LOOKS: look_twice}
    timings = Timings(tasks, sizes.repetitions, process_time)
    return [
        Line(f"{name}: {task}", timings.seconds(task), timings.ratio(task, BARE), "", "", BARE)
        for task in (LOOKS, "transform")
    ] + [
        Line(
            f"{name}: {LOOKS} of `transform`",
            timings.seconds(LOOKS),
            timings.ratio(LOOKS, "transform"),
            "<= 0.01",
            "",
            "transform",
        )
    ]


def check_looks(network: nn.Module, extractor: ActivationExtractor, batch: Tensor) -> None:
    """Check that a change is noticed, and take it back."""
    extractor.transform(batch)
    weight = next(network.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.01)
    try:
        extractor.transform(batch)
    except ValueError:
        pass
    else:
        raise AssertionError("a network that has changed is not noticed")
    with torch.no_grad():
        weight.copy_(before)
    extractor.transform(batch)
