"""The Hamming detector against references and brute force, and the search and store below it."""

import pickle
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood._patterns import PatternStore, hamming_neighbors
from skood.activations import PackedBits

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1")


def distances(detector, X):
    assert not detector.break_ties
    return -detector.score_samples(X)


# References


@pytest.fixture(scope="module")
def reference(golden):
    """Reads the first rows of a split: `pool` of every layer, predictions and labels."""
    inputs = golden("inputs")

    def read(split, pool):
        n_samples = len(inputs[f"conv1_max_{split}"])
        layers = {name: inputs[f"{name}_{pool}_{split}"] for name in LAYERS[:-1]}
        layers["fc1"] = inputs[f"features_{split}"][:n_samples]
        return Activations(layers, logits=inputs[f"logits_{split}"][:n_samples])

    return read, inputs["y_train"]


@pytest.mark.parametrize("p_number", range(5))
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_distances_of_the_authors_are_met_exactly(golden, reference, pool, p_number):
    read, y_train = reference
    expected = golden("nap")
    binarizer = PercentileBinarizer(percentile=100 * expected["p_grid"][p_number])
    train = binarizer.fit_transform(read("train", pool))
    splits = {name: binarizer.transform(read(name, pool)) for name in ("val", "unk", "eval")}
    for layer_number, layer in enumerate(LAYERS):
        detector = HammingNAPDetector(group_by="label", break_ties=False)
        detector.fit(train[[layer]], y_train[: len(train)])
        for split, X in splits.items():
            stored = expected[f"dist_{split}"][int(pool == "avg"), p_number, layer_number]
            np.testing.assert_array_equal(distances(detector, X[[layer]]), stored, err_msg=layer)


@pytest.mark.parametrize("name", ["nap11", "nap21"])
def test_distances_of_the_edge_cases_are_met_exactly(golden, name):
    cases = golden("edge_cases")
    y, asked = cases[f"{name}_y"], cases[f"{name}_query_class"]
    train = Activations({"a": cases[f"{name}_train"]}, predictions=y)
    query = Activations({"a": cases[f"{name}_query"]}, predictions=asked)
    absent = ~np.isin(asked, y)
    assert absent.any()
    for number, p in enumerate(cases["nap_p_grid"]):
        binarizer = PercentileBinarizer(percentile=100 * p).fit(train)
        detector = HammingNAPDetector(group_by="label", break_ties=False)
        found = distances(detector.fit(binarizer.transform(train), y), binarizer.transform(query))
        same = cases[f"{name}_same_in_float64"][number]
        np.testing.assert_array_equal(found[same], cases[f"{name}_distance"][number][same])
        np.testing.assert_array_equal(found[absent], int(name.removeprefix("nap")))


def contained(train, y, query, gamma):
    """Whether the decision diagram monitor, enlarged by gamma bits, holds the queries."""
    detector = HammingNAPDetector(group_by="correct", tau=gamma)
    return detector.fit(train, y).predict(query) == 1


@pytest.mark.parametrize("gamma", [0, 1, 2])
@pytest.mark.parametrize("neurons", ["full", "omit"])
def test_the_detector_is_the_decision_diagram_monitor(golden, neurons, gamma):
    inputs, expected = golden("inputs"), golden("bdd_monitor")

    def monitored(split):
        values = inputs[f"features_{split}"][:, expected["neurons"]]
        A = Activations({"features": values}, logits=inputs[f"logits_{split}"])
        if neurons == "omit":
            A = A.replace({"features": np.where(expected["omitted"][A.predictions], 1, values)})
        return PercentileBinarizer(rule="zero").fit_transform(A)

    found = contained(monitored("train"), inputs["y_train"], monitored("eval"), gamma)
    np.testing.assert_array_equal(found, expected[f"contained_{neurons}"][:, gamma])


@pytest.mark.parametrize("gamma", [0, 1, 2, 3])
def test_a_class_that_was_never_stored_is_never_accepted(golden, gamma):
    cases = golden("edge_cases")
    train = Activations({"a": cases["bdd_train"]}, predictions=cases["bdd_predicted"])
    query = Activations({"a": cases["bdd_query"]}, predictions=cases["bdd_query_class"])
    found = contained(train, cases["bdd_y"], query, gamma)
    np.testing.assert_array_equal(found, cases["bdd_contained"][:, gamma])
    assert not found[cases["bdd_query_class"] == 1].any()


# Brute force


def brute_score(bits, pattern, break_ties, *, left_out=False):
    """Score of one pattern among those stored under its class, or among all of them but one."""
    if len(bits) == 0:
        return -len(pattern)
    distance = (bits != pattern).sum(axis=1)
    nearest = bits[distance == distance.min()]
    most_common = max((nearest == row).all(axis=1).sum() for row in nearest)
    if left_out and most_common > len(bits) / 2 and distance.min() == 0:
        most_common += 1  # the row that a new sample would be compared with besides
    return break_ties * most_common / (len(bits) + 1 + left_out) - distance.min()


@st.composite
def problems(draw):
    """A training set of few bits and many rows, so that patterns repeat and distances tie."""
    n_bits, n_samples = draw(st.integers(1, 6)), draw(st.sampled_from([2, 7, 20, 50]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bits = rng.random((n_samples, n_bits)) < draw(st.sampled_from([0.1, 0.5]))
    predictions = rng.integers(0, 3, n_samples)
    y = np.where(rng.random(n_samples) < 0.7, predictions, rng.integers(-1, 3, n_samples))
    params = draw(
        st.fixed_dictionaries(
            {
                "group_by": st.sampled_from(["prediction", "label", "correct"]),
                "break_ties": st.booleans(),
            }
        )
    )
    stored = (y != -1) & ((params["group_by"] != "correct") | (y == predictions))
    assume(stored.any())
    return bits, predictions, y, np.where(stored, _kept(params, predictions, y), -1), params


def _kept(params, predictions, y):
    return y if params["group_by"] == "label" else predictions


def patterns(bits, predictions):
    # Classes 0 to 3 exist for the network; 3 is never predicted in training.
    layers = {"a": PackedBits.pack(bits)}
    return Activations(layers, logits=np.eye(4)[predictions], predictions=predictions)


@given(problem=problems(), seed=st.integers(0, 99))
def test_scores_are_those_of_a_brute_force(problem, seed):
    bits, predictions, y, kept, params = problem
    detector = HammingNAPDetector(**params).fit(patterns(bits, predictions), y)
    rng = np.random.default_rng(seed)
    queries, asked = rng.random((40, bits.shape[1])) < 0.5, rng.integers(0, 4, 40)
    expected = [
        brute_score(bits[kept == label], query, params["break_ties"])
        for query, label in zip(queries, asked, strict=True)
    ]
    np.testing.assert_allclose(detector.score_samples(patterns(queries, asked)), expected)


@given(problem=problems())
def test_training_scores_leave_each_sample_out(problem):
    bits, predictions, y, kept, params = problem
    detector = HammingNAPDetector(**params).fit(patterns(bits, predictions), y)
    rows = np.flatnonzero(y != -1)
    expected = []
    for row in rows:
        stored = kept == predictions[row]
        others = bits[stored & (np.arange(len(y)) != row)]
        is_left_out = len(others) < stored.sum()
        expected.append(brute_score(others, bits[row], params["break_ties"], left_out=is_left_out))
    np.testing.assert_array_equal(detector.training_rows_, rows)
    np.testing.assert_allclose(detector.training_scores_, expected)
    # As far as can be is a pattern of a class of which there is no other.
    known = [score for score in expected if score > -bits.shape[1]]
    least = min(known, default=-bits.shape[1])
    assert detector.offset_ == pytest.approx(max(np.percentile(expected, 5), least))
    assert detector.offset_ > -bits.shape[1]


@pytest.mark.parametrize("sizes", [(50,), (50, 50), (5, 90, 200)])
def test_a_row_left_out_and_a_new_sample_like_it_tie_exactly(sizes):
    label = np.repeat(np.arange(len(sizes)), sizes)
    X = patterns(np.eye(8, dtype=bool)[label], label)
    detector = HammingNAPDetector().fit(X)
    np.testing.assert_array_equal(detector.training_scores_, detector.score_samples(X))


def test_a_rare_pattern_left_out_ties_with_a_new_sample_as_rare():
    pairs = np.repeat(np.eye(8, dtype=bool), 2, axis=0)
    detector = HammingNAPDetector().fit(patterns(pairs, np.zeros(16, dtype=int)))
    seen_once = np.r_[pairs[1:], ~pairs[:1]]
    once = HammingNAPDetector().fit(patterns(seen_once, np.zeros(16, dtype=int)))
    new = once.score_samples(patterns(pairs[:1], np.zeros(1, dtype=int)))
    np.testing.assert_array_equal(detector.training_scores_, np.repeat(new, 16))


def test_a_row_left_out_and_a_new_one_beside_a_common_pattern_tie():
    bits = np.ones((100, 64), dtype=bool)
    bits[np.arange(10), np.arange(10)] = False
    new = np.ones((10, 64), dtype=bool)
    new[np.arange(10), 20 + np.arange(10)] = False
    one_class = np.zeros(100, dtype=int)
    detector = HammingNAPDetector().fit(patterns(bits, one_class))
    found = detector.score_samples(patterns(new, one_class[:10]))
    np.testing.assert_array_equal(detector.training_scores_[:10], found)


@pytest.mark.parametrize("n_bits", [1, 4, 8, 16])
@pytest.mark.parametrize("flip", [0.02, 0.5])
def test_few_bits_reject_no_more_than_asked(n_bits, flip):
    rejected = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 5, 2600)
        X = (rng.random((5, n_bits)) < 0.5)[label] ^ (rng.random((2600, n_bits)) < flip)
        detector = HammingNAPDetector().fit(patterns(X[:600], label[:600] % 4))
        rejected.append((detector.predict(patterns(X[600:], label[600:] % 4)) == -1).mean())
    standard_error = np.sqrt(0.05 * 0.95 * (1 / 600 + 1 / 2000) / 8)
    assert np.mean(rejected) < 0.05 + 2 * standard_error


def test_a_training_score_is_the_score_of_a_detector_fitted_without_the_sample():
    rng = np.random.default_rng(0)
    X = patterns(rng.random((40, 6)) < 0.3, rng.integers(0, 3, 40))
    scores = HammingNAPDetector(break_ties=False).fit(X).training_scores_
    for row in range(40):
        others = HammingNAPDetector(break_ties=False).fit(X[np.arange(40) != row])
        assert others.score_samples(X[[row]]) == scores[row]


@given(problem=problems(), n_neighbors=st.integers(1, 30))
def test_neighbours_are_those_of_a_brute_force(problem, n_neighbors):
    bits, predictions, y, kept, params = problem
    detector = HammingNAPDetector(**params).fit(patterns(bits, predictions), y)
    queries, asked = bits[::-1], np.arange(len(bits)) % 4
    found, rows = detector.kneighbors(patterns(queries, asked), n_neighbors)
    assert found.shape == rows.shape == (len(bits), n_neighbors)
    for query, label, its_distances, its_rows in zip(queries, asked, found, rows, strict=True):
        ascending = np.sort((bits[kept == label] != query).sum(axis=1))[:n_neighbors]
        n_found = len(ascending)
        np.testing.assert_array_equal(its_distances[:n_found], ascending)
        np.testing.assert_array_equal(its_distances[n_found:], bits.shape[1])
        np.testing.assert_array_equal(its_rows[n_found:], -1)
        chosen = its_rows[:n_found]
        assert len(set(chosen.tolist())) == n_found
        np.testing.assert_array_equal(kept[chosen], label)
        np.testing.assert_array_equal((bits[chosen] != query).sum(axis=1), ascending)


def test_equal_patterns_come_in_the_order_of_training():
    X = np.array([[0, 1], [1, 1], [0, 1], [0, 1]])
    found, rows = HammingNAPDetector().fit(X).kneighbors([[0, 1]], 4)
    np.testing.assert_array_equal(found, [[0, 0, 0, 1]])
    np.testing.assert_array_equal(rows, [[0, 2, 3, 1]])


@given(problem=problems(), cuts=st.lists(st.integers(1, 24), max_size=3))
def test_any_batches_give_what_one_fit_gives(problem, cuts):
    bits, predictions, y, _, params = problem
    # The first batch needs something to store, as fit does.
    y, bits = y.copy(), np.concatenate([bits, bits[:1]])
    y, predictions = np.append(predictions[:1], y), np.append(predictions[:1], predictions)
    X = patterns(bits, predictions)
    whole = HammingNAPDetector(**params).fit(X, y)
    batched = HammingNAPDetector(**params)
    for rows in np.split(np.arange(len(y)), np.unique(np.minimum(cuts, len(y) - 1)).astype(int)):
        batched.partial_fit(X[rows], y[rows])
    assert batched.offset_ == whole.offset_
    assert batched.n_samples_seen_ == whole.n_samples_seen_ == len(y)
    np.testing.assert_array_equal(batched.training_rows_, whole.training_rows_)
    np.testing.assert_array_equal(batched.training_scores_, whole.training_scores_)
    np.testing.assert_array_equal(batched.score_samples(X), whole.score_samples(X))
    for found, expected in zip(batched.kneighbors(X, 3), whole.kneighbors(X, 3), strict=True):
        np.testing.assert_array_equal(found, expected)


# Behaviour


@pytest.fixture
def X():
    """Rows 0 and 1 are class 0, rows 2 and 3 class 1; row 4 is wrongly seen as class 1."""
    bits = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1], [1, 0, 0, 0]]
    return patterns(bits, np.array([0, 0, 1, 1, 1]))


Y = np.array([0, 0, 1, 1, 0])


def query(bits, *predictions):
    return patterns(bits, np.array(predictions))


def test_group_by_says_under_which_class_a_pattern_is_stored(X):
    far_from_0 = query([[1, 0, 0, 0], [1, 0, 0, 0]], 0, 1)
    by_prediction = HammingNAPDetector(break_ties=False).fit(X, Y)
    np.testing.assert_array_equal(distances(by_prediction, far_from_0), [1, 0])
    by_label = HammingNAPDetector(break_ties=False, group_by="label").fit(X, Y)
    np.testing.assert_array_equal(distances(by_label, far_from_0), [0, 3])


def test_group_by_correct_stores_no_misclassified_pattern(X):
    asked = query([[1, 0, 0, 0], [1, 0, 0, 0]], 0, 1)
    detector = HammingNAPDetector(break_ties=False, group_by="correct").fit(X, Y)
    np.testing.assert_array_equal(distances(detector, asked), [1, 3])
    # The misclassified sample takes part in the threshold all the same.
    np.testing.assert_array_equal(-detector.training_scores_, [0, 0, 1, 1, 3])


def test_the_more_common_of_equally_near_patterns_scores_higher():
    bits = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]
    detector = HammingNAPDetector().fit(np.array(bits))
    common, rare, between = detector.score_samples([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])
    assert common == 2 / 4
    assert rare == 1 / 4
    assert between == -2 + 2 / 4


@pytest.mark.parametrize("break_ties", [True, False])
@pytest.mark.parametrize(
    ("tau", "accepted"),
    [(0, [1, 0, 0, 0]), (0.9, [1, 0, 0, 0]), (1, [1, 1, 0, 0]), (2.5, [1, 1, 1, 0]), (9, [1] * 4)],
)
def test_tau_is_the_largest_distance_that_is_accepted(tau, accepted, break_ties):
    detector = HammingNAPDetector(tau=tau, false_alarm_rate=0.5, break_ties=break_ties)
    detector.fit(np.array([[1, 1, 1, 1]] * 3))
    labels = detector.predict([[1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(labels == 1, accepted)


def test_values_above_zero_are_ones():
    X = np.array([[0.5, 0.0, -1.0, 2.0]])
    detector = HammingNAPDetector(break_ties=False).fit(X)
    np.testing.assert_array_equal(distances(detector, [[9, -9, 0, 1e-30], [1, 1, 1, 1]]), [0, 2])


def test_the_distance_over_several_layers_is_the_sum_of_theirs():
    rng = np.random.default_rng(0)
    layers = {name: rng.normal(size=(30, width)) for name, width in [("a", 70), ("b", 3)]}
    A = Activations(layers)
    mixed = A.replace({"a": PackedBits.pack(layers["a"] > 0), "b": layers["b"]})
    plain = np.hstack(list(layers.values()))
    expected = HammingNAPDetector().fit(plain[:20]).score_samples(plain[20:])
    for X in (A, mixed):
        found = HammingNAPDetector().fit(X[:20]).score_samples(X[20:])
        np.testing.assert_array_equal(found, expected)


def test_out_of_distribution_rows_are_not_learnt_from_but_count_as_rows(X):
    detector = HammingNAPDetector().fit(X, [-1, 0, 1, -1, 0])
    np.testing.assert_array_equal(detector.training_rows_, [1, 2, 4])
    assert detector.n_samples_seen_ == 5
    found, rows = detector.kneighbors(query([[1, 1, 0, 0], [0, 1, 1, 1]], 0, 1), 2)
    np.testing.assert_array_equal(rows, [[1, -1], [2, 4]])
    np.testing.assert_array_equal(found, [[0, 4], [1, 4]])
    detector.partial_fit(X[:2], [-1, 0])
    _, rows = detector.kneighbors(query([[1, 1, 0, 0]], 0), 3)
    np.testing.assert_array_equal(rows, [[1, 6, -1]])


def test_a_later_batch_may_hold_out_of_distribution_rows_alone(X):
    detector = HammingNAPDetector().fit(X, Y)
    offset = detector.offset_
    detector.partial_fit(X[:2], [-1, -1])
    assert detector.offset_ == offset
    assert detector.n_samples_seen_ == 7


def test_a_batch_that_is_refused_changes_nothing(X):
    detector = HammingNAPDetector(group_by="correct").fit(X, Y)
    expected = detector.score_samples(X)
    with pytest.raises(ValueError, match="among the classes"):
        detector.partial_fit(X, [9, 0, 0, 0, 0])
    np.testing.assert_array_equal(detector.score_samples(X), expected)
    assert detector.n_samples_seen_ == 5


@pytest.mark.parametrize("group_by", ["prediction", "label", "correct"])
def test_classes_may_be_strings(X, group_by):
    names = np.array(["cat", "dog", "emu", "fox"])
    named = Activations(dict(X.items()), logits=X.logits, classes=names)
    y = names[Y].astype(object)
    y[1] = -1
    numbers = np.where(y == -1, -1, Y)
    params = {"group_by": group_by}
    detector = HammingNAPDetector(**params).fit(named, y)
    assert set(detector.stores_) == {"cat", "dog"}
    expected = HammingNAPDetector(**params).fit(X, numbers)
    np.testing.assert_array_equal(detector.score_samples(named), expected.score_samples(X))
    np.testing.assert_array_equal(detector.training_scores_, expected.training_scores_)


def test_the_threshold_holds_on_unseen_samples():
    rng = np.random.default_rng(0)
    prototypes = rng.random((4, 200)) < 0.5
    predictions = np.arange(3000) % 4
    flipped = rng.random((3000, 200)) < rng.uniform(0.01, 0.2, (3000, 1))
    X = patterns(prototypes[predictions] ^ flipped, predictions)
    for false_alarm_rate in (0.05, 0.2):
        detector = HammingNAPDetector(false_alarm_rate=false_alarm_rate).fit(X[:600])
        rejected = np.mean(detector.predict(X[600:]) == -1)
        assert 0.7 * false_alarm_rate < rejected < 1.3 * false_alarm_rate
    # Stored samples find themselves: a threshold from their distances would reject far more.
    naive = np.percentile(detector.score_samples(X[:600]), 5)
    assert np.mean(detector.score_samples(X[600:]) < naive) > 0.9


def test_a_single_sample_is_enough():
    detector = HammingNAPDetector().fit([[1.0, 0.0]])
    assert detector.training_scores_.tolist() == [-2.0]
    assert detector.predict([[1.0, 0.0]]).tolist() == [1]


def test_a_fitted_detector_survives_pickle_and_goes_on_learning(X):
    detector = HammingNAPDetector().fit(X[:3])
    twin = pickle.loads(pickle.dumps(detector)).partial_fit(X[3:])
    np.testing.assert_array_equal(
        twin.score_samples(X), HammingNAPDetector().fit(X).score_samples(X)
    )
    assert detector.n_samples_seen_ == 3


def test_fit_forgets_what_was_fitted_before(X):
    detector = HammingNAPDetector().fit(X).fit(X[:2])
    assert set(detector.stores_) == {0}
    assert detector.n_samples_seen_ == 2


def test_the_input_is_left_as_it_was():
    X = np.random.default_rng(0).normal(size=(20, 5))
    kept = X.copy()
    HammingNAPDetector().fit(X).kneighbors(X)
    np.testing.assert_array_equal(X, kept)


# Errors


@pytest.mark.parametrize("params", [{"group_by": "label"}, {"group_by": "correct"}])
def test_what_needs_labels_or_predictions_asks_for_them(X, params):
    name, value = next(iter(params.items()))
    detector = HammingNAPDetector(**params)
    with pytest.raises(ValueError, match=f"{name}='{value}'.*class labels y, got None"):
        detector.fit(X)
    with pytest.raises(ValueError, match=f"{name}='{value}'.*predictions of the network"):
        detector.fit(np.ones((5, 4)), Y)
    with pytest.raises(ValueError, match=r"among the classes.*\[0, 1, 2, 3\].*got \[7\]"):
        detector.fit(X, [0, 0, 1, 1, 7])


def test_nothing_to_store_is_refused(X):
    with pytest.raises(ValueError, match="learns from correctly classified samples"):
        HammingNAPDetector(group_by="correct").fit(X, 1 - X.predictions)


def test_predictions_are_needed_where_they_were_fitted(X):
    detector = HammingNAPDetector().fit(X)
    bare = Activations(dict(X.items()))
    for call in (detector.score_samples, detector.kneighbors, detector.partial_fit):
        with pytest.raises(ValueError, match="fitted on predicted classes"):
            call(bare)


@pytest.mark.parametrize(
    "params",
    [
        {"tau": -1},
        {"tau": "3"},
        {"false_alarm_rate": 0},
        {"false_alarm_rate": 0.6},
        {"group_by": "class"},
        {"break_ties": "yes"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_parameters_out_of_range_are_refused(X, params, method):
    with pytest.raises(ValueError, match=next(iter(params))):
        getattr(HammingNAPDetector(**params), method)(X)


@pytest.mark.parametrize(("n_neighbors", "error"), [(0, ValueError), (1.0, TypeError)])
def test_a_number_of_neighbours_that_is_no_count_is_refused(X, n_neighbors, error):
    with pytest.raises(error, match="n_neighbors"):
        HammingNAPDetector().fit(X).kneighbors(X, n_neighbors)


def test_an_unfitted_detector_says_so(X):
    detector = clone(HammingNAPDetector())
    for call in (detector.score_samples, detector.predict, detector.kneighbors):
        with pytest.raises(NotFittedError):
            call(X)


# Search


@pytest.fixture(params=["faiss", "matrix"])
def search(request, monkeypatch, hold_at_most):
    """The search with faiss, and as it is where faiss cannot be imported."""
    if request.param == "faiss":
        pytest.importorskip("faiss")
    else:
        monkeypatch.setitem(sys.modules, "faiss", None)
        hold_at_most(2**18)
    return hamming_neighbors


def random_words(rng, n_samples, n_words, n_bits):
    """Where few bits of a word differ, distances tie."""
    return rng.integers(0, 2**n_bits, size=(n_samples, n_words), dtype=np.uint64)


@pytest.mark.parametrize("n_neighbors", [1, 2, 9])
@pytest.mark.parametrize(
    ("n_patterns", "n_words", "n_bits"),
    [(9, 1, 1), (9, 1, 63), (60, 2, 2), (500, 3, 4), (70, 8, 60), (70_000, 1, 7)],
)
def test_the_nearest_patterns_are_found_the_earlier_one_first_on_ties(
    search, n_patterns, n_words, n_bits, n_neighbors
):
    rng = np.random.default_rng(0)
    stored = random_words(rng, n_patterns, n_words, n_bits)
    queries = random_words(rng, 11, n_words, n_bits)
    every = np.bitwise_count(queries[:, np.newaxis] ^ stored).sum(axis=2, dtype=np.int64)
    expected = np.argsort(every, axis=1, kind="stable")[:, :n_neighbors]
    found, indices = search(queries, stored, n_neighbors)
    np.testing.assert_array_equal(found, np.take_along_axis(every, expected, axis=1))
    np.testing.assert_array_equal(indices, expected)
    assert np.issubdtype(found.dtype, np.signedinteger)


def test_words_need_not_lie_side_by_side(search):
    words = random_words(np.random.default_rng(0), 20, 3, 64)
    found = search(words[::-2, 1:], np.asfortranarray(words[:, 1:]), 3)
    expected = search(words[::-2, 1:].copy(), words[:, 1:].copy(), 3)
    np.testing.assert_array_equal(found, expected)


def test_without_faiss_a_detector_gives_the_same(monkeypatch):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    X = patterns(rng.random((300, 12)) < 0.3, rng.integers(0, 3, 300))

    def results():
        detector = HammingNAPDetector().fit(X[:200])
        return [detector.training_scores_, detector.score_samples(X), *detector.kneighbors(X, 7)]

    with_faiss = results()
    monkeypatch.setitem(sys.modules, "faiss", None)
    for found, expected in zip(results(), with_faiss, strict=True):
        np.testing.assert_array_equal(found, expected)


# Store


@given(n_rows=st.integers(1, 30), n_bits=st.integers(1, 3), seed=st.integers(0, 99))
def test_a_store_counts_distinct_patterns_the_most_common_first(n_rows, n_bits, seed):
    bits = np.random.default_rng(seed).random((n_rows, n_bits)) < 0.5
    store = PatternStore(PackedBits.pack(bits), np.arange(n_rows))
    stored = store.patterns.unpack()
    assert store.n_rows == n_rows
    assert len(np.unique(stored, axis=0)) == len(stored) == len(store.counts)
    np.testing.assert_array_equal(store.counts, [(bits == row).all(axis=1).sum() for row in stored])
    assert (np.diff(store.counts) <= 0).all()


@pytest.mark.parametrize("n_bits", [3, 70, 200])
def test_a_store_takes_views(n_bits):
    bits = np.random.default_rng(0).random((9, n_bits)) < 0.5
    for rows in (slice(None, None, -2), slice(8, None, 2), slice(3, 4)):
        view = PatternStore(PackedBits.pack(bits)[rows], np.arange(9)[rows])
        plain = PatternStore(PackedBits.pack(bits[rows]), np.arange(9)[rows])
        np.testing.assert_array_equal(view.patterns.words, plain.patterns.words)
        found = [store.kneighbors(PackedBits.pack(bits), 2)[1] for store in (view, plain)]
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("n_bits", [5, 64, 300, 512, 700])
@pytest.mark.parametrize("n_classes", [1, 3, 30])
def test_few_and_many_samples_are_compared_with_their_own_class(n_bits, n_classes):
    rng = np.random.default_rng(n_bits)
    patterns = (rng.random((200, n_bits)) < 0.5)[rng.integers(200, size=400)]
    classes = rng.integers(n_classes, size=400)
    A = Activations({"relu": PackedBits.pack(patterns)}, predictions=classes)
    detector = HammingNAPDetector().fit(A)
    # One class more than was stored.
    queries, asked = rng.random((40, n_bits)) < 0.5, rng.integers(n_classes + 1, size=40)
    expected = []
    for query, label in zip(queries, asked, strict=True):
        own = patterns[classes == label]
        distances = (own != query).sum(axis=1)
        nearest, counts = np.unique(
            own[distances == min(distances, default=0)], axis=0, return_counts=True
        )
        expected.append(max(counts) / (len(own) + 1) - min(distances) if len(nearest) else -n_bits)
    for n in (1, 2, n_classes + 1, n_classes + 2, 40):
        B = Activations({"relu": PackedBits.pack(queries[:n])}, predictions=asked[:n])
        np.testing.assert_allclose(detector.score_samples(B), expected[:n], rtol=1e-12)
