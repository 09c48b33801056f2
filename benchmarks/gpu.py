"""A network and its monitor on a device: extraction, the search of many patterns, the export."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit
from torch import Tensor, nn

from experiments._common.timing import Timings
from skood import Activations, HammingNAPDetector, PoolingReducer, make_monitor
from skood.activations import PackedBits
from skood.calibration import UncalibratedWarning
from skood.export import TensorActivations, form
from skood.extraction import ActivationExtractor

from .measure import Comparison, Line, Sizes
from .network import BARE, BATCH_SIZE, make_images, vgg
from .search import N_BITS, make_patterns

N_HELD_OUT = 200
ON_CPU = "`HammingNAPDetector.score_samples`, on the CPU"


def compare_on_device(sizes: Sizes) -> list[Comparison]:
    """All that a device may speed up; nothing is measured where there is none."""
    if sizes.device == "cuda" and not torch.cuda.is_available():
        skipped = Line("everything", None, None, note="skipped, as there is no CUDA device")
        return [Comparison("On a device", "Needs a CUDA device.", "", [skipped])]
    device = torch.device(sizes.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncalibratedWarning)
        return [compare_network(sizes, device), compare_many(sizes, device)]


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def compare_network(sizes: Sizes, device: torch.device) -> Comparison:
    """Extraction and the default monitor over the bare forward pass, all on the device."""
    network, images = vgg().to(device), make_images(sizes.n_device_images)
    pooled = ActivationExtractor(network, reducer=PoolingReducer(), batch_size=BATCH_SIZE)
    monitor = make_monitor(network, batch_size=BATCH_SIZE).fit(images)
    module = monitor.to_torch().to(device)
    tasks: dict[str, Callable[[], Any]] = {
        BARE: partial(run, network, images, device),
        "`transform`, pooled": partial(pooled.fit(images).transform, images),
        "`monitor.fit`": partial(monitor.fit, images),
        "`monitor.predict`": partial(monitor.predict, images),
        "`monitor.to_torch()`": partial(run, module, images, device),
    }
    check(monitor, tasks)
    timings = Timings(tasks, min(3, sizes.repetitions))
    lines = [Line(BARE, timings.seconds(BARE), 1.0)]
    lines += [
        Line(name, timings.seconds(name), timings.ratio(name, BARE), reference=BARE)
        for name in list(tasks)[1:]
    ]
    settings = (
        f"VGG of nine ReLU layers and {len(images)} images of 28 x 28 in the memory of the CPU, "
        f"batches of {BATCH_SIZE}, on {name_of(device)}."
    )
    return Comparison("On a device: the network", settings, "over the bare pass", lines)


def run(module: nn.Module, images: NDArray[np.float32], device: torch.device) -> Any:
    """What a module returns for all images, batch by batch, brought back together at the end."""
    with torch.inference_mode():
        returned = [
            module(batch.to(device)) for batch in torch.from_numpy(images).split(BATCH_SIZE)
        ]
    if isinstance(returned[0], Tensor):
        return torch.cat(returned).cpu()
    return {name: torch.cat([said[name] for said in returned]).cpu() for name in returned[0]}


def check(monitor: Any, tasks: dict[str, Callable[[], Any]]) -> None:
    """The verdicts of the module are the monitor's, but for rounding at the threshold."""
    said, verdicts = tasks["`monitor.to_torch()`"](), tasks["`monitor.predict`"]()
    assert np.mean(said["verdict"].numpy() == verdicts) > 0.99


def compare_many(sizes: Sizes, device: torch.device) -> Comparison:
    """The search among many patterns on the device, beside that of the CPU."""
    n_patterns, n_queries = sizes.n_device_patterns, sizes.n_device_queries
    (stored,), (queries,) = make_patterns(n_patterns, 1, 1), make_patterns(n_queries, 1, 2)
    detector, A = fit_apart(stored), Activations({"relu": queries})
    bits = torch.from_numpy(queries.unpack()).split(BATCH_SIZE)
    exported = form(detector).to(device)
    tasks: dict[str, Callable[[], Any]] = {
        ON_CPU: partial(detector.score_samples, A),
        "its form in tensors": partial(search, exported, bits, device),
    }
    name = "its form in tensors"
    np.testing.assert_allclose(tasks[name](), tasks[ON_CPU](), rtol=0, atol=1e-9)
    timings = Timings(tasks, min(3, sizes.repetitions))
    lines = [
        Line(ON_CPU, timings.seconds(ON_CPU), 1.0),
        Line(name, timings.seconds(name), timings.ratio(name, ON_CPU), reference=ON_CPU),
    ]
    settings = (
        f"{n_queries} queries among {n_patterns} patterns of {N_BITS} bits, one class, on the CPU "
        f"with {torch.get_num_threads()} threads and on {name_of(device)}."
    )
    return Comparison("On a device: many patterns", settings, "over the CPU", lines)


def fit_apart(stored: PackedBits) -> HammingNAPDetector:
    """A detector that stores all patterns; others set its threshold, which takes less time."""
    (others,) = make_patterns(N_HELD_OUT, 1, 3)
    together = PackedBits(np.concatenate([stored.words, others.words]), N_BITS)
    is_held_out = np.repeat([-1, 0], [len(stored), len(others)])
    detector = HammingNAPDetector(validation=PredefinedSplit(is_held_out))
    return detector.fit(Activations({"relu": together}))


def search(module: nn.Module, bits: tuple[Tensor, ...], device: torch.device) -> NDArray:
    """Scores of all queries, batch by batch, brought back together at the end."""
    with torch.inference_mode():
        scores = [module(TensorActivations({"relu": part.to(device)})) for part in bits]
        return torch.cat(scores).cpu().numpy()
