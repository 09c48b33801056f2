"""Few inputs at a time: as fast as can be, and with the same scores as many."""

import copy
import gc
import pickle
import threading
import time
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch
from _estimators import detectors
from _networks import untouched
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import (
    ActivationExtractor,
    Activations,
    Monitor,
    PercentileBinarizer,
    PoolingReducer,
    make_monitor,
)
from skood.calibration import ConformalDetector, UncalibratedWarning
from skood.detectors import (
    HammingNAPDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxSoftmaxDetector,
)
from skood.ensemble import AdaptiveEnsembleDetector, AutoNAPDetector, LayerEnsembleDetector

pytestmark = [
    pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning"),
    pytest.mark.filterwarnings("ignore:No threshold has an error rate"),
]

N_CLASSES = 3


def perceptron():
    torch.manual_seed(0)
    widths = [6, 24, 70, 16]
    layers = [
        part for n_in, n_out in pairwise(widths) for part in (nn.Linear(n_in, n_out), nn.ReLU())
    ]
    network = nn.Sequential(*layers, nn.Linear(16, N_CLASSES)).eval()
    with torch.no_grad():  # all classes are predicted
        logits = network(torch.randn(500, 6))
        network[-1].weight *= 1 / logits.std(0)[:, None]
        network[-1].bias -= network(torch.randn(500, 6)).mean(0)
    return network


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 7, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(7 * 16, N_CLASSES),
    ).eval()


@pytest.fixture(scope="module")
def rows():
    """Inputs of which the network predicts all classes, and labels; the last 20 rows are odd."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(280, 6)), 4 * rng.normal(size=(20, 6))]).astype(np.float32)
    with torch.no_grad():
        predicted = perceptron()(torch.from_numpy(X)).argmax(1).numpy()
    assert len(np.unique(predicted)) == N_CLASSES
    y = np.where(rng.random(300) < 0.8, predicted, rng.integers(0, N_CLASSES, 300))
    return X, np.where(np.arange(300) < 280, y, -1)


def in_haste(monitor, monkeypatch, X):
    """Scores of rows, each by itself, without the extractor once it has seen one."""
    monitor.score_samples(X[:1])
    with hardly_asking_the_extractor(monkeypatch):
        return np.concatenate([monitor.score_samples(X[[row]]) for row in range(len(X))])


@contextmanager
def hardly_asking_the_extractor(monkeypatch):
    """Block in which the extractor itself reads inputs at most now and then."""
    asked, extract = [], ActivationExtractor._extract

    def count(*args, **kwargs):
        asked.append(1)
        return extract(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ActivationExtractor, "_extract", count)
        yield
    assert len(asked) <= 1


def one_by_one(monitor, X):
    """Activations of rows, of which the network runs on each by itself."""
    before = monitor[:-1]
    return Activations.concatenate([before.transform(X[[row]]) for row in range(len(X))])


def without_chance(detector):
    if hasattr(detector, "estimator") and hasattr(detector, "n_neighbors"):
        detector.set_params(estimator=LinearDiscriminantAnalysis())
    return detector


NEED_MORE = {
    "MCDropoutDetector": {"n_passes": 2, "random_state": 0},
    "NACDetector": {"gradients": True},
}


@pytest.mark.parametrize("detector", detectors(), ids=lambda d: type(d).__name__)
@pytest.mark.filterwarnings("ignore:n_neighbors=20, but a sample has only")
def test_one_row_scores_as_among_many(detector, rows, monkeypatch):
    X, y = rows
    name = type(detector).__name__
    network = perceptron()
    if name == "MCDropoutDetector":
        network.insert(2, nn.Dropout(0.5))
    extractor = ActivationExtractor(network, **NEED_MORE.get(name, {}))
    steps = [("extract", extractor), ("detect", without_chance(clone(detector)))]
    monitor = Monitor(steps).fit(X, y)
    A = one_by_one(monitor, X[270:])
    expected = monitor[-1].score_samples(A)
    if name in NEED_MORE:
        found = np.concatenate([monitor.score_samples(row[None]) for row in X[270:]])
    else:
        found = in_haste(monitor, monkeypatch, X[270:])
    if name != "MCDropoutDetector":  # that draws anew for each batch
        assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    decisions = monitor[-1].decision_function(A)
    clear = np.abs(decisions) > 1e-9 * (1 + np.abs(expected))
    verdicts = np.concatenate([monitor.predict(row[None]) for row in X[270:]])
    if name != "MCDropoutDetector":
        assert_array_equal(verdicts[clear], np.where(decisions >= 0, 1, -1)[clear])


@pytest.mark.parametrize("target", ["ood", "misclassified", "both"])
@pytest.mark.parametrize("group_by", [None, "prediction"])
def test_calibrated_monitors_agree(target, group_by, rows, monkeypatch):
    X, y = rows
    monitor = make_monitor(perceptron(), target=target).fit(X[:150], y[:150])
    monitor.calibrate(X[150:280], y[150:280], group_by=group_by, false_alarm_rate=0.1)
    some = X[270:290]
    A = one_by_one(monitor, some)
    in_haste(monitor, monkeypatch, X[:3])
    methods = ["predict", "p_values", "decision_function", "score_samples"]
    each = ["score_each", "decision_each", "predict_each"] if target == "both" else []
    with hardly_asking_the_extractor(monkeypatch):
        for method in methods:
            found = np.concatenate([getattr(monitor, method)(row[None]) for row in some])
            assert_allclose(found, getattr(monitor, method)(A), rtol=1e-9, atol=1e-9)
        for method in each:
            expected = getattr(monitor, method)(A)
            for name, found in getattr(monitor, method)(some[:1]).items():
                assert_allclose(found, expected[name][:1], rtol=1e-9, atol=1e-9)


def test_maps_tensors_and_batches_of_all_sizes(monkeypatch):
    network, rng = convolutions(), np.random.default_rng(0)
    X = torch.from_numpy(rng.normal(size=(200, 1, 8, 8)).astype(np.float32))
    monitor = make_monitor(network).fit(X)
    monitor.predict(X[:2])
    before = monitor[:-1]
    for size in (1, 2, 31, 33, 200):
        parts = X.split(size)[:5]
        expected = [monitor[-1].score_samples(before.transform(part)) for part in parts]
        with hardly_asking_the_extractor(monkeypatch):
            found = [monitor.score_samples(part) for part in parts]
        assert_allclose(np.concatenate(found), np.concatenate(expected), rtol=1e-9, atol=1e-9)


PATTERNS = make_pipeline(PercentileBinarizer(percentile=70), HammingNAPDetector())


@pytest.mark.parametrize(
    "steps", [(), (PercentileBinarizer(percentile=40),)], ids=["values", "bits"]
)
@pytest.mark.parametrize(
    "detector",
    [
        PATTERNS,
        AdaptiveEnsembleDetector(),
        LayerEnsembleDetector(LayerEnsembleDetector(PATTERNS), combine="informed"),
        LayerEnsembleDetector(PATTERNS),
        LayerEnsembleDetector(PATTERNS, combine="vote"),
        LayerEnsembleDetector(HammingNAPDetector(break_ties=False)),
        LayerEnsembleDetector(
            make_pipeline(PercentileBinarizer(percentile=10), HammingNAPDetector(break_ties=False)),
            combine="mean",
        ),
        LayerEnsembleDetector(MahalanobisDetector(relative=True), combine="informed"),
        ConformalDetector(LayerEnsembleDetector(PATTERNS), cv=0.3, random_state=0),
        ConformalDetector(FrozenEstimator(IsolationForest(random_state=0))),
    ],
    ids=lambda d: str(d).replace("\n", " ")[:60],
)
def test_compositions_agree(detector, steps, rows, monkeypatch):
    X, y = rows
    first = make_pipeline(ActivationExtractor(perceptron()), *map(clone, steps))
    if isinstance(detector, ConformalDetector) and detector.cv == "prefit":
        detector.detector.estimator.fit(np.asarray(clone(first).fit_transform(X[:150])))
    monitor = Monitor([*first.steps, ("detect", clone(detector))]).fit(X[150:280], y[150:280])
    expected = monitor[-1].score_samples(one_by_one(monitor, X[280:]))
    assert_allclose(in_haste(monitor, monkeypatch, X[280:]), expected, rtol=1e-9)


def test_a_class_that_was_never_seen_is_rejected(rows, monkeypatch):
    X, _ = rows
    network = perceptron()
    with torch.no_grad():
        predicted = network(torch.from_numpy(X)).argmax(1).numpy()
    known, unknown = X[predicted != 2], X[predicted == 2]
    for layers in ("auto", "penultimate"):
        monitor = Monitor(
            [
                ("extract", ActivationExtractor(network, layers)),
                ("detect", LayerEnsembleDetector(PATTERNS)),
            ]
        ).fit(known)
        monitor.predict(known[:1])
        assert_array_equal([monitor.predict(row[None]).item() for row in unknown[:5]], -1)
        detector = monitor[-1]
        expected = detector.score_samples(one_by_one(monitor, unknown[:5]))
        assert_array_equal(in_haste(monitor, monkeypatch, unknown[:5]), expected)


def test_scores_at_the_threshold_are_accepted_alone_and_among_others(rows):
    X, _ = rows
    steps = [("extract", ActivationExtractor(perceptron(), "penultimate"))]
    detector = HammingNAPDetector(break_ties=False)
    monitor = Monitor([*steps, ("detect", detector)]).fit(X[:100])
    A = monitor[:-1].transform(X)
    detector.offset_ = detector._lowest_accepted = float(np.median(detector.score_samples(A)))
    at = np.flatnonzero(detector.decision_function(A) == 0)
    assert len(at) > 5
    assert all(monitor.predict(X[[row]]) == 1 for row in at)
    calibrated = Monitor([*steps, ("detect", KNNDetector(n_neighbors=3))]).fit(X[:100])
    calibrated.calibrate(X[100:280])
    held_out = calibrated.calibration_.calibration_scores_
    rank = int(np.argmin(np.abs(held_out - calibrated.offset_)))
    assert calibrated.predict(X[[100 + rank]]) == calibrated.predict(X[100:280])[rank]


@pytest.mark.parametrize("is_open", [False, True])
def test_what_is_wrong_with_inputs_is_said_as_before(is_open, rows):
    X, _ = rows
    monitor = make_monitor(perceptron()).fit(X[:100])
    monitor.predict(X[:1])
    if is_open:
        monitor.open()
    bad = X[:1].copy()
    bad[0, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN in sample 0"):
        monitor.predict(bad)
    with pytest.raises(ValueError, match="is expecting 6 features"):
        monitor.predict(X[:1, :5])
    with pytest.raises(ValueError, match="0 sample"):
        monitor.predict(X[:0])
    with pytest.raises(ValueError, match="contains infinity"):
        monitor.predict(torch.full((1, 6), torch.inf))
    assert monitor.predict(X[:1].tolist()) == monitor.predict(X[:1])
    monitor.close()


@pytest.mark.parametrize("make", [perceptron, convolutions])
def test_an_open_monitor_leaves_nothing_behind(make, rows):
    network = make()
    X = (
        rows[0]
        if make is perceptron
        else np.ones((40, 1, 8, 8), np.float32) * rows[0][:40, :1, None, None]
    )
    monitor = make_monitor(network).fit(X[:100])
    n_hooks = sum(len(m._forward_hooks) for m in network.modules())
    with untouched(network):
        with monitor.open() as same:
            assert same is monitor
            assert sum(len(m._forward_hooks) for m in network.modules()) > n_hooks
            random_states = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
            first = monitor.predict(X[:1])
            assert_array_equal(first, monitor.predict(X[:1]))
            assert torch.equal(random_states[0], torch.get_rng_state())
        with pytest.raises(ZeroDivisionError), monitor.open():
            raise ZeroDivisionError
        monitor.open()
        monitor.predict(X[:1])
        copied, pickled = copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))
        for other in (copied, pickled, clone(monitor)):
            assert not other._is_open
            assert other.network is not network or other is not monitor
        for other in (copied, pickled):
            assert not any(m._forward_hooks for m in other.network.modules())
            assert_array_equal(other.predict(X[:1]), first)
        assert_array_equal(monitor.predict(X[:1]), first)
        monitor.close()
        monitor.close()
        monitor.open()
        monitor.predict(X[:1])
        del same, monitor
        gc.collect()


def test_a_block_in_another_leaves_the_monitor_open(rows):
    network, (X, _) = perceptron(), rows
    monitor = make_monitor(network).fit(X[:100])

    def n_hooks():
        monitor.predict(X[:1])
        return sum(len(module._forward_hooks) for module in network.modules())

    n_open = 0
    with monitor.open():
        n_open = n_hooks()
        with monitor.open():
            assert n_hooks() == n_open
        with pytest.raises(ZeroDivisionError), monitor:
            raise ZeroDivisionError
        assert n_hooks() == n_open > 0
    assert n_hooks() == 0
    with monitor.open(), monitor:
        monitor.close()  # at once, whatever blocks there are
        assert n_hooks() == 0
    with monitor.open():
        assert n_hooks() == n_open
    assert n_hooks() == 0


def test_a_monitor_that_was_opened_without_a_block_stays_open_after_one(rows):
    network, (X, _) = perceptron(), rows
    monitor = make_monitor(network).fit(X[:100])

    def is_open():
        monitor.predict(X[:1])
        return any(module._forward_hooks for module in network.modules())

    monitor.open()
    for _ in range(2):
        with monitor.open():
            assert is_open()
        assert is_open()
    monitor.close()
    assert not is_open()
    with monitor.open():
        assert is_open()
    assert not is_open()
    monitor.open()
    with monitor:  # which takes it over
        assert is_open()
    assert not is_open()


def test_the_block_that_ends_last_closes_it_in_whatever_thread(rows):
    network, (X, _) = perceptron(), rows
    monitor = make_monitor(network).fit(X[:100])
    is_inside, may_leave = threading.Event(), threading.Event()

    def work():
        with monitor.open():
            is_inside.set()
            may_leave.wait(60)

    thread = threading.Thread(target=work)
    with monitor.open():
        thread.start()
        is_inside.wait(60)
    assert monitor._is_open
    may_leave.set()
    thread.join(60)
    assert not monitor._is_open


def test_calls_of_the_network_itself_are_not_heard(rows):
    network, (X, _) = perceptron(), rows
    monitor = make_monitor(network).fit(X[:100])
    expected = network(torch.from_numpy(X[:5]))
    with monitor.open():
        monitor.predict(X[:1])
        found = network(torch.from_numpy(X[:5]))
        found.sum().backward()
        assert torch.equal(found, expected)
        twin = copy.deepcopy(network)
        assert torch.equal(twin(torch.from_numpy(X[:5])), expected)
    with pytest.raises(NotFittedError):
        make_monitor(network).open()


@pytest.mark.parametrize("is_open", [False, True])
def test_a_network_that_changes_is_noticed(is_open):
    network = convolutions()
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 1, 8, 8))).float()
    monitor = make_monitor(network).fit(images)
    verdicts = monitor.score_samples(images[:1])
    if is_open:
        monitor.open()
    monitor.predict(images[:1])
    network.train()
    assert_array_equal(monitor.score_samples(images[:1]), verdicts)
    assert all(module.training for module in network.modules())
    assert network[1].num_batches_tracked == 0
    network.eval()
    with torch.no_grad():
        network[0].weight += 1
    with pytest.raises(ValueError, match=r"not what it was in fit: '0\.weight' differs"):
        monitor.predict(images[:1])
    with torch.no_grad():
        network[0].weight -= 1
    network[2] = nn.Tanh()
    with pytest.raises(ValueError, match="not what it was in fit"):
        monitor.predict(images[:1])
    monitor.close()


@pytest.mark.parametrize("make", [perceptron, lambda: perceptron().insert(0, nn.Linear(6, 6))])
def test_a_changed_network_is_not_opened(make, rows):
    X, _ = rows
    network = make().eval()
    monitor = make_monitor(network).fit(X[:100])
    network[0].weight.data[0, 5] += 1
    with pytest.raises(ValueError, match=r"'0\.weight' differs"):
        monitor.open()
    assert not monitor._is_open
    assert not any(module._forward_hooks for module in network.modules())


def test_what_is_written_behind_the_counts_of_torch_shows_while_open(rows):
    X, _ = rows
    network = perceptron()
    monitor = make_monitor(network).fit(X[:100])
    ways = [
        lambda by: network[2].weight.data.add_(by),
        lambda by: np.add(w := network[2].weight.detach().numpy(), by, out=w),
    ]
    for write in ways:
        kept = network[2].weight.detach().clone()
        with monitor.open():
            monitor.score_samples(X[:1])
            monitor.score_samples(X[:1])
            write(1)
            time.sleep(1.1)  # on a busy machine, values are looked at each second
            with pytest.raises(ValueError, match=r"'2\.weight' differs"):
                monitor.score_samples(X[:1])
            network[2].weight.data.copy_(kept)
        monitor.score_samples(X[:1])


def test_copies_made_while_a_monitor_is_open(rows):
    X, _ = rows
    network = perceptron()
    n_hooks = lambda net: sum(len(m._forward_hooks) for m in net.modules())  # noqa: E731
    monitor = make_monitor(network).fit(X[:100]).open()
    monitor.predict(X[:1])
    there = n_hooks(network)
    twin, expected = copy.deepcopy(network), network(torch.from_numpy(X[:5]))
    for _ in range(2):  # the hooks of a copy go with its first call
        assert torch.equal(twin(torch.from_numpy(X[:5])), expected)
        assert n_hooks(twin) == 0
        assert not any(m._forward_hooks_with_kwargs for m in twin.modules())
    pickle.dumps(monitor)
    assert n_hooks(network) == 0
    monitor.predict(X[:1])
    assert n_hooks(network) == there > 0
    monitor.close()
    assert n_hooks(network) == 0


def test_whatever_is_fitted_or_set_anew_counts(rows):
    X, _ = rows
    monitor = make_monitor(perceptron()).fit(X[:100])
    for _ in range(3):
        first = monitor.score_samples(X[:1])
    other = make_monitor(perceptron()).fit(X[100:200])
    expected = other[-1].score_samples(other[:-1].transform(X[:1]))
    assert not np.allclose(first, expected)
    assert_allclose(clone(monitor).fit(X[100:200]).score_samples(X[:1]), expected, rtol=1e-9)
    assert_allclose(monitor.fit(X[100:200]).score_samples(X[:1]), expected, rtol=1e-9)
    monitor.fit(X[:100]).score_samples(X[:1])
    monitor[-1].fit(monitor[:-1].transform(X[100:200]))
    assert_allclose(monitor.score_samples(X[:1]), expected, rtol=1e-9)
    monitor.fit(X[:100]).score_samples(X[:1])
    monitor.set_params(detect=other[-1])
    assert_allclose(monitor.score_samples(X[:1]), expected, rtol=1e-9)
    steps = [("extract", ActivationExtractor(perceptron(), "penultimate"))]
    small = Monitor([*steps, ("detect", KNNDetector(n_neighbors=1))]).fit(X[:50])
    small.score_samples(X[60:61])
    small.partial_fit(X[50:100])
    assert_allclose(small.score_samples(X[60:61]), 0, atol=1e-6)
    calibrated = monitor.fit(X[:100]).calibrate(X[100:200])
    calibrated.predict(X[:1])
    calibrated[-1].fit(monitor[:-1].transform(X[100:200]))
    with pytest.raises(NotFittedError, match="exchanged or fitted anew after calibrate"):
        calibrated.predict(X[:1])


def fit_a_member(ensemble, A):
    ensemble.named_estimators_["distances"].fit(A[ensemble.layers_])


def set_a_parameter_far_inside(ensemble, A):
    ensemble.named_estimators_["patterns"].estimators_[1].estimators_[0][-1].break_ties = False


def exchange_a_step_in_place(ensemble, A):
    pipeline = ensemble.named_estimators_["patterns"].estimators_[1].estimators_[0]
    bits = pipeline[0].transform(A[ensemble.layers_[1:2]])
    pipeline.steps[1] = ("hammingnapdetector", HammingNAPDetector().fit(bits))


def exchange_a_member_in_place(ensemble, A):
    members = ensemble.named_estimators_["distances"].estimators_
    members[1] = clone(members[1]).fit(A[ensemble.layers_[1:2]])


@pytest.mark.parametrize(
    "change",
    [
        fit_a_member,
        set_a_parameter_far_inside,
        exchange_a_step_in_place,
        exchange_a_member_in_place,
    ],
)
def test_what_changes_far_inside_the_detector_shows(change, rows):
    X, _ = rows
    monitor = make_monitor(perceptron()).fit(X[:100])
    for _ in range(3):
        first = monitor.score_samples(X[200:210])
    change(monitor[-1], monitor[:-1].transform(X[100:150]))
    expected = monitor[-1].score_samples(monitor[:-1].transform(X[200:210]))
    assert not np.allclose(first, expected)
    assert_allclose(monitor.score_samples(X[200:210]), expected, rtol=1e-9)


def test_threads_share_an_open_monitor():
    network = convolutions()
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(120, 1, 8, 8))).float()
    monitor = make_monitor(network).fit(images)
    expected = monitor[-1].score_samples(one_by_one(monitor, images[:40]))
    found = np.full(40, np.nan)
    failed = []

    def work(first):
        try:
            for row in range(first, 40, 4):
                found[row] = monitor.score_samples(images[row : row + 1]).item()
        except Exception as error:
            failed.append(error)

    with monitor.open():
        threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not failed
    assert_allclose(found, expected, rtol=1e-9)
    assert not any(module._forward_hooks for module in network.modules())


def test_two_monitors_of_one_network_are_open_at_once(rows):
    X, _ = rows
    network = perceptron()
    first = make_monitor(network).fit(X[:100])
    second = make_monitor(network, target="misclassified").fit(X[:100])
    expected = [m.score_samples(X[:3]) for m in (first, second)]
    with first.open(), second.open():
        for _ in range(3):
            assert_allclose(first.score_samples(X[:3]), expected[0], rtol=1e-9)
            assert_allclose(second.score_samples(X[:3]), expected[1], rtol=1e-9)
    assert_allclose(first.score_samples(X[:3]), expected[0], rtol=1e-9)


def test_perceptrons_of_scikit_learn_keep_their_type(rows, monkeypatch):
    X, y = rows
    names = np.array(["a", "b", "c"])
    network = MLPClassifier((8, 5), max_iter=30, random_state=0)
    with pytest.warns(match="Stochastic Optimizer"):
        network.fit(X[:280], names[y[:280]])
    monitor = make_monitor(network).fit(X[:200])
    for values in (X[:20], X[:20].astype(np.float64)):
        expected = monitor[-1].score_samples(one_by_one(monitor, values))
        assert_allclose(in_haste(monitor, monkeypatch, values), expected, rtol=1e-9)
    network.coefs_[0] = network.coefs_[0] + 1
    with pytest.raises(ValueError, match="not what it was in fit"):
        monitor.predict(X[:1])


class _SqueezesOne(nn.Module):
    """Loses the axis of the samples where there is one alone."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, x):
        return self.head(self.relu(self.fc(x)).squeeze())


class _CountsCalls(perceptron().__class__):
    """Writes into a buffer, and into an attribute, in every pass."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.register_buffer("count", torch.zeros(1))
        self.last_shape = None

    def forward(self, x):
        self.count += 1
        self.last_shape = tuple(x.shape)
        return super().forward(x)


def test_networks_of_other_habits(rows):
    X, _ = rows
    torch.manual_seed(0)
    for network in (_SqueezesOne().eval(), _CountsCalls(*perceptron()).eval()):
        monitor = make_monitor(network, layers="*").fit(X[:100])
        expected = monitor[-1].score_samples(one_by_one(monitor, X[:6]))
        with monitor.open():
            found = [monitor.score_samples(row[None]).item() for row in X[:6]]
            assert_allclose(found, expected, rtol=1e-9)
        if isinstance(network, _CountsCalls):
            assert network.count == 0


def test_steps_between_extractor_and_detector(rows, monkeypatch):
    X, _ = rows
    steps = [
        ("extract", ActivationExtractor(perceptron(), reducer=PoolingReducer())),
        ("binarize", PercentileBinarizer(percentile=40)),
        ("detect", HammingNAPDetector()),
    ]
    monitor = Monitor(steps).fit(X[:100])
    expected = monitor[-1].score_samples(one_by_one(monitor, X[:9]))
    assert_array_equal(in_haste(monitor, monkeypatch, X[:9]), expected)


def test_auto_nap_and_softmax_read_what_they_say(rows, monkeypatch):
    X, y = rows
    for detector in (AutoNAPDetector(), MaxSoftmaxDetector()):
        steps = [("extract", ActivationExtractor(perceptron())), ("detect", detector)]
        monitor = Monitor(steps).fit(X, y)
        expected = monitor[-1].score_samples(one_by_one(monitor, X[:9]))
        assert_allclose(in_haste(monitor, monkeypatch, X[:9]), expected, rtol=1e-9)


def test_nothing_warns_twice(rows):
    X, _ = rows
    monitor = make_monitor(perceptron())
    with pytest.warns(UncalibratedWarning):
        monitor.fit(X[:100])
    monitor.predict(X[:1])
