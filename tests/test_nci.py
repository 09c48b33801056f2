"""Proximity to the weights of the predicted class, against references and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import NCIDetector
from skood.model_selection import OODKFold


@pytest.fixture
def A():
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(40, 6)), 0).astype(np.float32)
    head = LinearHead(rng.normal(size=(5, 6)), rng.normal(size=5), "fc")
    return Activations({"fc": features}, logits=head.logits(features), head=head)


def of(features, head):
    return Activations({"fc": features}, head=head)


@pytest.mark.parametrize("alpha", [0, 0.001])
def test_scores_are_those_of_the_references(golden, penultimate, alpha):
    train, test, expected = penultimate("train"), penultimate("eval"), golden("nci_fdbd_nnguide")
    found = NCIDetector(alpha=alpha).fit(train).score_samples(test)
    np.testing.assert_allclose(found, expected[f"openood_nci_alpha{alpha}"], rtol=1e-4, atol=1e-5)
    of_peer = -expected[f"pytorch_ood_nci_alpha{alpha}"]
    np.testing.assert_allclose(found, of_peer, rtol=1e-4, atol=1e-5)


@given(
    alpha=st.sampled_from([0, 0.01, 2]),
    n_units=st.integers(1, 5),
    n_classes=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_scores_are_those_of_a_brute_force(alpha, n_units, n_classes, seed):
    rng = np.random.default_rng(seed)
    head = LinearHead(rng.normal(size=(n_classes, n_units)), rng.normal(size=n_classes), "fc")
    train, queries = rng.normal(size=(20, n_units)), 3 * rng.normal(size=(8, n_units))
    detector = NCIDetector(alpha=alpha).fit(of(train, head))
    expected = []
    for row in queries:
        away = row - train.mean(axis=0)
        weights = head.weight[np.argmax(head.weight @ row + head.bias)]
        expected.append(weights @ away / np.linalg.norm(away) + alpha * abs(row).sum())
    np.testing.assert_allclose(detector.score_samples(of(queries, head)), expected, rtol=1e-9)


def test_features_at_the_mean_have_the_size_alone(A):
    features = np.stack([np.full(6, 0.1), np.full(6, 0.1)])
    detector = NCIDetector(alpha=0.5).fit(of(features, A.head))
    np.testing.assert_allclose(detector.score_samples(of(features, A.head)), 0.3)
    zeros = np.zeros((3, 6))
    assert not NCIDetector().fit(of(zeros, A.head)).score_samples(of(zeros, A.head)).any()


def test_the_first_term_asks_for_the_direction_alone(A):
    detector = NCIDetector(alpha=0).fit(A)
    away = A["fc"] - detector.mean_
    farther = A.replace({"fc": detector.mean_ + 7 * away})
    np.testing.assert_allclose(detector.score_samples(farther), detector.score_samples(A))
    larger = of(np.float64(A["fc"]), LinearHead(3 * A.head.weight, 3 * A.head.bias, "fc"))
    found = NCIDetector(alpha=0).fit(larger).score_samples(larger)
    np.testing.assert_allclose(found, 3 * detector.score_samples(A), rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-140, 1e140])
def test_the_unit_of_the_features_does_not_matter_to_the_first_term(A, factor):
    expected = NCIDetector(alpha=0).fit(A).training_scores_
    scaled = A.replace({"fc": factor * np.float64(A["fc"])})
    np.testing.assert_allclose(
        NCIDetector(alpha=0).fit(scaled).training_scores_, expected, rtol=1e-6
    )


def test_the_prediction_is_that_of_the_logits(A):
    detector = NCIDetector().fit(A)
    others = Activations({"fc": A["fc"]}, logits=A.logits, predictions=(A.predictions + 1) % 5)
    np.testing.assert_array_equal(detector.score_samples(others), detector.score_samples(A))
    turned = A.assign(logits=-A.logits)
    assert detector.score_samples(turned).mean() < detector.score_samples(A).mean()


def test_batches_do_not_show(A, hold_at_most):
    expected = NCIDetector().fit(A).score_samples(A)
    hold_at_most(20)
    np.testing.assert_allclose(NCIDetector().fit(A).score_samples(A), expected, rtol=1e-12)


def test_alpha_can_be_searched(A):
    y = np.where(np.arange(40) % 3, 0, -1)
    search = GridSearchCV(
        NCIDetector(), {"alpha": [0, 0.1, 10]}, cv=OODKFold(3), error_score="raise"
    ).fit(A, y)
    assert len(set(search.cv_results_["mean_test_score"])) > 1


def test_a_negative_alpha_is_refused(A):
    with pytest.raises(ValueError, match="alpha"):
        NCIDetector(alpha=-0.1).fit(A)
