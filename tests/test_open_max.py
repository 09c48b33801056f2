"""OpenMax against references and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.spatial.distance import cosine
from scipy.special import softmax
from scipy.stats import spearmanr, weibull_min

from skood import Activations
from skood.detectors import OpenMaxDetector

SHIFT = 10_000

REFERENCES = [
    OpenMaxDetector(group_by="label"),
    OpenMaxDetector(tail_size=25, n_revised=10, cosine_weight=0.5, group_by="label"),
    OpenMaxDetector(cosine_weight=1.0, group_by="label"),
]


@pytest.fixture
def logits():
    """Three classes of 40 samples, well told apart."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(120, 3))
    logits[np.arange(120), np.arange(120) % 3] += 9
    return logits


@pytest.fixture
def y():
    return np.arange(120) % 3


# References


@pytest.fixture(params=[0, 1, 2])
def reference(request, golden):
    """A detector fitted on the data of the reference, and what is expected of it."""
    inputs, expected = golden("inputs"), golden("kl_openmax")
    detector = REFERENCES[request.param].fit(inputs["logits_train"], inputs["y_train"])
    name = f"openmax_{request.param}"
    return detector, inputs["logits_eval"], expected[name], expected[f"{name}_weibull"]


def test_probabilities_are_those_of_the_reference_given_its_weibulls(reference):
    detector, logits, expected, weibulls = reference
    shape, scale, start = weibulls.T
    detector.tails_ = np.column_stack([start, SHIFT * np.log(scale / SHIFT), SHIFT / shape])
    np.testing.assert_allclose(detector.openmax(logits), expected, rtol=1e-6)


def test_tails_start_where_those_of_the_reference_do(reference):
    detector, _, _, weibulls = reference
    np.testing.assert_allclose(detector.tails_[:, 0], weibulls[:, 2], rtol=1e-6)


def test_samples_are_ranked_as_by_the_reference(reference):
    detector, logits, expected, _ = reference
    unknown = detector.openmax(logits)[:, 0]
    assert spearmanr(unknown, expected[:, 0]).statistic > 0.99
    assert spearmanr(detector.score_samples(logits), -expected[:, 0]).statistic > 0.99


# Definitions


def brute_openmax(row, means, weibulls, alpha, cosine_weight):
    """OpenMax probabilities of one sample, given scipy's Weibulls by class."""
    revised, unknown = row.copy(), 0.0
    for rank, column in enumerate(np.argsort(-row, kind="stable")[:alpha]):
        euclidean = np.linalg.norm(row - means[column])
        distance = (1 - cosine_weight) * euclidean + cosine_weight * cosine(row, means[column])
        start, weibull = weibulls[column]
        share = (alpha - rank) / alpha * weibull.cdf(SHIFT + distance - start)
        unknown += share * row[column]
        revised[column] -= share * row[column]
    return softmax(np.append(unknown, revised))


@pytest.mark.parametrize("alpha", [1, 2, 3])
@pytest.mark.parametrize("cosine_weight", [0.0, 0.3, 1.0])
def test_probabilities_are_those_of_a_brute_force(logits, y, alpha, cosine_weight):
    detector = OpenMaxDetector(n_revised=alpha, cosine_weight=cosine_weight).fit(logits, y)
    weibulls = [
        (start, weibull_min(SHIFT / spread, scale=SHIFT * np.exp(location / SHIFT)))
        for start, location, spread in detector.tails_
    ]
    queries = np.vstack([logits[:20], np.random.default_rng(1).normal(scale=5, size=(20, 3))])
    means = [logits[y == label].mean(axis=0) for label in range(3)]
    np.testing.assert_allclose(means_of(detector), means)
    expected = [brute_openmax(row, means, weibulls, alpha, cosine_weight) for row in queries]
    np.testing.assert_allclose(detector.openmax(queries), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("tail_size", [2, 10, 40, 1000])
def test_a_weibull_has_the_largest_likelihood(logits, y, tail_size):
    detector = OpenMaxDetector(tail_size=tail_size).fit(logits, y)
    members = logits[y == 0]
    distances = np.sort(np.linalg.norm(members - members.mean(axis=0), axis=1))
    tail = distances[-tail_size:]
    start, location, spread = detector.tails_[0]
    assert start == pytest.approx(tail[0])

    def loss(params):
        location, spread = params
        weibull = weibull_min(SHIFT / spread, scale=SHIFT * np.exp(location / SHIFT))
        return -weibull.logpdf(SHIFT + tail - start).sum()

    found = loss((location, spread))
    best = minimize(loss, (location, spread), method="Nelder-Mead", options={"xatol": 1e-8})
    assert found <= best.fun + 1e-6
    for step in ([0.01, 0], [-0.01, 0], [0, 0.01 * spread], [0, -0.01 * spread]):
        assert loss(np.add((location, spread), step)) > found


def test_the_score_is_minus_the_log_odds_of_the_unknown_class(logits, y):
    detector = OpenMaxDetector().fit(logits, y)
    unknown = detector.openmax(logits)[:, 0]
    expected = np.log1p(-unknown) - np.log(unknown)
    np.testing.assert_allclose(detector.score_samples(logits), expected, rtol=1e-6)


def test_samples_far_beyond_saturation_are_told_apart(logits, y):
    detector = OpenMaxDetector().fit(logits, y)
    far = np.geomspace(100, 1e6, 20)[:, None] * np.array([[1.0, 0.0, 0.0]])
    assert len(np.unique(detector.openmax(far)[:, 0])) < 20
    assert len(np.unique(detector.score_samples(far))) == 20


# Which samples are learnt from


@pytest.fixture
def partly_wrong(logits, y):
    """Activations of which every fifth sample is labelled otherwise than predicted."""
    names = np.array(["cat", "dog", "eel"])
    labels = names[np.where(np.arange(120) % 5, y, (y + 1) % 3)]
    return Activations({"fc": logits}, logits=logits, classes=names), labels


def means_of(detector):
    (means,) = detector.class_means_.values()
    return means


def class_means(A, groups):
    return [A.logits[groups == name].mean(axis=0) for name in A.classes]


def test_correctly_classified_samples_are_learnt_from(partly_wrong):
    A, labels = partly_wrong
    groups = np.where(labels == A.predictions, labels, "")
    found = OpenMaxDetector().fit(A, labels)
    np.testing.assert_allclose(means_of(found), class_means(A, groups))


def test_all_samples_may_be_learnt_from_by_label(partly_wrong):
    A, labels = partly_wrong
    found = OpenMaxDetector(group_by="label").fit(A, labels)
    np.testing.assert_allclose(means_of(found), class_means(A, labels))


@pytest.mark.parametrize("group_by", ["correct", "prediction"])
def test_without_labels_predictions_count(partly_wrong, group_by):
    A, labels = partly_wrong
    expected = class_means(A, A.predictions)
    for y in (None, np.ones(120), np.ones(120, dtype=bool)):
        found = OpenMaxDetector(group_by=group_by).fit(A, y)
        np.testing.assert_allclose(means_of(found), expected)
    found = OpenMaxDetector(group_by="prediction").fit(A, labels)
    np.testing.assert_allclose(means_of(found), expected)


def test_the_network_s_own_predictions_tell_what_is_correct(logits, y):
    A = Activations({"fc": logits}, logits=logits, predictions=(y + 1) % 3)
    found = OpenMaxDetector().fit(A, (y + 1) % 3)
    expected = [logits[(y + 1) % 3 == label].mean(axis=0) for label in range(3)]
    np.testing.assert_allclose(means_of(found), expected)


def test_labels_that_are_asked_for_have_to_be_there_and_known(partly_wrong):
    A, labels = partly_wrong
    with pytest.raises(ValueError, match=r"group_by='label' needs the class labels y, got None"):
        OpenMaxDetector(group_by="label").fit(A)
    labels[0] = "fox"
    with pytest.raises(ValueError, match=r"among the classes .*got \['fox'\]"):
        OpenMaxDetector().fit(A, labels)


def test_samples_that_are_all_classified_wrongly_are_refused(logits, y):
    with pytest.raises(ValueError, match="none of the 120 predictions equals its label"):
        OpenMaxDetector().fit(logits, (y + 1) % 3)


@pytest.mark.parametrize(
    "params",
    [{"tail_size": 0}, {"n_revised": 0}, {"cosine_weight": 1.5}, {"group_by": "labels"}],
    ids=str,
)
def test_parameters_out_of_range_are_refused(logits, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        OpenMaxDetector(**params).fit(logits)


# Tails that say little


def test_any_sample_is_beyond_a_class_without_training_samples(logits, y):
    detector = OpenMaxDetector(n_revised=1).fit(logits[y < 2], y[y < 2])
    assert np.isnan(detector.tails_[2]).all()
    assert np.isnan(means_of(detector)[2]).all()
    # The whole of the largest logit has moved.
    expected = softmax([[7.0, 1.0, 2.0, 0.0]], axis=1)
    np.testing.assert_allclose(detector.openmax([[1.0, 2.0, 7.0]]), expected)


def test_a_tail_of_equal_distances_takes_the_mean_spread_of_the_others(logits, y):
    # Two samples are equally far from their mean, but for rounding.
    rows = np.flatnonzero(y < 2).tolist() + np.flatnonzero(y == 2)[:2].tolist()
    detector = OpenMaxDetector().fit(logits[rows], y[rows])
    spreads = detector.tails_[:, 2]
    assert spreads[2] == pytest.approx(spreads[:2].mean())


@pytest.mark.parametrize("cosine_weight", [0.0, 0.5, 1.0])
def test_samples_all_alike_have_a_tail(cosine_weight):
    X = np.repeat([[0.3, 0.1, 9.7]], 30, axis=0)
    detector = OpenMaxDetector(cosine_weight=cosine_weight).fit(X)
    np.testing.assert_allclose(detector.tails_[2], [0, 0, 1], atol=1e-9)
    assert np.isfinite(detector.score_samples([[0.0, 0.0, 0.0], [1e4, -1e4, 0.0]])).all()


extreme_logits = st.tuples(st.integers(1, 30), st.integers(2, 5)).flatmap(
    lambda shape: arrays(
        np.float64, shape, elements=st.sampled_from([-1e4, -1.0, 0.0, 1e-9, 1.0, 3.5, 1e4])
    )
)


@given(
    X=extreme_logits,
    tail_size=st.sampled_from([1, 2, 20]),
    cosine_weight=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_scores_are_finite_and_probabilities_sum_to_1(X, tail_size, cosine_weight):
    detector = OpenMaxDetector(tail_size=tail_size, cosine_weight=cosine_weight).fit(X)
    queries = np.vstack([X, 1e4 * X, 0 * X[:1]])
    assert np.isfinite(detector.score_samples(queries)).all()
    probabilities = detector.openmax(queries)
    assert probabilities.shape == (len(queries), 1 + X.shape[1])
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_a_class_that_is_never_right_is_rejected_without_moving_the_threshold(logits, y):
    never = np.where(y == 2, 0, y)
    detector = OpenMaxDetector().fit(logits, never)
    is_known = logits.argmax(axis=1) != 2
    assert (detector.predict(logits[~is_known]) == -1).all()
    assert detector.offset_ == detector.training_scores_[is_known].min()
    assert detector.training_scores_[~is_known].max() == detector.offset_ - 1
