"""The test of detectors as a run: extraction, parallel backends, and results that are kept."""

import copy
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import FitFailedWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import skood
from skood import ActivationExtractor, Activations, PoolingReducer, make_monitor
from skood.datasets import load_digits_ood
from skood.detectors import EnergyDetector, KNNDetector, MahalanobisDetector, MaxSoftmaxDetector
from skood.ensemble import AutoNAPDetector
from skood.model_selection import OODKFold, od_test
from skood.model_selection._od_test_cells import CellFolder
from skood.preprocessing import LayerSelector

TIMES = ["fit_time", "score_time"]


def assert_same(one, two):
    pd.testing.assert_frame_equal(one.drop(columns=TIMES), two.drop(columns=TIMES), rtol=1e-12)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits_ood(held_out=(1, 5), return_X_y=True)
    X, inside = X.reshape(len(X), -1), y != -1
    return X[inside][:400], y[inside][:400], X[~inside]


@pytest.fixture(scope="module")
def network(digits):
    X, y, _ = digits
    return MLPClassifier((16, 8), random_state=0, max_iter=60, tol=1e-2).fit(X[:200], y[:200])


@pytest.fixture(scope="module")
def sets(digits):
    outside = digits[2]
    rng = np.random.default_rng(0)
    return {"a": outside[:80], "b": outside[80:200], "noise": rng.uniform(0, 16, (90, 64))}


@pytest.fixture(scope="module")
def pair(digits):
    X, y, _ = digits
    return (X[:200], X[200:]), (y[:200], y[200:])


def detectors_of(network):
    def extractor():
        return ActivationExtractor(network)

    grid = {"layerselector__layers": [["hidden_0"], ["hidden_1"]]}
    search = make_pipeline(extractor(), LayerSelector(), KNNDetector())
    return {
        "default": make_monitor(network),
        "Mahalanobis": make_pipeline(extractor(), MahalanobisDetector()),
        "softmax": make_pipeline(extractor(), MaxSoftmaxDetector()),
        "search": GridSearchCV(search, grid, cv=OODKFold(2)),
        "AutoNAP": make_pipeline(extractor(), AutoNAPDetector(random_state=0)),
    }


@pytest.fixture
def extracted_rows(monkeypatch):
    """Number of rows of each run of a network."""
    rows, extract = [], ActivationExtractor._extract

    def counting(self, *arguments):
        A = extract(self, *arguments)
        rows.append(len(A))
        return A

    monkeypatch.setattr(ActivationExtractor, "_extract", counting)
    return rows


def test_each_set_goes_through_the_network_once(network, pair, sets, extracted_rows):
    detectors = detectors_of(network)
    del detectors["default"]
    od_test(detectors, pair[0], sets, y=pair[1], validation="each")
    assert sorted(extracted_rows) == sorted([200, 200, 80, 120, 90])


def test_other_settings_are_extracted_apart(network, pair, sets, extracted_rows):
    od_test(detectors_of(network), pair[0], sets, y=pair[1])
    assert Counter(extracted_rows) == Counter([200, 200, 80, 120, 90] * 2)


def test_a_search_over_the_extraction_gets_the_inputs(network, pair, sets, extracted_rows):
    pipeline = make_pipeline(ActivationExtractor(network), KNNDetector())
    grid = {"activationextractor__layers": ["hidden_0", "hidden_1"]}
    search = GridSearchCV(pipeline, grid, cv=OODKFold(2))
    table = od_test({"search": search}, pair[0], sets, y=pair[1])
    assert len(extracted_rows) > 20
    X = np.concatenate([pair[0][0], sets["noise"]])
    best = search.fit(X, np.r_[pair[1][0], np.full(90, -1)]).best_params_
    best = pipeline.set_params(**best).fit(pair[0][0], pair[1][0])
    row = table[(table["validation"] == "noise") & (table["test"] == "b")].iloc[0]
    is_in = np.r_[np.ones(120), -np.ones(120)]
    # All of the set, and as many of the 200 test samples: the first of a random order.
    rows = np.sort(np.random.RandomState(0).permutation(200)[:120])
    expected = best.score(np.concatenate([pair[0][1][rows], sets["b"]]), is_in)
    assert row["auroc"] == pytest.approx(expected)


@pytest.mark.parametrize("target", ["ood", "both"])
def test_inputs_and_activations_give_the_same(network, pair, sets, target):
    detectors = detectors_of(network)
    del detectors["default"]
    if target == "both":
        del detectors["search"]
    raw = od_test(detectors, pair[0], sets, y=pair[1], target=target)
    extractor = ActivationExtractor(network).fit(pair[0][0])
    A = tuple(extractor.transform(X) for X in pair[0])
    extracted = {name: extractor.transform(X) for name, X in sets.items()}
    assert_same(raw, od_test(detectors, A, extracted, y=pair[1], target=target))


def test_other_detectors_get_the_inputs_and_the_errors_of_the_only_network(network, pair, sets):
    forest = IsolationForest(n_estimators=10, random_state=0)
    detectors = {"default": make_monitor(network), "forest": forest}
    table = od_test(detectors, pair[0], sets, y=pair[1], target="both")
    alone = od_test({"forest": forest}, pair[0], sets, y=pair[1])
    own = table[(table["detector"] == "forest") & (table["target"] == "ood")]
    assert_same(own.drop(columns="aurc").reset_index(drop=True), alone)
    errors = table[table["target"] == "misclassified"]
    n_wrong = int((network.predict(pair[0][1]) != pair[1][1]).sum())
    assert n_wrong > 3
    assert errors["n_out"].tolist() == [n_wrong] * 2
    with pytest.raises(ValueError, match=r"not known for the detectors \['forest'\]"):
        od_test({"forest": forest}, pair[0], sets, y=pair[1], target="both")


def test_errors_are_those_of_the_own_network(network, digits, pair, sets):
    X, y, _ = digits
    other = MLPClassifier((4,), random_state=1, tol=1e-1, n_iter_no_change=2).fit(X[:200], y[:200])
    detectors = {
        "one": make_pipeline(ActivationExtractor(network), MaxSoftmaxDetector()),
        "other": make_pipeline(ActivationExtractor(other), MaxSoftmaxDetector()),
    }
    table = od_test(detectors, pair[0], None, y=pair[1], target="misclassified")
    wrong = [int((net.predict(pair[0][1]) != pair[1][1]).sum()) for net in (network, other)]
    assert table["n_out"].tolist() == wrong
    assert wrong[0] != wrong[1]


def images():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    rng = np.random.default_rng(0)
    shapes = {"train": 60, "test": 40, "a": 30, "b": 50}
    return (
        torch,
        net.eval(),
        {
            name: (i + rng.random((n, 1, 8, 8))).astype("float32")
            for i, (name, n) in enumerate(shapes.items())
        },
    )


@pytest.mark.parametrize("kind", ["tensor", "data set", "loader"])
def test_inputs_of_every_kind_an_extractor_takes(kind, tmp_path):
    torch, net, X = images()

    def convert(array):
        tensor = torch.tensor(array)
        if kind == "tensor":
            return tensor
        data = torch.utils.data.TensorDataset(tensor)
        return data if kind == "data set" else torch.utils.data.DataLoader(data, batch_size=8)

    detectors = {"default": make_monitor(net), "KNN": make_monitor(net).set_params(
        detect=KNNDetector())}  # fmt: skip
    expected = od_test(detectors, (X["train"], X["test"]), {"a": X["a"], "b": X["b"]})
    given = {name: convert(array) for name, array in X.items()}
    arguments = detectors, (given["train"], given["test"]), {"a": given["a"], "b": given["b"]}
    assert_same(od_test(*arguments), expected)
    if kind == "loader":
        with pytest.raises(ValueError, match="cannot be split in two: it is DataLoader"):
            od_test(detectors, given["train"], {"a": given["a"], "b": given["b"]})


def test_an_extraction_that_fails_is_the_failure_of_its_detector(network, pair, sets):
    _, net, _ = images()
    detectors = {"wrong": make_monitor(net), "KNN": make_pipeline(
        ActivationExtractor(network), KNNDetector())}  # fmt: skip
    with pytest.warns(FitFailedWarning, match="'wrong' failed in 3 of 3 cells"):
        table = od_test(detectors, pair[0], sets)
    assert table["auroc"].isna().tolist() == [True] * 6 + [False] * 6


def small():
    rng = np.random.default_rng(0)

    def make(n_samples, shift):
        layers = {
            "conv": rng.normal(size=(n_samples, 3, 4, 4)) + shift,
            "fc": rng.normal(size=(n_samples, 5)) - shift,
        }
        return Activations(layers, logits=rng.normal(size=(n_samples, 3)))

    A = make(150, 0)
    return A, np.arange(150) % 3, {"x": make(60, 1), "y": make(90, 3), "z": make(40, 0.3)}


def parts():
    return {
        "Mahalanobis": make_pipeline(PoolingReducer(), MahalanobisDetector()),
        "KNN": make_pipeline(PoolingReducer(pooling="avg"), KNNDetector()),
        "forest": IsolationForest(n_estimators=10, random_state=0),
    }


@pytest.fixture(scope="module")
def expected():
    A, y, sets = small()
    return od_test(parts(), A, sets, y=y, target="both")


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing", "sequential"])
def test_backends_give_the_same(backend, expected, tmp_path):
    A, y, sets = small()
    with joblib.parallel_config(backend, n_jobs=2):
        assert_same(od_test(parts(), A, sets, y=y, target="both"), expected)
        kept = od_test(parts(), A, sets, y=y, target="both", results=tmp_path)
    assert_same(kept, expected)
    # Workers have written all cells.
    # 3 fits of 2 sets each and that for errors, or one of 3 and the errors; and the format.
    assert len(list(tmp_path.glob("*.json"))) == 3 * 2 + 1 + 2 * (3 + 1) + 1


def test_networks_are_sent_to_other_processes(network, pair, sets):
    detectors = detectors_of(network)
    one = od_test(detectors, pair[0], sets, y=pair[1])
    assert_same(od_test(detectors, pair[0], sets, y=pair[1], n_jobs=2), one)


def test_sets_are_mapped_from_the_disk_in_other_processes(expected, tmp_path, monkeypatch):
    A, y, sets = small()
    detectors = {"mapped": IsMapped()}
    table = od_test(detectors, A, sets, y=y, n_jobs=2)
    assert (table["auroc"] == 0.5).all()
    for name, X in sets.items():
        X.save(tmp_path / name)
    sets = {name: Activations.load(tmp_path / name, mmap_mode="r") for name in sets}
    assert_same(od_test(parts(), A, sets, y=y, target="both", n_jobs=2), expected)
    # What is on the disk is not written anew.
    A.save(tmp_path / "A")
    A = Activations.load(tmp_path / "A", mmap_mode="r")
    monkeypatch.delattr(Activations, "save")
    assert (od_test(detectors, (A, A), sets, n_jobs=2)["auroc"] == 0.5).all()


def test_labels_of_objects_stay_in_memory():
    A, _, sets = small()
    as_objects = np.array([1, "a"] * 75, dtype=object)
    A = A.assign(labels=as_objects)
    one, two = (od_test(parts(), (A, A), sets, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert_same(one, two)


class IsMapped(KNNDetector):
    """Fails where the activations are not on the disk."""

    def fit(self, X, y=None):
        layer = X["fc"]
        while isinstance(layer.base, np.ndarray):
            layer = layer.base
        assert isinstance(layer, np.memmap), type(layer)
        return self

    def score_samples(self, X):
        return np.zeros(len(X))

    def predict(self, X):
        return np.ones(len(X))


def test_dask_gives_the_same(expected, tmp_path):
    distributed = pytest.importorskip("distributed")
    A, y, sets = small()
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        table = od_test(parts(), A, sets, y=y, target="both", results=tmp_path)
    assert_same(table, expected)


def test_the_order_of_detectors_and_sets_makes_no_difference(expected):
    A, y, sets = small()
    detectors = dict(reversed(parts().items()))
    sets = dict(reversed(sets.items()))
    table = od_test(detectors, A, sets, y=y, target="both")
    keys = ["detector", "target", "validation", "test"]
    assert table["detector"].tolist() != expected["detector"].tolist()
    one, two = (t.sort_values(keys).reset_index(drop=True) for t in (table, expected))
    assert_same(one, two)


def test_progress_is_reported(capsys):
    A, y, sets = small()
    od_test(parts(), A, sets, y=y)
    assert capsys.readouterr() == ("", "")
    od_test(parts(), A, sets, y=y, verbose=2)
    said = capsys.readouterr()
    assert "[od_test] Mahalanobis on in-distribution, learning from x: 2 cells" in said.out
    assert "od_test: 100%" in said.err
    assert "| 5/5 " in said.err


# Results that are kept.


class Counting(KNNDetector):
    """Notes in a file what it does."""

    def __init__(self, log=None, n_neighbors=5):
        super().__init__(n_neighbors=n_neighbors)
        self.log = log

    def fit(self, X, y=None):
        note(self.log, f"fit {len(X)}")
        return super().fit(X, y)

    def score_samples(self, X):
        note(self.log, f"score {len(X)}")
        return super().score_samples(X)


def note(file, line):
    with open(file, "a") as log:
        log.write(line + "\n")


def lines(file):
    return file.read_text().splitlines() if file.exists() else []


def vectors():
    A, y, sets = small()
    return A[["fc"]], y, {name: X[["fc"]] for name, X in sets.items()}


def test_what_is_kept_is_not_computed_again(tmp_path):
    A, y, sets = vectors()
    log, folder = tmp_path / "log", tmp_path / "cells" / "of a test"
    detectors = {"counting": Counting(str(log))}
    first = od_test(detectors, A, sets, y=y, target="both", results=folder)
    assert lines(log) == ["fit 75", "score 75", "score 75", "score 40", "score 60"]
    again = od_test(detectors, A, sets, y=y, target="both", results=str(folder), n_jobs=2)
    pd.testing.assert_frame_equal(first, again)
    assert len(lines(log)) == 5
    # One set more: only this one is scored.
    more = sets | {"new": A[:11]}
    od_test(detectors, A, more, y=y, target="both", results=folder)
    assert lines(log)[5:] == ["fit 75", "score 11", "score 11"]
    # Names have no part in what is kept, nor has the metric.
    renamed = {f"set {name}": X for name, X in sets.items()}
    od_test({"other name": Counting(str(log))}, {"source": A}, renamed, y={"source": y},
            metrics=["auroc"], results=folder)  # fmt: skip
    assert len(lines(log)) == 8


@pytest.mark.parametrize(
    "change", ["parameter", "test set", "training set", "labels", "class", "layer name"]
)
def test_what_decides_a_cell_is_in_its_key(change, tmp_path):
    A, y, sets = vectors()
    log = tmp_path / "log"
    detector = Counting(str(log))
    train, test = A[:75], A[75:]
    labels = y[:75], y[75:]
    od_test(detector, (train, test), sets, y=labels, results=tmp_path / "cells")
    n_before = len(lines(log))
    if change == "parameter":
        detector = Counting(str(log), n_neighbors=6)
    elif change == "test set":
        changed = sets["x"]["fc"].copy()
        changed[3, 2] = np.nextafter(changed[3, 2], 9)
        sets["x"] = sets["x"].assign({"fc": changed})
    elif change == "training set":
        train = A[np.r_[1, 0, 2:75]]
    elif change == "labels":
        labels = np.roll(labels[0], 1), labels[1]
    elif change == "class":
        detector = Another(str(log))
    else:
        train, test, *outside = (
            X.replace({"renamed": X["fc"]}) for X in (train, test, *sets.values())
        )
        sets = dict(zip(sets, outside, strict=True))
    od_test(detector, (train, test), sets, y=labels, results=tmp_path / "cells")
    n_new = len(lines(log)) - n_before
    assert n_new == (3 if change == "test set" else 5)


class Another(Counting):
    """Of another class."""


class CountingInItself(KNNDetector):
    """Counts its fits in its class, and notes them in its module."""

    n_fits = 0

    def fit(self, X, y=None):
        type(self).n_fits += 1
        FITS.append(len(X))
        return super().fit(X, y)


FITS = []


def test_a_class_that_counts_stays_the_same(tmp_path):
    A, _, sets = vectors()
    first = od_test(CountingInItself(), A, sets, results=tmp_path)
    assert (CountingInItself.n_fits, FITS) == (1, [75])
    again = od_test(CountingInItself(), A, sets, results=tmp_path)
    pd.testing.assert_frame_equal(first, again)
    assert (CountingInItself.n_fits, FITS) == (1, [75])


def key_in_a_new_process(folder, factor):
    """Key of a detector whose class is in a file."""
    (folder / "own_detector.py").write_text(
        "from skood.detectors import KNNDetector\n\n\n"
        "class Own(KNNDetector):\n"
        "    def score_samples(self, X):\n"
        f"        return super().score_samples(X) * {factor}\n"
    )
    code = (
        "from own_detector import Own; "
        "from skood.model_selection._od_test_cells import key_of_estimator; "
        "print(key_of_estimator(Own()))"
    )
    paths = [str(folder), str(Path(skood.__file__).parents[1])]
    return subprocess.run(
        [sys.executable, "-B", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_source_of_a_class_is_in_the_key(tmp_path):
    key = key_in_a_new_process(tmp_path, 1)
    assert len(key.strip()) == 32
    assert key_in_a_new_process(tmp_path, 1) == key
    assert key_in_a_new_process(tmp_path, 3) != key


def test_parameters_that_change_no_score_are_not_in_the_key(tmp_path):
    A, y, sets = vectors()
    forest = IsolationForest(n_estimators=3, random_state=0, n_jobs=1)
    od_test({"forest": forest}, A, sets, y=y, results=tmp_path)
    n_cells = len(list(tmp_path.iterdir()))
    od_test({"forest": forest.set_params(n_jobs=2, verbose=0)}, A, sets, y=y, results=tmp_path)
    assert len(list(tmp_path.iterdir())) == n_cells


def test_a_copy_of_the_network_and_the_sets_has_the_same_key(tmp_path):
    torch, net, X = images()
    sets = {"a": X["a"], "b": X["b"]}
    od_test({"m": make_monitor(net)}, (X["train"], X["test"]), sets, results=tmp_path)
    n_cells = len(list(tmp_path.iterdir()))
    assert n_cells == 3
    copies = {name: array.copy() for name, array in X.items()}
    sets = {"a": copies["a"], "b": copies["b"]}
    other = copy.deepcopy(net)
    od_test({"m": make_monitor(other)}, (copies["train"], copies["test"]), sets, results=tmp_path)
    assert len(list(tmp_path.iterdir())) == n_cells
    with torch.no_grad():
        other[0].weight[0, 0, 0, 0] += 1
    od_test({"m": make_monitor(other)}, (copies["train"], copies["test"]), sets, results=tmp_path)
    assert len(list(tmp_path.iterdir())) == n_cells + 2


def test_what_cannot_be_hashed_is_not_kept(tmp_path):
    A, y, sets = vectors()
    detectors = {"lock": Counting(Unreadable(tmp_path / "log")), "KNN": KNNDetector()}
    for n_notes in (5, 10):
        with pytest.warns(UserWarning, match=r"Nothing of Counting.*content cannot be read"):
            od_test(detectors, A, sets, y=y, target="both", results=tmp_path / "cells")
        assert len(lines(tmp_path / "log")) == n_notes


class Unreadable:
    """A path that cannot be pickled, and is no part of a hash."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)

    def __deepcopy__(self, memo):
        return self

    def __reduce_ex__(self, protocol):
        raise TypeError("no pickles")


def test_sets_that_cannot_be_hashed_are_refused(tmp_path):
    torch, net, X = images()

    class Endless(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, i):
            return X["a"][i]

        def __reduce_ex__(self, protocol):
            raise TypeError("no pickles")

    sets = {"a": Endless(), "b": X["b"]}
    od_test(make_monitor(net), (X["train"], X["test"]), sets)
    with pytest.raises(ValueError, match="needs sets whose content can be read, which Endless"):
        od_test(make_monitor(net), (X["train"], X["test"]), sets, results=tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    A, _, sets = vectors()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"something else .*notes\.txt"):
        od_test(KNNDetector(), A, sets, results=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "marker", ['{"format": "skood.model_selection.od_test", "version": 0}', "?"]
)
def test_a_folder_of_another_format_is_refused(tmp_path, marker):
    A, _, sets = vectors()
    od_test(KNNDetector(), A, sets, results=tmp_path)
    (tmp_path / "format.json").write_text(marker)
    with pytest.raises(ValueError, match=r"holds results of the format .*reads .*'version': 1"):
        od_test(KNNDetector(), A, sets, results=tmp_path)


@pytest.mark.parametrize("broken", ["", "{}", '{"metrics": 3}', "[1]"])
def test_a_broken_file_is_computed_again(tmp_path, broken):
    A, _, sets = vectors()
    log = tmp_path / "log"
    arguments = Counting(str(log)), A, sets
    first = od_test(*arguments, results=tmp_path / "cells")
    file = next(f for f in (tmp_path / "cells").iterdir() if f.name != "format.json")
    file.write_text(broken)
    with pytest.warns(UserWarning, match="holds no result any more: it is computed again"):
        again = od_test(*arguments, results=tmp_path / "cells")
    assert_same(first, again)
    assert lines(log)[5] == "fit 75"
    assert len(lines(log)) == 8
    assert json.loads(file.read_text())["n_in"] > 0


def test_leftovers_of_killed_processes_are_deleted(tmp_path):
    A, _, sets = vectors()
    od_test(KNNDetector(), A, sets, results=tmp_path)
    old, new = tmp_path / ".a.json.0.tmp", tmp_path / ".b.json.1.tmp"
    for file in (old, new):
        file.write_text("{")
    os.utime(old, (time.time() - 7200,) * 2)
    od_test(KNNDetector(), A, sets, results=tmp_path)
    assert not old.exists()
    assert new.exists()


SCRIPT = """
    import sys, time
    import numpy as np
    from skood.detectors import MahalanobisDetector, KNNDetector
    from skood.model_selection import od_test

    def note(line):
        with open(sys.argv[1], "a") as log:
            log.write(line + "\\n")

    def name_of(X):
        return f"{np.asarray(X).mean():.6f}"

    class Noting:
        def fit(self, X, y=None):
            super().fit(X, y)
            self.name_ = f"{type(self).__name__} {name_of(X)}"
            note(f"fit {self.name_}")
            return self

        def score_samples(self, X):
            scores = super().score_samples(X)
            time.sleep(0.02)
            note(f"score {self.name_} {name_of(X)}")
            return scores

    class Learning(Noting, MahalanobisDetector): pass
    class Plain(Noting, KNNDetector): pass

    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    sets = {name: rng.normal(size=(40, 3)) + i for i, name in enumerate("abcdef")}
    table = od_test(
        {"learning": Learning(), "plain": Plain()}, X, sets, results=sys.argv[2],
        n_jobs=int(sys.argv[3]),
    )
    table.drop(columns=["fit_time", "score_time"]).to_csv(sys.argv[4])
"""


def start(tmp_path, name, n_jobs=1):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    files = [tmp_path / f"{name}.log", tmp_path / f"{name}.cells", str(n_jobs)]
    command = [sys.executable, script, *files, tmp_path / f"{name}.csv"]
    package = str(Path(skood.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": package}
    return subprocess.Popen(list(map(str, command)), env=environment)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nobody has killed."""
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder, "whole").wait(timeout=300) == 0
    return folder


def kill(process, log, n_more, seconds):
    """End a process at once, some time after it has noted that it did so much more."""
    until = len(lines(log)) + n_more
    while process.poll() is None and len(lines(log)) < until:
        time.sleep(0.002)
    time.sleep(seconds)
    assert process.poll() is None, "It was finished before."
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_run_goes_on_and_repeats_nothing(whole, tmp_path):
    log, rng = tmp_path / "killed.log", np.random.default_rng(0)
    n_kills = 4
    for _ in range(n_kills):
        kill(start(tmp_path, "killed"), log, rng.integers(1, 10), rng.uniform(0, 0.03))
    assert start(tmp_path, "killed").wait(timeout=300) == 0
    # Nothing is lost: the table is that of a run that was not killed.
    assert (tmp_path / "killed.csv").read_text() == (whole / "whole.csv").read_text()
    once, often = lines(whole / "whole.log"), lines(log)
    assert set(often) == set(once)
    # 6 fits of a detector that learns from marked rows, one of the other; 6 * 5 cells and 6.
    fits = [line for line in once if line.startswith("fit")]
    inside = once[1].split()[-1]
    cells = [line for line in once if line not in fits and line.split()[-1] != inside]
    assert (len(fits), len(cells), len(once)) == (7, 36, 7 * 2 + 36)
    # Nothing is repeated, but for the fit and the cell that were under way.
    repeated = Counter(often) - Counter(once)
    assert sum(repeated[fit] for fit in fits) <= n_kills
    assert sum(repeated[cell] for cell in cells) <= n_kills


def test_workers_that_are_killed_with_their_parent_lose_nothing(whole, tmp_path):
    log = tmp_path / "killed.log"
    kill(start(tmp_path, "killed", n_jobs=2), log, 10, 0.01)
    assert start(tmp_path, "killed", n_jobs=2).wait(timeout=300) == 0
    assert (tmp_path / "killed.csv").read_text() == (whole / "whole.csv").read_text()
    assert set(lines(log)) == set(lines(whole / "whole.log"))


def test_estimators_that_write_into_their_input_change_nothing_else():
    rng = np.random.default_rng(0)
    train, test = 5 + 3 * rng.normal(size=(2, 60, 4))
    sets = {"a": rng.random((30, 4)), "b": 9 + rng.random((30, 4))}
    before = train.copy(), test.copy(), sets["a"].copy()
    writing = make_pipeline(StandardScaler(copy=False), OneClassSVM())
    other = IsolationForest(random_state=0)
    one_way = od_test({"writing": writing, "other": other}, (train, test), sets)
    other_way = od_test({"other": other, "writing": writing}, (train, test), sets)
    keys = ["detector", "validation", "test"]
    one_way, other_way = (t.sort_values(keys)["auroc"].to_numpy() for t in (one_way, other_way))
    np.testing.assert_array_equal(one_way, other_way)
    for now, then in zip((train, test, sets["a"]), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("last", [OneClassSVM(), MahalanobisDetector()])
def test_a_layer_that_a_step_selects_is_not_written_into(last):
    rng = np.random.default_rng(0)
    layers = [{"a": 5 + rng.normal(size=(60, 4)) * (i + 1), "b": np.eye(60)} for i in range(4)]
    train, test, *outside = map(Activations, layers)
    before = [layer["a"].copy() for layer in layers]
    sets = dict(zip("xy", outside, strict=True))
    writing = make_pipeline(LayerSelector(layers=["a"]), StandardScaler(copy=False), last)
    table = od_test(writing, (train, test), sets)
    expected = od_test(clone(writing).set_params(standardscaler__copy=True), (train, test), sets)
    np.testing.assert_array_equal(table["auroc"], expected["auroc"])
    for layer, then in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer["a"], then)


class WritesLabels(IsolationForest):
    """Overwrites the labels that it is given."""

    def fit(self, X, y=None):
        y[:] = 0
        return super().fit(X)


def test_labels_are_not_written_into():
    A, y, sets = vectors()
    labels = y.copy(), y.copy()
    od_test(WritesLabels(random_state=0), (A, A), sets, y=labels, target="both")
    np.testing.assert_array_equal(labels, (y, y))


class WithoutParameters:
    """Has no more of an estimator than it takes to fit and to score."""

    def fit(self, X):
        X -= X.mean(axis=0)
        return self

    def score_samples(self, X):
        return -np.abs(X[:, 0])

    def predict(self, X):
        return np.where(X[:, 0] < 2, 1, -1)


def test_what_has_no_parameters_is_a_detector_that_may_write():
    X = np.random.default_rng(0).random((60, 3))
    before = X.copy()
    table = od_test(WithoutParameters(), (X[:20], X[20:40]), {"a": X[40:], "b": X[40:] + 3})
    assert table.set_index("test").loc["b", "auroc"] == 1
    np.testing.assert_array_equal(X, before)


def test_layers_on_the_disk_are_not_copied(tmp_path):
    A, _, sets = small()
    mapped = {}
    for name, X in {"A": A, **sets}.items():
        X.save(tmp_path / name)
        mapped[name] = Activations.load(tmp_path / name, mmap_mode="r")
    A = mapped.pop("A")
    # As all classes of these tests it is of another library, and might write.
    assert (od_test(IsMapped(), (A, A), mapped)["auroc"] == 0.5).all()


@pytest.mark.parametrize(
    "spoil",
    [
        {"metrics": {}},
        {"n_in": "many"},
        {"n_out": None},
        {"fit_time": None},
        {"failure": "Error x"},
        {"remark": 3},
        {"more": 1},
    ],
)
def test_a_kept_cell_that_lacks_something_is_computed_again(tmp_path, spoil):
    A, _, sets = small()
    detectors = {"energy": EnergyDetector()}
    first = od_test(detectors, (A, A), sets, results=tmp_path)
    for file in tmp_path.glob("[!f]*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), **spoil}))
    with pytest.warns(UserWarning, match=r"[0-9a-f]{32}\.json holds no result"):
        again = od_test(detectors, (A, A), sets, results=tmp_path)
    np.testing.assert_array_equal(again["auroc"], first["auroc"])


def test_a_folder_in_place_of_a_kept_cell_is_refused(tmp_path):
    A, _, sets = small()
    arguments = {"energy": EnergyDetector()}, (A, A), sets
    od_test(*arguments, results=tmp_path)
    file = next(tmp_path.glob("[!f]*.json"))
    file.unlink()
    file.mkdir()
    with pytest.raises(ValueError, match=rf"{file.name} is a folder in place of a kept result"):
        od_test(*arguments, results=tmp_path)


def open_at_once(folder, barrier):
    barrier.wait()
    CellFolder.open(folder)


def test_runs_that_start_at_once_share_a_new_folder(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        for i in range(20):
            barrier = threading.Barrier(4)
            jobs = [pool.submit(open_at_once, tmp_path / str(i), barrier) for _ in range(4)]
            for job in jobs:
                job.result()


def test_integer_labels_of_every_size_are_the_same(tmp_path):
    A, y, sets = vectors()
    log, kept = tmp_path / "log", tmp_path / "cells"
    detector = Counting(str(log))
    for labels in (y, y.astype(np.int32), y.astype(np.uint8), y.tolist()):
        od_test(detector, (A, A), sets, y=(labels, labels), target="both", results=kept)
    assert lines(log).count("fit 150") == 1


def test_only_errors_depend_on_the_network_of_another_detector(digits, pair, sets, tmp_path):
    X, y, _ = digits
    log, kept = tmp_path / "log", tmp_path / "cells"
    for seed in (0, 1):
        net = MLPClassifier((4,), random_state=seed, tol=1e-1, n_iter_no_change=2)
        extractor = ActivationExtractor(net.fit(X[:200], y[:200]))
        softmax = make_pipeline(extractor, MaxSoftmaxDetector())
        detectors = {"softmax": softmax, "KNN": Counting(str(log))}
        od_test(detectors, pair[0], sets, y=pair[1], target="both", results=kept)
    _, first, second = " ".join(lines(log)).split("fit 200")
    assert Counter(first.split()) == Counter({"score": 4, "200": 1, "80": 1, "120": 1, "90": 1})
    assert second.split() == ["score", "200"]


def test_a_frozen_monitor_gets_activations_once_and_tells_errors(
    network, pair, sets, extracted_rows
):
    monitor = make_pipeline(ActivationExtractor(network), KNNDetector())
    expected = od_test({"m": monitor}, pair[0], sets, y=pair[1], target="both")
    frozen = FrozenEstimator(clone(monitor).fit(pair[0][0]))
    extracted_rows.clear()
    assert_same(od_test({"m": frozen}, pair[0], sets, y=pair[1], target="both"), expected)
    assert sorted(extracted_rows) == sorted([200, 200, 80, 120, 90])


def test_a_folder_in_which_a_run_was_killed_at_once_is_usable(tmp_path):
    A, _, sets = small()
    (tmp_path / ".format.json.ab12.tmp").touch()
    assert len(od_test({"energy": EnergyDetector()}, (A, A), sets, results=tmp_path))


class TooFew(IsolationForest):
    """Gives no score for the last sample."""

    def score_samples(self, X):
        return super().score_samples(X)[:-1]


def test_another_number_of_scores_is_refused():
    X = np.random.default_rng(0).random((40, 3))
    with pytest.raises(ValueError, match="19 scores for 20 samples"):
        od_test(TooFew(random_state=0), (X, X[:20]), {"a": X[:20], "b": X[20:]})


def test_parameters_of_detectors_are_checked():
    A, _, sets = small()
    with pytest.raises(ValueError, match="temperature"):
        od_test(EnergyDetector(temperature=-1), (A, A), sets)
