"""What the default monitor costs beside one pass of extraction."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from experiments._common.timing import Timings
from skood import make_monitor
from skood.calibration import UncalibratedWarning

from .calibration import time_calibration
from .families import FAMILIES, perceptron
from .measure import Comparison, Line, Sizes

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    **{name: (make, size) for name, (make, _, size, _) in FAMILIES.items()},
    "perceptron": (perceptron, 4),
}
"""Network, and size of its images."""
EXTRACTION = "extraction pass"


def compare_monitor(sizes: Sizes) -> Comparison:
    """Detection alone, to learn, score and calibrate, over the extraction of as many images."""
    lines = [line for name, made in NETWORKS.items() for line in time_monitor(name, *made, sizes)]
    settings = (
        f"{sizes.n_images} images of 64 x 64, of 32 x 32 for the VGG and of 4 x 4 for the "
        f"perceptron, with {torch.get_num_threads()} threads; time of the process, weights at "
        "random."
    )
    return Comparison("The default monitor", settings, "over the extraction pass", lines)


def time_monitor(name: str, make: Callable[[], nn.Module], size: int, sizes: Sizes) -> list[Line]:
    """Times of learning and scoring, with the memory of what was learnt."""
    torch.manual_seed(0)
    network = make().eval()
    images, new_images = torch.rand(2, sizes.n_images, 3, size, size)
    with warnings.catch_warnings():
        # It is calibrated below.
        warnings.simplefilter("ignore", UncalibratedWarning)
        monitor = make_monitor(network, batch_size=64).fit(images)
    extract, detect = monitor[:-1], monitor[-1]
    A = extract.transform(images)
    tasks: dict[str, Callable[[], Any]] = {
        EXTRACTION: partial(extract.transform, images),
        "fit": partial(detect.fit, A),
        "score_samples": partial(detect.score_samples, A),
    }
    timings = Timings(tasks, min(3, sizes.repetitions), clock=time.process_time)
    note = f"{len(detect.layers_)} layers, {monitor.memory_usage() / 2**20:.1f} MiB"
    lines = [
        Line(
            f"`{task}`, {name}",
            timings.seconds(task),
            timings.ratio(task, EXTRACTION),
            aim,
            note,
            EXTRACTION,
        )
        for task, aim in (("fit", "<= 0.3"), ("score_samples", "<= 0.1"))
    ]
    return [
        Line(f"{EXTRACTION}, {name}", timings.seconds(EXTRACTION), 1.0),
        *lines,
        time_calibration(name, monitor, new_images, min(3, sizes.repetitions)),
    ]
