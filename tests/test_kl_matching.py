"""KL matching against references and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import entropy

from skood import Activations, config_context
from skood.detectors import KLMatchingDetector


def logits_within(bound):
    return st.tuples(st.integers(1, 8), st.integers(2, 5)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(-bound, bound))
    )


# References


@pytest.mark.parametrize(
    ("split", "name"), [("val", "kl_matching"), ("train", "kl_matching_train")]
)
def test_divergences_are_those_of_the_reference(golden, split, name):
    inputs, expected = golden("inputs"), golden("kl_openmax")
    detector = KLMatchingDetector().fit(inputs[f"logits_{split}"])
    found = detector.score_samples(inputs["logits_eval"])
    np.testing.assert_allclose(found, -expected[name], rtol=1e-8)


def test_class_distributions_are_those_of_the_reference(golden):
    detector = KLMatchingDetector().fit(golden("inputs")["logits_val"])
    expected = golden("kl_openmax")["class_distributions"]
    np.testing.assert_allclose(detector.class_distributions_, expected, rtol=1e-8)


def test_a_class_that_is_never_predicted_is_left_out_as_by_the_reference(golden):
    edge_cases = golden("edge_cases")
    detector = KLMatchingDetector().fit(edge_cases["logits_fit"])
    np.testing.assert_array_equal(detector.class_labels_, [0, 1, 2])
    found = detector.score_samples(edge_cases["logits"])
    np.testing.assert_allclose(found, -edge_cases["logits_kl_pytorch_ood"], rtol=1e-8, atol=1e-10)


# Definitions


@given(logits=logits_within(8))
def test_scores_are_those_of_a_brute_force(logits):
    probabilities = softmax(logits, axis=1)
    predicted = logits.argmax(axis=1)
    typical = [probabilities[predicted == label].mean(axis=0) for label in np.unique(predicted)]
    expected = [min((p * np.log(p / q)).sum() for q in typical) for p in probabilities]
    found = KLMatchingDetector().fit(logits).score_samples(logits)
    np.testing.assert_allclose(found, np.negative(expected), rtol=1e-9, atol=1e-14)


def test_samples_are_grouped_by_the_predictions_of_the_network():
    logits = np.random.default_rng(0).normal(size=(60, 3))
    names = np.array(["cat", "dog", "eel"])
    predictions = np.roll(names[logits.argmax(axis=1)], 1)
    A = Activations({"fc": logits}, logits=logits, predictions=predictions, classes=names)
    detector = KLMatchingDetector().fit(A)
    np.testing.assert_array_equal(detector.class_labels_, names)
    expected = [softmax(logits[predictions == name], axis=1).mean(axis=0) for name in names]
    np.testing.assert_allclose(detector.class_distributions_, expected)


# Precision


@given(logits=logits_within(1e100), query=st.integers(-10_000, 10_000))
def test_scores_of_extreme_logits_are_finite_and_never_positive(logits, query):
    detector = KLMatchingDetector().fit(logits)
    row = np.zeros((1, logits.shape[1]))
    row[0, 0] = query
    for X in (logits, row):
        found = detector.score_samples(X)
        assert np.isfinite(found).all()
        assert (found <= 0).all()


def test_probabilities_too_small_for_a_float_keep_a_sample_far_from_a_class():
    detector = KLMatchingDetector().fit([[0.0, 2000.0], [0.0, 3000.0]])
    found = detector.score_samples([[0.0, 0.0], [100.0, 0.0], [0.0, 2500.0]])
    # The first class has the mean probability exp(-2000) / 2.
    expected = [-0.5 * (2000 + np.log(2)) + np.log(2), -2000 - np.log(2), 0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_small_divergences_are_precise():
    offset = 1e-7
    found = KLMatchingDetector().fit([[0.0, 0.0]]).score_samples([[0.0, offset]])
    # The divergence from the uniform distribution, to second order; the next term is the fourth.
    np.testing.assert_allclose(found, -(offset**2) / 8, rtol=1e-6)


def test_samples_alike_are_in_distribution_and_one_between_classes_is_not():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100, 4))
    logits[np.arange(100), np.arange(100) % 4] += 8
    detector = KLMatchingDetector().fit(logits)
    assert detector.predict([[6.0, 6.0, 0.0, 0.0]]) == -1
    assert detector.predict([[8.0, 0.0, 0.0, 0.0]]) == 1


@pytest.mark.parametrize("precision", ["double", "single"])
def test_many_classes_give_the_scores_of_a_brute_force(precision):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=4, size=(1500, 300)).astype(np.float32)
    p = softmax(logits.astype(float), axis=1)
    predictions = logits.argmax(axis=1)
    means = np.array([p[predictions == label].mean(axis=0) for label in np.unique(predictions)])
    expected = [-min(entropy(row, mean) for mean in means) for row in p[:20]]
    with config_context(precision=precision):
        scores = KLMatchingDetector().fit(logits).score_samples(logits)
    rtol = 1e-9 if precision == "double" else 1e-4
    np.testing.assert_allclose(scores[:20], expected, rtol=rtol)
