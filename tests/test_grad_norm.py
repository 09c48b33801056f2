"""GradNorm against references, the gradient itself and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.model_selection import GridSearchCV

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import GradNormDetector
from skood.model_selection import OODKFold


@pytest.fixture
def A():
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(40, 6)), 0).astype(np.float32)
    head = LinearHead(rng.normal(size=(5, 6)), rng.normal(size=5), "fc")
    return Activations({"fc": features}, logits=head.logits(features), head=head)


def scores(A, temperature=1.0):
    return GradNormDetector(temperature=temperature).fit(A).score_samples(A)


# References


@pytest.fixture(scope="module")
def reference(golden, penultimate):
    return penultimate("eval"), golden("gradnorm")


def test_scores_are_those_of_the_reference(reference):
    A, expected = reference
    found = scores(A)
    np.testing.assert_allclose(found, expected["closed_form_f64"], rtol=2e-6)
    np.testing.assert_allclose(found, -expected["pytorch_ood"], rtol=1e-4)
    # Their target is 1 for every class instead of one over their number.
    np.testing.assert_allclose(10 * found, expected["openood"], rtol=1e-4)


def test_scores_of_a_rebuilt_network_are_those_of_the_reference(golden):
    network = golden("gradient_mlp")
    head = LinearHead(network["W2"], network["b2"], "hidden")
    A = Activations({"hidden": network["hidden"]}, logits=network["logits"], head=head)
    np.testing.assert_allclose(scores(A), -network["gradnorm_last_weight"], rtol=1e-4)


# Definition


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_the_score_is_the_norm_of_the_gradient(A, temperature):
    torch = pytest.importorskip("torch")
    found = scores(A, temperature)
    for row in (0, 7):
        weight = torch.tensor(A.head.weight, requires_grad=True)
        logits = weight @ torch.tensor(A["fc"][row].astype(float)) + torch.tensor(A.head.bias)
        divergence = -torch.log_softmax(logits / temperature, dim=0).mean()
        divergence.backward()
        assert found[row] == pytest.approx(float(weight.grad.abs().sum()), rel=1e-9)


@given(
    n_units=st.integers(1, 5),
    n_classes=st.integers(2, 5),
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.1, 1.0, 1000.0]),
)
def test_scores_are_those_of_a_brute_force(n_units, n_classes, seed, temperature):
    rng = np.random.default_rng(seed)
    head = LinearHead(rng.normal(size=(n_classes, n_units)), rng.normal(size=n_classes), "fc")
    A = Activations({"fc": 5 * rng.normal(size=(6, n_units))}, head=head)
    expected = [
        np.abs(np.outer(softmax(head.logits(row) / temperature) - 1 / n_classes, row)).sum()
        for row in A["fc"]
    ]
    np.testing.assert_allclose(
        scores(A, temperature), np.divide(expected, temperature), rtol=1e-9, atol=1e-15
    )


def test_uniform_logits_and_silent_features_score_zero(A):
    silent = Activations({"fc": np.zeros((2, 6))}, head=A.head)
    uniform = A.assign(logits=np.full((40, 5), 3.0))
    assert scores(silent).tolist() == [0, 0]
    np.testing.assert_allclose(scores(uniform), np.zeros(40), atol=1e-14)


def test_confident_samples_are_told_apart_by_their_features(A):
    sure = A.assign(logits=1e4 * np.eye(5)[np.arange(40) % 5])
    assert len(np.unique(scores(sure))) == len(np.unique(A["fc"], axis=0))


def test_scores_of_extreme_logits_are_finite(A):
    assert np.isfinite(scores(A.assign(logits=1e100 * A.logits))).all()


def test_an_array_is_taken_as_features_and_logits(A):
    expected = np.abs(A.logits).sum(axis=1) * np.abs(softmax(A.logits, axis=1) - 0.2).sum(axis=1)
    np.testing.assert_allclose(scores(A.logits), expected)


# As a detector


def test_the_score_of_a_sample_does_not_depend_on_the_training_samples(A):
    np.testing.assert_array_equal(
        GradNormDetector().fit(A[:3]).score_samples(A), GradNormDetector().fit(A).score_samples(A)
    )


def test_batches_do_not_show(A, hold_at_most):
    expected = scores(A)
    hold_at_most(20)
    np.testing.assert_allclose(scores(A), expected, rtol=1e-14)


def test_shaped_features_and_logits_are_those_that_count(A):
    clipped = np.minimum(A["fc"], 0.5)
    shaped = A.assign({"fc": clipped}, logits=A.head.logits(clipped))
    expected = scores(Activations({"fc": clipped}, head=A.head))
    np.testing.assert_allclose(scores(shaped), expected, rtol=1e-6)


def test_the_temperature_can_be_searched(A):
    y = np.where(np.arange(40) % 3, 0, -1)
    search = GridSearchCV(
        GradNormDetector(), {"temperature": [0.1, 1, 100]}, cv=OODKFold(3), error_score="raise"
    ).fit(A, y)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    fresh = GradNormDetector(**search.best_params_).fit(A, y)
    refitted = (
        GradNormDetector(temperature=7.0).fit(A[::2]).set_params(**search.best_params_).fit(A, y)
    )
    assert search.best_estimator_.offset_ == refitted.offset_ == fresh.offset_


@pytest.mark.parametrize("temperature", [0, -1.0, None])
def test_a_temperature_has_to_be_positive(A, temperature):
    with pytest.raises(ValueError, match="temperature"):
        GradNormDetector(temperature=temperature).fit(A)


def test_one_class_has_no_gradient(A):
    one = Activations({"fc": A["fc"]}, head=LinearHead(np.ones((1, 6)), input_layer="fc"))
    with pytest.raises(ValueError, match="at least 2 classes, but the head has 1"):
        GradNormDetector().fit(one)
