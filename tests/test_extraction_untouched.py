"""Reading leaves no mark on a torch network."""

import copy
import random
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import (
    FunctionalCNN,
    ResNet,
    SharedReLU,
    TextNet,
    assert_head_yields_logits,
    cnn,
    extract,
    images,
    run,
    untouched,
    vectors,
)
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skood import ActivationExtractor, PoolingReducer


def prepare(network):
    """A network in the middle of its life: mixed modes, frozen weights, gradients, a hook."""
    modules = list(network.modules())
    for number, module in enumerate(modules):
        module.training = number % 2 == 0
    parameters = list(network.parameters())
    parameters[0].requires_grad_(False)
    for parameter in parameters[1:]:
        parameter.grad = torch.randn_like(parameter)
    modules[1].register_forward_hook(lambda module, args, output: None)
    return network


NETWORKS = {
    "cnn": (cnn, images()),
    "functional": (FunctionalCNN, images()),
    "shared": (SharedReLU, vectors()),
    "residual": (ResNet, images()),
    "text": (TextNet, np.random.default_rng(0).integers(20, size=(11, 5))),
}


@pytest.mark.parametrize(("make", "X"), NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("layers", ["auto", "all"])
def test_network_is_left_as_it_was(make, X, layers):
    network = prepare(make())
    extractor = ActivationExtractor(network, layers, batch_size=4)
    with untouched(network):
        extractor.fit(X)
        extractor.transform(X)
        extractor.fit_transform(X)
        copy.deepcopy(extractor).transform(X)


class Failing(nn.Module):
    """Draws random numbers and then fails, from the given call on."""

    def __init__(self, n_calls):
        super().__init__()
        self.n_calls = n_calls

    def forward(self, x):
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        self.n_calls -= 1
        if self.n_calls < 0:
            raise RuntimeError("out of order")
        return x


@pytest.mark.parametrize("n_calls", [0, 1, 2])
@pytest.mark.parametrize("layers", ["auto", ["0.relu[1]"]])
def test_network_is_left_as_it_was_when_it_fails(n_calls, layers):
    network = prepare(nn.Sequential(FunctionalCNN(), Failing(n_calls), nn.ReLU()))
    with untouched(network), pytest.raises(RuntimeError, match="out of order"):
        ActivationExtractor(network, layers, batch_size=6).fit_transform(images())


class Refusing(PoolingReducer):
    def pool_layers(self, layers):
        raise ArithmeticError("cannot pool")


def test_network_is_left_as_it_was_when_the_reducer_fails():
    network = prepare(FunctionalCNN())
    extractor = ActivationExtractor(network, "relu*").fit(images())
    extractor.reducer = Refusing()
    with untouched(network), pytest.raises(ArithmeticError):
        extractor.transform(images())


def test_network_is_left_as_it_was_when_inputs_are_refused():
    network, X = prepare(cnn()), images()
    extractor = ActivationExtractor(network, batch_size=4).fit(X)
    X[-1, 0, 0, 0] = np.nan
    with untouched(network):
        with pytest.raises(ValueError, match="NaN"):
            extractor.transform(X)
        with pytest.raises(ValueError, match="known are"):
            ActivationExtractor(network, "nothing").fit(images())


class Writing(nn.Module):
    """Writes to its buffers in every pass, and makes new ones."""

    def __init__(self):
        super().__init__()
        self.register_buffer("counted", torch.zeros(3))
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("missing", None)
        self.embedding = nn.Embedding(20, 4, max_norm=0.1)
        self.relu = nn.ReLU()

    def forward(self, x):
        self.counted += 1
        self.replaced = self.replaced + 1
        self.missing = torch.ones(1)
        self.register_buffer("new", torch.ones(1))
        return self.relu(self.embedding(x))


def test_what_the_forward_pass_writes_is_undone():
    network = prepare(Writing())
    with untouched(network):
        extract(network, np.random.default_rng(0).integers(20, size=(11, 5)))


def test_weights_that_are_computed_on_the_way_are_left_as_they_were():
    network = nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(), nn.utils.parametrizations.spectral_norm(nn.Linear(5, 3))
    )
    with untouched(network.train()):
        A = extract(network, vectors())
    assert_array_equal(A.head.weight, network.eval()[2].weight.detach())
    assert_head_yields_logits(A)


def test_random_numbers_drawn_on_the_way_are_given_back():
    network = nn.Sequential(Failing(10**6), nn.ReLU())
    dataset = torch.utils.data.TensorDataset(torch.tensor(vectors()))
    with untouched(network):
        extract(network, torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True))


def test_hooks_of_the_user_are_called_and_heeded():
    network, calls = cnn(), []
    network[2].register_forward_pre_hook(lambda module, args: (2 * args[0],))
    network[4].register_forward_hook(lambda module, args, output: calls.append(1) or output + 1)
    A = extract(network, images(), ["1", "2", "4"], batch_size=4)
    assert len(calls) == 1 + 3
    assert_allclose(A["2"], run(cnn()[2], 2 * A["1"]), rtol=1e-4, atol=1e-5)
    assert A["4"].min() == 1


def test_pending_backward_pass_still_works():
    network = cnn().train()
    loss = network(torch.tensor(images())).sum()
    extract(network, images())
    loss.backward()
    assert network[0].weight.grad is not None


class Caching(nn.Module):
    """Keeps a tensor that it made in its first pass."""

    def __init__(self):
        super().__init__()
        self.fc, self.relu, self.table = nn.Linear(6, 3), nn.ReLU(), None

    def forward(self, x):
        if self.table is None:
            self.table = torch.ones(3)
        return self.relu(self.fc(x) * self.table)


def test_network_can_be_trained_after_it_cached_something():
    network = Caching()
    extract(network, vectors())
    network(torch.tensor(vectors())).sum().backward()
    assert network.fc.weight.grad is not None


def test_no_gradients_are_recorded_even_where_the_network_turns_them_on():
    class Enabling(nn.Module):
        def forward(self, x):
            with torch.enable_grad():
                return F.relu(x.requires_grad_() * 2)

    A = extract(nn.Sequential(Enabling(), nn.ReLU()), vectors())
    assert_array_equal(A["0.relu"], A["1"])


def test_inputs_are_left_as_they_were():
    X = vectors()
    network = nn.Sequential(nn.ReLU(inplace=True))
    for inputs in (X, torch.tensor(X), {"input": X}):
        before = copy.deepcopy(inputs)
        extract(network, inputs)
        after = inputs["input"] if isinstance(inputs, dict) else inputs
        assert_array_equal(after, before["input"] if isinstance(before, dict) else before)


def test_two_extractors_on_one_network_do_not_disturb_each_other():
    network, X, other = cnn(), images(), images(seed=1)
    first, second = ActivationExtractor(network).fit(X), ActivationExtractor(network, ["0", "7"])
    alone = first.transform(X)
    second.fit_transform(other)
    assert_array_equal(np.asarray(first.transform(X)), np.asarray(alone))


def test_threads_that_share_a_network_do_not_disturb_each_other():
    network = FunctionalCNN()
    inputs = [images(20, seed=seed) for seed in range(4)]
    expected = [np.asarray(extract(network, X)) for X in inputs]
    found = [None] * 4

    def work(number):
        found[number] = np.asarray(extract(network, inputs[number], batch_size=2))

    with untouched(network):
        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for array, other in zip(found, expected, strict=True):
        assert_allclose(array, other, rtol=1e-4, atol=1e-5)
