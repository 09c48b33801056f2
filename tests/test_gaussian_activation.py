"""Gaussians of classes against scipy, refits without a sample, and one fit of all batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.exceptions import NotFittedError
from sklearn.utils import gen_batches

from skood import Activations
from skood.detectors import GaussianActivationDetector


@pytest.fixture(scope="module")
def data():
    """Three classes in two layers of different scale, one unit dead, and some mistakes."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    rows = np.maximum(rng.normal(size=(3, 9))[y] + rng.normal(size=(120, 9)), 0)
    rows[:, 2] = 0
    predictions = np.where(rng.random(120) < 0.1, (y + 1) % 3, y)
    return Activations({"a": rows[:, :4], "b": 50 * rows[:, 4:]}, predictions=predictions), y


def learnt(detector):
    return {
        "means": detector.means_,
        "variances": detector.variances_,
        "counts": detector.class_counts_,
        "classes": detector.class_labels_,
        "offset": detector.offset_,
        "training scores": np.sort(detector.training_scores_),
    }


def assert_learnt_alike(detector, expected):
    for name, value in learnt(expected).items():
        np.testing.assert_allclose(learnt(detector)[name], value, rtol=1e-10, err_msg=name)


# Densities


def brute_floor(layer, classes):
    within = [layer[classes == c] - layer[classes == c].mean(axis=0) for c in np.unique(classes)]
    return np.concatenate(within).var(axis=0).mean()


def brute_scores(A, classes, sample, label, floor=0.01):
    """Log density of one sample, summed over the units of all layers."""
    score = 0.0
    for name, layer in A.items():
        rows = layer[classes == label]
        variances = np.maximum(rows.var(axis=0), floor * brute_floor(layer, classes))
        score += norm.logpdf(sample[name][0], rows.mean(axis=0), np.sqrt(variances)).sum()
    return score


@pytest.mark.parametrize("group_by", ["prediction", "label"])
def test_scores_are_log_densities_under_the_predicted_class(data, group_by):
    A, y = data
    classes = A.predictions if group_by == "prediction" else y
    detector = GaussianActivationDetector(group_by=group_by).fit(A, y)
    expected = [brute_scores(A, classes, A[[i]], A.predictions[i]) for i in range(20)]
    np.testing.assert_allclose(detector.score_samples(A[:20]), expected, rtol=1e-10)


def test_floor_is_relative_to_the_layer(data):
    A, _ = data
    detector = GaussianActivationDetector(variance_floor=0.5).fit(A)
    expected = [0.5 * brute_floor(layer, A.predictions) for _, layer in A.items()]
    np.testing.assert_allclose(detector.variances_[:, 2], expected[0])
    np.testing.assert_allclose(detector.variances_[:, :4].min(), expected[0])
    np.testing.assert_allclose(detector.variances_[:, 4:].min(), expected[1])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_a_layer_that_never_varies_has_variance_one(constant):
    detector = GaussianActivationDetector().fit(np.full((7, 3), constant))
    np.testing.assert_array_equal(detector.variances_, np.ones((1, 3)))


def test_a_class_without_gaussian_tells_against_a_sample(data):
    A, _ = data
    some = A[np.flatnonzero(A.predictions != 1)]
    detector = GaussianActivationDetector().fit(some)
    unseen = A[np.flatnonzero(A.predictions == 1)]
    assert np.isfinite(detector.score_samples(unseen)).all()
    assert detector.score_samples(unseen).max() < detector.training_scores_.min()
    np.testing.assert_array_equal(detector.predict(unseen), -1)


def test_labels_that_are_never_predicted_do_no_harm():
    A = Activations({"fc": [[0.0], [1.0], [2.0]]}, predictions=[5, 5, 5])
    detector = GaussianActivationDetector(group_by="label").fit(A, [3, 3, 3])
    assert np.isfinite(detector.score_samples(A)).all()


def test_labels_need_to_be_given(data):
    A, y = data
    with pytest.raises(ValueError, match="group_by='label' needs the class labels y"):
        GaussianActivationDetector(group_by="label").fit(A)
    with pytest.raises(ValueError, match="group_by='label' needs predictions"):
        GaussianActivationDetector(group_by="label").fit(np.asarray(A), y)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 99))
def test_few_samples_and_ties_have_finite_scores(n_samples, n_units, seed):
    rng = np.random.default_rng(seed)
    rows = rng.choice([-1e30, 0, 1e-30, 1, 1e30], size=(n_samples, n_units))
    A = Activations({"fc": rows}, predictions=rng.integers(0, 2, n_samples))
    detector = GaussianActivationDetector().fit(A)
    assert np.isfinite(detector.score_samples(A)).all()
    assert np.isfinite(detector.training_scores_).all()


# The threshold


def test_training_samples_are_scored_by_the_others(data):
    A, y = data
    # The floor, which is that of all samples, is too low to matter.
    params = {"variance_floor": 1e-12, "group_by": "label"}
    varying = A.replace({"b": A["b"]})
    detector = GaussianActivationDetector(**params).fit(varying, y)
    for row in np.flatnonzero(A.predictions == y)[:12]:
        others = np.delete(np.arange(len(y)), row)
        refitted = GaussianActivationDetector(**params).fit(varying[others], y[others])
        expected = refitted.score_samples(varying[[row]])
        np.testing.assert_allclose(detector.training_scores_[[row]], expected, rtol=1e-8)


def test_training_samples_that_count_for_another_class_are_scored_like_new_ones(data):
    A, y = data
    detector = GaussianActivationDetector(group_by="label").fit(A, y)
    mistakes = np.flatnonzero(A.predictions != y)
    assert len(mistakes)
    expected = detector.score_samples(A[mistakes])
    np.testing.assert_allclose(detector.training_scores_[mistakes], expected, rtol=1e-12)


def test_new_samples_are_rejected_as_often_as_asked():
    rng = np.random.default_rng(0)
    detector = GaussianActivationDetector(false_alarm_rate=0.1).fit(rng.normal(size=(60, 40)))
    assert np.mean(detector.predict(rng.normal(size=(2000, 40))) == -1) < 0.2


def test_stored_samples_are_as_many_as_asked_and_set_the_threshold(data):
    A, _ = data
    everything = GaussianActivationDetector().fit(A)
    some = GaussianActivationDetector(n_threshold_samples=30).fit(A)
    assert len(everything.training_scores_) == len(A)
    assert len(some.training_scores_) == 30
    assert np.isin(some.training_scores_, everything.training_scores_).all()
    assert some.offset_ == np.percentile(some.training_scores_, 5)
    np.testing.assert_array_equal(some.score_samples(A), everything.score_samples(A))


# Batches and merges


# The first batch needs a sample to learn from.
some_orders = st.permutations(range(8)).filter(lambda order: order[0] < 6)


@given(some_orders, st.sampled_from(["prediction", "label"]))
def test_any_order_of_batches_gives_one_fit(order, group_by):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, -1], 20)  # some batches hold one class, or no sample to learn from
    A = Activations({"fc": 100 + rng.normal(size=(80, 5))}, predictions=np.abs(y))
    params = {"group_by": group_by, "n_threshold_samples": 25}
    batches = [list(gen_batches(80, 10))[i] for i in order]
    detector = GaussianActivationDetector(**params)
    for batch in batches:
        detector.partial_fit(A[batch], y[batch])
    assert_learnt_alike(detector, GaussianActivationDetector(**params).fit(A, y))
    rows = np.concatenate([np.arange(80)[batch] for batch in batches])
    assert (y[rows][detector.training_rows_] != -1).all()
    assert detector.n_samples_seen_ == 80


def test_which_of_equal_samples_are_stored_does_not_depend_on_their_order():
    A = Activations({"fc": [[0.0], [1.0], [0.0], [5.0]]}, predictions=[0, 0, 1, 1])
    one, other = (
        GaussianActivationDetector(n_threshold_samples=1).fit(A[order])
        for order in ([0, 2, 1, 3], [2, 0, 3, 1])
    )
    assert one.offset_ == other.offset_


@pytest.mark.parametrize("n_threshold_samples", [10, 1000])
def test_merged_detectors_are_one_fit_in_either_order(data, n_threshold_samples):
    A, _ = data

    def fit(rows):
        return GaussianActivationDetector(n_threshold_samples=n_threshold_samples).fit(A[rows])

    first, second, whole = slice(0, 50), slice(50, 120), slice(0, 120)
    for one, two in ((first, second), (second, first)):
        merged = fit(one)
        assert merged.merge(fit(two)) is merged
        assert_learnt_alike(merged, fit(whole))
        np.testing.assert_array_equal(merged.learnt_rows_, np.arange(120))
        assert len(merged.training_rows_) == min(n_threshold_samples, 120)
        assert merged.n_samples_seen_ == 120


def test_merging_leaves_the_other_detector_alone(data):
    A, _ = data
    other, untouched = (GaussianActivationDetector().fit(A[:50]) for _ in range(2))
    GaussianActivationDetector().fit(A[50:]).merge(other).partial_fit(A[:20])
    assert_learnt_alike(other, untouched)


def test_values_far_from_zero_keep_their_variance():
    rows = 1e8 + np.arange(10.0)[:, np.newaxis]
    detector = GaussianActivationDetector(variance_floor=1e-3)
    for batch in gen_batches(10, 3):
        detector.partial_fit(rows[batch])
    np.testing.assert_allclose(detector.variances_, [[8.25]])


def test_a_fit_forgets_what_was_learnt_before(data):
    A, _ = data
    detector = GaussianActivationDetector().fit(A[:50]).fit(A[50:])
    assert_learnt_alike(detector, GaussianActivationDetector().fit(A[50:]))


def test_detectors_that_do_not_fit_together_are_not_merged(data):
    A, _ = data
    detector = GaussianActivationDetector().fit(A)
    without = Activations(dict(A.items()))
    for other, message in (
        (GaussianActivationDetector(variance_floor=1.0).fit(A), "same parameters"),
        (GaussianActivationDetector().fit(A[["a"]]), "same layers"),
        (GaussianActivationDetector().fit(A[["b", "a"]]), "same layers"),
        (GaussianActivationDetector().fit(np.asarray(A)), "same layers"),
        (GaussianActivationDetector().fit(without), "same use of predictions"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.merge(other)
    with pytest.raises(TypeError, match="Only another GaussianActivationDetector"):
        detector.merge(A)
    with pytest.raises(NotFittedError):
        detector.merge(GaussianActivationDetector())


def test_data_frames_with_other_columns_are_not_merged():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [0.0, 1.0], "b": [2.0, 4.0]})
    detector = GaussianActivationDetector().fit(frame)
    with pytest.raises(ValueError, match="same feature names"):
        detector.merge(GaussianActivationDetector().fit(frame[["b", "a"]]))


# Divergence


def test_divergence_is_the_mean_log_ratio_of_densities(data):
    A, _ = data
    detector = GaussianActivationDetector().fit(A)
    group = A[np.flatnonzero(A.predictions == 2)[:15]]
    rows = np.asarray(group)
    floor = np.repeat([0.01 * brute_floor(layer, A.predictions) for _, layer in A.items()], [4, 5])
    mean, sd = rows.mean(axis=0), np.sqrt(np.maximum(rows.var(axis=0), floor))
    drawn = mean + sd * np.random.default_rng(0).normal(size=(200_000, 9))
    log_q = norm.logpdf(drawn, mean, sd)
    log_c = norm.logpdf(drawn, detector.means_[2], np.sqrt(detector.variances_[2]))
    divergence = detector.kl_divergence(group)
    assert list(divergence) == [2]
    np.testing.assert_allclose(divergence[2], (log_q - log_c).sum(axis=1).mean(), rtol=0.02)


def test_divergence_of_the_training_samples_is_zero(data):
    A, y = data
    by_prediction = GaussianActivationDetector().fit(A).kl_divergence(A)
    by_label = GaussianActivationDetector(group_by="label").fit(A, y).kl_divergence(A, groups=y)
    for divergences in (by_prediction, by_label):
        assert list(divergences) == [0, 1, 2]
        np.testing.assert_allclose(list(divergences.values()), 0, atol=1e-10)


def test_divergence_of_an_unknown_class_is_infinite(data):
    A, y = data
    groups = np.where(y == 0, -1, y)
    divergences = GaussianActivationDetector().fit(A).kl_divergence(A, groups=groups)
    assert divergences[-1] == np.inf
    assert np.isfinite([divergences[1], divergences[2]]).all()


def test_wrong_groups_are_refused(data):
    A, y = data
    detector = GaussianActivationDetector().fit(A)
    with pytest.raises(ValueError, match="groups must be 'prediction' or an array, got 'label'"):
        detector.kl_divergence(A, groups="label")
    with pytest.raises(ValueError, match="X has 120 samples, but groups has 119"):
        detector.kl_divergence(A, groups=y[1:])


@pytest.mark.parametrize("dtype", [str, object])
def test_groups_may_be_texts_of_any_dtype(data, dtype):
    A, _ = data
    detector = GaussianActivationDetector().fit(A)
    numbers = A.predictions.astype(str)
    unlike = np.where(numbers == numbers[0], "first", "other").astype(dtype)
    assert set(detector.kl_divergence(A, groups=unlike)) == {"first", "other"}


def test_equal_samples_with_different_labels_may_come_in_any_order():
    rng = np.random.default_rng(0)
    layer = np.repeat(rng.normal(size=(30, 3)), 2, axis=0)
    A = Activations({"fc": layer}, predictions=np.repeat(rng.integers(0, 2, 30), 2))
    y = np.tile([0, 1], 30)
    orders = [np.arange(60), np.arange(60)[::-1], rng.permutation(60)]
    offsets = {
        GaussianActivationDetector(group_by="label", n_threshold_samples=25)
        .fit(A[order], y[order])
        .offset_
        for order in orders
    }
    assert max(offsets) - min(offsets) < 1e-9


def test_classes_of_another_kind_are_not_learnt_more_of():
    layer = np.random.default_rng(0).normal(size=(40, 3))
    texts = Activations({"fc": layer}, predictions=np.repeat(["a", "b"], 20))
    numbers = Activations({"fc": layer}, predictions=np.repeat([0, 1], 20))
    detector = GaussianActivationDetector().fit(texts)
    scores = detector.score_samples(texts)
    with pytest.raises(ValueError, match="Class labels must be of one kind"):
        detector.merge(GaussianActivationDetector().fit(numbers))
    with pytest.raises(ValueError, match="Class labels must be of one kind"):
        detector.partial_fit(numbers)
    np.testing.assert_array_equal(detector.score_samples(texts), scores)
