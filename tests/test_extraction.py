"""Extraction as a transformer: reducers, activations extracted before, caching, copies."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from _networks import (
    Counting,
    Rows,
    Stream,
    assert_same,
    cnn,
    extract,
    images,
    vectors,
    with_peak_memory,
)
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from skood import ActivationExtractor, Activations, PercentileBinarizer, PoolingReducer
from skood.activations import PackedBits
from skood.preprocessing import LayerSelector


@pytest.mark.parametrize("pooling", ["max", "avg", "flatten", ["max", "avg"]])
@pytest.mark.parametrize("output_size", [1, 2])
def test_pooling_on_the_way_is_pooling_afterwards(pooling, output_size):
    reducer = PoolingReducer(pooling=pooling, output_size=output_size)
    A = extract(cnn(), images(), reducer=reducer, batch_size=4)
    expected = reducer.fit_transform(extract(cnn(), images(), batch_size=4))
    assert_same(A, expected, rtol=1e-5, atol=1e-6)


REDUCERS = {
    "binarizer": PercentileBinarizer(percentile=30),
    "pipeline": make_pipeline(
        PoolingReducer(), LayerSelector(layers=["1", "7"]), PercentileBinarizer(percentile=30)
    ),
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
        ActivationExtractor(cnn(), reducer=PoolingReducer(pooling="median")).fit(images())


def test_reducer_is_left_unfitted():
    reducer = PoolingReducer()
    extract(cnn(), images(), reducer=reducer)
    assert not hasattr(reducer, "n_features_in_")


def test_unreduced_values_do_not_pile_up():
    X = images(1000)
    extractor = ActivationExtractor(cnn(), reducer=PoolingReducer(), batch_size=50).fit(X)
    A, peak = with_peak_memory(lambda: extractor.transform(X))
    reduced = sum(array.nbytes for _, array in A.items()) + A.logits.nbytes
    # A batch, and states of random generators: Python's takes more where its numbers are new.
    assert peak < reduced + 150_000 < extract(cnn(), X)["1"].nbytes


def test_layers_that_no_memory_could_hold_are_refused():
    X = np.broadcast_to(np.float32(0), (10**9, 1, 8, 8))
    with pytest.raises(MemoryError, match=r"GiB.*pass reducer=PoolingReducer\(\)"):
        ActivationExtractor(cnn(), batch_size=10).fit(X).transform(X)


def test_extracted_activations_are_selected():
    A = extract(cnn(), images(), "all")
    extractor = ActivationExtractor(cnn(), ["7", "1"]).fit(images())
    B = extractor.transform(A[3:5])
    assert B.layer_names == ("1", "7")
    assert_same(B, extractor.transform(images())[3:5], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["max", ["max", "avg"]])
@pytest.mark.parametrize("fit_on", ["inputs", "unreduced", "reduced"])
def test_one_pipeline_serves_inputs_and_activations(pooling, fit_on):
    network, X = cnn(), images()
    extractor = ActivationExtractor(
        network, ["1", "4", "7"], reducer=PoolingReducer(pooling=pooling)
    )
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
    assert extractor.fit_transform(A).layer_names == ("a", "b")
    assert extractor.layers_ == ["a", "b"]
    assert network.seen == []


def test_extractor_fitted_on_some_of_the_layers_extracts_those():
    network = cnn()
    A = extract(network, images(), ["1", "7"])
    assert ActivationExtractor(network).fit(A).transform(images()).layer_names == ("1", "7")
    with pytest.raises(ValueError, match=r"no layers \['3'\]"):
        ActivationExtractor(network).fit(extract(network, images(), ["3"])).transform(images())


def test_missing_layers_are_refused():
    A = extract(cnn(), images(), ["1"])
    with pytest.raises(ValueError, match=r"no layers \['4', '7'\]; it has \['1'\]"):
        ActivationExtractor(cnn()).fit(images()).transform(A)
    with pytest.raises(ValueError, match=r"\['4'\]; known are \['1'\]"):
        ActivationExtractor(cnn(), ["4"]).fit(A)


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
    assert runs(clone(extractor).set_params(reducer=PoolingReducer(pooling="avg")), images())
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
    folder = str(Path(__file__).parent)
    run = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == fingerprint(cnn())


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


def test_extractor_whose_fit_failed_is_not_fitted():
    extractor = ActivationExtractor(cnn(), "nothing")
    with pytest.raises(ValueError, match="known are"):
        extractor.fit(images())
    with pytest.raises(NotFittedError):
        extractor.transform(images())


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
