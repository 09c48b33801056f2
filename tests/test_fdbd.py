"""Distances to decision boundaries against references and brute force."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import FDBDDetector
from skood.model_selection import OODKFold


@pytest.fixture
def A():
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(40, 6)), 0).astype(np.float32)
    head = LinearHead(rng.normal(size=(5, 6)), rng.normal(size=5), "fc")
    return Activations({"fc": features}, logits=head.logits(features), head=head)


def of(features, head):
    return Activations({"fc": features}, head=head)


# References


@pytest.mark.parametrize("center", ["mean", "origin"])
def test_scores_are_those_of_the_reference(golden, penultimate, center):
    train, test, expected = penultimate("train"), penultimate("eval"), golden("nci_fdbd_nnguide")
    found = FDBDDetector(center=center).fit(train).score_samples(test)
    # OpenOOD takes the sum over the nine other classes.
    reference = expected["openood_fdbd_mean" if center == "mean" else "openood_fdbd_norm"]
    np.testing.assert_allclose(9 * found, reference, rtol=1e-4, atol=1e-5)
    if center == "mean":
        reference = -expected["pytorch_ood_fdbd_mean"]
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-5)


# Brute force


def brute_score(center, head, mean, row):
    logits = head.logits(row)
    predicted = int(logits.argmax())
    distances = [
        abs(logits[predicted] - logits[k]) / np.linalg.norm(head.weight[predicted] - head.weight[k])
        for k in range(len(logits))
        if k != predicted
    ]
    return np.mean(distances) / np.linalg.norm(row - (mean if center == "mean" else 0))


@pytest.mark.parametrize("center", ["mean", "origin"])
@given(n_units=st.integers(1, 5), n_classes=st.integers(2, 5), seed=st.integers(0, 1000))
def test_scores_are_those_of_a_brute_force(center, n_units, n_classes, seed):
    rng = np.random.default_rng(seed)
    head = LinearHead(rng.normal(size=(n_classes, n_units)), rng.normal(size=n_classes), "fc")
    train, queries = rng.normal(size=(20, n_units)), 3 * rng.normal(size=(8, n_units))
    detector = FDBDDetector(center=center).fit(of(train, head))
    np.testing.assert_allclose(detector.mean_, train.mean(axis=0), atol=1e-12)
    expected = [brute_score(center, head, train.mean(axis=0), row) for row in queries]
    np.testing.assert_allclose(
        detector.score_samples(of(queries, head)), expected, rtol=1e-9, atol=1e-12
    )


# Definition


def test_a_distance_is_how_far_features_move_until_the_prediction_changes(A):
    head = LinearHead(A.head.weight[:2], A.head.bias[:2], "fc")
    detector = FDBDDetector(center="origin").fit(of(A["fc"], head))
    features = A["fc"][:4] + 0.5
    logits = head.logits(features)
    direction = head.weight[1] - head.weight[0]
    sign = np.where(logits.argmax(axis=1) == 0, 1, -1)[:, np.newaxis]
    distances = detector.score_samples(of(features, head)) * np.linalg.norm(features, axis=1)
    moved = features + sign * distances[:, np.newaxis] * direction / np.linalg.norm(direction)
    at_boundary = head.logits(moved)
    np.testing.assert_allclose(at_boundary[:, 0], at_boundary[:, 1])


def test_a_sample_on_a_boundary_scores_zero():
    head = LinearHead(np.eye(2), input_layer="fc")
    detector = FDBDDetector().fit(of([[1.0, 0.0], [0.0, 2.0]], head))
    assert detector.score_samples(of([[3.0, 3.0]], head)).tolist() == [0]


def test_the_prediction_is_that_of_the_logits(A):
    detector = FDBDDetector().fit(A)
    others = Activations({"fc": A["fc"]}, logits=A.logits, predictions=(A.predictions + 1) % 5)
    np.testing.assert_array_equal(detector.score_samples(others), detector.score_samples(A))
    turned = A.assign(logits=-A.logits)
    assert (detector.score_samples(turned) >= 0).all()
    assert not np.array_equal(detector.score_samples(turned), detector.score_samples(A))


def test_classes_with_the_same_weights_have_no_boundary(A):
    weight, bias = A.head.weight, A.head.bias
    doubled = LinearHead(np.vstack([weight, weight]), np.r_[bias, bias - 7], "fc")
    single = FDBDDetector().fit(of(A["fc"], LinearHead(weight, bias, "fc")))
    detector = FDBDDetector().fit(of(A["fc"], doubled))
    assert np.isfinite(detector.training_scores_).all()
    # To another class there are two boundaries, the second one farther away.
    assert (detector.training_scores_ > single.training_scores_).all()


def test_a_head_without_any_boundary_scores_zero(A):
    head = LinearHead(np.ones((3, 6)), np.arange(3.0), "fc")
    assert not FDBDDetector().fit(of(A["fc"], head)).training_scores_.any()


@pytest.mark.parametrize("center", ["mean", "origin"])
@pytest.mark.parametrize("features", [np.zeros((4, 6)), np.ones((4, 6)), np.eye(6), -np.eye(6)])
def test_scores_at_the_center_are_finite(A, center, features):
    detector = FDBDDetector(center=center).fit(of(features, A.head))
    center = np.stack([features.mean(axis=0), np.zeros(6), features[0]])
    assert np.isfinite(detector.score_samples(of(center, A.head))).all()


# As a detector


def test_batches_do_not_show(A, hold_at_most):
    expected = FDBDDetector().fit(A).score_samples(A)
    hold_at_most(20)
    np.testing.assert_allclose(FDBDDetector().fit(A).score_samples(A), expected, rtol=1e-12)


def test_many_classes_need_little_memory():
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(300, 64)), input_layer="fc")
    X = of(rng.normal(size=(4000, 64)), head)
    X = X.assign(logits=head.logits(X["fc"]))
    tracemalloc.start()
    FDBDDetector().fit(X).score_samples(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One number for each sample, class and unit would take 614 MB.
    assert peak < 60e6


def test_a_refit_equals_a_fresh_fit(A):
    refitted = FDBDDetector().fit(A).set_params(center="origin").fit(A[::3])
    fresh = FDBDDetector(center="origin").fit(A[::3])
    np.testing.assert_array_equal(refitted.score_samples(A), fresh.score_samples(A))
    assert refitted.offset_ == fresh.offset_


def test_the_normalisation_can_be_searched(A):
    y = np.where(np.arange(40) % 3, 0, -1)
    search = GridSearchCV(
        FDBDDetector(), {"center": ["mean", "origin"]}, cv=OODKFold(3), error_score="raise"
    ).fit(A, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 2


def test_an_unknown_normalisation_is_refused(A):
    with pytest.raises(ValueError, match="center"):
        FDBDDetector(center="std").fit(A)


def test_one_class_has_no_boundary(A):
    with pytest.raises(ValueError, match="at least 2 classes, but the head has 1"):
        FDBDDetector().fit(of(A["fc"], LinearHead(np.ones((1, 6)), input_layer="fc")))
