"""The similarity with class patterns against references and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV

from skood import Activations
from skood.activations import PackedBits
from skood.detectors import SHEDetector
from skood.model_selection import OODKFold

METRICS = ["inner_product", "cosine", "euclidean"]

# References


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_those_of_the_reference(golden, penultimate, metric):
    train, test, expected = penultimate("train"), penultimate("eval"), golden("she")
    detector = SHEDetector(metric=metric).fit(train, golden("inputs")["y_train"])
    np.testing.assert_allclose(
        detector.class_means_["fc"], expected["patterns"], rtol=1e-4, atol=1e-6
    )
    scores = detector.score_samples(test)
    np.testing.assert_allclose(scores, expected[f"openood_{metric}"], rtol=1e-4)
    if metric == "inner_product":
        np.testing.assert_allclose(scores, -expected["pytorch_ood"], rtol=1e-4)


# Brute force


def brute_similarity(sample, pattern, metric):
    if metric == "euclidean":
        return -np.sqrt(sum((sample - pattern) ** 2))
    product = sum(sample * pattern)
    if metric == "inner_product":
        return product
    norms = np.sqrt(sum(sample**2) * sum(pattern**2))
    return product / norms if norms else 0


few_samples = st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(0, 99)).map(
    lambda args: (
        np.random.default_rng(args[2]).integers(-1, 3, size=args[:2]).astype(float),
        np.random.default_rng(args[2]).integers(0, 3, size=(2, args[0])),
    )
)


@pytest.mark.filterwarnings("ignore:No unit is active")
@given(few_samples, st.sampled_from(METRICS))
def test_scores_are_those_of_a_brute_force(samples, metric):
    """Also with single samples of a class, rows of zeros and classes that are never right."""
    X, (predictions, y) = samples
    y[0], y[1:2] = predictions[0], (predictions[0] + 1) % 3
    A = Activations({"fc": X}, predictions=predictions)
    detector = SHEDetector(metric=metric).fit(A, y)
    is_right = predictions == y if len(set(y)) > 1 else np.ones(len(y), dtype=bool)
    expected = np.full(len(X), np.nan)
    for row, label in enumerate(predictions):
        members = X[is_right & (predictions == label)]
        if len(members):
            expected[row] = brute_similarity(X[row], members.mean(axis=0), metric)
    expected[np.isnan(expected)] = np.nanmin(expected) - 1
    np.testing.assert_allclose(detector.score_samples(A), expected, atol=1e-12)
    np.testing.assert_array_equal(detector.training_scores_, detector.score_samples(A))


@pytest.fixture(scope="module")
def data():
    """Three classes in two layers, and samples with no activations of any class."""
    rng = np.random.default_rng(0)
    label = np.r_[np.arange(90) % 3, np.full(30, -1)]
    centers = np.vstack([rng.uniform(0, 3, size=(3, 10)), np.ones(10)])
    rows = np.maximum(centers[label] + rng.normal(size=(120, 10)), 0)
    predictions = np.where(label < 0, np.arange(120) % 3, label)
    predictions[:9] = (predictions[:9] + 1) % 3
    return Activations({"relu1": rows[:, :4], "relu2": rows[:, 4:]}, predictions=predictions), label


# Classes


def test_only_samples_classified_correctly_make_patterns(data):
    A, y = data
    right = np.flatnonzero(A.predictions == y)
    detector, expected = SHEDetector().fit(A, y), SHEDetector().fit(A[right], y[right])
    for name, means in expected.class_means_.items():
        np.testing.assert_array_equal(detector.class_means_[name], means)
    assert len(detector.training_scores_) == 90


@pytest.mark.parametrize("y", [None, np.ones(90)], ids=["no labels", "in-distribution"])
def test_without_class_labels_all_samples_make_patterns(data, y):
    A, _ = data
    A = A[:90]
    detector = SHEDetector().fit(A, y)
    means = [np.asarray(A)[A.predictions == label].mean(axis=0) for label in range(3)]
    np.testing.assert_allclose(np.hstack(list(detector.class_means_.values())), means)


def test_without_predictions_there_is_one_pattern(data):
    A, y = data
    X = np.asarray(A)
    detector = SHEDetector().fit(X, y)
    np.testing.assert_allclose(detector.class_means_["X"], [X[y >= 0].mean(axis=0)])
    assert detector.class_labels_.tolist() == [0]
    np.testing.assert_allclose(detector.score_samples(X), X @ detector.class_means_["X"][0])


def test_labels_may_be_text(data):
    A, y = data
    names = np.array(["ant", "bee", "cat"])
    named = Activations(dict(A.items()), predictions=names[A.predictions])[y >= 0]
    detector = SHEDetector().fit(named, names[y[y >= 0]])
    assert detector.class_labels_.tolist() == ["ant", "bee", "cat"]
    expected = SHEDetector().fit(A, y).training_scores_
    np.testing.assert_array_equal(detector.score_samples(named), expected)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("unknown", [-5, 1, 9])
def test_a_class_without_a_pattern_tells_against_a_sample(data, metric, unknown):
    A, y = data
    known = (A.predictions != 1) & (y >= 0)
    detector = SHEDetector(metric=metric).fit(A[known], y[known])
    asked = Activations(dict(A.items()), predictions=np.full(len(A), unknown))
    scores = detector.score_samples(asked)
    np.testing.assert_array_equal(scores, detector.training_scores_.min() - 1)
    assert (detector.predict(asked) == -1).all()


# Life of a detector


def test_layers_are_put_side_by_side(data):
    A, y = data
    together = Activations({"both": np.asarray(A)}, predictions=A.predictions)
    np.testing.assert_array_equal(
        SHEDetector().fit(A, y).score_samples(A),
        SHEDetector().fit(together, y).score_samples(together),
    )


def test_bits_are_zeros_and_ones():
    bits = np.random.default_rng(0).random((60, 70)) < 0.5
    packed = Activations({"relu": PackedBits.pack(bits)})
    expected = SHEDetector().fit(bits.astype(float)).score_samples(bits.astype(float))
    np.testing.assert_array_equal(SHEDetector().fit(packed).score_samples(packed), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_batches_do_not_show(data, metric, hold_at_most):
    A, y = data
    expected = SHEDetector(metric=metric).fit(A, y).score_samples(A)
    hold_at_most(70)
    found = SHEDetector(metric=metric).fit(A, y).score_samples(A)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_a_search_changes_scores(data):
    A, y = data
    search = GridSearchCV(
        SHEDetector(), {"metric": METRICS}, cv=OODKFold(3), error_score="raise"
    ).fit(A, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 3


# Errors


def test_predictions_are_asked_for_where_fit_saw_some(data):
    A, y = data
    with pytest.raises(ValueError, match=r"SHEDetector .* X carries no predictions"):
        SHEDetector().fit(A, y).score_samples(Activations(dict(A.items())))


def test_no_sample_classified_correctly_is_refused(data):
    A, y = data
    wrong = Activations(dict(A.items()), predictions=(y + 1) % 3)
    with pytest.raises(ValueError, match="none of the 90 predictions equals its label"):
        SHEDetector().fit(wrong, y)


def test_labels_that_the_network_does_not_know_are_refused():
    A = Activations({"fc": np.ones((3, 2))}, logits=np.eye(3))
    with pytest.raises(ValueError, match=r"labels among the classes .* got \[7\]"):
        SHEDetector().fit(A, [0, 1, 7])


def test_parameters_out_of_range_are_refused(data):
    with pytest.raises(ValueError, match="'metric' parameter"):
        SHEDetector(metric="manhattan").fit(*data)


@pytest.mark.parametrize("metric", ["inner_product", "cosine"])
def test_a_class_without_any_activation_is_told(metric):
    layer = [[0.0, 0.0], [0.0, 0.0], [1.0, 2.0], [2.0, 1.0]]
    A = Activations({"fc": layer}, predictions=[3, 3, 7, 7])
    with pytest.warns(UserWarning, match=r"No unit is active in .* the classes \[3\]"):
        detector = SHEDetector(metric=metric).fit(A)
    other = Activations({"fc": [[9.0, 9.0]]}, predictions=[3])
    assert detector.score_samples(other).tolist() == [0]


def test_the_threshold_is_that_of_the_classes_that_have_a_pattern():
    X = np.array([[4.0, 0.0]] * 4 + [[0.0, 5.0]] * 6)
    A = Activations({"fc": X}, predictions=[0] * 4 + [1] * 6)
    detector = SHEDetector().fit(A, [0] * 9 + [2])
    assert detector.training_scores_.tolist() == [16] * 4 + [15] * 6
    assert detector.offset_ == 16
    assert detector.predict(A).tolist() == [1] * 4 + [-1] * 6


# Batches


def one_class_at_a_time(A, y):
    return [np.flatnonzero(y == label) for label in np.unique(y)[::-1]]


@pytest.mark.parametrize("merge", [False, True], ids=["partial_fit", "merge"])
def test_one_label_in_a_batch_is_a_class_as_soon_as_there_is_another(data, merge):
    A, y = data
    A, y = A[:90], y[:90]
    expected = SHEDetector().fit(A, y)
    batches = one_class_at_a_time(A, y)
    found = SHEDetector()
    for rows in batches:
        if merge and hasattr(found, "offset_"):
            found.merge(SHEDetector().fit(A[rows], y[rows]))
        else:
            found.partial_fit(A[rows], y[rows])
    for name, means in expected.class_means_.items():
        np.testing.assert_allclose(found.class_means_[name], means, rtol=1e-12)
    assert found.offset_ == pytest.approx(expected.offset_, rel=1e-12)


def test_one_label_in_all_batches_is_no_class(data):
    A, _ = data
    A, y = A[:90], np.ones(90, dtype=int)
    expected = SHEDetector().fit(A, y)
    found = SHEDetector().fit(A[:40], y[:40]).partial_fit(A[40:], y[40:])
    for name, means in expected.class_means_.items():
        np.testing.assert_allclose(found.class_means_[name], means, rtol=1e-12)


def test_labels_that_turn_out_to_be_no_classes_of_the_network_are_refused(data):
    A, y = data
    A, y = A[:90], y[:90]
    known = Activations(dict(A.items()), predictions=A.predictions, classes=[0, 1, 2])
    detector = SHEDetector().fit(known[:10], np.full(10, 7))
    before = dict(vars(detector))
    with pytest.raises(ValueError, match=r"labels among the classes .*\[0, 1, 2\].*got \[7\]"):
        detector.partial_fit(known[10:], y[10:])
    assert vars(detector) == before
