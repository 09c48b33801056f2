"""Sequences of any length: units are told from tokens, and integers stay integers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import TextNet, extract, images, run, vectors
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import ActivationExtractor, PoolingReducer, make_monitor

UNITS = 6


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.block = nn.TransformerEncoderLayer(UNITS, 2, 12, batch_first=True)
        self.head = nn.Linear(UNITS, 4)

    def forward(self, x):
        return self.head(self.block(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.block, self.head = nn.GRU(6, UNITS, batch_first=True), nn.Linear(UNITS, 4)

    def forward(self, x):
        return self.head(self.block(x)[0].mean(1))


def sequences(n_samples=24, length=9, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, length, 6)).astype(np.float32)


class ByHand(nn.Module):
    """Runs a recurrence over the tokens; ``end`` is given its cell, and returns what ends it."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(0)
        self.end = end
        self.given, self.own, self.back = (nn.Linear(6, UNITS) for _ in range(3))
        self.head = nn.Linear(UNITS, 4)

    def forward(self, x):
        self.state = self.end(self, x)
        return self.head(self.state)

    def run(self, steps, own):
        h = torch.zeros_like(steps[0][:, :UNITS])
        for step in steps:
            h = torch.tanh(self.given(step) + own(h))
        return h


def last_state(net, x):
    return net.run(x.unbind(1), net.own)


def both_directions(net, x):
    net.forwards = net.run(x.unbind(1), net.own)
    start = F.relu(net.back(x[:, 0]))
    return F.relu(net.forwards + net.run(x.flip(1).unbind(1), net.back)) + start


def leaky(net, x):
    h = torch.zeros_like(x[:, 0])
    for step in x.unbind(1):
        h = 0.5 * torch.tanh(net.given(step) + net.own(h)) + 0.5 * h
    return h


def with_outputs(net, x):
    h = torch.zeros_like(x[:, 0])
    for step in x.unbind(1):
        h = torch.tanh(net.given(step) + net.own(h))
        net.head(h)
    return h


@pytest.mark.parametrize("end", [last_state, both_directions, leaky, with_outputs])
@pytest.mark.parametrize("gradients", [False, True])
def test_last_step_of_a_recurrence_stays_the_last(end, gradients):
    network = ByHand(end)
    extractor = ActivationExtractor(network, gradients=gradients).fit(sequences(length=10))
    for length in (7, 10, 20, 13):
        X = sequences(5, length, seed=length)
        A = extractor.transform(X)
        with torch.no_grad():
            logits = network(torch.tensor(X))
        assert_allclose(A.logits, logits, atol=1e-6)
        assert_allclose(A.features, network.state, atol=1e-6)
        if end is both_directions:
            assert_allclose(A["tanh[9]"], network.forwards, atol=1e-6)
        if gradients:
            wanted = (logits.softmax(1) - 0.25) @ network.head.weight.detach()
            assert_allclose(A[f"{A.head.input_layer}:gradient"], wanted, atol=1e-6)


def test_steps_that_are_named_count_from_the_first():
    network = ByHand(last_state)
    A = ActivationExtractor(network, ["tanh[0]", "tanh[3]"]).fit(sequences())
    X = sequences(5, 14, seed=1)
    found = A.transform(X)
    with torch.no_grad():
        for step in (0, 3):
            wanted = network.run(torch.tensor(X[:, : step + 1]).unbind(1), network.own)
            assert_allclose(found[f"tanh[{step}]"], wanted, atol=1e-6)
    with pytest.raises(ValueError, match=r"does not call its layers \['tanh\[3\]'\]"):
        A.transform(sequences(5, 3))


REDUCERS = {
    "as it is computed": PoolingReducer(pooling="avg"),
    "batch by batch": make_pipeline(PoolingReducer(pooling="avg")),
}


@pytest.mark.parametrize("make", [Encoder, Recurrent])
@pytest.mark.parametrize("reducer", REDUCERS.values(), ids=REDUCERS)
@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor, lambda X: {"x": X}])
def test_layers_are_pooled_over_tokens(make, reducer, wrap):
    network, X = make(), sequences()
    A = extract(network, wrap(X), ["block"], reducer=reducer, batch_size=5)
    unpooled = extract(network, wrap(X), ["block"])["block"]
    assert unpooled.shape == (24, 9, UNITS)
    assert_allclose(A["block"], unpooled.mean(1), rtol=1e-4, atol=1e-5)


def test_gradients_are_pooled_over_tokens():
    reducer = PoolingReducer(pooling=["avg", "max"])
    A = extract(Encoder(), sequences(), ["block"], reducer=reducer, gradients=True)
    unpooled = extract(Encoder(), sequences(), ["block"], gradients=True)["block:gradient"]
    assert_allclose(A["block:gradient:max"], unpooled.max(1), rtol=1e-4, atol=1e-7)


def test_activations_extracted_before_are_pooled_over_tokens():
    network, X = Encoder(), sequences()
    extractor = ActivationExtractor(network, ["block"], reducer=PoolingReducer()).fit(X)
    A = extractor.transform(extract(network, X, "all"))
    assert_allclose(A["block"], extractor.transform(X)["block"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [Encoder, Recurrent])
@pytest.mark.parametrize("length", [2, 7, 15])
@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor, lambda X: {"x": X}])
def test_sequences_may_have_another_length_than_in_fit(make, length, wrap):
    network = make()
    monitor = make_monitor(network).fit(wrap(sequences()))
    X = sequences(5, length, seed=1)
    A = monitor[0].transform(wrap(X))
    unpooled = extract(network, X, ["block"])["block"]
    assert_allclose(A["block:max"] if "block:max" in A else unpooled.max(1), unpooled.max(1))
    assert_allclose(A.logits, run(network, X), rtol=1e-4, atol=1e-5)
    assert monitor.predict(wrap(X)).shape == (5,)


def test_words_may_be_of_another_number_than_in_fit():
    X = np.random.default_rng(0).integers(20, size=(24, 5))
    network = TextNet()
    extractor = ActivationExtractor(network, reducer=PoolingReducer(pooling="avg")).fit(X)
    A = extractor.transform(X[:, :3])
    assert A.layer_shapes["encoder.layers.1"] == (8,)
    assert_allclose(A["encoder.layers.1"], A["penultimate"], rtol=1e-4, atol=1e-5)
    assert_allclose(A.logits, run(network, X[:, :3]), rtol=1e-4, atol=1e-5)


class Temporal(nn.Module):
    """A convolution over time: the second axis of its maps are channels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv1d(6, 5, 3), nn.Linear(5, 4)

    def forward(self, x):
        return self.head(F.relu(self.conv(x)).mean(2))


def test_maps_are_pooled_over_time():
    X = sequences().transpose(0, 2, 1)
    extractor = ActivationExtractor(Temporal(), ["relu"], reducer=PoolingReducer()).fit(X)
    assert extractor.transform(X).layer_shapes == {"relu": (5,)}
    assert extractor.transform(X[:, :, :6]).layer_shapes == {"relu": (5,)}
    with pytest.raises(ValueError, match="X has 4 features, but ActivationExtractor is expecting"):
        extractor.transform(X[:, :4])


def test_length_of_vectors_and_images_is_that_of_fit():
    network = nn.Sequential(nn.ReLU(), nn.Flatten())
    for X in (vectors(), images()):
        extractor = ActivationExtractor(network).fit(X)
        with pytest.raises(ValueError, match="features, but ActivationExtractor is expecting"):
            extractor.transform(np.concatenate([X, X], axis=1))


class TwoDirections(nn.Module):
    """Its activation function is given (2, n_samples, 8): the two directions of a recurrence."""

    def __init__(self, n_layers=1):
        super().__init__()
        torch.manual_seed(0)
        self.gru = nn.GRU(6, 8, n_layers, batch_first=True, bidirectional=True)
        self.relu, self.head = nn.ReLU(), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.relu(self.gru(x)[1])[-2:].transpose(0, 1).flatten(1))


class TimeFirst(nn.Module):
    """Its activation function is given (2, n_samples, 8): two times."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.relu, self.head = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.relu(self.fc(x.transpose(0, 1))).sum(0))


@pytest.mark.parametrize("network", [TwoDirections(), TwoDirections(2), TimeFirst()])
@pytest.mark.parametrize("n_samples", [2, 3, 24])
def test_samples_along_another_axis_are_no_rows(network, n_samples):
    X = sequences(n_samples, 2)
    A = extract(network, X)
    assert A.layer_names == ("penultimate",)
    assert_allclose(A.logits, run(network, X), rtol=1e-4, atol=1e-5)


def test_layer_of_two_units_stays_a_layer():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 2), nn.ReLU(), nn.Linear(2, 2))
    X = vectors()
    assert extract(network, X, "all").layer_names == ("0", "1", "penultimate", "2")


class OneHot(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(20, 4)

    def forward(self, x):
        return self.head(F.one_hot(x.long() if x.dtype == torch.int32 else x, 20).float().mean(1))


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Parameter(torch.randn(20, 5)), nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.table[x.long()].mean(1))


class Scaling(nn.Module):
    """Scales octets alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        return self.head(x.float() / 255 if x.dtype == torch.uint8 else x.to(torch.float32))


@pytest.mark.parametrize("make", [OneHot, Table, Scaling])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor, lambda X: {"x": X}])
def test_integers_stay_what_they_are_where_the_network_takes_them(make, dtype, wrap):
    X = np.random.default_rng(0).integers(20, size=(8, 5)).astype(dtype)
    network = make()
    as_is = X.astype(np.int64) if make is OneHot else X
    assert_allclose(extract(network, wrap(X)).logits, run(network, as_is), rtol=1e-5, atol=1e-6)


def test_layers_of_one_sample_are_those_of_many():
    network, X = Encoder(), sequences()
    extractor = ActivationExtractor(network, reducer=PoolingReducer()).fit(X)
    assert_array_equal(extractor.transform(X[:1]).layer_shapes, extractor.transform(X).layer_shapes)
