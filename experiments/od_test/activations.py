"""What the networks give for every set, kept on the disk."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skood import ActivationExtractor, Activations, make_monitor

from .nets import load_network
from .sources import ALL_SETS, Sizes, Source, load_outside, load_source


class Seen(NamedTuple):
    """Activations of a source: pooled layers, features, logits and labels."""

    train: Activations
    y_train: NDArray[np.int64]
    test: Activations
    y_test: NDArray[np.int64]
    outside: dict[str, Activations]


def extract(source: Source, sizes: Sizes, folder: Path, sets: Collection[str] = ALL_SETS) -> Seen:
    """All that a default monitor of the network reads; in a second run, what the first kept."""
    network = load_network(source, sizes, folder / "networks")
    # Small batches stay in the cache of the processor.
    extractor = make_monitor(network, batch_size=64).named_steps["extract"]
    folder = folder / "activations" / source.folder_name
    train, test = (
        _load_or_extract(extractor, source, subset, sizes, folder) for subset in ("train", "test")
    )
    outside = {
        name: _load_or_extract(extractor, source, name, sizes, folder)
        for name in source.outside
        if name in sets
    }
    assert train.labels is not None
    assert test.labels is not None
    return Seen(train, train.labels, test, test.labels, outside)


def _load_or_extract(
    extractor: ActivationExtractor, source: Source, name: str, sizes: Sizes, folder: Path
) -> Activations:
    is_source = name in ("train", "test")
    n_images = getattr(sizes, f"n_{name}") if is_source else sizes.n_outside
    folder = folder / f"{name.replace(' ', '_')}-{n_images}".lower()
    if not folder.exists():
        if is_source:
            X, y = load_source(source, name, n_images)
        else:
            X = load_outside(source, name, n_images)
            y = np.full(len(X), -1)
        print(f"{source.title}: {len(X)} images, {name}", flush=True)
        if not hasattr(extractor, "layers_"):
            extractor.fit(X[:2])
        extractor.transform(X).assign(labels=y).save(folder)
    return Activations.load(folder, mmap_mode="r")
