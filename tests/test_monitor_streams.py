"""Monitors that learn in batches and merge: scores, thresholds and p-values of one fit."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from _networks import with_exact_sums
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDOneClassSVM
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skood import (
    ActivationExtractor,
    HammingNAPDetector,
    Monitor,
    PercentileBinarizer,
    _monitor_rows,
    make_monitor,
)
from skood.calibration import ConformalDetector, UncalibratedWarning
from skood.datasets import load_digits_ood
from skood.detectors import ClusterDistanceDetector, EnergyDetector, KNNDetector
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.preprocessing import LayerSelector
from skood.shaping import ASH, ReAct

X, Y = load_digits_ood(return_X_y=True)
X = X.reshape(len(X), -1)
INSIDE = np.random.default_rng(0).permutation(np.flatnonzero(Y != -1))
TRAIN, ROWS, HELD_OUT = INSIDE[:500], INSIDE[500:800], INSIDE[800:950]
MLP = with_exact_sums(
    MLPClassifier((24, 12), random_state=0, max_iter=60, tol=1, n_iter_no_change=40).fit(
        X[TRAIN], Y[TRAIN]
    )
)
IMAGES = torch.tensor(X.reshape(-1, 1, 8, 8), dtype=torch.float32)

pytestmark = pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning")


class Conv(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.relu = nn.Conv2d(1, 4, 3), nn.ReLU()
        self.head = nn.Linear(4 * 36, 10)

    def forward(self, images):
        return self.head(self.relu(self.conv(images)).flatten(1))


CONV = Conv().eval()
# Of a network that is not trained, what it says with some mistakes.
with torch.no_grad():
    SAID = CONV(IMAGES).argmax(1).numpy()
LABELS = np.where(Y == -1, -1, np.where(np.arange(len(Y)) % 5 == 0, (SAID + 1) % 10, SAID))
NETWORKS = {"mlp": (MLP, X, Y), "conv": (CONV, IMAGES, LABELS)}


def monitor_of(detector=None, network=MLP, **params):
    detector = KNNDetector(n_neighbors=5) if detector is None else detector
    steps = [("extract", ActivationExtractor(network, "penultimate")), ("detect", detector)]
    return Monitor(steps, **params)


def assert_same(found, expected, inputs, *, calibrated=True):
    methods = ["score_samples", "decision_function"] + ["p_values"] * calibrated
    for method in methods:
        values = getattr(expected, method)(inputs)
        np.testing.assert_allclose(getattr(found, method)(inputs), values, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(found.predict(inputs), expected.predict(inputs))
    if calibrated:
        np.testing.assert_array_equal(found.select(inputs, 0.2), expected.select(inputs, 0.2))
    assert repr(found).splitlines()[1:6] == repr(expected).splitlines()[1:6]


@pytest.mark.parametrize(("name", "target"), [("mlp", "ood"), ("mlp", "both"), ("conv", "both")])
def test_batches_and_trees_of_merges_are_one_fit(name, target):
    network, inputs, labels = NETWORKS[name]

    def monitor():
        return make_monitor(network, target=target)

    expected = monitor().fit(inputs[ROWS], labels[ROWS])
    parts = np.split(np.random.default_rng(1).permutation(ROWS), [90, 97, 200])
    stream = monitor()
    for rows in parts:
        assert stream.partial_fit(inputs[rows], labels[rows]) is stream
    assert_same(stream, expected, inputs, calibrated=False)
    for one in (stream, expected):
        one.calibrate(inputs[HELD_OUT], labels[HELD_OUT])
    assert_same(stream, expected, inputs)
    first, second, third, fourth = (monitor().fit(inputs[rows], labels[rows]) for rows in parts)
    before = fourth.score_samples(inputs)
    merged = third.merge(fourth).merge(first.merge(second))
    np.testing.assert_array_equal(fourth.score_samples(inputs), before)
    assert merged is third
    assert_same(merged.calibrate(inputs[HELD_OUT], labels[HELD_OUT]), expected, inputs)


def test_batches_come_from_loaders_and_as_activations_of_single_rows():
    expected = make_monitor(CONV).fit(IMAGES[ROWS], Y[ROWS])
    labels = torch.tensor(Y[ROWS])
    stream = make_monitor(CONV)
    for part in (slice(0, 160), slice(160, 298)):
        loader = DataLoader(TensorDataset(IMAGES[ROWS][part], labels[part]), batch_size=64)
        stream.partial_fit(loader, Y[ROWS][part])
    A = stream[:-1].transform(IMAGES[ROWS])
    for row in range(298, 300):
        stream.partial_fit(A[[row]], Y[ROWS[[row]]])
    assert_same(stream, expected, IMAGES, calibrated=False)


def test_a_batch_may_be_empty_or_of_marked_rows_alone():
    monitor = make_monitor(MLP).partial_fit(X[ROWS], Y[ROWS])
    before = monitor.decision_function(X)
    for rows in (ROWS[:0], np.flatnonzero(Y == -1)):
        monitor.partial_fit(X[rows], Y[rows])
        np.testing.assert_array_equal(monitor.decision_function(X), before)
    with pytest.raises(ValueError, match="0 sample"):
        make_monitor(MLP).partial_fit(X[:0])


@pytest.mark.parametrize("group_by", [None, "prediction"])
def test_a_calibrated_monitor_stays_calibrated_by_the_same_rows(group_by):
    promise = {"false_alarm_rate": 0.2, "group_by": group_by}
    expected = make_monitor(MLP, target="both").fit(X[ROWS], Y[ROWS])
    expected.calibrate(X[HELD_OUT], Y[HELD_OUT], **promise)
    stream = make_monitor(MLP, target="both").fit(X[ROWS[:100]], Y[ROWS[:100]])
    stream.calibrate(X[HELD_OUT], Y[HELD_OUT], **promise)
    for rows in (ROWS[100:130], ROWS[130:]):
        stream.partial_fit(X[rows], Y[rows])
    assert_same(stream, expected, X[INSIDE])


def test_merged_monitors_are_calibrated_by_the_rows_of_both():
    expected = make_monitor(MLP).fit(X[ROWS], Y[ROWS]).calibrate(X[HELD_OUT])
    halves = [make_monitor(MLP).fit(X[rows], Y[rows]) for rows in np.array_split(ROWS, 2)]
    one, two = copy.deepcopy(halves)
    one.calibrate(X[HELD_OUT[:70]])
    two.calibrate(X[HELD_OUT[70:]], Y[HELD_OUT[70:]])
    assert_same(one.merge(two), expected, X)
    one, two = copy.deepcopy(halves)
    assert_same(one.merge(two.calibrate(X[HELD_OUT])), expected, X)
    one, two = copy.deepcopy(halves)
    one.calibrate(X[HELD_OUT])
    with pytest.raises(ValueError, match=r"calibrated alike.*0\.3"):
        one.merge(two.calibrate(X[HELD_OUT], false_alarm_rate=0.3))
    assert one.calibration_.n_calibration_samples_ == one["detect"].n_samples_seen_ == 150
    assert one.predict(X).shape == Y.shape


def test_labels_of_errors_calibrate_what_is_merged():
    def monitor(rows, held_out):
        one = make_monitor(MLP, target="misclassified").fit(X[rows], Y[rows])
        return one.calibrate(X[held_out], Y[held_out])

    expected = monitor(ROWS, HELD_OUT)
    merged = monitor(ROWS[:120], HELD_OUT[:60]).merge(monitor(ROWS[120:], HELD_OUT[60:]))
    n_right = int((MLP.predict(X[HELD_OUT]) == Y[HELD_OUT]).sum())
    assert merged.calibration_.n_calibration_samples_ == n_right < len(HELD_OUT)
    assert_same(merged, expected, X)


@pytest.mark.parametrize("way", ["partial_fit", "merge"])
def test_rows_that_validation_holds_out_give_p_values(way):
    parts = np.array_split(ROWS, 3)
    if way == "partial_fit":
        monitor = make_monitor(MLP, validation=0.4)
        for rows in parts:
            monitor.partial_fit(X[rows], Y[rows])
    else:
        monitor, *others = (make_monitor(MLP, validation=0.4).fit(X[r], Y[r]) for r in parts)
        for other in others:
            monitor.merge(other)
    held_out = ROWS[monitor["detect"].training_rows_]
    assert len(held_out) == monitor.calibration_.n_calibration_samples_ == 120
    known = monitor.score_samples(X[held_out])
    counts = (known <= monitor.score_samples(X[INSIDE])[:, np.newaxis] + 1e-6).sum(axis=1)
    np.testing.assert_allclose(monitor.p_values(X[INSIDE]), (1 + counts) / 121, atol=1 / 120)
    assert monitor.offset_ == pytest.approx(monitor["detect"].offset_)
    assert "calibrated by 120 held-out rows" in repr(monitor)


def test_calibrating_takes_the_place_of_validation():
    one, two = (make_monitor(MLP, validation=0.4).fit(X[r]) for r in np.array_split(ROWS, 2))
    one.calibrate(X[HELD_OUT]).merge(two)
    assert one.calibration_.n_calibration_samples_ == len(HELD_OUT)
    one.partial_fit(X[TRAIN[:100]])
    assert one.calibration_.n_calibration_samples_ == len(HELD_OUT)


def test_too_many_rows_are_not_kept(monkeypatch):
    monkeypatch.setattr(_monitor_rows, "KEPT_BYTES", 1000)
    monitor = monitor_of().fit(X[ROWS]).calibrate(X[HELD_OUT])
    with pytest.warns(UncalibratedWarning, match="not kept.*Call calibrate again"):
        monitor.partial_fit(X[TRAIN])
    assert monitor.offset_ == monitor["detect"].offset_
    with pytest.raises(NotFittedError, match="call calibrate"):
        monitor.p_values(X)
    assert monitor.calibrate(X[HELD_OUT]).p_values(X).shape == Y.shape


# What may not be merged


def test_networks_steps_and_parameters_have_to_be_the_same():
    monitor = monitor_of().fit(X[ROWS], Y[ROWS])
    before = pickle.dumps(vars(monitor["detect"]))
    other = MLPClassifier((24, 12), random_state=1, max_iter=20, tol=1).fit(X[TRAIN], Y[TRAIN])
    for what, error, message in (
        (monitor_of(network=other).fit(X[ROWS]), ValueError, "of the same network"),
        (monitor_of(KNNDetector(n_neighbors=3)).fit(X[ROWS]), ValueError, "same parameters"),
        (monitor_of(EnergyDetector()).fit(X[ROWS]), TypeError, "Only another KNNDetector"),
        (monitor_of(target="both").fit(X[ROWS]), ValueError, "same target"),
        (monitor_of(), NotFittedError, "not fitted"),
        (monitor["detect"], TypeError, "Only another Monitor"),
        (
            Monitor([("run", ActivationExtractor(MLP)), ("detect", KNNDetector())]).fit(X[ROWS]),
            ValueError,
            "same steps",
        ),
        (
            Monitor([("extract", ActivationExtractor(MLP)), ("detect", KNNDetector())]).fit(X),
            ValueError,
            "same layers",
        ),
    ):
        with pytest.raises(error, match=message):
            monitor.merge(what)
    assert pickle.dumps(vars(monitor["detect"])) == before
    with pytest.raises(NotFittedError):
        monitor_of().merge(monitor)
    copied = pickle.loads(pickle.dumps(monitor_of().fit(X[TRAIN])))
    assert monitor.merge(copied)["detect"].n_samples_seen_ == 800


def test_a_batch_that_is_refused_changes_nothing():
    monitor = make_monitor(MLP).partial_fit(X[ROWS], Y[ROWS]).calibrate(X[HELD_OUT])
    before = monitor.decision_function(X)
    shown = repr(monitor)
    for batch, labels, message in (
        (np.full((5, 64), np.nan), None, "NaN"),
        (X[:5], Y[:4], "4"),
        (X[:, :9], None, "9 features"),
    ):
        with pytest.raises(ValueError, match=message):
            monitor.partial_fit(batch, labels)
    np.testing.assert_array_equal(monitor.decision_function(X), before)
    assert repr(monitor) == shown
    unfitted = make_monitor(MLP)
    with pytest.raises(ValueError, match="NaN"):
        unfitted.partial_fit(np.full((5, 64), np.nan))
    assert "not fitted" in repr(unfitted)


def test_a_network_that_changes_between_batches_is_refused():
    network = Conv(seed=3).eval()
    monitor = make_monitor(network).partial_fit(IMAGES[ROWS], Y[ROWS])
    with torch.no_grad():
        network.head.weight.mul_(2)
    with pytest.raises(ValueError, match="Fit again"):
        monitor.partial_fit(IMAGES[TRAIN])


def test_a_detector_that_was_fitted_by_itself_is_refused():
    monitor = monitor_of().fit(X[ROWS]).calibrate(X[HELD_OUT])
    monitor["detect"].partial_fit(monitor[:-1].transform(X[TRAIN[:9]]))
    with pytest.raises(NotFittedError, match="call calibrate again"):
        monitor.partial_fit(X[TRAIN])


# Steps


def test_steps_before_the_detector_learn_from_no_rows():
    def monitor(*steps, detector=None):
        named = [(f"step{number}", step) for number, step in enumerate(steps)]
        extractor = ActivationExtractor(MLP, "penultimate")
        return Monitor([("extract", extractor), *named, ("detect", detector or KNNDetector())])

    with pytest.raises(ValueError, match=r"ReAct learns from the rows.*FrozenEstimator"):
        monitor(ReAct()).partial_fit(X[ROWS])
    fitted = monitor(ReAct()).fit(X[ROWS])
    with pytest.raises(ValueError, match="ReAct learns"):
        fitted.partial_fit(X[TRAIN])
    frozen = FrozenEstimator(fitted["step0"])
    nap = make_pipeline(PercentileBinarizer(), HammingNAPDetector())
    for step, detector in ((frozen, None), (ASH(), None), (LayerSelector(layers=-1), nap)):
        expected = monitor(step, detector=detector).fit(X[ROWS])
        stream = monitor(step, detector=None if detector is None else clone(detector))
        for rows in np.array_split(ROWS, 2):
            stream.partial_fit(X[rows])
        assert_same(stream, expected, X, calibrated=False)
    others = monitor(FrozenEstimator(ReAct(percentile=50).fit(fitted[:1].transform(X[ROWS]))))
    with pytest.raises(ValueError, match="must do the same"):
        monitor(frozen).fit(X[ROWS]).merge(others.fit(X[ROWS]))


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (AutoNAPDetector(), "AutoNAPDetector"),
        (ClusterDistanceDetector(), "ClusterDistanceDetector"),
        (ConformalDetector(KNNDetector(), cv=0.5), "ConformalDetector"),
        (LayerEnsembleDetector(ClusterDistanceDetector()), "ClusterDistanceDetector"),
        (make_pipeline(ReAct(), EnergyDetector()), "ReAct learns from the rows"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_detectors_that_need_all_rows_say_so(detector, message):
    monitor = monitor_of(detector)
    for method in ("partial_fit", "merge"):
        assert not hasattr(monitor, method)
        with pytest.raises(AttributeError) as caught:
            getattr(monitor, method)
        assert message in str(caught.value.__cause__ or caught.value)


def test_detectors_of_others_learn_in_batches_and_cannot_be_merged():
    detector = make_pipeline(FrozenEstimator(PercentileBinarizer()), SGDOneClassSVM())
    assert not hasattr(monitor_of(detector), "merge")
    A = monitor_of().fit(X[ROWS])[:-1].transform(X[ROWS])
    detector = make_pipeline(FrozenEstimator(PercentileBinarizer().fit(A)), SGDOneClassSVM())
    monitor = monitor_of(detector).partial_fit(X[ROWS]).partial_fit(X[TRAIN])
    assert monitor["detect"][-1].t_ > len(ROWS)


# What is said of rows that were seen


def test_rows_of_all_batches_and_merges_are_known_again():
    stream = monitor_of().partial_fit(X[ROWS[:150]]).partial_fit(X[ROWS[150:]])
    merged = monitor_of().fit(X[ROWS[:150]]).merge(monitor_of().fit(X[ROWS[150:]]))
    for monitor in (stream, merged):
        with pytest.raises(ValueError, match="the 300 rows that fit got"):
            monitor.calibrate(X[ROWS[::-1]])
        with pytest.warns(UncalibratedWarning, match="100% of the rows"):
            monitor.calibrate(X[ROWS[:60]])
        with pytest.warns(UncalibratedWarning, match="50% of the rows"):
            monitor.calibrate(X[np.r_[ROWS[240:], HELD_OUT[:60]]])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            monitor.calibrate(X[HELD_OUT])


def test_learning_from_rows_that_calibrate_is_warned_of():
    monitor = monitor_of().fit(X[ROWS]).calibrate(X[HELD_OUT])
    with pytest.warns(UncalibratedWarning, match="20% of the rows that calibrate got"):
        monitor.partial_fit(X[np.r_[TRAIN[:50], HELD_OUT[:30]]])
    other = monitor_of().fit(X[HELD_OUT])
    monitor = monitor_of().fit(X[ROWS]).calibrate(X[HELD_OUT])
    with pytest.warns(UncalibratedWarning, match="100% of the rows that calibrate got"):
        monitor.merge(other)


@pytest.mark.filterwarnings("error")
def test_an_estimate_is_warned_of_once():
    monitor = monitor_of()
    with pytest.warns(UncalibratedWarning, match="no labels say"):
        monitor.partial_fit(X[ROWS[:100]])
    monitor.partial_fit(X[ROWS[100:200]]).partial_fit(X[ROWS[200:]])
    monitor.calibrate(X[HELD_OUT]).partial_fit(X[TRAIN[:50]])
    with pytest.warns(UncalibratedWarning, match="no labels say"):
        other = monitor_of().fit(X[ROWS])
    assert other.merge(monitor).calibration_.n_calibration_samples_ == len(HELD_OUT)


@pytest.mark.filterwarnings("error")
def test_labels_of_all_batches_tell_whether_the_network_knows_the_rows():
    wrong = ROWS[MLP.predict(X[ROWS]) != Y[ROWS]]
    right = np.setdiff1d(ROWS, wrong)
    monitor = monitor_of().partial_fit(X[wrong], Y[wrong])
    for row in right[:5, np.newaxis]:
        monitor.partial_fit(X[row], Y[row])
    monitor.partial_fit(X[right[5:]], Y[right[5:]])
    expected = monitor_of().fit(X[ROWS], Y[ROWS])._learnt.evidence
    found = monitor._learnt.evidence
    assert (found.n_rows, found.n_wrong) == (expected.n_rows, expected.n_wrong) == (300, len(wrong))
    assert found.expected == pytest.approx(expected.expected)
    assert found.labels == expected.labels
    assert found.why_uncalibrated(monitor["detect"]) == ""
    with pytest.warns(UncalibratedWarning, match="It gets 0 of 60 wrong"):
        monitor = monitor_of().partial_fit(X[right[:60]], Y[right[:60]])
    monitor.partial_fit(X[right[60:]], Y[right[60:]])


def test_memory_is_that_of_what_is_kept():
    monitor = make_monitor(MLP).fit(X[ROWS], Y[ROWS])
    before = monitor.memory_usage()
    monitor.calibrate(X[HELD_OUT])
    kept = 150 * (24 + 12 + 10) * 8
    assert kept <= monitor.memory_usage() - before <= kept + 150 * 8 * 6 + 20_000
    copied = pickle.loads(pickle.dumps(monitor))
    copied.partial_fit(X[TRAIN[:100]])
    monitor.partial_fit(X[TRAIN[:100]])
    assert_same(copied, monitor, X)
    assert "400 rows" in repr(copied)


@pytest.mark.parametrize("validation", [None, 0.25])
def test_a_stream_may_begin_with_a_single_row(validation):
    def knn():
        detector = KNNDetector(n_neighbors=3, validation=validation)
        return Monitor([("extract", ActivationExtractor(MLP)), ("detect", detector)])

    stream, inputs, labels = knn(), X[ROWS], Y[ROWS]
    stream.partial_fit(inputs[:1], labels[:1])
    for call in (stream.predict, stream.score_samples, stream.calibrate, stream.p_values):
        with pytest.raises(NotFittedError, match="seen, 1, are too few"):
            call(X[HELD_OUT])
    for unfitted in (stream, stream["detect"]):
        assert not unfitted.__sklearn_is_fitted__()
        with pytest.raises(NotFittedError):
            check_is_fitted(unfitted)
    learnt = stream._extractor
    other = knn().partial_fit(inputs[1:2], labels[1:2])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(n_neighbors|calibration row)")
        stream.merge(other)
        stream.partial_fit(inputs[2:200], labels[2:200])
    assert stream._extractor is learnt
    stream.partial_fit(inputs[200:], labels[200:])
    assert stream.__sklearn_is_fitted__()
    scores = stream.score_samples(X[HELD_OUT])
    if validation is None:
        expected = knn().fit(inputs, labels)
        np.testing.assert_array_equal(scores, expected.score_samples(X[HELD_OUT]))
        np.testing.assert_array_equal(stream.predict(X), expected.predict(X))
        return
    detector = stream["detect"]
    assert len(detector.training_rows_) + len(detector.learnt_rows_) == len(ROWS)
    assert stream.calibration_.n_calibration_samples_ == len(detector.training_rows_) >= 70
    held_out = inputs[detector.training_rows_]
    again = knn().set_params(detect__validation=None)
    again.fit(inputs[detector.learnt_rows_], labels[detector.learnt_rows_]).calibrate(held_out)
    np.testing.assert_allclose(stream.p_values(X), again.p_values(X))
