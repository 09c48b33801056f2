"""Extraction by skood, pytorch-ood and oodeel, beside the bare forward pass of the same network."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments._common.timing import Timings
from experiments._common.torchvision import import_torchvision
from skood import ActivationExtractor, PoolingReducer

from .families import resnet18
from .measure import Comparison, Line, Sizes

BATCH_SIZE = 64
BARE = "bare forward pass"
SKOOD, PYTORCH_OOD, OODEEL = "skood", "pytorch-ood", "oodeel"
BLOCKS = [str(position) for position in range(4, 12)]
"""The residual blocks."""
FEATURES = "13"
"""What the head reads."""

Task = Callable[[], list[NDArray]]


def make_tasks(images: Tensor) -> dict[str, dict[str, Task]]:
    """What each library does with one layer, and with eight that are pooled."""
    torch.manual_seed(0)
    network = resnet18().eval()
    labels = torch.zeros(len(images), dtype=torch.long)
    loader = DataLoader(TensorDataset(images, labels), batch_size=BATCH_SIZE)
    one: dict[str, Task] = {
        BARE: partial(run_bare, network, images),
        SKOOD: partial(run_skood, fitted(network, images, [FEATURES]), images),
    }
    eight: dict[str, Task] = {
        BARE: one[BARE],
        SKOOD: partial(run_skood, fitted(network, images, BLOCKS), images),
    }
    if find_spec("pytorch_ood") is not None:
        import_torchvision()
        features = nn.Sequential(*list(network.children())[:-1])
        extract = import_module("pytorch_ood.utils").extract_features
        one[PYTORCH_OOD] = lambda: [extract(loader, features, "cpu")[0].numpy()]
    if find_spec("oodeel") is not None:
        one[OODEEL] = oodeel_task(network, [FEATURES], loader, None)
        eight[OODEEL] = oodeel_task(network, BLOCKS, loader, [largest] * len(BLOCKS))
    return {"the layer that the head reads": one, "eight layers, pooled": eight}


def fitted(network: nn.Module, images: Tensor, layers: list[str]) -> ActivationExtractor:
    reducer = PoolingReducer(pooling="max")
    extractor = ActivationExtractor(network, layers, reducer=reducer, batch_size=BATCH_SIZE)
    return extractor.fit(images[:BATCH_SIZE])


def run_bare(network: nn.Module, images: Tensor) -> list[NDArray]:
    with torch.inference_mode():
        return [torch.cat([network(batch) for batch in images.split(BATCH_SIZE)]).numpy()]


def run_skood(extractor: ActivationExtractor, images: Tensor) -> list[NDArray]:
    return [np.asarray(layer) for _, layer in extractor.transform(images).items()]


def oodeel_task(
    network: nn.Module, layers: list[str], loader: DataLoader, pool: list[Callable] | None
) -> Task:
    """Its pass, over a copy of the network: it leaves hooks behind."""
    make = import_module("oodeel.extractor.torch_feature_extractor").TorchFeatureExtractor
    extractor = make(deepcopy(network), feature_layers_id=list(layers))

    def run() -> list[NDArray]:
        features, _ = extractor.predict(loader, postproc_fns=pool, numpy_concat=True)
        return [np.asarray(feature) for feature in features]

    return run


def largest(maps: Tensor) -> Tensor:
    """The maximum of each map."""
    return maps.amax(dim=(2, 3))


def compare_extractors(sizes: Sizes) -> Comparison:
    """Time all of them, after comparing what they give."""
    images = torch.rand(sizes.n_images // 4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    lines: list[Line] = []
    for what, tasks in make_tasks(images).items():
        check(tasks)
        timings = Timings(tasks, min(5, sizes.repetitions), process_time)
        lines.append(Line(f"{BARE}, {what}", timings.seconds(BARE), 1.0))
        for name in timings.names[1:]:
            ratio = timings.ratio(name, BARE)
            lines.append(Line(f"{name}, {what}", timings.seconds(name), ratio, "", "", BARE))
            if name != SKOOD:
                beside = timings.ratio(name, SKOOD)
                lines.append(Line(f"{name}, {what}", None, beside, ">= 1", "", SKOOD))
    settings = (
        f"ResNet18, {len(images)} images of 64 x 64 in batches of {BATCH_SIZE}, with "
        f"{torch.get_num_threads()} threads; time of the process. pytorch-ood has no logits of the "
        "same pass."
    )
    return Comparison("Extraction by several libraries", settings, "over what is named", lines)


def check(tasks: dict[str, Task]) -> None:
    """Raise where a library gives other values than skood."""
    expected = tasks[SKOOD]()
    for name, task in tasks.items():
        if name in (SKOOD, BARE):
            continue
        found: Any = task()
        for values, own in zip(found, expected, strict=True):
            np.testing.assert_allclose(values.reshape(own.shape), own, rtol=1e-3, atol=1e-4)
