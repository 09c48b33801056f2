"""What skood costs beside the network: extraction and auto-configuration.

    python -m benchmarks.network N_IMAGES POOLINGS

runs one pass, the bare one without poolings (""), and prints the peak memory of its process in MiB.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from experiments._common.networks import predicted_classes
from experiments._common.timing import Timings
from skood import ActivationExtractor, Activations, PoolingReducer
from skood.datasets import make_noise
from skood.ensemble import AutoNAPDetector

from .measure import Comparison, Line, Sizes
from .memory import peak_in_mib, run_apart

Images = NDArray[np.float32]

BATCH_SIZE = 256
N_CLASSES = 10
POOLINGS = {"max": ("max",), "max and avg": ("max", "avg")}
BARE = "bare forward pass"


def vgg() -> nn.Sequential:
    """The VGG of nine ReLU layers that the authors of NAP monitor on MNIST, weights at random."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 1
    for width in (64, None, 128, 128, None, 256, 256, None, 512, 512):
        if width is None:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    layers += [nn.Flatten(), nn.Linear(512 * 9, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    head = nn.Linear(256, N_CLASSES)
    network = nn.Sequential(*layers, head).eval()
    # Random weights predict one class for all images, unless the logits are centred.
    logits = forward(network, make_images(32))
    with torch.no_grad():
        head.bias.sub_(torch.from_numpy(logits.mean(axis=0)))
    return network


def make_images(n_images: int, kind: str = "blobs") -> Images:
    """Noise of the size of MNIST."""
    return make_noise(kind, (n_images, 1, 28, 28), random_state=0)


def forward(network: nn.Module, images: Images) -> NDArray[np.float32]:
    """The bare forward pass: logits of all images, batch by batch."""
    with torch.inference_mode():
        batches = torch.from_numpy(images).split(BATCH_SIZE)
        return torch.cat([network(batch) for batch in batches]).numpy()


def extractor(network: nn.Module, poolings: tuple[str, ...]) -> ActivationExtractor:
    """Of all layers, pooled."""
    return ActivationExtractor(
        network, reducer=PoolingReducer(pooling=poolings), batch_size=BATCH_SIZE
    )


def compare_extraction(sizes: Sizes) -> Comparison:
    """Extraction of all layers, pooled, over the bare forward pass."""
    network, images = vgg(), make_images(sizes.n_images)
    check_extraction(network, images[:BATCH_SIZE])
    fitted = {name: extractor(network, p).fit(images) for name, p in POOLINGS.items()}
    tasks: dict[str, Callable] = {BARE: partial(forward, network, images)}
    tasks |= {name: partial(fitted[name].transform, images) for name in POOLINGS}
    tasks["fit"] = partial(extractor(network, ("max",)).fit, images)
    timings = Timings(tasks, sizes.repetitions)
    bare_peak = peak_memory("", sizes)
    lines = [Line(BARE, timings.seconds(BARE), 1.0, note=f"peak memory {bare_peak:.0f} MiB")]
    for name, poolings in POOLINGS.items():
        extra = peak_memory(",".join(poolings), sizes) - bare_peak
        result = size_in_mib(fitted[name].transform(images))
        note = f"peak memory {extra:+.0f} MiB; the result takes {result:.0f} MiB"
        seconds, ratio = timings.seconds(name), timings.ratio(name, BARE)
        lines.append(Line(f"`transform`, {name}", seconds, ratio, "<= 1.05", note, BARE))
    note = "once, however many images: finds the layers"
    lines.append(Line("`fit`", timings.seconds("fit"), None, "", note))
    settings = (
        f"VGG of nine ReLU layers, {sizes.n_images} images of 28 x 28, batches of {BATCH_SIZE}, "
        f"{sizes.repetitions} repetitions. Peak memory of a process, median of "
        f"{sizes.n_processes}."
    )
    return Comparison("Extraction of all layers, pooled", settings, "over the bare pass", lines)


def check_extraction(network: nn.Sequential, images: Images) -> None:
    A = extractor(network, ("max", "avg")).fit_transform(images)
    assert A.logits is not None
    np.testing.assert_allclose(A.logits, forward(network, images), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        maps = network[:2](torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(A["1:max"], maps.max(axis=(2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(A["1:avg"], maps.mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)
    assert len({column.layer for column in A.columns if column.role == "layer"}) == 9


def size_in_mib(A: Activations) -> float:
    assert A.logits is not None
    return (A.logits.nbytes + sum(array.nbytes for _, array in A.items())) / 2**20


def peak_memory(poolings: str, sizes: Sizes) -> float:
    """Peak memory in MiB of a new process that runs one pass: the bare one without poolings."""
    return median(
        run_apart("network", sizes.n_images, poolings)[0] for _ in range(sizes.n_processes)
    )


def compare_grid(sizes: Sizes) -> Comparison:
    """The whole auto-configuration over one extraction pass of the same images."""
    network = vgg()
    n_outside = sizes.n_images // 6
    images = np.concatenate(
        [make_images(sizes.n_images - n_outside), make_images(n_outside, "uniform")]
    )
    extract = extractor(network, ("max", "avg")).fit_transform
    A = extract(images)
    y = np.where(np.arange(len(A)) < len(A) - n_outside, predicted_classes(A), -1)
    detector = AutoNAPDetector(random_state=0).fit(A, y)
    n_settings = len(detector.results_["tau"])
    assert n_settings == 9 * 2 * 5
    tasks: dict[str, Callable] = {
        "extraction": partial(extract, images),
        "grid": lambda: AutoNAPDetector(random_state=0).fit(A, y),
    }
    timings = Timings(tasks, sizes.repetitions)
    ratio = timings.ratio("grid", "extraction")
    lines = [
        Line("extraction, max and avg", timings.seconds("extraction"), 1.0),
        Line("`AutoNAPDetector.fit`", timings.seconds("grid"), ratio, "<= 1", "", "extraction"),
    ]
    settings = (
        f"{n_settings} settings: 9 layers, 2 poolings, 5 percentiles. {len(A)} images, of which "
        f"{n_outside} are out-of-distribution and a fifth of the others sets thresholds."
    )
    return Comparison("The whole auto-configuration", settings, "over one extraction pass", lines)


def main() -> None:
    n_images, poolings = int(sys.argv[1]), sys.argv[2]
    network, images = vgg(), make_images(n_images)
    if poolings:
        extractor(network, tuple(poolings.split(","))).fit_transform(images)
    else:
        forward(network, images)
    print(peak_in_mib())


if __name__ == "__main__":
    main()
