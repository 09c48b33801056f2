"""Groups of nearest patterns against references and brute force, and what is learnt from them."""

from time import process_time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)

from skood import Activations, GroupProgressionDetector
from skood.activations import PackedBits
from skood.model_selection import OODKFold

# References


@pytest.fixture(scope="module", params=["pre", "relu"])
def reference(golden, request):
    """The stored patterns of a kind, their classes, and what is expected of their groups."""
    groups, network = golden("knn_groups"), golden("neuron_statistics")

    def read(split):
        layers = {}
        for number, width in enumerate(groups["layer_widths"], start=1):
            packed = groups[f"{request.param}_bits{number}_{split}"]
            layers[f"relu{number}"] = PackedBits.pack(np.unpackbits(packed, axis=1, count=width))
        return Activations(layers, logits=network[f"logits_{split}"])

    prefix = f"{request.param}_"
    expected = {
        name.removeprefix(prefix): groups[name] for name in groups if name.startswith(prefix)
    }
    return read("train"), network["y_train"], read("eval"), int(groups["k"]), expected


@pytest.mark.parametrize("group_by", ["prediction", "label"])
def test_progression_lies_where_any_choice_among_ties_would_leave_it(reference, group_by):
    train, y, evaluated, k, expected = reference
    detector = GroupProgressionDetector(n_neighbors=k, group_by=group_by).fit(train, y)
    distance, matching = detector.progression(evaluated)
    match = "match_pred" if group_by == "prediction" else "match_true"
    for found, name in ((distance, "group_distance"), (matching, match)):
        assert (found >= expected[f"{name}_low"] - 1e-9).all()
        assert (found <= expected[f"{name}_high"] + 1e-9).all()
    settled = expected["group_distance_low"] == expected["group_distance_high"]
    np.testing.assert_allclose(
        distance[settled], expected["group_distance_stable"][settled], atol=1e-9
    )


def test_distance_in_the_last_layer_does_not_depend_on_ties(reference):
    train, _, evaluated, k, expected = reference
    distance, _ = GroupProgressionDetector(n_neighbors=k).fit(train).progression(evaluated)
    np.testing.assert_allclose(distance[:, -1], expected["mean_distance"][:, -1], atol=1e-9)


# Brute force


def make_samples(n_samples, seed, widths=(70, 9, 24)):
    """Samples of three classes whose patterns are all different."""
    world, draw = np.random.default_rng(0), np.random.default_rng(seed)
    classes = draw.integers(3, size=n_samples)
    layers = {
        f"relu{number}": world.normal(size=(3, width))[classes]
        + draw.normal(size=(n_samples, width))
        for number, width in enumerate(widths)
    }
    return Activations(layers, predictions=classes)


def make_unlike(n_samples, seed, widths=(70, 9, 24)):
    """Samples of no class, far from all three."""
    draw = np.random.default_rng(seed)
    layers = {
        f"relu{number}": draw.normal(size=(n_samples, width)) for number, width in enumerate(widths)
    }
    return Activations(layers, predictions=draw.integers(3, size=n_samples))


def lowest_and_highest(train, sample, k, left_out=None):
    """Bounds of distance and matching of one sample over all choices among ties."""
    others = np.delete(np.arange(len(train)), [] if left_out is None else [left_out])
    distances = {
        name: ((train[name][others] > 0) != (sample[name] > 0)).sum(axis=1)
        for name in train.layer_names
    }
    same_class = train.predictions[others] == sample.predictions

    def bounds(order_by, values):
        picks = (np.lexsort((sign * values, order_by))[:k] for sign in (1, -1))
        return [values[pick].mean() for pick in picks]

    last = distances[train.layer_names[-1]]
    return (
        np.array([bounds(last, values) for values in distances.values()]),
        np.array([bounds(values, same_class) for values in distances.values()]),
    )


@pytest.mark.parametrize("words_per_batch", [100, 2**22])
def test_groups_agree_with_brute_force(hold_at_most, words_per_batch):
    hold_at_most(words_per_batch)
    train, test = make_samples(60, seed=1), make_samples(12, seed=2)
    progression = GroupProgressionDetector(n_neighbors=7).fit(train).progression(test)
    for row in range(len(test)):
        expected = lowest_and_highest(train, test[[row]], 7)
        for found, bounds in zip(progression, expected, strict=True):
            assert (bounds[:, 0] - 1e-12 <= found[row]).all()
            assert (found[row] <= bounds[:, 1] + 1e-12).all()


def test_training_samples_are_left_out_of_their_own_groups():
    train = make_samples(60, seed=1)
    detector = GroupProgressionDetector(n_neighbors=7).fit(train)
    progression = detector._groups.progression_left_out(train.predictions)
    for row in range(len(train)):
        expected = lowest_and_highest(train, train[[row]], 7, left_out=row)
        for found, bounds in zip(progression, expected, strict=True):
            assert (bounds[:, 0] - 1e-12 <= found[row]).all()
            assert (found[row] <= bounds[:, 1] + 1e-12).all()


def test_a_sample_with_many_equals_still_has_a_whole_group():
    same = Activations({"a": np.ones((40, 3))}, predictions=np.zeros(40, dtype=int))
    detector = GroupProgressionDetector(n_neighbors=5).fit(same)
    left_out = detector._groups.progression_left_out(same.predictions)
    assert (left_out.distance == 0).all()
    assert (left_out.matching == 1).all()


def test_sorted_training_samples_do_not_favour_the_first_class():
    train = Activations({"a": np.ones((200, 3))}, predictions=np.repeat([0, 1], 100))
    sample = Activations({"a": np.ones((1, 3))}, predictions=[0])
    detector = GroupProgressionDetector(n_neighbors=100, features="distance").fit(train)
    assert detector.progression(sample).distance.item() == 0
    varied = make_samples(300, seed=1, widths=(3,))
    order = np.argsort(varied.predictions, kind="stable")
    shares = [
        GroupProgressionDetector(n_neighbors=60).fit(varied[rows]).progression(varied).matching
        for rows in (order, order[::-1])
    ]
    np.testing.assert_array_equal(*shares)


@given(st.integers(2, 40), st.integers(1, 8), st.integers(0, 10**6))
def test_training_order_never_matters(n_samples, width, seed):
    rng = np.random.default_rng(seed)
    layers = {
        "a": rng.integers(2, size=(n_samples, width)),
        "b": rng.integers(2, size=(n_samples, 2)),
    }
    train = Activations(layers, predictions=rng.integers(3, size=n_samples))
    k = int(rng.integers(1, n_samples))
    order = rng.permutation(n_samples)
    first = GroupProgressionDetector(n_neighbors=k).fit(train)
    second = GroupProgressionDetector(n_neighbors=k).fit(train[order])
    for one, other in zip(first.progression(train), second.progression(train), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_class_that_no_training_sample_has_matches_nobody():
    train = make_samples(50, seed=1)
    strange = Activations(dict(train.items()), predictions=np.full(50, 99))
    detector = GroupProgressionDetector(n_neighbors=5).fit(train)
    assert (detector.progression(strange).matching == 0).all()


def test_class_names_may_be_words():
    train = make_samples(50, seed=1)
    words = np.array(["cat", "dog", "yak"])
    named = Activations(dict(train.items()), predictions=words[train.predictions])
    detector = GroupProgressionDetector(n_neighbors=5)
    numbers = clone(detector).fit(train).progression(train)
    np.testing.assert_array_equal(detector.fit(named).progression(named).matching, numbers.matching)


# Without out-of-distribution samples


def test_score_is_the_mean_of_the_standardised_shares():
    train, test = make_samples(80, seed=1), make_samples(20, seed=2)
    detector = GroupProgressionDetector(n_neighbors=9).fit(train)

    def shares(progression):
        return np.hstack([1 - progression.distance / [70, 9, 24], progression.matching])

    learnt = shares(detector._groups.progression_left_out(train.predictions))
    spread = learnt.std(axis=0)
    standardised = (shares(detector.progression(test)) - learnt.mean(axis=0)) / spread
    np.testing.assert_allclose(detector.score_samples(test), standardised.mean(axis=1), rtol=1e-9)


@pytest.mark.parametrize("features", ["both", "distance", "matching"])
def test_unlike_samples_are_found_and_the_false_alarms_are_as_asked_for(features):
    train, test, unlike = make_samples(600, 1), make_samples(400, 2), make_unlike(200, 3)
    detector = GroupProgressionDetector(n_neighbors=50, features=features, false_alarm_rate=0.1)
    detector.fit(train)
    assert np.mean(detector.predict(test) == -1) == pytest.approx(0.1, abs=0.05)
    y = np.repeat([1, -1], [400, 200])
    assert detector.score(Activations.concatenate([test, unlike]), y) > 0.95


def test_an_outlier_detector_learns_from_in_distribution_samples_alone():
    train, unlike = make_samples(200, 1), make_unlike(50, 2)
    both = Activations.concatenate([train, unlike])
    y = np.repeat([0, -1], [200, 50])
    detector = GroupProgressionDetector(n_neighbors=20, estimator=IsolationForest(random_state=0))
    alone = clone(detector).fit(train)
    np.testing.assert_array_equal(
        detector.fit(both, y).score_samples(both), alone.score_samples(both)
    )
    assert detector.score(both, y) > 0.9


def test_plain_arrays_are_judged_by_distance_alone():
    train = np.asarray(make_samples(100, 1))
    both = GroupProgressionDetector(n_neighbors=9).fit(train)
    assert both.layers_ == ["X"]
    assert (both.progression(train).matching == 1).all()
    distance = GroupProgressionDetector(n_neighbors=9, features="distance").fit(train)
    np.testing.assert_allclose(
        2 * both.score_samples(train), distance.score_samples(train), rtol=1e-12
    )


# With out-of-distribution samples


@pytest.fixture(scope="module")
def two_kinds():
    train, unlike = make_samples(300, 1), make_unlike(150, 2)
    return Activations.concatenate([train, unlike]), np.repeat([0, -1], [300, 150])


@pytest.mark.parametrize(
    "estimator",
    [
        None,
        LogisticRegression(),
        pytest.param(RandomForestClassifier(20, random_state=0), id="RandomForest"),
    ],
    ids=repr,
)
def test_a_classifier_learns_to_recognise_the_marked_samples(two_kinds, estimator):
    A, y = two_kinds
    detector = GroupProgressionDetector(
        n_neighbors=20, estimator=estimator, false_alarm_rate=0.1, random_state=0
    ).fit(A, y)
    test, unlike = make_samples(400, 3), make_unlike(200, 4)
    both = Activations.concatenate([test, unlike])
    assert np.isfinite(detector.score_samples(both)).all()
    assert detector.score(both, np.repeat([0, -1], [400, 200])) > 0.97
    assert np.mean(detector.predict(test) == -1) == pytest.approx(0.1, abs=0.05)
    assert len(detector.training_scores_) == len(detector.training_rows_) == 300


def test_marked_samples_are_in_no_group(two_kinds):
    A, y = two_kinds
    supervised = GroupProgressionDetector(n_neighbors=20, estimator=LogisticRegression())
    one_class = GroupProgressionDetector(n_neighbors=20).fit(A[y == 0])
    for found, expected in zip(
        supervised.fit(A, y).progression(A), one_class.progression(A), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_the_default_classifier_is_small_and_always_the_same(two_kinds):
    A, y = two_kinds
    detector = GroupProgressionDetector(n_neighbors=20, random_state=0).fit(A, y)
    assert [layer.shape for layer in detector.estimator_[-1].coefs_] == [(6, 16), (16, 1)]
    again = GroupProgressionDetector(n_neighbors=20, random_state=0).fit(A, y)
    np.testing.assert_array_equal(again.score_samples(A), detector.score_samples(A))


@pytest.mark.filterwarnings("error")
def test_two_thousand_samples_of_six_layers_take_seconds():
    A = Activations.concatenate(
        [
            make(1000, seed, widths=(512,) * 6)
            for seed, make in enumerate((make_samples, make_unlike))
        ]
    )
    start = process_time()
    GroupProgressionDetector(random_state=0).fit(A, np.repeat([0, -1], 1000))
    # A perceptron as wide as the layers takes a minute. Other programs may slow this one down.
    assert process_time() - start < 8


@pytest.mark.parametrize("estimator", [None, RandomForestClassifier(5, random_state=0)])
def test_processes_and_progress_do_not_show_in_the_scores(two_kinds, estimator, capsys):
    A, y = two_kinds
    detector = GroupProgressionDetector(n_neighbors=20, estimator=estimator, random_state=0)
    expected = clone(detector).fit(A, y)
    assert not capsys.readouterr().err
    detector.set_params(n_jobs=2, verbose=1).fit(A, y)
    np.testing.assert_array_equal(detector.training_scores_, expected.training_scores_)
    np.testing.assert_array_equal(detector.score_samples(A), expected.score_samples(A))
    progress = capsys.readouterr().err
    assert "450/450" in progress
    assert "6/6" in progress


def test_the_threshold_comes_from_classifiers_that_have_not_seen_the_sample(two_kinds):
    A, y = two_kinds
    forest = RandomForestClassifier(30, random_state=0)
    detector = GroupProgressionDetector(n_neighbors=20, estimator=forest).fit(A, y)
    inside = detector._features(detector._groups.progression_left_out(A.predictions[y == 0]))
    samples = np.vstack([inside, detector._features(detector.progression(A[y == -1]))])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    probabilities = cross_val_predict(
        forest, samples, y == -1, cv=folds, method="predict_proba"
    ).clip(np.finfo(float).tiny)
    expected = np.log(probabilities[:, 0]) - np.log(probabilities[:, 1])
    np.testing.assert_allclose(detector.training_scores_, expected[:300])


def test_each_source_of_marked_samples_is_left_out_in_turn():
    train = make_samples(300, 1)
    sources = [make_unlike(60, 2), make_unlike(60, 3)]
    A = Activations.concatenate([train, *sources])
    y = np.r_[train.predictions, np.full(120, -1)]
    groups = np.repeat(["in", "first", "second"], [300, 60, 60])
    for fitted, tested in OODKFold(2, ood_in_train=True).split(A, y, groups):
        assert set(groups[fitted][y[fitted] == -1]).isdisjoint(groups[tested][y[tested] == -1])
    detector = GroupProgressionDetector(n_neighbors=20, estimator=LogisticRegression())
    folds = OODKFold(2, shuffle=True, random_state=0, ood_in_train=True)
    scores = cross_val_score(detector, A, y, cv=folds, groups=groups)
    assert (scores > 0.95).all()


def test_classifier_and_group_size_can_be_searched(two_kinds):
    A, y = two_kinds
    grid = {"n_neighbors": [5, 50], "estimator__C": [0.01, 1], "features": ["distance", "both"]}
    search = GridSearchCV(
        GroupProgressionDetector(estimator=LogisticRegression()),
        grid,
        cv=OODKFold(2, ood_in_train=True),
        error_score="raise",
    ).fit(A, y)
    assert len(set(search.cv_results_["mean_test_score"])) > 1


# Bad input


def test_what_is_missing_is_named(two_kinds):
    A, y = two_kinds
    layers = Activations(dict(A.items()))
    with pytest.raises(ValueError, match="features='matching' needs predictions"):
        GroupProgressionDetector(n_neighbors=5, features="matching").fit(layers)
    with pytest.raises(ValueError, match="group_by='label' needs the class labels y"):
        GroupProgressionDetector(n_neighbors=5, group_by="label").fit(A)
    with pytest.raises(ValueError, match=r"at least 2 out-of-distribution .* got 0"):
        GroupProgressionDetector(n_neighbors=5, estimator=LogisticRegression()).fit(A)
    with pytest.raises(ValueError, match=r"at least 2 out-of-distribution .* got 1"):
        GroupProgressionDetector(n_neighbors=5).fit(A[:301], y[:301])
    with pytest.raises(ValueError, match="a classifier or an outlier detector, got Ridge"):
        GroupProgressionDetector(n_neighbors=5, estimator=Ridge()).fit(A, y)
    with pytest.raises(ValueError, match="n_samples = 1"):
        GroupProgressionDetector(n_neighbors=5).fit(A[:1])
    with pytest.raises(ValueError, match="carries no predictions"):
        GroupProgressionDetector(n_neighbors=5).fit(A[:300]).progression(layers)
    with pytest.raises(NotFittedError):
        GroupProgressionDetector().progression(A)


def test_too_few_samples_for_a_group_are_warned_of():
    with pytest.warns(UserWarning, match="n_neighbors=300, but a sample has only 19 others"):
        detector = GroupProgressionDetector().fit(make_samples(20, seed=1))
    assert detector.n_neighbors_ == 19
