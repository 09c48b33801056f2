"""The monitor in one line, on a real network and real data."""

import numpy as np
import pytest
from sklearn.base import is_outlier_detector
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from skood import make_monitor
from skood.datasets import load_digits_ood, make_noise


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits_ood(return_X_y=True)
    X = X.reshape(len(X), -1)
    # The file is ordered by writer, and other writers are another distribution.
    inside = np.random.default_rng(0).permutation(np.flatnonzero(y != -1))
    network = MLPClassifier((64, 32), random_state=0, max_iter=400)
    return network.fit(X[inside[:900]], y[inside[:900]]), X, y, inside


def test_monitor_needs_no_ood_data_and_finds_them(digits):
    network, X, y, inside = digits
    monitor = make_monitor(network).fit(X[inside[:900]])
    assert is_outlier_detector(monitor)
    unseen = X[inside[900:]]
    noise = make_noise("uniform", (200, 64), random_state=0)
    for outside in (X[y == -1], noise):
        scores = np.r_[monitor.score_samples(unseen), monitor.score_samples(outside)]
        assert roc_auc_score(np.arange(len(scores)) < len(unseen), scores) > 0.85
    assert (monitor.predict(unseen) == -1).mean() < 0.15


def test_false_alarm_rate_is_kept(digits):
    network, X, _, inside = digits
    fit, unseen = X[inside[:900]], X[inside[900:]]
    rejected = [
        (make_monitor(network, false_alarm_rate=share).fit(fit).predict(unseen) == -1).mean()
        for share in (0.02, 0.2)
    ]
    assert rejected[0] < 0.12 < rejected[1] < 0.4


def test_one_sample_is_scored_as_among_others(digits):
    network, X, _, inside = digits
    monitor = make_monitor(network).fit(X[inside[:900]])
    together = monitor.score_samples(X[:5])
    alone = [monitor.score_samples(X[[i]])[0] for i in range(5)]
    np.testing.assert_allclose(alone, together, rtol=1e-3)
