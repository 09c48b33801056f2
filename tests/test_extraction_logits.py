"""The logits and the head of torch networks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import Returning, assert_head_yields_logits, cnn, extract, images, run, vectors
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skood import PercentileBinarizer, PoolingReducer


def test_logits_predictions_and_head_are_those_of_the_network():
    network, X = cnn(), images()
    A = extract(network, X, batch_size=4)
    logits = run(network, X)
    assert_allclose(A.logits, logits, rtol=1e-5, atol=1e-6)
    assert_array_equal(A.predictions, logits.argmax(1))
    assert A.head.input_layer == "7"
    assert_array_equal(A.head.weight, network[9].weight.detach())
    assert_head_yields_logits(A)


def test_head_is_a_copy():
    network = cnn()
    A = extract(network, images())
    A.head.weight[:] = 7
    A.head.bias[:] = 7
    assert not (network[9].weight == 7).any()
    assert not (network[9].bias == 7).any()


def test_input_of_the_head_that_is_no_other_layer_is_added():
    network = nn.Sequential(*cnn()[:6], nn.Linear(96, 3, bias=False))
    A = extract(network, images())
    assert A.layer_names == ("1", "4", "penultimate")
    assert_array_equal(A["penultimate"], A["4"].reshape(11, -1))
    assert A.head.input_layer == "penultimate"
    assert_array_equal(A.head.bias, 0)
    assert_head_yields_logits(A)


def test_values_overwritten_before_the_head_are_not_its_input():
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))
    assert extract(network, vectors(), ["0"]).head.input_layer is None
    assert extract(network, vectors(), ["0", "1"]).head.input_layer == "1"


class Scaling(nn.Module):
    """Changes its features in place, by no function that is listened to."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.relu, self.out = nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.relu(self.fc(x)).mul_(2))


def test_features_changed_in_place_are_told_from_the_activations():
    A = extract(Scaling(), vectors())
    assert A.layer_names == ("relu", "penultimate")
    assert_array_equal(A["penultimate"], 2 * A["relu"])
    assert_head_yields_logits(A)


def test_module_may_be_called_penultimate():
    network = nn.Sequential()
    network.add_module("penultimate", nn.Linear(6, 5))
    network.add_module("act", nn.Sequential(nn.ReLU(), nn.Dropout()))
    network.add_module("out", nn.Linear(5, 3))
    A = extract(network, vectors(), ["penultimate", "penultimate_input"])
    assert_array_equal(np.maximum(A["penultimate"], 0), A["penultimate_input"])
    assert_head_yields_logits(A)


def test_head_knows_no_input_that_is_not_extracted_or_was_reduced():
    network, X = cnn(), images()
    assert extract(network, X, ["1"]).head.input_layer is None
    assert extract(network, X, reducer=PoolingReducer()).head.input_layer == "7"
    assert extract(network, X, reducer=PercentileBinarizer(), layers=["7"]).head.input_layer is None


ENDINGS = [
    *(nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()),
    *(lambda z: F.softmax(z, 1), lambda z: z.log_softmax(1), torch.sigmoid),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=range(len(ENDINGS)))
def test_logits_are_what_goes_into_a_last_softmax_or_sigmoid(ending):
    network, X = Returning(ending), vectors()
    A = extract(network, X, batch_size=4)
    assert A.layer_names == ("relu",)
    assert_allclose(ending(torch.tensor(A.logits)), run(network, X), rtol=1e-5, atol=1e-6)
    assert not np.allclose(A.logits, run(network, X))
    assert_head_yields_logits(A)


class Output(dict):
    """As the transformers library returns: a mapping with attributes."""

    __getattr__ = dict.__getitem__


PACKS = {
    "tuple": lambda z: (z, z.mean(1)),
    "nested": lambda z: [(z,), 1],
    "mapping": lambda z: {"loss": z.mean(), "logits": z, "other": 2 * z},
    "unnamed": lambda z: {"loss": z.mean(), "maps": z[:, :, None], "scores": z, "other": 2 * z},
    "attributes": lambda z: Output(hidden=2 * z, logits=z),
    "object": lambda z: SimpleNamespace(hidden=2 * z, logits=z),
    "unnamed object": lambda z: SimpleNamespace(loss=z.mean(), scores=z),
}


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_logits_are_found_in_what_a_network_returns(pack):
    A = extract(Returning(pack), vectors(), batch_size=4)
    expected = extract(Returning(lambda z: z), vectors(), batch_size=4)
    assert_array_equal(A.logits, expected.logits)
    assert_head_yields_logits(A)


NO_LOGITS = {
    "one column": (lambda z: z, 1),
    "vector": (lambda z: z[:, 0], 1),
    "maps": (lambda z: z[:, :, None], 3),
    "integers": (lambda z: z.argmax(1, keepdim=True).expand(-1, 2), 3),
    "nothing": (lambda z: None, 3),
}


@pytest.mark.parametrize(("pack", "n_outputs"), NO_LOGITS.values(), ids=NO_LOGITS)
def test_other_outputs_are_no_logits(pack, n_outputs):
    A = extract(Returning(pack, n_outputs), vectors())
    assert A.layer_names == ("relu",)
    assert A.logits is A.predictions is A.head is A.classes is None


def test_outputs_of_one_sample_each_are_no_logits_of_all():
    """As networks that detect objects return them: boxes and scores, in a list."""
    network = Returning(lambda z: [{"scores": row[None]} for row in z], 3)
    said = (
        "logits must have a row for each sample, but has 1 rows after 11 samples: name the output"
    )
    with pytest.raises(ValueError, match=said):
        extract(network, vectors())
    rows = extract(network, vectors(), logits=lambda out: torch.cat([one["scores"] for one in out]))
    assert_array_equal(rows.logits, extract(Returning(lambda z: z), vectors()).logits)


def test_network_without_a_linear_output_has_no_head():
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.Hardtanh())
    A = extract(network, vectors())
    assert A.layer_names == ("1",)
    assert A.head is None
    assert_allclose(A.logits, extract(network, vectors(), "3")["3"])
