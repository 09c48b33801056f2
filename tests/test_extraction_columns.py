"""What extraction knows of the columns it makes, and the labels that loaders yield."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import Counting, assert_same, cnn, extract, images, trained_perceptron, vectors
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from skood import ActivationExtractor, Activations, PoolingReducer
from skood.activations import Column
from skood.detectors import EnergyDetector
from skood.ensemble import AutoNAPDetector
from skood.preprocessing import LayerSelector

Y = np.arange(11) % 3


def said(A):
    return {
        column.name: (column.layer, column.kind, column.pooling, column.unit_axis)
        for column in A.columns
        if column.role == "layer"
    }


# What columns are


def test_columns_say_what_was_extracted():
    reducer = PoolingReducer(pooling=["max", "avg"])
    A = extract(
        cnn(), images(), ["1", "7"], reducer=reducer, gradients=True, n_passes=2, random_state=0
    )
    assert said(A) == {
        "1:max": ("1", "value", "max", 1),
        "1:avg": ("1", "value", "avg", 1),
        "1:gradient:max": ("1", "gradient", "max", 1),
        "1:gradient:avg": ("1", "gradient", "avg", 1),
        "7": ("7", "value", None, 1),
        "7:gradient": ("7", "gradient", None, 1),
        "passes": ("passes", "pass", None, 1),
    }


@pytest.mark.parametrize("reducer", [PoolingReducer(), make_pipeline(PoolingReducer())], ids=str)
def test_a_single_pooling_is_said_though_it_keeps_names(reducer):
    A = extract(cnn(), images(), ["1", "7"], reducer=reducer, gradients=True, batch_size=4)
    assert said(A) == {
        "1": ("1", "value", "max", 1),
        "1:gradient": ("1", "gradient", "max", 1),
        "7": ("7", "value", None, 1),
        "7:gradient": ("7", "gradient", None, 1),
    }


class Named(nn.Module):
    """Its layers have names that extraction and pooling give to others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        names = {"a": nn.Conv2d(1, 2, 3), "a:max": nn.ReLU(), "a:gradient": nn.Sigmoid()}
        self.maps = nn.ModuleDict(names)
        self.head = nn.Linear(2 * 6 * 6, 3)

    def forward(self, x):
        for layer in self.maps.values():
            x = layer(x)
        return self.head(x.flatten(1))


def test_layers_of_a_network_may_be_called_anything():
    network, X = Named(), images()
    layers = ["maps.a", "maps.a:max", "maps.a:gradient"]
    A = extract(network, X, layers, gradients=True)
    assert said(A) == {
        "maps.a": ("maps.a", "value", None, 1),
        "maps.a:gradient_2": ("maps.a", "gradient", None, 1),
        "maps.a:max": ("maps.a:max", "value", None, 1),
        "maps.a:max:gradient": ("maps.a:max", "gradient", None, 1),
        "maps.a:gradient": ("maps.a:gradient", "value", None, 1),
        "maps.a:gradient:gradient": ("maps.a:gradient", "gradient", None, 1),
    }
    x = torch.tensor(X)
    maps = network.maps["a"](x)
    assert_allclose(A["maps.a"], maps.detach(), rtol=1e-5, atol=1e-6)
    assert_allclose(A["maps.a:gradient"], F.relu(maps).sigmoid().detach(), rtol=1e-5, atol=1e-6)
    maps = maps.detach().requires_grad_()
    logits = network.head(F.relu(maps).sigmoid().flatten(1))
    loss = -F.log_softmax(logits, dim=1).mean(dim=1)
    (expected,) = torch.autograd.grad(loss.sum(), maps)
    assert_allclose(A["maps.a:gradient_2"], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"Pooling 'maps\.a' would replace layer 'maps\.a:max'"):
        extract(network, X, layers, reducer=PoolingReducer(pooling=["max", "avg"]))


def test_an_extractor_selects_by_layer_and_not_by_the_looks_of_names():
    A = Activations({"1": images(), "1:max": vectors(), "x": Column(vectors(), layer="1")})
    assert ActivationExtractor(cnn(), "1").fit(A).transform(A).layer_names == ("1", "x")
    assert ActivationExtractor(cnn(), "1:max").fit(A).transform(A).layer_names == ("1:max",)
    assert ActivationExtractor(cnn(), "x").fit(A).layers_ == ["1"]
    gradient = Column(vectors(), layer="1", kind="gradient")
    with_slope = A[["x"]].assign({"slope": gradient})
    extractor = ActivationExtractor(cnn(), "1", gradients=True).fit(with_slope)
    assert extractor.transform(with_slope).layer_names == ("x", "slope")
    with pytest.raises(ValueError, match=r"gradients of the layers \['x'\]"):
        ActivationExtractor(cnn(), "1", gradients=True).fit(
            A[["x"]].assign({"1:gradient": vectors()})
        )


def test_unpooled_maps_are_reduced_where_pooled_ones_are_there_too():
    network, X = cnn(), images()
    extractor = ActivationExtractor(
        network, ["1"], reducer=PoolingReducer(pooling=["max", "avg"])
    ).fit(X)
    both = extract(network, X, ["1"])
    both = both.assign({"more": Column(both["1"].sum(axis=(2, 3)), layer="1", pooling="sum")})
    assert_same(extractor.transform(both), extractor.transform(X), rtol=1e-5, atol=1e-6)


def test_auto_nap_finds_poolings_by_columns():
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(60, 20, 3, 3)), 0)
    parts = {"predictions": rng.integers(0, 2, 60)}
    pooled = PoolingReducer(pooling=["max", "avg"]).fit_transform(
        Activations({"conv": maps}, **parts)
    )
    renamed = Activations(
        {
            "b": Column(pooled["conv:avg"], layer="conv", pooling="avg"),
            "a": Column(pooled["conv:max"], layer="conv", pooling="max"),
        },
        **parts,
    )
    y = np.r_[parts["predictions"][:40], np.full(20, -1)]
    expected = AutoNAPDetector(random_state=0).fit(pooled, y)
    found = AutoNAPDetector(random_state=0).fit(renamed, y)
    assert found.layers_ == expected.layers_ == ["conv"]
    assert_array_equal(found.score_samples(renamed), expected.score_samples(pooled))
    named = Activations({name: pooled[name] for name in pooled.layer_names}, **parts)
    assert AutoNAPDetector(random_state=0).fit(named, y).layers_ == ["conv:max", "conv:avg"]


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.gru, self.head = nn.GRU(6, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.gru(x)[0].mean(1))


@pytest.mark.parametrize("pooling", ["max", ["avg", "flatten"]], ids=str)
@pytest.mark.parametrize("gradients", [False, True])
def test_tokens_are_pooled_later_as_on_the_way(pooling, gradients, tmp_path):
    X = np.random.default_rng(0).normal(size=(12, 7, 6)).astype(np.float32)
    reducer = PoolingReducer(pooling=pooling)
    expected = extract(Encoder(), X, ["gru"], reducer=reducer, gradients=gradients)
    A = extract(Encoder(), X, ["gru"], gradients=gradients)
    assert A["gru"].shape == (12, 7, 5)
    assert {column.unit_axis for column in A.columns if column.role == "layer"} == {2}
    A.save(tmp_path / "saved")
    for B in (A, A[:], Activations.load(tmp_path / "saved", mmap_mode="r")):
        assert_same(reducer.fit_transform(B), expected, rtol=1e-5, atol=1e-6)
        assert said(reducer.fit_transform(B)) == said(expected)


def test_tokens_of_another_number_keep_their_axis():
    X = np.random.default_rng(0).normal(size=(12, 7, 6)).astype(np.float32)
    extractor = ActivationExtractor(Encoder(), ["gru"]).fit(X)
    A = extractor.transform(X[:, :4])
    assert A.layer_shapes == {"gru": (4, 5)}
    assert said(A) == {"gru": ("gru", "value", None, 2)}


def test_a_pickled_extractor_does_not_carry_the_values_it_was_fitted_on():
    X = images()
    extractor = ActivationExtractor(nn.Sequential(nn.ReLU(), nn.Flatten())).fit(X)
    large = ActivationExtractor(nn.Sequential(nn.ReLU(), nn.Flatten())).fit(
        np.zeros((2, 1, 200, 200), np.float32)
    )
    assert abs(len(pickle.dumps(extractor)) - len(pickle.dumps(large))) < 500
    assert_same(pickle.loads(pickle.dumps(extractor)).transform(X), extractor.transform(X))


# Labels


def pairs(y):
    return TensorDataset(torch.tensor(images()), torch.as_tensor(y))


class Items(Dataset):
    """Yields items of any kind."""

    def __init__(self, *columns):
        self._columns = columns

    def __len__(self):
        return len(self._columns[0])

    def __getitem__(self, number):
        return tuple(column[number] for column in self._columns)


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: DataLoader(data, batch_size=4)])
@pytest.mark.parametrize(
    "y", [Y, Y / 2, Y.astype(np.float32), Y > 0, Y.astype(np.uint8), list("abcdefghijk")], ids=repr
)
def test_targets_of_a_data_set_are_labels(wrap, y):
    A = extract(cnn(), wrap(Items(torch.tensor(images()), y)), batch_size=3)
    assert_array_equal(A.labels, y)
    assert A.labels.dtype == np.asarray(y).dtype or isinstance(y, np.ndarray)
    assert_same(A, extract(cnn(), images()), rtol=1e-5, atol=1e-6)


def test_labels_come_in_the_order_of_the_rows():
    order = np.random.default_rng(0).permutation(11)
    loader = DataLoader(pairs(Y), batch_size=4, sampler=order.tolist())
    A = extract(cnn(), loader)
    assert_array_equal(A.labels, Y[order])
    assert_allclose(A.logits, extract(cnn(), images()[order]).logits, rtol=1e-5, atol=1e-6)


def test_half_precision_that_numpy_has_not_is_a_label():
    A = extract(cnn(), pairs(torch.tensor(Y, dtype=torch.bfloat16)))
    assert_array_equal(A.labels, Y)
    A = extract(cnn(), pairs(torch.tensor(Y / 7)))
    assert_array_equal(A.labels, Y / 7)  # in double precision


OTHERS = {
    "several values": (np.ones((11, 2)),),
    "one value in an axis of its own": (Y[:, np.newaxis],),
    "mappings": ([{"box": 1.0}] * 11,),
    "two kinds of targets": (Y, Y),
    "complex numbers": (Y * 1j,),
}


@pytest.mark.parametrize("targets", OTHERS.values(), ids=OTHERS)
def test_other_targets_are_no_labels(targets):
    A = extract(cnn(), Items(torch.tensor(images()), *targets))
    assert A.labels is None
    assert len(A) == 11


def test_arrays_and_data_sets_of_inputs_alone_have_no_labels():
    for X in (images(), torch.tensor(images()), TensorDataset(torch.tensor(images()))):
        assert extract(cnn(), X).labels is None


@pytest.mark.parametrize(
    "targets",
    [
        lambda rows: torch.cat([rows, rows]),
        lambda rows: rows if 0 not in rows else None,
        lambda rows: rows if 0 not in rows else [str(row) for row in rows],
        lambda rows: [1, "a", 2.0, 3][: len(rows)],
    ],
    ids=["another number", "in some batches", "of several kinds", "mixed"],
)
def test_targets_that_are_not_one_label_a_row_are_no_labels(targets):
    def collate(items):
        x, y = zip(*items, strict=True)
        return torch.stack(x), targets(torch.stack(y))

    data = pairs(np.arange(11))
    A = extract(cnn(), DataLoader(data, batch_size=4, collate_fn=collate))
    assert A.labels is None
    assert len(A) == 11


def test_labels_go_through_reducers_pipelines_and_perceptrons():
    loader = DataLoader(pairs(Y), batch_size=4)
    for reducer in (PoolingReducer(), make_pipeline(PoolingReducer(), LayerSelector(layers="1"))):
        assert_array_equal(extract(cnn(), loader, reducer=reducer).labels, Y)
    steps = make_pipeline(ActivationExtractor(cnn()), LayerSelector(layers=-1), PoolingReducer())
    assert_array_equal(steps.fit_transform(loader).labels, Y)
    A = extract(cnn(), loader)
    extractor = ActivationExtractor(cnn(), ["1", "7"], reducer=PoolingReducer()).fit(loader)
    assert_array_equal(extractor.transform(A[::-1]).labels, Y[::-1])
    net = trained_perceptron(vectors(), Y)
    data = Items(torch.tensor(vectors()), list("abcdefghijk"))
    assert extract(net, data).labels.tolist() == list("abcdefghijk")


def test_no_detector_reads_labels():
    loader = DataLoader(pairs(np.full(11, -1)), batch_size=4)
    monitor = make_pipeline(ActivationExtractor(cnn()), EnergyDetector()).fit(loader)
    assert len(monitor[-1].training_rows_) == 11


def test_a_single_sample_has_its_label():
    A = extract(cnn(), DataLoader(pairs(Y), batch_size=10))  # and a batch of one
    assert_array_equal(A.labels, Y)


def test_the_cache_keeps_what_columns_are(tmp_path):
    network = Counting(cnn())
    params = {"gradients": True, "reducer": PoolingReducer(pooling=["max", "avg"])}
    extractor = ActivationExtractor(network, memory=str(tmp_path), **params)
    A = extractor.fit_transform(images())
    other = clone(extractor).fit(images())
    network.seen.clear()
    B = other.transform(images())
    assert network.seen == []
    assert said(A) == said(B)
    assert B.labels is None
    network.seen.clear()
    labelled = other.transform(pairs(Y))  # whose content is not known beforehand
    assert network.seen != []
    assert_array_equal(labelled.labels, Y)


# The container that `set_output` sets


def test_set_output_is_remembered_where_activations_came_first():
    pd = pytest.importorskip("pandas")
    A = Activations({"a": vectors()})
    selector = LayerSelector().fit(A)
    assert isinstance(selector.set_output(transform="pandas").transform(A), Activations)
    assert isinstance(selector.fit(vectors()).transform(vectors()), pd.DataFrame)
    assert isinstance(selector.set_output(transform=None).fit_transform(vectors()), pd.DataFrame)
    maps = PoolingReducer(pooling="flatten").set_output(transform="pandas").fit(images())
    assert isinstance(maps.transform(images()), np.ndarray)
