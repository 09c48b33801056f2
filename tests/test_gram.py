"""Deviations of Gram matrices against references and brute force."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV

from skood import Activations
from skood.activations import PackedBits
from skood.detectors import GramDetector
from skood.model_selection import OODKFold

# References

LAYERS = ("conv4_avg", "conv5_avg", "features")


@pytest.fixture(scope="module")
def network(golden):
    inputs = golden("inputs")

    def read(split, n_rows=None):
        layers = {name: inputs[f"{name}_{split}"][:n_rows] for name in LAYERS}
        return Activations(layers, logits=inputs[f"logits_{split}"][:n_rows])

    return read("train", 450), inputs["y_train"][:450], read("eval"), inputs["group_eval"]


def test_deviations_are_those_of_the_reference(golden, network):
    train, y, evaluated, _ = network
    detector = GramDetector(powers=[1, 2, 3]).fit(train, y)
    found = -detector.layer_scores(evaluated).sum(axis=1)
    expected = golden("gram")
    np.testing.assert_allclose(found, expected["deviation_nosplit_f64"], rtol=1e-9)
    np.testing.assert_allclose(found, expected["deviation_nosplit"], rtol=1e-4)


def test_deviations_over_their_mean_are_those_of_the_reference(golden, network):
    train, y, evaluated, _ = network
    expected = golden("gram")
    held_out = expected["held_out"]
    detector = GramDetector(powers=[1, 2, 3]).fit(train[~held_out], y[~held_out])
    # The reference compares held-out rows with the ranges of their true class.
    layers = {name: layer[held_out] for name, layer in train.items()}
    means = -detector.layer_scores(Activations(layers, predictions=y[held_out])).mean(axis=0)
    np.testing.assert_allclose(means, expected["layer_norm_split"], rtol=1e-4)
    found = -(detector.layer_scores(evaluated) / means).sum(axis=1)
    np.testing.assert_allclose(found, expected["deviation_split_f64"], rtol=1e-6)


def test_letters_and_garments_are_told_from_digits(network):
    train, _, evaluated, group = network
    scores = GramDetector().fit(train).score_samples(evaluated)
    for other in (1, 2):
        rows = (group == 0) | (group == other)
        assert roc_auc_score(group[rows] == 0, scores[rows]) > 0.95


# Brute force


def brute_sums(maps, power):
    """Row sums of the Gram matrix of one sample, root taken last; maps (channels, pixels)."""
    raised = maps**power
    sums = np.array(
        [sum(raised[i] @ raised[j] for j in range(len(maps))) for i in range(len(maps))]
    )
    return np.sign(sums) * np.abs(sums) ** (1 / power)


def brute_deviation(sample, members, powers):
    total = 0.0
    for power in powers:
        value = brute_sums(sample, power)
        values = np.array([brute_sums(member, power) for member in members])
        low, high = values.min(axis=0), values.max(axis=0)
        total += sum(np.maximum(low - value, 0) / (np.abs(low) + 1e-6))
        total += sum(np.maximum(value - high, 0) / (np.abs(high) + 1e-6))
    return total


few_maps = st.tuples(
    st.integers(2, 10), st.integers(1, 3), st.integers(1, 3), st.integers(0, 999)
).map(lambda args: np.random.default_rng(args[3]).integers(-2, 4, size=args[:3]).astype(float))


@given(
    maps=few_maps,
    powers=st.sets(st.integers(1, 5), min_size=1),
    n_classes=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_scores_are_those_of_a_brute_force(maps, powers, n_classes, seed):
    """Also with ties, zeros, negative values, rows alone in their class and wrong predictions."""
    predictions = np.random.default_rng(seed).integers(n_classes, size=len(maps))
    y = predictions.copy()
    y[: len(y) // 3] = (y[: len(y) // 3] + 1) % n_classes
    learnt = y if len(set(y)) > 1 else predictions
    A = Activations({"conv": maps}, predictions=predictions)
    detector = GramDetector(powers=list(powers)).fit(A, y)

    def deviation(row, others):
        members = maps[others[learnt[others] == predictions[row]]]
        return brute_deviation(maps[row], members, powers) if len(members) else np.inf

    rows = np.arange(len(maps))
    left_out = np.array([deviation(row, np.delete(rows, row)) for row in rows])
    mean = left_out[np.isfinite(left_out)].mean() if np.isfinite(left_out).any() else 1
    np.testing.assert_allclose(detector.mean_deviations_, mean or 1, rtol=1e-9)
    known = -left_out[np.isfinite(left_out)] / (mean or 1)
    lowest = min(known, default=0)
    lowest -= max(1, 1e-9 * abs(lowest))
    for found, expected in (
        (detector.training_scores_, left_out),
        (detector.score_samples(A), np.array([deviation(row, rows) for row in rows])),
    ):
        expected = np.where(np.isinf(expected), lowest, -expected / (mean or 1))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(7,), (16,), (5, 3, 4), (40, 2)], ids=str)
def test_a_training_sample_meets_the_bound_that_it_set_however_it_is_scored(shape):
    A = Activations({"a": np.random.default_rng(0).normal(size=(30, *shape))})
    detector = GramDetector().fit(A)
    assert not detector.score_samples(A).any()
    assert not any(detector.score_samples(A[[row]]).any() for row in range(30))
    assert (detector.training_scores_ < 0).any()


# What the numbers mean


def test_layers_count_alike():
    rng = np.random.default_rng(0)
    small, wide = rng.random(size=(200, 3)), rng.random(size=(200, 50))
    both = GramDetector().fit(Activations({"small": small, "wide": 100 * wide}))
    alone = [GramDetector().fit(layer) for layer in (small, wide)]
    np.testing.assert_allclose(
        both.training_scores_, sum(part.training_scores_ for part in alone), rtol=1e-3
    )
    for part in alone:
        assert part.training_scores_.mean() == pytest.approx(-1)


def test_a_layer_that_never_varied_rejects_what_varies():
    X = np.random.default_rng(0).random(size=(50, 2))
    A = Activations({"live": X, "dead": np.zeros((50, 2))})
    detector = GramDetector().fit(A)
    assert detector.mean_deviations_[1] == 1
    fires = Activations({"live": X, "dead": np.full((50, 2), 0.1)})
    assert (detector.predict(fires) == -1).all()
    np.testing.assert_array_equal(detector.predict(A), 1)


def test_correlations_that_single_units_do_not_show_are_found():
    rng = np.random.default_rng(0)
    common = rng.permuted(np.tile(np.arange(16) < 8, (2000, 1, 1)), axis=-1)
    # Channels that are active in the same places, and others that are so as often elsewhere.
    together = np.repeat(common, 4, axis=1) * rng.uniform(1, 2, size=(2000, 4, 16))
    apart = np.stack([rng.permuted(maps, axis=-1) for maps in together])
    detector = GramDetector().fit(together[:1000])
    X, y = np.concatenate([together[1000:], apart]), np.repeat([1, -1], [1000, 2000])
    assert detector.score(X, y) > 0.95
    pooled = X.mean(axis=2)
    means = GramDetector().fit(together[:1000].mean(axis=2))
    assert means.score(pooled, y) < 0.6


def test_false_alarms_are_as_asked_for():
    rng = np.random.default_rng(0)
    X, predictions = rng.random((3000, 20)) ** 2, rng.integers(5, size=3000)
    A = Activations({"fc": X}, predictions=predictions)
    detector = GramDetector(false_alarm_rate=0.1).fit(A[:500])
    assert np.mean(detector.predict(A[500:]) == -1) == pytest.approx(0.1, abs=0.03)
    # The samples themselves lie in ranges that they set.
    assert (detector.predict(A[:500]) == 1).all()


# Classes


@pytest.fixture
def labelled():
    rng = np.random.default_rng(0)
    X, y = rng.random((60, 4)), np.arange(60) % 3
    return X + y[:, np.newaxis], y


def test_classes_are_labels_or_else_predictions(labelled):
    X, y = labelled
    A = Activations({"fc": X}, predictions=y)
    wrong = Activations({"fc": X}, predictions=np.roll(y, 1))
    by_label = GramDetector().fit(wrong, y)
    by_prediction = GramDetector().fit(A)
    np.testing.assert_array_equal(by_label.lower_bounds_["fc"], by_prediction.lower_bounds_["fc"])
    np.testing.assert_array_equal(
        GramDetector().fit(wrong, np.ones(60)).lower_bounds_["fc"],
        GramDetector().fit(wrong).lower_bounds_["fc"],
    )
    assert GramDetector().fit(X).lower_bounds_["X"].shape == (1, 10, 4)
    with pytest.raises(ValueError, match="predictions"):
        by_prediction.score_samples(Activations({"fc": X}))


def test_class_names_may_be_words(labelled):
    X, y = labelled
    names = np.array(["cat", "dog", "emu"])[y]
    detector = GramDetector().fit(Activations({"fc": X}, predictions=names), names)
    assert detector.class_labels_.tolist() == ["cat", "dog", "emu"]
    expected = GramDetector().fit(Activations({"fc": X}, predictions=y))
    np.testing.assert_array_equal(detector.training_scores_, expected.training_scores_)


@pytest.mark.parametrize("false_alarm_rate", [0.01, 0.5])
def test_a_class_without_training_samples_is_rejected(labelled, false_alarm_rate):
    X, y = labelled
    detector = GramDetector(false_alarm_rate=false_alarm_rate)
    detector.fit(Activations({"fc": X}, predictions=y))
    strange = Activations({"fc": X}, predictions=np.full(60, 7))
    assert (detector.predict(strange) == -1).all()
    assert detector.score_samples(strange).max() < detector.training_scores_.min()
    assert np.isneginf(detector.layer_scores(strange)).all()


def test_many_samples_of_classes_that_are_never_right_are_rejected(labelled):
    X, y = labelled
    predictions = np.where(y == 2, 3, y)
    A = Activations({"fc": X}, predictions=predictions, classes=np.arange(4))
    detector = GramDetector().fit(A, y)
    assert (detector.predict(A[y == 2]) == -1).all()
    assert (detector.predict(A[y != 2]) == 1).mean() > 0.9


# Values


def test_the_unit_of_activations_does_not_matter():
    rng = np.random.default_rng(0)
    X = rng.random((40, 6)) + 0.1
    expected = GramDetector().fit(X).training_scores_
    np.testing.assert_allclose(GramDetector().fit(1e50 * X).training_scores_, expected, rtol=1e-3)
    np.testing.assert_allclose(
        GramDetector().fit(X.astype(np.float32)).training_scores_, expected, rtol=1e-3, atol=1e-3
    )


def test_activations_whose_products_overflow_are_refused():
    X = np.random.default_rng(0).random((40, 6))
    with pytest.raises(ValueError, match="whose squares leave the range"):
        GramDetector().fit(1e200 * X)
    with pytest.raises(ValueError, match="whose squares leave the range"):
        GramDetector().fit(X).score_samples(1e200 * X)


def test_bits_are_zeros_and_ones():
    bits = np.random.default_rng(0).random((60, 70)) < 0.5
    expected = GramDetector().fit(Activations({"relu": bits.astype(float)})).training_scores_
    packed = Activations({"relu": PackedBits.pack(bits)})
    np.testing.assert_array_equal(GramDetector().fit(packed).training_scores_, expected)


def test_batches_do_not_show(labelled, hold_at_most):
    X, y = labelled
    A = Activations({"fc": X}, predictions=y)
    expected = GramDetector().fit(A)
    scores = expected.score_samples(A)
    hold_at_most(90)
    detector = GramDetector().fit(A)
    np.testing.assert_array_equal(detector.score_samples(A), scores)
    np.testing.assert_array_equal(detector.training_scores_, expected.training_scores_)


def test_wide_maps_need_little_memory():
    maps = np.random.default_rng(0).random((300, 256, 6, 6), dtype=np.float32)
    tracemalloc.start()
    GramDetector().fit(Activations({"conv": maps})).score_samples(Activations({"conv": maps}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A matrix for each sample and order would take 1.6 GB, the maps in double precision 22 MB; and
    # for later batches the maps are kept, in 11 MB.
    assert peak < 22e6


# Parameters


def test_high_powers_find_large_activations_and_can_be_searched():
    rng = np.random.default_rng(0)
    maps, y = rng.random((120, 3, 30)), np.where(np.arange(120) % 4, 0, -1)
    maps[y < 0, :, 0] = 1.5
    search = GridSearchCV(
        GramDetector(), {"powers": [[1], [10], range(1, 11)]}, cv=OODKFold(3), error_score="raise"
    ).fit(maps, y)
    low, high, both = search.cv_results_["mean_test_score"]
    assert low < 0.7
    assert min(high, both) > 0.9


@pytest.mark.parametrize("powers", [[], [0], [1.5], ["1"], 3, None], ids=str)
def test_powers_out_of_range_are_refused(labelled, powers):
    with pytest.raises(ValueError, match="powers"):
        GramDetector(powers=powers).fit(labelled[0])


def test_the_order_of_powers_does_not_matter(labelled):
    found, expected = (GramDetector(powers=p).fit(labelled[0]) for p in ([3, 1, 1], [1, 3]))
    np.testing.assert_array_equal(found.training_scores_, expected.training_scores_)
