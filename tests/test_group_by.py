"""The class under which a training sample counts, in all detectors that learn by class."""

import numpy as np
import pytest
from _estimators import detectors
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from skood import Activations

BY_CLASS = {type(d).__name__: d for d in detectors() if hasattr(d, "group_by")}
WITHOUT_LABELS = {
    "ActivationNormDetector",
    "GramDetector",
    "MahalanobisDetector",
    "OpenMaxDetector",
    "SHEDetector",
}
every_detector = pytest.mark.parametrize("name", BY_CLASS)


@pytest.fixture(scope="module")
def data():
    """Three classes in two layers; every fifth prediction is wrong."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    logits = np.eye(3)[y] * 5 + rng.normal(size=(120, 3)) * 0.1
    wrong = np.arange(0, 120, 5)
    logits[wrong] = logits[wrong][:, [1, 2, 0]]
    layers = {
        layer: np.maximum(rng.normal(size=(3, 8))[y] + 0.3 * rng.normal(size=(120, 8)), 0)
        for layer in ("relu1", "relu2")
    }
    return Activations(layers, logits=logits), y


def fitted(name, A, y, **params):
    detector = clone(BY_CLASS[name]).set_params(**params)
    if name == "GroupProgressionDetector":
        detector.set_params(n_neighbors=5, estimator=None)
    split = -(np.arange(len(A)) % 4 != 0).astype(int)
    return detector.fit(A, y, **({"sample_split": split} if name == "AutoNAPDetector" else {}))


def learnt(name, detector, A):
    """What follows from the samples that count alone, and not from scores of all of them."""
    if name == "GroupProgressionDetector":
        return np.hstack(detector.progression(A))
    if name == "GramDetector":
        return detector.layer_scores(A)
    return detector.score_samples(A)


def test_all_of_them_are_found():
    assert set(BY_CLASS) == WITHOUT_LABELS | {
        "ActivationIntervalDetector",
        "AutoNAPDetector",
        "GaussianActivationDetector",
        "GroupProgressionDetector",
        "HammingNAPDetector",
    }


@pytest.mark.parametrize("name", [n for n in BY_CLASS if n != "AutoNAPDetector"])
def test_with_correct_the_others_count_for_no_class(data, name):
    A, y = data
    right = np.flatnonzero(A.predictions == y)
    assert len(right) == 96
    found = fitted(name, A, y, group_by="correct")
    expected = fitted(name, A[right], y[right], group_by="prediction")
    np.testing.assert_allclose(learnt(name, found, A), learnt(name, expected, A), atol=1e-12)
    # They are scored for the threshold all the same.
    assert len(found.training_scores_) == 120


@every_detector
def test_label_and_prediction_are_told_apart(data, name):
    A, y = data
    by_label, by_prediction = (fitted(name, A, y, group_by=g) for g in ("label", "prediction"))
    assert not np.array_equal(learnt(name, by_label, A), learnt(name, by_prediction, A))
    relabelled = fitted(name, A, A.predictions, group_by="label")
    np.testing.assert_array_equal(learnt(name, relabelled, A), learnt(name, by_prediction, A))


def test_the_auto_configuration_stores_no_misclassified_pattern(data):
    A, y = data
    found = fitted("AutoNAPDetector", A, y, group_by="correct")
    stores = found._members[0].stores
    stored = (np.arange(120) % 4 != 0) & (A.predictions == y)
    assert sum(store.n_rows for store in stores.values()) == stored.sum()
    assert len(found.training_scores_) == 30


@every_detector
@pytest.mark.parametrize("group_by", ["label", "correct"])
def test_without_labels_only_some_defaults_do(data, name, group_by):
    A, _ = data
    is_default = BY_CLASS[name].group_by == group_by
    if name in WITHOUT_LABELS and is_default:
        expected = fitted(name, A, None, group_by="prediction")
        for y in (None, np.ones(120)):
            found = fitted(name, A, y, group_by=group_by)
            np.testing.assert_array_equal(found.score_samples(A), expected.score_samples(A))
        return
    with pytest.raises(ValueError, match=f"group_by='{group_by}' needs the class labels y"):
        fitted(name, A, None, group_by=group_by)


@every_detector
def test_no_correct_prediction_is_refused(data, name):
    A, _ = data
    with pytest.raises(ValueError, match="correctly classified"):
        fitted(name, A, (A.predictions + 1) % 3, group_by="correct")


@every_detector
def test_another_word_is_refused(data, name):
    A, y = data
    with pytest.raises(ValueError, match="group_by"):
        fitted(name, A, y, group_by="labels")


def test_a_classifier_of_groups_scores_samples_that_are_not_stored(data):
    A, y = data
    marked = np.where(np.arange(120) % 6 == 5, -1, y)
    detector = clone(BY_CLASS["GroupProgressionDetector"]).set_params(
        n_neighbors=5, estimator=LinearDiscriminantAnalysis(), group_by="correct"
    )
    detector.fit(A, marked)
    assert len(detector.training_scores_) == 100
    stored = detector.nearest_examples(A, 3).rows
    assert set(stored.ravel()) <= set(np.flatnonzero(marked == A.predictions))
