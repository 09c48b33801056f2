"""What a monitor in use costs beside the network: for one input, and for a batch."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments._common.timing import Timings
from skood import Monitor, make_monitor
from skood.calibration import UncalibratedWarning

from .families import DenseNet, perceptron, resnet18
from .measure import Comparison, Line, Sizes

BATCH_SIZE = 256
BARE, PREDICT, OPEN = "bare forward pass", "`predict`", "`predict`, open"
N_CLASSES = 10


def vgg() -> nn.Module:
    """Six convolutions and three dense layers, for images of 32 x 32."""
    layers: list[nn.Module] = []
    n_channels = 3
    for width in (32, 32, 0, 64, 64, 0, 128, 128, 0):
        if width:
            layers += [nn.Conv2d(n_channels, width, 3, padding=1), nn.ReLU()]
            n_channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(128 * 16, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(128, N_CLASSES))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "VGG of 9 layers": (vgg, 32, "+ 2 ms"),
    "ResNet18": (resnet18, 64, "<= 1.5"),
    "DenseNet121": (DenseNet, 64, "<= 1.5"),
    "perceptron": (perceptron, 4, "+ 1 ms"),
}
"""Network, size of its images, and what one image is to cost."""


def compare_latency(sizes: Sizes) -> Comparison:
    """``predict`` of a fitted monitor over the bare forward pass."""
    lines = [line for name in NETWORKS for line in time_network(name, sizes)]
    settings = (
        f"`make_monitor(network).fit(X)` with {sizes.n_images} images of 64 x 64, of 32 x 32 for "
        f"the VGG and of 4 x 4 for the perceptron, {torch.get_num_threads()} threads, weights at "
        f"random; time of the process. {sizes.n_calls} calls with one image, {sizes.repetitions} "
        f"with {BATCH_SIZE}."
    )
    return Comparison("One input", settings, "over the bare pass", lines)


def time_network(name: str, sizes: Sizes) -> list[Line]:
    """Times for one image and for a batch, of a monitor as it is and of one that is open."""
    make, size, aim = NETWORKS[name]
    of_batch = "" if make is perceptron else "<= 1.1"
    torch.manual_seed(0)
    images = torch.rand(max(sizes.n_images, BATCH_SIZE), 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncalibratedWarning)
        monitor = make_monitor(make().eval(), batch_size=BATCH_SIZE).fit(images[: sizes.n_images])
    # On a network of its own, where nothing else listens.
    opened = copy.deepcopy(monitor)
    with opened.open():
        return [
            *time_calls(name, monitor, opened, images[:1], sizes.n_calls, aim),
            *time_calls(name, monitor, opened, images[:BATCH_SIZE], sizes.repetitions, of_batch),
        ]


def time_calls(
    name: str, monitor: Monitor, opened: Monitor, images: Tensor, n_calls: int, aim: str
) -> list[Line]:
    """Times of calls with the same images, whose verdicts are compared before."""
    tasks: dict[str, Callable[[], Any]] = {
        BARE: partial(forward, monitor.network, images),
        PREDICT: partial(monitor.predict, images),
        OPEN: partial(opened.predict, images),
    }
    A = monitor[:-1].transform(images)
    for _ in range(2):  # the first call sees what the next ones need not check
        for each in (monitor, opened):
            np.testing.assert_allclose(
                each.score_samples(images), monitor[-1].score_samples(A), rtol=1e-3, atol=1e-3
            )
    timings = Timings(tasks, n_calls, clock=time.process_time)
    count = f"{len(images)} image" + "s" * (len(images) > 1)
    beside = [1e3 * (timings.seconds(task) - timings.seconds(BARE)) for task in tasks]
    return [
        Line(
            f"{task}, {name}, {count}",
            timings.seconds(task),
            timings.ratio(task, BARE),
            "" if task == BARE else aim,
            "" if task == BARE else f"{more:+.2f} ms",
            "" if task == BARE else BARE,
        )
        for task, more in zip(tasks, beside, strict=True)
    ]


def forward(network: nn.Module, images: Tensor) -> Tensor:
    """The bare forward pass."""
    with torch.inference_mode():
        return network(images)
