"""What ensembles learn from batches: bounded samples, and a summary for each member."""

import pickle
import tracemalloc

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from test_adaptive_ensemble import network

from skood import Activations, HammingNAPDetector, PercentileBinarizer, _threshold_sample
from skood._monitor_view import memory_of
from skood._threshold_sample import hash_rows
from skood.detectors import ActivationNormDetector, KNNDetector, forget_batches
from skood.ensemble import (
    AdaptiveEnsembleDetector,
    AnyAlarmDetector,
    AutoNAPDetector,
    LayerEnsembleDetector,
    _adaptive,
)
from skood.ensemble._adaptive import rows_to_learn_from
from skood.shaping import ReAct

NAP = make_pipeline(PercentileBinarizer(), HammingNAPDetector())
A = network(n_rows=300)
Y = A.predictions
NEW = network(n_rows=60, seed=5)


def stream(detector, X, y, parts):
    for rows in parts:
        detector.partial_fit(X[rows], None if y is None else y[rows])
    return detector


@pytest.mark.parametrize(
    ("keys", "counts", "max_samples", "expected"),
    [
        (None, [1, 1, 1], 2, [0, 1, 2]),  # fewer were seen than may be learnt from
        ([7, 2, 9, 4], [1, 1, 1, 1], 2, [1, 3]),
        ([7, 2, 7, 4], [1, 1, 1, 1], 3, [1, 0, 0]),  # two are equal; of four, three at even steps
        ([7, 2, 9], [1, 9, 1], 4, [1, 1, 1, 0]),
        ([7, 2, 9, 4], [1, 9, 1, 1], 2, [1, 1]),  # one counts 6 times beside one that counts once
    ],
)
def test_rows_to_learn_from_are_those_of_the_smallest_keys(keys, counts, max_samples, expected):
    keys = None if keys is None else np.array(keys, dtype=np.uint64)
    found = rows_to_learn_from(keys, np.array(counts), max_samples)
    np.testing.assert_array_equal(found, expected)


def test_equal_rows_count_evenly():
    keys, counts = np.array([5, 3, 8], dtype=np.uint64), np.array([10, 30, 60])
    found = rows_to_learn_from(keys, counts, 10)
    np.testing.assert_array_equal(np.bincount(found), [1, 3, 6])
    # Of more different rows than may be learnt from, none counts more than its share.
    found = rows_to_learn_from(keys, counts, 2)
    np.testing.assert_array_equal(np.sort(found), [0, 1])


def test_no_order_and_no_split_change_what_is_learnt_of_many_rows():
    rng = np.random.default_rng(0)
    repeated = np.r_[np.arange(300), rng.integers(300, size=100)]
    X, y = A[repeated], Y[repeated]
    expected = AdaptiveEnsembleDetector(max_samples=120).fit(X, y)
    order = rng.permutation(400)
    first, second, third = (
        stream(AdaptiveEnsembleDetector(max_samples=120), X, y, parts)
        for parts in (
            np.array_split(np.arange(400), 3),
            np.split(order, [1, 2, 350]),
            [np.arange(400)],
        )
    )
    halves = [
        AdaptiveEnsembleDetector(max_samples=120).fit(X[r], y[r]) for r in (order[:90], order[90:])
    ]
    for found in (first, second, third, halves[1].merge(halves[0])):
        np.testing.assert_array_equal(found.score_samples(NEW), expected.score_samples(NEW))
        assert found.offset_ == expected.offset_
        np.testing.assert_array_equal(
            np.sort(found.training_scores_), np.sort(expected.training_scores_)
        )


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(_threshold_sample, "CAPACITY", 0)
    monkeypatch.setattr(_threshold_sample, "MIN_ROWS", 10)
    expected = AdaptiveEnsembleDetector(max_samples=100).fit(A, Y)
    found = stream(AdaptiveEnsembleDetector(max_samples=100), A, Y, np.split(np.arange(300), 6))
    np.testing.assert_array_equal(found.score_samples(NEW), expected.score_samples(NEW))
    chosen = np.sort(np.argsort(hash_rows(A, Y))[:100])
    np.testing.assert_array_equal(found.training_rows_, chosen)
    np.testing.assert_array_equal(found.training_scores_, expected.training_scores_[chosen])
    assert found.offset_ == np.percentile(found.training_scores_, 5)
    kept = memory_of(found)
    forget_batches(found)
    assert kept - memory_of(found) < 100 * (3 * 12 * 4 + 3 * 8 + 8 * 8) + 5000
    with pytest.raises(ValueError, match="what only more batches need"):
        found.partial_fit(A)


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: AnyAlarmDetector([("one", d)])])
def test_a_fit_of_large_rows_keeps_none_and_a_stream_keeps_them(monkeypatch, wrap):
    monkeypatch.setattr(_adaptive, "_KEPT_BYTES", 10_000)
    detector = wrap(AdaptiveEnsembleDetector()).fit(A, Y)
    for call in (lambda: detector.partial_fit(A, Y), lambda: detector.merge(detector)):
        with pytest.raises(ValueError, match="begin with partial_fit"):
            call()
    expected = detector.score_samples(NEW)
    found = stream(wrap(AdaptiveEnsembleDetector()), A, Y, np.split(np.arange(300), 2))
    np.testing.assert_array_equal(found.score_samples(NEW), expected)


def test_layers_of_the_sample_are_read_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(_adaptive, "_KEPT_BYTES", 0)
    n_layers, width = 16, 64
    X = network(n_rows=3000, n_layers=n_layers, width=width)
    X.save(tmp_path / "A")
    of_layer = 1000 * width * 4
    detector = AdaptiveEnsembleDetector(max_samples=1000)
    expected = AdaptiveEnsembleDetector(max_samples=1000).fit(X).score_samples(X[:50])
    on_disk = Activations.load(tmp_path / "A", mmap_mode="r")
    with config_context(working_memory=2):
        tracemalloc.start()
        detector.fit(on_disk)
        peak = tracemalloc.get_traced_memory()[1] - memory_of(detector)
        tracemalloc.stop()
    np.testing.assert_allclose(detector.score_samples(X[:50]), expected)
    assert peak < 0.9 * n_layers * of_layer


# Ensembles of members that learn in batches


def test_ensembles_say_which_member_needs_all_rows():
    for detector, reason in (
        (LayerEnsembleDetector(IsolationForest()), "IsolationForest"),
        (
            LayerEnsembleDetector(make_pipeline(ReAct(), KNNDetector())),
            "ReAct learns from the rows",
        ),
        (LayerEnsembleDetector([NAP, KNNDetector(validation=0.5)]), "holds out rows of its own"),
        (AnyAlarmDetector([("a", NAP), ("b", IsolationForest())]), "IsolationForest"),
    ):
        for method in ("partial_fit", "merge"):
            with pytest.raises(AttributeError) as caught:
                getattr(detector, method)
            assert reason in str(caught.value.__cause__)
    assert not hasattr(AutoNAPDetector(), "partial_fit")
    # They are fitted as before, and keep nothing.
    forest = LayerEnsembleDetector(IsolationForest(n_estimators=5, random_state=0)).fit(A)
    assert forest.calibration_scores_.shape == (300, 3)


def test_members_are_weighed_by_marked_rows_of_all_batches():
    y = np.where(np.arange(300) % 6 == 0, -1, Y)
    for settings in (
        {"combine": "weighted"},
        {"n_layers": 2},
        {"combine": "informed", "n_layers": 1},
    ):
        expected = LayerEnsembleDetector(NAP, **settings).fit(A, y)
        found = LayerEnsembleDetector(NAP, **settings)
        for rows in (np.arange(100), np.arange(100, 300)):
            found.partial_fit(A[rows], y[rows])
        assert found.layers_ == expected.layers_
        np.testing.assert_array_equal(found.aurocs_, expected.aurocs_)
        np.testing.assert_array_equal(found.score_samples(NEW), expected.score_samples(NEW))
    with pytest.raises(ValueError, match=r"needs out-of-distribution samples \(y == -1\)"):
        LayerEnsembleDetector(NAP, n_layers=2).fit(A)
    # They may come in a later batch.
    found = LayerEnsembleDetector(NAP, n_layers=2).partial_fit(A[:100])
    with pytest.raises(NotFittedError, match=r"needs out-of-distribution samples \(y == -1\)"):
        found.predict(A)
    expected = LayerEnsembleDetector(NAP, n_layers=2).fit(A, np.where(np.arange(300) < 100, 1, y))
    found.partial_fit(A[100:], y[100:])
    np.testing.assert_array_equal(found.score_samples(NEW), expected.score_samples(NEW))


def test_batches_may_be_concluded_once_whatever_the_first_one_holds():
    y = np.where(np.arange(300) % 6 == 0, -1, Y)
    y[:40] = -1
    weighted = LayerEnsembleDetector(NAP, combine="weighted")
    for detector in (weighted, AnyAlarmDetector([("weighted", weighted), ("knn", KNNDetector())])):
        expected = clone(detector).fit(A, y)
        first, *others = (
            clone(detector)._learn_batch(A[rows], y[rows], allow_none=True)
            for rows in np.split(np.arange(300), [40, 100])
        )
        for other in others:
            first._take_in(other)
        found = first._conclude()
        np.testing.assert_allclose(found.score_samples(NEW), expected.score_samples(NEW))
        assert found.offset_ == pytest.approx(expected.offset_)


def test_knowledge_of_layers_comes_from_the_rows_that_are_kept():
    parts = np.split(np.arange(300), 3)
    expected = LayerEnsembleDetector(NAP, combine="informed").fit(A)
    found = stream(LayerEnsembleDetector(NAP, combine="informed"), A, None, parts)
    np.testing.assert_allclose(found.knowledge_, expected.knowledge_, rtol=1e-12)


def test_several_alarms_learn_as_each_does_alone():
    def alarms(**params):
        named = [("ood", AdaptiveEnsembleDetector()), ("norms", ActivationNormDetector())]
        return AnyAlarmDetector(named, **params)

    parts = np.split(np.arange(300), [120, 180])
    found, expected = stream(alarms(), A, Y, parts), alarms().fit(A, Y)
    assert found.offsets_ == pytest.approx(expected.offsets_)
    for name, detector in alarms().detectors:
        alone = stream(detector, A, Y, parts)
        assert found.offsets_[name] == pytest.approx(alone.offset_)
        np.testing.assert_allclose(found.score_each(NEW)[name], alone.score_samples(NEW))
    np.testing.assert_allclose(found.decision_function(NEW), expected.decision_function(NEW))
    held_out = stream(alarms(validation=0.3), A, Y, parts)
    rows = held_out.training_rows_
    assert len(rows) == 90
    scores = held_out.score_each(A[rows])
    for name, offset in held_out.offsets_.items():
        assert offset == pytest.approx(np.sort(scores[name])[int(0.05 * 91) - 1])


def test_memory_does_not_grow_with_the_number_of_batches():
    parts = np.array_split(np.arange(300), 6)
    for make in (lambda: LayerEnsembleDetector(NAP), lambda: AnyAlarmDetector([("nap", NAP)])):
        one = make().fit(A, Y)
        found = stream(make(), A, Y, parts)
        assert memory_of(found) < 1.15 * memory_of(one)
        copied = pickle.loads(pickle.dumps(found)).partial_fit(NEW, NEW.predictions)
        found.partial_fit(NEW, NEW.predictions)
        np.testing.assert_array_equal(copied.score_samples(A), found.score_samples(A))
