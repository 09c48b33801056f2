"""Estimators in folders: what is saved is the same when it is loaded."""

import collections
import datetime
import decimal
import enum
import pickle
import tarfile
import uuid
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch
from _estimators import classifiers, detectors, transformers
from _saved_nets import SmallNet, few_activations, responses
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from scipy import sparse
from scipy.special import expit, log1p
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn
from torch.nn.utils import prune

import skood
from skood import ActivationExtractor, Monitor, PercentileBinarizer, make_monitor
from skood._files._names import all_names, class_of, function_of, name_of, name_of_function
from skood.activations import Activations, PackedBits
from skood.calibration import ConformalDetector
from skood.detectors import HammingNAPDetector, KNNDetector, MahalanobisDetector
from skood.ensemble import LayerEnsembleDetector
from skood.metrics import make_ood_scorer
from skood.model_selection import DetectorSearchCV, OODKFold
from skood.monitoring import DriftMonitor
from skood.preprocessing import LayerSelector

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning"),
    pytest.mark.filterwarnings("ignore:.* calibration row.s. cannot give a false alarm rate"),
    pytest.mark.filterwarnings("ignore:No threshold has an error rate"),
]
HERE = Path(__file__).parent


def reloaded(estimator, folder, network=None):
    skood.save(estimator, folder)
    return skood.load(folder, network)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], strict=True)


# Every estimator


def every_estimator():
    found = [*detectors(), *transformers(), *classifiers()]
    return [e for e in found if type(e) not in (ActivationExtractor, Monitor)]


@pytest.fixture(scope="module")
def few():
    return few_activations()


@pytest.mark.parametrize("estimator", every_estimator(), ids=lambda e: type(e).__name__)
def test_every_estimator_is_the_same_when_it_is_loaded(estimator, few, tmp_path):
    if type(estimator).__name__ == "RiskControlledDetector":
        estimator.set_params(detector=KNNDetector(n_neighbors=3))
    A, y = few
    inputs = np.asarray(A) if hasattr(estimator, "predict_proba") else A
    estimator.fit(inputs, y)
    loaded = reloaded(estimator, tmp_path / "saved")
    assert type(loaded) is type(estimator)
    assert repr(loaded) == repr(estimator)
    assert_same(responses(loaded, inputs), responses(estimator, inputs))


@pytest.mark.parametrize(
    "estimator",
    [e for e in detectors() if hasattr(e, "partial_fit")],
    ids=lambda e: type(e).__name__,
)
def test_what_learns_in_batches_learns_on(estimator, few, tmp_path):
    A, y = few
    first, last = slice(0, 40), slice(40, 60)
    try:
        estimator.partial_fit(A[first], y[first])
    except AttributeError:  # of members that do not
        pytest.skip("does not learn in batches with these settings")
    loaded = reloaded(estimator, tmp_path / "saved")
    for each in (estimator, loaded):
        each.partial_fit(A[last], y[last])
    assert_same(responses(loaded, A), responses(estimator, A))


@pytest.mark.parametrize(
    "estimator",
    [
        IsolationForest(n_estimators=3, random_state=0),
        LocalOutlierFactor(n_neighbors=5, novelty=True, algorithm="brute"),
        LocalOutlierFactor(n_neighbors=5, novelty=True, algorithm="kd_tree", leaf_size=7),
        LocalOutlierFactor(n_neighbors=5, novelty=True, algorithm="ball_tree", p=3),
        make_pipeline(StandardScaler(), PCA(3, random_state=0), KNNDetector(n_neighbors=3)),
        make_pipeline(SelectKBest(f_classif, k=4), LogisticRegression()),
        MahalanobisDetector(covariance=LedoitWolf()),
        GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-3]}, cv=2),
        GridSearchCV(
            make_pipeline(PercentileBinarizer(), HammingNAPDetector()),
            {"percentilebinarizer__percentile": [0.5, 0.7]},
            cv=OODKFold(2),
            scoring=make_ood_scorer("f1"),
        ),
        ConformalDetector(IsolationForest(n_estimators=3, random_state=0), cv=0.5, random_state=0),
        DetectorSearchCV(
            [("knn", KNNDetector(n_neighbors=3)), ("mahalanobis", MahalanobisDetector())],
            scoring=make_ood_scorer("roc_auc"),
            cv=OODKFold(2),
        ),
    ],
    ids=lambda e: type(e).__name__,
)
def test_estimators_of_scikit_learn_and_searches(estimator, few, tmp_path):
    A, y = few
    X = np.asarray(A)
    estimator.fit(X, y)
    loaded = reloaded(estimator, tmp_path / "saved")
    methods = [m for m in ("score_samples", "predict", "predict_proba") if hasattr(loaded, m)]
    for method in methods:
        np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(estimator, method)(X))


def test_an_estimator_that_is_not_fitted(tmp_path):
    detector = LayerEnsembleDetector([HammingNAPDetector(tau=2), KNNDetector()], combine="mean")
    loaded = reloaded(detector, tmp_path / "saved")
    assert repr(loaded) == repr(detector)
    assert not hasattr(loaded, "estimators_")


# Values


def holding(value):
    """An estimator that holds anything."""
    return FunctionTransformer(kw_args={"value": value})


def through_a_file(value, folder):
    return reloaded(holding(value), folder).kw_args["value"]


NUMBERS = st.one_of(
    st.integers(), st.floats(), st.complex_numbers(), st.booleans(), st.none(), st.text()
)
KEYS = st.one_of(
    st.integers(), st.text(), st.tuples(st.integers(), st.text()), st.binary(max_size=5)
)
VALUES = st.recursive(
    NUMBERS | arrays(scalar_dtypes(), array_shapes(min_side=0, max_side=3)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=8,
)


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        is_same = one.dtype == other.dtype and one.shape == other.shape
        return is_same and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, other)) and all(
            same(a, b) for a, b in zip(one.values(), other.values(), strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)  # which tells 0.0 from -0.0


@settings(max_examples=15, deadline=None)
@given(value=VALUES)
def test_any_value_is_the_same(value, tmp_path_factory):
    assert same(through_a_file(value, tmp_path_factory.mktemp("values") / "v"), value)


@pytest.mark.parametrize(
    "value",
    [
        10**6000,
        -(10**18),
        float("inf"),
        -0.0,
        "\ud800 and \x00",
        np.float32(1.1),
        np.int8(-3),
        np.str_("text"),
        np.str_(""),
        np.bytes_(b""),
        np.longdouble(1) / 3,
        np.datetime64("2020-01-01", "ns"),
        np.dtype("<U7"),
        np.float64,
        float,
        slice(None, 3),
        range(2, 20, 3),
        ...,
        b"\x00\xff",
        frozenset({1, "a"}),
        Fraction(1, 3),
        Path("some/where"),
        PurePosixPath("some/where"),
        PureWindowsPath("C:\\some/where"),
        np.dtypes.StringDType(),
        np.sqrt,
        KNNDetector,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_one_kind(value, tmp_path):
    loaded = through_a_file(value, tmp_path / "v")
    assert loaded == value
    assert type(loaded) is type(value)


def test_containers_of_other_classes(tmp_path):
    value = [
        collections.OrderedDict(b=1, a=2),
        collections.Counter("abca"),
        collections.deque([1, 2], maxlen=3),
        {1, (2, "x")},
    ]
    loaded = through_a_file(value, tmp_path / "v")
    assert loaded == value
    assert list(map(type, loaded)) == list(map(type, value))
    assert loaded[2].maxlen == 3
    missing = through_a_file(collections.defaultdict(list, a=[1]), tmp_path / "d")
    missing["b"].append(2)
    assert missing == {"a": [1], "b": [2]}


def test_arrays_of_every_kind(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 4, 5))
    given = {
        "Fortran": np.asfortranarray(values[0]),
        "axes": values.transpose(1, 2, 0),
        "texts": np.array(["a", "longer"]),
        "bytes": np.array([b"a", b"bc"]),
        "objects": np.array([["a", 1], [None, 2.5]], dtype=object),
        "strings": np.array(["", "long\u1234"], dtype=np.dtypes.StringDType()),
        "records": np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")]),
        "big end": np.arange(3, dtype=">f4"),
        "empty": np.empty((0, 4), np.float32),
        "one": np.array(3),
        "masked": np.ma.MaskedArray([1, 2], [True, False], fill_value=7),
        "hard mask": np.ma.MaskedArray([1, 2], [True, False], hard_mask=True),
    }
    loaded = through_a_file(given, tmp_path / "v")
    for name, array in given.items():
        assert type(loaded[name]) is type(array), name
        assert loaded[name].dtype == array.dtype, name
        np.testing.assert_array_equal(loaded[name], array)
    assert loaded["Fortran"].flags.f_contiguous
    assert loaded["axes"].strides == given["axes"].strides
    np.testing.assert_array_equal(loaded["masked"].mask, [True, False])
    assert not loaded["masked"].hardmask
    assert loaded["hard mask"].hardmask
    assert loaded["empty"].flags.writeable


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("csr_array", (2, 3)),
        ("csc_matrix", (2, 3)),
        ("bsr_array", (2, 2)),
        ("coo_array", (2, 3)),
        ("coo_array", (4,)),
    ],
)
def test_sparse_arrays(kind, shape, tmp_path):
    dense = np.arange(np.prod(shape)).reshape(shape) % 3.0
    value = getattr(sparse, kind)(dense)
    loaded = through_a_file(value, tmp_path / "v")
    assert type(loaded) is type(value)
    np.testing.assert_array_equal(loaded.toarray(), value.toarray())


def test_random_numbers_go_on_where_they_were(tmp_path):
    state, generator = np.random.RandomState(3), np.random.default_rng(4)
    other = np.random.RandomState(np.random.SFC64(5))
    for each in (state, generator, other):
        each.normal(size=7)
    loaded = through_a_file([state, generator, other], tmp_path / "v")
    assert loaded[0].normal() == state.normal()
    assert loaded[1].normal() == generator.normal()
    assert loaded[2].normal() == other.normal()
    assert loaded[1].spawn(1)[0].normal() == generator.spawn(1)[0].normal()


def test_what_is_one_object_stays_one(tmp_path):
    shared, array = [1], np.arange(3)
    circle = [shared, {"again": shared}, array, array]
    circle.append(circle)
    loaded = through_a_file(circle, tmp_path / "v")
    assert loaded[0] is loaded[1]["again"]
    assert loaded[2] is loaded[3]
    assert loaded[4] is loaded


def test_rows_on_the_disk_are_kept_with_their_values(few, tmp_path):
    A, y = few
    A.save(tmp_path / "activations")
    stored = Activations.load(tmp_path / "activations", mmap_mode="r")
    detector = KNNDetector(n_neighbors=3).fit(stored[5:50], y[5:50])
    loaded = reloaded(detector, tmp_path / "saved")
    for file in (tmp_path / "activations").iterdir():
        file.unlink()
    expected = KNNDetector(n_neighbors=3).fit(A[5:50], y[5:50])
    np.testing.assert_array_equal(loaded.score_samples(A), expected.score_samples(A))


def test_packed_bits(tmp_path):
    bits = PackedBits.pack(np.random.default_rng(0).random((5, 70)) > 0.5)
    loaded = through_a_file(bits, tmp_path / "v")
    np.testing.assert_array_equal(loaded.unpack(), bits.unpack())


# What is refused


class MyDetector(KNNDetector):
    """One that skood does not know."""


class OfTheUser(np.float64):
    """A number that may hold more."""


class Colour(enum.IntEnum):
    RED = 1


Pair = collections.namedtuple("Pair", ["one", "other"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda x: x, "builtins.function"),
        (MyDetector(), "test_files.MyDetector"),
        (MyDetector, "test_files.MyDetector"),
        (print, "builtins.builtin_function_or_method"),
        (object(), "builtins.object"),
        (np.array([1]).view(np.recarray), "recarray"),
        (collections.defaultdict(lambda: 0), "by code"),
        (expit, "the function 'expit' of another library"),
        (log1p, "the function 'log1p' of another library"),
        (np.frompyfunc(lambda x: x, 1, 1), "of another library than NumPy"),
        (np.floating, "the class numpy.floating"),
        (np.array(["a", None], np.dtypes.StringDType(na_object=None)), "na_object=None"),
        (np.dtypes.StringDType(na_object=None), "na_object=None"),
        (np.dtype("f4", metadata={"unit": "m"}), "with metadata"),
        (OfTheUser(1.5), "test_files.OfTheUser"),
        (sparse.lil_array((2, 2)), "format 'lil'"),
        (sparse.dia_array((2, 2)), "format 'dia'"),
        (uuid.UUID(int=1), "uuid.UUID"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (decimal.Decimal("1.10"), "decimal.Decimal"),
        (Pair(1, 2), "test_files.Pair"),
        (Colour.RED, "test_files.Colour"),
        (np.zeros(1, [("a", "O")]), r"of the type dtype\(\[\('a', 'O'\)\]\)"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_is_not_known_is_refused_by_its_name_and_place(value, said, tmp_path):
    holder = make_pipeline(LayerSelector(layers="a"), holding({"deep": [0, value]}))
    with pytest.raises(TypeError, match=said) as caught:
        skood.save(holder, tmp_path / "saved")
    assert "steps[1][1].kw_args['value']['deep'][1]" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_estimator_is_refused(few, tmp_path):
    for value in ([1], KNNDetector, few[0]):
        with pytest.raises(TypeError, match="Estimators are saved"):
            skood.save(value, tmp_path / "saved")
    with pytest.raises(TypeError, match="MyDetector cannot be saved"):
        skood.save(MyDetector(), tmp_path / "saved")
    with pytest.raises(ValueError, match="network must be"):
        skood.save(KNNDetector(), tmp_path / "saved", network="onnx")


def test_objects_in_objects_without_end_are_refused(tmp_path):
    value = []
    for _ in range(500):
        value = [value]
    with pytest.raises(ValueError, match="too deep"):
        skood.save(holding(value), tmp_path / "saved")


def test_all_names_lead_somewhere_and_back():
    names = all_names()
    assert len(names) == len(set(names)) > 150
    for name in names:
        is_function = name.startswith(("skood.metrics.", "sklearn.feature_selection."))
        if is_function and name.rpartition(".")[2][0].islower():
            assert name_of_function(function_of(name)) == name
        else:
            assert name_of(class_of(name)) == name


# Monitors


@pytest.fixture(scope="module")
def perceptron():
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    X = 2 * rng.normal(size=(3, 6))[y] + rng.normal(size=(240, 6))
    return MLPClassifier((12, 8), random_state=0, max_iter=100).fit(X[:80], y[:80]), X[80:], y[80:]


@pytest.mark.filterwarnings("ignore:.* of the rows of X_test are among those")
@pytest.mark.parametrize("target", ["ood", "misclassified", "both"])
def test_a_monitor_is_the_same(target, perceptron, tmp_path):
    net, X, y = perceptron
    monitor = make_monitor(net, target=target).fit(X[:80], y[:80]).calibrate(X[80:], y[80:])
    monitor.save(tmp_path / "saved")
    loaded = skood.load(tmp_path / "saved")
    assert repr(loaded) == repr(monitor)
    assert_same(responses(loaded, X), responses(monitor, X))
    explained = [str(m.explain(X[:2], X_train=X[:50])) for m in (loaded, monitor)]
    assert explained[0] == explained[1]
    reports = [m.report(X[100:]) for m in (loaded, monitor)]
    assert str(reports[0]) == str(reports[1])


def test_a_monitor_learns_and_merges_on(perceptron, tmp_path):
    net, X, y = perceptron
    monitors = [make_monitor(net).partial_fit(X[s], y[s]) for s in (slice(0, 60), slice(60, 120))]
    one, other = (reloaded(m, tmp_path / str(n)) for n, m in enumerate(monitors))
    one.merge(other).partial_fit(X[120:], y[120:])
    monitors[0].merge(monitors[1]).partial_fit(X[120:], y[120:])
    assert_same(responses(one, X), responses(monitors[0], X))


def test_a_monitor_of_a_stream(perceptron, tmp_path):
    net, X, y = perceptron
    monitor = make_monitor(net).fit(X[:80], y[:80]).calibrate(X[80:120])
    drift = DriftMonitor(monitor).update(X[120:140])
    loaded = reloaded(drift, tmp_path / "saved")
    for each in (drift, loaded):
        each.update(X[140:])
    assert_same(loaded.history_, drift.history_)
    assert loaded.martingale_ == drift.martingale_


def test_a_save_leaves_the_monitor_as_it_was(perceptron, tmp_path):
    net, X, y = perceptron
    monitor = make_monitor(net).fit(X[:80], y[:80])
    before = monitor.score_samples(X)
    monitor.save(tmp_path / "saved")
    np.testing.assert_array_equal(monitor.score_samples(X), before)
    assert monitor.network is net


# Patterns in a folder


def test_patterns_in_a_folder_are_copied_with_the_monitor(perceptron, tmp_path):
    net, X, _ = perceptron
    detector = HammingNAPDetector(store=tmp_path / "patterns")
    steps = [("e", ActivationExtractor(net, "hidden_0")), ("b", PercentileBinarizer())]
    monitor = Monitor([*steps, ("d", detector)]).partial_fit(X[:80])
    expected = monitor.score_samples(X)
    monitor.save(tmp_path / "saved")
    loaded = skood.load(tmp_path / "saved")
    for file in (tmp_path / "patterns").rglob("*.npy"):
        file.unlink()
    np.testing.assert_array_equal(loaded.score_samples(X), expected)
    loaded.save(tmp_path / "saved")  # which replaces the folder that it reads from
    np.testing.assert_array_equal(loaded.score_samples(X), expected)
    again = skood.load(tmp_path / "saved").partial_fit(X[80:])
    in_memory = Monitor([*steps, ("d", HammingNAPDetector())]).partial_fit(X[:80])
    in_memory.partial_fit(X[80:])
    np.testing.assert_array_equal(again.score_samples(X), in_memory.score_samples(X))


# Files of the first version


@pytest.fixture(scope="module")
def first_version(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_v1")
    with tarfile.open(HERE / "data" / "saved_v1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
@pytest.mark.filterwarnings("ignore:Other libraries compute the activations")
@pytest.mark.parametrize(("name", "network"), [("mlp", None), ("torch", SmallNet)])
def test_monitors_of_the_first_version_are_read(name, network, first_version):
    loaded = skood.load(first_version / name, network)
    expected = dict(np.load(first_version / f"{name}.npz"))
    inputs = expected.pop("X")
    found = responses(loaded, inputs)
    assert found.keys() == expected.keys()
    for method, values in expected.items():
        np.testing.assert_allclose(found[method], values, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
def test_estimators_of_the_first_version_are_read(first_version, few):
    names = [p.name for p in first_version.iterdir() if p.is_dir() and p.name[0].isupper()]
    assert len(names) > 40
    for name in names:
        loaded = skood.load(first_version / name)
        expected = dict(np.load(first_version / f"{name}.npz"))
        found = responses(loaded, few[0])
        for method, values in expected.items():
            np.testing.assert_allclose(
                found[method], values, rtol=1e-5, atol=1e-5, err_msg=f"{name}.{method}"
            )


def test_every_detector_is_among_the_files_of_the_first_version(first_version):
    known = {path.name for path in first_version.iterdir()}
    # Those that came later have their own file, once one is made.
    assert {type(e).__name__ for e in detectors()} - known == set()


# Kinds of objects that defaults do not have


@pytest.mark.parametrize(
    "detector",
    [
        MahalanobisDetector(n_components=3),
        make_pipeline(StandardScaler(), PCA(2), KNNDetector(n_neighbors=3), memory="cache"),
    ],
    ids=["parts", "cache"],
)
def test_what_was_pickled_and_has_other_parameters(detector, few, tmp_path):
    A, y = few
    X = np.asarray(A)
    if isinstance(detector, MahalanobisDetector):
        detector.partial_fit(X, y).partial_fit(X, y)
    else:
        detector.set_params(memory=None).fit(X, y).set_params(memory=str(tmp_path / "cache"))
    loaded = reloaded(pickle.loads(pickle.dumps(detector)), tmp_path / "saved")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    assert getattr(loaded, "memory", None) is None


def test_a_pickled_monitor_is_the_same(perceptron, tmp_path):
    net, X, y = perceptron
    monitor = make_monitor(net).fit(X[:80], y[:80])
    loaded = reloaded(pickle.loads(pickle.dumps(monitor)), tmp_path / "saved")
    np.testing.assert_array_equal(loaded.score_samples(X), monitor.score_samples(X))


def test_a_key_that_occurs_in_its_value(tmp_path):
    key = ("a", 1)
    text = "".join(["k", "ey"])
    loaded = through_a_file(["key", {key: [key], text: [text]}], tmp_path / "v")
    assert loaded == ["key", {key: [key], "key": ["key"]}]


def test_devices_and_types_of_torch(tmp_path):
    value = [torch.device("cpu"), torch.bfloat16]
    assert through_a_file(value, tmp_path / "v") == value
    with pytest.raises(TypeError, match=r"value'\] is a torch.Tensor"):
        skood.save(holding(torch.zeros(2)), tmp_path / "t")


@pytest.mark.parametrize("weights", [nn.utils.weight_norm, nn.utils.spectral_norm, "pruned"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_hooks_compute(weights, tmp_path):
    def make():
        net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
        if weights == "pruned":
            prune.l1_unstructured(net[0], "weight", 0.5)
        else:
            weights(net[0])
        return net.eval()

    X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    net = make()
    net(torch.zeros(1, 6))
    monitor = make_monitor(net).fit(X)
    loaded = reloaded(monitor, tmp_path / "saved", make)
    np.testing.assert_allclose(loaded.score_samples(X), monitor.score_samples(X), rtol=1e-6)


def test_a_save_through_a_link_and_into_a_folder_that_is_used(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    for n_neighbors, folder in ((1, "."), (2, tmp_path / "link")):
        skood.save(KNNDetector(n_neighbors=n_neighbors), folder)
        assert skood.load(".").n_neighbors == n_neighbors
    assert len(list((tmp_path / "empty").iterdir())) == 2
