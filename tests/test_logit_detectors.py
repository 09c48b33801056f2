"""The detectors that read the logits alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from scipy.special import expit, logsumexp, softmax
from scipy.stats import entropy, rankdata
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skood import Activations, config_context
from skood.detectors import (
    EnergyDetector,
    EntropyDetector,
    GENDetector,
    KLMatchingDetector,
    KNNDetector,
    MaxLogitDetector,
    MaxSoftmaxDetector,
    OpenMaxDetector,
)
from skood.detectors._softmax import log_sum_exp, row_maxima

SCORES_ALONE = [
    MaxSoftmaxDetector(),
    MaxSoftmaxDetector(temperature=1000.0),
    MaxLogitDetector(),
    EnergyDetector(),
    EnergyDetector(temperature=2.0),
    EntropyDetector(),
    GENDetector(),
    GENDetector(gamma=0.5, n_largest=2),
]
DETECTORS = [*SCORES_ALONE, KLMatchingDetector(), OpenMaxDetector()]
OF_THE_SOFTMAX = [
    MaxSoftmaxDetector(),
    MaxSoftmaxDetector(temperature=10.0),
    EntropyDetector(),
    GENDetector(),
    KLMatchingDetector(),
]


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


def test_log_odds_at_a_high_temperature_are_those_of_odin(golden):
    logits, expected = golden("inputs")["logits_eval"], golden("logit_scores")["msp_T1000"]
    probabilities = expit(scores(MaxSoftmaxDetector(temperature=1000), logits))
    np.testing.assert_allclose(probabilities, -expected, rtol=1e-8)


def test_the_largest_logit_is_that_of_the_reference(reference):
    logits, expected = reference
    np.testing.assert_array_equal(scores(MaxLogitDetector(), logits), -expected["maxlogit"])


def test_the_entropy_is_that_of_the_reference(reference):
    logits, expected = reference
    found = scores(EntropyDetector(), logits)
    np.testing.assert_allclose(found, -expected["entropy"], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("n_largest", [5, 100])
def test_the_generalised_entropy_is_that_of_the_reference(golden, n_largest):
    logits, expected = golden("inputs")["logits_eval"], golden("logit_scores")
    # Closer to 1, the reference's complement of the probability is rounded.
    is_precise = -expected["msp"] < 1 - 1e-8
    assert is_precise.sum() > 30
    name = {5: "gen_openood_M5", 100: "gen_openood_Mall"}[n_largest]
    found = scores(GENDetector(n_largest=n_largest), logits)
    np.testing.assert_allclose(found[is_precise], expected[name][is_precise], rtol=1e-8)


def test_the_generalised_entropy_is_that_of_the_reference_in_edge_cases(golden):
    expected = golden("edge_cases")
    found = scores(GENDetector(), expected["logits"])
    is_precise = -expected["logits_msp"] < 1 - 1e-8
    assert is_precise.sum() > 10
    np.testing.assert_allclose(found[is_precise], -expected["logits_gen_sum"][is_precise])


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
    for bound in (10, 100, 1e100)
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
    found = scores(EnergyDetector(temperature=temperature), logits)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@given(logits=logits_within[10])
def test_the_entropy_is_its_definition(logits):
    expected = entropy(softmax(logits, axis=1), axis=1)
    np.testing.assert_allclose(scores(EntropyDetector(), logits), -expected, rtol=1e-9)


@given(
    logits=logits_within[10],
    gamma=st.sampled_from([0.1, 0.5, 2.0]),
    n_largest=st.sampled_from([1, 2, 3, 100]),
)
def test_the_generalised_entropy_is_its_definition(logits, gamma, n_largest):
    largest = np.sort(softmax(logits, axis=1), axis=1)[:, ::-1][:, :n_largest]
    expected = -(largest**gamma * (1 - largest) ** gamma).sum(axis=1)
    found = scores(GENDetector(gamma=gamma, n_largest=n_largest), logits)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@given(logits=logits_within[10].map(np.round), shift=st.integers(-100, 100))
def test_what_all_logits_share_changes_no_score_of_the_softmax(logits, shift):
    for detector in OF_THE_SOFTMAX:
        expected = clone(detector).fit(logits).score_samples(logits)
        found = clone(detector).fit(logits + shift).score_samples(logits + shift)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("precision", "rtol"), [("double", 1e-12), ("single", 2e-5)])
@pytest.mark.parametrize("detector", [MaxSoftmaxDetector(), EntropyDetector()], ids=str)
def test_exponentials_beyond_the_range_of_floats_change_no_score(detector, precision, rtol):
    logits = np.array([[0.0, 1.0, -2.0], [1.0, 1.0, 1.0], [-30.0, 9.0, 3.0]], dtype=np.float32)
    shifts = np.array([0.0, -60, 60, -80, 80, -640, 640, -1000, 1000], dtype=np.float32)
    with config_context(precision=precision):
        expected = scores(clone(detector), logits)
        # All of them at once, so that each row is computed as it has to be.
        shifted = (logits + shifts[:, np.newaxis, np.newaxis]).reshape(-1, 3)
        found = scores(clone(detector), shifted).reshape(-1, 3)
    np.testing.assert_allclose(found, np.tile(expected, (len(shifts), 1)), rtol=rtol, atol=rtol)


@given(logits=logits_within[100])
def test_scores_of_any_class_order_are_the_same(logits):
    for detector in SCORES_ALONE:
        found = scores(clone(detector), logits[:, ::-1])
        expected = scores(clone(detector), logits)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("detector", "largest_margin"),
    [(MaxSoftmaxDetector(), 1e9), (EntropyDetector(), 700), (GENDetector(), 7000)],
    ids=str,
)
def test_confident_samples_keep_their_order(detector, largest_margin):
    margins = np.geomspace(10, largest_margin, 100)
    logits = np.column_stack([np.zeros((100, 2)), margins])
    assert (np.diff(scores(clone(detector), logits)) > 0).all()


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


def test_scores_in_batches_are_those_of_all_at_once(A, detector, hold_at_most):
    expected = scores(detector, A)
    hold_at_most(60)
    np.testing.assert_allclose(scores(detector, A), expected, rtol=1e-12)


def test_one_logit_is_an_energy_but_no_confidence(A):
    one = Activations({"fc": A["fc"]}, logits=A.logits[:, :1])
    for X in (one, A.logits[:, :1]):
        np.testing.assert_allclose(scores(EnergyDetector(), X), A.logits[:, 0])
        np.testing.assert_array_equal(scores(MaxLogitDetector(), X), A.logits[:, 0])
        for detector in (MaxSoftmaxDetector(), EntropyDetector(), GENDetector()):
            with pytest.raises(ValueError, match=r"1 feature\(s\)"):
                detector.fit(X)


# As detectors


def test_the_threshold_rejects_the_share_of_training_samples_asked_for(A, detector):
    detector.set_params(false_alarm_rate=0.25).fit(A)
    assert detector.offset_ == np.percentile(detector.training_scores_, 25)
    assert np.mean(detector.predict(A) == -1) == 0.25


def test_out_of_distribution_rows_do_not_set_the_threshold(A, detector):
    y = np.where(np.arange(40) % 4, 0, -1)
    detector.fit(A, y)
    np.testing.assert_array_equal(detector.training_rows_, np.flatnonzero(y == 0))
    assert detector.n_samples_seen_ == 40
    assert detector.offset_ == detector.fit(A[y == 0], y[y == 0]).offset_


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
    with pytest.raises(ValueError, match=r"'logits' contains NaN.*weights that have diverged"):
        detector.fit(A.assign(logits=A.logits * np.nan))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_rows", [1, 40])
def test_new_logits_that_are_not_finite_are_refused(A, detector, value, n_rows):
    broken = A.logits.copy()
    broken[n_rows - 1, broken[n_rows - 1].argmin()] = value
    with pytest.raises(ValueError, match=f"1 of {n_rows} rows, the first of them row {n_rows - 1}"):
        detector.fit(A).score_samples(A.assign(logits=broken)[:n_rows])


def test_a_layer_called_logits_is_a_layer_as_any_other(A, detector):
    clash = A.assign({"logits": np.full((len(A), 7), np.nan)})
    expected = clone(detector).fit(A).score_samples(A)
    np.testing.assert_array_equal(clone(detector).fit(clash).score_samples(clash), expected)
    with pytest.raises(ValueError, match=r"'logits' contains NaN.*Leave these samples out, or"):
        KNNDetector().fit(clash[["logits"]])


def test_another_number_of_classes_than_in_fit_is_refused(A, detector):
    detector.fit(A)
    with pytest.raises(ValueError, match=r"\(4,\).*fitted on.*\(5,\)"):
        detector.score_samples(Activations(dict(A.items()), logits=A.logits[:, :4]))


@pytest.mark.parametrize("temperature", [0, -1.0, None])
@pytest.mark.parametrize("detector_class", [EnergyDetector, MaxSoftmaxDetector])
def test_a_temperature_has_to_be_positive(A, detector_class, temperature):
    with pytest.raises(ValueError, match="temperature"):
        detector_class(temperature=temperature).fit(A)


@pytest.mark.parametrize("params", [{"gamma": 0}, {"gamma": -1.0}, {"n_largest": 0}], ids=str)
def test_parameters_of_the_generalised_entropy_have_to_be_positive(A, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        GENDetector(**params).fit(A)


@pytest.mark.parametrize("n_classes", [2, 10, 1000])
@pytest.mark.parametrize("size", [0.01, 1, 100])
def test_log_sum_exp_is_scipys_but_for_rounding(n_classes, size):
    logits = size * np.random.default_rng(0).normal(size=(200, n_classes))
    expected = logsumexp(logits, axis=1)
    largest = np.maximum(np.abs(logits).max(axis=1), np.abs(expected))
    assert (np.abs(log_sum_exp(logits) - expected) <= 4 * np.spacing(largest)).all()


@pytest.mark.parametrize("shape", [(0, 40), (1, 1), (1, 40), (7, 31), (7, 32), (7, 100)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_maxima_are_the_largest_values_of_rows(shape, dtype):
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    for same in (values, np.asfortranarray(values), values[::-1][::-1]):
        np.testing.assert_array_equal(row_maxima(same), values.max(axis=1))


def test_generalised_entropy_of_many_classes_is_that_of_the_largest_probabilities():
    logits = np.random.default_rng(0).normal(scale=3, size=(600, 700)).astype(np.float32)
    p = np.sort(softmax(logits.astype(float), axis=1), axis=1)[:, -100:]
    scores = GENDetector(n_largest=100).fit(logits).score_samples(logits)
    np.testing.assert_allclose(scores, -((p * (1 - p)) ** 0.1).sum(axis=1), rtol=1e-10)
