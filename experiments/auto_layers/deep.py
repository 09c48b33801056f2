"""A DenseNet with more layers than a monitor takes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from skood import ActivationExtractor, Activations, PoolingReducer, make_monitor

from .._common.quality import compare
from ..cifar_shaping.activations import load_network
from ..cifar_shaping.data import TASKS, TEST, TRAIN, load_images

COUNTS = (100, 64, 32, 16, 8)
NEAR, FAR = "CIFAR-100", "textures"


def compare_counts(n_samples: int) -> list[list[str]]:
    """A line for each number of layers."""
    task = TASKS["cifar10"]
    network = load_network(task).eval()
    sizes = {TRAIN: 2 * n_samples, TEST: n_samples, NEAR: n_samples, FAR: n_samples}
    images = {name: load_images(task, name, size, 0)[0] for name, size in sizes.items()}
    auto = ActivationExtractor(network).fit(images[TEST][:2])
    wanted = [*auto.layers_, *(n for n, why in auto.left_out_.items() if why.startswith("one of"))]
    extractor = ActivationExtractor(network, wanted, reducer=PoolingReducer(), batch_size=32)
    extractor.fit(images[TEST][:2])
    sets = {name: extractor.transform(X) for name, X in images.items()}
    everything = list(map(str, sets[TEST].layer_names))
    rows = []
    for count in COUNTS:
        names = spread(everything, count)
        outside = {"near": sets[NEAR], "far": sets[FAR]}
        line = measure(network, names, sets[TRAIN], sets[TEST], outside)
        rows.append([f"{len(names)} of {len(everything)}", *line])
    return rows


def spread(names: Sequence[str], count: int) -> list[str]:
    """So many names, evenly spread, the first and the last among them."""
    if len(names) <= count:
        return list(names)
    step = (len(names) - 1) / (count - 1)
    return [names[round(i * step)] for i in range(count)]


def measure(
    network: object,
    names: list[str],
    train: Activations,
    inside: Activations,
    outside: dict[str, Activations],
) -> list[str]:
    """Number of layers, AUROCs in percent, and seconds."""
    start = time.process_time()
    detector = make_monitor(network)[-1].fit(train[names])
    fitted = time.process_time()
    scores = detector.score_samples(inside[names])
    end = time.process_time()
    aurocs = [
        f"{compare(scores, detector.score_samples(A[names])).auroc:.1f}" for A in outside.values()
    ]
    return [str(len(names)), *aurocs, f"{fitted - start:.2f}", f"{end - fitted:.2f}"]
