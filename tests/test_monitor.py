"""The monitor in one line, on a real network and real data."""

import pickle
import re

import joblib
import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skood import ActivationExtractor, Activations, Monitor, make_monitor
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import EnergyDetector, KNNDetector, MaxSoftmaxDetector
from skood.detectors._base_incremental import forget_batches
from skood.ensemble import AnyAlarmDetector, LayerEnsembleDetector
from skood.inspection import explain
from skood.model_selection import DetectorSearchCV, OODKFold


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


TARGETS = ("ood", "misclassified", "both")


def composed(network, detector=None, **params):
    extractor = ActivationExtractor(network)
    return Monitor([("extract", extractor), ("detect", detector or KNNDetector())], **params)


@pytest.mark.parametrize("target", TARGETS)
def test_a_monitor_does_what_its_steps_do(digits, target):
    network, X, y, inside = digits
    monitor = make_monitor(network, target=target).fit(X[inside[:900]], y[inside[:900]])
    assert isinstance(monitor, Monitor)
    assert list(monitor.named_steps) == ["extract", "detect"]
    A = monitor["extract"].transform(X[:50])
    for method in ("predict", "score_samples", "decision_function"):
        expected = getattr(monitor["detect"], method)(A)
        np.testing.assert_array_equal(getattr(monitor, method)(X[:50]), expected)
        # Activations that were extracted before need no run of the network.
        np.testing.assert_array_equal(getattr(monitor, method)(A), expected)
    assert monitor.network is network
    assert monitor.layers_ == ["hidden_0", "hidden_1"]
    assert monitor.offset_ == monitor["detect"].offset_


@pytest.mark.parametrize("target", TARGETS)
def test_score_measures_what_the_target_names(digits, target):
    network, X, y, inside = digits
    monitor = make_monitor(network, target=target).fit(X[inside[:900]], y[inside[:900]])
    rows = np.r_[inside[900:], np.flatnonzero(y == -1)]
    labels, is_correct = y[rows], network.predict(X[rows]) == y[rows]
    scores = monitor.decision_function(X[rows])
    if target == "misclassified":
        kept = labels != -1
        expected = roc_auc_score(is_correct[kept], scores[kept])
    else:
        trusted = labels != -1 if target == "ood" else is_correct
        expected = roc_auc_score(trusted, scores)
    assert monitor.score(X[rows], labels) == pytest.approx(expected)
    # Marks alone say nothing about errors.
    marks = np.where(labels == -1, -1, 1)
    if target == "both":
        by_marks = roc_auc_score(labels != -1, scores)
        assert monitor.score(X[rows], marks) == pytest.approx(by_marks)


def test_errors_of_the_network_are_found(digits):
    network, X, y, inside = digits
    unseen = inside[900:]
    monitor = make_monitor(network, target="misclassified").fit(X[inside[:900]])
    is_correct = network.predict(X[unseen]) == y[unseen]
    rejected = monitor.predict(X[unseen]) == -1
    assert rejected[~is_correct].mean() > 0.5 > 0.2 > rejected[is_correct].mean()
    assert monitor.score(X[unseen], y[unseen]) > 0.9


def test_a_monitor_for_both_tells_which_detector_rejects(digits):
    network, X, _, inside = digits
    train = inside[:900]
    both = make_monitor(network, target="both", false_alarm_rate=0.1).fit(X[train])
    alone = {
        target: make_monitor(network, target=target, false_alarm_rate=0.1).fit(X[train])
        for target in ("ood", "misclassified")
    }
    each, scores = both.predict_each(X), both.score_each(X)
    assert list(each) == list(scores) == ["ood", "misclassified"]
    for target, monitor in alone.items():
        np.testing.assert_array_equal(each[target], monitor.predict(X))
        np.testing.assert_array_equal(scores[target], monitor.score_samples(X))
        assert both.offsets_[target] == monitor.offset_
        assert not hasattr(monitor, "predict_each")
        assert not hasattr(monitor, "offsets_")
    np.testing.assert_array_equal(both.predict(X), np.min(list(each.values()), axis=0))
    both.set_params(detect__ood__false_alarm_rate=0.3).fit(X[train])
    assert both.offsets_["ood"] > alone["ood"].offset_
    assert both.offsets_["misclassified"] == alone["misclassified"].offset_


def regressor():
    X = load_digits_ood(return_X_y=True)[0]
    X = X.reshape(len(X), -1)[:300]
    network = MLPRegressor(hidden_layer_sizes=(16, 8), random_state=0, max_iter=2000)
    return network.fit(X, X.mean(axis=1)), X


def test_a_network_without_classes_is_monitored_for_other_inputs_only():
    network, X = regressor()
    monitor = make_monitor(network).fit(X)
    noise = make_noise("uniform", (100, 64), random_state=0)
    assert (monitor.predict(noise) == -1).mean() > 0.25 > 4 * (monitor.predict(X) == -1).mean()
    for target in ("misclassified", "both"):
        with pytest.raises(ValueError, match=f"target='{target}' looks .* needs a classifier"):
            make_monitor(network, target=target).fit(X)
    with pytest.raises(ValueError, match=r"^EnergyDetector needs logits"):
        composed(network, EnergyDetector()).fit(X)


def test_a_classifier_without_a_head_is_monitored_for_errors_too():
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

        def forward(self, x):
            return torch.clamp(self.layers(x), -0.2, 0.2)

    X = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    for target in TARGETS:
        monitor = make_monitor(Clipped(), target=target).fit(X)
        assert monitor[:-1].transform(X).head is None
        assert set(monitor.predict(5 * X)) <= {1, -1}
        assert np.isfinite(monitor.score_samples(5 * X)).all()


def test_clones_share_the_network_and_copies_score_alike(digits, tmp_path):
    network, X, _, inside = digits
    monitor = make_monitor(network, target="both").fit(X[inside[:300]])
    copy = clone(monitor)
    assert copy.network is network
    assert copy.target == "both"
    with pytest.raises(NotFittedError):
        copy.predict(X[:3])
    expected = monitor.score_samples(X[:20])
    joblib.dump(monitor, tmp_path / "monitor.joblib")
    for other in (pickle.loads(pickle.dumps(monitor)), joblib.load(tmp_path / "monitor.joblib")):
        np.testing.assert_array_equal(other.score_samples(X[:20]), expected)
    np.testing.assert_array_equal(copy.fit(X[inside[:300]]).score_samples(X[:20]), expected)


def test_a_search_over_the_steps_of_a_monitor(digits):
    network, X, y, inside = digits
    rows = np.r_[inside[:300], np.flatnonzero(y == -1)[:100]]
    grid = {"detect": [KNNDetector(), EnergyDetector()], "extract__layers": ["penultimate", "auto"]}
    search = GridSearchCV(composed(network), grid, cv=OODKFold(3), n_jobs=2)
    search.fit(X[rows], y[rows])
    assert isinstance(search.best_estimator_, Monitor)
    assert search.best_score_ > 0.8
    scores = cross_val_score(search.best_estimator_, X[rows], y[rows], cv=OODKFold(3))
    assert scores.mean() == pytest.approx(search.best_score_)


def test_a_slice_is_a_pipeline_of_the_same_steps(digits):
    network, X, _, inside = digits
    monitor = make_monitor(network).fit(X[inside[:300]])
    for part in (monitor[:-1], monitor[1:], monitor[:]):
        assert type(part) is Pipeline
    assert monitor[-1] is monitor["detect"] is monitor.named_steps["detect"]
    A = monitor[:-1].set_output(transform="pandas").transform(X[:5])
    assert isinstance(A, Activations)
    np.testing.assert_array_equal(monitor[1:].predict(A), monitor.predict(X[:5]))
    with pytest.raises(ValueError, match="steps that follow each other"):
        monitor[::-1]


def test_steps_before_the_extractor_count_as_well(digits):
    network, X, _, inside = digits
    scaled = Monitor(
        [
            ("scale", StandardScaler(with_std=False)),
            ("extract", ActivationExtractor(network)),
            ("detect", KNNDetector()),
        ]
    ).fit(X[inside[:300]])
    assert scaled.network is network
    assert set(scaled.predict(X)) == {1, -1}


def test_a_monitor_without_a_network_is_refused_and_shown_all_the_same():
    monitor = Monitor([("detect", KNNDetector())])
    assert "network   none" in repr(monitor)
    with pytest.raises(ValueError, match=r"needs an ActivationExtractor .* \['KNNDetector'\]"):
        monitor.fit(np.eye(5))


def test_fit_predict_learns_from_unmarked_rows_and_runs_the_network_once(digits):
    _, X, y, inside = digits

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out, self.rows = nn.Linear(64, 8), nn.Linear(8, 3), []

        def forward(self, x):
            self.rows.append(len(x))
            return self.out(torch.relu(self.hidden(x)))

    counting = Counting()
    rows = np.r_[inside[:250], np.flatnonzero(y == -1)[:50]]
    monitor = composed(counting)
    labels = monitor.fit_predict(X[rows], y[rows])
    assert sum(counting.rows) < 2 * len(rows)
    np.testing.assert_array_equal(labels, monitor.predict(X[rows]))
    np.testing.assert_array_equal(monitor["detect"].training_rows_, np.arange(250))


def test_a_fit_that_fails_changes_nothing(digits):
    network, X, _, inside = digits
    monitor = composed(network).fit(X[inside[:300]])
    expected = monitor.score_samples(X[:20])
    with pytest.raises(ValueError, match="at least 2 in-distribution samples"):
        monitor.fit(X[inside[:20]], np.r_[0, np.full(19, -1)])
    np.testing.assert_array_equal(monitor.score_samples(X[:20]), expected)
    fresh = composed(network)
    with pytest.raises(ValueError, match="at least 2 in-distribution samples"):
        fresh.fit(X[inside[:20]], np.r_[0, np.full(19, -1)])
    with pytest.raises(NotFittedError):
        fresh[:-1].transform(X)


def test_parameters_of_fit_reach_the_steps(digits):
    network, X, y, inside = digits
    rows = np.r_[inside[:200], np.flatnonzero(y == -1)[:100]]
    search = DetectorSearchCV([("knn", KNNDetector()), ("energy", EnergyDetector())])
    groups = np.zeros(len(rows))
    with pytest.raises(ValueError, match="at least as many sources of OOD rows in groups, got 1"):
        composed(network, search).fit(X[rows], y[rows], detect__groups=groups)


@pytest.mark.parametrize("target", ["ood", "both"])
def test_explanations_are_those_of_the_last_step(digits, target):
    network, X, y, inside = digits
    train, some = X[inside[:300]], X[y == -1][:2]
    monitor = make_monitor(network, target=target).fit(train)
    found = monitor.explain(some, X_train=train, n_neighbors=2, n_neurons=3)
    A, A_train = (monitor[:-1].transform(part) for part in (some, train))
    expected = explain(monitor[-1], A, X_train=A_train, n_neighbors=2, n_neurons=3)
    assert str(found) == str(expected)
    with pytest.raises(ValueError, match="X_train"):
        monitor.explain(some)
    with pytest.raises(NotFittedError):
        clone(monitor).explain(some)
    # A detector that keeps its samples needs no others.
    np.testing.assert_array_equal(
        composed(network).fit(train).explain(some).scores,
        composed(network).fit(train).score_samples(some),
    )


def test_memory_is_that_of_the_arrays_of_the_detector(digits):
    network, X, _, inside = digits
    train = X[inside[:300]]
    usage = {}
    for name, detector in {"knn": KNNDetector(), "softmax": MaxSoftmaxDetector()}.items():
        monitor = composed(network, detector).fit(train)
        with_rows_for_batches = monitor.memory_usage()
        forget_batches(monitor[-1])
        usage[name] = monitor.memory_usage()
        assert with_rows_for_batches > usage[name]
    # 300 rows of 64 + 32 units in double precision, their scores and the numbers of those that are
    # stored in 8 bytes each; the numbers of all are one run.
    knn, softmax = 300 * 96 * 8 + 300 * 16, 300 * 8
    assert knn < usage["knn"] < knn + 4096
    assert softmax < usage["softmax"] < softmax + 4096
    with pytest.raises(NotFittedError):
        composed(network).memory_usage()


def test_shared_arrays_are_counted_once(digits):
    network, X, _, inside = digits
    monitor = composed(network).fit(X[inside[:300]])
    usage = monitor.memory_usage()
    monitor["detect"].again_ = monitor["detect"].training_scores_
    assert monitor.memory_usage() < usage + 200


def test_text_says_what_watches_what(digits):
    network, X, _, inside = digits
    monitor = composed(network, LayerEnsembleDetector(KNNDetector(), combine="weighted"))
    before = str(monitor)
    for fact in ("network   MLPClassifier", "layers    'auto'", "state     not fitted"):
        assert fact in before
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 16, size=(50, 64))
    train = np.vstack([X[inside[:200]], noise])
    monitor.fit(train, np.repeat([0, -1], [200, 50]))
    after, weights = str(monitor), monitor["detect"].weights_ / monitor["detect"].weights_.sum()
    for fact in (
        "target       out-of-distribution inputs",
        "layers       2: hidden_0, hidden_1",
        "learnt from  200 rows",
        f"threshold    {monitor.offset_:.4g}",
        "detect: LayerEnsembleDetector",
        f"    hidden_0: KNNDetector, weight {weights[0]:.3g}\n",
        f"    hidden_1: KNNDetector, weight {weights[1]:.3g}",
    ):
        assert fact in after
    monitor.set_params(detect__combine="informed", detect__knowledge=[0.2, 0.6]).fit(train)
    assert "    hidden_0: KNNDetector, weight 0.25\n" in str(monitor)
    # Rows marked -1 give weights that a plain mean does not use.
    monitor.set_params(detect__combine="mean").fit(train, np.repeat([0, -1], [200, 50]))
    assert "weight" not in str(monitor)


def test_text_of_a_deep_network_is_short_and_its_table_whole():
    torch.manual_seed(0)
    layers = [layer for _ in range(20) for layer in (nn.Linear(4, 4, bias=False), nn.ReLU())]
    X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    monitor = composed(
        nn.Sequential(*layers), LayerEnsembleDetector(KNNDetector(n_neighbors=5, normalize=False))
    ).fit(X)
    lines = str(monitor).splitlines()
    assert sum(": KNNDetector" in line for line in lines) == 6
    assert "    ... 7 more ..." in lines
    html = monitor._repr_html_()
    for name in monitor["detect"].layers_:
        assert f">{name}</td>" in html


def test_a_notebook_shows_a_diagram_that_unfolds_and_a_table(digits):
    network, X, _, inside = digits
    monitor = make_monitor(network, target="both")
    for state in (monitor, monitor.fit(X[inside[:200]])):
        html = state._repr_mimebundle_()["text/html"]
        assert 'type="checkbox"' in html  # by which scikit-learn folds a step
        assert html == state._repr_html_() or "sk-container-id" in html
        assert "out-of-distribution and misclassified inputs" in html
    assert "<summary>What watches what</summary>" in html
    share = monitor["detect"].named_estimators_["ood"].layer_share_
    assert f">AdaptiveEnsembleDetector, layer share {share:.2g}</td>" in html
    assert re.search("learnt from</td><td[^>]*>200 rows", html)
    with config_context(display="text"):
        assert list(monitor._repr_mimebundle_()) == ["text/plain"]


def test_names_of_networks_are_no_html():
    class Odd(nn.Sequential):
        pass

    Odd.__name__ = "<b>Odd"
    html = make_monitor(Odd(nn.Linear(2, 2)))._repr_html_()
    assert "&lt;b&gt;Odd" in html


def test_a_file_is_named(tmp_path):
    assert "network   ONNX model net.onnx" in repr(make_monitor(tmp_path / "net.onnx"))


@pytest.mark.parametrize(
    "params",
    [{"target": "errors"}, {"false_alarm_rate": 0.7}, {"batch_size": 0}, {"search": "yes"}],
)
def test_parameters_are_checked(digits, params):
    name = next(iter(params))
    with pytest.raises(ValueError, match=f"The '{name}' parameter of make_monitor"):
        make_monitor(digits[0], **params)


def with_marked(digits, kind):
    """Training rows with some that are marked, and test rows with others of the same kind."""
    _, X, y, inside = digits
    if kind == "digits":
        outside = X[y == -1]
    else:
        outside = make_noise(kind, (200, 1, 8, 8), random_state=0).reshape(200, 64)
    half = len(outside) // 2
    train, unseen = inside[:900], inside[900:]
    return (
        (np.vstack([X[train], outside[:half]]), np.r_[y[train], np.full(half, -1)]),
        (
            np.vstack([X[unseen], outside[half:]]),
            np.r_[y[unseen], np.full(len(outside) - half, -1)],
        ),
    )


@pytest.mark.parametrize("kind", ["digits", "blobs", "uniform"])
def test_a_search_does_not_end_below_the_default(digits, kind):
    (X, y), (X_test, y_test) = with_marked(digits, kind)
    default = make_monitor(digits[0]).fit(X, y)
    searched = make_monitor(digits[0], search=True).fit(X, y)
    assert searched.score(X_test, y_test) > default.score(X_test, y_test) - 0.01
    results = searched["detect"].cv_results_
    assert results["name"][0] == "default"
    assert len(results["name"]) == 8
    assert f"{searched['detect'].best_name_!r}, the choice from 8" in repr(searched)
    # Of the rows that make up the default, all are used, and none is marked.
    assert (searched.predict(X_test[y_test != -1]) == -1).mean() < 0.2


def test_a_search_takes_what_helps():
    class Told(nn.Module):
        """Its logits tell the marked rows, which its layer does not."""

        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(2, 8)

        def forward(self, x):
            return x[:, :3] + 0 * torch.relu(self.hidden(x[:, 3:])).sum()

    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5)).astype(np.float32)
    X[:300, :3] += 8 * np.eye(3)[np.arange(300) % 3]
    y = np.repeat([0, -1], [300, 100])
    monitor = make_monitor(Told(), layers="hidden", search=True)
    # The default reads the logits, too.
    of_layers = ("default", KNNDetector(n_neighbors=5))
    monitor.set_params(detect__detectors=[of_layers, *monitor["detect"].detectors[1:3]])
    monitor.fit(X, y)
    assert monitor["detect"].best_name_ in ("errors", "energy")
    assert monitor.score(X, y) > 0.9


def test_a_search_for_both_is_one_of_the_part_for_other_inputs(digits):
    (X, y), (X_test, y_test) = with_marked(digits, "digits")
    monitor = make_monitor(digits[0], target="both", search=True).fit(X, y)
    assert isinstance(monitor["detect"], AnyAlarmDetector)
    assert isinstance(monitor["detect"].named_estimators_["ood"], DetectorSearchCV)
    expected = make_monitor(digits[0], search=True).fit(X, y)
    np.testing.assert_array_equal(monitor.predict_each(X_test)["ood"], expected.predict(X_test))
    assert monitor.score(X_test, y_test) > 0.8


def test_a_search_needs_marked_rows_and_a_target_that_they_speak_of(digits):
    network, X, y, inside = digits
    for target in ("ood", "both"):
        with pytest.raises(ValueError, match="marked -1 in y, but none of the 100 rows is"):
            make_monitor(network, target=target, search=True).fit(X[inside[:100]], y[inside[:100]])
        with pytest.raises(ValueError, match="but y is None"):
            make_monitor(network, target=target, search=True).fit(X[inside[:100]])
    with pytest.raises(ValueError, match="say nothing about target='misclassified'"):
        make_monitor(network, target="misclassified", search=True)


@pytest.mark.filterwarnings("ignore:The inputs came with labels")
@pytest.mark.parametrize("target", ["ood", "both"])
def test_a_search_on_a_loader_with_marks_and_no_y_says_how_to_pass_them(target):
    X, y = torch.randn(120, 4), torch.arange(120) % 3
    X[:80, :3] += 4 * torch.eye(3)[y[:80]]
    y[80:] = -1
    loader = DataLoader(TensorDataset(X, y), batch_size=16, shuffle=True)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    monitor = make_monitor(network, target=target, search=True)
    with pytest.raises(ValueError, match=r"X.labels, mark 40 of 120 rows -1, .*A.labels\)"):
        monitor.fit(loader)
    # Those are the words of the error.
    A = monitor[:-1].fit_transform(loader)
    monitor.fit(A, A.labels)
    assert monitor.score(A, A.labels) > 0.5


def test_a_search_runs_the_network_once():
    class Counting(nn.Sequential):
        n_rows = 0

        def forward(self, x):
            Counting.n_rows += len(x)
            return super().forward(x)

    network = Counting(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    X = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    make_monitor(network, search=True).fit(X, np.repeat([0, -1], [80, 40]))
    assert Counting.n_rows < 2 * len(X)


def test_marks_among_the_labels_of_a_loader_are_not_passed_over():
    X, labels = torch.rand(60, 4), torch.tensor([0, 1, -1]).repeat(20)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, labels), batch_size=20)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.warns(UserWarning, match="marked out-of-distribution too"):
        monitor = make_monitor(network).fit(loader)
    assert len(monitor["detect"].training_rows_) == 60
    monitor = make_monitor(network).fit(loader, labels.numpy())
    assert len(monitor["detect"].training_rows_) == 40
