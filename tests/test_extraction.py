"""What every extraction keeps to: kinds of inputs and networks, reducers, caching, copies."""

import copy
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from _networks import TextNet, cnn, images, run, untouched, vectors
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from skood import (
    ActivationExtractor,
    Activations,
    HammingNAPDetector,
    LayerSelector,
    PackedBits,
    PercentileBinarizer,
    PoolingReducer,
)


def extract(network, X, layers="auto", **params):
    return ActivationExtractor(network, layers, **params).fit_transform(X)


def assert_same(A, B, **tolerance):
    assert A.layers == B.layers
    for name, array in A.items():
        assert_allclose(np.asarray(array), np.asarray(B[name]), **tolerance)
    assert_allclose(A.logits, B.logits, **tolerance)


def with_peak_memory(function):
    """What a function returns, and the bytes that NumPy and Python held at once in it."""
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class Counting(nn.Module):
    """Counts the samples that it sees."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, x):
        self.seen.append(len(x))
        return self.network(x)


# ---------------------------------------------------------------- inputs


class Rows(Dataset):
    """A data set of inputs and labels."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], i % 2


class Stream(IterableDataset):
    """A data set of unknown length."""

    def __init__(self, X):
        self.X = X

    def __iter__(self):
        return iter(self.X)


def keyed(batch):
    return {"input": torch.tensor(np.stack(batch))}


def readonly(X):
    X = X.copy()
    X.setflags(write=False)
    return X


INPUTS = {
    "list": lambda X: X.tolist(),
    "double": lambda X: X.astype(np.float64),
    "big-endian": lambda X: X.astype(">f4"),
    "long double": lambda X: X.astype(np.longdouble),
    "read-only": readonly,
    "reversed twice": lambda X: X[::-1].copy()[::-1],
    "tensor": torch.tensor,
    "tensor that requires gradients": lambda X: torch.tensor(X, requires_grad=True),
    "mapping": lambda X: {"input": X},
    "mapping of tensors": lambda X: {"input": torch.tensor(X)},
    "data set of pairs": Rows,
    "data set of tuples": lambda X: TensorDataset(torch.tensor(X)),
    "stream": Stream,
    "loader": lambda X: DataLoader(Rows(X), batch_size=3),
    "loader of a stream": lambda X: DataLoader(Stream(X), batch_size=3),
    "loader of mappings": lambda X: DataLoader(Stream(X), batch_size=3, collate_fn=keyed),
    "loader of arrays": lambda X: DataLoader(Stream(X), batch_size=5, collate_fn=np.stack),
}


@pytest.mark.parametrize("make", INPUTS.values(), ids=INPUTS)
def test_kinds_of_inputs_agree(make):
    X = images(11)
    A = extract(cnn(), make(X), batch_size=4)
    assert len(A) == 11
    assert_same(A, extract(cnn(), X, batch_size=4), rtol=1e-5, atol=1e-6)


def test_memory_map_is_read_batch_by_batch(tmp_path):
    X = images(2000)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    A, peak = with_peak_memory(lambda: extract(cnn(), mapped, ["7"], batch_size=10))
    assert_same(A, extract(cnn(), X, ["7"], batch_size=10))
    assert peak < A["7"].nbytes + A.logits.nbytes + 200_000 < X.nbytes


def test_data_frames_give_feature_names():
    pd = pytest.importorskip("pandas")
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    frame = pd.DataFrame({"width": [1.0, 2.0], "height": [0, 1]})
    extractor = ActivationExtractor(network).fit(frame)
    assert extractor.feature_names_in_.tolist() == ["width", "height"]
    assert_array_equal(extractor.transform(frame)["1"], extract(network, frame.to_numpy())["1"])
    extractor.fit({"input": frame.to_numpy()})
    assert not hasattr(extractor, "feature_names_in_")


def test_rows_of_a_loader_come_in_its_order_and_number():
    X = images(11)
    dropping = DataLoader(Rows(X), batch_size=4, drop_last=True)
    assert_same(extract(cnn(), dropping), extract(cnn(), X[:8]), rtol=1e-5, atol=1e-6)
    backwards = DataLoader(Rows(X), batch_size=4, sampler=range(10, -1, -1))
    assert_same(extract(cnn(), backwards), extract(cnn(), X[::-1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, bool])
def test_integers_are_cast_for_a_network_that_computes_with_floats(dtype):
    X = (images(5) > 0).astype(dtype)
    expected = extract(cnn(), X.astype(np.float32))
    assert_same(extract(cnn(), X), expected)
    assert_same(extract(cnn(), torch.tensor(X)), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("make", [np.asarray, torch.tensor, lambda X: {"x": X}, Rows])
def test_integers_stay_what_they_are_for_an_embedding(dtype, make):
    X = np.random.default_rng(0).integers(20, size=(7, 5)).astype(dtype)
    network = TextNet()
    A = extract(network, make(X), batch_size=3)
    assert_allclose(A.logits, run(network, X.astype(np.int64)), rtol=1e-4, atol=1e-5)


class Masked(nn.Module):
    """Takes several named inputs of different kinds."""

    def __init__(self):
        super().__init__()
        self.embedding, self.relu = nn.Embedding(9, 4), nn.ReLU()

    def forward(self, words, keep, scale):
        assert (words.dtype, keep.dtype, scale.dtype) == (torch.int64, torch.bool, torch.float32)
        return self.relu(self.embedding(words).masked_fill(~keep[..., None], 0) * scale)


def test_mapping_becomes_keyword_arguments_that_keep_their_kinds():
    rng = np.random.default_rng(0)
    X = {
        "words": rng.integers(9, size=(6, 5)).astype(np.int32),
        "keep": rng.random((6, 5)) > 0.5,
        "scale": rng.random((6, 1, 1)),
    }
    extractor = ActivationExtractor(Masked(), batch_size=4).fit(X)
    A = extractor.transform(X)
    assert A["relu"].shape == (6, 5, 4)
    assert not A["relu"][~X["keep"]].any()
    assert not hasattr(extractor, "n_features_in_")


@pytest.mark.parametrize("lengths", [(3, 4), (0, 0)])
def test_mapping_of_different_lengths_is_refused(lengths):
    X = {name: vectors(n) for name, n in zip("ab", lengths, strict=True)}
    with pytest.raises(ValueError, match=f"'a': {lengths[0]}, 'b': {lengths[1]}"):
        ActivationExtractor(cnn()).fit(X)


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, Rows, lambda X: {"input": X}])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(make, value):
    X = images(11)
    X[6, 0, 3, 3] = value
    extractor = ActivationExtractor(cnn(), batch_size=4).fit(make(X))
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        extractor.transform(make(X))


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, Rows])
def test_another_number_of_features_is_refused(make):
    network = nn.Sequential(nn.Identity())
    extractor = ActivationExtractor(network, "0").fit(make(vectors(4, 6)))
    assert extractor.n_features_in_ == 6
    with pytest.raises(
        ValueError, match="X has 5 features, but ActivationExtractor is expecting 6"
    ):
        extractor.transform(make(vectors(4, 5)))


@pytest.mark.parametrize("X", [np.ones((0, 6)), torch.ones(0, 6), Stream([])], ids=type)
def test_no_samples_are_refused(X):
    with pytest.raises(ValueError, match=r"0 sample"):
        ActivationExtractor(nn.Sequential(nn.ReLU())).fit(X)


@pytest.mark.parametrize("X", [np.ones(3), torch.ones(3), Stream([1.0, 2.0])], ids=type)
def test_vectors_of_single_numbers_are_refused(X):
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        ActivationExtractor(nn.Sequential(nn.ReLU())).fit(X)


def test_data_set_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"must yield arrays, tensors or mappings.*; got str"):
        ActivationExtractor(cnn()).fit(Stream(["a", "b"]))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 11, 1000])
@pytest.mark.parametrize("reducer", [None, PoolingReducer("avg"), PercentileBinarizer()])
def test_batch_size_makes_no_difference(batch_size, reducer):
    layers = ["7"] if isinstance(reducer, PercentileBinarizer) else "auto"
    A = extract(cnn(), images(11), layers, batch_size=batch_size, reducer=reducer)
    expected = extract(cnn(), images(11), layers, batch_size=11, reducer=reducer)
    assert_same(A, expected, rtol=1e-5, atol=1e-6)


def test_network_runs_over_the_inputs_once():
    network = Counting(cnn())
    extractor = ActivationExtractor(network, batch_size=4)
    extractor.fit_transform(images(11))
    assert network.seen == [2, 4, 4, 3]
    extractor.transform(images(11))
    assert network.seen == [2, 4, 4, 3, 4, 4, 3]


def test_one_sample_is_enough():
    A = extract(cnn(), images(1))
    assert_same(A, extract(cnn(), images(11))[:1], rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- reducers


@pytest.mark.parametrize("pooling", ["max", "avg", "flatten", ["max", "avg"]])
@pytest.mark.parametrize("output_size", [1, 2])
def test_pooling_on_the_way_is_pooling_afterwards(pooling, output_size):
    reducer = PoolingReducer(pooling, output_size=output_size)
    A = extract(cnn(), images(), reducer=reducer, batch_size=4)
    expected = reducer.fit_transform(extract(cnn(), images(), batch_size=4))
    assert_same(A, expected, rtol=1e-5, atol=1e-6)


REDUCERS = {
    "binarizer": PercentileBinarizer(30),
    "pipeline": make_pipeline(PoolingReducer(), LayerSelector(["1", "7"]), PercentileBinarizer(30)),
    "function": FunctionTransformer(lambda A: A.replace({"2": A["7"] * 2, "1": A["7"] + 1})),
}


@pytest.mark.parametrize("reducer", REDUCERS.values(), ids=REDUCERS)
def test_any_transformer_of_activations_reduces(reducer):
    layers = "auto" if "Pipeline" in repr(reducer) else ["7"]
    A = extract(cnn(), images(), layers, reducer=reducer, batch_size=4)
    expected = clone(reducer).fit_transform(extract(cnn(), images(), layers, batch_size=4))
    assert_same(A, expected, rtol=1e-5, atol=1e-6)
    assert [isinstance(array, PackedBits) for _, array in A.items()] == [
        isinstance(array, PackedBits) for _, array in expected.items()
    ]


def test_reducer_that_returns_no_activations_is_refused():
    with pytest.raises(TypeError, match="FunctionTransformer returned ndarray"):
        ActivationExtractor(cnn(), reducer=FunctionTransformer(np.asarray)).fit(images())


def test_settings_of_the_reducer_are_checked():
    with pytest.raises(ValueError, match="pooling"):
        ActivationExtractor(cnn(), reducer=PoolingReducer("median")).fit(images())


def test_reducer_is_left_unfitted():
    reducer = PoolingReducer()
    extract(cnn(), images(), reducer=reducer)
    assert not hasattr(reducer, "n_features_in_")


def test_unreduced_values_do_not_pile_up():
    X = images(200)
    extractor = ActivationExtractor(cnn(), reducer=PoolingReducer(), batch_size=10).fit(X)
    A, peak = with_peak_memory(lambda: extractor.transform(X))
    reduced = sum(array.nbytes for _, array in A.items()) + A.logits.nbytes
    assert peak < reduced + 100_000 < extract(cnn(), X)["1"].nbytes


def test_layers_that_no_memory_could_hold_are_refused():
    X = np.broadcast_to(np.float32(0), (10**9, 1, 8, 8))
    with pytest.raises(MemoryError, match=r"GiB.*pass reducer=PoolingReducer\(\)"):
        ActivationExtractor(cnn(), batch_size=10).fit(X).transform(X)


# ---------------------------------------------------------------- extracted before


def test_extracted_activations_are_selected():
    A = extract(cnn(), images(), "all")
    extractor = ActivationExtractor(cnn(), ["7", "1"]).fit(images())
    B = extractor.transform(A[3:5])
    assert B.layers == ("1", "7")
    assert_same(B, extractor.transform(images())[3:5], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["max", ["max", "avg"]])
@pytest.mark.parametrize("fit_on", ["inputs", "unreduced", "reduced"])
def test_one_pipeline_serves_inputs_and_activations(pooling, fit_on):
    network, X = cnn(), images()
    extractor = ActivationExtractor(network, ["1", "4", "7"], reducer=PoolingReducer(pooling))
    given = {
        "inputs": X,
        "unreduced": extract(network, X, "all"),
        "reduced": clone(extractor).fit_transform(X),
    }
    extractor.fit(given[fit_on])
    for inputs in given.values():
        assert_same(extractor.transform(inputs), given["reduced"], rtol=1e-5, atol=1e-6)


def test_auto_keeps_all_extracted_layers_and_runs_no_network():
    network = Counting(cnn())
    A = Activations({"a": vectors(), "b": images()})
    extractor = ActivationExtractor(network)
    assert extractor.fit_transform(A).layers == ("a", "b")
    assert extractor.layers_ == ["a", "b"]
    assert network.seen == []


def test_extractor_fitted_on_some_of_the_layers_extracts_those():
    network = cnn()
    A = extract(network, images(), ["1", "7"])
    assert ActivationExtractor(network).fit(A).transform(images()).layers == ("1", "7")
    with pytest.raises(ValueError, match=r"no layers \['3'\]"):
        ActivationExtractor(network).fit(extract(network, images(), ["3"])).transform(images())


def test_missing_layers_are_refused():
    A = extract(cnn(), images(), ["1"])
    with pytest.raises(ValueError, match=r"no layers \['4', '7'\]; it has \['1'\]"):
        ActivationExtractor(cnn()).fit(images()).transform(A)
    with pytest.raises(ValueError, match=r"\['4'\]; known are \['1'\]"):
        ActivationExtractor(cnn(), ["4"]).fit(A)


# ---------------------------------------------------------------- cache


def test_cached_result_needs_no_network(tmp_path):
    network = Counting(cnn())
    extractor = ActivationExtractor(network, memory=str(tmp_path), reducer=PoolingReducer())
    A = extractor.fit_transform(images())
    runs = len(network.seen)
    others = [
        extractor,
        copy.deepcopy(extractor),
        clone(extractor).set_params(batch_size=3, verbose=0, device="cpu").fit(images()),
    ]
    for other in others:
        other.network.seen.clear()
        assert_same(other.transform(images()), A)
        assert other.transform(images()).head.input_layer == A.head.input_layer
        assert other.network.seen == []
    assert runs == 2


def test_cache_goes_by_everything_that_matters(tmp_path):
    network = Counting(cnn())
    extractor = ActivationExtractor(network, ["network.1"], memory=str(tmp_path))
    A = extractor.fit_transform(images())

    def runs(extractor, X):
        network.seen.clear()
        extractor.fit(X)
        network.seen.clear()
        extractor.transform(X)
        return bool(network.seen)

    assert not runs(extractor, images())
    assert not runs(extractor, torch.tensor(images()))
    assert runs(extractor, images(seed=1))
    assert runs(clone(extractor).set_params(layers=["network.4"]), images())
    assert runs(clone(extractor).set_params(reducer=PoolingReducer()), images())
    assert runs(clone(extractor).set_params(reducer=PoolingReducer("avg")), images())
    with torch.no_grad():
        network.network[0].weight[0, 0, 0, 0] += 1e-3
    assert runs(extractor, images())
    assert not np.array_equal(extractor.transform(images())["network.1"], A["network.1"])


def test_data_sets_are_not_cached(tmp_path):
    network = Counting(cnn())
    extractor = ActivationExtractor(network, memory=str(tmp_path)).fit(images())
    for _ in range(2):
        network.seen.clear()
        extractor.transform(Rows(images()))
        assert network.seen == [11]


def fingerprint(network, X=None):
    X = images(2) if X is None else X
    return ActivationExtractor(network, "all").fit(X).fingerprint_


def test_fingerprint_is_that_of_the_content():
    network = cnn()
    expected = fingerprint(network)
    assert fingerprint(copy.deepcopy(network).train()) == expected
    assert fingerprint(pickle.loads(pickle.dumps(network))) == expected
    assert fingerprint(network.double()) != expected
    network = cnn()
    network[3].running_mean[0] += 1
    assert fingerprint(network) != expected
    network = cnn()
    network[1] = nn.ELU()
    assert fingerprint(network) != expected


def test_fingerprint_tells_networks_apart_whose_code_differs():
    def make(function, factor):
        class Net(nn.Module):
            def forward(self, x):
                return getattr(torch, function)(x) * factor

        class Other(nn.Module):
            def forward(self, x):
                return torch.tanh(x) * 2.0

        class Third(nn.Module):
            def forward(self, x):
                return torch.tanh(x) * 3.0

        Other.__name__ = Third.__name__ = "Net"
        Other.__qualname__ = Third.__qualname__ = Net.__qualname__
        return [nn.Sequential(cls()) for cls in (Net, Other, Third)]

    found = [fingerprint(network, vectors()) for network in make("relu", 2.0)]
    assert len(set(found)) == 3


def test_fingerprint_is_the_same_in_another_process():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from _networks import cnn, images; "
        "from skood import ActivationExtractor; "
        "print(ActivationExtractor(cnn()).fit(images()).fingerprint_)"
    )
    folder = str(__import__("pathlib").Path(__file__).parent)
    run = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == fingerprint(cnn())


# ---------------------------------------------------------------- as a scikit-learn estimator


def test_clones_share_the_network():
    network = cnn()
    extractor = ActivationExtractor(network, ["1"], reducer=PoolingReducer(), batch_size=3)
    extractor.fit(images())
    cloned = clone(extractor)
    assert cloned.network is network
    assert cloned.reducer is not extractor.reducer
    assert (cloned.layers, cloned.batch_size) == (["1"], 3)
    with pytest.raises(NotFittedError):
        cloned.transform(images())


def test_clones_keep_metadata_requests():
    extractor = ActivationExtractor(cnn())
    extractor._metadata_request = {"fit": "something"}
    assert clone(extractor)._metadata_request == {"fit": "something"}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_carry_a_network_of_their_own(copied):
    extractor = ActivationExtractor(cnn()).fit(images())
    other = copied(extractor)
    assert other.network is not extractor.network
    assert_same(other.transform(images()), extractor.transform(images()))


def test_set_output_leaves_activations_alone():
    pytest.importorskip("pandas")
    A = ActivationExtractor(cnn()).set_output(transform="pandas").fit_transform(images())
    assert isinstance(A, Activations)
    pipe = make_pipeline(ActivationExtractor(cnn(), ["7"]), StandardScaler())
    frame = pipe.set_output(transform="pandas").fit_transform(images())
    assert frame.columns.tolist() == [f"x{i}" for i in range(10)]


def test_progress_is_shown_when_wanted(capsys):
    extract(cnn(), images(11), batch_size=4)
    assert capsys.readouterr().err == ""
    extract(cnn(), images(11), batch_size=4, verbose=1)
    assert "11/11" in capsys.readouterr().err
    extract(cnn(), Stream(images(11)), batch_size=4, verbose=1)
    assert "11 samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    "params", [{"batch_size": 0}, {"layers": 3}, {"reducer": "max"}, {"memory": 1}, {"verbose": -1}]
)
def test_wrong_parameters_are_refused(params):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter"):
        ActivationExtractor(cnn()).set_params(**params).fit(images())


# ---------------------------------------------------------------- scikit-learn perceptrons

rng = np.random.default_rng(0)
X_PLAIN = rng.normal(size=(60, 4))
LABELS = np.array(["cat", "dog", "eel"])[np.arange(60) % 3]


def perceptron(y=LABELS, kind=MLPClassifier, hidden=(5, 3), **params):
    return kind(
        hidden_layer_sizes=hidden, max_iter=20, solver="lbfgs", random_state=0, **params
    ).fit(X_PLAIN, y)


@pytest.fixture(autouse=True)
def _few_iterations_are_enough():
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
def test_perceptron_gives_what_it_computes(activation):
    network = perceptron(activation=activation)
    A = extract(network, X_PLAIN, ["hidden_*", "output"], batch_size=7)
    assert A.layers == ("hidden_0", "hidden_1", "output")
    computed = network._forward_pass([X_PLAIN, None, None, None])
    for name, expected in zip(A.layers, computed[1:], strict=True):
        assert_allclose(A[name], expected, rtol=1e-10)
    assert_allclose(softmax(A.logits, axis=1), network.predict_proba(X_PLAIN), rtol=1e-10)
    assert_array_equal(A.predictions, network.predict(X_PLAIN))
    assert A.classes.tolist() == ["cat", "dog", "eel"]
    assert A.head.input_layer == "hidden_1"
    assert_allclose(A.head.logits(A["hidden_1"]), A.logits, rtol=1e-10)


def test_two_class_perceptron_has_two_logits():
    network = perceptron(LABELS == "cat")
    A = extract(network, X_PLAIN)
    assert A.layers == ("hidden_0", "hidden_1")
    assert_array_equal(A.logits[:, 0], 0)
    assert_allclose(softmax(A.logits, axis=1), network.predict_proba(X_PLAIN), rtol=1e-10)
    assert_array_equal(A.predictions, network.predict(X_PLAIN))
    assert_allclose(A.head.logits(A["hidden_1"]), A.logits, rtol=1e-10)


def test_perceptron_without_classes_has_no_logits():
    several = perceptron(np.c_[LABELS == "cat", LABELS != "eel"])
    regressor = perceptron(X_PLAIN[:, :2], MLPRegressor)
    for network in (several, regressor):
        A = extract(network, X_PLAIN, "all")
        assert A.logits is A.head is A.predictions is A.classes is None
    assert_allclose(A["output"], regressor.predict(X_PLAIN))


def test_perceptron_without_hidden_layers_has_its_output_only():
    network = perceptron(hidden=())
    A = extract(network, X_PLAIN, "output")
    assert_allclose(A["output"], network.predict_proba(X_PLAIN), rtol=1e-10)
    assert A.head.input_layer is None
    with pytest.raises(ValueError, match=r"known are \['output'\]"):
        ActivationExtractor(network).fit(X_PLAIN)


def test_perceptron_is_left_as_it_was():
    network = perceptron()
    before = pickle.dumps(network)
    extract(network, X_PLAIN)
    assert pickle.dumps(network) == before


def test_perceptron_that_is_not_fitted_is_refused():
    with pytest.raises(NotFittedError, match="MLPClassifier"):
        ActivationExtractor(MLPClassifier()).fit(X_PLAIN)


@pytest.mark.parametrize("X", [X_PLAIN[:, :3], X_PLAIN[:, :, None], {"X": X_PLAIN}])
def test_perceptron_refuses_inputs_of_another_shape(X):
    with pytest.raises(ValueError, match=r"expects inputs of shape \(n_samples, 4\), got"):
        ActivationExtractor(perceptron()).fit(X)


def test_perceptrons_are_cached_by_content(tmp_path):
    network = perceptron()
    extractor = ActivationExtractor(network, memory=str(tmp_path)).fit(X_PLAIN)
    A = extractor.transform(X_PLAIN)
    assert copy.deepcopy(extractor).fit(X_PLAIN).fingerprint_ == extractor.fingerprint_
    network.coefs_[0][0, 0] += 1
    assert not np.array_equal(extractor.transform(X_PLAIN)["hidden_0"], A["hidden_0"])


def test_search_in_several_processes_shares_the_trained_network():
    network = perceptron()
    pipe = make_pipeline(ActivationExtractor(network), LogisticRegression())
    grid = {"activationextractor__layers": ["hidden_0", "hidden_1"]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2, error_score="raise").fit(X_PLAIN, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_[0].network is network


def test_monitor_of_a_perceptron_serves_inputs_and_activations():
    network = perceptron()
    A = extract(network, X_PLAIN)
    monitor = make_pipeline(
        ActivationExtractor(network), PercentileBinarizer(), HammingNAPDetector()
    ).fit(A)
    assert_array_equal(monitor.predict(X_PLAIN), monitor.predict(A))


# ---------------------------------------------------------------- skorch nets


class Module(nn.Module):
    """A module for skorch, with a choice of endings."""

    def __init__(self, n_outputs=3, ending=None):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.relu = nn.Linear(4, 5), nn.ReLU()
        self.out, self.ending = nn.Linear(5, n_outputs), ending or nn.Identity()

    def forward(self, X):
        return self.ending(self.out(self.relu(self.hidden(X))))


@pytest.fixture
def skorch():
    return pytest.importorskip("skorch")


def trained(kind, y, **params):
    net = kind(Module, train_split=None, max_epochs=2, verbose=0, **params)
    return net.fit(X_PLAIN.astype(np.float32), y)


def test_skorch_net_gives_what_its_module_gives(skorch):
    y = np.arange(60) % 3
    net = trained(skorch.NeuralNetClassifier, y, criterion=nn.CrossEntropyLoss)
    A, expected = extract(net, X_PLAIN), extract(net.module_, X_PLAIN)
    assert A.layers == ("relu",)
    assert_same(A, expected)
    assert A.head.input_layer == "relu"
    assert_array_equal(A.predictions, net.predict(X_PLAIN.astype(np.float32)))


def test_classes_of_a_skorch_net_are_kept_where_they_belong_to_the_logits(skorch):
    params = {"criterion": nn.CrossEntropyLoss}
    y = np.arange(60) % 3
    net = trained(skorch.NeuralNetClassifier, y, classes=["cat", "dog", "eel"], **params)
    assert extract(net, X_PLAIN).predictions[0] in ("cat", "dog", "eel")
    net = trained(skorch.NeuralNetClassifier, y, module__n_outputs=7, **params)
    assert extract(net, X_PLAIN).classes.tolist() == list(range(7))


@pytest.mark.parametrize("ending", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_logits_of_a_skorch_net_precede_its_softmax(skorch, ending):
    y = np.arange(60) % 3
    net = trained(skorch.NeuralNetClassifier, y, module__ending=nn.Softmax(1))
    A = extract(net, X_PLAIN)
    proba = net.predict_proba(X_PLAIN.astype(np.float32))
    assert_allclose(softmax(A.logits, axis=1), proba, rtol=1e-5)


@pytest.mark.parametrize("ending", [nn.Identity(), nn.Flatten(0), nn.Sigmoid()])
def test_two_class_skorch_net_has_two_logits(skorch, ending):
    criterion = nn.BCELoss if isinstance(ending, nn.Sigmoid) else nn.BCEWithLogitsLoss
    y = (np.arange(60) % 2).astype(np.float32)
    if not isinstance(ending, nn.Flatten):
        ending = nn.Sequential(ending, nn.Flatten(0))
    net = trained(
        skorch.NeuralNetBinaryClassifier,
        y,
        criterion=criterion,
        module__n_outputs=1,
        module__ending=ending,
    )
    A = extract(net, X_PLAIN)
    proba = net.predict_proba(X_PLAIN.astype(np.float32))
    assert_allclose(softmax(A.logits, axis=1), proba, rtol=1e-5)
    assert_array_equal(A.predictions, net.predict(X_PLAIN.astype(np.float32)))
    assert_allclose(A.head.logits(A["relu"]), A.logits, rtol=1e-4, atol=1e-6)


def test_skorch_regressor_has_no_logits(skorch):
    net = trained(skorch.NeuralNetRegressor, X_PLAIN[:, :3].astype(np.float32))
    A = extract(net, X_PLAIN)
    assert A.layers == ("relu",)
    assert A.logits is A.head is None


def test_skorch_net_is_left_as_it_was(skorch):
    y = np.arange(60) % 3
    net = trained(skorch.NeuralNetClassifier, y, criterion=nn.CrossEntropyLoss)
    net.module_.train()
    with untouched(net.module_):
        extract(net, {"X": X_PLAIN}, batch_size=7)
    assert clone(ActivationExtractor(net)).network is net


def test_skorch_net_that_is_not_fitted_is_refused(skorch):
    with pytest.raises(NotFittedError, match="NeuralNetClassifier instance is not fitted yet"):
        ActivationExtractor(skorch.NeuralNetClassifier(Module)).fit(X_PLAIN)
