"""What extraction costs beside networks of several families."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments._common.timing import Timings
from skood import ActivationExtractor, PoolingReducer

from .measure import Comparison, Line, Sizes

N_CLASSES = 1000


class BasicBlock(nn.Module):
    """Two convolutions and a skip."""

    def __init__(self, n_inputs: int, n_outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_outputs, n_outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            shortcut = nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.downsample(x)
        return self.relu(out)


def stem() -> list[nn.Module]:
    convolution = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    return [convolution, nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]


def resnet18() -> nn.Module:
    """Eight residual blocks in four stages."""
    widths = (64, 64, 128, 256, 512)
    blocks = []
    for n_inputs, n_outputs in pairwise(widths):
        blocks += [BasicBlock(n_inputs, n_outputs, 1 + (n_inputs < n_outputs))]
        blocks += [BasicBlock(n_outputs, n_outputs, 1)]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, N_CLASSES)]
    return nn.Sequential(*stem(), *blocks, *end)


class DenseLayer(nn.Module):
    """Adds 32 channels to those that it is given."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(n_inputs), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(n_inputs, 128, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(128), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.relu1(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.norm2(new)))], 1)


class DenseNet(nn.Module):
    """Four blocks of layers that are joined with their inputs; its last ReLU is a function."""

    def __init__(self, n_layers: tuple[int, ...] = (6, 12, 24, 16)) -> None:
        super().__init__()
        parts, n_channels = stem(), 64
        for number, n in enumerate(n_layers):
            if number:
                parts += [nn.BatchNorm2d(n_channels), nn.ReLU(inplace=True)]
                parts += [nn.Conv2d(n_channels, n_channels // 2, 1, bias=False), nn.AvgPool2d(2)]
                n_channels //= 2
            parts += [DenseLayer(n_channels + 32 * i) for i in range(n)]
            n_channels += 32 * n
        self.features = nn.Sequential(*parts, nn.BatchNorm2d(n_channels))
        self.classifier = nn.Linear(n_channels, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.features(x), inplace=True)
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def vgg16() -> nn.Module:
    """Thirteen convolutions and a hidden dense layer."""
    layers: list[nn.Module] = []
    n_channels = 3
    widths = (64, 64, 0, 128, 128, 0, *(256,) * 3, 0, *(512,) * 3, 0, *(512,) * 3, 0)
    for width in widths:
        if width:
            layers += [nn.Conv2d(n_channels, width, 3, padding=1), nn.ReLU()]
            n_channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, N_CLASSES)
    )


def perceptron() -> nn.Module:
    """Two small hidden layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    )


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int, int, str]] = {
    "VGG16": (vgg16, 64, 32, "<= 1.05"),
    "ResNet18": (resnet18, 16, 64, "<= 1.3"),
    "DenseNet121": (DenseNet, 16, 64, "<= 1.3"),
}
"""Network, batch size, size of the images, and what the ratio is to be."""
SINGLE = {"ResNet18": (resnet18, 64), "perceptron": (perceptron, 4)}


def compare_families(sizes: Sizes) -> Comparison:
    """Extraction of the layers of "auto", pooled, over the bare forward pass."""
    lines: list[Line] = []
    for name, (make, batch_size, size, aim) in FAMILIES.items():
        lines += time_extraction(
            f"{name}, {batch_size} images", make(), batch_size, size, aim, sizes
        )
    for name, (make, size) in SINGLE.items():
        lines += time_extraction(f"{name}, one image", make(), 1, size, "", sizes)
    settings = (
        f"One batch of images of 64 x 64, of 32 x 32 for the VGG, with {torch.get_num_threads()} "
        f"threads; time of the process, {sizes.repetitions} repetitions, weights at random."
    )
    title = 'Extraction of the layers of "auto", pooled, by family'
    return Comparison(title, settings, "over the bare pass", lines)


def time_extraction(
    name: str, network: nn.Module, batch_size: int, size: int, aim: str, sizes: Sizes
) -> list[Line]:
    network.eval()
    images = torch.rand(batch_size, 3, size, size, generator=torch.Generator().manual_seed(0))
    extractor = ActivationExtractor(network, reducer=PoolingReducer(), batch_size=batch_size)
    extractor.fit(images)

    def forward() -> Tensor:
        with torch.no_grad():
            return network(images)

    logits = extractor.transform(images).logits
    assert logits is not None
    np.testing.assert_allclose(logits, forward().numpy(), rtol=1e-4, atol=1e-4)
    tasks: dict[str, Callable[[], Any]] = {
        "bare": forward,
        "extraction": partial(extractor.transform, images),
    }
    timings = Timings(tasks, sizes.repetitions, clock=time.process_time)
    note = f"{len(extractor.layers_)} layers"
    ratio = timings.ratio("extraction", "bare")
    return [
        Line(f"bare forward pass, {name}", timings.seconds("bare"), 1.0),
        Line(f"`transform`, {name}", timings.seconds("extraction"), ratio, aim, note, "bare pass"),
    ]
