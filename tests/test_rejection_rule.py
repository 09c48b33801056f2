"""The rule by which the denoising classifier rejects, and how labels of rejected samples look."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from skood._marks import plain_labels
from skood.training._rejection import accuracy, label_rejected
from skood.training._rejection_rule import Outputs, RejectionRule


def outputs(n_samples, seed, sure=0.0, error=1.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n_samples, 3))
    logits[:, 0] += sure
    return Outputs(logits, error * rng.lognormal(size=n_samples))


def told(rule, known, unknown):
    return (rule.score(known) >= 0).mean() + (rule.score(unknown) < 0).mean()


def test_log_odds_are_those_of_the_largest_probability():
    some = outputs(20, 0, sure=5)
    np.testing.assert_allclose(expit(some.log_odds), softmax(some.logits, axis=1).max(axis=1))


def test_log_odds_do_not_saturate():
    sure, surer = Outputs(np.array([[800.0, 0, 0], [900.0, 0, 0]]), np.ones(2)).log_odds
    assert surer - sure == pytest.approx(100)


def gains(log_odds, errors, known, unknown):
    """Share of known samples accepted less that of unknown ones, for all pairs of thresholds."""
    known_share, unknown_share = (
        np.mean(
            (some.log_odds >= np.reshape(log_odds, (-1, 1, 1)))
            & (some.errors <= np.reshape(errors, (1, -1, 1))),
            axis=2,
        )
        for some in (known, unknown)
    )
    return known_share - unknown_share


@given(st.integers(0, 10_000))
def test_no_pair_of_thresholds_tells_much_better_than_the_automatic_one(seed):
    known, unknown = outputs(40, seed, sure=3), outputs(50, seed + 1, error=3.0)
    rule = RejectionRule.learn(known, unknown, "auto", "auto")
    odds = np.append(np.concatenate([known.log_odds, unknown.log_odds]), -np.inf)
    errors = np.append(np.concatenate([known.errors, unknown.errors]), np.inf)
    best = gains(odds, errors, known, unknown).max()
    # One standard error, of shares of 40 and 50 samples, is at most this.
    standard_error = np.sqrt(0.25 / 40 + 0.25 / 50)
    found = gains(rule.log_odds, rule.error, known, unknown).item()
    assert best - standard_error <= found + 1e-12 <= best + 1e-9


def test_of_thresholds_that_tell_equally_well_the_strictest_is_taken():
    known = Outputs(np.array([[4.0, 0.0], [5.0, 0.0]] * 10), np.full(20, 1.0))
    unknown = Outputs(np.array([[1.0, 0.0]] * 20), np.full(20, 9.0))
    rule = RejectionRule.learn(known, unknown, "auto", "auto")
    assert rule.log_odds == pytest.approx(4, abs=0.1)
    assert rule.error == pytest.approx(1, abs=0.1)
    assert (rule.score(known) >= 0).all()


def test_nothing_is_rejected_where_nothing_can_be_told():
    rule = RejectionRule.learn(outputs(50, 0), outputs(50, 0), "auto", "auto")
    scores = rule.score(outputs(200, 1))
    assert (scores >= 0).all()
    assert np.isfinite(scores).all()


def test_one_threshold_may_be_fixed_and_the_other_found():
    known, unknown = outputs(300, 0, sure=2), outputs(300, 1, error=3.0)
    both = RejectionRule.learn(known, unknown, "auto", "auto")
    fixed = RejectionRule.learn(known, unknown, 0.659, "auto")
    assert expit(fixed.log_odds) == pytest.approx(0.659)
    assert told(both, known, unknown) > told(fixed, known, unknown)
    fixed = RejectionRule.learn(known, unknown, "auto", 0.0)
    assert fixed.error == unknown.errors.min()
    assert (fixed.score(unknown) >= 0).sum() <= 1


def test_a_perfect_reconstruction_has_a_finite_score():
    known = Outputs(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.0, 1.0]))
    rule = RejectionRule.learn(known, known, "auto", 0.5)
    assert np.isfinite(rule.score(known)).all()


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_thresholds_at_the_ends_accept_all_or_nothing(probability):
    known = outputs(20, 0)
    rule = RejectionRule.learn(known, known, probability, None)
    assert (rule.score(known) >= 0).all() == (probability == 0)
    assert not np.isnan(rule.score(known)).any()


@pytest.mark.parametrize(
    ("labels", "reject_label", "expected"),
    [
        (np.array([3, 4]), None, np.array([3, 4])),
        (np.array([3, 4]), -1, np.array([3, -1])),
        (np.array([3, 4]), "other", np.array([3, "other"], dtype=object)),
        (np.array(["a", "b"]), -1, np.array(["a", -1], dtype=object)),
        (np.array(["a", "b"]), "unknown", np.array(["a", "unknown"])),
        (np.array([0, 1], dtype=np.int8), 300, np.array([0, 300])),
        (np.array([0, 1], dtype=np.uint8), -1, np.array([0, -1])),
        (np.array([0.0, 1.0]), -1, np.array([0.0, -1.0])),
        (np.array([False, True]), -1, np.array([False, -1], dtype=object)),
    ],
)
def test_rejected_labels_take_the_dtype_that_holds_both(labels, reject_label, expected):
    answers = label_rejected(labels, np.array([False, True]), reject_label)
    assert answers.tolist() == expected.tolist()
    assert answers.dtype.kind == expected.dtype.kind
    assert labels.tolist() != expected.tolist() or reject_label is None


@pytest.mark.parametrize(
    ("answers", "y", "expected"),
    [
        (np.array([1.0, -1.0]), [1, -1], 1.0),
        (np.array(["a", -1], dtype=object), np.array(["a", "b"]), 0.5),
        (np.array(["a", "other"]), np.array(["a", -1], dtype=object), 0.5),
        (np.array([True, -1], dtype=object), np.array([True, -1], dtype=object), 1.0),
    ],
)
def test_accuracy_counts_equal_labels_of_any_kinds(answers, y, expected):
    assert accuracy(answers, y, None) == expected


def test_accuracy_weighs_samples_and_counts_them():
    assert accuracy(np.array([1, 2]), [1, 1], [3, 1]) == 0.75
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        accuracy(np.array([1, 2]), [1], None)


def test_labels_beside_a_mark_get_their_own_dtype():
    assert plain_labels(np.array(["a", "b"], dtype=object)).dtype.kind == "U"
    assert plain_labels(np.array([True, False], dtype=object)).dtype == bool
    with pytest.raises(ValueError, match="all texts or all numbers"):
        plain_labels(np.array(["a", 3], dtype=object))


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_network_that_has_diverged_sets_no_thresholds(broken):
    known = outputs(20, 0)
    known.logits[3, 1] = broken
    with pytest.raises(ValueError, match="training has diverged"):
        RejectionRule.learn(known, outputs(20, 1), "auto", "auto")
