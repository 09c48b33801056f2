"""Confidences, calibration errors and temperatures, against references and brute force."""

import pickle
import tracemalloc

import numpy as np
import pytest
import sklearn
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.utils.fixes import parse_version

from skood import Activations
from skood.calibration import (
    TemperatureScaler,
    calibration_bins,
    confidence_categories,
    expected_calibration_error,
    prediction_confidence,
)
from skood.detectors import EnergyDetector, MaxSoftmaxDetector

NORMS = ("l1", "max", "l2")


@st.composite
def outcomes(draw):
    """Whether samples are right, and confidences of which many lie on edges of bins."""
    n_bins = draw(st.integers(1, 12))
    on_edges = st.integers(0, n_bins).map(lambda i: np.linspace(0, 1, n_bins + 1)[i])
    confidence = draw(st.lists(on_edges | st.floats(0, 1), min_size=1, max_size=30))
    correct = draw(st.lists(st.booleans(), min_size=len(confidence), max_size=len(confidence)))
    return np.array(correct), np.array(confidence), n_bins


@st.composite
def labelled_logits(draw, bound=20.0):
    shape = (draw(st.integers(2, 12)), draw(st.integers(2, 5)))
    logits = draw(np_arrays(np.float64, shape, elements=st.floats(-bound, bound)))
    y = draw(np_arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    return logits, y


def overconfident_logits(seed=0, n_samples=300, n_classes=4, temperature=3.0):
    """Logits that are ``temperature`` times too large for the labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n_samples, n_classes))
    draws = rng.random((n_samples, 1)) < softmax(logits, axis=1).cumsum(axis=1)
    return temperature * logits, draws.argmax(axis=1)


# Confidence


def test_confidences_are_those_of_the_reference(golden):
    inputs, expected = golden("inputs"), golden("calibration")
    rows = inputs["group_eval"] == 0
    logits = inputs["logits_eval"][rows]
    # The inputs are every tenth of the rows for which the file has confidences.
    np.testing.assert_allclose(
        prediction_confidence(logits), expected["confidence_before"][9::10], rtol=1e-9
    )


def test_confidence_of_activations_is_that_of_their_logits():
    logits = np.array([[0, 50], [0, 80], [1, 1]], dtype=np.float32)
    A = Activations({"fc": np.full((3, 2), np.nan)}, logits=logits, predictions=[0, 0, 0])
    found = prediction_confidence(A)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, prediction_confidence(logits))
    np.testing.assert_allclose(found, [1, 1, 0.5])


@given(data=labelled_logits(bound=1e100))
def test_confidence_lies_between_chance_and_one(data):
    logits, _ = data
    confidence = prediction_confidence(logits)
    assert np.all(confidence >= 1 / logits.shape[1] * (1 - 1e-12))
    assert np.all(confidence <= 1)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (Activations({"fc": np.ones((2, 3))}), "prediction_confidence needs logits, but Activ"),
        ([[1.0], [2.0]], r"1 feature\(s\)"),
        (np.ones((0, 3)), r"0 sample\(s\)"),
        ([[np.nan, 1.0]], "logits contains NaN"),
        ([1.0, 2.0], "2D array"),
    ],
)
def test_what_is_no_logits_has_no_confidence(X, message):
    with pytest.raises(ValueError, match=message):
        prediction_confidence(X)


# Categories


def test_a_category_holds_its_upper_edge_and_not_its_lower_one():
    edges = np.linspace(0, 1, 11)
    np.testing.assert_array_equal(confidence_categories(edges), [0, *range(10)])
    above = np.nextafter(edges[:-1], 1)
    np.testing.assert_array_equal(confidence_categories(above), range(10))


@given(data=outcomes())
def test_categories_are_those_of_a_brute_force(data):
    _, confidence, n_bins = data
    edges = np.linspace(0, 1, n_bins + 1)
    expected = [next(i for i in range(n_bins) if value <= edges[i + 1]) for value in confidence]
    found = confidence_categories(confidence, n_categories=n_bins)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("confidence", "message"),
    [
        ([0.5, 1.5], r"between 0 and 1, got values from 0\.5 to 1\.5"),
        ([-0.1, 0.5], "between 0 and 1"),
        ([0.5, np.nan], "confidence contains NaN"),
        ([[0.5]], r"1-D, got an array of shape \(1, 1\)"),
        ([], r"0 sample\(s\)"),
    ],
)
def test_what_is_no_confidence_is_refused(confidence, message):
    with pytest.raises(ValueError, match=message):
        confidence_categories(confidence)
    with pytest.raises(ValueError, match=message):
        calibration_bins(np.ones(len(confidence)), confidence)


ROUNDED = {
    "an ulp above": ([np.nextafter(1, 2), 0.5], [1, 0.5]),
    "an ulp below": ([np.nextafter(0, -1), -1e-17, 0.5], [0, 0, 0.5]),
    "single": (np.float32([1.0000001, -1e-8]), [1, 0]),
    "single, read as double": (np.float32([1.0000002, 0.25]).astype(float), [1, 0.25]),
    "half": (np.float16([1.001, 0.5]), [1, 0.5]),
}


@pytest.mark.parametrize(("confidence", "exact"), ROUNDED.values(), ids=ROUNDED)
def test_what_rounding_took_out_of_bounds_counts_as_the_bound(confidence, exact):
    correct = np.arange(len(exact)) % 2 == 0
    np.testing.assert_array_equal(confidence_categories(confidence), confidence_categories(exact))
    found, expected = (calibration_bins(correct, given) for given in (confidence, exact))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for norm in NORMS:
        error = expected_calibration_error(correct, confidence, norm=norm)
        assert error == expected_calibration_error(correct, exact, norm=norm)
    assert 0 <= error <= 1


@pytest.mark.parametrize(
    "confidence", [[1.01, 0.5], [1.00001], [-1e-5], np.float32([1.0001]), np.float16([1.01])]
)
def test_what_is_more_than_rounding_is_refused(confidence):
    with pytest.raises(ValueError, match="between 0 and 1, got values from"):
        confidence_categories(confidence)


@given(
    np_arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(2, 40)),
        elements=st.floats(-80, 80, width=32),
    )
)
def test_confidences_of_a_softmax_in_single_precision_are_taken(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
    confidence = (powers / powers.sum(axis=1, keepdims=True)).sum(axis=1)
    assert (confidence_categories(confidence) == 9).all()
    assert (prediction_confidence(logits) <= 1).all()


def test_there_is_at_least_one_category():
    assert confidence_categories([0.0, 1.0], n_categories=1).tolist() == [0, 0]
    for function, args in (
        (confidence_categories, {"n_categories": 0}),
        (calibration_bins, {"correct": [True], "n_bins": 0}),
        (expected_calibration_error, {"correct": [True], "n_bins": 2.5}),
    ):
        with pytest.raises(ValueError, match=r"n_(bins|categories)"):
            function(confidence=[0.5], **args)


# Calibration error


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n_bins", [10, 15])
def test_errors_are_those_of_other_libraries(golden, n_bins, when):
    expected = golden("calibration")
    correct, confidence = expected["correct"], expected[f"confidence_{when}"]
    found = {
        norm: expected_calibration_error(correct, confidence, n_bins=n_bins, norm=norm)
        for norm in NORMS
    }
    for source in ("ece", "netcal"):
        np.testing.assert_allclose(found["l1"], expected[f"{source}_{n_bins}_{when}"], rtol=1e-9)
    *torchmetrics, its_root_mean_square = expected[f"torchmetrics_{n_bins}_{when}"]
    np.testing.assert_allclose([found["l1"], found["max"]], torchmetrics, rtol=1e-5)
    # There, two confidences that single precision rounds to 1 have a bin of their own.
    np.testing.assert_allclose(found["l2"], its_root_mean_square, rtol=1e-4)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n_bins", [10, 15])
def test_bins_are_those_of_the_reference(golden, n_bins, when):
    expected = golden("calibration")
    bins = calibration_bins(expected["correct"], expected[f"confidence_{when}"], n_bins=n_bins)
    shares = bins.counts / bins.counts.sum()
    np.testing.assert_allclose(shares, expected[f"bin_share_{n_bins}_{when}"], rtol=1e-9)
    gaps = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))
    np.testing.assert_allclose(gaps, expected[f"bin_gap_{n_bins}_{when}"], rtol=1e-9)


def test_confidences_on_edges_count_to_the_bin_below(golden):
    cases = golden("edge_cases")
    correct, confidence = cases["ece_correct"], cases["ece_confidence"]
    found = expected_calibration_error(correct, confidence)
    np.testing.assert_allclose(found, cases["ece_10_upper_closed"], rtol=1e-9)
    bins = calibration_bins(correct, confidence)
    in_fifth = (confidence > 0.4) & (confidence <= 0.5)
    assert bins.counts[4] == in_fifth.sum() == 3
    assert bins.accuracy[4] == correct[in_fifth].mean()


@given(data=outcomes())
def test_errors_are_those_of_a_brute_force(data):
    correct, confidence, n_bins = data
    category = confidence_categories(confidence, n_categories=n_bins)
    bins = calibration_bins(correct, confidence, n_bins=n_bins)
    gaps, weights = [], []
    for number in range(n_bins):
        rows = category == number
        assert bins.counts[number] == rows.sum()
        if not rows.any():
            assert np.isnan([bins.accuracy[number], bins.confidence[number]]).all()
            continue
        assert bins.accuracy[number] == pytest.approx(correct[rows].mean())
        assert bins.confidence[number] == pytest.approx(confidence[rows].mean(), abs=1e-12)
        gaps.append(abs(correct[rows].mean() - confidence[rows].mean()))
        weights.append(rows.mean())
    expected = {
        "l1": np.dot(weights, gaps),
        "max": max(gaps),
        "l2": np.sqrt(np.dot(weights, np.square(gaps))),
    }
    for norm, error in expected.items():
        found = expected_calibration_error(correct, confidence, n_bins=n_bins, norm=norm)
        assert found == pytest.approx(error, abs=1e-12)
        assert isinstance(found, float)


@pytest.mark.parametrize("as_numbers", [int, float, bool])
def test_correct_may_be_booleans_or_ones_and_zeros(as_numbers):
    correct = [as_numbers(value) for value in (True, False, True, True)]
    assert expected_calibration_error(correct, [0.75] * 4) == 0
    assert expected_calibration_error(correct, [0.5] * 4) == 0.25


@pytest.mark.parametrize(
    ("correct", "message"),
    [
        ([True, False], "correct has 2 samples, but confidence has 3"),
        ([0, 1, 2], "True and False, or 1 and 0, got 2"),
        (["yes", "no", "no"], "True and False"),
        ([0.0, np.nan, 1.0], "True and False"),
        ([[True], [True], [False]], r"1-D, got an array of shape \(3, 1\)"),
    ],
)
def test_what_says_not_whether_it_is_correct_is_refused(correct, message):
    for function in (calibration_bins, expected_calibration_error):
        with pytest.raises(ValueError, match=message):
            function(correct, [0.1, 0.5, 0.9])


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm"):
        expected_calibration_error([True], [0.5], norm="l3")


# Temperature


def test_the_temperature_is_the_optimum_of_the_reference(golden):
    inputs, expected = golden("inputs"), golden("calibration")
    scaler = TemperatureScaler().fit(inputs["logits_val"], inputs["y_val"])
    np.testing.assert_allclose(scaler.temperature_, expected["temperature_f64"], rtol=1e-4)
    nll = [scaler.nll_before_, scaler.nll_after_]
    np.testing.assert_allclose(nll, expected["nll_before_after"], rtol=1e-8)

    in_distribution = inputs["group_eval"] == 0
    found = prediction_confidence(scaler.transform(inputs["logits_eval"]))
    # The stored temperature is exact to a few parts in 1e8.
    np.testing.assert_allclose(found, -expected["score_temperature_f64"], rtol=1e-7)
    after = found[in_distribution]
    np.testing.assert_allclose(after, expected["confidence_after"][9::10], rtol=1e-7)


class LogitClassifier(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decision function is the logits that it is given."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X

    def predict(self, X):
        return self.classes_[np.argmax(X, axis=1)]


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.8"),
    reason="scikit-learn scales temperatures from version 1.8 on",
)
@pytest.mark.parametrize("scale", [0.2, 1, 30])
def test_the_temperature_is_that_of_scikit_learn(scale):
    logits, y = overconfident_logits()
    logits = scale * logits
    frozen = FrozenEstimator(LogitClassifier().fit(logits, y))
    peer = CalibratedClassifierCV(frozen, method="temperature").fit(logits, y)
    scaler = TemperatureScaler().fit(logits, y)
    # A quotient of two probabilities gives the temperature that they were computed with.
    log_odds = np.diff(np.log(peer.predict_proba(logits[:1])[:, :2]))
    expected = np.diff(logits[:1, :2]) / log_odds
    # Along its search for the smallest loss, the loss is flat to about half of the digits.
    assert scaler.temperature_ == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(scaler.predict_proba(logits), peer.predict_proba(logits), rtol=1e-5)


@given(data=labelled_logits())
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_no_temperature_has_a_larger_likelihood(data):
    logits, y = data

    def nll(log_temperature):
        log_probabilities = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_probabilities[np.arange(len(y)), y].mean()

    scaler = TemperatureScaler().fit(logits, y)
    assert np.isfinite(scaler.temperature_)
    assert scaler.temperature_ > 0
    assert scaler.nll_before_ == pytest.approx(nll(0), abs=1e-12)
    assert scaler.nll_after_ == pytest.approx(nll(np.log(scaler.temperature_)), abs=1e-9)
    assert scaler.nll_after_ <= scaler.nll_before_ + 1e-12
    assume(scaler.temperature_ != 1)
    peer = minimize_scalar(nll, bounds=(-8, 8), method="bounded")
    assert scaler.nll_after_ <= peer.fun + 1e-9


@given(
    data=labelled_logits(),
    exponent=st.integers(-60, 60),
    offset=st.sampled_from([0.0, -100.0, 1e4]),
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_temperature_goes_with_the_scale_of_the_logits_and_not_their_offset(
    data, exponent, offset
):
    logits, y = np.round(data[0]), data[1]
    expected = TemperatureScaler().fit(logits, y).temperature_
    found = TemperatureScaler().fit((logits + offset) * 2.0**exponent, y).temperature_
    if expected == 1:
        assert found in (1, pytest.approx(2.0**exponent))
    else:
        assert found == pytest.approx(expected * 2.0**exponent, rel=1e-9)


@given(data=labelled_logits(bound=1e100))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_extreme_logits_have_a_finite_temperature(data):
    logits, y = data
    scaler = TemperatureScaler().fit(logits, y)
    assert 0 < scaler.temperature_ < np.inf
    assert np.isfinite(scaler.nll_after_)
    np.testing.assert_allclose(scaler.predict_proba(logits).sum(axis=1), 1)


def test_logits_that_are_too_large_are_made_smaller():
    logits, y = overconfident_logits(n_samples=20_000)
    scaler = TemperatureScaler().fit(logits, y)
    assert scaler.temperature_ == pytest.approx(3, rel=0.05)

    logits, y = overconfident_logits(seed=1, n_samples=20_000)
    correct = logits.argmax(axis=1) == y
    before, after = (
        expected_calibration_error(correct, prediction_confidence(values))
        for values in (logits, scaler.transform(logits))
    )
    assert before > 0.15
    assert after < 0.02


@pytest.mark.parametrize(
    ("logits", "y", "reason"),
    [
        ([[1.0, 0.0], [0.0, 9.0]], [0, 1], "all samples are classified correctly"),
        ([[1.0, 0.0], [2.0, 2.0]], [0, 1], "all samples are classified correctly"),
        ([[1.0, 0.0], [0.0, 9.0]], [1, 0], "no better than chance"),
        ([[1.0, 0.0], [1.0, 0.0]], [0, 1], "no better than chance"),
        ([[3.0, 3.0], [5.0, 5.0]], [0, 1], "no better than chance"),
        ([[0.1, 0.2, 0.3]] * 3, [0, 1, 2], "no better than chance"),
    ],
)
def test_where_no_temperature_is_best_the_logits_stay_as_they_are(logits, y, reason):
    with pytest.warns(ConvergenceWarning, match=reason):
        scaler = TemperatureScaler().fit(logits, y)
    assert scaler.temperature_ == 1
    assert scaler.nll_before_ == scaler.nll_after_
    np.testing.assert_array_equal(scaler.transform(logits), logits)


def test_one_wrong_sample_is_enough_for_a_temperature():
    logits = np.array([[9.0, 0.0]] * 99 + [[9.0, 0.0]])
    scaler = TemperatureScaler().fit(logits, [0] * 99 + [1])
    # The one confidence that fits: 99 of 100.
    assert scaler.temperature_ == pytest.approx(9 / np.log(99))
    np.testing.assert_allclose(scaler.predict_proba(logits[:1]), [[0.99, 0.01]])


# Temperature: what goes in and comes out


@pytest.fixture
def data():
    logits, y = overconfident_logits()
    return Activations({"fc": logits[:, :2]}, logits=logits.astype(np.float32)), y


def test_transform_changes_the_logits_alone(data):
    A, y = data
    scaler = TemperatureScaler().fit(A, y)
    scaled = scaler.transform(A)
    np.testing.assert_array_equal(scaled.logits, A.logits.astype(float) / scaler.temperature_)
    np.testing.assert_array_equal(scaled["fc"], A["fc"])
    np.testing.assert_array_equal(scaled.predictions, A.predictions)


def test_predictions_of_another_source_are_kept(data):
    A, y = data
    others = Activations(dict(A.items()), logits=A.logits, predictions=y[::-1])
    scaled = TemperatureScaler().fit(others, y).transform(others)
    np.testing.assert_array_equal(scaled.predictions, y[::-1])


def test_logits_may_come_as_an_array(data):
    A, y = data
    by_array, by_activations = TemperatureScaler().fit(A.logits, y), TemperatureScaler().fit(A, y)
    assert by_array.temperature_ == by_activations.temperature_
    scaled = by_array.transform(A.logits)
    assert isinstance(scaled, np.ndarray)
    np.testing.assert_array_equal(scaled, by_activations.transform(A).logits)


def test_probabilities_are_the_softmax_of_the_scaled_logits(data):
    A, y = data
    scaler = TemperatureScaler().fit(A, y)
    probabilities = scaler.predict_proba(A)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, softmax(scaler.transform(A).logits, axis=1))
    assert log_loss(y, probabilities) == pytest.approx(scaler.nll_after_)


@pytest.mark.parametrize(
    "classes",
    [[7, 3, 5, 0], ["dog", "cat", "ant", "bee"], [0.5, -2.0, 1.0, 3.0], [-5, -7, 9, 2]],
    ids=["unordered", "text", "float", "negative"],
)
def test_labels_are_those_of_the_classes(data, classes):
    A, y = data
    expected = TemperatureScaler().fit(A, y).temperature_
    named = Activations(dict(A.items()), logits=A.logits, classes=classes)
    for labels in (np.array(classes)[y], np.array(classes, dtype=object)[y]):
        assert TemperatureScaler().fit(named, labels).temperature_ == expected


def test_out_of_distribution_rows_are_left_out(data):
    A, y = data
    marked = np.where(np.arange(len(y)) % 3, y, -1)
    found = TemperatureScaler().fit(A, marked)
    expected = TemperatureScaler().fit(A[marked != -1], y[marked != -1])
    assert found.temperature_ == expected.temperature_
    assert found.nll_before_ == expected.nll_before_


def test_no_layer_is_read_in_fit_and_in_probabilities(data):
    class Unreadable(np.ndarray):
        def __getitem__(self, item):
            raise AssertionError("a layer was read")

    A, y = data
    broken = A.replace({"conv": np.full((len(y), 3, 2, 2), np.nan).view(Unreadable)})
    scaler = TemperatureScaler().fit(broken[::-1], y[::-1])
    np.testing.assert_allclose(
        scaler.predict_proba(broken[::2]), TemperatureScaler().fit(A, y).predict_proba(A[::2])
    )


def test_a_pipeline_scores_by_calibrated_confidences(data):
    A, y = data
    pipeline = make_pipeline(TemperatureScaler(), MaxSoftmaxDetector()).fit(A, y)
    confidence = pipeline[0].predict_proba(A).max(axis=1)
    log_odds = np.log(confidence / (1 - confidence))
    np.testing.assert_allclose(pipeline.score_samples(A), log_odds, rtol=1e-6)


def test_beside_the_logits_a_temperature_takes_little_memory():
    rng = np.random.default_rng(0)
    y = rng.integers(200, size=20_000)
    logits = (rng.normal(size=(len(y), 200)) + 3 * np.eye(200)[y]).astype(np.float32)
    A = Activations({"fc": logits}, logits=logits)
    TemperatureScaler().fit(A[:300], y[:300])
    tracemalloc.start()
    TemperatureScaler().fit(A, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < logits.nbytes / 2, f"{peak / 1e6:.1f} MB"


def test_the_energy_of_scaled_logits_is_that_of_an_energy_temperature(data):
    A, y = data
    scaler = TemperatureScaler().fit(A, y)
    energy = EnergyDetector(temperature=scaler.temperature_).fit(A).score_samples(A)
    scaled = EnergyDetector().fit(scaler.transform(A)).score_samples(scaler.transform(A))
    np.testing.assert_allclose(scaler.temperature_ * scaled, energy)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_wraps_arrays_and_not_activations(library, data):
    pytest.importorskip(library)
    A, y = data
    scaler = TemperatureScaler().set_output(transform=library)
    assert isinstance(scaler.fit(A, y).transform(A), Activations)
    frame = scaler.fit(A.logits, y).transform(A.logits)
    assert list(frame.columns) == ["x0", "x1", "x2", "x3"]


def test_names_of_a_data_frame_are_kept(data):
    pandas = pytest.importorskip("pandas")
    A, y = data
    frame = pandas.DataFrame(A.logits, columns=list("abcd"))
    scaler = TemperatureScaler().fit(frame, pandas.Series(y))
    assert scaler.get_feature_names_out().tolist() == list("abcd")


@pytest.mark.parametrize("label", [4, -2, 0.5, "0"])
def test_a_label_that_is_no_class_is_refused(data, label):
    A, y = data
    labels = np.where(np.arange(len(y)) == 3, label, y)
    for X in (A, A.logits):
        with pytest.raises(ValueError, match=r"among the classes of the network, \[0, 1, 2, 3\]"):
            TemperatureScaler().fit(X, labels)


def test_what_fit_lacks_is_said(data):
    A, y = data
    bare = Activations({"fc": A["fc"]})
    with pytest.raises(ValueError, match=r"needs logits, but Activations.*carries none"):
        TemperatureScaler().fit(bare, y)
    with pytest.raises(ValueError, match="requires y"):
        TemperatureScaler().fit(A, None)
    with pytest.raises(ValueError, match="300 samples, but y has 299"):
        TemperatureScaler().fit(A, y[1:])
    with pytest.raises(ValueError, match="none is left"):
        TemperatureScaler().fit(A, np.full(len(y), -1))
    with pytest.raises(ValueError, match=r"1 feature\(s\)"):
        TemperatureScaler().fit(Activations({"fc": A["fc"]}, logits=A.logits[:, :1]), 0 * y)
    with pytest.raises(ValueError, match="'logits' contains NaN"):
        TemperatureScaler().fit(A.assign(logits=A.logits * np.nan), y)


def test_what_transform_lacks_is_said(data):
    A, y = data
    with pytest.raises(NotFittedError, match="not fitted yet"):
        TemperatureScaler().transform(A)
    scaler = TemperatureScaler().fit(A, y)
    with pytest.raises(ValueError, match="needs logits"):
        scaler.transform(Activations({"fc": A["fc"]}))
    with pytest.raises(ValueError, match=r"\(3,\).*fitted on.*\(4,\)"):
        scaler.predict_proba(Activations({"fc": A["fc"]}, logits=A.logits[:, :3]))
    with pytest.raises(ValueError, match="Activations"):
        scaler.transform(A.logits)


def test_a_pickled_scaler_is_the_same(data):
    A, y = data
    scaler = TemperatureScaler().fit(A, y)
    copy = pickle.loads(pickle.dumps(scaler))
    np.testing.assert_array_equal(copy.predict_proba(A), scaler.predict_proba(A))
