"""Rows in blocks of Dask: the same as in one process, and what is sent where."""

import pickle
from collections import Counter

import dask
import dask.array as da
import numpy as np
import pytest
from _counting_network import CountingNetwork
from _killing import kill_once
from _networks import with_exact_sums
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from test_incremental import INCREMENTAL, unfitted
from test_incremental import A as TRAINING
from test_incremental import Y as MARKED
from test_incremental import assert_same as assert_learnt_as_by_one_fit

from skood import ActivationExtractor, Activations, Monitor, PoolingReducer
from skood.calibration import ConformalDetector, UncalibratedWarning
from skood.detectors import (
    COREDetector,
    GaussianActivationDetector,
    HammingNAPDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxSoftmaxDetector,
)
from skood.engines import DaskActivations
from skood.engines._parcel import Parcel
from skood.preprocessing import LayerSelector, PercentileBinarizer
from skood.shaping import ReAct

torch = pytest.importorskip("torch")
pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

DETECTORS = {
    "nearest": KNNDetector(),
    "nearest, held out": KNNDetector(validation=0.2),
    "patterns": HammingNAPDetector(),
    "patterns by label": HammingNAPDetector(group_by="label"),
    "moments": GaussianActivationDetector(),
    "moments, held out": GaussianActivationDetector(validation=0.3),
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X, y = X[:897], y[:897]
    net = with_exact_sums(
        MLPClassifier((16, 8), max_iter=20, tol=1, random_state=0).fit(X[:300], y[:300])
    )
    marked = y.copy()
    marked[::17] = -1
    return X, marked, net


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "120s"}),  # of a busy machine
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=None
        ) as cluster,
        distributed.Client(cluster, timeout=120, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(params=["threads", "cluster"])
def scheduler(request):
    if request.param == "cluster":
        with request.getfixturevalue("client").as_current():
            yield "cluster"
    else:
        with dask.config.set(scheduler=request.param):
            yield request.param


def blocks_of(X, size=150):
    return da.from_array(X, chunks=(size, *X.shape[1:]))


def without_small_rows(X, blocks):
    """The same selection of rows of an array, and of blocks, whose sizes are not known then."""
    return X[X.sum(axis=1) > 280], blocks[blocks.sum(axis=1) > 280]


def assert_same(A, expected):
    assert A.layer_names == expected.layer_names
    for name, values in expected.items():
        np.testing.assert_array_equal(A[name], values)
        assert A[name].dtype == values.dtype
    np.testing.assert_array_equal(A.logits, expected.logits)
    np.testing.assert_array_equal(A.predictions, expected.predictions)


def by_blocks(extractor, X, size=150):
    """Activations of the same blocks, one after the other, in this process."""
    starts = range(0, len(X), size)
    return Activations.concatenate([extractor.transform(X[s : s + size]) for s in starts])


def test_blocks_are_extracted_as_in_one_process_bit_for_bit(digits, scheduler):
    X, _, net = digits
    A = ActivationExtractor(net).fit_transform(blocks_of(X))
    assert isinstance(A, DaskActivations)
    assert A.layer_names == ("hidden_0", "hidden_1")
    assert (len(A), A.shape) == (len(X), (len(X), 24))
    expected = by_blocks(ActivationExtractor(net).fit(X), X)
    assert_same(A.compute(), expected)
    layer = A["hidden_1"]
    assert (layer.shape, layer.chunks[0], layer.dtype) == ((897, 8), (150,) * 5 + (147,), float)
    np.testing.assert_array_equal(layer.compute(), expected["hidden_1"])
    assert A[["hidden_0"]].compute().layer_names == ("hidden_0",)
    np.testing.assert_array_equal(A[100:450:3].compute().logits, expected.logits[100:450:3])


def test_convolutional_networks_are_pooled_block_by_block():
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3, dtype=torch.float32)
    )
    X = np.random.default_rng(0).normal(size=(90, 1, 8, 8)).astype(np.float32)
    extractor = ActivationExtractor(net, reducer=PoolingReducer())
    # Chunks of other axes than that of the rows are put together.
    A = extractor.fit_transform(da.from_array(X, chunks=(40, 1, 4, 8)))
    assert A.layer_shapes == {"1": (4,), "penultimate": (144,)}
    assert A.head is not None
    assert_same(A.compute(), by_blocks(extractor, X, 40))


def test_blocks_of_unknown_size_and_without_rows(digits, scheduler):
    X, _, net = digits
    wanted = (X.sum(axis=1) > 280) & (np.arange(len(X)) // 50 % 17 > 0)
    some = X[wanted]
    extractor = ActivationExtractor(net).fit(X)
    A = extractor.transform(blocks_of(X, 50)[da.from_array(wanted, chunks=50)])
    with pytest.raises(TypeError, match="compute_chunk_sizes"):
        len(A)
    assert repr(A).startswith("DaskActivations(n_samples=unknown")
    counts = A.compute_chunk_sizes().block_sizes
    assert (counts[0], counts[-1], sum(counts)) == (0, 0, len(some))
    np.testing.assert_array_equal(A["hidden_0"].compute(), extractor.transform(some)["hidden_0"])
    detector = KNNDetector().fit(extractor.transform(X))
    np.testing.assert_array_equal(
        detector.predict(A).compute(), detector.predict(extractor.transform(some))
    )


def test_no_row_in_any_block_is_refused(digits):
    X, _, net = digits
    nothing = blocks_of(X)[X[:, 0] > 99]
    with pytest.raises(ValueError, match="Found 0 samples in all blocks"):
        ActivationExtractor(net).fit(nothing)
    A = ActivationExtractor(net).fit(X).transform(nothing)
    with pytest.raises(ValueError, match="Found 0 samples in all blocks"):
        A.compute()
    some = ActivationExtractor(net).fit_transform(X[:60])
    empty = DaskActivations.from_activations(some[:0])
    for given in (A, empty):
        with pytest.raises(ValueError, match="Found 0 samples in all blocks"):
            KNNDetector().fit(given)
    assert KNNDetector().fit(some).score_samples(empty).compute().shape == (0,)
    assert empty["hidden_0"].compute().shape == (0, 16)


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        *((name, "threads") for name in DETECTORS),
        *((name, "cluster") for name in ("patterns", "moments, held out")),
    ],
    indirect=["scheduler"],
)
def test_a_tree_of_merges_learns_what_one_fit_does(digits, name, scheduler):
    X, y, net = digits
    extractor = ActivationExtractor(net, "hidden_0").fit(X)
    A, blocks = extractor.transform(X), extractor.transform(blocks_of(X))
    one = clone(DETECTORS[name]).fit(A, y)
    tree = clone(DETECTORS[name]).fit(blocks, da.from_array(y, chunks=150))
    exact = not name.startswith("moments")
    compare = np.testing.assert_array_equal if exact else np.testing.assert_allclose
    compare(tree.offset_, one.offset_)
    compare(tree.training_scores_, one.training_scores_)
    compare(tree.score_samples(blocks).compute(), one.score_samples(A))
    compare(tree.decision_function(A), one.decision_function(A))
    np.testing.assert_array_equal(tree.training_rows_, one.training_rows_)
    np.testing.assert_array_equal(tree.learnt_rows_, one.learnt_rows_)
    scores = tree.score_samples(blocks)
    assert isinstance(scores, da.Array)
    assert (scores.dtype, scores.shape) == (np.float64, (len(X),))


def test_wide_layers_are_left_out_by_the_same_fifths_on_a_cluster(client):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = rng.normal(size=(120, 6)) @ rng.normal(size=(6, 2060)) + rng.normal(size=(120, 2060))
    one = MahalanobisDetector(n_components=6).fit(X, y)
    with client.as_current():
        tree = MahalanobisDetector(n_components=6).fit(da.from_array(X, chunks=(50, -1)), y)
        extracted = MahalanobisDetector(n_components=6).fit(
            DaskActivations.from_activations(Activations({"X": X}), 50), y
        )
    for found in (tree, extracted):
        np.testing.assert_allclose(found.training_scores_, one.training_scores_, rtol=1e-6)
        assert found.offset_ == pytest.approx(one.offset_)


def test_labels_in_memory_and_plain_arrays_of_features(digits):
    X, y, _ = digits
    one = GaussianActivationDetector().fit(X, y)
    tree = GaussianActivationDetector().fit(blocks_of(X), y)
    np.testing.assert_allclose(tree.offset_, one.offset_)
    assert tree.n_features_in_ == 64
    some, blocks = without_small_rows(X, blocks_of(X))
    labels = da.from_array(y, chunks=150)[blocks_of(X).sum(axis=1) > 280]
    tree = KNNDetector(validation=0.5).fit(blocks, labels)
    one = KNNDetector(validation=0.5).fit(some, y[X.sum(axis=1) > 280])
    assert tree.offset_ == one.offset_
    with pytest.raises(ValueError, match="chunks of unknown size"):
        KNNDetector().fit(blocks, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        KNNDetector().fit(blocks_of(X), y[1:])


def test_all_rows_marked_are_refused_and_leave_the_detector_as_it_was(digits):
    X, y, _ = digits
    detector = KNNDetector().fit(X[:100])
    before = detector.offset_
    with pytest.raises(ValueError, match="All 897 samples are marked"):
        detector.fit(blocks_of(X), np.full(len(X), -1))
    assert detector.offset_ == before
    # A block may have marked rows alone.
    y = np.where(np.arange(len(X)) < 300, -1, y)
    assert KNNDetector().fit(blocks_of(X), y).offset_ == KNNDetector().fit(X, y).offset_


def test_blocks_are_batches_of_a_stream(digits):
    X, y, _ = digits
    blocks = blocks_of(X)
    stream = (
        HammingNAPDetector().partial_fit(blocks[:450], y[:450]).partial_fit(blocks[450:], y[450:])
    )
    stream.partial_fit(X[:100], y[:100])
    one = HammingNAPDetector().fit(np.vstack([X, X[:100]]), np.append(y, y[:100]))
    assert stream.offset_ == one.offset_
    with pytest.raises(ValueError, match="begin with partial_fit"):
        HammingNAPDetector().fit(blocks).partial_fit(X)


def test_detectors_that_need_all_rows_say_how_to_have_them(digits):
    X, _, net = digits
    A = ActivationExtractor(net).fit_transform(blocks_of(X))
    with pytest.raises(TypeError, match=r"CORE\w* cannot be fitted block by block.*compute"):
        COREDetector().fit(A)
    with pytest.raises(TypeError, match=r"pass A\.compute\(\)"):
        np.asarray(A)
    with pytest.raises(TypeError, match="FrozenEstimator"):
        ReAct().fit(A)
    with pytest.raises(AttributeError, match=r"A\.compute\(\)"):
        _ = A.mask
    with pytest.raises(TypeError, match="ascending"):
        A[[3, 1]]


def test_steps_before_the_detector_work_by_blocks(digits):
    X, y, net = digits
    steps = LayerSelector(layers="hidden_0"), PercentileBinarizer(), HammingNAPDetector()
    tree = make_pipeline(ActivationExtractor(net), *steps).fit(blocks_of(X), y)
    steps = LayerSelector(layers="hidden_0"), PercentileBinarizer(), HammingNAPDetector()
    one = make_pipeline(ActivationExtractor(net), *steps).fit(X, y)
    np.testing.assert_array_equal(tree.predict(blocks_of(X)).compute(), one.predict(X))


def build(net, **params):
    detector = GaussianActivationDetector(**params)
    return Monitor([("extract", ActivationExtractor(net)), ("detect", detector)])


@pytest.mark.parametrize(
    ("params", "scheduler"),
    [({}, "threads"), ({"validation": 0.3}, "threads"), ({}, "cluster")],
    indirect=["scheduler"],
)
def test_monitors_learn_and_calibrate_by_blocks(digits, params, scheduler):
    X, y, net = digits
    blocks, labels = blocks_of(X[300:], 100), da.from_array(y[300:], chunks=100)
    one = build(net, **params).fit(X[300:], y[300:])
    tree = build(net, **params).fit(blocks, labels)
    np.testing.assert_allclose(tree.offset_, one.offset_)
    np.testing.assert_array_equal(tree.predict(blocks).compute(), one.predict(X[300:]))
    assert tree.score(blocks, labels) == one.score(X[300:], y[300:])
    if params:
        np.testing.assert_allclose(tree.p_values(blocks).compute(), one.p_values(X[300:]))
    else:
        with pytest.raises(NotFittedError, match="p-values"):
            tree.p_values(blocks)
    with pytest.raises(ValueError, match="rows that fit got"):
        tree.calibrate(blocks)
    tree.calibrate(blocks_of(X[:300]), y[:300])
    one.calibrate(X[:300], y[:300])
    np.testing.assert_allclose(tree.p_values(blocks).compute(), one.p_values(X[300:]))
    np.testing.assert_array_equal(tree.select(blocks), one.select(X[300:]))
    with pytest.raises(TypeError, match="report needs its rows in this process"):
        tree.report(blocks)


def test_monitors_continue_with_blocks(digits):
    X, y, net = digits
    blocks = blocks_of(X)
    stream = build(net).partial_fit(blocks[:450], y[:450]).partial_fit(blocks[450:], y[450:])
    np.testing.assert_allclose(stream.offset_, build(net).fit(X, y).offset_)


@pytest.mark.parametrize("params", [{}, {"validation": 0.3}])
def test_monitors_are_calibrated_anew_when_they_learn_more_blocks(digits, params):
    X, _, net = digits
    one, tree = (build(net, **params).partial_fit(given) for given in (X[:300], blocks_of(X[:300])))
    if not params:
        one.calibrate(X[300:600])
        tree.calibrate(blocks_of(X[300:600]))
    for monitor in (one, tree):
        monitor.partial_fit(X[600:700])
        monitor.merge(build(net, **params).partial_fit(X[700:800]))
    one.partial_fit(X[800:])
    tree.partial_fit(blocks_of(X[800:], 50))
    np.testing.assert_allclose(tree.offset_, one.offset_)
    np.testing.assert_allclose(tree.p_values(X), one.p_values(X))


def test_calibration_by_many_blocks_is_not_kept(digits, monkeypatch):
    X, _, net = digits
    monkeypatch.setattr("skood._monitor_rows.KEPT_BYTES", 1000)
    monitor = build(net).partial_fit(X[:300]).calibrate(blocks_of(X[300:]))
    with pytest.warns(UncalibratedWarning, match="are not kept"):
        monitor.partial_fit(blocks_of(X[:150]))


def test_errors_say_in_which_block_a_row_is(digits):
    X, _, net = digits
    monitor = build(net).fit(X)
    X = X.copy()
    X[555, 3] = np.nan
    place = r"in sample 55\b.*block 5 of X.*number 500 of all"
    for method in (monitor.score_samples, clone(monitor).fit):
        with pytest.raises(ValueError, match=place):
            np.asarray(method(blocks_of(X, 100)))
    unknown = blocks_of(X, 100)[da.ones(len(X), chunks=100) > 0]
    with pytest.raises(ValueError, match=r"block 5 of X; samples are counted within it\.\)"):
        GaussianActivationDetector().fit(unknown)


def test_what_has_no_rows_before_it_is_computed_is_refused(digits):
    X, y, net = digits
    later = dask.delayed(y)
    for estimator in (build(net), GaussianActivationDetector()):
        with pytest.raises(TypeError, match=r"y is a Delayed of Dask.*y\.compute\(\)"):
            estimator.fit(blocks_of(X), later)
        with pytest.raises(TypeError, match="X is a Delayed of Dask"):
            estimator.fit(dask.delayed(X))


def test_labels_of_a_block_without_rows_are_refused(digits):
    X, y, _ = digits
    labels = da.from_array(y[:350], chunks=((50, 150, 150),))
    labels = labels[da.ones(350, chunks=((50, 150, 150),)) > 0]
    with pytest.raises(ValueError, match="X has 0 rows, y 50"):
        KNNDetector().fit(da.from_array(X[:300], chunks=((0, 150, 150), (64,))), labels)


def test_neighbours_are_found_in_this_process(digits):
    X, _, _ = digits
    detector = KNNDetector().fit(X)
    for method in (detector.kneighbors, detector.nearest_examples):
        with pytest.raises(TypeError, match=r"needs its rows in this process.*compute\(\)"):
            method(blocks_of(X))


def test_calibrated_detectors_score_by_blocks(digits):
    X, _, _ = digits
    detector = KNNDetector().fit(X[:450])
    tree = ConformalDetector(detector).fit(blocks_of(X[450:]))
    one = ConformalDetector(detector).fit(X[450:])
    np.testing.assert_array_equal(tree.p_values(blocks_of(X)).compute(), one.p_values(X))


def test_scores_are_those_of_the_time_when_they_were_asked_for(digits):
    X, _, _ = digits
    detector = KNNDetector().fit(X[:250])
    expected, lazy = detector.score_samples(X), detector.score_samples(blocks_of(X))
    detector.fit(X[250:])
    np.testing.assert_array_equal(lazy.compute(), expected)


def test_large_activations_wait_for_the_second_pass_on_the_disk(digits, monkeypatch, tmp_path):
    import sklearn

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    X, y, net = digits
    with dask.config.set(scheduler="synchronous"), sklearn.config_context(working_memory=0.05):
        tree = build(net).fit(blocks_of(X), y)
    np.testing.assert_allclose(tree.offset_, build(net).fit(X, y).offset_)
    assert list(tmp_path.iterdir()) == []


def test_several_inputs_need_blocks_of_the_same_rows(digits):
    X, _, net = digits
    with pytest.raises(ValueError, match=r"call rechunk"):
        ActivationExtractor(net).fit({"a": blocks_of(X), "b": blocks_of(X, 200)})
    with pytest.raises(TypeError, match="'b' is ndarray"):
        ActivationExtractor(net).fit({"a": blocks_of(X), "b": X})


def test_activations_on_disk_are_read_by_the_workers(digits, scheduler, tmp_path):
    X, y, net = digits
    ActivationExtractor(net).fit_transform(X).save(tmp_path / "saved")
    A = Activations.load(tmp_path / "saved", mmap_mode="r")
    blocks = DaskActivations.from_activations(A, 250)
    assert blocks.block_sizes == (250, 250, 250, 147)
    assert_same(blocks.compute(), A)
    assert KNNDetector().fit(blocks, y).offset_ == KNNDetector().fit(A, y).offset_
    with pytest.raises(ValueError, match="at least 1"):
        DaskActivations.from_activations(A, 0)


def counted(log):
    return Counter(line.split()[0] for line in log.read_text(encoding="utf-8").splitlines())


def counting(tmp_path):
    torch.manual_seed(0)
    return CountingNetwork(tmp_path / "log").eval(), tmp_path / "log"


def test_the_network_is_sent_once_to_each_worker_and_no_activations_to_the_client(client, tmp_path):
    net, log = counting(tmp_path)
    X = np.random.default_rng(0).normal(size=(500, 20)).astype(np.float32)
    log.write_text("", encoding="utf-8")
    came, restore = [], Activations.__setstate__

    def noted(self, state):
        restore(self, state)
        came.append(len(self))

    with client.as_current(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Activations, "__setstate__", noted)
        monitor = build(net).fit(da.from_array(X, chunks=(50, -1)))
        for _ in range(2):
            monitor.predict(da.from_array(X, chunks=(50, -1))).compute()
        A = monitor[:-1].transform(da.from_array(X, chunks=(50, -1)))
        assert A["body.1"].sum().compute() > 0
    assert counted(log) == {"packed": 1, "unpacked": 2}
    assert set(came) <= {0, 2}  # which layers there are, and two rows to fit the extractor on


def test_workers_with_another_version_refuse_what_they_are_sent(monkeypatch):
    sent = pickle.dumps(Parcel.of_now(KNNDetector(), ()))
    assert pickle.loads(sent).open().n_neighbors == KNNDetector().n_neighbors
    monkeypatch.setattr("skood.engines._parcel.__version__", "9.9")
    passed_on = pickle.dumps(pickle.loads(sent))
    with pytest.raises(RuntimeError, match=r"skood \d\S* has sent .* skood 9\.9 is installed"):
        pickle.loads(passed_on).open()


def test_a_worker_that_is_killed_changes_nothing(client, digits, tmp_path):
    X, _, net = digits
    blocks = blocks_of(X, 50)
    extractor = ActivationExtractor(net).fit(X)
    expected = KNNDetector().fit(by_blocks(extractor, X, 50))
    with client.as_current():
        deadly = blocks.map_blocks(kill_once, str(tmp_path / "killed"), meta=blocks._meta)
        detector = KNNDetector().fit(extractor.transform(deadly))
    assert (tmp_path / "killed").exists()
    np.testing.assert_array_equal(detector.training_scores_, expected.training_scores_)
    assert detector.offset_ == expected.offset_


def test_blocks_of_which_the_cluster_knows_some_results(client, digits):
    X, _, net = digits
    blocks = blocks_of(X).map_blocks(np.positive, meta=np.empty((0, 0))) + 0
    with client.as_current():
        kept = distributed.wait(total := blocks.sum(axis=1).persist())
        monitor = build(net).fit(blocks)
        np.testing.assert_array_equal(total.compute(), X.sum(axis=1))
    assert not kept.not_done
    np.testing.assert_allclose(monitor.offset_, build(net).fit(X).offset_)


def test_changed_networks_are_refused_before_anything_is_sent(digits):
    X, _, net = digits
    extractor = ActivationExtractor(net).fit(X)
    extractor.network = MLPClassifier((16, 8), max_iter=2, random_state=1)
    with pytest.warns(UserWarning, match="converged"):
        extractor.network.fit(X[:100], np.arange(100) % 10)
    with pytest.raises(ValueError, match="The network is not what it was in fit"):
        extractor.transform(blocks_of(X))


def test_detectors_without_batches_score_blocks(digits):
    X, _, net = digits
    A = ActivationExtractor(net).fit_transform(X)
    detector = MaxSoftmaxDetector().fit(A)
    blocks = ActivationExtractor(net).fit(X).transform(blocks_of(X))
    np.testing.assert_array_equal(detector.predict(blocks).compute(), detector.predict(A))


@pytest.mark.parametrize("validation", [None, 0.3])
@pytest.mark.parametrize("name", INCREMENTAL)
def test_every_detector_that_learns_in_batches_learns_by_blocks(name, validation):
    one = unfitted(name, validation=validation).fit(TRAINING, MARKED)
    with dask.config.set(scheduler="synchronous"):
        tree = unfitted(name, validation=validation).fit(
            DaskActivations.from_activations(TRAINING, 20), MARKED
        )
    # Scores of single blocks differ in the last digits, where a matrix product makes them.
    exact = name in ("KNNDetector", "HammingNAPDetector")
    assert_learnt_as_by_one_fit(name, tree, one, rtol=0 if exact else 1e-7)
