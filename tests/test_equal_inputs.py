"""Equal inputs are judged alike, whatever the batch in which they come, though scores are not."""

import itertools

import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import PredefinedSplit
from sklearn.neural_network import MLPClassifier

from skood import ActivationExtractor, Activations, make_monitor
from skood._conformal import (
    conformal_p_values,
    conformal_threshold,
    less_rounding,
    lowest_accepted,
)
from skood._levels import Levels
from skood.calibration import ConformalDetector, RiskControlledDetector
from skood.detectors import (
    ActivationIntervalDetector,
    FDBDDetector,
    GradNormDetector,
    GramDetector,
    KNNDetector,
    MahalanobisDetector,
    ViMDetector,
)
from skood.ensemble import AnyAlarmDetector, LayerEnsembleDetector
from skood.monitoring import DriftMonitor, drift_test

STATES = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
RNG = np.random.default_rng(0)
TRAIN, HELD_OUT = STATES[RNG.integers(0, 16, 300)], STATES[RNG.integers(0, 16, 199)]
LABEL = (TRAIN.sum(axis=1) > 2) + (TRAIN[:, 0] > 0).astype(int)
NET = MLPClassifier((32, 16), random_state=0, max_iter=2000).fit(TRAIN, LABEL)
EXTRACTOR = ActivationExtractor(NET, "penultimate").fit(TRAIN)
ONE_BY_ONE = [EXTRACTOR.transform(state[np.newaxis]) for state in STATES]
DETECTORS = [
    KNNDetector(),
    MahalanobisDetector(),
    ViMDetector(),
    FDBDDetector(),
    GradNormDetector(),
    ActivationIntervalDetector(),
    GramDetector(),
    LayerEnsembleDetector(KNNDetector(), combine="fisher"),
    AnyAlarmDetector([("far", KNNDetector()), ("unsure", FDBDDetector())]),
]


def of_ones(method):
    return np.concatenate([method(A) for A in ONE_BY_ONE])


class LastBits(OutlierMixin, BaseEstimator):
    """Scores in the first column, by so many units in the last place of float32 lower."""

    def __init__(self, n_units=0):
        self.n_units = n_units

    def fit(self, X, y=None):
        self.is_fitted_ = True
        return self

    def score_samples(self, X):
        scores = np.asarray(X, dtype=float)[:, 0]
        return scores - self.n_units * np.finfo(np.float32).eps * np.abs(scores)


class FirstUnit(OutlierMixin, BaseEstimator):
    """A detector of tables, for the activations of a layer."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def score_samples(self, X):
        return self.detector.score_samples(X["a"])


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: type(detector).__name__)
def test_states_are_judged_alike_one_by_one(detector):
    detector = detector.fit(EXTRACTOR.transform(TRAIN), LABEL)
    A = EXTRACTOR.transform(STATES)
    calibrated = ConformalDetector(detector, false_alarm_rate=0.2)
    calibrated.fit(EXTRACTOR.transform(HELD_OUT))
    np.testing.assert_array_equal(of_ones(calibrated.p_values), calibrated.p_values(A))
    np.testing.assert_array_equal(of_ones(calibrated.predict), calibrated.predict(A))
    decisions = of_ones(calibrated.decision_function)
    np.testing.assert_array_equal(decisions < 0, of_ones(calibrated.p_values) <= 0.2)
    # The states of the calibration rows: each stands for as many of these as are in it.
    shares = np.array([(state == HELD_OUT).all(axis=1).mean() for state in STATES])
    assert shares[of_ones(calibrated.predict) == -1].sum() <= 0.2


@pytest.mark.parametrize(
    "detector",
    [
        KNNDetector(),
        MahalanobisDetector(),
        FDBDDetector(),
        AnyAlarmDetector([("far", KNNDetector()), ("unsure", FDBDDetector())]),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_thresholds_by_validation_judge_states_alike(detector):
    split = PredefinedSplit(np.repeat([-1, 0], [300, 199]))
    if "false_alarm_rate" in detector.get_params():
        detector.set_params(false_alarm_rate=0.2)
    detector = detector.set_params(validation=split)
    labels = NET.predict(HELD_OUT)
    detector.fit(EXTRACTOR.transform(np.vstack([TRAIN, HELD_OUT])), np.append(LABEL, labels))
    verdicts = detector.predict(EXTRACTOR.transform(STATES))
    np.testing.assert_array_equal(of_ones(detector.predict), verdicts)
    np.testing.assert_array_equal(of_ones(detector.decision_function) < 0, verdicts == -1)
    held_out = detector.predict(EXTRACTOR.transform(HELD_OUT))
    assert (held_out == -1).mean() <= 0.2


def test_a_device_of_four_states_raises_no_alarm():
    states = np.random.default_rng(1).normal(size=(4, 5))
    X = np.repeat(states, 50, axis=0)
    net = MLPClassifier((32, 16), random_state=0, max_iter=2000).fit(X, X[:, 0] > 0)
    for monitor in (make_monitor(net, validation=0.5).fit(X), make_monitor(net).fit(X)):
        if not hasattr(monitor, "calibration_"):
            monitor.calibrate(X[::2])
        assert [monitor.predict(state[np.newaxis])[0] for state in states] == [1, 1, 1, 1]
        assert min(monitor.p_values(state[np.newaxis])[0] for state in states) > 0.2


@pytest.mark.parametrize("n_units", [-8, -1, 0, 1, 8, 16])
def test_last_bits_decide_nothing(n_units):
    levels = np.array([-3.0, -1.0, 0.5, 7.0])[:, np.newaxis]
    detector = LastBits().fit(None)
    calibrated = ConformalDetector(detector, false_alarm_rate=0.3).fit(np.repeat(levels, 25, 0))
    assert calibrated.offset_ == -1
    detector.n_units = n_units
    np.testing.assert_allclose(calibrated.p_values(levels) * 101, [26, 51, 76, 101])
    np.testing.assert_array_equal(calibrated.predict(levels), [-1, 1, 1, 1])
    expected = levels[:, 0] + 1
    np.testing.assert_allclose(calibrated.decision_function(levels), expected, atol=5e-5)
    np.testing.assert_array_equal(
        conformal_p_values(np.repeat(levels, 25), detector.score_samples(levels)),
        calibrated.p_values(levels),
    )
    folds = ConformalDetector(LastBits(), false_alarm_rate=0.3, cv=5, random_state=0)
    folds.fit(np.repeat(levels, 25, 0))
    for one in folds.estimators_:
        one.n_units = n_units
    np.testing.assert_array_equal(folds.predict(levels), [-1, 1, 1, 1])
    np.testing.assert_array_equal(folds.decision_function(levels) < 0, [True] + 3 * [False])


def test_a_difference_above_rounding_decides():
    calibrated = ConformalDetector(LastBits().fit(None), false_alarm_rate=0.3)
    calibrated.fit(np.repeat([[1.0], [2.0]], 25, 0))
    np.testing.assert_array_equal(calibrated.predict([[1.0], [0.9999]]), [1, -1])
    assert calibrated.decision_function([[0.9999]])[0] == pytest.approx(-1e-4)


def test_rounding_goes_by_usual_scores_not_by_an_outlier():
    scores = np.append(np.arange(20.0), 1e12)
    lowest = less_rounding(scores, of=scores)
    np.testing.assert_allclose(lowest[:20], scores[:20], atol=1e-4)
    assert (np.diff(lowest) > 0).all()
    np.testing.assert_array_equal(less_rounding([-np.inf, np.inf], of=[-np.inf, 1.0, np.inf]), [
        -np.inf, np.inf,
    ])  # fmt: skip
    assert less_rounding(0.0, of=[0.0, 0.0]) == 0


def test_rows_that_differ_in_their_last_bits_have_no_distance():
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(5, 8)), 4, axis=0).astype(np.float32)
    detector = KNNDetector(normalize=False, n_neighbors=2).fit(rows)
    near = np.nextafter(rows[::4], np.inf, dtype=np.float32)
    np.testing.assert_array_equal(detector.score_samples(near), 0)
    far = rows[::4].copy()
    far[:, 0] += 1e-3
    np.testing.assert_allclose(detector.score_samples(far), -1e-3, rtol=1e-3)
    # Of 64-bit rows, far fewer digits are rounding.
    exact = KNNDetector(normalize=False, n_neighbors=2).fit(rows.astype(float))
    assert (exact.score_samples(near.astype(float)) < 0).all()


def test_values_at_the_ends_of_intervals_are_inside_but_for_rounding():
    rows = np.repeat([[1.0, -2.0], [3.0, 5.0]], 3, axis=0)
    ends = [[1 - 1e-6, -2 - 2e-6], [3 + 3e-6, 5 + 5e-6]]
    detector = ActivationIntervalDetector().fit(rows)
    np.testing.assert_array_equal(detector.score_samples(ends), 0)
    np.testing.assert_array_equal(detector.score_samples([[0.999, -2.001]]), -1)
    A = Activations({"a": rows})
    gram = GramDetector(powers=(1,)).fit(A)
    np.testing.assert_array_equal(gram.score_samples(Activations({"a": rows * (1 - 1e-7)})), 0)
    assert gram.score_samples(Activations({"a": rows * 0.99})).min() < -0.01


def test_detectors_of_other_libraries_keep_their_thresholds():
    forest = IsolationForest(random_state=0).fit(TRAIN)
    calibrated = ConformalDetector(forest, false_alarm_rate=0.2).fit(HELD_OUT)
    assert calibrated.offset_ in calibrated.calibration_scores_


@pytest.mark.parametrize("detector", DETECTORS[:5], ids=lambda detector: type(detector).__name__)
@pytest.mark.parametrize("n_wrong_states", [0, 3, 8])
def test_risk_control_judges_states_alike(detector, n_wrong_states):
    """Errors in the states of the lowest scores: none of them may come back by rounding."""
    detector = detector.fit(EXTRACTOR.transform(TRAIN), LABEL)
    scores = detector.score_samples(EXTRACTOR.transform(STATES))
    is_hard = np.isin(np.arange(16), np.argsort(scores)[:n_wrong_states])
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 16, 1000)
    A = EXTRACTOR.transform(STATES[rows])
    y = A.predictions.copy()
    is_wrong = is_hard[rows] & (rng.random(1000) < 0.5)
    y[is_wrong] = (y[is_wrong] + 1) % 3
    controlled = RiskControlledDetector(detector, alpha=0.05).fit(A, y)
    verdicts = controlled.predict(EXTRACTOR.transform(STATES))
    np.testing.assert_array_equal(of_ones(controlled.predict), verdicts)
    np.testing.assert_array_equal(of_ones(controlled.decision_function) >= 0, verdicts == 1)
    accepted = verdicts[rows] == 1
    assert controlled.coverage_ == accepted.mean()
    assert controlled.risk_ == is_wrong[accepted].mean() <= 0.05
    if n_wrong_states == 0:
        assert (verdicts == 1).all()


@pytest.mark.parametrize("n_units", [-8, -1, 0, 1, 8, 16])
def test_last_bits_decide_nothing_of_the_risk(n_units):
    levels = np.array([-3.0, -1.0, 0.0, 0.5, 7.0])[:, np.newaxis]
    A = Activations({"a": np.repeat(levels, 200, 0)}, predictions=np.zeros(1000))
    detector = LastBits().fit(None)
    y = np.zeros(1000)
    y[:400:2] = 1  # half of the two lowest levels
    controlled = RiskControlledDetector(FirstUnit(detector)).fit(A, y)
    assert (controlled.coverage_, controlled.risk_) == (0.6, 0)
    detector.n_units = n_units
    np.testing.assert_array_equal(controlled.predict(Activations({"a": levels})), [-1, -1, 1, 1, 1])
    detector.n_units = 0
    all_right = RiskControlledDetector(FirstUnit(detector)).fit(A, np.zeros(1000))
    detector.n_units = n_units
    np.testing.assert_array_equal(all_right.predict(Activations({"a": levels})), 1)


def test_levels_are_no_wider_than_rounding():
    dense = 1 + np.arange(1000) * 1e-6  # a chain of neighbours, each within rounding
    levels = Levels.of(np.append(np.linspace(0, 1, 1000, endpoint=False), dense))
    assert 200 < np.sum(levels.lowest >= 1) < 400
    assert np.ptp(dense[levels.values_of(dense) == 1]) < 4e-6
    of_dense = levels.lowest[levels.lowest >= 1]
    np.testing.assert_array_equal(np.unique(levels.values_of(dense)), of_dense)
    assert (np.abs(levels.values_of(dense) - dense) < 4e-6).all()
    apart = Levels.of([-np.inf, 1.0, 1 + 1e-7, 2.0, np.inf])
    np.testing.assert_array_equal(apart.lowest, [-np.inf, 1, 2, np.inf])
    scores = [-np.inf, -5.0, 1 - 1e-6, 1 + 2e-6, 1.5, 2 - 1e-6, 2 + 1e-6, 9.0, np.inf]
    np.testing.assert_array_equal(
        apart.values_of(scores), [-np.inf, -5, 1, 1, 1.5, 2, 2, 9, np.inf]
    )
    np.testing.assert_array_equal(Levels.of([np.inf, -np.inf]).values_of([0.0]), [0])
    np.testing.assert_array_equal(Levels.of([0.0, 0.0]).values_of([0.0, 1e-300]), [0, 1e-300])
    ties = Levels.of_ties([1.0, 1 + 1e-7, 2.0])
    np.testing.assert_array_equal(ties.values_of([1 + 2e-7, 2 + 1e-7]), [1, 2 + 1e-7])
    np.testing.assert_array_equal(Levels.of_ties([1.0, 2.0]).values_of([2.5]), [2.5])


@pytest.mark.parametrize("detector", DETECTORS[:4], ids=lambda detector: type(detector).__name__)
def test_streams_of_states_one_by_one_are_streams_of_batches(detector):
    detector = detector.fit(EXTRACTOR.transform(TRAIN), LABEL)
    A = EXTRACTOR.transform(HELD_OUT)
    calibrated = ConformalDetector(detector, false_alarm_rate=0.2).fit(A)
    rows = np.random.default_rng(1).integers(0, 16, 1000)
    in_batches = DriftMonitor(calibrated).update(EXTRACTOR.transform(STATES[rows]))
    one_by_one = DriftMonitor(calibrated)
    for row in rows:
        one_by_one.update(ONE_BY_ONE[row])
    assert not one_by_one.alarm_
    for name, column in in_batches.history_.items():
        np.testing.assert_array_equal(one_by_one.history_[name], column)


def test_drift_tests_take_last_bits_for_equal():
    detector = LastBits().fit(None)
    levels = np.repeat([[-3.0], [1.0], [7.0]], 50, 0)
    calibrated = ConformalDetector(detector).fit(levels)
    detector.n_units = 4
    assert drift_test(calibrated, levels[::2]) == (0, 1)


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e5, 1e6])
def test_scores_with_a_large_constant_are_told_apart(offset):
    rng = np.random.default_rng(0)
    held_out, new = rng.normal(size=1000), rng.normal(size=4000)
    plain = conformal_p_values(held_out, new)
    shifted = conformal_p_values(held_out + offset, new + offset)
    np.testing.assert_allclose(shifted, plain, atol=0.01)
    threshold = conformal_threshold(held_out + offset, 0.05)
    assert lowest_accepted(held_out + offset, threshold) == pytest.approx(threshold, abs=0.002)
