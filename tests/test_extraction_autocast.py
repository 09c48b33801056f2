"""Automatic mixed precision is off while a network is read, unless it is wanted."""

import numpy as np
import pytest
import torch
from _networks import assert_same, cnn, extract, images, run, trained_perceptron, untouched, vectors
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from torch import nn

from skood import ActivationExtractor, make_monitor
from skood.extraction import ODIN

X = images()


def lower(network, dtype=torch.bfloat16):
    """What the network returns in automatic mixed precision."""
    with torch.autocast("cpu", dtype=dtype):
        return run(network, X).float().numpy()


def test_context_of_the_caller_makes_no_difference():
    network = cnn()
    expected = extract(network, X, "all")
    extractor = ActivationExtractor(network, "all").fit(X)
    monitor = make_monitor(network).fit(X)
    scores = monitor.score_samples(X)
    with torch.autocast("cpu"):
        assert_same(extractor.transform(X), expected, rtol=0)
        assert_same(extract(network, X, "all"), expected, rtol=0)
        assert_allclose(monitor.score_samples(X), scores, rtol=1e-9, atol=1e-9)
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("wanted", [True, "bfloat16", "torch.bfloat16", torch.bfloat16])
def test_it_can_be_turned_on(wanted):
    network = cnn()
    with untouched(network):
        A = extract(network, X, "all", autocast=wanted)
    assert_array_equal(A.logits, lower(network))
    assert A.logits.dtype == np.float32
    assert (A.logits != extract(network, X).logits).any()
    assert A.head.input_layer == "7"


def test_type_is_that_of_the_context_of_the_caller():
    network = cnn()
    with torch.autocast("cpu", dtype=torch.float16):
        half = extract(network, X, autocast=True).logits
        brain = extract(network, X, autocast="bfloat16").logits
    assert_array_equal(half, lower(network, torch.float16))
    assert_array_equal(brain, lower(network))


@pytest.mark.parametrize("wanted", [1, "float64", "half", torch.float32, None])
def test_what_is_no_type_to_cast_to_is_refused(wanted):
    with pytest.raises(ValueError, match=r"autocast must be True, False, or one of.*bfloat16"):
        ActivationExtractor(cnn(), autocast=wanted).fit(X)


def test_other_kinds_of_networks_refuse_it():
    mlp = trained_perceptron(vectors(), np.arange(11) % 3)
    with pytest.raises(ValueError, match="autocast=True is not known for a MLPClassifier"):
        ActivationExtractor(mlp, autocast=True).fit(vectors())


class Own(nn.Module):
    """Casts by itself."""

    def __init__(self):
        super().__init__()
        self.network = cnn()

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.network(x)


def test_what_the_network_casts_itself_stays():
    network = Own()
    assert_array_equal(extract(network, X).logits, lower(network.network))
    with torch.autocast("cpu", dtype=torch.float16):
        assert_array_equal(extract(network, X).logits, lower(network.network))


@pytest.mark.parametrize("make", [cnn, Own])
@pytest.mark.parametrize("wanted", [False, True])
def test_training_in_the_same_context_gets_its_gradients(make, wanted):
    network = make().train()
    with torch.autocast("cpu"):
        extract(network, X, autocast=wanted)
        network(torch.tensor(X)).float().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("params", [{"gradients": True}, {"perturbation": ODIN(0.1)}])
def test_gradients_and_perturbations_go_by_it(params):
    network = cnn()
    with untouched(network):
        A = extract(network, X, autocast=True, **params)
    plain = extract(network, X, **params)
    assert np.isfinite(A.logits).all()
    assert (A.logits != plain.logits).any()
    np.testing.assert_allclose(A.logits, plain.logits, atol=0.1)


def test_it_is_part_of_what_the_cache_goes_by(tmp_path):
    network = cnn()
    found = {
        wanted: extract(network, X, autocast=wanted, memory=str(tmp_path)).logits
        for wanted in (False, True, "float16", "bfloat16")
    }
    assert_array_equal(found[False], extract(network, X).logits)
    assert_array_equal(found[True], lower(network))
    assert_array_equal(found["float16"], lower(network, torch.float16))
    assert_array_equal(found["bfloat16"], found[True])
    extractor = ActivationExtractor(network, autocast=True, memory=str(tmp_path)).fit(X)
    with torch.autocast("cpu", dtype=torch.float16):
        assert_array_equal(clone(extractor).fit_transform(X).logits, found["float16"])


def test_skorch_nets_take_it():
    skorch = pytest.importorskip("skorch")
    net = skorch.NeuralNetClassifier(cnn, criterion=nn.CrossEntropyLoss).initialize()
    assert_array_equal(extract(net, X, autocast="bfloat16").logits, lower(net.module_))
