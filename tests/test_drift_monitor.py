"""Drift monitors: alarms of streams, saved states, what is refused."""

import copy
import json
import pickle

import numpy as np
import pytest
from _calibrated import Calibrated
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError

from skood import Activations
from skood.calibration import ConformalDetector
from skood.detectors import KNNDetector
from skood.ensemble import LayerEnsembleDetector
from skood.monitoring import DriftMonitor, DriftTestResult, drift_test

RNG = np.random.default_rng(0)
CALIBRATION = np.round(RNG.normal(size=200), 1)  # with equal scores


def stream(n_rows=300, shift=0.0, seed=1):
    return np.round(np.random.default_rng(seed).normal(size=(n_rows, 1)), 1) + shift


def monitor(**params):
    return DriftMonitor(Calibrated(CALIBRATION), **params)


def seen(drift):
    """All that a monitor says of its stream."""
    facts = (
        "alarm_",
        "alarm_time_",
        "alarm_cause_",
        "n_samples_seen_",
        "statistic_",
        "martingale_",
        "alarm_rate_",
        "rate_lower_bound_",
        "rate_limit_",
    )
    history = {name: column.tolist() for name, column in drift.history_.items()}
    return {name: getattr(drift, name) for name in facts} | history


def test_a_monitor_that_has_seen_nothing():
    drift = monitor()
    assert (drift.alarm_, drift.alarm_time_, drift.alarm_cause_) == (False, None, None)
    assert (drift.n_samples_seen_, drift.statistic_, drift.martingale_) == (0, 0, 1)
    assert drift.rate_lower_bound_ == 0
    assert np.isnan(drift.alarm_rate_)
    assert all(len(column) == 0 for column in drift.history_.values())


def test_nothing_rings_where_nothing_changes():
    drift = monitor(alpha=0.01)
    assert drift.update(stream(5000)) is drift
    assert not drift.alarm_
    assert drift.n_samples_seen_ == 5000
    assert drift.statistic_ < 1
    assert drift.rate_lower_bound_ < drift.rate_limit_


@pytest.mark.parametrize(
    ("change", "n_rows"),
    [
        (lambda x: x - 2, 25),
        (lambda x: x - 1, 80),
        (lambda x: x + 1, 80),
        (lambda x: 3 * x, 60),
        (lambda x: x / 4, 60),
    ],
    ids=["far lower", "lower", "higher", "spread", "drawn together"],
)
@pytest.mark.parametrize("before", [0, 1000])
def test_changes_ring_soon(change, n_rows, before):
    drift = monitor().update(stream(before + 1)[:-1] if before else stream(1)[:0])
    assert not drift.alarm_
    drift.update(change(stream(300, seed=2)))
    assert before < drift.alarm_time_ <= before + n_rows


def test_more_alarms_than_promised_ring_by_their_rate():
    # Where the calibration rows are few, the scores of a stream tell little of their own.
    drift = DriftMonitor(Calibrated(np.arange(2000.0)), alpha=0.01)
    drift.update(np.full((40, 1), -1.0))
    assert drift.alarm_
    assert drift.alarm_rate_ == 1
    assert drift.rate_lower_bound_ > 0.5
    history = drift.history_
    assert (np.diff(history["rate_lower_bound"]) >= 0).all()
    by_rate = history["row"][history["rate_lower_bound"] >= drift.rate_limit_][0]
    by_scores = history["row"][history["martingale"] >= drift.martingale_limit_][0]
    assert drift.alarm_time_ == min(by_rate, by_scores)
    assert drift.alarm_cause_ == ("scores" if by_scores <= by_rate else "alarm rate")


def test_nothing_is_rejected_where_most_scores_equal_the_threshold():
    # The smallest calibration score is the threshold, and nothing is below it.
    drift = DriftMonitor(Calibrated(np.repeat([0.0, 1.0], [800, 1200])), alpha=0.01)
    drift.update(np.zeros((500, 1)))
    assert (drift.alarm_rate_, drift.rate_lower_bound_) == (0, 0)
    assert drift.alarm_cause_ == "scores"


def test_limits():
    drift = DriftMonitor(Calibrated(np.arange(199.0)), alpha=0.04)
    assert drift.martingale_limit_ == pytest.approx(50)
    assert drift.rate_limit_ == pytest.approx(stats.beta.ppf(0.99, 10, 190))
    careful = DriftMonitor(Calibrated(np.arange(199.0), guarantee="training-conditional"))
    assert 0.05 <= careful.rate_limit_ < drift.rate_limit_
    # Of 10 rows none is rejected at 5 %: the limit is the promise.
    assert DriftMonitor(Calibrated(np.arange(10.0))).rate_limit_ == 0.05


def test_once_it_has_rung_it_stays_until_it_is_reset():
    drift = monitor().update(stream(200, shift=-3))
    time, cause = drift.alarm_time_, drift.alarm_cause_
    assert time < 20
    drift.update(stream(3000))
    assert (drift.alarm_, drift.alarm_time_, drift.alarm_cause_) == (True, time, cause)
    assert drift.reset() is drift
    assert seen(drift) == seen(monitor()) | {"alarm_rate_": pytest.approx(np.nan, nan_ok=True)}
    assert seen(drift.update(stream(50))) == seen(monitor().update(stream(50)))


def test_history_holds_the_last_rows():
    drift = monitor(n_history=40).update(stream(100))
    history = drift.history_
    assert history["row"].tolist() == list(range(61, 101))
    np.testing.assert_array_equal(
        history["is_alarm"], drift.detector.decision_function(stream(100)[60:]) < 0
    )
    all_alarms = drift.detector.decision_function(stream(100)) < 0
    np.testing.assert_allclose(
        history["alarm_rate"], (np.cumsum(all_alarms) / np.arange(1, 101))[60:]
    )
    assert history["martingale"][-1] == drift.martingale_
    assert history["rate_lower_bound"][-1] == drift.rate_lower_bound_
    assert ((history["p_value"] > 0) & (history["p_value"] <= 1)).all()
    assert len(monitor(n_history=0).update(stream(5)).history_["row"]) == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=6), st.integers(0, 120))
def test_any_batches_give_the_same(cuts, saved_after):
    rows = stream(120, shift=-0.4)
    whole = monitor(n_history=100).update(rows)
    parts = monitor(n_history=100)
    for batch in np.split(rows, sorted(cuts)):
        parts.update(batch)
    assert seen(parts) == seen(whole)
    single = monitor(n_history=100)
    for row in rows:
        single.update(row)  # of one dimension
    assert seen(single) == seen(whole)


@pytest.mark.parametrize("n_rows", [0, 1, 150])
def test_a_saved_stream_goes_on_as_if_it_had_not_stopped(tmp_path, n_rows):
    path = tmp_path / "new" / "drift.json"
    rows = stream(400, shift=-0.2)
    drift = monitor(alpha=0.03, n_history=77, random_state=5).update(rows[:n_rows])
    drift.save(path)
    drift.save(str(path))  # over it
    loaded = DriftMonitor.load(path, Calibrated(CALIBRATION))
    assert (loaded.alpha, loaded.n_history, loaded.random_state) == (0.03, 77, 5)
    for again in (drift, loaded):
        again.update(rows[n_rows:])
    assert seen(loaded) == seen(drift)
    assert [file.name for file in path.parent.iterdir()] == ["drift.json"]
    loaded.reset().update(rows)
    assert seen(loaded) == seen(drift.reset().update(rows))


def test_a_drawn_seed_is_saved(tmp_path):
    drift = monitor(random_state=None).update(stream(100))
    other = monitor(random_state=None).update(stream(100))
    assert (drift.history_["p_value"] != other.history_["p_value"]).all()
    drift.save(tmp_path / "a")
    loaded = DriftMonitor.load(tmp_path / "a", drift.detector)
    assert loaded.random_state is None
    assert seen(loaded.update(stream(50))) == seen(drift.update(stream(50)))


def test_pickles_and_clones():
    drift = monitor().update(stream(100))
    assert seen(pickle.loads(pickle.dumps(drift))) == seen(drift)
    another = clone(drift)
    assert another.detector is drift.detector
    assert another.n_samples_seen_ == 0
    assert another.get_params(deep=False) == drift.get_params(deep=False)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "drift.json"
    monitor().update(stream(30, shift=-3)).save(path)
    return path


def test_files_that_are_cut_short_are_refused(saved):
    text = saved.read_text()
    for end in range(0, len(text), 97):
        saved.write_text(text[:end])
        with pytest.raises(ValueError, match="incomplete"):
            DriftMonitor.load(saved, Calibrated(CALIBRATION))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04K\x01.", "not a drift monitor"),
        (b"[1, 2]", "not a drift monitor"),
        (b'{"format": "skood.Activations", "version": 2}', "not a drift monitor"),
        (b'{"format": "skood.DriftMonitor", "version": 99, "skood": "9.0"}', "skood 9.0"),
        (b'{"format": "skood.DriftMonitor", "version": 1}', "incomplete"),
    ],
)
def test_foreign_and_later_files_are_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        DriftMonitor.load(tmp_path / "file", Calibrated(CALIBRATION))
    with pytest.raises(FileNotFoundError):
        DriftMonitor.load(tmp_path / "none", Calibrated(CALIBRATION))


def leaves(content, path=()):
    """Paths to all entries of dicts."""
    for key, value in content.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def test_states_that_lack_a_part_or_hold_another_are_refused(saved):
    content = json.loads(saved.read_text())
    places = [place for place in leaves(content) if place != ("skood",)]
    assert len(places) > 20
    for place in places:
        for change in ("delete", "text", "list"):
            changed = copy.deepcopy(content)
            *folders, last = place
            holder = changed
            for folder in folders:
                holder = holder[folder]
            if change == "delete":
                del holder[last]
            else:
                holder[last] = "other" if change == "text" else [[1, "x"]]
            if change == "delete" and place[0] == "parameters" and last != "seed":
                continue  # the default
            if last == "n_calibration_samples":
                continue  # said in a message alone
            saved.write_text(json.dumps(changed))
            with pytest.raises(ValueError, match=r"drift\.json"):
                DriftMonitor.load(saved, Calibrated(CALIBRATION))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_samples", 29),
        ("n_alarms", 31),
        ("alarm_time", 31),
        ("alarm_time", None),
        ("cause", None),
        ("n_samples", True),
        ("strengths", [1.0]),
        ("history", [[0.5, True, float("nan"), 1, 0.0]]),
        ("history", [[0.5, True, 1.0, 1, 0.0]] * 31),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(saved, name, value):
    content = json.loads(saved.read_text())
    content["state"][name] = value
    saved.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"drift\.json"):
        DriftMonitor.load(saved, Calibrated(CALIBRATION))


def test_the_detector_of_a_saved_stream_has_to_be_the_same(saved):
    for other in (
        Calibrated(CALIBRATION[:-1]),
        Calibrated(CALIBRATION + 0.1),
        Calibrated(CALIBRATION, false_alarm_rate=0.1),
        Calibrated(CALIBRATION, guarantee="training-conditional"),
    ):
        with pytest.raises(ValueError, match="calibrated otherwise, on 200 rows"):
            DriftMonitor.load(saved, other)
    # The order of the calibration rows is none of the calibration.
    DriftMonitor.load(saved, Calibrated(CALIBRATION[::-1]))


def test_a_save_that_fails_leaves_the_file_as_it_was(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        monitor().save(saved)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["drift.json"]


def test_scores_that_are_nan_change_nothing():
    drift = monitor().update(stream(20))
    before = seen(drift)
    rows = stream(5)
    rows[3] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        drift.update(rows)
    assert seen(drift) == before


class Plain:
    def score_samples(self, X):
        return np.zeros(len(X))


class Uncalibrated(Plain):
    def calibrate(self, X):
        return self


class Unfitted(Plain):
    def p_values(self, X):
        raise NotFittedError


class CalibratedMonitor(Calibrated):
    """As a monitor after ``calibrate``: the calibration is an attribute of it."""

    def __init__(self, calibration, target="ood"):
        self.calibration_, self.target = calibration, target


def test_the_calibration_of_a_monitor_is_found():
    rows = stream(100, shift=-0.2)
    drift = DriftMonitor(CalibratedMonitor(Calibrated(CALIBRATION))).update(rows)
    assert seen(drift) == seen(monitor().update(rows))
    drift.detector.calibration_ = Calibrated(CALIBRATION + 1)
    with pytest.raises(ValueError, match="calibrated anew"):
        drift.update(rows)


class Part:
    """As a ConformalDetector of one of the detectors of a monitor."""

    detector = Calibrated(CALIBRATION)


class Folds(Calibrated):
    estimators_ = (1, 2)


@pytest.mark.parametrize(
    ("detector", "error", "message"),
    [
        (Plain(), TypeError, r"Plain.*Monitor\.calibrate.*ConformalDetector"),
        (Uncalibrated(), NotFittedError, r"not calibrated.*Monitor\.calibrate"),
        (Unfitted(), NotFittedError, "no calibration scores"),
        (Folds(CALIBRATION), ValueError, "several detectors.*cv='prefit'"),
        (
            CalibratedMonitor({"a": Part(), "b": Part()}),
            ValueError,
            r"several detectors, \['a', 'b'\], of which 2 .*ConformalDetector\(monitor\)",
        ),
        (Calibrated([0.0, np.nan]), ValueError, "NaN"),
        (Calibrated([]), ValueError, "calibration scores"),
    ],
)
def test_what_is_not_calibrated_is_refused(detector, error, message):
    for use in (
        lambda: DriftMonitor(detector).update([[0.0]]),
        lambda: drift_test(detector, [[0.0]]),
    ):
        with pytest.raises(error, match=message):
            use()


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 0},
        {"alpha": 1},
        {"alpha": "0.1"},
        {"n_history": -1},
        {"n_history": 1.5},
        {"random_state": -1},
        {"random_state": np.random.RandomState(0)},
    ],
)
def test_parameters_are_checked(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        monitor(**params).update(stream(1))
    with pytest.raises(ValueError, match="detector"):
        DriftMonitor(None).update(stream(1))


def test_to_look_begins_no_stream():
    drift = monitor()
    assert not drift.alarm_
    assert drift.set_params(alpha=0.5).update(stream(1)).martingale_limit_ == 4
    empty = monitor().update(stream(1)[:0]).set_params(alpha=0.5)
    assert empty.martingale_limit_ == empty.update(stream(1)).martingale_limit_ == 4
    for detector in (Plain(), Uncalibrated(), Folds(CALIBRATION), None):
        assert not hasattr(DriftMonitor(detector), "alarm_")
    with pytest.raises(AttributeError, match=r"no stream.*Monitor\.calibrate"):
        _ = DriftMonitor(Plain()).alarm_
    assert not hasattr(monitor(alpha=2), "alarm_")


@pytest.mark.parametrize("group_by", [None, "prediction"])
def test_a_rate_that_is_set_after_calibration_is_refused(group_by):
    A = Activations({"a": RNG.normal(size=(300, 2))}, predictions=np.repeat([0, 1, 2], 100))
    detector = KNNDetector(normalize=False).fit(A[::2])
    calibrated = ConformalDetector(detector, group_by=group_by).fit(A[1::2])
    drift = DriftMonitor(calibrated).update(A[:10])
    for params in ({"false_alarm_rate": 0.5}, {"guarantee": "training-conditional"}):
        before = calibrated.get_params(deep=False)
        calibrated.set_params(**params)
        for use in (drift.update, DriftMonitor(calibrated).update):
            with pytest.raises(ValueError, match="set after it was calibrated"):
                use(A[:10])
        calibrated.set_params(**before)
    assert drift.update(A[:10]).n_samples_seen_ == 20


def test_ensembles_that_are_not_calibrated_are_told_so():
    A = Activations({name: RNG.normal(size=(80, 3)) for name in "ab"})
    for ensemble in (
        LayerEnsembleDetector(KNNDetector()),
        LayerEnsembleDetector(KNNDetector(), layers=["a"]),
        LayerEnsembleDetector(KNNDetector(), combine="vote", validation=0.3),
    ):
        with pytest.raises((NotFittedError, TypeError), match="Calibrate it with rows"):
            DriftMonitor(ensemble.fit(A)).update(A)


def test_what_the_stream_is_compared_with_stays():
    drift = monitor().update(stream(10))
    drift.set_params(alpha=0.5)
    with pytest.raises(ValueError, match=r"reset\(\)"):
        drift.update(stream(1))
    assert drift.reset().update(stream(10)).martingale_limit_ == 4
    drift.detector.calibration_scores_ = CALIBRATION.copy()
    drift.update(stream(1))
    drift.detector.calibration_scores_ = CALIBRATION + 1
    with pytest.raises(ValueError, match="calibrated anew"):
        drift.update(stream(1))
    assert drift.reset().update(stream(1)).n_samples_seen_ == 1


def test_extremes():
    # One calibration row, which tells nothing at once, but equal rows are no change of it.
    alone = DriftMonitor(Calibrated([1.0])).update(np.ones((2000, 1)))
    assert not alone.alarm_
    equal = DriftMonitor(Calibrated(np.zeros(300))).update(np.zeros((2000, 1)))
    assert not equal.alarm_
    assert equal.update(np.full((100, 1), -np.inf)).alarm_
    assert DriftMonitor(Calibrated(np.zeros(300))).update(np.full((100, 1), np.inf)).alarm_


def test_a_row_for_a_detector_of_tables_may_have_one_dimension():
    detector = Calibrated(CALIBRATION)
    drift = DriftMonitor(detector).update([0.5]).update(np.array([0.5])).update([[0.5]])
    assert drift.n_samples_seen_ == 3
    detector.n_features_in_ = 2
    with pytest.raises(AssertionError):  # of the detector, which asks for two dimensions
        DriftMonitor(detector).update([0.5])


@pytest.mark.parametrize(
    ("method", "alternative", "expected"),
    [
        ("ks", "two-sided", lambda x, c: stats.ks_2samp(x, c)),
        ("ks", "lower", lambda x, c: stats.ks_2samp(x, c, alternative="greater")),
        ("mann-whitney", "lower", lambda x, c: stats.mannwhitneyu(x, c, alternative="less")),
        ("mann-whitney", "two-sided", lambda x, c: stats.mannwhitneyu(x, c)),
    ],
)
def test_drift_test_is_that_of_scipy(method, alternative, expected):
    rows = np.round(stream(50, shift=-0.3), 1)
    found = drift_test(Calibrated(CALIBRATION), rows, method=method, alternative=alternative)
    known = expected(rows[:, 0], CALIBRATION)
    assert found == DriftTestResult(known.statistic, known.pvalue)


@pytest.mark.parametrize("method", ["ks", "mann-whitney"])
def test_sides_of_drift_test(method):
    detector = Calibrated(CALIBRATION)
    for shift, side, other in [(-1, "lower", "higher"), (1, "higher", "lower")]:
        rows = stream(80, shift=shift)
        assert drift_test(detector, rows, method=method, alternative=side).pvalue < 1e-6
        assert drift_test(detector, rows, method=method, alternative=other).pvalue > 0.5


def test_what_drift_test_refuses():
    detector = Calibrated(CALIBRATION)
    with pytest.raises(ValueError, match="any difference"):
        drift_test(detector, stream(5), method="cramer-von-mises", alternative="lower")
    with pytest.raises(ValueError, match="no rows"):
        drift_test(detector, stream(5)[:0])
    with pytest.raises(ValueError, match="method"):
        drift_test(detector, stream(5), method="t")
    with pytest.raises(ValueError, match="NaN"):
        drift_test(detector, [[np.nan]])
    with pytest.raises(ValueError, match=r"at least 2 rows.*1 are in the batch"):
        drift_test(detector, [[0.0]], method="cramer-von-mises")
    with pytest.raises(ValueError, match="1 calibrate"):
        drift_test(Calibrated([0.0]), stream(5), method="cramer-von-mises")


def test_drift_test_of_unequal_scores_by_cramer_von_mises_is_that_of_scipy():
    calibration, rows = np.random.default_rng(0).normal(size=(2, 80))
    found = drift_test(Calibrated(calibration), rows[:, np.newaxis], method="cramer-von-mises")
    known = stats.cramervonmises_2samp(rows, calibration)
    assert found == pytest.approx((known.statistic, known.pvalue), rel=1e-9)


@pytest.mark.parametrize("n_values", [2, 5, 30])
@pytest.mark.parametrize("method", ["ks", "mann-whitney", "cramer-von-mises"])
def test_p_values_of_discrete_scores_are_none_too_small(method, n_values):
    rng = np.random.default_rng(0)
    p_values = [
        drift_test(
            Calibrated(rng.integers(0, n_values, 100)),
            rng.integers(0, n_values, (40, 1)),
            method=method,
        ).pvalue
        for _ in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.1) <= 0.165  # 20 of 200, and three standard deviations


@pytest.mark.parametrize("method", ["ks", "mann-whitney", "cramer-von-mises"])
def test_drift_test_of_equal_scores_finds_nothing(method):
    result = drift_test(Calibrated([1.0] * 30), np.full((10, 1), 1 + 1e-7), method=method)
    assert result.pvalue > 0.01


def test_a_threshold_for_each_class():
    """Scores are compared with those of all rows, alarms are those of the class."""
    classes = np.repeat([0, 1], [150, 50])
    A = Activations(
        {"fc": np.random.default_rng(0).normal(size=(200, 2)) + 3 * classes[:, np.newaxis]},
        predictions=classes,
    )
    detector = KNNDetector(normalize=False).fit(A)
    calibrated = ConformalDetector(detector, false_alarm_rate=0.1, group_by="prediction").fit(A)
    drift = DriftMonitor(calibrated, alpha=0.04).update(A[:100]).update(A[150:])
    np.testing.assert_array_equal(
        drift.history_["is_alarm"],
        np.concatenate([calibrated.predict(A[:100]), calibrated.predict(A[150:])]) == -1,
    )
    assert drift.rate_limit_ == pytest.approx(
        max(stats.beta.ppf(0.995, 15, 136), stats.beta.ppf(0.995, 5, 46))
    )


def test_over_folds_there_is_no_one_reference():
    X = RNG.normal(size=(60, 2))
    folds = ConformalDetector(KNNDetector(n_neighbors=5), cv=3, random_state=0).fit(X)
    with pytest.raises(ValueError, match="several detectors"):
        DriftMonitor(folds).update(X)
    share = ConformalDetector(KNNDetector(n_neighbors=5), cv=0.5, random_state=0).fit(X)
    assert DriftMonitor(share).update(X).n_samples_seen_ == 60


def test_a_detector_in_a_pipeline_or_of_scikit_learn():
    X = RNG.normal(size=(400, 3))
    forest = IsolationForest(random_state=0).fit(X[:200])
    calibrated = ConformalDetector(forest).fit(X[200:])
    drift = DriftMonitor(calibrated).update(RNG.normal(size=(200, 3)))
    assert not drift.alarm_
    assert drift.update(X[0]).n_samples_seen_ == 201
    assert drift.update(RNG.normal(size=(100, 3)) + 4).alarm_
    with pytest.raises(NotFittedError, match="ConformalDetector"):
        DriftMonitor(ConformalDetector(forest)).update(X)


class Lengths(Calibrated):
    """Scores texts by their length."""

    def score_samples(self, X):
        assert isinstance(X, list)
        return np.array([len(text) for text in X], dtype=float)


def test_a_text_is_one_row():
    texts = ["a", "some words", "more"]
    by_text = DriftMonitor(Lengths(CALIBRATION))
    for text in texts:
        by_text.update(text)
    assert by_text.n_samples_seen_ == 3
    assert seen(by_text) == seen(DriftMonitor(Lengths(CALIBRATION)).update(texts))
