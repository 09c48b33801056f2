"""The nearest-neighbour detector against references and brute force."""

import re
import sys
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skood import Activations
from skood.activations import PackedBits
from skood.detectors import KNNDetector, _neighbor_search
from skood.detectors._bounded_rows import hash_layers
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector


@pytest.fixture(params=["faiss", "products"])
def search(request, monkeypatch):
    """Runs a test with either way to search."""
    if request.param == "products":
        monkeypatch.setitem(sys.modules, "faiss", None)
    else:
        pytest.importorskip("faiss")


# References


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("k", [1, 10, 50])
def test_distances_are_those_of_the_reference(golden, k):
    inputs, expected = golden("inputs"), golden("knn")
    detector = KNNDetector(n_neighbors=k).fit(inputs["features_train"])
    found = -detector.score_samples(inputs["features_eval"])
    np.testing.assert_allclose(found, expected[f"distance_k{k}_f64"], atol=1e-6)
    np.testing.assert_allclose(found, expected[f"distance_k{k}"], atol=1e-5)
    squared = np.abs(expected[f"squared_openood_k{k}"])
    np.testing.assert_allclose(found**2, squared, atol=1e-5)


@pytest.mark.usefixtures("search")
def test_distances_of_raw_features_are_those_of_the_reference(golden):
    inputs, expected = golden("inputs"), golden("knn")
    detector = KNNDetector(n_neighbors=10, normalize=False).fit(inputs["features_train"])
    distances, _ = detector.kneighbors(inputs["features_eval"])
    np.testing.assert_allclose(distances[:, 9], expected["distance_raw_k10"], rtol=1e-5)
    np.testing.assert_allclose(distances.mean(axis=1), expected["distance_raw_mean_k10"], rtol=1e-5)
    np.testing.assert_allclose(-detector.training_scores_, expected["train_loo_raw_k10"], rtol=1e-5)


@pytest.mark.usefixtures("search")
def test_rows_of_zeros_stay_so(golden):
    edge = golden("edge_cases")
    detector = KNNDetector(n_neighbors=3).fit(edge["feat_train"])
    found = -detector.score_samples(edge["feat_query"])
    np.testing.assert_allclose(found, edge["feat_knn3_pytorch_ood"], atol=1e-5)


# Brute force


few_rows = st.tuples(st.integers(2, 30), st.integers(1, 4), st.integers(0, 99)).map(
    lambda args: np.random.default_rng(args[2]).integers(0, 3, size=args[:2]).astype(float)
)


@pytest.mark.filterwarnings("ignore:n_neighbors")
@given(
    X=few_rows,
    k=st.integers(1, 12),
    scale=st.sampled_from([1e-30, 1, 1e18]),
    dtype=st.sampled_from([np.float32, np.float64]),
    has_faiss=st.booleans(),
)
def test_scores_are_those_of_a_brute_force(X, k, scale, dtype, has_faiss):
    """Also with duplicates, ties, constant units, few samples, and tiny or huge values."""
    X = (X * scale).astype(dtype)
    query = np.vstack([X, X[:3] + X.dtype.type(scale / 2), X[:2] + X.dtype.type(1e19)])
    with pytest.MonkeyPatch.context() as patch:
        if not has_faiss:
            patch.setitem(sys.modules, "faiss", None)
        detector = KNNDetector(n_neighbors=k, normalize=False).fit(X)
        scores = detector.score_samples(query)
        distances, rows = detector.kneighbors(query)
    k = min(k, len(X) - 1)
    expected = np.sort(cdist(query, X), axis=1)
    np.testing.assert_allclose(scores, -expected[:, k - 1], rtol=1e-12)
    np.testing.assert_allclose(distances, expected[:, :k], rtol=1e-12)
    apart = np.linalg.norm(query[:, np.newaxis].astype(float) - X[rows], axis=2)
    np.testing.assert_allclose(distances, apart, rtol=1e-12)
    assert all(len(set(found)) == k for found in rows)
    others = cdist(X, X) + np.where(np.eye(len(X)), np.inf, 0)
    np.testing.assert_allclose(
        detector.training_scores_, -np.sort(others, axis=1)[:, k - 1], rtol=1e-12
    )


@pytest.mark.usefixtures("search")
def test_rows_far_from_the_origin_are_told_apart():
    X = np.random.default_rng(0).normal(size=(500, 8))
    detector = KNNDetector(n_neighbors=3, normalize=False).fit(X + 1e6)
    expected = np.sort(cdist(X, X), axis=1)[:, 2]
    np.testing.assert_allclose(-detector.score_samples(X + 1e6), expected, rtol=1e-8)


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("apart", [1.0, 1e-5], ids=["well apart", "nearly the same"])
def test_scores_depend_neither_on_other_samples_nor_on_the_order(apart):
    rng = np.random.default_rng(0)
    X = (1 + apart * rng.normal(size=(300, 40))).astype(np.float32)
    query, order = X[:60] + np.float32(apart / 9), rng.permutation(300)
    detector = KNNDetector(n_neighbors=7).fit(X)
    scores = detector.score_samples(query)
    one_by_one = [detector.score_samples(row[np.newaxis])[0] for row in query]
    np.testing.assert_array_equal(scores, one_by_one)
    shuffled = KNNDetector(n_neighbors=7).fit(X[order])
    np.testing.assert_array_equal(shuffled.score_samples(query), scores)
    np.testing.assert_array_equal(shuffled.training_scores_, detector.training_scores_[order])


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_both_ways_to_search_agree(metric, monkeypatch, hold_at_most):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    queries, rows = (rng.normal(size=(n, 16)).astype(np.float32) for n in (50, 400))
    values, found = _neighbor_search.search_rows(queries, rows, 9, metric=metric)
    monkeypatch.setitem(sys.modules, "faiss", None)
    hold_at_most(400 * 7)
    others = _neighbor_search.search_rows(queries, rows, 9, metric=metric)
    np.testing.assert_allclose(others[0], values, rtol=1e-5)
    np.testing.assert_array_equal(others[1], found)
    products = np.sort(queries @ rows.T, axis=1)[:, :-10:-1]
    brute = np.sort(cdist(queries, rows), axis=1)[:, :9] ** 2 if metric == "euclidean" else products
    np.testing.assert_allclose(values, brute, rtol=1e-4)


# What is compared


@pytest.fixture(scope="module")
def data():
    """Two layers; samples out-of-distribution point elsewhere."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(3, 12))
    inside = centers[np.arange(150) % 3] + 0.3 * rng.normal(size=(150, 12))
    outside = rng.normal(size=(50, 12))
    rows = np.vstack([inside, outside])
    layers = {"relu1": rows[:, :5], "relu2": 100 * rows[:, 5:]}
    return Activations(layers), np.repeat([1, -1], [150, 50])


def directions(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_layers_count_alike_once_normalised(data):
    A, _ = data
    rows = np.hstack([directions(A["relu1"]), directions(A["relu2"])]) / np.sqrt(2)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    expected = KNNDetector(n_neighbors=5, normalize=False).fit(rows)
    found = KNNDetector(n_neighbors=5).fit(A)
    np.testing.assert_allclose(found.score_samples(A), expected.score_samples(rows), rtol=1e-9)
    raw = KNNDetector(n_neighbors=5, normalize=False).fit(A)
    side_by_side = KNNDetector(n_neighbors=5, normalize=False).fit(np.asarray(A))
    np.testing.assert_array_equal(raw.score_samples(A), side_by_side.score_samples(np.asarray(A)))


def test_normalised_samples_have_no_length(data):
    A, _ = data
    detector = KNNDetector(n_neighbors=5).fit(A["relu1"])
    longer = A["relu1"] * np.geomspace(0.1, 10, 200)[:, np.newaxis]
    np.testing.assert_allclose(
        detector.score_samples(longer), detector.score_samples(A["relu1"]), atol=1e-12
    )


def test_bits_are_zeros_and_ones():
    bits = np.random.default_rng(0).random((60, 70)) < 0.5
    as_numbers = bits.astype(np.float32)
    packed = Activations({"relu": PackedBits.pack(bits)})
    for normalize in (False, True):
        expected = (
            KNNDetector(n_neighbors=5, normalize=normalize)
            .fit(as_numbers)
            .score_samples(as_numbers)
        )
        for X in (packed, bits):
            found = KNNDetector(n_neighbors=5, normalize=normalize).fit(X).score_samples(X)
            np.testing.assert_array_equal(found, expected)


def test_what_is_stored_is_a_copy():
    X = np.random.default_rng(0).normal(size=(60, 4))
    detector = KNNDetector(n_neighbors=5, normalize=False).fit(X)
    before = detector.score_samples(np.ones((1, 4)))
    X[:] = 0
    np.testing.assert_array_equal(detector.score_samples(np.ones((1, 4))), before)


# Neighbours


def test_neighbours_are_rows_of_the_training_samples(data):
    A, y = data
    order = np.random.default_rng(0).permutation(200)
    A, y = A[order], y[order]
    detector = KNNDetector(n_neighbors=5).fit(A, y)
    inside = np.flatnonzero(y == 1)
    distances, rows = detector.kneighbors(A[inside])
    assert distances.shape == rows.shape == (150, 5)
    np.testing.assert_array_equal(rows[:, 0], inside)
    np.testing.assert_array_equal(distances[:, 0], 0)
    np.testing.assert_array_equal(-distances[:, -1], detector.score_samples(A[inside]))
    assert detector.kneighbors(A, n_neighbors=150)[1].shape == (200, 150)


def test_earlier_rows_come_first_on_ties():
    detector = KNNDetector(n_neighbors=2, normalize=False).fit([[1.0], [0.0], [1.0], [1.0]])
    distances, rows = detector.kneighbors([[1.0], [0.0]], n_neighbors=4)
    np.testing.assert_array_equal(distances, [[0, 0, 0, 1], [0, 1, 1, 1]])
    np.testing.assert_array_equal(rows, [[0, 2, 3, 1], [1, 0, 2, 3]])


def test_more_neighbours_than_training_samples_are_infinitely_far_away():
    detector = KNNDetector(n_neighbors=1, normalize=False).fit([[0.0], [1.0], [3.0]])
    distances, rows = detector.kneighbors([[0.0]], 5)
    np.testing.assert_array_equal(distances, [[0, 1, 3, np.inf, np.inf]])
    np.testing.assert_array_equal(rows, [[0, 1, 2, -1, -1]])


# Life of a detector


@pytest.mark.filterwarnings("ignore:n_neighbors")
def test_batches_give_what_one_fit_gives(data):
    A, y = data
    whole = KNNDetector(n_neighbors=60).fit(A, y)
    detector = KNNDetector(n_neighbors=60)
    for rows in (slice(40), slice(40, 120), slice(120, 180), slice(180, None)):
        assert detector.partial_fit(A[rows], y[rows]) is detector
    np.testing.assert_array_equal(detector.training_rows_, whole.training_rows_)
    np.testing.assert_array_equal(detector.training_scores_, whole.training_scores_)
    np.testing.assert_array_equal(detector.score_samples(A), whole.score_samples(A))
    assert detector.offset_ == whole.offset_
    assert detector.n_samples_seen_ == 200
    assert detector.n_neighbors_ == 60
    np.testing.assert_array_equal(detector.kneighbors(A, 3)[1], whole.kneighbors(A, 3)[1])


def test_the_threshold_rejects_as_many_new_samples():
    X = np.random.default_rng(0).normal(size=(1400, 20))
    detector = KNNDetector(n_neighbors=1, false_alarm_rate=0.1).fit(X[:400])
    assert np.mean(detector.predict(X[400:]) == -1) == pytest.approx(0.1, abs=0.05)
    # Compared with itself, no training sample is far away.
    np.testing.assert_array_equal(detector.score_samples(X[:400]), 0)


def test_a_search_changes_scores(data):
    A, y = data
    search = GridSearchCV(
        make_pipeline(LayerSelector(layers="relu1"), KNNDetector()),
        {"knndetector__n_neighbors": [1, 10, 90], "knndetector__normalize": [False, True]},
        cv=OODKFold(3),
        error_score="raise",
    ).fit(A, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 6


# Warnings and errors


def test_too_large_groups_are_warned_of():
    with pytest.warns(UserWarning, match="n_neighbors=50, but a sample has only 2 others"):
        detector = KNNDetector(normalize=False).fit([[0.0], [1.0], [5.0]])
    assert detector.n_neighbors_ == 2
    np.testing.assert_array_equal(detector.training_scores_, [-5, -4, -5])


def test_one_sample_is_too_few():
    with pytest.raises(ValueError, match="at least 2 in-distribution samples, got n_samples = 1"):
        KNNDetector().fit([[0.0], [1.0]], [1, -1])


def test_fewer_than_one_neighbour_are_refused():
    detector = KNNDetector(n_neighbors=1).fit([[0.0], [1.0], [2.0]])
    with pytest.raises(ValueError, match="n_neighbors == 0, must be >= 1"):
        detector.kneighbors([[0.0]], 0)


@pytest.mark.parametrize("params", [{"n_neighbors": 0}, {"normalize": "l1"}], ids=str)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        KNNDetector(**params).fit([[0.0], [1.0]])


def test_an_unfitted_detector_says_so(data):
    with pytest.raises(NotFittedError):
        KNNDetector().kneighbors(data[0])


# Bounded memory


def smallest_hashes(rows, max_samples):
    hashes = hash_layers(Activations({"X": rows}))
    return np.argsort(hashes)[:max_samples]


@pytest.mark.parametrize("normalize", [True, False])
def test_with_max_samples_the_rows_with_the_smallest_hashes_are_stored(normalize):
    rng = np.random.default_rng(0)
    rows, new = rng.random((200, 5)), rng.random((30, 5))
    # A quarter of the samples is stored, and so a quarter of the neighbours is looked for.
    detector = KNNDetector(n_neighbors=28, max_samples=50, normalize=normalize).fit(rows)
    assert detector.n_neighbors_ == 7
    params = {"n_neighbors": 7, "normalize": normalize}
    stored = smallest_hashes(rows, 50)
    assert sorted(detector.stored_rows_) == sorted(stored)
    expected = KNNDetector(**params).fit(rows[np.sort(stored)])
    np.testing.assert_allclose(detector.score_samples(new), expected.score_samples(new))
    # A stored sample is left out; another is compared with all that are stored.
    scores = np.empty(200)
    scores[np.sort(stored)] = expected.training_scores_
    others = np.setdiff1d(np.arange(200), stored)
    scores[others] = expected.score_samples(rows[others])
    np.testing.assert_allclose(detector.training_scores_, scores)
    found = detector.kneighbors(new, 3)
    nearest = expected.kneighbors(new, 3)
    np.testing.assert_allclose(found[0], nearest[0])
    np.testing.assert_array_equal(found[1], np.sort(stored)[nearest[1]])


def test_as_many_samples_as_may_be_stored_change_nothing():
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.random((30, 4)), 2, axis=0)
    expected = KNNDetector(n_neighbors=5).fit(rows)
    detector = KNNDetector(n_neighbors=5, max_samples=60).fit(rows)
    np.testing.assert_array_equal(detector.training_scores_, expected.training_scores_)
    np.testing.assert_array_equal(detector.stored_rows_, np.arange(60))
    assert detector.n_neighbors_ == 5
    # Of more, equal ones are stored once.
    fewer = KNNDetector(n_neighbors=5, max_samples=40).fit(rows)
    np.testing.assert_array_equal(np.sort(fewer.stored_rows_), np.arange(0, 60, 2))


def test_where_less_than_one_neighbour_is_left_the_nearest_counts_with_a_warning():
    rng = np.random.default_rng(0)
    few = np.repeat(rng.normal(size=(4, 5)), 250, axis=0)
    said = (
        "max_samples=500 stores 4 of 1000 samples, equal ones once: n_neighbors=50 of all are less "
        "than one of these. The nearest one counts, as if n_neighbors were about 250."
    )
    with pytest.warns(UserWarning, match=re.escape(said)):
        detector = KNNDetector(max_samples=500, normalize=False).fit(few)
    assert detector.n_neighbors_ == 1
    with pytest.warns(UserWarning, match="stores 5 of 1000 samples"):
        KNNDetector(max_samples=5, normalize=False).fit(rng.normal(size=(1000, 5)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert KNNDetector(max_samples=500, n_neighbors=250).fit(few).n_neighbors_ == 1
        assert KNNDetector(max_samples=10).fit(rng.normal(size=(1000, 5))).n_neighbors_ == 1
        KNNDetector(max_samples=10, n_neighbors=1).fit(rng.normal(size=(1000, 5)))


def test_equal_rows_alone_are_neighbours_of_each_other():
    rows = np.ones((100, 3))
    detector = KNNDetector(max_samples=10, n_neighbors=1, normalize=False).fit(rows)
    np.testing.assert_array_equal(detector.training_scores_, np.zeros(100))
    np.testing.assert_allclose(detector.score_samples(rows[:1] * [1, 1, 0]), [-1])
    batched = KNNDetector(max_samples=10, n_neighbors=1, normalize=False)
    for part in (rows[:60], np.eye(3), rows[60:]):
        batched.partial_fit(part)
    assert len(batched.stored_rows_) == 4


@given(
    order=st.permutations(range(40)),
    cuts=st.lists(st.integers(1, 39), max_size=3),
    max_samples=st.sampled_from([2, 10, 25, 100]),
)
def test_what_is_stored_depends_on_neither_order_nor_batches(order, cuts, max_samples):
    rows = np.random.default_rng(1).integers(0, 4, (40, 3)).astype(float)  # some are equal
    whole = KNNDetector(n_neighbors=1, max_samples=max_samples).fit(rows)
    batched = KNNDetector(n_neighbors=1, max_samples=max_samples)
    mixed = rows[list(order)]
    starts = np.unique([0, *(cut for cut in cuts if 2 <= cut <= 38)])
    assume(min(np.diff([*starts, 40])) >= 2)
    for part in np.split(np.arange(40), starts[1:]):
        batched.partial_fit(mixed[part])
    np.testing.assert_array_equal(batched.score_samples(rows), whole.score_samples(rows))
    stored = [rows[whole.stored_rows_], mixed[batched.stored_rows_]]
    np.testing.assert_array_equal(*(np.unique(each, axis=0) for each in stored))


@pytest.mark.parametrize("max_samples", [1, 0, 2.5, "all"])
def test_a_number_of_samples_that_is_none_is_refused(max_samples):
    with pytest.raises(ValueError, match="max_samples"):
        KNNDetector(max_samples=max_samples).fit(np.eye(4))


@pytest.mark.parametrize("normalize", [True, False])
def test_what_is_learnt_does_not_change_with_the_samples(normalize):
    X = np.random.default_rng(0).random((30, 4))
    new = X + 0.1
    detector = KNNDetector(n_neighbors=3, normalize=normalize).fit(X)
    before = detector.score_samples(new)
    X[:] = 0
    np.testing.assert_array_equal(detector.score_samples(new), before)
