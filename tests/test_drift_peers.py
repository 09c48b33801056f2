"""The watch on the alarm rate beside MAPIE's ``RiskMonitoring``: same alarms, limit and level.

MAPIE's bound is an empirical Bernstein one, of the mean since the first row; ours is of bets, that
may begin at any row. Both have to hold, and ours is the sharper one for alarms that are rare.
"""

import numpy as np
import pytest
from _calibrated import Calibrated

from skood.monitoring import DriftMonitor
from skood.monitoring._alarm_rate import AlarmRate, rate_limit

mapie = pytest.importorskip(
    "mapie.exchangeability_testing", reason="needs MAPIE, which the extra 'peers' installs"
)
from mapie.exchangeability_testing.bounds import hoeffding_bound  # noqa: E402
from mapie.risk_control import BinaryRisk  # noqa: E402

LEVEL = 0.005


def share_of_alarms():
    """The risk that is the share of samples predicted positive."""
    return BinaryRisk(
        risk_occurrence=lambda y_true, y_pred: y_pred,
        risk_condition=lambda y_true, y_pred: np.ones(len(y_pred), dtype=bool),
        higher_is_better=False,
    )


def lower_bounds(is_alarm, limit):
    """MAPIE's bound and ours, row by row."""
    # It halves the level, for a reference that is given here.
    peer = mapie.RiskMonitoring(share_of_alarms(), 2 * LEVEL, threshold=limit, warn=False)
    peer.update(np.zeros(len(is_alarm), dtype=int), is_alarm.astype(int))
    ours = AlarmRate(limit, LEVEL)
    bounds = [ours.add(alarm)[1] for alarm in is_alarm.tolist()]
    return peer.online_risk_lower_bound_sequence_history, np.array(bounds), peer


def test_both_see_the_same_alarms():
    rows = np.random.default_rng(0).normal(size=(800, 1)) - 1
    drift = DriftMonitor(Calibrated(np.linspace(-2, 2, 500))).update(rows)
    is_alarm = drift.history_["is_alarm"]
    _, _, peer = lower_bounds(is_alarm, drift.rate_limit_)
    assert peer.online_risk_sequence_history.mean() == drift.alarm_rate_
    assert peer.harmful_shift_detected
    assert drift.rate_lower_bound_ > drift.rate_limit_


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.08])
def test_neither_rings_below_the_limit(rate):
    rng = np.random.default_rng(1)
    for _ in range(10):
        peers, ours, peer = lower_bounds(rng.random(1500) < rate, 0.08)
        assert not peer.harmful_shift_detected
        assert max(peers.max(), ours.max()) < 0.08


@pytest.mark.parametrize(("rate", "n_rows"), [(0.2, 1500), (0.3, 800), (0.6, 400)])
def test_both_ring_above_it_and_ours_first(rate, n_rows):
    rng, delays = np.random.default_rng(2), []
    for _ in range(10):
        peers, ours, peer = lower_bounds(rng.random(n_rows) < rate, 0.08)
        assert peer.harmful_shift_detected
        assert max(peers.max(), ours.max()) < rate
        delays.append((np.argmax(ours >= 0.08), np.argmax(peers > 0.08)))
    ours, theirs = np.median(delays, axis=0)
    assert 0 < ours < 0.7 * theirs


def test_after_a_long_quiet_time_ours_is_the_one_that_rings():
    rng = np.random.default_rng(3)
    is_alarm = np.concatenate([rng.random(2000) < 0.05, rng.random(200) < 0.4])
    _, ours, peer = lower_bounds(is_alarm, 0.08)
    assert not peer.harmful_shift_detected
    assert ours[:2000].max() < 0.08
    assert ours[-1] > 0.08


@pytest.mark.parametrize("n", [100, 500, 2000])
def test_limit_from_calibration_rows_is_below_that_of_hoeffding(n):
    rank = int(0.05 * (n + 1))
    is_alarm = np.arange(1, n + 1) < rank
    assert rate_limit(rank, n, LEVEL) < hoeffding_bound(is_alarm, LEVEL)
