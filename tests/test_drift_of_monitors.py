"""A drift monitor over a monitor of a network, after ``calibrate``."""

import numpy as np
import pytest
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
    with pytest.warns(UserWarning, match="classified correctly"):
        DriftMonitor(errors).update(X[NEW])
    assert not DriftMonitor(ConformalDetector(errors).fit(X[HELD_OUT])).update(X[NEW]).alarm_
