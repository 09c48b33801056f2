"""Rates of false alarms that a monitor promises, and those that it only estimates."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skood import (
    ActivationExtractor,
    HammingNAPDetector,
    Monitor,
    PercentileBinarizer,
    make_monitor,
)
from skood.calibration import ConformalDetector, RiskControlledDetector, UncalibratedWarning
from skood.datasets import load_digits_ood
from skood.detectors import EnergyDetector, KNNDetector, MahalanobisDetector, MaxSoftmaxDetector
from skood.ensemble import (
    AdaptiveEnsembleDetector,
    AnyAlarmDetector,
    AutoNAPDetector,
    LayerEnsembleDetector,
)
from skood.inspection import explain
from skood.model_selection import DetectorSearchCV, OODKFold
from skood.preprocessing import LayerSelector

X, Y = load_digits_ood(return_X_y=True)
X = X.reshape(len(X), -1)
INSIDE = np.random.default_rng(0).permutation(np.flatnonzero(Y != -1))
TRAIN, HELD_OUT, NEW = INSIDE[:700], INSIDE[700:1000], INSIDE[1000:]
OUTSIDE = np.flatnonzero(Y == -1)
NET = MLPClassifier((64, 32), random_state=0, max_iter=400).fit(X[TRAIN], Y[TRAIN])


def monitor_of(detector, **params):
    steps = [("extract", ActivationExtractor(NET, "penultimate")), ("detect", detector)]
    return Monitor(steps, **params)


def quantile(scores, rate):
    """The k-th smallest, with the largest k of which k / (n + 1) is not above the rate."""
    ranks = np.arange(1, len(scores) + 1)
    return np.sort(scores)[ranks[ranks / (len(scores) + 1) <= rate][-1] - 1]


def p_values(calibration, scores):
    counts = (np.asarray(calibration) <= np.asarray(scores)[:, np.newaxis]).sum(axis=1)
    return (1 + counts) / (len(calibration) + 1)


@pytest.fixture(scope="module")
def fitted():
    return pickle.dumps(make_monitor(NET).fit(X[TRAIN], Y[TRAIN]))


@pytest.fixture(scope="module")
def fitted_for_both():
    return pickle.dumps(make_monitor(NET, target="both").fit(X[TRAIN], Y[TRAIN]))


def test_everything_goes_by_the_rows_that_are_held_out(fitted):
    monitor = pickle.loads(fitted)
    before = monitor.score_samples(X[NEW])
    scores = monitor.score_samples(X[HELD_OUT])
    estimate = monitor.offset_
    assert monitor.calibrate(X[HELD_OUT]) is monitor
    assert monitor.offset_ == quantile(scores, 0.05) != estimate
    np.testing.assert_array_equal(monitor.score_samples(X[NEW]), before)
    np.testing.assert_array_equal(monitor.decision_function(X[NEW]), before - monitor.offset_)
    np.testing.assert_array_equal(
        monitor.predict(X[NEW]), np.where(before < monitor.offset_, -1, 1)
    )
    p = p_values(scores, before)
    found = monitor.p_values(X[NEW])
    np.testing.assert_allclose(found, p, atol=1.01 / (len(scores) + 1))
    assert np.isclose(found, p).mean() > 0.99  # but for one that is equal in single precision
    batch = np.r_[NEW, OUTSIDE]
    p = p_values(scores, monitor.score_samples(X[batch]))
    for method in ("bh", "by"):
        expected = false_discovery_control(p, method=method) <= 0.2
        found = monitor.select(X[batch], 0.2, method=method)
        np.testing.assert_array_equal(found, expected)
    assert monitor.select(X[batch], fdr=0.2).any()
    # The detector itself is as it was.
    assert monitor["detect"].offset_ == estimate


def test_rate_and_guarantee_are_those_that_are_asked_for(fitted):
    monitor = pickle.loads(fitted)
    scores = monitor.score_samples(X[HELD_OUT])
    monitor.calibrate(X[HELD_OUT], false_alarm_rate=0.2)
    assert monitor.offset_ == quantile(scores, 0.2)
    # The later one counts.
    monitor.calibrate(X[HELD_OUT], guarantee="training-conditional", confidence=0.9)
    assert monitor.offset_ < quantile(scores, 0.05)
    assert monitor.calibration_.confidence == 0.9
    with pytest.raises(ValueError, match="guarantee"):
        monitor.calibrate(X[HELD_OUT], guarantee="sure")
    assert monitor.calibration_.confidence == 0.9
    mine = monitor_of(KNNDetector(false_alarm_rate=0.1)).fit(X[TRAIN])
    assert mine.calibrate(X[HELD_OUT]).calibration_.false_alarm_rate == 0.1
    forest = monitor_of(IsolationForest(contamination=0.2, random_state=0)).fit(X[TRAIN])
    assert forest.calibrate(X[HELD_OUT]).calibration_.false_alarm_rate == 0.2
    svm = monitor_of(OneClassSVM()).fit(X[TRAIN])
    assert svm.calibrate(X[HELD_OUT]).calibration_.false_alarm_rate == 0.05
    assert (svm.predict(X[HELD_OUT]) == -1).sum() == 14  # below the 15th of 300


def test_rates_hold_for_new_rows_where_the_estimate_does_not():
    rng = np.random.default_rng(0)
    monitor = monitor_of(MaxSoftmaxDetector()).fit(X[TRAIN])
    A = monitor[:-1].transform(X[np.r_[HELD_OUT, NEW]])
    estimated = (monitor.predict(A) == -1).mean()
    rates = []
    for _ in range(50):
        order = rng.permutation(len(A))
        monitor.calibrate(A[order[:200]])
        rates.append((monitor.predict(A[order[200:]]) == -1).mean())
    assert estimated > 0.1
    # 10 of 201 ranks are rejected.
    assert np.mean(rates) == pytest.approx(10 / 201, abs=0.01)


def test_each_predicted_class_may_have_its_own_threshold(fitted):
    monitor = pickle.loads(fitted)
    scores, classes = monitor.score_samples(X[HELD_OUT]), NET.predict(X[HELD_OUT])
    monitor.calibrate(X[HELD_OUT], false_alarm_rate=0.1, group_by="prediction")
    assert monitor.offsets_ == pytest.approx(
        {c: quantile(scores[classes == c], 0.1) for c in np.unique(classes)}
    )
    with pytest.raises(AttributeError, match=r"each predicted class .* see offsets_"):
        _ = monitor.offset_
    offsets = np.array([monitor.offsets_[c] for c in NET.predict(X[NEW])])
    expected = np.where(monitor.score_samples(X[NEW]) < offsets, -1, 1)
    np.testing.assert_array_equal(monitor.predict(X[NEW]), expected)
    assert "0.1 of each predicted class, calibrated by 300 held-out rows" in repr(monitor)


def test_marked_rows_do_not_calibrate(fitted):
    monitor = pickle.loads(fitted)
    rows = np.r_[HELD_OUT, OUTSIDE]
    expected = quantile(monitor.score_samples(X[HELD_OUT]), 0.05)
    assert monitor.calibrate(X[rows], Y[rows]).offset_ == pytest.approx(expected)
    assert monitor.calibration_.n_calibration_samples_ == 300
    with pytest.raises(ValueError, match="All 5 samples are marked"):
        monitor.calibrate(X[OUTSIDE[:5]], np.full(5, -1))
    with pytest.raises(ValueError, match="300 samples, but y has 20"):
        monitor.calibrate(X[HELD_OUT], Y[:20])


def test_of_errors_rows_calibrate_that_are_classified_correctly():
    monitor = make_monitor(NET, target="misclassified").fit(X[TRAIN], Y[TRAIN])
    scores = monitor.score_samples(X[HELD_OUT])
    is_right = NET.predict(X[HELD_OUT]) == Y[HELD_OUT]
    assert not is_right.all()
    assert monitor.calibrate(X[HELD_OUT], Y[HELD_OUT]).offset_ == quantile(scores[is_right], 0.05)
    assert "held-out rows, marginal" in repr(monitor)
    with pytest.warns(UncalibratedWarning, match="all rows calibrate, wrong ones too"):
        monitor.calibrate(X[HELD_OUT])
    assert monitor.offset_ == quantile(scores, 0.05)
    assert "calibrated by 300 held-out rows, classified right or wrong, marginal" in repr(monitor)
    with pytest.warns(UncalibratedWarning, match="no labels say"):
        monitor.calibrate(X[HELD_OUT], np.ones(300))
    with pytest.raises(ValueError, match="needs labels among the classes of the network"):
        monitor.calibrate(X[HELD_OUT], Y[HELD_OUT] + 100)
    rows = HELD_OUT[~is_right]
    with pytest.raises(ValueError, match=r"none of the .* predictions equals its label"):
        monitor.calibrate(X[rows], Y[rows])


def test_of_both_each_detector_has_its_own_rows(fitted_for_both):
    monitor = pickle.loads(fitted_for_both)
    each = monitor.score_each(X[HELD_OUT])
    is_right = NET.predict(X[HELD_OUT]) == Y[HELD_OUT]
    monitor.calibrate(X[HELD_OUT], Y[HELD_OUT], false_alarm_rate=0.1)
    assert monitor.offsets_ == {
        "ood": quantile(each["ood"], 0.1),
        "misclassified": quantile(each["misclassified"][is_right], 0.1),
    }
    assert not hasattr(monitor, "offset_")
    with pytest.raises(AttributeError, match=r"each detector has no single offset_: see offsets_"):
        _ = monitor.offset_
    assert set(monitor.calibration_) == {"ood", "misclassified"}
    scores, verdicts = monitor.score_each(X[NEW]), monitor.predict_each(X[NEW])
    for name, offset in monitor.offsets_.items():
        np.testing.assert_array_equal(verdicts[name], np.where(scores[name] < offset, -1, 1))
    rejected = np.minimum(verdicts["ood"], verdicts["misclassified"])
    np.testing.assert_array_equal(monitor.predict(X[NEW]), rejected)
    np.testing.assert_array_equal(monitor.decision_function(X[NEW]) < 0, rejected == -1)
    p = np.minimum(
        p_values(each["ood"], scores["ood"]),
        p_values(each["misclassified"][is_right], scores["misclassified"]),
    )
    np.testing.assert_allclose(monitor.p_values(X[NEW]), np.minimum(1, 2 * p))
    expected = false_discovery_control(np.minimum(1, 2 * p)) <= 0.5
    np.testing.assert_array_equal(monitor.select(X[NEW], 0.5), expected)
    monitor.calibrate(X[HELD_OUT], Y[HELD_OUT], guarantee="training-conditional")
    np.testing.assert_array_equal(monitor.select(X[NEW], 0.5), expected)
    assert f"calibrated by 300 and {is_right.sum()} held-out rows" in repr(monitor)
    assert f"calibrated by 300 and {is_right.sum()} held-out rows" in monitor._repr_html_()


def test_both_targets_by_class(fitted_for_both):
    monitor = pickle.loads(fitted_for_both)
    monitor.calibrate(X[HELD_OUT], Y[HELD_OUT], false_alarm_rate=0.1, group_by="prediction")
    classes = set(np.unique(Y[TRAIN]).tolist())
    assert {name: set(by) for name, by in monitor.offsets_.items()} == {
        "ood": classes,
        "misclassified": classes,
    }
    np.testing.assert_array_equal(
        monitor.decision_function(X[NEW]) < 0, monitor.predict(X[NEW]) == -1
    )
    assert "in 8 classes; misclassified: " in repr(monitor)


def test_alarms_that_are_composed_have_a_rate_each():
    alarms = [
        ("far", KNNDetector(false_alarm_rate=0.1)),
        ("forest", IsolationForest(contamination=0.02, random_state=0)),
    ]
    monitor = monitor_of(AnyAlarmDetector(alarms)).fit(X[TRAIN])
    scores = monitor.score_each(X[HELD_OUT])
    monitor.calibrate(X[HELD_OUT])
    assert monitor.offsets_ == {
        "far": quantile(scores["far"], 0.1),
        "forest": quantile(scores["forest"], 0.02),
    }
    assert "0.02 and 0.1, calibrated by 300 held-out rows, marginal" in repr(monitor)


def test_inputs_of_every_kind_calibrate(fitted):
    monitor = pickle.loads(fitted)
    A = monitor[:-1].transform(X[HELD_OUT])
    expected = monitor.calibrate(A).offset_
    assert monitor.calibrate(X[HELD_OUT].tolist()).offset_ == pytest.approx(expected)


def torch_monitor(target="ood"):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    inputs = torch.tensor(X / 16, dtype=torch.float32)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    labels = torch.tensor(np.maximum(Y, 0))
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[TRAIN]), labels[TRAIN]).backward()
        optimizer.step()
    monitor = make_monitor(network.eval(), target=target)
    return monitor.fit(inputs[TRAIN], Y[TRAIN]), inputs


def test_loaders_and_streams_bring_their_labels():
    monitor, inputs = torch_monitor("misclassified")
    A = monitor[:-1].transform(inputs[HELD_OUT])
    is_right = A.predictions == Y[HELD_OUT]
    assert 0 < is_right.mean() < 1
    expected = quantile(monitor.score_samples(A)[is_right], 0.05)
    data = TensorDataset(inputs[HELD_OUT], torch.tensor(Y[HELD_OUT]))
    loader = DataLoader(data, batch_size=64)
    for samples in (data, loader, iter(loader), (batch for batch in loader)):
        assert monitor.calibrate(samples).offset_ == pytest.approx(expected, abs=1e-3)
        assert monitor.calibration_.n_calibration_samples_ == is_right.sum()
    shuffled = DataLoader(data, batch_size=64, shuffle=True)
    assert monitor.calibrate(shuffled).offset_ == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ValueError, match="shuffle"):
        monitor.calibrate(shuffled, Y[HELD_OUT])


def test_marks_among_labels_of_a_loader_are_warned_of():
    monitor, inputs = torch_monitor()
    rows = np.r_[HELD_OUT, OUTSIDE]
    data = TensorDataset(inputs[rows], torch.tensor(Y[rows]))
    with pytest.warns(UserWarning, match=r"All rows count as in-distribution.* pass y=X.labels"):
        monitor.calibrate(data)
    assert monitor.calibration_.n_calibration_samples_ == len(rows)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, values):
        return self.net(values)


def test_inputs_by_name_calibrate():
    torch.manual_seed(0)
    monitor = make_monitor(Named().eval()).fit({"values": torch.randn(200, 4)})
    monitor.calibrate({"values": torch.randn(99, 4)})
    assert monitor.calibration_.n_calibration_samples_ == 99


def test_clones_and_new_fits_are_not_calibrated(fitted):
    monitor = pickle.loads(fitted).calibrate(X[HELD_OUT])
    copy = pickle.loads(pickle.dumps(monitor))
    assert copy.offset_ == monitor.offset_
    np.testing.assert_array_equal(copy.predict(X[NEW]), monitor.predict(X[NEW]))
    assert not hasattr(clone(monitor), "calibration_")
    with pytest.raises(ValueError, match="NaN"):
        copy.fit(np.full((50, 64), np.nan))
    assert copy.offset_ == monitor.offset_
    copy.fit(X[TRAIN], Y[TRAIN])
    assert not hasattr(copy, "calibration_")
    assert copy.offset_ == copy["detect"].offset_
    monitor.fit_predict(X[TRAIN], Y[TRAIN])
    assert not hasattr(monitor, "calibration_")


def test_parameters_stay_until_the_next_fit(fitted):
    monitor = pickle.loads(fitted).calibrate(X[HELD_OUT])
    before = monitor.predict(X[NEW])
    monitor.set_params(detect__false_alarm_rate=0.2)
    np.testing.assert_array_equal(monitor.predict(X[NEW]), before)
    assert monitor.calibrate(X[HELD_OUT]).calibration_.false_alarm_rate == 0.2


def test_another_detector_needs_another_calibration():
    monitor = monitor_of(KNNDetector()).fit(X[TRAIN]).calibrate(X[HELD_OUT])
    monitor["detect"].partial_fit(monitor[:-1].transform(X[NEW]))
    with pytest.raises(NotFittedError, match="exchanged or fitted anew after calibrate"):
        monitor.predict(X[NEW])
    assert monitor.calibrate(X[HELD_OUT]).predict(X[NEW]).shape == NEW.shape
    monitor.set_params(detect=EnergyDetector())
    with pytest.raises(NotFittedError):
        monitor.predict(X[NEW])
    monitor.fit(X[TRAIN])
    assert monitor.predict(X[NEW]).shape == NEW.shape


def test_what_was_not_fitted_is_refused_in_words():
    with pytest.raises(NotFittedError, match="fit it on the rows to learn from before calibrate"):
        make_monitor(NET).calibrate(X[HELD_OUT])
    monitor = monitor_of(KNNDetector()).fit(X[TRAIN])
    for method in (monitor.p_values, monitor.select):
        with pytest.raises(NotFittedError, match=r"call calibrate\(X\)"):
            method(X[NEW])
    with pytest.raises(NotFittedError):
        make_monitor(NET).p_values(X[NEW])
    monitor.calibrate(X[HELD_OUT])
    with pytest.raises(TypeError, match=r"no parameters for its steps, got \['strange'\]"):
        monitor.predict(X[NEW], strange=1)


def test_one_row_rejects_nothing_and_says_so():
    monitor = monitor_of(KNNDetector()).fit(X[TRAIN])
    with pytest.warns(UserWarning, match=r"1 calibration row.* The smallest rate .* 0\.5"):
        monitor.calibrate(X[HELD_OUT[:1]])
    assert monitor.offset_ == -np.inf
    assert (monitor.predict(X[OUTSIDE]) == 1).all()
    assert monitor.score(X, Y) > 0.8
    both = make_monitor(NET, target="both").fit(X[TRAIN])
    right = HELD_OUT[NET.predict(X[HELD_OUT]) == Y[HELD_OUT]][:9]
    with pytest.warns(UserWarning, match="nothing is rejected"):
        both.calibrate(X[right], Y[right])
    assert (both.predict(X[OUTSIDE]) == 1).all()


def test_rows_of_fit_are_no_held_out_rows(fitted):
    monitor = pickle.loads(fitted)
    with pytest.raises(ValueError, match="the 700 rows that fit got"):
        monitor.calibrate(X[TRAIN])
    with pytest.raises(ValueError, match="the 700 rows that fit got"):
        monitor.calibrate(monitor[:-1].transform(X[TRAIN]), Y[TRAIN])
    with pytest.raises(ValueError, match="the 700 rows that fit got"):
        monitor.calibrate(X[TRAIN[::-1]], Y[TRAIN[::-1]])
    assert not hasattr(monitor, "calibration_")
    with pytest.warns(UncalibratedWarning, match="25% of the rows .* among those that fit got"):
        monitor.calibrate(X[np.r_[TRAIN[300:400], HELD_OUT]])
    with pytest.warns(UncalibratedWarning, match="100% of the rows"):
        monitor.calibrate(X[TRAIN[200:300]])
    # In other batches the last digits may differ.
    with pytest.warns(UncalibratedWarning, match="100% of the rows"):
        monitor.set_params(extract__batch_size=7).calibrate(X[TRAIN[203:250]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.calibrate(X[np.r_[TRAIN[:3], HELD_OUT]])


def test_rows_that_are_equal_by_chance_are_no_reason_to_warn():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 2, size=(600, 6)).astype(float)
    network = MLPClassifier((8,), random_state=0, max_iter=50, tol=1)
    network.fit(few, few[:, 0].astype(int) + 2 * few[:, 1].astype(int))
    monitor = make_monitor(network).fit(few[:300])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.calibrate(few[300:])


@pytest.mark.parametrize(
    "detector",
    [
        OneClassSVM(),
        make_pipeline(LayerSelector(layers=-1), MahalanobisDetector()),
        make_pipeline(StandardScaler(), IsolationForest(random_state=0)),
        GridSearchCV(KNNDetector(), {"n_neighbors": [3, 5]}, cv=OODKFold(3)),
        DetectorSearchCV([("energy", EnergyDetector()), ("knn", KNNDetector())]),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_detectors_of_all_kinds_calibrate(detector):
    rows = np.r_[TRAIN, OUTSIDE] if hasattr(detector, "cv") else TRAIN
    monitor = monitor_of(detector).fit(X[rows], Y[rows])
    scores = monitor.score_samples(X[HELD_OUT])
    monitor.calibrate(X[HELD_OUT])
    assert monitor.offset_ == pytest.approx(quantile(scores, 0.05))
    expected = p_values(scores, monitor.score_samples(X[NEW]))
    np.testing.assert_allclose(monitor.p_values(X[NEW]), expected, atol=2 / 301)


def test_detectors_of_pyod_calibrate():
    pyod = pytest.importorskip("pyod.models.hbos")
    monitor = monitor_of(pyod.HBOS(contamination=0.1)).fit(X[TRAIN])
    A = monitor[:-1].transform(X[HELD_OUT])
    scores = -monitor["detect"].decision_function(A)
    monitor.calibrate(A)
    assert monitor.offset_ == quantile(scores, 0.1)
    assert set(np.unique(monitor.predict(X[NEW]))) == {-1, 1}


def test_a_frozen_detector_calibrates():
    detector = KNNDetector().fit(monitor_of(KNNDetector())[:-1].fit_transform(X[TRAIN]))
    monitor = monitor_of(FrozenEstimator(detector)).fit(X[TRAIN])
    scores = monitor.score_samples(X[HELD_OUT])
    assert monitor.calibrate(X[HELD_OUT]).offset_ == quantile(scores, 0.05)


def test_a_step_may_be_conformal_itself():
    conformal = ConformalDetector(KNNDetector(), cv=0.3, random_state=0)
    monitor = monitor_of(conformal).fit(X[np.r_[HELD_OUT, NEW]])
    assert monitor.p_values(X[TRAIN]).shape == TRAIN.shape
    A = monitor[:-1].transform(X[OUTSIDE])
    np.testing.assert_array_equal(monitor.p_values(A), monitor["detect"].p_values(A))
    np.testing.assert_array_equal(monitor.select(A), monitor["detect"].select(A))
    n_rows = monitor["detect"].n_calibration_samples_
    assert f"0.05, calibrated by {n_rows} held-out rows, marginal" in repr(monitor)
    assert "detect: ConformalDetector of KNNDetector, reads hidden_1" in repr(monitor)
    assert "nearest" in str(monitor.explain(X[OUTSIDE[:1]], n_neighbors=2))
    scores = monitor.score_samples(X[TRAIN])
    assert monitor.calibrate(X[TRAIN]).offset_ == quantile(scores, 0.05)


def test_explanations_are_those_of_the_detector(fitted):
    monitor = pickle.loads(fitted)
    first, *before = str(monitor.explain(X[OUTSIDE[:1]], X_train=X[TRAIN])).splitlines()
    monitor.calibrate(X[HELD_OUT])
    verdict, *rest = str(monitor.explain(X[OUTSIDE[:1]], X_train=X[TRAIN])).splitlines()
    assert rest == before
    start, _, _ = first.partition("threshold")
    assert verdict == f"{start}threshold {monitor.offset_:.4g})"
    assert monitor.memory_usage() > pickle.loads(fitted).memory_usage() > 0


@pytest.mark.parametrize("target", ["ood", "misclassified", "both"])
def test_rows_that_fit_holds_out_calibrate_too(target):
    rows = np.r_[HELD_OUT, NEW]
    monitor = make_monitor(NET, target=target, validation=0.4).fit(X[rows], Y[rows])
    detector = monitor["detect"]
    if target == "both":
        assert monitor.offsets_ == pytest.approx(detector.offsets_)
    else:
        assert monitor.offset_ == pytest.approx(detector.offset_)
        n_rows = len(detector.training_rows_)
        assert f"0.05, calibrated by {n_rows} held-out rows, marginal" in repr(monitor)
        assert f"{len(detector.learnt_rows_)} rows" in repr(monitor)
        expected = p_values(detector.training_scores_, monitor.score_samples(X[TRAIN]))
        np.testing.assert_allclose(monitor.p_values(X[TRAIN]), expected, atol=2 / n_rows)
    A = monitor[:-1].transform(X[TRAIN])
    np.testing.assert_array_equal(monitor.predict(A), detector.predict(A))


@pytest.mark.parametrize(
    "detector", [HammingNAPDetector(tau=3, validation=0.2), AutoNAPDetector(group_by="prediction")]
)
def test_thresholds_that_are_no_quantiles_are_left_alone(detector):
    monitor = monitor_of(detector).fit(X[TRAIN])
    assert not hasattr(monitor, "calibration_")
    assert "by rows held out" in repr(monitor)
    A = monitor[:-1].transform(X[NEW])
    np.testing.assert_array_equal(monitor.predict(A), monitor["detect"].predict(A))


@pytest.mark.parametrize("target", ["misclassified", "both"])
def test_rows_that_fit_holds_out_need_labels_where_errors_are_looked_for(target):
    rows = np.r_[HELD_OUT, NEW]
    monitor = make_monitor(NET, target=target, validation=0.4)
    [message] = warnings_of(monitor, X[rows])
    assert "no labels say which are: all rows calibrate, wrong ones too" in message
    held_out = rows[monitor["detect"].training_rows_]
    right_or_wrong = f"by {len(held_out)} held-out rows, classified right or wrong, marginal"
    assert right_or_wrong in repr(monitor)
    assert right_or_wrong in repr(pickle.loads(pickle.dumps(monitor)))
    # Labels of fit, or a calibration by some, or another target leave nothing to say.
    monitor.calibrate(X[TRAIN], Y[TRAIN])
    assert "right or wrong" not in repr(monitor)
    assert warnings_of(monitor, X[rows], Y[rows]) == []
    assert "right or wrong" not in repr(monitor)
    of_inputs = make_monitor(NET, validation=0.4)
    assert warnings_of(of_inputs, X[rows]) == []
    assert "right or wrong" not in repr(of_inputs)


def test_searches_and_threads_calibrate_alone(fitted):
    grid = GridSearchCV(monitor_of(KNNDetector()), {"detect__n_neighbors": [3, 9]}, cv=OODKFold(3))
    rows = np.r_[TRAIN, OUTSIDE]
    monitor = grid.fit(X[rows], Y[rows]).best_estimator_.calibrate(X[HELD_OUT])
    assert monitor.calibration_.n_calibration_samples_ == 300
    monitors = [pickle.loads(fitted) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        parts = np.array_split(HELD_OUT, 4)
        pairs = list(zip(monitors, parts, strict=True))
        found = list(pool.map(lambda pair: pair[0].calibrate(X[pair[1]]).offset_, pairs))
    expected = [quantile(pickle.loads(fitted).score_samples(X[part]), 0.05) for part in parts]
    np.testing.assert_allclose(found, expected)


def test_monitors_of_networks_without_classes_calibrate():
    network = MLPRegressor(hidden_layer_sizes=(16,), random_state=0, max_iter=50, tol=1).fit(
        X[TRAIN], X[TRAIN, 20]
    )
    with pytest.warns(UncalibratedWarning, match="no labels say"):
        monitor = make_monitor(network).fit(X[TRAIN])
    monitor.calibrate(X[HELD_OUT])
    with pytest.raises(ValueError, match="rows that fit got"):
        monitor.calibrate(X[TRAIN])


def warnings_of(monitor, *args):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monitor.fit(*args)
    return [str(w.message) for w in caught if w.category is UncalibratedWarning]


def test_fit_says_that_the_threshold_is_an_estimate():
    [message] = warnings_of(make_monitor(NET), X[TRAIN])
    for part in ("no labels say", "several times the wanted 0.05", "calibrate(X)", "validation="):
        assert part in message
    [message] = warnings_of(make_monitor(NET), X[TRAIN], Y[TRAIN])
    assert "gets 0 of 700 wrong" in message
    rows = np.r_[TRAIN, OUTSIDE]
    [message] = warnings_of(make_monitor(NET), X[rows], Y[rows])
    assert "gets 0 of 700 wrong" in message
    # Marks alone tell nothing, and labels of other classes neither.
    assert (
        "no labels say" in warnings_of(make_monitor(NET), X[rows], np.where(Y[rows] < 0, -1, 1))[0]
    )
    assert "no labels say" in warnings_of(make_monitor(NET), X[TRAIN], Y[TRAIN] + 100)[0]


def test_the_warning_points_at_the_line_that_fits():
    with pytest.warns(UncalibratedWarning) as caught:
        make_monitor(NET).fit(X[TRAIN])
    assert caught[0].filename == __file__


def test_fit_is_silent_about_rows_that_the_network_has_not_seen():
    for rows in (HELD_OUT, NEW, np.r_[HELD_OUT, NEW]):
        assert warnings_of(make_monitor(NET), X[rows], Y[rows]) == []
    assert warnings_of(make_monitor(NET, validation=0.3), X[NEW]) == []
    assert warnings_of(make_monitor(NET, target="both", validation=0.3), X[NEW], Y[NEW]) == []
    assert warnings_of(monitor_of(ConformalDetector(KNNDetector(), cv=0.3)), X[NEW]) == []
    # What validation holds out, the network may have learnt all the same.
    assert len(warnings_of(make_monitor(NET, validation=0.3), X[TRAIN], Y[TRAIN])) == 1


def test_confident_networks_that_err_less_than_they_say_know_the_rows():
    logits = np.zeros((1000, 3))
    logits[:, 0] = np.log(2 * 99)  # sure by 99 %
    labels = np.zeros(1000, dtype=int)
    network = nn.Sequential(nn.Identity())
    inputs = torch.tensor(logits, dtype=torch.float32)
    inputs = inputs + 1e-3 * torch.rand(inputs.shape, generator=torch.manual_seed(0))

    def warns(n_wrong, scale=1.0):
        labels[:] = 0
        labels[:n_wrong] = 1
        steps = [("extract", ActivationExtractor(network, "all")), ("detect", EnergyDetector())]
        return bool(warnings_of(Monitor(steps), scale * inputs, labels))

    # Ten errors are to be expected: five or more are no surprise, four are one.
    assert [warns(n) for n in (4, 5, 10, 100)] == [True, False, False, False]
    # Less sure, by 91 %, it may be so for new rows, too: a fifth of 90 errors are too few.
    assert [warns(n, 0.57) for n in (17, 20)] == [True, False]


def test_networks_that_know_noisy_labels_by_heart_are_told_of_whatever_they_are_sure_of():
    inputs, labels = make_classification(
        3000, 20, n_informative=6, n_classes=4, flip_y=0.1, random_state=0
    )
    inputs = StandardScaler().fit_transform(inputs)
    network = MLPClassifier((64, 32), alpha=0.5, random_state=0, max_iter=400, n_iter_no_change=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(inputs[:1500], labels[:1500])
    confidence = network.predict_proba(inputs[:1500]).max(axis=1)
    assert confidence.mean() < 0.95
    n_wrong = (network.predict(inputs[:1500]) != labels[:1500]).sum()
    assert 0 < 5 * n_wrong < (1 - confidence).sum()
    monitor = make_monitor(network)
    [message] = warnings_of(monitor, inputs[:1500], labels[:1500])
    assert f"gets {n_wrong} of 1500 wrong" in message
    assert warnings_of(monitor, inputs[1500:], labels[1500:]) == []


def test_labels_that_tell_nothing_are_named():
    [message] = warnings_of(make_monitor(NET), X[TRAIN], Y[TRAIN] + 100)
    assert "100, 101, 102, ... among those given are no classes of the network" in message
    [message] = warnings_of(make_monitor(NET), X[TRAIN], np.ones(700))
    assert "all rows that are not marked -1 have the same label" in message
    regressor = MLPRegressor(hidden_layer_sizes=(8,), random_state=0, max_iter=20, tol=1).fit(
        X[TRAIN], Y[TRAIN]
    )
    [message] = warnings_of(make_monitor(regressor), X[TRAIN], Y[TRAIN])
    assert "the network has no logits" in message


def test_in_a_loop_the_warning_comes_once_by_the_usual_filters():
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        for _ in range(3):
            monitor_of(KNNDetector()).fit(X[TRAIN])
        monitor_of(KNNDetector()).fit(X[TRAIN])
        assert len(caught) == 2
    # Another block has another record.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            monitor_of(KNNDetector()).fit(X[TRAIN])
        assert len(caught) == 3


def test_labels_of_a_loader_are_looked_at():
    _, inputs = torch_monitor()
    network = torch_monitor()[0].network
    data = TensorDataset(inputs[NEW], torch.tensor(Y[NEW]))
    assert warnings_of(make_monitor(network), data) == []


def test_adaptive_members_keep_their_targets():
    detector = AnyAlarmDetector([("errors", AdaptiveEnsembleDetector(target="misclassified"))])
    monitor = monitor_of(detector).fit(X[TRAIN])
    is_right = NET.predict(X[HELD_OUT]) == Y[HELD_OUT]
    monitor.calibrate(X[HELD_OUT], Y[HELD_OUT])
    assert monitor.calibration_["errors"].n_calibration_samples_ == is_right.sum()


def _explained(monitor, rows):
    found = monitor.explain(X[rows], X_train=X[TRAIN])
    np.testing.assert_array_equal(found.alarms, monitor.predict(X[rows]) == -1)
    again = explain(monitor, X[rows], X_train=X[TRAIN])
    np.testing.assert_array_equal(again.alarms, found.alarms)
    assert again.threshold == found.threshold
    return found


def test_of_both_an_explanation_names_the_detectors_that_object(fitted_for_both):
    monitor = pickle.loads(fitted_for_both)
    inputs = np.vstack([16 * X[NEW[:3]], X[NEW[:40]], X[OUTSIDE[:10]]])
    for _ in range(2):
        found, verdicts = monitor.explain(inputs, X_train=X[TRAIN]), monitor.predict_each(inputs)
        decisions = monitor.decision_each(inputs)
        for i in range(len(inputs)):
            objecting = {name for name, labels in verdicts.items() if labels[i] == -1}
            assert {name for name, _ in found.top_detectors(i)} == objecting
        np.testing.assert_array_equal(
            np.min(list(decisions.values()), axis=0), monitor.decision_function(inputs)
        )
        assert "detectors that object most: ood -" in str(found)
        monitor.calibrate(X[HELD_OUT], Y[HELD_OUT], false_alarm_rate=0.2)


@pytest.mark.parametrize(
    ("built", "said"), [("ood", "misclassified"), ("ood", "both"), ("both", "ood")]
)
def test_a_target_that_the_detector_does_not_have_is_told_of(built, said):
    monitor = make_monitor(NET, target=built).set_params(target=said)
    with pytest.warns(UserWarning, match=f"has target='{said}', .* its detector 'detect' has"):
        monitor.fit(X[TRAIN], Y[TRAIN])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UncalibratedWarning)
        make_monitor(NET, target=built).fit(X[TRAIN], Y[TRAIN])
        make_monitor(NET).set_params(target="misclassified", detect__target="misclassified").fit(
            X[TRAIN], Y[TRAIN]
        )
        monitor_of(KNNDetector(), target="misclassified").fit(X[TRAIN], Y[TRAIN])


def test_explanations_go_by_the_calibration(fitted, fitted_for_both):
    rows = np.append(NEW[:30], OUTSIDE[:10])
    monitor = pickle.loads(fitted)
    estimate = _explained(monitor, rows)
    monitor.calibrate(X[HELD_OUT], false_alarm_rate=0.4)
    found = _explained(monitor, rows)
    assert found.threshold == monitor.offset_ > estimate.threshold
    assert found.alarms.sum() > estimate.alarms.sum()
    np.testing.assert_array_equal(found.scores, estimate.scores)
    assert _explained(monitor.calibrate(X[HELD_OUT], group_by="prediction"), rows).threshold is None
    with pytest.warns(UserWarning, match="nothing is rejected"):
        monitor.calibrate(X[HELD_OUT[:5]])
    found = _explained(monitor, rows)
    assert found.threshold == -np.inf
    assert not found.alarms.any()
    monitor = pickle.loads(fitted_for_both).calibrate(X[HELD_OUT], Y[HELD_OUT])
    assert _explained(monitor, rows).threshold is None


@pytest.mark.parametrize("cv", [0.3, 3])
def test_a_calibrated_detector_is_seen_through(cv):
    bare = monitor_of(KNNDetector()).fit(X[TRAIN])
    detector = ConformalDetector(KNNDetector(), cv=cv, random_state=0)
    monitor = monitor_of(detector).fit(X[TRAIN])
    inner = detector.estimators_[0]
    n_learnt = len(inner.learnt_rows_)
    assert f"learnt from  {n_learnt} rows" in repr(monitor)
    assert "detect: ConformalDetector of KNNDetector, reads hidden_1" in repr(monitor)
    found = monitor.explain(X[NEW[:5]])
    assert len(TRAIN) > found.neighbors.max() >= n_learnt
    np.testing.assert_array_equal(found.alarms, monitor.predict(X[NEW[:5]]) == -1)
    assert (found.threshold == detector.offset_) if cv == 0.3 else found.threshold is None
    assert found.layer_weights.keys() == bare.explain(X[NEW[:5]]).layer_weights.keys()
    # The same of a detector by itself.
    A = monitor[:-1].transform(X[NEW[:5]])
    np.testing.assert_array_equal(explain(detector, A).neighbors, found.neighbors)


def test_a_search_that_holds_rows_out_shows_and_explains_its_choice():
    marked = np.append(TRAIN[:300], OUTSIDE[:60])
    monitor = make_monitor(NET, search=True, validation=0.3).fit(X[marked], Y[marked])
    assert "learnt from  unknown" not in repr(monitor)
    if monitor["detect"].best_name_ == "default":
        assert "layer share" in repr(monitor)
    inner = monitor["detect"].best_estimator_.estimator_
    found = monitor.explain(X[OUTSIDE[-2:]], X_train=X[marked], y_train=Y[marked])
    assert (found.contributions is not None) == isinstance(inner, AdaptiveEnsembleDetector)
    np.testing.assert_array_equal(found.alarms, monitor.predict(X[OUTSIDE[-2:]]) == -1)


def test_a_monitor_says_how_many_rows_it_learnt_from_and_how_many_set_the_threshold():
    monitor = make_monitor(NET, validation=0.25).fit(X[TRAIN])
    assert "learnt from  525 rows" in repr(monitor)
    assert "calibrated by 175 held-out rows" in repr(monitor)


def test_a_search_that_holds_rows_out_shows_what_it_chose():
    rows = np.r_[HELD_OUT, NEW, OUTSIDE]
    search = DetectorSearchCV(
        [("energy", EnergyDetector()), ("knn", KNNDetector())], validation=0.3
    )
    monitor = monitor_of(search).fit(X[rows], Y[rows])
    n_rows = monitor["detect"].best_estimator_.n_calibration_samples_
    text = repr(monitor)
    assert f"0.05, calibrated by {n_rows} held-out rows, marginal" in text
    assert "detect: ConformalDetector of " in text
    p = monitor.p_values(X[TRAIN])
    np.testing.assert_array_equal(p <= 0.05, monitor.predict(X[TRAIN]) == -1)
    assert monitor.explain(X[OUTSIDE[:1]], X_train=X[TRAIN]) is not None


@pytest.mark.parametrize("target", ["ood", "both"])
def test_selections_are_refused_alike(target):
    monitor = make_monitor(NET, target=target).fit(X[TRAIN]).calibrate(X[HELD_OUT], Y[HELD_OUT])
    for wrong in ({"fdr": 0}, {"fdr": "a"}, {"method": "holm"}):
        with pytest.raises(InvalidParameterError, match=next(iter(wrong))):
            monitor.select(X[NEW], **wrong)


def test_a_selection_of_several_detectors_that_can_find_nothing_says_so(fitted_for_both):
    monitor = pickle.loads(fitted_for_both).calibrate(X[HELD_OUT], Y[HELD_OUT])
    A = monitor[:-1].transform(X[OUTSIDE])
    # The smallest p-value, of 300 rows and two detectors, is 2 / 301: .0067 if all have it.
    with pytest.warns(UserWarning, match=r"2 detectors and 300 .* 'bh' can reach is 0\.00664"):
        assert not monitor.select(A, 0.006).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.select(A, 0.007)


def test_of_both_p_values_at_the_rate_are_rejected_but_not_they_alone(fitted_for_both):
    monitor = pickle.loads(fitted_for_both).calibrate(X[HELD_OUT], Y[HELD_OUT])
    is_rejected = monitor.predict(X) == -1
    is_small = monitor.p_values(X) <= 0.05
    assert (is_small <= is_rejected).all()
    assert is_small.sum() < is_rejected.sum()
    # Scores stay in the order of fit, decisions are negative where either score is too low.
    np.testing.assert_array_equal(monitor.decision_function(X) < 0, is_rejected)
    before = pickle.loads(fitted_for_both).score_samples(X)
    np.testing.assert_array_equal(monitor.score_samples(X), before)


@pytest.mark.parametrize(
    "detector", [LayerEnsembleDetector(KNNDetector(), combine="vote", validation=0.4)]
)
def test_rows_that_set_votes_give_no_p_values_and_it_is_said_why(detector):
    monitor = monitor_of(detector).fit(X[NEW])
    with pytest.raises(NotFittedError, match=r"LayerEnsembleDetector holds out .* no quantile"):
        monitor.p_values(X[HELD_OUT])
    scores = monitor.score_samples(X[HELD_OUT])
    expected = p_values(scores, monitor.score_samples(X[TRAIN]))
    np.testing.assert_allclose(monitor.calibrate(X[HELD_OUT]).p_values(X[TRAIN]), expected)


@pytest.mark.parametrize(
    "detector",
    [
        IsolationForest(n_estimators=20, random_state=0),
        LocalOutlierFactor(novelty=True),
        OneClassSVM(),
        KNNDetector(),
        make_pipeline(StandardScaler(), IsolationForest(n_estimators=20, random_state=0)),
        AnyAlarmDetector([("forest", IsolationForest(n_estimators=20, random_state=0))]),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_a_detector_that_is_fitted_anew_needs_another_calibration(detector):
    monitor = monitor_of(detector).fit(X[TRAIN]).calibrate(X[HELD_OUT])
    expected = monitor.predict(X[OUTSIDE])
    for copy in (deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
        np.testing.assert_array_equal(copy.predict(X[OUTSIDE]), expected)
    new = monitor[:-1].transform(X[NEW])
    exchanged = deepcopy(monitor)
    exchanged.set_params(detect=clone(detector).fit(new))
    monitor["detect"].fit(new)
    for other in (monitor, exchanged):
        for method in ("predict", "decision_function", "p_values", "select", "explain"):
            with pytest.raises(NotFittedError, match="exchanged or fitted anew after calibrate"):
                getattr(other, method)(X[OUTSIDE])


def test_a_step_that_is_fitted_anew_or_set_needs_another_calibration():
    def monitor(step):
        steps = [("e", ActivationExtractor(NET, "penultimate")), ("b", step), ("d", KNNDetector())]
        return Monitor(clone(Pipeline(steps)).steps).fit(X[TRAIN]).calibrate(X[HELD_OUT])

    refitted = monitor(StandardScaler())
    refitted["b"].fit(refitted[:1].transform(X[OUTSIDE]))
    exchanged = monitor(StandardScaler())
    exchanged.set_params(b=clone(exchanged["b"]).fit(exchanged[:1].transform(X[OUTSIDE])))
    # This one learns nothing: its parameters alone count.
    changed = monitor(PercentileBinarizer(percentile=50)).set_params(b__percentile=90)
    for other in (refitted, exchanged, changed):
        with pytest.raises(NotFittedError, match=r"a step before it, of \['e', 'b'\]"):
            other.predict(X[NEW])
    for step in (StandardScaler(), PercentileBinarizer(), "passthrough"):
        assert monitor(step).set_params(e__batch_size=9).predict(X[NEW]).shape == NEW.shape


def test_clones_that_something_else_calibrates_are_not_warned_of():
    rows = np.r_[NEW, HELD_OUT]
    for wrapper in (
        ConformalDetector(monitor_of(KNNDetector()), cv=0.3),
        ConformalDetector(monitor_of(KNNDetector()), cv=3, n_jobs=2),
        GridSearchCV(
            ConformalDetector(monitor_of(KNNDetector()), cv=0.3),
            {"detector__detect__n_neighbors": [1, 3]},
            cv=OODKFold(2),
        ),
    ):
        labels = () if isinstance(wrapper, ConformalDetector) else (np.where(rows < 0, -1, 1),)
        if labels:
            labels[0][-20:] = -1
        assert warnings_of(wrapper, X[rows], *labels) == []
    risk = RiskControlledDetector(monitor_of(MaxSoftmaxDetector()), alpha=0.5, cv=0.5)
    assert warnings_of(risk, X[TRAIN], Y[TRAIN]) == []
    # What a search fits in the end is the user's.
    marks = np.where(Y[rows] < 4, -1, 1)
    grid = GridSearchCV(monitor_of(KNNDetector()), {"detect__n_neighbors": [1, 3]}, cv=OODKFold(2))
    assert len(warnings_of(grid, X[rows], marks)) == 1
    assert len(warnings_of(monitor_of(KNNDetector()), X[rows], marks)) == 1


def test_few_rows_without_an_error_do_not_show_that_they_are_new():
    [message] = warnings_of(make_monitor(NET), X[TRAIN[:60]], Y[TRAIN[:60]])
    assert "the labels do not show that the rows of fit, 60, are new" in message
    right = HELD_OUT[NET.predict(X[HELD_OUT]) == Y[HELD_OUT]][:60]
    assert "do not show" in warnings_of(make_monitor(NET), X[right], Y[right])[0]
    wrong = HELD_OUT[NET.predict(X[HELD_OUT]) != Y[HELD_OUT]]
    rows = np.append(right, wrong)
    assert warnings_of(make_monitor(NET), X[rows], Y[rows]) == []


@pytest.mark.parametrize("target", ["misclassified", "both"])
def test_marks_of_a_loader_calibrate_no_detector_of_errors_and_it_is_said(target):
    monitor, inputs = torch_monitor(target)
    rows = np.r_[HELD_OUT, OUTSIDE[:30]]
    data = TensorDataset(inputs[rows], torch.tensor(Y[rows]))
    is_right = monitor[:-1].transform(inputs[HELD_OUT]).predictions == Y[HELD_OUT]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monitor.calibrate(data)
    messages = [str(w.message) for w in caught]
    assert sum("30 of 330 labels that came with the inputs are -1" in m for m in messages) == 1
    counts = {target: monitor.calibration_} if target != "both" else monitor.calibration_
    assert counts["misclassified"].n_calibration_samples_ == is_right.sum()
    if target == "both":
        assert sum("All rows count as in-distribution" in m for m in messages) == 1
        assert counts["ood"].n_calibration_samples_ == 330
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.calibrate(data, Y[rows])


@pytest.mark.parametrize("kind", ["share", "folds", "search"])
def test_explanations_name_the_rows_of_fit(kind):
    knn = KNNDetector(n_neighbors=2)
    detector = {
        "share": ConformalDetector(knn, cv=0.3, random_state=0),
        "folds": ConformalDetector(knn, cv=3, random_state=0),
        "search": DetectorSearchCV([("knn", knn)], validation=0.3),
    }[kind]
    given, y = np.vstack([X[TRAIN], X[OUTSIDE[:40]]]), np.repeat([1, -1], [len(TRAIN), 40])
    monitor = monitor_of(detector).fit(given, y)
    rows = np.arange(0, 60)
    found = monitor.explain(given[rows], n_neighbors=3)
    learnt = found.neighbors[:, 0] == rows
    assert learnt.any()
    assert not learnt.all()  # of others are held out
    np.testing.assert_allclose(found.distances[learnt, 0], 0, atol=1e-6)
    A = monitor[:-1].transform(given)["hidden_1"]
    directions = A / np.linalg.norm(A, axis=1, keepdims=True)
    apart = directions[rows, np.newaxis] - directions[found.neighbors]
    np.testing.assert_allclose(np.linalg.norm(apart, axis=2), found.distances, atol=1e-5)
    labels = np.arange(len(given)) * y
    again = monitor.explain(given[rows], X_train=given, y_train=np.abs(labels), n_neighbors=3)
    np.testing.assert_array_equal(again.neighbors, found.neighbors)
    np.testing.assert_array_equal(again.neighbor_labels, found.neighbors)


@pytest.mark.parametrize("target", ["misclassified", "both"])
def test_held_out_rows_without_labels_are_told_of(target):
    monitor = make_monitor(NET, target=target, validation=0.4)
    with pytest.warns(UncalibratedWarning, match="no labels say which are: all rows calibrate"):
        monitor.fit(X[TRAIN])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncalibratedWarning)
        monitor.fit(X[np.r_[HELD_OUT, NEW]], Y[np.r_[HELD_OUT, NEW]])


@pytest.mark.parametrize("cv", [0.3, 3])
def test_what_is_about_to_be_calibrated_is_not_warned_of(cv):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncalibratedWarning)
        ConformalDetector(monitor_of(KNNDetector()), cv=cv).fit(X[TRAIN])


def controlled_and_alone():
    """A monitor whose last step bounds errors by a share of the rows, and the detector in it."""
    controlled = RiskControlledDetector(KNNDetector(n_neighbors=3), alpha=0.2, cv=0.4)
    monitor = monitor_of(controlled.set_params(random_state=0))
    rows = np.r_[TRAIN, HELD_OUT]
    monitor.fit(X[rows], Y[rows])
    return monitor, monitor[-1].estimator_, rows


def test_a_bound_on_errors_leaves_the_score_one_of_marked_rows():
    monitor, alone, _ = controlled_and_alone()
    batch = np.r_[NEW, OUTSIDE]
    A = monitor[:-1].transform(X[batch])
    assert monitor.score(X[batch], Y[batch]) == alone.score(A, Y[batch]) > 0.8
    errors = RiskControlledDetector(monitor, alpha=0.2).fit(X[HELD_OUT], Y[HELD_OUT])
    assert errors.score(X[batch], Y[batch]) == monitor[-1].score(A, Y[batch])
    with pytest.raises(TypeError, match="sample_weight"):
        monitor.score(X[batch], Y[batch], sample_weight=np.ones(len(batch)))


def test_a_bound_on_errors_shows_what_it_bounds():
    monitor, alone, _ = controlled_and_alone()
    shown = repr(monitor)
    assert f"learnt from  {len(alone.learnt_rows_)} rows" in shown
    assert "RiskControlledDetector of KNNDetector" in shown
    n = monitor[-1].n_calibration_samples_
    assert (
        "alarm rate   not bounded, but errors among accepted inputs: at most 0.2 with confidence "
        f"0.95, by {n} held-out rows" in shown
    )


def test_explanations_look_through_a_bound_on_errors():
    monitor, alone, rows = controlled_and_alone()
    found = monitor.explain(X[OUTSIDE[:3]])
    A = monitor[:-1].transform(X[OUTSIDE[:3]])
    expected = explain(alone, A)
    learnt = np.setdiff1d(np.arange(len(rows)), monitor[-1].calibration_rows_)
    np.testing.assert_array_equal(found.neighbors, learnt[expected.neighbors])
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.alarms, monitor.predict(X[OUTSIDE[:3]]) == -1)
    assert found.threshold == monitor[-1].offset_ != alone.offset_
    around = RiskControlledDetector(monitor, alpha=0.2).fit(X[HELD_OUT], Y[HELD_OUT])
    outer = explain(around, X[OUTSIDE[:3]])
    np.testing.assert_array_equal(outer.neighbors, found.neighbors)
    assert outer.threshold == around.offset_
