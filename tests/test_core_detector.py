"""Energy and the direction of the residual, against brute force and values by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from skood import Activations
from skood.activations import LinearHead
from skood.detectors import COREDetector, EnergyDetector


def of(features, head):
    return Activations({"fc": features}, head=head)


def problem(seed, n_units=6, n_classes=3, n_rows=40):
    rng = np.random.default_rng(seed)
    head = LinearHead(rng.normal(size=(n_classes, n_units)), rng.normal(size=n_classes), "fc")
    return rng.normal(size=(n_rows, n_units)), head


def brute_residuals(features, weight):
    """What is left of a row once its least-squares combination of the weights is taken away."""
    coefficients = np.linalg.lstsq(weight.T, features.T)[0]
    return features - (weight.T @ coefficients).T


def cosine(one, other):
    return one @ other / np.sqrt(one @ one * (other @ other))


def standardized(values, reference):
    return (np.array(values) - np.mean(reference)) / np.std(reference)


def brute_scores(train, queries, head):
    """Also the scores of the training rows, each compared with the others of its class."""
    inside, outside = (brute_residuals(rows, head.weight) for rows in (train, queries))
    classes, asked = (head.logits(rows).argmax(axis=1) for rows in (train, queries))
    means = {c: inside[classes == c].mean(axis=0) for c in set(classes)}
    of_train = [cosine(r, means[c]) for r, c in zip(inside, classes, strict=True)]
    of_queries = [
        cosine(r, means[c]) if c in means else -np.inf for r, c in zip(outside, asked, strict=True)
    ]
    left_out = []
    for row, label in enumerate(classes):
        others = np.delete(inside, row, axis=0)[np.delete(classes, row) == label]
        left_out.append(cosine(inside[row], others.mean(axis=0)) if len(others) else -np.inf)
    energies, of_new = (logsumexp(head.logits(rows), axis=1) for rows in (train, queries))
    return (
        standardized(of_new, energies) + standardized(of_queries, of_train),
        standardized(energies, energies) + standardized(left_out, of_train),
    )


@given(n_classes=st.integers(1, 4), extra=st.integers(2, 4), seed=st.integers(0, 1000))
def test_scores_are_those_of_a_brute_force(n_classes, extra, seed):
    features, head = problem(seed, n_classes + extra, n_classes, 30)
    train, queries = features[:20], features[20:]
    detector = COREDetector().fit(of(train, head))
    expected, left_out = brute_scores(train, queries, head)
    lowest = left_out[np.isfinite(left_out)].min() - 1
    for found, scores in (
        (detector.score_samples(of(queries, head)), expected),
        (detector.training_scores_, left_out),
    ):
        np.testing.assert_allclose(
            found, np.where(np.isneginf(scores), lowest, scores), rtol=1e-7, atol=1e-7
        )


def test_a_residual_changes_no_logit():
    features, head = problem(0)
    detector = COREDetector().fit(of(features, head))
    residuals = brute_residuals(features, head.weight)
    np.testing.assert_allclose(head.logits(features + residuals), head.logits(features))
    for label in range(3):
        members = residuals[head.logits(features).argmax(axis=1) == label]
        np.testing.assert_allclose(detector.residual_means_[label], members.mean(axis=0))
        assert detector.class_counts_[label] == len(members)


@pytest.mark.parametrize("n_classes", [6, 9])
def test_without_a_residual_the_energy_decides_alone(n_classes):
    features, head = problem(0, n_classes=n_classes)
    A = Activations({"fc": features}, logits=head.logits(features), head=head)
    detector = COREDetector().fit(A)
    expected = EnergyDetector().fit(A).training_scores_
    is_known = detector.class_counts_[A.predictions] > 1
    np.testing.assert_allclose(
        detector.training_scores_[is_known],
        standardized(expected, expected)[is_known],
        rtol=1e-9,
    )
    assert not detector.residual_means_.any()


def test_repeated_weights_leave_a_residual():
    features, head = problem(0)
    doubled = LinearHead(np.repeat(head.weight, 3, axis=0), np.repeat(head.bias, 3), "fc")
    found, expected = (COREDetector().fit(of(features, h)) for h in (doubled, head))
    # The first of equal logits is the largest.
    np.testing.assert_allclose(found.residual_means_[::3], expected.residual_means_, atol=1e-12)


@pytest.mark.parametrize("factor", [1e-140, 1e140])
def test_the_unit_of_the_features_does_not_matter(factor):
    features, head = problem(0)
    expected = COREDetector().fit(of(features, head))
    unit = LinearHead(head.weight / factor, head.bias, "fc")
    detector = COREDetector().fit(of(factor * features, unit))
    np.testing.assert_allclose(detector.training_scores_, expected.training_scores_, rtol=1e-9)


def test_a_class_that_is_never_predicted_in_training_is_rejected():
    features, head = problem(1, n_rows=200)
    predicted = head.logits(features).argmax(axis=1)
    detector = COREDetector(false_alarm_rate=0.5).fit(of(features[predicted != 2], head))
    new = of(features[predicted == 2], head)
    assert (detector.predict(new) == -1).all()
    assert detector.score_samples(new).max() < detector.training_scores_.min()


def test_samples_that_are_alone_in_their_class_do_not_set_the_threshold():
    head = LinearHead(np.eye(5)[:4], input_layer="fc")
    rng = np.random.default_rng(0)
    alone = np.eye(4, 5)[1:] * 9
    many = np.abs(rng.normal(size=(6, 5))) * [1, 0, 0, 0, 1] + [5, 0, 0, 0, 5]
    detector = COREDetector(false_alarm_rate=0.1).fit(of(np.vstack([alone, many]), head))
    assert detector.offset_ >= detector.training_scores_[3:].min()
    assert (detector.training_scores_[:3] < detector.offset_).all()


def test_few_training_samples_do_not_make_the_threshold_strict():
    features, head = problem(2, n_units=60, n_classes=4, n_rows=2200)
    detector = COREDetector(false_alarm_rate=0.1).fit(of(features[:200], head))
    rejected = detector.predict(of(features[200:], head)) == -1
    assert np.mean(rejected) == pytest.approx(0.1, abs=0.06)


@pytest.mark.parametrize("features", [np.zeros((4, 6)), np.ones((4, 6)), np.eye(6)[:1]])
def test_features_that_do_not_vary_give_finite_scores(features):
    _, head = problem(0)
    detector = COREDetector().fit(of(features, head))
    queries = np.vstack([features, np.zeros((1, 6)), 3 * np.eye(6)])
    assert np.isfinite(detector.score_samples(of(queries, head))).all()


def test_batches_do_not_show(hold_at_most):
    A = of(*problem(0))
    expected = COREDetector().fit(A)
    scores = expected.score_samples(A)
    hold_at_most(20)
    detector = COREDetector().fit(A)
    np.testing.assert_allclose(detector.score_samples(A), scores, rtol=1e-11)
    np.testing.assert_allclose(detector.training_scores_, expected.training_scores_, rtol=1e-11)
