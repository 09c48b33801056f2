"""The detectors that read the logits alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from scipy.special import expit, softmax
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skood import Activations
from skood.detectors import EnergyDetector, MaxSoftmaxDetector

DETECTORS = [MaxSoftmaxDetector(), EnergyDetector(), EnergyDetector(2.0)]


@pytest.fixture(params=DETECTORS, ids=str)
def detector(request):
    return clone(request.param)


def scores(detector, logits):
    return detector.fit(logits).score_samples(logits)


@pytest.fixture
def A():
    rng = np.random.default_rng(0)
    return Activations({"fc": rng.normal(size=(40, 3))}, logits=4 * rng.normal(size=(40, 5)))


# References


@pytest.fixture(params=["logit_scores", "edge_cases"])
def reference(request, golden):
    """Logits, and the scores that are published for them, large for OOD."""
    expected = golden(request.param)
    if request.param == "logit_scores":
        return golden("inputs")["logits_eval"], expected
    names = {name.removeprefix("logits_"): name for name in expected}
    return expected["logits"], {short: expected[name] for short, name in names.items()}


def test_log_odds_are_those_of_the_largest_probability(reference):
    logits, expected = reference
    probabilities = expit(scores(MaxSoftmaxDetector(), logits))
    np.testing.assert_allclose(probabilities, -expected["msp"], rtol=1e-8, atol=1e-10)


def test_log_odds_rank_as_the_largest_probability_does(reference):
    logits, expected = reference
    # Closer to 1, float64 cannot hold the probability itself.
    told_apart = -expected["msp"] < 1 - 1e-9
    assert told_apart.sum() > 10
    found = scores(MaxSoftmaxDetector(), logits)[told_apart]
    probabilities = -expected["msp"][told_apart]
    np.testing.assert_array_equal(rankdata(found.round(9)), rankdata(probabilities.round(14)))


def test_the_energy_is_that_of_the_reference(reference):
    logits, expected = reference
    found = scores(EnergyDetector(), logits)
    np.testing.assert_allclose(found, -expected["energy"], rtol=1e-8, atol=1e-10)


def test_the_energy_at_another_temperature_is_that_of_the_reference(golden):
    logits, expected = golden("inputs")["logits_eval"], golden("logit_scores")["energy_T2"]
    found = scores(EnergyDetector(temperature=2), logits)
    np.testing.assert_allclose(found, -expected, rtol=1e-8, atol=1e-10)


def test_samples_that_saturate_a_float32_softmax_are_told_apart(golden):
    logits, expected = golden("inputs")["logits_eval"], golden("logit_scores")
    saturated = expected["msp_f32"] == -1
    assert saturated.sum() > 1
    found = scores(MaxSoftmaxDetector(), logits)[saturated]
    assert len(np.unique(found)) == len(np.unique(logits[saturated], axis=0))


# Definitions


logits_within = {
    bound: st.tuples(st.integers(1, 5), st.integers(2, 6)).flatmap(
        lambda shape, bound=bound: np_arrays(np.float64, shape, elements=st.floats(-bound, bound))
    )
    for bound in (10, 1e100)
}


@given(logits=logits_within[10])
def test_log_odds_are_their_definition(logits):
    probability = softmax(logits, axis=1)
    largest = probability.max(axis=1)
    others = np.sort(probability, axis=1)[:, :-1].sum(axis=1)
    expected = np.log(largest / others)
    np.testing.assert_allclose(scores(MaxSoftmaxDetector(), logits), expected, atol=1e-9)


@given(logits=logits_within[10], temperature=st.sampled_from([0.1, 1.0, 5.0, 1000.0]))
def test_the_energy_is_its_definition(logits, temperature):
    expected = temperature * np.log(np.exp(logits / temperature).sum(axis=1))
    found = scores(EnergyDetector(temperature), logits)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@given(logits=logits_within[1e100])
def test_scores_of_extreme_logits_are_finite(logits):
    for detector in DETECTORS:
        assert np.isfinite(scores(clone(detector), logits)).all()


def test_logits_far_beyond_saturation_are_ranked_by_their_margin():
    logits = np.array([[0.0, 50.0], [0.0, 5e4], [0.0, 5e8], [-5e8, 5e8]], dtype=np.float32)
    np.testing.assert_array_equal(scores(MaxSoftmaxDetector(), logits), [50, 5e4, 5e8, 1e9])


def test_integers_and_half_precision_are_scored_in_double_precision(detector):
    logits = np.array([[1, 300], [2, 4], [60, 59]])
    expected = scores(detector, logits.astype(np.float64))
    for dtype in (np.int64, np.float16, np.float32):
        np.testing.assert_array_equal(scores(detector, logits.astype(dtype)), expected)


def test_one_logit_is_an_energy_but_no_confidence(A):
    one = Activations({"fc": A["fc"]}, logits=A.logits[:, :1])
    for X in (one, A.logits[:, :1]):
        np.testing.assert_allclose(scores(EnergyDetector(), X), A.logits[:, 0])
        with pytest.raises(ValueError, match=r"1 feature\(s\)"):
            MaxSoftmaxDetector().fit(X)


# As detectors


def test_the_threshold_rejects_the_share_of_training_samples_asked_for(A, detector):
    detector.set_params(contamination=0.25).fit(A)
    assert detector.offset_ == np.percentile(detector.training_scores_, 25)
    assert np.mean(detector.predict(A) == -1) == 0.25


def test_out_of_distribution_rows_do_not_set_the_threshold(A, detector):
    y = np.where(np.arange(40) % 4, 0, -1)
    detector.fit(A, y)
    np.testing.assert_array_equal(detector.training_rows_, np.flatnonzero(y == 0))
    assert detector.n_samples_seen_ == 40
    assert detector.offset_ == detector.fit(A[y == 0]).offset_


def test_the_logits_may_come_as_an_array(A, detector):
    np.testing.assert_array_equal(scores(detector, A), scores(detector, A.logits))


def test_the_score_of_a_detector_is_its_auroc(A, detector):
    y = np.where(np.arange(40) < 15, -1, np.arange(40) % 3)
    found = detector.fit(A, y).score(A, y)
    assert found == pytest.approx(roc_auc_score(y != -1, detector.score_samples(A)))


def test_no_layer_is_read(A, detector):
    class Unreadable(np.ndarray):
        def __getitem__(self, item):
            raise AssertionError("a layer was read")

    broken = A.replace({"conv": np.full((40, 3, 2, 2), np.nan).view(Unreadable)})
    y = np.where(np.arange(40) % 4, 0, -1)
    expected = detector.fit(A, y).score_samples(A[::-1])
    np.testing.assert_array_equal(detector.fit(broken, y).score_samples(broken[::-1]), expected)
    # Nor do the layers have to be those of fit.
    np.testing.assert_array_equal(detector.score_samples(A[::-1]), expected)


def test_activations_without_logits_are_refused(A, detector):
    bare = Activations({"fc": A["fc"]})
    with pytest.raises(ValueError, match=r"needs logits, but Activations.*carries none"):
        detector.fit(bare)
    with pytest.raises(ValueError, match="needs logits"):
        detector.fit(A).score_samples(bare)


def test_logits_that_are_not_finite_are_refused(A, detector):
    with pytest.raises(ValueError, match="'logits' contains NaN"):
        detector.fit(A.replace(logits=A.logits * np.nan))


def test_another_number_of_classes_than_in_fit_is_refused(A, detector):
    detector.fit(A)
    with pytest.raises(ValueError, match=r"\(4,\).*fitted on.*\(5,\)"):
        detector.score_samples(A.replace(logits=A.logits[:, :4]))


@pytest.mark.parametrize("temperature", [0, -1.0, None])
def test_a_temperature_has_to_be_positive(A, temperature):
    with pytest.raises(ValueError, match="temperature"):
        EnergyDetector(temperature).fit(A)
