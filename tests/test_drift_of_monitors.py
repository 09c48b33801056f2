"""A drift monitor over a monitor of a network, after ``calibrate``."""

import pickle

import numpy as np
import pytest
from scipy.stats import beta, binom
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier

from skood import ActivationExtractor, Activations, make_monitor
from skood.calibration import ConformalDetector
from skood.monitoring import DriftMonitor, drift_test

X, Y = load_digits(return_X_y=True)
X, ORDER = X / 16, np.random.default_rng(0).permutation(len(X))
TRAIN, HELD_OUT, NEW = np.split(ORDER, [700, 1200])
NET = MLPClassifier((64, 32), max_iter=1000, random_state=0).fit(X[TRAIN], Y[TRAIN])


def fitted(**params):
    return make_monitor(NET, **params).fit(X[TRAIN], Y[TRAIN])


def test_it_watches_by_the_rows_that_calibrate():
    monitor = fitted()
    with pytest.raises(NotFittedError, match="calibrate"):
        DriftMonitor(monitor).update(X[NEW])
    monitor.calibrate(X[HELD_OUT])
    by_itself = DriftMonitor(monitor).update(X[NEW])
    wrapped = DriftMonitor(ConformalDetector(monitor).fit(X[HELD_OUT])).update(X[NEW])
    for name, column in wrapped.history_.items():
        np.testing.assert_array_equal(by_itself.history_[name], column)
    np.testing.assert_array_equal(by_itself.history_["is_alarm"], monitor.predict(X[NEW]) == -1)
    assert not by_itself.alarm_
    assert by_itself.update(0.6 * X[NEW]).alarm_
    assert drift_test(monitor, 0.6 * X[NEW]).pvalue < 1e-6


def test_each_class_may_have_its_threshold():
    monitor = fitted().calibrate(X[HELD_OUT], group_by="prediction", false_alarm_rate=0.1)
    drift = DriftMonitor(monitor).update(X[NEW])
    np.testing.assert_array_equal(drift.history_["is_alarm"], monitor.predict(X[NEW]) == -1)
    assert 0.1 < drift.rate_limit_ < 0.5


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_network_runs_once_where_each_class_has_its_threshold(wrapped, monkeypatch):
    monitor = fitted()
    if wrapped:
        detector = ConformalDetector(monitor, group_by="prediction").fit(X[HELD_OUT])
    else:
        detector = monitor.calibrate(X[HELD_OUT], group_by="prediction")
    expected = detector.predict(X[NEW]) == -1
    extracted, transform = [], ActivationExtractor.transform

    def counted(extractor, rows):
        extracted.append(not isinstance(rows, Activations))
        return transform(extractor, rows)

    monkeypatch.setattr(ActivationExtractor, "transform", counted)
    drift = DriftMonitor(detector).update(X[NEW])
    assert sum(extracted) == 1
    np.testing.assert_array_equal(drift.history_["is_alarm"], expected)


def test_another_calibration_is_noticed():
    monitor = fitted().calibrate(X[HELD_OUT])
    drift = DriftMonitor(monitor).update(X[NEW][:10])
    monitor.calibrate(X[HELD_OUT][:400])
    with pytest.raises(ValueError, match="calibrated anew"):
        drift.update(X[NEW])
    monitor.fit(X[TRAIN], Y[TRAIN])
    with pytest.raises(NotFittedError, match="calibrate"):
        drift.update(X[NEW])


def test_of_inputs_and_errors_inputs_are_watched():
    both = fitted(target="both").calibrate(X[HELD_OUT], Y[HELD_OUT])
    drift = DriftMonitor(both).update(X[NEW])
    np.testing.assert_array_equal(
        drift.history_["is_alarm"], both.predict_each(X[NEW])["ood"] == -1
    )
    assert not drift.alarm_
    of_inputs = DriftMonitor(fitted().calibrate(X[HELD_OUT])).update(X[NEW])
    np.testing.assert_allclose(drift.history_["p_value"], of_inputs.history_["p_value"])
    both.calibrate(X[HELD_OUT], Y[HELD_OUT], group_by="prediction", false_alarm_rate=0.1)
    with pytest.raises(ValueError, match="calibrated anew"):
        drift.update(X[NEW])
    drift.reset().update(X[NEW])
    np.testing.assert_array_equal(
        drift.history_["is_alarm"], both.predict_each(X[NEW])["ood"] == -1
    )


def test_monitors_of_errors():
    errors = fitted(target="misclassified").calibrate(X[HELD_OUT], Y[HELD_OUT])
    drift = DriftMonitor(errors).update(X[NEW])
    assert not drift.alarm_
    np.testing.assert_array_equal(drift.history_["is_alarm"], errors.predict(X[NEW]) == -1)
    # All rows count, so that the evidence is that of a calibration without labels.
    of_all = DriftMonitor(ConformalDetector(errors).fit(X[HELD_OUT])).update(X[NEW])
    np.testing.assert_array_equal(drift.history_["p_value"], of_all.history_["p_value"])
    assert drift_test(errors, X[NEW]) == drift_test(of_all.detector, X[NEW])
    assert drift_test(errors, X[HELD_OUT]).pvalue > 0.999


def three_classes(n, rng):
    """Classes that overlap, of which a network gets about one row in six wrong."""
    labels = rng.integers(3, size=n)
    return np.eye(3)[labels] * 2 + rng.normal(size=(n, 3)), labels


@pytest.fixture(scope="module")
def of_errors():
    """A monitor of errors, and activations and labels of many rows that it has not seen."""
    rng = np.random.default_rng(0)
    rows, labels = three_classes(1000, rng)
    net = MLPClassifier((8,), max_iter=300, random_state=0).fit(rows, labels)
    rows, labels = three_classes(500, rng)
    errors = make_monitor(net, target="misclassified").fit(rows, labels)
    rows, labels = three_classes(8000, rng)
    assert 0.7 < net.score(rows, labels) < 0.9
    return errors, errors[:-1].transform(rows), labels


@pytest.mark.parametrize("group_by", [None, "prediction"])
def test_monitors_of_errors_keep_their_bound_where_nothing_changes(of_errors, group_by):
    errors, A, labels = of_errors
    rng, alpha, n_streams = np.random.default_rng(1), 0.2, 200
    n_rung = n_wrong_limits = 0
    for _ in range(n_streams):
        held_out, new = np.split(rng.choice(len(A), 700, replace=False), [300])
        errors.calibrate(A[held_out], labels[held_out], group_by=group_by, false_alarm_rate=0.1)
        drift = DriftMonitor(errors, alpha=alpha, n_history=0).update(A[new])
        n_rung += drift.alarm_
        n_wrong_limits += np.mean(errors.predict(A) == -1) > drift.rate_limit_
    assert n_rung <= binom.ppf(0.999, n_streams, alpha)
    assert n_wrong_limits <= binom.ppf(0.999, n_streams, alpha / 4)


def test_monitors_of_errors_notice_what_changes(of_errors):
    errors, A, labels = of_errors
    errors.calibrate(A[:1000], labels[:1000])
    drift = DriftMonitor(errors).update(A[1000:3000])
    assert not drift.alarm_
    assert errors.offset_ == errors.calibration_.offset_
    # More of what is classified wrongly, as it comes.
    wrong = np.flatnonzero(np.asarray(A.predictions) != labels)
    assert DriftMonitor(errors).update(A[wrong[:300]]).alarm_


def test_the_limit_of_a_monitor_of_errors_is_one_of_all_rows(of_errors):
    errors, A, labels = of_errors
    errors.calibrate(A[:1000], labels[:1000])
    wrong = np.asarray(A.predictions)[:1000] != labels[:1000]
    n_wrong = int(wrong.sum())
    n_rejected = int((errors.predict(A[:1000]) == -1)[wrong].sum())
    n, level = 1000 - n_wrong, 0.01 / 12
    k = int(0.05 * (n + 1))
    of_right = beta.ppf(1 - level, k, n + 1 - k)
    of_wrong = beta.ppf(1 - level, n_rejected + 1, n_wrong - n_rejected)
    share = beta.ppf(1 - level, n_wrong + 1, n)
    expected = (1 - share) * of_right + share * of_wrong
    assert DriftMonitor(errors).update(A[1000:1010]).rate_limit_ == pytest.approx(expected)


def test_a_stream_of_errors_goes_on_after_a_save(of_errors, tmp_path):
    errors, A, labels = of_errors
    errors.calibrate(A[:500], labels[:500])
    drift = DriftMonitor(errors).update(A[1000:1200])
    drift.save(tmp_path / "stream.json")
    loaded = DriftMonitor.load(tmp_path / "stream.json", pickle.loads(pickle.dumps(errors)))
    drift.update(A[1200:1300])
    assert loaded.update(A[1200:1300]).statistic_ == drift.statistic_
    errors.calibrate(A[:500], np.where(np.arange(500) < 50, -1, labels[:500]))
    with pytest.raises(ValueError, match="calibrated otherwise"):
        DriftMonitor.load(tmp_path / "stream.json", errors)


def test_without_errors_their_share_is_still_bounded(of_errors):
    errors, A, labels = of_errors
    right = np.flatnonzero(np.asarray(A.predictions) == labels)[:400]
    limit = DriftMonitor(errors.calibrate(A[right], labels[right])).update(A[right[:1]]).rate_limit_
    share = 1 - (0.01 / 12) ** (1 / 400)
    of_right = beta.ppf(1 - 0.01 / 12, 20, 381)
    assert limit == pytest.approx((1 - share) * of_right + share)
    errors.calibrate(A[right], labels[right], group_by="prediction")
    predicted = np.asarray(A.predictions)[right]
    limits, level = [], 0.01 / 36
    for n in np.unique(predicted, return_counts=True)[1]:
        share, k = 1 - level ** (1 / n), int(0.05 * (n + 1))
        limits.append((1 - share) * beta.ppf(1 - level, k, n + 1 - k) + share)
    limit = DriftMonitor(errors).update(A[right[:1]]).rate_limit_
    assert limit == pytest.approx(max(limits))
