"""Detectors that read all samples more than once hold a block of those on disk at a time."""

import tracemalloc

import numpy as np
import pytest
from sklearn import config_context

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import COREDetector, OpenMaxDetector, ViMDetector

N_ROWS, N_UNITS, N_CLASSES = 10_000, 128, 32


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """Activations of 6.4 MB, of which nothing is in memory."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("on_disk")
    head = LinearHead(rng.normal(size=(N_CLASSES, N_UNITS)), input_layer="fc")
    features = np.maximum(rng.normal(size=(N_ROWS, N_UNITS)), 0).astype(np.float32)
    arrays = {"fc": features, "logits": head.logits(features).astype(np.float32)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in arrays}
    return Activations({"fc": mapped["fc"]}, logits=mapped["logits"], head=head)


@pytest.fixture(scope="module")
def in_memory(on_disk):
    return Activations({"fc": np.array(on_disk["fc"])}, logits=on_disk.logits, head=on_disk.head)


@pytest.mark.parametrize("cls", [COREDetector, OpenMaxDetector, ViMDetector])
def test_no_more_is_held_than_a_block_of_rows(cls, on_disk, in_memory):
    y = np.arange(N_ROWS) % N_CLASSES
    expected = cls().fit(in_memory, y)
    scores = expected.score_samples(in_memory)
    with config_context(working_memory=0.5):
        tracemalloc.start()
        try:
            found = cls().fit(on_disk, y)
            again = found.score_samples(on_disk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert not hasattr(found, "partial_fit")
    assert not hasattr(found, "merge")
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-7)
    np.testing.assert_allclose(again, scores, rtol=1e-7)
    # Each row has a dozen numbers of its own.
    assert peak < 12 * 8 * N_ROWS + 2**21
