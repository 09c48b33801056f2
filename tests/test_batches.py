"""Rows a few at a time: how many, and that scikit-learn's ``working_memory`` bounds the memory."""

import sys
import tracemalloc

import numpy as np
import pytest
from sklearn import config_context

from skood import Activations, ClusterDistanceDetector
from skood._batches import row_batches
from skood.activations import LinearHead
from skood.detectors import (
    ActivationIntervalDetector,
    COREDetector,
    GaussianActivationDetector,
    GradNormDetector,
    KNNDetector,
    MahalanobisDetector,
    NACDetector,
    NNGuideDetector,
    SHEDetector,
    ViMDetector,
)

MIB = 2**20


def sizes(n_rows, n_values, **kwargs):
    """Numbers of rows, after a check that each row is in one batch, and in order."""
    batches = list(row_batches(n_rows, n_values, **kwargs))
    rows = np.concatenate([np.arange(n_rows)[batch] for batch in batches] or [[]])
    np.testing.assert_array_equal(rows, np.arange(n_rows))
    return [batch.stop - batch.start for batch in batches]


@pytest.mark.parametrize(("n_rows", "n_values"), [(0, 5), (1, 1), (7, 0), (1000, 3), (9, 2**30)])
def test_rows_come_once_and_in_order(n_rows, n_values):
    with config_context(working_memory=2**14):
        assert sum(sizes(n_rows, n_values)) == n_rows


def test_a_batch_stays_in_the_cache_by_default_and_products_take_more():
    width = MIB // 8 // 4  # a quarter of a MiB
    (in_cache, *_), (of_products, *_) = (
        sizes(10_000, width, are_products=flag) for flag in (False, True)
    )
    assert 1 <= in_cache <= 32
    assert 2 * in_cache < of_products <= 400


@pytest.mark.parametrize("are_products", [False, True])
def test_working_memory_bounds_a_batch(are_products):
    with config_context(working_memory=0.5):
        assert sizes(10, MIB // 8 // 8, are_products=are_products) == [4, 4, 2]
    with config_context(working_memory=2**14):
        enough = sizes(10_000, 100, are_products=are_products)
    assert enough == sizes(10_000, 100, are_products=are_products)


def test_a_row_that_is_too_large_is_taken_alone_and_warned_of():
    with (
        config_context(working_memory=1),
        pytest.warns(UserWarning, match=r"2 MiB.*working_memory is 1 MiB.*one at a time"),
    ):
        assert sizes(3, 2 * MIB // 8) == [1, 1, 1]


# The knob, turned by a user


DETECTORS = [
    ActivationIntervalDetector(),
    COREDetector(),
    ClusterDistanceDetector(n_clusters=3, random_state=0),
    GaussianActivationDetector(),
    GradNormDetector(),
    KNNDetector(5),
    MahalanobisDetector(),
    NACDetector(),
    NNGuideDetector(5),
    SHEDetector(),
    ViMDetector(n_components=10),
]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rows = np.maximum(rng.normal(size=(6000, 64)), 0).astype(np.float32)
    head = LinearHead(rng.normal(size=(5, 64)).astype(np.float32), input_layer="fc")
    return Activations({"fc": rows}, logits=head.logits(rows), head=head)


def scores_and_peak(detector, A, working_memory):
    with config_context(working_memory=working_memory):
        tracemalloc.start()
        scores = detector.score_samples(A)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return scores, peak


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)
def test_memory_follows_working_memory_and_scores_stay(detector, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    detector.fit(data[:500], data.predictions[:500])
    scores, usual = scores_and_peak(detector, data, 1024)
    others, small = scores_and_peak(detector, data, 0.03)
    np.testing.assert_allclose(others, scores, rtol=1e-10)
    assert small < 0.75 * usual
