"""Exact conformal ranks, thresholds and p-values, against counting and fractions."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from skood._conformal import (
    conformal_p_values,
    conformal_rank,
    conformal_threshold,
    lowest_accepted,
    p_values_of_ranks,
    refuse_nan_scores,
    rows_needed,
    starts_of_equal_scores,
    why_none_is_rejected,
)
from skood._held_out import split_held_out

RATES = ["0.001", "0.01", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.5", "0.7", "0.9"]
TRAINING = {"guarantee": "training-conditional"}


@pytest.mark.parametrize("rate", RATES)
def test_rank_is_the_floor_of_the_exact_product(rate):
    exact, as_float = Fraction(rate), float(rate)
    ranks = [conformal_rank(n, as_float) for n in range(2001)]
    assert ranks == [floor(exact * (n + 1)) for n in range(2001)]


def test_rank_of_a_rate_just_below_a_share_is_one_less():
    assert conformal_rank(19, 0.05) == 1
    assert conformal_rank(19, np.nextafter(0.05, 0)) == 0
    assert conformal_rank(99, 1 - 1e-12) == 99


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_training_conditional_rank_is_the_largest_that_keeps_the_confidence(rate, confidence):
    for n in (1, 2, 10, 58, 59, 60, 99, 100, 299, 1000):
        # Half of Beta(150, 150) is below 1/2, which older versions of SciPy round down.
        least = confidence - 1e-12
        kept = [k for k in range(1, n + 1) if beta.cdf(rate, k, n + 1 - k) >= least]
        rank = conformal_rank(n, rate, confidence=confidence, **TRAINING)
        assert rank == max(kept, default=0)
        # The same in words of coin tosses: at least k of n fall below the quantile of the rate.
        assert all(binom.sf(k - 1, n, rate) >= confidence - 1e-12 for k in kept)


@pytest.mark.parametrize("scores", [[3.0, 1.0, 2.0, 2.0], [5.0], [1, 1, 1], np.arange(40) % 7])
@pytest.mark.parametrize("rate", [0.2, 0.25, 0.5, 0.75])
def test_threshold_is_a_calibration_score(scores, rate):
    rank = floor(Fraction(rate).limit_denominator(100) * (len(scores) + 1))
    expected = sorted(scores)[rank - 1] if rank else -np.inf
    assert conformal_threshold(scores, rate) == expected


def test_p_values_count_the_calibration_scores_that_are_not_above():
    # 0, 1 (tie), 1, 3 and all 4 of them.
    p = conformal_p_values([2.0, 1.0, 3.0, 2.0], [0.5, 1.0, 1.5, 2.0, 9.0])
    np.testing.assert_array_equal(p, np.array([1, 2, 2, 4, 5]) / 5)


def test_training_conditional_p_values_are_quantiles_of_beta():
    calibration = np.arange(10.0)
    p = conformal_p_values(calibration, [-1.0, 0.0, 4.5, 8.5, 9.0], confidence=0.9, **TRAINING)
    expected = [*[beta.ppf(0.9, i + 1, 10 - i) for i in (0, 1, 5, 9)], 1.0]
    np.testing.assert_allclose(p, expected, rtol=1e-12)


def test_no_calibration_scores_reject_nothing():
    for settings in ({}, TRAINING):
        assert conformal_threshold([], 0.5, **settings) == -np.inf
        np.testing.assert_array_equal(conformal_p_values([], [0.0, -np.inf], **settings), [1, 1])


def test_infinite_scores_have_ranks():
    calibration = [-np.inf, 0.0, np.inf]
    np.testing.assert_array_equal(
        conformal_p_values(calibration, [-np.inf, -1.0, np.inf]), [0.5, 0.5, 1]
    )
    assert conformal_threshold(calibration, 0.25) == -np.inf
    assert conformal_threshold(calibration, 0.75) == np.inf


SCORES = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False, width=32),
)


@given(
    calibration=st.lists(SCORES, max_size=60),
    scores=st.lists(SCORES, min_size=1, max_size=20),
    rate=st.one_of(st.sampled_from([0.05, 0.1, 0.2, 0.25, 1 / 3]), st.floats(0.001, 0.999)),
    guarantee=st.sampled_from(["marginal", "training-conditional"]),
    confidence=st.sampled_from([0.5, 0.9, 0.999]),
)
def test_threshold_and_p_values_agree_on_every_score(
    calibration, scores, rate, guarantee, confidence
):
    settings = {"guarantee": guarantee, "confidence": confidence}
    # Calibration scores themselves are ties.
    scores = np.array([*scores, *calibration])
    threshold = conformal_threshold(calibration, rate, **settings)
    p = conformal_p_values(calibration, scores, **settings)
    lowest = lowest_accepted(calibration, threshold)
    assert lowest <= threshold
    np.testing.assert_array_equal(scores < lowest, p <= rate)
    assert (p > 0).all()
    assert (p <= 1).all()


def test_p_values_rise_strictly_with_the_rank():
    for n in (1, 7, 1000, 20000):
        for settings in ({}, TRAINING, {**TRAINING, "confidence": 0.999}):
            p = p_values_of_ranks(np.arange(1, n + 2), n, **settings)
            assert (np.diff(p) > 0).all()
            assert p[-1] == 1


@pytest.mark.parametrize("rate", [0.3, 0.1, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("settings", [{}, TRAINING, {**TRAINING, "confidence": 0.5}])
def test_as_many_rows_are_needed_as_give_a_rank(rate, settings):
    needed = rows_needed(rate, **settings)
    assert conformal_rank(needed, rate, **settings) == 1
    assert conformal_rank(needed - 1, rate, **settings) == 0


def test_why_none_is_rejected_says_the_smallest_rate_and_the_rows_that_are_needed():
    text = why_none_is_rejected(18, 0.05)
    assert "18 calibration row(s) cannot give a false alarm rate of 0.05" in text
    assert "that they can give is 0.0527; 0.05 needs at least 19 of them." in text
    assert conformal_rank(18, 0.0527) == 1
    text = why_none_is_rejected(30, 0.05, **TRAINING)
    assert "that they can give is 0.0951; 0.05 needs at least 59 of them for" in text
    assert conformal_rank(30, 0.0951, **TRAINING) == 1
    assert "that they can give is 1; 0.05 needs at least 19" in why_none_is_rejected(0, 0.05)


@given(n=st.integers(1, 10**6), guarantee=st.sampled_from(["marginal", "training-conditional"]))
def test_the_rate_that_is_said_to_be_possible_is(n, guarantee):
    text = why_none_is_rejected(n, 1e-9, guarantee=guarantee)
    said = float(text.split("can give is ")[1].split(";")[0])
    assert conformal_rank(n, said, guarantee=guarantee) >= 1
    assert said <= 1.02 * p_values_of_ranks(1, n, guarantee=guarantee)


def test_nan_scores_are_refused_by_row():
    with pytest.raises(ValueError, match=r"score of Odd is NaN in 2 of 4 rows, .* row 1:"):
        refuse_nan_scores(np.array([0.0, np.nan, np.inf, np.nan]), "Odd")
    refuse_nan_scores(np.array([0.0, -np.inf]), "Odd")


def test_held_out_rows_are_stratified_where_classes_are_large_enough():
    labels = np.repeat(["a", "b"], [80, 20])
    learnt, held_out = split_held_out(100, labels, 0.2, 0)
    np.testing.assert_array_equal(np.sort([*learnt, *held_out]), np.arange(100))
    assert np.unique(labels[held_out], return_counts=True)[1].tolist() == [16, 4]
    for labels, share in [
        (np.arange(100), 0.2),  # one row a class
        (np.repeat(np.arange(50), 2), 0.2),  # fewer rows than classes
        (np.repeat(np.arange(50), 2), 0.8),  # fewer rows than classes in the rest
        (None, 0.2),
    ]:
        learnt, held_out = split_held_out(100, labels, share, 0)
        assert len(held_out) == 100 * share
        np.testing.assert_array_equal(np.sort([*learnt, *held_out]), np.arange(100))


def test_runs_of_scores_that_are_equal_but_for_rounding():
    rng = np.random.default_rng(0)
    values = np.array([-np.inf, -np.inf, -3.0, 1.0, 1.5, 7.0])
    scores = np.sort(np.repeat(values, 4) * (1 + rng.uniform(-1e-7, 1e-7, 24)))
    np.testing.assert_array_equal(starts_of_equal_scores(scores), [0, 8, 12, 16, 20])
    np.testing.assert_array_equal(starts_of_equal_scores(np.zeros(5)), [0])
    # A constant that is added to all scores does not make them equal; a chain is no run.
    near = 1e6 + np.arange(9.0)
    np.testing.assert_array_equal(starts_of_equal_scores(near), np.arange(9))
    assert len(starts_of_equal_scores(1 + 1e-6 * np.arange(1000))) > 100
