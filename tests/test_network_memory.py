"""Torch may resize the memory of a network and of its inputs after they were read."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import skood
from skood import ActivationExtractor, make_monitor
from skood.networks import adapt, check_adapter

pytestmark = pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning")


class Net(nn.Module):
    """Weights, buffers, tensors beside them, and inputs that are a layer of their own."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Identity(), nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)
        )
        self.factor, self.offsets = torch.ones(3), [torch.zeros(3)]
        self.to(dtype).eval()

    def forward(self, x):
        return self.layers(x) * self.factor.to(x.dtype) + self.offsets[0].to(x.dtype)

    def tensors(self):
        return [*self.parameters(), *self.buffers(), self.factor, *self.offsets]


def rows(n_rows=200, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n_rows, 6))).to(dtype).clone()


def monitored(network):
    return make_monitor(network).fit(rows().clone())


def opened(network, X):
    with monitored(network).open() as monitor:
        monitor.predict(X[:1])
        monitor.predict(X)


def saved(network, X):
    monitored(network).save("saved")
    skood.load("saved", network)


USES = {
    "fingerprint": lambda network, X: adapt(network).fingerprint(),
    "check": lambda network, X: check_adapter(adapt(network.float()), X.float()),
    "inputs as a layer": lambda network, X: ActivationExtractor(
        network, layers=["layers.0", "layers.3"]
    ).fit_transform(X),
    "fit": lambda network, X: make_monitor(network, validation=0.3).fit(X),
    "calibrate": lambda network, X: monitored(network).calibrate(X + 1).calibrate(X + 2),
    "loader": lambda network, X: monitored(network).predict(DataLoader(TensorDataset(X), 50)),
    "few": lambda network, X: [monitored(network).predict(X[:n]) for n in (1, 1, 5, 5)],
    "many": lambda network, X: [monitored(network).predict(X) for _ in range(2)],
    "open": opened,
    "save": saved,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_memory_of_networks_and_inputs_can_be_resized_afterwards(use, dtype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network, X = Net(dtype), rows(dtype=dtype)
    use(network, X)
    for tensor in (*network.tensors(), X):
        assert tensor.untyped_storage().resizable()


def test_a_network_whose_memory_went_elsewhere_is_read_where_it_is(tmp_path):
    network, X = Net(), rows()
    monitor = monitored(network)
    expected = monitor.score_samples(X[:1])
    with monitor.open():
        monitor.predict(X[:1])
        for weight in network.parameters():
            values = weight.detach().clone()
            weight.untyped_storage().resize_(0)
            weight.untyped_storage().resize_(100_000)
            with torch.no_grad():
                weight.copy_(values)
        np.testing.assert_array_equal(monitor.score_samples(X[:1]), expected)
        with torch.no_grad():
            next(network.parameters()).mul_(2)
        with pytest.raises(ValueError, match="not what it was in fit"):
            monitor.predict(X[:1])
