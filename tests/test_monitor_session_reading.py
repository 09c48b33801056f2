"""What an open monitor takes for granted about its network, where the network does otherwise."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from _networks import untouched
from numpy.testing import assert_array_equal
from torch import nn

from skood import ActivationExtractor, Monitor, PoolingReducer
from skood._pooling import POOLINGS
from skood.detectors import KNNDetector

pytestmark = pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning")

N_ROWS = 40


class Net(nn.Module):
    """Overwrites what its layers yield, calls one of them twice, and does as it is told."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4 * 16, 8)
        self.gate = nn.Sigmoid()
        self.head = nn.Linear(8, 3)
        self.register_buffer("written", torch.zeros(2))
        self.odd = lambda x: None

    def forward(self, x):
        if x[0, 0, 0, 0] > 100:
            self.odd(x)
        x = self.relu(self.norm(self.conv(x)))
        x = self.relu(self.fc(x.flatten(1)))
        x += 1
        for _ in range(1 + int(x.max() > 100)):
            x = self.gate(x)
        return self.head(x / 2)


def images(n=N_ROWS):
    return torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def make():
    """Makes a fitted monitor of a network."""

    def make(network, layers="*", reducer=None):
        extractor = ActivationExtractor(network, layers, reducer=reducer or PoolingReducer())
        steps = [("extract", extractor), ("detect", KNNDetector(n_neighbors=1))]
        return Monitor(steps).fit(images())

    return make


def in_haste(monitor, x):
    """What is extracted in haste, or None; the monitor has seen such an input before."""
    monitor.score_samples(images(len(x)))
    return monitor._current_session().extraction.extract(x)


def assert_reads_the_same(monitor, x):
    A, expected = in_haste(monitor, x), monitor[0].transform(x)
    assert A is not None
    assert A.layer_names == expected.layer_names
    for name, values in expected.items():
        assert_array_equal(A[name], values, err_msg=name)
        assert A[name].dtype == values.dtype
    assert_array_equal(A.logits, expected.logits)
    assert_array_equal(A.predictions, expected.predictions)


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize(
    "reducer",
    [
        PoolingReducer(),
        PoolingReducer(pooling=["avg", "max", "sum"]),
        PoolingReducer(pooling="avg", output_size=2),
        PoolingReducer(pooling="flatten"),
    ],
    ids=str,
)
def test_values_are_those_of_the_extractor(make, reducer, n_rows, is_open):
    monitor = make(Net().eval(), reducer=reducer)
    if is_open:
        monitor.open()
    assert {"relu[0]", "relu[1]", "fc", "conv"} <= {n.split(":")[0] for n in monitor[0].layers_}
    assert_reads_the_same(monitor, images()[-n_rows:])
    monitor.close()


def test_values_that_are_kept_do_not_change_with_the_next_input(make):
    monitor = make(Net().eval())
    x = images()
    with monitor.open():
        first = in_haste(monitor, x[:1])
        before = {name: values.copy() for name, values in first.items()}
        in_haste(monitor, x[1:2])
        for name, values in first.items():
            assert_array_equal(values, before[name])


@pytest.mark.parametrize("pooling", [*POOLINGS, ["avg", "max"]], ids=str)
@pytest.mark.parametrize("output_size", [1, 2])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 4), (3, 5, 4, 6)], ids=str)
@pytest.mark.parametrize("of_torch", [False, True])
def test_functions_pool_as_the_reducer_does(pooling, output_size, shape, of_torch):
    reducer = PoolingReducer(pooling=pooling, output_size=output_size)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values = torch.from_numpy(values) if of_torch else values
    if len(shape) == 4 and pooling in ("first", "last"):
        with pytest.raises(ValueError, match="takes one token of a sequence"):
            reducer._poolers("a", len(shape))
        return
    expected = reducer.pool_layers({"a": values})
    poolers = reducer._poolers("a", len(shape))
    assert list(poolers) == list(expected)
    for name, pool in poolers.items():
        found = pool(values)
        assert type(found) is type(expected[name])
        assert_array_equal(np.asarray(found), np.asarray(expected[name]))
        assert not np.may_share_memory(np.asarray(found), np.asarray(values))


class Doubling(PoolingReducer):
    def pool_layers(self, layers):
        return {name: 2 * values for name, values in super().pool_layers(layers).items()}


def test_a_reducer_of_ones_own_pools_as_it_says(make):
    monitor, x = make(Net().eval(), ["conv"], Doubling()), images()[-1:]
    plain = make(Net().eval(), ["conv"])
    assert_reads_the_same(monitor, x)
    assert_array_equal(in_haste(monitor, x)["conv"], 2 * in_haste(plain, x)["conv"])


def odd_input():
    x = images(1)
    x[0, 0, 0, 0] = 101
    return x


def test_more_calls_than_in_fit(make):
    network = Net().eval()
    monitor, x = make(network, layers=["gate", "conv"]), 1e6 * images()[-1:]
    n_calls = []
    handle = network.gate.register_forward_hook(lambda *call: n_calls.append(1))
    network(x)
    handle.remove()
    assert len(n_calls) == 2
    with monitor.open():
        assert_reads_the_same(monitor, x)


class Skipping(nn.Sequential):
    """Calls its second layer for some inputs alone."""

    def forward(self, x):
        x = self[0](x)
        return self[2](x if x[0, 0] > 100 else self[1](x))


def test_fewer_calls_than_in_fit(make):
    torch.manual_seed(0)
    network = Skipping(nn.Flatten(), nn.ReLU(), nn.Linear(16, 3)).eval()
    monitor = make(network, layers=["0", "1"])
    with monitor.open():
        assert in_haste(monitor, odd_input()) is None
        with pytest.raises(ValueError, match=r"does not call its layers \['1'\]"):
            monitor.predict(odd_input())
        assert_reads_the_same(monitor, images()[-1:])


@pytest.mark.parametrize("is_open", [False, True])
def test_what_a_pass_draws_and_writes_for_some_inputs_alone_is_undone(make, is_open):
    network = Net().eval()

    def odd(x):
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        network.written += 1
        network.norm.running_mean = network.norm.running_mean + 1
        network.norm.train()
        network.register_buffer("new", torch.ones(1))

    network.odd = odd
    monitor = make(network)
    if is_open:
        monitor.open()
    in_haste(monitor, images()[-1:])
    for _ in range(2):
        states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
        with untouched(network):
            in_haste(monitor, odd_input())
        assert torch.equal(states[0], torch.get_rng_state())
        assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
        assert states[2] == random.getstate()
    network(odd_input())
    assert network.written[0] == 1
    monitor.close()


def step(network):
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(network.parameters(), lr=0.1).step()


@dataclass
class Config:
    """Equal to others of the same slope."""

    slope: float = 1.0


CHANGES = {
    "optimizer": step,
    "data": lambda network: setattr(network.fc.weight, "data", network.fc.weight.data + 1),
    "parameter": lambda network: setattr(network.fc, "bias", nn.Parameter(torch.ones(8))),
    "module": lambda network: setattr(network, "gate", nn.Tanh()),
    "setting": lambda network: setattr(network.norm, "eps", 0.1),
    "buffer": lambda network: network.norm.running_mean.add_(1),
    "forward": lambda network: setattr(network.gate, "forward", torch.tanh),
    "hook": lambda network: network.gate.register_forward_hook(lambda *call: call[2] + 1),
    "early hook": lambda network: network.fc.register_forward_pre_hook(lambda *call: None),
    "config": lambda network: setattr(network.config, "slope", 2.0),
    "another config": lambda network: setattr(network, "config", Config(2.0)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_change_shows_in_the_very_next_call(make, change, is_open):
    network = Net().eval()
    network.config = Config()
    monitor, x = make(network), images()[-1:]
    if is_open:
        monitor.open()
    assert in_haste(monitor, x) is not None
    CHANGES[change](network)
    with pytest.raises(ValueError, match="not what it was in fit"):
        monitor.predict(x)
    monitor.close()


def test_an_equal_object_in_the_place_of_another_is_looked_into(make):
    network = Net().eval()
    network.config = Config()
    monitor, x = make(network), images()[-1:]
    with monitor.open():
        assert in_haste(monitor, x) is not None
        network.config = Config()
        monitor.predict(x)
        network.config.slope = 2.0
        with pytest.raises(ValueError, match="not what it was in fit"):
            monitor.predict(x)


def test_an_error_in_the_pass_leaves_an_open_monitor_as_it_was(make):
    network, x = Net().eval(), images()[-1:]

    def fail(x):
        raise ZeroDivisionError

    network.odd = fail
    monitor = make(network)
    with monitor.open():
        expected = monitor.score_samples(x)
        with untouched(network), pytest.raises(ValueError, match="ZeroDivisionError"):
            monitor.score_samples(odd_input())
        assert torch.is_grad_enabled()
        assert_reads_the_same(monitor, x)
        assert_array_equal(monitor.score_samples(x), expected)
    assert not any(module._forward_hooks for module in network.modules())


def test_values_that_are_not_finite_are_left_to_the_extractor(make):
    network = Net().eval()
    monitor, x = make(network), images()[-1:].clone()
    assert in_haste(monitor, x) is not None
    x[0, 0, 1, 1] = torch.inf
    assert in_haste(monitor, x) is None
    x[0, 0, 1, 1] = 1e38
    assert in_haste(monitor, x) is None or np.isfinite(in_haste(monitor, x)["conv"]).all()
