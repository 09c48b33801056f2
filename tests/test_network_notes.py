"""What libraries note on a network while they train it says nothing of what it computes."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import skood
from skood import make_monitor
from skood.networks import adapt

pytestmark = pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning")


def of_library(module):
    """Makes a class one of an installed library, as far as its name tells."""

    def rename(kind):
        kind.__module__ = module
        return kind

    return rename


# Small ones of the classes of three libraries


@of_library("lightning.pytorch.trainer.trainer")
class Trainer:
    def __init__(self):
        self.losses, self.rows = [], np.random.default_rng().normal(size=100)


@of_library("lightning.pytorch.core.module")
class LightningModule(nn.Module):
    def __init__(self):
        super().__init__()
        self._trainer, self._current_fx_name, self._metric_attributes = None, None, None
        self._hparams = {"scale": 1.0}


@of_library("torchmetrics.metric")
class Metric(nn.Module):
    def __init__(self):
        super().__init__()
        self.total, self._update_count = torch.zeros(3), 0


@of_library("transformers.configuration_utils")
class PreTrainedConfig:
    def __init__(self, scale=1.0):
        self._name_or_path, self.scale = "", scale


@of_library("transformers.modeling_utils")
class PreTrainedModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, self.name_or_path = config, config._name_or_path


def layers():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.layers, self.accuracy = layers(), Metric()

    def forward(self, x):
        return self._hparams["scale"] * self.layers(x)

    def train_some(self):
        self._trainer, self._current_fx_name = Trainer(), "training_step"
        self._trainer.losses.append(0.5)
        self._metric_attributes = {id(self.accuracy): "accuracy"}
        self.accuracy.total += 1
        self.accuracy._update_count = 7


class ImageModel(PreTrainedModel):
    def __init__(self):
        super().__init__(PreTrainedConfig())
        self.layers = layers()

    def forward(self, x):
        return self.config.scale * self.layers(x)

    def train_some(self):
        self.config.problem_type, self.config.use_cache = "single_label_classification", False
        self.config._name_or_path = self.name_or_path = "checkpoint-12"
        self.config.architectures, self.config.dtype = ["ImageModel"], torch.float32
        self._is_accelerate_prepared = True
        self.layers[0]._is_hf_initialized = True


class WithoutHyperparameters(Classifier):
    """Its hyperparameters are there once the trainer has asked for them."""

    def __init__(self):
        super().__init__()
        del self._hparams

    def forward(self, x):
        return self.layers(x)

    def train_some(self):
        super().train_some()
        self._hparams = {}


class OfTheUser(nn.Module):
    """One that keeps its optimiser, and has a trainer that is none."""

    def __init__(self):
        super().__init__()
        self.layers, self._trainer = layers(), 1.0

    def forward(self, x):
        return self._trainer * self.layers(x)

    def train_some(self):
        self.optimizer = torch.optim.Adam(self.parameters())
        self.layers(torch.ones(2, 6)).sum().backward()
        self.optimizer.step()
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1)


@of_library("accelerate.hooks")
class AlignDevicesHook:
    """Moves inputs to the device on which the weights of a module lie."""

    def __init__(self, device):
        self.execution_device = device


def dispatched(network, forward=None):
    """What accelerate makes of a network: each module moves its inputs, and forward is replaced."""
    network.hf_device_map = {"": "cpu"}
    if forward is not None:
        network.forward = forward
    for module in network.modules():
        module._old_forward, module._hf_hook = module.forward, AlignDevicesHook("cpu")
        module.forward = functools.partial(lambda module, x: module._old_forward(x), module)
    network.to = functools.partial(print, "You should not move it.")
    return network


class Dispatched(OfTheUser):
    def train_some(self):
        super().train_some()
        dispatched(self)


NETWORKS = [Dispatched, Classifier, WithoutHyperparameters, ImageModel, OfTheUser]
X = np.random.default_rng(0).normal(size=(160, 6)).astype(np.float32)


def trained(make):
    torch.manual_seed(0)
    network = make().eval()
    network.train_some()
    return network


@pytest.mark.parametrize("make", NETWORKS)
def test_a_network_that_was_trained_here_is_loaded_elsewhere(make, tmp_path):
    monitor = make_monitor(trained(make)).fit(X[:100]).calibrate(X[100:])
    monitor.save(tmp_path / "saved")
    loaded = skood.load(tmp_path / "saved", make)
    np.testing.assert_array_equal(loaded.score_samples(X), monitor.score_samples(X))
    loaded.save(tmp_path / "again")
    again = skood.load(tmp_path / "again", monitor.network)
    np.testing.assert_array_equal(again.score_samples(X), monitor.score_samples(X))


@pytest.mark.parametrize("make", [Classifier, ImageModel])
def test_what_a_library_notes_later_is_no_change(make):
    network = make().eval()
    monitor = make_monitor(network).fit(X)
    expected = monitor.score_samples(X)
    network.train_some()
    np.testing.assert_array_equal(monitor.score_samples(X), expected)


CHANGES = {
    "hyperparameter": (Classifier, lambda net: net._hparams.update(scale=2.0)),
    "configuration": (ImageModel, lambda net: setattr(net.config, "scale", 2.0)),
    "of the same name": (OfTheUser, lambda net: setattr(net, "_trainer", 2.0)),
}


@pytest.mark.parametrize(("make", "change"), CHANGES.values(), ids=CHANGES)
def test_what_a_pass_reads_counts(make, change, tmp_path):
    network = trained(make)
    monitor = make_monitor(network).fit(X)
    monitor.save(tmp_path / "saved")

    def changed():
        network = make()
        change(network)
        return network

    with pytest.raises(ValueError, match=r"code, settings or hooks \((_hparams|config|_trainer)\)"):
        skood.load(tmp_path / "saved", changed)
    change(network)
    with pytest.raises(ValueError, match="not what it was in fit"):
        monitor.score_samples(X)


def test_a_forward_of_the_user_counts_also_behind_accelerate():
    torch.manual_seed(0)
    network = layers().eval()
    before = adapt(network).fingerprint()
    twice = dispatched(layers().eval(), forward=lambda x: 2 * nn.Sequential.forward(twice, x))
    twice.load_state_dict(network.state_dict())
    assert adapt(dispatched(network)).fingerprint().digest == before.digest
    assert adapt(twice).fingerprint().settings.keys() - before.settings.keys() == {".forward"}


def test_weights_that_are_elsewhere_are_refused_in_words_that_help():
    network = layers().eval()
    network[2].to("meta")
    with pytest.raises(ValueError, match=r"on the device 'meta'.*device_map"):
        make_monitor(network).fit(X)


def test_hooks_of_gradients_leave_no_trace_once_they_are_gone():
    network = layers()
    before = adapt(network).fingerprint().digest
    network[0].register_full_backward_hook(lambda module, into, out: None).remove()
    assert network[0]._is_full_backward_hook
    assert adapt(network).fingerprint().digest == before
