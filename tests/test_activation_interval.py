"""Shares of units outside of intervals, against brute force and refits without a sample."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skood import Activations
from skood.detectors import ActivationIntervalDetector

SETTINGS = [
    {"intervals": "minmax"},
    {"intervals": "quantile", "quantile": 0.2},
    {"intervals": "levels"},
]


def brute_level(value, maximum):
    if value <= 0:
        return 0
    return 1 if value <= maximum / 3 else 2 if value <= 2 * maximum / 3 else 3


def brute_is_outside(value, members, maximum, intervals, quantile=0.0):
    """Whether a value of a unit is outside of what the members of the class had."""
    if intervals == "levels":
        return brute_level(value, maximum) not in {brute_level(m, maximum) for m in members}
    n_cut = int(quantile * len(members))
    kept = sorted(members)[n_cut : len(members) - n_cut]
    return not kept or not kept[0] <= value <= kept[-1]


def brute_score(sample, members, maxima, setting):
    outside = [
        brute_is_outside(value, members[:, unit].tolist(), maxima[unit], **setting)
        for unit, value in enumerate(sample)
    ]
    return -np.mean(outside)


# Values with many ties, on the edges of levels too.
few_samples = st.tuples(st.integers(1, 14), st.integers(1, 3), st.integers(0, 999)).map(
    lambda args: (
        np.random.default_rng(args[2]).integers(-1, 7, size=args[:2]).astype(float),
        np.random.default_rng(args[2]).integers(0, 3, size=(2, args[0])),
    )
)


@given(few_samples, st.sampled_from(SETTINGS), st.sampled_from(["prediction", "label"]))
def test_scores_are_those_of_a_brute_force(samples, setting, group_by):
    X, (predictions, y) = samples
    A = Activations({"fc": X}, predictions=predictions)
    detector = ActivationIntervalDetector(group_by=group_by, **setting).fit(A, y)
    classes = y if group_by == "label" else predictions
    maxima = np.maximum(X.max(axis=0), 0)
    new = X[::-1] + 0.5
    expected = [
        brute_score(sample, X[classes == label], maxima, setting)
        for sample, label in zip(new, predictions, strict=True)
    ]
    scores = detector.score_samples(Activations({"fc": new}, predictions=predictions))
    np.testing.assert_allclose(scores, expected, atol=1e-12)


@given(few_samples, st.sampled_from(SETTINGS), st.sampled_from(["prediction", "label"]))
def test_training_samples_are_scored_by_the_others(samples, setting, group_by):
    X, (predictions, y) = samples
    A = Activations({"fc": X}, predictions=predictions)
    detector = ActivationIntervalDetector(group_by=group_by, **setting).fit(A, y)
    classes = y if group_by == "label" else predictions
    maxima = np.maximum(X.max(axis=0), 0)
    for row, label in enumerate(predictions):
        others = (classes == label) & (np.arange(len(X)) != row)
        expected = brute_score(X[row], X[others], maxima, setting)
        np.testing.assert_allclose(detector.training_scores_[row], expected, atol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting["intervals"])
def test_new_samples_are_rejected_about_as_often_as_asked(setting):
    rng = np.random.default_rng(0)
    label = np.arange(3000) % 3
    rows = rng.uniform(0.1, 1, size=(3, 100))[label] * rng.exponential(size=(3000, 100))
    A = Activations({"fc": rows}, predictions=label)
    detector = ActivationIntervalDetector(false_alarm_rate=0.1, **setting).fit(A[:500])
    margins = detector.decision_function(A[500:])
    # Ties with the threshold make the difference.
    assert np.mean(margins < 0) < 0.13
    assert np.mean(margins <= 0) > 0.05


def test_intervals_are_closed():
    detector = ActivationIntervalDetector().fit([[0.0], [1.0], [2.0]])
    scores = detector.score_samples([[0.0], [2.0], [-1e-9], [2 + 1e-4], [2 + 1e-9]])
    # The last is outside by rounding only.
    np.testing.assert_array_equal(scores, [0, 0, -1, -1, 0])


def test_quantiles_leave_out_both_ends():
    rows = np.arange(10.0)[:, np.newaxis]
    detector = ActivationIntervalDetector(intervals="quantile", quantile=0.25).fit(rows)
    assert (detector.lower_, detector.upper_) == ([[2.0]], [[7.0]])


def test_quantiles_of_the_others_leave_out_a_share_of_the_others():
    rows = np.arange(5.0)[:, np.newaxis]
    detector = ActivationIntervalDetector(intervals="quantile", quantile=0.2).fit(rows)
    assert (detector.lower_, detector.upper_) == ([[1.0]], [[3.0]])
    # Of four others, none is left out.
    np.testing.assert_array_equal(detector.training_scores_, [-1, 0, 0, 0, -1])


def test_levels_are_thirds_of_the_largest_value_of_any_class():
    A = Activations({"fc": [[-2.0], [2.0], [4.0], [9.0]]}, predictions=[0, 0, 0, 1])
    detector = ActivationIntervalDetector(intervals="levels").fit(A)
    np.testing.assert_array_equal(detector.unit_maxima_, [9.0])
    np.testing.assert_array_equal(detector.level_counts_[:, 0], [[1, 1, 1, 0], [0, 0, 0, 1]])
    new = Activations({"fc": [[0.0], [3.0], [6.0], [6.1], [99.0]]}, predictions=[0, 0, 0, 0, 1])
    np.testing.assert_array_equal(detector.score_samples(new), [0, 0, 0, -1, 0])


def test_values_inside_a_gap_of_levels_are_outside():
    rows = [[0.0], [0.0], [9.0]]
    levels = ActivationIntervalDetector(intervals="levels").fit(rows)
    minmax = ActivationIntervalDetector().fit(rows)
    assert levels.score_samples([[4.0]]) == -1
    assert minmax.score_samples([[4.0]]) == 0


def test_a_unit_that_is_never_active_has_one_level():
    detector = ActivationIntervalDetector(intervals="levels").fit([[-1.0], [0.0]])
    np.testing.assert_array_equal(detector.score_samples([[-5.0], [1e-9]]), [0, -1])


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting["intervals"])
def test_all_units_are_outside_for_a_class_without_samples(setting):
    A = Activations({"fc": [[0.0, 1.0], [1.0, 2.0]]}, predictions=[1, 1])
    detector = ActivationIntervalDetector(**setting).fit(A)
    for label in (0, 2):
        unseen = Activations({"fc": [[0.0, 1.0]]}, predictions=[label])
        assert detector.score_samples(unseen) == -1


def test_labels_need_to_be_given():
    A = Activations({"fc": np.eye(3)}, predictions=[0, 1, 2])
    with pytest.raises(ValueError, match="group_by='label' needs the class labels y"):
        ActivationIntervalDetector(group_by="label").fit(A)
    with pytest.raises(ValueError, match="group_by='label' needs predictions"):
        ActivationIntervalDetector(group_by="label").fit(np.eye(3), [0, 1, 2])


def test_a_product_that_is_rounded_down_still_counts_as_whole():
    # 0.29 * 100 is 28.999... in floating point.
    X = np.arange(100.0)[:, np.newaxis]
    detector = ActivationIntervalDetector(intervals="quantile", quantile=0.29).fit(X)
    assert detector.lower_.item() == 29
    assert detector.upper_.item() == 70


def test_another_fit_forgets_the_intervals():
    X = np.random.default_rng(0).normal(size=(50, 2))
    detector = ActivationIntervalDetector().fit(X)
    detector.set_params(intervals="levels").fit(X)
    assert not hasattr(detector, "lower_")
