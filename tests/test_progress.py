"""Bars, the log and scikit-learn's callbacks tell the same of what takes long."""

import logging
import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from _estimators import construct, estimator_classes
from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

import skood
from skood import ActivationExtractor, Activations, GroupProgressionDetector, Monitor, make_monitor
from skood._progress import steps
from skood.activations import LinearHead
from skood.calibration import ConformalDetector
from skood.detectors import EnergyDetector, KNNDetector, MahalanobisDetector
from skood.ensemble import (
    AdaptiveEnsembleDetector,
    AnyAlarmDetector,
    AutoNAPDetector,
    LayerEnsembleDetector,
)
from skood.inspection import explain
from skood.model_selection import DetectorSearchCV, OODKFold, od_test
from skood.preprocessing import LayerSelector
from skood.training import DecoyClassClassifier, DenoisingClassifier

pytestmark = pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning")

callbacks = pytest.mark.skipif(
    not hasattr(KNNDetector, "set_callbacks"), reason="callbacks came with scikit-learn 1.9"
)


def clusters(n=60, seed=0):
    """Two layers, logits and classes of two clusters, and rows between them, marked -1."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    inside = np.eye(2)[label] * 4 + rng.normal(size=(n, 2))
    rows = np.vstack([inside, 8 + rng.normal(size=(n // 2, 2))])
    layers = {"relu1": rows, "relu2": rows[:, ::-1] + 1.0}
    head = LinearHead(np.eye(2), input_layer="relu1")
    return Activations(layers, logits=rows, head=head), np.append(label, np.full(n // 2, -1))


A, Y = clusters()
INSIDE = A[Y != -1]


def few(n_neighbors=3):
    return KNNDetector(n_neighbors=n_neighbors)


def ensemble(**params):
    return LayerEnsembleDetector(few(), **params)


LONG = {
    "layers": (ensemble(), "2/2 ", "layers"),
    "members": (LayerEnsembleDetector([few(), EnergyDetector()]), "2/2 ", "members"),
    "any alarm": (AnyAlarmDetector([("a", few()), ("b", ensemble())]), "2/2 ", "detectors"),
    "adaptive": (AdaptiveEnsembleDetector(), "6/6 ", "detectors"),
    "nap": (AutoNAPDetector(random_state=0), "5/5 ", "pooled layers"),
    "search": (DetectorSearchCV([("a", few()), ("b", ensemble())]), "14/14 ", "fits"),
    "conformal": (ConformalDetector(few(), cv=3, random_state=0), "3/3 ", "splits"),
    "progression": (GroupProgressionDetector(n_neighbors=5, random_state=0), "90/90 ", "samples"),
}


@pytest.fixture
def network():
    X = np.random.default_rng(0).normal(size=(80, 4))
    labels = (X[:, 0] > 0).astype(int)
    return MLPClassifier((6, 5), random_state=0, max_iter=30, tol=1).fit(X, labels), X, labels


# Bars


@pytest.mark.parametrize("name", LONG)
def test_bars_are_shown_when_wanted_alone_and_change_nothing(name, capsys):
    estimator, count, unit = LONG[name]
    quiet = clone(estimator).fit(A, Y)
    assert capsys.readouterr() == ("", "")
    shown = clone(estimator).set_params(verbose=1).fit(A, Y)
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{type(estimator).__name__}: 100%" in said.err
    assert f"| {count}" in said.err
    assert f"{unit}/s" in said.err or f"s/ {unit}" in said.err
    np.testing.assert_array_equal(shown.score_samples(A), quiet.score_samples(A))
    assert shown.offset_ == quiet.offset_ if hasattr(quiet, "offset_") else True


def test_every_verbose_is_off_by_default_and_checked():
    found = set()
    for cls in estimator_classes().values():
        is_search = cls is DetectorSearchCV
        estimator = DetectorSearchCV([("a", few())]) if is_search else construct(cls)
        if "verbose" not in estimator.get_params(deep=False):
            continue
        found.add(cls.__name__)
        assert not estimator.verbose, cls
        if cls is not DenoisingClassifier:
            assert estimator._parameter_constraints["verbose"] == ["verbose"], cls
    assert {type(estimator).__name__ for estimator, *_ in LONG.values()} < found
    assert {"ActivationExtractor", "DenoisingClassifier"} < found | {"Monitor"}
    with pytest.raises(ValueError, match="'verbose' parameter"):
        ensemble(verbose=-1).fit(A, Y)


def test_one_bar_at_a_time_tells_what_its_parts_do(capsys):
    inner = LayerEnsembleDetector(few(2), verbose=1)
    AnyAlarmDetector([("first", inner), ("second", few())], verbose=1).fit(INSIDE)
    said = capsys.readouterr().err
    assert "LayerEnsembleDetector" not in said
    assert "AnyAlarmDetector: 100%" in said
    AnyAlarmDetector([("first", inner)]).fit(INSIDE)
    assert "LayerEnsembleDetector: 100%" in capsys.readouterr().err


def test_parts_of_parts_are_named_beside_the_bar(capsys, monkeypatch):
    monkeypatch.setattr("skood._progress._SECONDS", -1.0)  # nothing is left out
    nested = AnyAlarmDetector([("far", ensemble())], verbose=1)
    nested.fit(INSIDE)
    assert "far > relu2]" in capsys.readouterr().err


def do_some_work(verbose):
    """One part of three, and a second one that fails."""
    with steps("work", 3, "parts", verbose=verbose) as told:
        for number in (1, 0):
            with told.step(str(number)):
                assert 1 / number


def test_bars_end_when_something_fails(capsys):
    with pytest.raises(ZeroDivisionError):
        do_some_work(verbose=1)
    assert "work:  33%" in capsys.readouterr().err
    with steps("more", 1, "parts", verbose=1) as told, told.step():
        pass
    assert "more: 100%" in capsys.readouterr().err  # the first one has given its place back


def test_threads_share_the_one_place(capsys):
    def fit(seed):
        return ensemble(verbose=1, n_jobs=2).fit(clusters(seed=seed)[0]).offset_

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fit, range(8)))
    assert found == [ensemble().fit(clusters(seed=seed)[0]).offset_ for seed in range(8)]
    assert len(re.findall("100%", capsys.readouterr().err)) >= 1


def test_workers_are_silent(capsys):
    fit = delayed(ensemble(verbose=1).fit)
    Parallel(n_jobs=2, prefer="threads")(fit(INSIDE) for _ in range(2))
    assert capsys.readouterr() == ("", "")


def test_no_bar_without_a_place_for_it(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert ensemble(verbose=1).fit(INSIDE).layers_ == ["relu1", "relu2"]


def test_unknown_numbers_are_counted(capsys):
    with steps("stream", None, "samples", verbose=1, are_counted=True) as told:
        told.advance(3)
        told.advance(4)
    assert "stream: 7 samples" in capsys.readouterr().err


# Functions, and what a monitor runs


def test_functions_show_their_progress(capsys):
    detector = few().fit(INSIDE)
    explain(detector, A[:3])
    assert capsys.readouterr().err == ""
    shown = explain(detector, A[:3], verbose=1)
    assert "explain: 100%" in capsys.readouterr().err
    np.testing.assert_array_equal(shown.scores, explain(detector, A[:3]).scores)
    od_test({"a": few(), "b": ensemble()}, INSIDE, {"x": A[Y == -1]}, validation=None)
    assert capsys.readouterr() == ("", "")
    od_test(few(), INSIDE, {"x": A[Y == -1]}, validation=None, verbose=1)
    said = capsys.readouterr()
    assert "od_test: 100%" in said.err
    assert "| 1/1 " in said.err
    assert said.out == ""


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_od_test_counts_the_fits_of_its_workers(n_jobs, capsys):
    detectors = {"a": few(), "b": few(), "c": few(9)}
    out_sets = {"x": A[Y == -1]}
    with parallel_config("threading"):
        od_test(detectors, INSIDE, out_sets, validation=None, n_jobs=n_jobs, verbose=1)
    assert "| 3/3 " in capsys.readouterr().err


def test_make_monitor_passes_verbose_on(network, capsys):
    net, X, y = network
    for target, search in [("ood", False), ("both", False), ("ood", True)]:
        quiet = make_monitor(net, target=target, search=search)
        monitor = make_monitor(net, target=target, search=search, verbose=2)
        params = monitor.get_params()
        assert [params[f"{step}verbose"] for step in ("", "extract__", "detect__")] == [2, 2, 2]
        assert not any(v for k, v in quiet.get_params().items() if k.endswith("verbose"))
    make_monitor(net).fit(X, y)
    assert capsys.readouterr() == ("", "")
    make_monitor(net, verbose=1).fit(X, y)
    said = capsys.readouterr().err
    assert "ActivationExtractor: 100%" in said
    assert "AdaptiveEnsembleDetector: 100%" in said


def test_a_monitor_shows_what_it_runs(network, capsys):
    net, X, y = network
    steps_of = [("extract", ActivationExtractor(net)), ("detect", ensemble())]
    monitor = Monitor(steps_of, verbose=True).fit(X, y)
    said = capsys.readouterr()
    assert re.findall(r"(\w+): 100%", said.err)[-1] == "LayerEnsembleDetector"
    assert "(step 2 of 2) Processing detect" in said.out  # as a pipeline of scikit-learn
    monitor.calibrate(X[:40] + 0.1)
    assert "ActivationExtractor: 100%" in capsys.readouterr().err
    monitor.explain(X[:2], X_train=X)
    assert "explain: 100%" in capsys.readouterr().err
    monitor.predict(X)
    assert capsys.readouterr().err == ""
    monitor.set_params(verbose=False)
    monitor.explain(X[:2], X_train=X)
    assert capsys.readouterr().err == ""
    monitor.explain(X[:2], X_train=X, verbose=1)
    assert "explain: 100%" in capsys.readouterr().err


METHODS = ("predict", "score_samples", "decision_function", "p_values", "select")


def test_calls_on_rows_of_one_batch_are_quiet_and_as_fast(network, capsys):
    net, X, y = network
    monitor = make_monitor(net, batch_size=40, verbose=1).fit(X, y).calibrate(X + 0.1)
    capsys.readouterr()
    for method in METHODS:
        for _ in range(2):  # the first one goes through the extractor
            getattr(monitor, method)(X[:30])
    assert monitor._current_session().extraction.extract(X[:1]) is not None
    monitor.predict(X[:30].tolist())
    assert capsys.readouterr() == ("", "")
    monitor.predict(X)
    assert "ActivationExtractor: 100%" in capsys.readouterr().err
    monitor[0].transform(X[:30])  # a call of what was given verbose itself
    assert "ActivationExtractor: 100%" in capsys.readouterr().err


def test_verbose_is_no_part_of_what_was_learnt(network):
    one, other = ensemble().partial_fit(INSIDE[:30]), ensemble(verbose=1).partial_fit(INSIDE[30:])
    np.testing.assert_allclose(one.merge(other).offset_, ensemble().fit(INSIDE).offset_)
    one.set_params(verbose=0).partial_fit(INSIDE[:4])
    net, X, _ = network
    a, b = make_monitor(net).fit(X[:40]), make_monitor(net, verbose=1).fit(X[40:])
    assert a[0].fingerprint_ == b[0].fingerprint_
    a.merge(b)


# The log


def test_the_log_tells_of_beginnings_ends_and_steps(caplog):
    with caplog.at_level(logging.DEBUG, "skood"):
        ensemble().fit(INSIDE)
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said[0] == ("INFO", "LayerEnsembleDetector: begins, 0 of 2 layers")
    assert said[1][0] == "DEBUG"
    assert re.fullmatch(r"LayerEnsembleDetector: relu1, \d+\.\d{3} s", said[1][1])
    assert said[-1][0] == "INFO"
    assert re.fullmatch(
        r"LayerEnsembleDetector: ends after \d+\.\d{3} s, 2 of 2 layers", said[-1][1]
    )
    assert len(said) == 4


def test_the_log_tells_of_parts_below_the_whole(caplog):
    with caplog.at_level(logging.INFO, "skood"):
        AnyAlarmDetector([("a", ensemble(n_jobs=2))]).fit(INSIDE)
    assert {record.getMessage().split(":")[0] for record in caplog.records} == {"AnyAlarmDetector"}
    caplog.clear()
    with caplog.at_level(logging.INFO, "skood"), pytest.raises(ZeroDivisionError):
        do_some_work(verbose=0)
    assert re.fullmatch(r"work: ZeroDivisionError in \S+ s, 1 of 3 parts", caplog.messages[-1])


def test_predictions_of_one_batch_do_not_fill_the_log(network, caplog):
    net, X, _ = network
    extractor = ActivationExtractor(net, batch_size=40).fit(X)
    with caplog.at_level(logging.INFO, "skood"):
        extractor.transform(X[:40])
        assert not caplog.records
        extractor.transform(X)
        assert len(caplog.records) == 2


def test_the_library_is_silent_by_default():
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("skood").handlers)


# Callbacks of scikit-learn


class Tree:
    """What callbacks are told: the path of each task that begins, and which of them end."""

    max_propagation_depth = None

    def __init__(self):
        self.begun, self.ended, self.n_set_up, self.fitted, self.sizes = [], [], 0, [], {}

    def setup(self, estimator, context):
        self.n_set_up += 1

    def teardown(self, estimator, context):
        self.n_set_up -= 1

    def path(self, context):
        names = []
        while context is not None:
            names.insert(0, f"{context.estimator_name}/{context.task_name}")
            context = context.parent
        return " ".join(names)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.begun.append(self.path(context))
        self.sizes[self.path(context)] = context.max_subtasks

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append(self.path(context))
        if context.parent is None:
            self.fitted.append((X, fitted_estimator))


@callbacks
def test_callbacks_are_told_of_the_tree_of_tasks():
    tree = Tree()
    detector = AnyAlarmDetector([("a", ensemble()), ("b", few())]).set_callbacks(tree)
    detector.fit(INSIDE)
    whole = "AnyAlarmDetector/fit"
    layers = f"{whole} LayerEnsembleDetector/fit"
    assert tree.begun[:2] == [whole, layers]
    assert tree.sizes[whole] == 2
    assert tree.sizes[layers] == 2
    assert tree.begun.count(f"{layers} KNNDetector/fit") == 2
    assert tree.begun.count(f"{whole} KNNDetector/fit") == 1
    assert sorted(tree.begun) == sorted(tree.ended)
    assert tree.ended[-1] == whole
    assert tree.n_set_up == 0
    [(given, fitted)] = tree.fitted
    assert given is INSIDE
    np.testing.assert_array_equal(fitted.score_samples(INSIDE), detector.score_samples(INSIDE))


@callbacks
@pytest.mark.parametrize("name", LONG)
def test_callbacks_of_everything_that_takes_long(name):
    estimator, count, _ = LONG[name]
    tree = Tree()
    told = clone(estimator).set_callbacks(tree).fit(A, Y)
    root = f"{type(estimator).__name__}/fit"
    assert tree.begun[0] == tree.ended[-1] == root
    assert tree.n_set_up == 0
    assert sorted(tree.begun) == sorted(tree.ended)
    if name == "progression":
        assert tree.sizes[root] == 2
        assert tree.begun.count(f"{root} {root.split('/')[0]}/samples") == 1
        assert tree.sizes[f"{root} {root.split('/')[0]}/classifiers"] == 6
    else:
        assert tree.sizes[root] == int(count.split("/")[0])
    np.testing.assert_array_equal(
        told.score_samples(A), clone(estimator).fit(A, Y).score_samples(A)
    )


@callbacks
def test_callbacks_are_left_at_no_member_and_in_no_file(tmp_path):
    detector = ensemble(n_jobs=2).set_callbacks(Tree()).fit(INSIDE)
    assert not [name for name in vars(detector) if "callback_fit" in name or "parent" in name]
    for member in detector.estimators_:
        assert not hasattr(member, "_skl_callbacks")
        assert not hasattr(member, "_parent_callback_ctx")
    skood.save(detector, tmp_path / "saved")
    loaded = skood.load(tmp_path / "saved")
    assert not hasattr(loaded, "_skl_callbacks")
    np.testing.assert_array_equal(loaded.score_samples(A), detector.score_samples(A))
    assert pickle.loads(pickle.dumps(detector.set_callbacks())).layers_ == detector.layers_


@callbacks
def test_clones_share_callbacks_and_a_failed_fit_gives_them_back():
    tree = Tree()
    detector = clone(ensemble().set_callbacks(tree))
    assert detector._skl_callbacks[0] is tree
    extractor = ActivationExtractor(MLPClassifier()).set_callbacks(tree)
    assert clone(extractor)._skl_callbacks[0] is tree
    with pytest.raises(ValueError, match=r"NaN|finite"):
        detector.fit(np.full((5, 2), np.nan))
    assert tree.n_set_up == 0
    assert not hasattr(detector, "_callback_fit_ctx")
    detector.fit(INSIDE)
    assert tree.n_set_up == 0


@callbacks
def test_callbacks_reach_through_pipelines_searches_and_monitors(network):
    tree = Tree()
    selected = make_pipeline(LayerSelector(layers="relu1"), few())
    search = GridSearchCV(selected, {"knndetector__n_neighbors": [2, 3]}, cv=OODKFold(2))
    search.set_callbacks(tree).fit(A, Y)
    assert any(path.endswith("LayerSelector/fit") for path in tree.begun)
    assert any(path.endswith("KNNDetector/fit") for path in tree.begun)
    net, X, _ = network
    tree = Tree()
    make_monitor(net).set_callbacks(tree).fit(X)
    root = "Monitor/fit"
    assert tree.sizes[f"{root} ActivationExtractor/fit"] == 80
    assert f"{root} AdaptiveEnsembleDetector/fit LayerEnsembleDetector/fit" in tree.begun
    assert sorted(tree.begun) == sorted(tree.ended)


@callbacks
def test_members_that_know_no_callbacks_are_said_to_have_none():
    detector = LayerEnsembleDetector(IsolationForest(n_estimators=5, random_state=0)).set_callbacks(
        Tree()
    )
    with pytest.warns(UserWarning, match="IsolationForest does not support callbacks"):
        detector.fit(INSIDE)


@callbacks
def test_samples_are_told_in_hundredths():
    tree = Tree()
    X = np.random.default_rng(0).normal(size=(1000, 3))
    net = MLPClassifier((4,), random_state=0, max_iter=30, tol=1).fit(X, (X[:, 0] > 0) * 1)
    ActivationExtractor(net, batch_size=7).set_callbacks(tree).fit_transform(X)
    root = "ActivationExtractor/fit"
    assert tree.sizes[root] == 100
    assert len(tree.begun) == len(tree.ended) == 101


@callbacks
def test_classifiers_tell_of_their_training():
    tree = Tree()
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(int)
    DecoyClassClassifier(LogisticRegression(), random_state=0).set_callbacks(tree).fit(X, y)
    assert "DecoyClassClassifier/fit LogisticRegression/fit" in tree.begun
    tree = Tree()
    images = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)
    params = {"module__width": 2, "max_epochs": 3, "random_state": 0}
    classifier = DenoisingClassifier(**params).set_callbacks(tree).fit(images, np.arange(40) % 2)
    assert tree.sizes["DenoisingClassifier/fit"] == 3
    assert len(tree.begun) == len(tree.ended) == 4
    assert len(classifier.history_) == 3
    assert tree.n_set_up == 0


def test_training_tells_the_log_and_prints_nothing(caplog, capsys):
    images = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)
    classifier = DenoisingClassifier(module__width=2, max_epochs=2, random_state=0)
    with caplog.at_level(logging.INFO, "skood"):
        classifier.fit(images, np.arange(40) % 2)
    assert caplog.messages[0] == "DenoisingClassifier: begins, 0 of 2 epochs"
    assert caplog.messages[-1].endswith("2 of 2 epochs")
    assert capsys.readouterr() == ("", "")
    classifier.set_params(verbose=1).partial_fit(images, np.arange(40) % 2)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_only_what_listens_costs_anything():
    with steps(ensemble(), 3, "layers") as one, steps("x", 5, "parts") as other:
        assert one is other  # nothing is counted
        with one.step("a"):
            pass
        one.advance(2)


@callbacks
@pytest.mark.parametrize("cls", estimator_classes().values())
def test_every_estimator_with_fit_takes_callbacks(cls):
    if cls is not DetectorSearchCV and cls.__name__ != "MahalanobisPerturbation":
        estimator = construct(cls)
        assert estimator.set_callbacks(Tree()) is estimator
        assert len(clone(estimator)._skl_callbacks) == 1


def test_mahalanobis_is_no_long_task(capsys):
    with pytest.raises(ValueError, match="verbose"):
        MahalanobisDetector().set_params(verbose=1)
