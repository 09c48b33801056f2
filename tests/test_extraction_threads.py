"""A network that other threads call while it is read."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import TextNet, assert_same, extract, run, untouched, vectors
from numpy.testing import assert_array_equal
from torch import nn

from skood import ActivationExtractor, make_monitor


class Block(nn.Module):
    def __init__(self, n_inputs, n_units):
        super().__init__()
        self.fc = nn.Linear(n_inputs, n_units)

    def forward(self, x):
        return F.relu(self.fc(x))


def modular():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))


def functional():
    return nn.Sequential(Block(6, 5), Block(5, 5), nn.Linear(5, 3))


class Interrupted(nn.Module):
    """Another thread runs its layers on other inputs in the midst of each pass, if any."""

    def __init__(self, layers):
        super().__init__()
        self.layers, self.inputs, self.found = layers, None, []

    def _serve(self):
        with torch.no_grad():
            self.found.append(self.layers(self.inputs))

    def forward(self, x):
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if self.inputs is not None and number < 2:
                thread = threading.Thread(target=self._serve)
                thread.start()
                thread.join()
        return x


def interrupted(make):
    torch.manual_seed(0)
    network = Interrupted(make()).eval()
    quiet = extract(network, vectors(), "all", batch_size=4)
    network.inputs = torch.full((4, 6), 7.0)
    return network, quiet


@pytest.mark.parametrize("make", [modular, functional])
@pytest.mark.parametrize("gradients", [False, True])
def test_calls_by_other_threads_are_not_heard(make, gradients):
    network, quiet = interrupted(make)
    layers = ["layers.0", "layers.1"]
    with untouched(network):
        A = extract(network, vectors(), layers, batch_size=4, gradients=gradients)
    for name in layers:
        assert_array_equal(A[name], quiet[name])
    assert_array_equal(A.logits, quiet.logits)


@pytest.mark.parametrize("make", [modular, functional])
def test_other_threads_get_their_own_outputs(make):
    network, _ = interrupted(make)
    expected = run(network.layers, network.inputs)
    extract(network, vectors(), "all")
    assert network.found
    assert all(torch.equal(found, expected) for found in network.found)


@pytest.mark.parametrize("make", [modular, functional])
def test_trace_is_of_the_reading_thread_alone(make):
    network, quiet = interrupted(make)
    assert_same(extract(network, vectors(), "all", batch_size=4), quiet)


def test_integers_are_told_by_the_reading_thread_alone():
    network = nn.Sequential(TextNet().words, Block(8, 5), nn.Flatten(), nn.Linear(25, 3))
    wrapped = Interrupted(network).eval()
    X = np.random.default_rng(0).integers(20, size=(7, 5)).astype(np.uint8)
    expected = extract(wrapped, X)
    wrapped.inputs = torch.ones((2, 5), dtype=torch.int64)
    assert_same(extract(wrapped, X), expected)


@pytest.mark.parametrize("make", [modular, functional])
def test_server_and_monitor_share_a_network(make):
    torch.manual_seed(0)
    network, X = make().eval(), vectors(60)
    monitor = make_monitor(network).fit(X)
    one_by_one = [monitor.score_samples(X[i : i + 1])[0] for i in range(60)]
    expected, errors, stop = run(network, X[:4]), [], threading.Event()

    def serve():
        try:
            with torch.no_grad():
                while not stop.is_set():
                    if not torch.equal(network(torch.as_tensor(X[:4])), expected):
                        errors.append("other outputs")
        except Exception as error:
            errors.append(error)

    server = threading.Thread(target=serve)
    server.start()
    try:
        served = [monitor.score_samples(X[i : i + 1])[0] for i in range(60)]
    finally:
        stop.set()
        server.join()
    assert_array_equal(served, one_by_one)
    assert errors == []


def test_activations_extracted_in_several_threads_are_those_of_each():
    torch.manual_seed(0)
    network = modular().eval()
    inputs = [vectors(seed=seed) for seed in range(6)]
    extractor = ActivationExtractor(network).fit(inputs[0])
    found = [None] * 6

    def transform(i):
        found[i] = extractor.transform(inputs[i])

    threads = [threading.Thread(target=transform, args=[i]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for A, X in zip(found, inputs, strict=True):
        assert_same(A, extractor.transform(X))
