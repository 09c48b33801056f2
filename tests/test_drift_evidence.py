"""The parts of a drift monitor, each beside a computation by its definition."""

from math import log

import numpy as np
import pytest
from _calibrated import Calibrated
from scipy import stats
from scipy.integrate import quad

from experiments.drift import rivals
from experiments.drift.streams import (
    FALSE_ALARM_RATE,
    NULLS,
    either,
    ring,
    ring_by_scores,
    watch,
)
from skood.monitoring import DriftMonitor
from skood.monitoring._alarm_rate import AlarmRate, rate_limit, rates_around
from skood.monitoring._bets import (
    ODDS_SHARES,
    P_VALUE_SHARES,
    alarm_factors,
    p_value_factors,
)
from skood.monitoring._evidence import Evidence, cash_after
from skood.monitoring._ranks import OnlineRanks

RNG = np.random.default_rng(0)


def ranks_of(calibration, seed=0):
    return OnlineRanks(np.asarray(calibration, dtype=float), np.random.default_rng(seed))


def test_p_values_count_calibration_scores_and_rows_before_gap_by_gap():
    calibration, scores, shares = RNG.normal(size=7), RNG.normal(size=40), RNG.random(40)
    found = list(ranks_of(calibration).p_values(scores, RNG.random(40), shares))
    gaps = (scores[:, np.newaxis] > calibration).sum(axis=1)
    for row, gap in enumerate(gaps):
        before = np.concatenate([np.arange(8), gaps[:row]])
        below, own = (before < gap).sum(), (before == gap).sum()
        assert found[row] == pytest.approx((below + shares[row] * own) / (8 + row), abs=1e-15)


def test_first_p_value_is_the_smoothed_one_of_calibration_alone():
    for score, gap in [(0.5, 0), (1.5, 1), (3.5, 3), (-np.inf, 0), (np.inf, 3)]:
        one = np.array([score]), np.array([0.5]), np.array([0.25])
        assert next(ranks_of([3, 1, 2]).p_values(*one)) == (gap + 0.25) / 4


def test_equal_scores_are_put_in_random_order():
    places = []
    for seed in range(300):
        ties = np.random.default_rng([1, seed]).random(1)
        p_value = next(ranks_of([0, 2, 2, 2, 5], seed).p_values(np.array([2.0]), ties, np.ones(1)))
        places.append(round(p_value * 6) - 1)
    assert set(places) == {1, 2, 3, 4}
    assert stats.chisquare(np.bincount(places)[1:]).pvalue > 0.001


def test_counts_that_are_set_go_on_as_those_that_were_counted():
    calibration, scores = RNG.normal(size=9), RNG.normal(size=50)
    ties, shares = RNG.random((2, 50))
    whole = list(ranks_of(calibration).p_values(scores, ties, shares))
    first, second = ranks_of(calibration), ranks_of(calibration)
    begun = list(first.p_values(scores[:20], ties[:20], shares[:20]))
    second.counts = first.counts
    assert begun + list(second.p_values(scores[20:], ties[20:], shares[20:])) == whole


@pytest.mark.parametrize("name", NULLS)
def test_p_values_of_unchanged_scores_are_uniform_and_independent(name):
    rng = np.random.default_rng(3)
    streams = watch(NULLS[name](rng, (400, 20)), NULLS[name](rng, (400, 60)), seed=0)
    p_values = streams.p_values
    for row in (0, 10, 59):
        assert stats.kstest(p_values[row], "uniform").pvalue > 0.001
    # The mean of a stream: that of p-values which share their calibration rows is spread more.
    means = p_values.mean(axis=0)
    assert means.std() == pytest.approx(np.sqrt(1 / 12 / 60), rel=0.12)
    assert streams.fixed_p_values.mean(axis=0).std() > 1.5 * np.sqrt(1 / 12 / 60)


def test_densities_of_p_values_have_the_mean_one():
    for bet in range(len(P_VALUE_SHARES)):
        integral, _ = quad(
            lambda p, bet=bet: p_value_factors(p)[bet], 0, 1, points=[0.001, 0.5, 0.999], limit=200
        )
        assert integral == pytest.approx(1, abs=0.003)
    assert P_VALUE_SHARES.sum() == pytest.approx(1)
    assert (p_value_factors(np.array([1e-300, 1e-16, 0.5, 1 - 1e-16, 1.0])) >= 0).all()
    assert np.isfinite(p_value_factors(1.0)).all()


def test_densities_of_several_streams_are_those_of_each():
    p_values = RNG.random(5)
    together = p_value_factors(p_values)
    np.testing.assert_allclose(together.T, [p_value_factors(p) for p in p_values], rtol=1e-12)


def test_bets_on_alarms_win_nothing_on_average_at_the_rate_and_below():
    rates = np.array([0.01, 0.3, 0.9])
    without, with_alarm = alarm_factors(rates)
    np.testing.assert_allclose((1 - rates) * without + rates * with_alarm, 1)
    lower = rates / 2
    assert ((1 - lower) * without + lower * with_alarm < 1).all()
    assert ODDS_SHARES.sum() == pytest.approx(1)
    # So the evidence against a rate is less, the higher the rate is.
    assert (np.diff(without, axis=1) < 0).all()
    assert (np.diff(with_alarm, axis=1) < 0).all()


def test_evidence_is_the_mean_over_all_rows_to_begin_at():
    shares, factors = np.array([0.3, 0.7]), RNG.uniform(0.2, 3, (30, 2))
    evidence = Evidence(shares)
    assert evidence.value == 1
    for n_rows in range(1, 31):
        found = evidence.bet(factors[n_rows - 1])
        cash = [1.0, *(0.5 / (1 + log(t)) for t in range(1, n_rows + 1))]
        begun = sum(
            (cash[start] - cash[start + 1]) * (shares @ factors[start:n_rows].prod(axis=0))
            for start in range(n_rows)
        )
        assert found == pytest.approx(cash[-1] + begun, rel=1e-12)
        assert evidence.value == found


def test_evidence_never_overflows_and_never_is_nothing():
    evidence = Evidence(np.ones(1))
    values = [evidence.bet(p_value_factors(0.0)[:1]) for _ in range(40)]
    assert (np.diff(values) >= 0).all()
    assert 1e200 < values[-1] < np.inf
    for _ in range(10):
        assert evidence.bet(np.zeros(1)) >= cash_after(50)


@pytest.mark.parametrize(("rank", "n"), [(1, 19), (25, 500), (5, 5)])
def test_limit_of_the_rate_is_a_quantile_of_beta(rank, n):
    assert rate_limit(rank, n, 0.0025) == pytest.approx(stats.beta.ppf(0.9975, rank, n + 1 - rank))
    assert rate_limit(0, n, 0.0025) == 0


def test_lower_bound_is_the_largest_rate_that_is_refuted():
    rate, level = AlarmRate(0.1, 0.01), 0.01
    assert np.all(np.diff(rates_around(1.0)[0]) > 0)
    rates, place = rates_around(0.1)
    assert rates[place] == 0.1
    assert (np.diff(rates) > 0).all()
    alone = [AlarmRate(one, level) for one in rates]
    for is_alarm in [True] * 4 + [False] * 10 + [True] * 12 + [False] * 60:
        evidence, bound = rate.add(is_alarm)
        each = [one.add(is_alarm)[0] for one in alone]
        assert evidence == pytest.approx(each[place])
        refuted = rates[np.array(each) >= 1 / level]
        assert bound == rate.lower_bound == (refuted.max() if len(refuted) else 0)


def test_lower_bound_holds_for_all_rows_at_once():
    rng, wrong = np.random.default_rng(4), 0
    for _ in range(150):
        rate = AlarmRate(0.05, 0.1)
        wrong += max(rate.add(alarm)[1] for alarm in (rng.random(400) < 0.08).tolist()) > 0.08
    assert wrong <= 15


def test_streams_of_the_experiment_ring_when_a_monitor_does():
    rng = np.random.default_rng(5)
    calibration, scores = rng.normal(size=(3, 100)), rng.normal(size=(3, 300)) - [[0], [1], [2]]
    for one, rows in zip(calibration, scores, strict=True):
        monitor = DriftMonitor(Calibrated(one), alpha=0.02).update(rows[:, np.newaxis])
        history = monitor.history_
        streams = watch(one[np.newaxis], rows[np.newaxis], 0)
        np.testing.assert_array_equal(streams.is_alarm[:, 0], history["is_alarm"])
        # The random numbers are others.
        found = ring(type(streams)(history["p_value"][:, np.newaxis], *vars_of(streams)), 0.02)
        assert [time.item() for time in found.values()] == [
            first(history["martingale"] >= 100),
            first(history["rate_lower_bound"] >= monitor.rate_limit_),
            monitor.alarm_time_ or 0,
        ]


def vars_of(streams):
    return streams.fixed_p_values, streams.is_alarm, streams.n_calibration


def first(reached):
    return int(np.argmax(reached)) + 1 if reached.any() else 0


@pytest.mark.parametrize("name", NULLS)
def test_false_alarms_are_below_their_level(name):
    rng = np.random.default_rng(6)
    streams = watch(NULLS[name](rng, (200, 60)), NULLS[name](rng, (200, 1000)), seed=1)
    times = ring(streams, 0.2)
    # 0.2, and two standard errors of 200 streams.
    assert np.mean(times["either"] > 0) <= 0.2 + 2 * np.sqrt(0.16 / 200)
    # What the usual p-values would do shows that the streams are long enough to tell.
    assert np.mean(ring_by_scores(streams.fixed_p_values, 0.1) > 0) > 0.4
    assert streams.rank == int(FALSE_ALARM_RATE * 61)


def test_first_of_several_times():
    assert either(np.array([0, 3, 0]), np.array([5, 2, 0])).tolist() == [5, 2, 0]


def test_rivals_find_a_change_too():
    rng = np.random.default_rng(7)
    streams = watch(rng.normal(size=(5, 200)), rng.normal(size=(5, 300)) - 2, seed=0)
    for ring_by in (*rivals.RIVALS.values(), ring_by_scores):
        times = ring_by(streams.p_values, 0.01)
        assert ((times > 0) & (times < 60)).all()
