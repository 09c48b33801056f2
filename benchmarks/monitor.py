"""What the default monitor costs beside one pass of extraction, and what calibrating it adds."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from experiments._common.timing import Timings
from skood import Monitor, make_monitor

from .families import FAMILIES, perceptron
from .measure import Comparison, Line, Sizes

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    **{name: (make, size) for name, (make, _, size, _) in FAMILIES.items()},
    "perceptron": (perceptron, 4),
}
"""Network, and size of its images."""
EXTRACTION = "extraction pass"


def compare_monitor(sizes: Sizes) -> Comparison:
    """Detection alone, to learn, score and calibrate, over the extraction of as many images.

    To calibrate a monitor takes one pass of extraction and the scores; "calibrate" is what comes on
    top of both.
    """
    lines = [line for name, made in NETWORKS.items() for line in time_monitor(name, *made, sizes)]
    settings = (
        f"{sizes.n_images} images of 64 x 64, of 32 x 32 for the VGG and of 4 x 4 for the "
        f"perceptron, with {torch.get_num_threads()} threads; time of the process, weights at "
        "random."
    )
    return Comparison("The default monitor", settings, "over the extraction pass", lines)


def time_monitor(name: str, make: Callable[[], nn.Module], size: int, sizes: Sizes) -> list[Line]:
    """Times of learning, scoring and calibrating, with the memory of what was learnt."""
    torch.manual_seed(0)
    network = make().eval()
    images = torch.rand(sizes.n_images, 3, size, size)
    monitor = make_monitor(network, batch_size=64).fit(images)
    extract, detect = monitor[:-1], monitor[-1]
    A = extract.transform(images)
    tasks: dict[str, Callable[[], Any]] = {
        EXTRACTION: partial(extract.transform, images),
        "fit": partial(detect.fit, A),
        "score_samples": partial(detect.score_samples, A),
        "calibrate": calibrate_by_known_scores(monitor, torch.rand(images.shape)),
    }
    timings = Timings(tasks, min(3, sizes.repetitions), clock=time.process_time)
    note = f"{len(detect.layers_)} layers, {monitor.memory_usage() / 2**20:.1f} MiB"
    return [Line(f"{EXTRACTION}, {name}", timings.seconds(EXTRACTION), 1.0)] + [
        Line(
            f"`{task}`, {name}",
            timings.seconds(task),
            timings.ratio(task, EXTRACTION),
            aim,
            note,
            EXTRACTION,
        )
        for task, aim in (("fit", "<= 0.3"), ("score_samples", "<= 0.1"), ("calibrate", "<= 0.01"))
    ]


def calibrate_by_known_scores(monitor: Monitor, images: Tensor) -> Callable[[], Any]:
    """``calibrate`` of a copy of a monitor on activations of which it has the scores already."""
    copied = copy.deepcopy(monitor)
    held_out = monitor[:-1].transform(images)
    scores = monitor.score_samples(held_out)
    copied[-1].score_samples = lambda A: scores
    if copied.calibrate(held_out).offset_ != monitor.calibrate(held_out).offset_:
        raise AssertionError("known scores calibrate otherwise")
    return partial(copied.calibrate, held_out)
