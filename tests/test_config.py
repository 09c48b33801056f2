"""The precision in which scores are computed, and what single precision loses."""

import threading

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import skood
from skood import Activations
from skood._threads import for_each_batch
from skood.activations import LinearHead
from skood.detectors import (
    EnergyDetector,
    EntropyDetector,
    GENDetector,
    KLMatchingDetector,
    MaxLogitDetector,
    MaxSoftmaxDetector,
    ViMDetector,
)

IN_SINGLE = [
    MaxSoftmaxDetector(),
    MaxSoftmaxDetector(temperature=3.0),
    MaxLogitDetector(),
    EnergyDetector(),
    EnergyDetector(temperature=0.1),
    EntropyDetector(),
    KLMatchingDetector(),
    ViMDetector(n_components=8),
]


@pytest.fixture(autouse=True)
def double_again():
    yield
    skood.set_config(precision="double")


def draw(n_samples, scale, seed, dtype=np.float32):
    """Features, and logits of their head, of a network that is as confident as ``scale`` says."""
    rng = np.random.default_rng(seed)
    weight = np.random.default_rng(0).normal(size=(10, 24)).astype(np.float32)
    features = rng.normal(size=(n_samples, 24)) + scale * weight[rng.integers(10, size=n_samples)]
    features = np.maximum(features, 0).astype(dtype)
    head = LinearHead(weight, np.zeros(10, np.float32), "fc")
    return Activations({"fc": features}, logits=head.logits(features), head=head)


def in_single(call, *arguments):
    with skood.config_context(precision="single"):
        return call(*arguments)


def test_double_is_the_default_and_a_context_ends():
    assert skood.get_config() == {"precision": "double"}
    with skood.config_context(precision="single"):
        assert skood.get_config() == {"precision": "single"}
        with skood.config_context(precision="double"):
            assert skood.get_config() == {"precision": "double"}
        assert skood.get_config() == {"precision": "single"}
    assert skood.get_config() == {"precision": "double"}


def test_a_context_is_of_its_thread_and_set_config_of_all():
    found = []

    def look():
        found.append(skood.get_config()["precision"])

    with skood.config_context(precision="single"):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    skood.set_config(precision="single")
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == ["double", "single"]


@pytest.mark.parametrize("call", [lambda p: skood.set_config(precision=p), skood.config_context])
def test_another_precision_is_refused(call):
    if call is skood.config_context:
        with pytest.raises(ValueError, match="got 'half'"), call(precision="half"):
            pass
    else:
        with pytest.raises(ValueError, match="must be one of"):
            call("half")


@pytest.mark.parametrize("detector", IN_SINGLE, ids=str)
def test_single_precision_loses_no_more_than_the_rounding_of_logits(detector):
    train, inside, outside = draw(400, 1.0, 1), draw(300, 1.0, 2), draw(300, 0.3, 3)
    detector.fit(train)
    new = Activations.concatenate([inside, outside])
    double = detector.score_samples(new)
    single = in_single(detector.score_samples, new)
    assert single.dtype == np.float64
    size = np.abs(new.logits).max()
    np.testing.assert_allclose(single, double, atol=4e-6 * size, rtol=1e-4)
    is_inside = np.arange(600) < 300
    lost = roc_auc_score(is_inside, double) - roc_auc_score(is_inside, single)
    assert abs(lost) < 1e-4
    assert len(np.unique(single)) >= 0.99 * len(np.unique(double))


@pytest.mark.parametrize("detector", [*IN_SINGLE, GENDetector()], ids=str)
def test_double_precision_stays_so(detector):
    train, new = draw(400, 1.0, 1, np.float64), draw(100, 1.0, 2, np.float64)
    new = new.assign(logits=new.logits.astype(np.float64))
    detector.fit(train)
    expected = detector.score_samples(new)
    np.testing.assert_array_equal(in_single(detector.score_samples, new), expected)


@pytest.mark.parametrize(
    "detector", [MaxSoftmaxDetector(), EntropyDetector(), GENDetector()], ids=str
)
def test_confident_samples_keep_their_order_in_single_precision(detector):
    margins = np.geomspace(10, 700, 100)
    logits = np.column_stack([np.zeros((100, 2)), margins]).astype(np.float32)
    scores = in_single(detector.fit(logits).score_samples, logits)
    assert (np.diff(scores) > 0).all()


def test_far_logits_have_their_energy_in_single_precision():
    logits = np.array([[1e4, 0.0], [-1e4, -1e4], [200.0, 200.0]], dtype=np.float32)
    scores = in_single(EnergyDetector().fit(logits).score_samples, logits)
    expected = [1e4, -1e4 + np.log(2), 200 + np.log(2)]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_what_is_learnt_is_learnt_in_double_precision():
    train = draw(300, 1.0, 1)
    expected = KLMatchingDetector().fit(train).class_distributions_
    found = in_single(KLMatchingDetector().fit, train).class_distributions_
    np.testing.assert_array_equal(found, expected)


def test_the_weight_of_residuals_alone_is_made_of_scores_in_single_precision():
    train = draw(300, 1.0, 1)
    expected = ViMDetector(n_components=8).fit(train)
    found = in_single(ViMDetector(n_components=8).fit, train)
    np.testing.assert_array_equal(found.components_, expected.components_)
    np.testing.assert_allclose(found.alpha_, expected.alpha_, rtol=1e-6)
    scores = in_single(found.score_samples, train)
    np.testing.assert_allclose(found.training_scores_, scores, rtol=0, atol=1e-12)


def test_residuals_that_drown_in_the_rounding_of_features_are_those_of_double_precision():
    rng = np.random.default_rng(0)
    inside = rng.integers(-9, 10, size=(200, 4)) @ rng.integers(-9, 10, size=(4, 12))
    features = np.float32(inside + 1e-3 * rng.normal(size=inside.shape))
    head = LinearHead(rng.normal(size=(5, 12)).astype(np.float32), input_layer="fc")
    A = Activations({"fc": features}, logits=head.logits(features), head=head)
    detector = ViMDetector(n_components=4).fit(A)
    expected = detector.score_samples(A)
    found = in_single(detector.score_samples, A)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(A.logits).max())
    alpha = in_single(ViMDetector(n_components=4).fit, A).alpha_
    np.testing.assert_allclose(alpha, detector.alpha_, rtol=1e-9)


@pytest.mark.parametrize("n_rows", [0, 1, 7, 3000])
def test_batches_in_threads_are_each_run_once(n_rows):
    counts = np.zeros(n_rows, dtype=int)
    choices = set()

    def count(rows):
        counts[rows] += 1
        choices.add((skood.get_config()["precision"], np.geterr()["over"]))

    batches = [slice(start, min(start + 10, n_rows)) for start in range(0, n_rows, 10)]
    with skood.config_context(precision="single"), np.errstate(over="raise"):
        for_each_batch(count, batches, 2**24)
    assert (counts == 1).all()
    assert choices <= {("single", "raise")}


def test_an_error_in_any_thread_is_raised():
    def fail(rows):
        if rows.start == 10:
            raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        for_each_batch(fail, [slice(start, start + 10) for start in range(0, 40, 10)], 2**24)


@pytest.mark.parametrize("detector", IN_SINGLE[:6], ids=str)
def test_threads_change_no_bit(detector, monkeypatch):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=5, size=(20_000, 30)).astype(np.float32)
    detector.fit(logits[:100])
    monkeypatch.setattr("skood._threads.n_openmp_threads", lambda: 1)
    expected = detector.score_samples(logits)
    monkeypatch.setattr("skood._threads.n_openmp_threads", lambda: 2)
    np.testing.assert_array_equal(detector.score_samples(logits), expected)
