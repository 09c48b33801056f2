"""Gradients at the layers: of torch networks and perceptrons, and without leaving a mark."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import (
    N_CLASSES,
    Counting,
    FunctionalCNN,
    Returning,
    Rows,
    SharedReLU,
    TextNet,
    assert_same,
    cnn,
    extract,
    images,
    trained_perceptron,
    untouched,
    vectors,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skood import ActivationExtractor, Activations, PoolingReducer
from skood.activations import Column

WORDS = np.random.default_rng(0).integers(20, size=(11, 5))


def divergence(logits):
    """KL(uniform || softmax) of each sample, up to a constant."""
    return -log_softmax(np.asarray(logits, dtype=np.float64), axis=1).mean(axis=1)


def closed_form(A):
    """The gradient at the layer that the head reads."""
    return (softmax(A.logits.astype(np.float64), axis=1) - 1 / A.logits.shape[1]) @ A.head.weight


def finite_differences(function, values, step=1e-6):
    """Gradient, with respect to values, of a function that yields a number for each sample."""
    units = step * np.eye(values[0].size).reshape(-1, 1, *values.shape[1:])
    above, below = (
        function(moved.reshape(-1, *values.shape[1:])).reshape(-1, len(values))
        for moved in (values + units, values - units)
    )
    return ((above - below) / (2 * step)).T.reshape(values.shape)


def rest_of(network, start):
    """The divergence as a function of what a part of a sequential network is given."""

    def compute(values):
        with torch.no_grad():
            # Copied: a part may overwrite its input.
            logits = copy.deepcopy(network[start:]).eval()(torch.tensor(values))
        return divergence(logits)

    return compute


def as_perceptron(network, **params):
    """A perceptron with the weights of the linear layers of a torch network."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    hidden = [module.out_features for module in linear[:-1]]
    X, y = np.zeros((N_CLASSES, linear[0].in_features)), np.arange(N_CLASSES)
    mlp = trained_perceptron(X, y, hidden, n_steps=1, **params)
    mlp.coefs_ = [module.weight.detach().numpy().T for module in linear]
    mlp.intercepts_ = [module.bias.detach().numpy() for module in linear]
    return mlp


def dense(activation=nn.ReLU):
    """A torch network that a perceptron can be like."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(6, 5), activation(), nn.Linear(5, 4), activation(), nn.Linear(4, N_CLASSES)
    )
    return network.double()


@pytest.mark.parametrize("layer", [0, 1, 2, 3, 4, 6, 7, 8, 9])
def test_gradient_is_that_of_finite_differences(layer):
    network, X = cnn().double(), images(3, dtype=np.float64)
    A = extract(network, X, str(layer), gradients=True)
    expected = finite_differences(rest_of(network, layer + 1), A[str(layer)])
    assert_allclose(A[f"{layer}:gradient"], expected, atol=1e-8)


@pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
def test_perceptron_has_the_gradients_of_the_same_torch_network(activation):
    modules = {"identity": nn.Identity, "logistic": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}
    network, X = dense(modules[activation]), vectors(dtype=np.float64)
    A = extract(network, X, ["1", "3"], gradients=True)
    B = extract(as_perceptron(network, activation=activation), X, gradients=True)
    assert B.layer_names == ("hidden_0", "hidden_0:gradient", "hidden_1", "hidden_1:gradient")
    for (_, array), (_, other) in zip(A.items(), B.items(), strict=True):
        assert_allclose(array, other, rtol=1e-9, atol=1e-12)
    assert_allclose(B["hidden_1:gradient"], closed_form(B), rtol=1e-9)


def test_two_classes_of_one_output_have_two_logits():
    X = vectors(40, dtype=np.float64)
    mlp = trained_perceptron(X, X[:, 0] > 0, (5, 4))
    A = extract(mlp, X, gradients=True)
    assert_allclose(A["hidden_1:gradient"], closed_form(A), rtol=1e-9)


def test_gradient_at_the_features_is_that_of_the_reference(golden):
    shared, expected = golden("inputs"), golden("nac_ue")
    head = nn.Linear(*shared["W"].shape[::-1])
    with torch.no_grad():
        head.weight.copy_(torch.tensor(shared["W"]))
        head.bias.copy_(torch.tensor(shared["b"]))
    network = nn.Sequential(nn.Identity(), head)
    for part in ("train", "eval"):
        wanted = expected[f"grad_features_{part}"]
        X = shared[f"features_{part}"][: len(wanted)]
        A = extract(network, X, "0", gradients=True)
        assert_allclose(A["0:gradient"], wanted, rtol=1e-5, atol=1e-6)


def test_gradients_follow_their_layers():
    extractor = ActivationExtractor(cnn(), ["7", "1"], gradients=True)
    A = extractor.fit_transform(images())
    assert A.layer_names == ("1", "1:gradient", "7", "7:gradient")
    assert A.layer_shapes["1:gradient"] == A.layer_shapes["1"]
    assert extractor.layers_ == ["1", "7"]
    assert A["1:gradient"].dtype == np.float32


@pytest.mark.parametrize(
    ("make", "X", "layers"),
    [(cnn, images(), "all"), (SharedReLU, vectors(), "all"), (TextNet, WORDS, "auto")],
)
def test_values_and_logits_are_those_without_gradients(make, X, layers):
    network = make()
    plain = extract(network, X, layers)
    A = extract(network, X, layers, gradients=True)
    assert_same(A[list(plain.layer_names)], plain, rtol=1e-5, atol=1e-6)
    assert A.head.input_layer == plain.head.input_layer


def test_values_of_a_sample_do_not_depend_on_its_batch():
    whole = extract(cnn(), images(), "all", gradients=True)
    for batch_size in (1, 4):
        A = extract(cnn(), images(), "all", gradients=True, batch_size=batch_size)
        assert_same(A, whole, rtol=1e-4, atol=1e-6)


class Overwriting(nn.Module):
    """Adds to the input, to a dense layer and to an activation, in place."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.tanh, self.out = nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, N_CLASSES)

    def forward(self, x):
        x.mul_(2)
        h = self.fc(x)
        h += 1
        h = self.tanh(h).clone()
        h *= 3
        return self.out(h)


def test_what_is_overwritten_later_keeps_its_value_and_gradient():
    X = vectors()
    A = extract(Overwriting(), X, "all", gradients=True)
    at_tanh = 3 * closed_form(A)
    assert_allclose(A["penultimate"], 3 * A["tanh"], rtol=1e-6)
    assert_allclose(A["tanh"], np.tanh(A["fc"] + 1), rtol=1e-5)
    assert_allclose(A["penultimate:gradient"], closed_form(A), rtol=1e-4, atol=1e-7)
    assert_allclose(A["tanh:gradient"], at_tanh, rtol=1e-4, atol=1e-7)
    assert_allclose(A["fc:gradient"], at_tanh * (1 - A["tanh"] ** 2), rtol=1e-4, atol=1e-6)
    assert_array_equal(X, vectors())


@pytest.mark.parametrize("pooling", ["sum", "avg", ["max", "sum"]])
def test_reducers_are_given_gradients_like_other_layers(pooling):
    reducer = PoolingReducer(pooling=pooling)
    A = extract(cnn(), images(), reducer=reducer, gradients=True, batch_size=4)
    expected = reducer.fit_transform(extract(cnn(), images(), gradients=True))
    assert_same(A, expected, rtol=1e-4, atol=1e-6)
    several = ("1:max", "1:sum", "1:gradient:max", "1:gradient:sum")
    assert A.layer_names[:4] == (several if len(pooling) == 2 else expected.layer_names[:4])


def test_other_reducers_see_gradients_after_their_layers():
    seen = set()
    reducer = FunctionTransformer(lambda A: seen.add(A.layer_names) or A)
    A = extract(cnn(), images(), ["1", "7"], reducer=reducer, gradients=True, batch_size=4)
    assert A.layer_names == ("1", "1:gradient", "7", "7:gradient")
    assert seen == {A.layer_names}


def test_layers_behind_the_logits_are_refused():
    network = nn.Sequential(*cnn(), nn.Softmax(dim=1))
    with pytest.raises(ValueError, match=r"No gradient.*\['10'\]: they come after the logits"):
        extract(network, images(), "all", gradients=True)
    mlp = as_perceptron(dense())
    with pytest.raises(ValueError, match=r"No gradient.*\['output'\]"):
        extract(mlp, vectors(), "all", gradients=True)


class Cutting(nn.Module):
    """Lets no gradient through."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, x):
        if self.way == "detach":
            return x.detach()
        with torch.no_grad():
            return x * 2


@pytest.mark.parametrize("way", ["detach", "no_grad"])
@pytest.mark.parametrize("frozen", [False, True])
def test_layers_that_the_network_detaches_are_refused(way, frozen):
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), Cutting(way), nn.Linear(5, N_CLASSES))
    network.requires_grad_(not frozen)
    with untouched(network):
        with pytest.raises(ValueError, match=r"No gradient.*\['1'\].*detaches"):
            extract(network, vectors(), "1", gradients=True)
        with pytest.raises(ValueError, match=r"No gradient.*\['1'\].*detaches"):
            extract(nn.Sequential(*network, Cutting(way)), vectors(), "1", gradients=True)


def test_layers_after_a_detached_part_have_gradients():
    network = nn.Sequential(Cutting("detach"), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, N_CLASSES))
    network.requires_grad_(False)
    A = extract(network, vectors(), "2", gradients=True)
    assert_allclose(A["2:gradient"], closed_form(A), rtol=1e-4, atol=1e-7)


def test_a_layer_whose_gradient_is_lost_when_it_is_overwritten_is_refused():
    network = nn.Sequential(
        nn.Linear(6, 5), nn.Unflatten(1, (5, 1)), nn.Flatten(), nn.ReLU(inplace=True)
    )
    with pytest.raises(ValueError, match=r"\['2'\].*overwritten"):
        extract(network, vectors(), ["2"], gradients=True)


def test_a_layer_part_of_whose_gradient_is_lost_is_refused():
    class Parting(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.flatten = nn.Linear(6, N_CLASSES), nn.Flatten()

        def forward(self, x):
            h = self.flatten(self.fc(x).unsqueeze(2))
            before = h + 1
            h *= 2
            return before + h

    with pytest.raises(ValueError, match=r"\['flatten'\].*overwritten"):
        extract(Parting(), vectors(), ["flatten"], gradients=True)


def test_networks_without_logits_are_refused():
    X = vectors(40, dtype=np.float64)
    mlp = trained_perceptron(X, X[:, 0], kind=MLPRegressor)
    for network in (mlp, Returning(torch.sigmoid, 1)):
        with pytest.raises(ValueError, match="gradients=True needs the logits"):
            ActivationExtractor(network, gradients=True).fit(vectors())


NETWORKS = {
    "cnn": (cnn, images()),
    "functional": (FunctionalCNN, images()),
    "text": (TextNet, WORDS),
    "mapping": (TextNet, {"x": WORDS}),
}


@pytest.mark.parametrize(("make", "X"), NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_network_is_left_as_it_was(make, X, frozen, mode):
    network = make().train().requires_grad_(not frozen)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    expected = extract(network, X, gradients=True)
    with mode(), untouched(network):
        A = extract(network, X, gradients=True, batch_size=4)
    assert_same(A, expected, rtol=1e-4, atol=1e-6)


def test_network_is_left_as_it_was_when_the_reducer_fails():
    class Refusing(PoolingReducer):
        def pool_layers(self, layers):
            raise ArithmeticError("cannot pool")

    network = cnn().train().requires_grad_(False)
    extractor = ActivationExtractor(network, gradients=True).fit(images())
    extractor.reducer = Refusing()
    with untouched(network), pytest.raises(ArithmeticError):
        extractor.transform(images())


class Writing(nn.Module):
    """Counts in its buffers, and uses what it counted."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))
        self.fc = nn.Linear(6, N_CLASSES)

    def forward(self, x):
        h = F.relu(x * 2)
        self.total += 0 * h.sum()
        self.replaced = self.replaced + 0 * h.sum()
        return self.fc(h) + self.total + self.replaced


def test_buffers_hold_no_gradients_afterwards():
    network = Writing()
    with untouched(network):
        A = extract(network, vectors(), "relu", gradients=True, batch_size=4)
    slope = softmax(A.logits.astype(np.float64), axis=1) - 1 / N_CLASSES
    expected = slope @ network.fc.weight.detach().numpy()
    assert_allclose(A["relu:gradient"], expected, rtol=1e-4, atol=1e-6)


def test_inputs_are_left_as_they_were():
    for X in (vectors(), torch.tensor(vectors()), {"x": torch.tensor(vectors())}):
        before = copy.deepcopy(X)
        extract(Overwriting(), X, gradients=True)
        after, before = (given["x"] if isinstance(given, dict) else given for given in (X, before))
        assert_array_equal(after, before)
        assert not getattr(after, "requires_grad", False)


def test_inputs_made_in_inference_mode_serve_too():
    network = cnn()
    expected = extract(network, images(), gradients=True)
    with torch.inference_mode():
        X = torch.tensor(images())
    assert_same(extract(network, X, gradients=True), expected, rtol=1e-5, atol=1e-6)
    with torch.inference_mode():
        assert_same(extract(network, X, gradients=True), expected, rtol=1e-5, atol=1e-6)


def test_half_precision_has_gradients_of_single_precision():
    exact = extract(cnn(), images(), gradients=True)
    A = extract(cnn().bfloat16(), images(), gradients=True)
    assert A["7:gradient"].dtype == np.float32
    assert_allclose(A["7:gradient"], exact["7:gradient"], atol=0.03)


WITH_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=WITH_CUDA)])
def test_recurrent_networks_have_gradients(device):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.lstm, self.out = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, N_CLASSES)

        def forward(self, x):
            return self.out(self.lstm(x)[0][:, -1])

    network = Recurrent().to(device)
    X = np.random.default_rng(0).normal(size=(7, 4, 6))
    with untouched(network):
        A = extract(network, X, ["lstm", "penultimate"], gradients=True)
    assert_allclose(A["penultimate:gradient"], closed_form(A), rtol=1e-4, atol=1e-7)
    assert_array_equal(A["lstm:gradient"][:, -1], A["penultimate:gradient"])
    assert not A["lstm:gradient"][:, :-1].any()


def test_data_sets_serve_too():
    A = extract(cnn(), Rows(images()), gradients=True, batch_size=4)
    assert_same(A, extract(cnn(), images(), gradients=True), rtol=1e-4, atol=1e-6)


def test_network_runs_once():
    network = Counting(cnn())
    extractor = ActivationExtractor(network, gradients=True, batch_size=4).fit(images())
    network.seen.clear()
    extractor.transform(images())
    assert network.seen == [4, 4, 3]


@pytest.mark.parametrize("pooling", ["sum", ["max", "sum"]])
@pytest.mark.parametrize("fit_on", ["inputs", "unreduced", "reduced"])
def test_one_pipeline_serves_inputs_and_activations(pooling, fit_on):
    network, X = cnn(), images()
    extractor = ActivationExtractor(
        network, ["1", "7"], reducer=PoolingReducer(pooling=pooling), gradients=True
    )
    given = {
        "inputs": X,
        "unreduced": extract(network, X, gradients=True),
        "reduced": clone(extractor).fit_transform(X),
    }
    extractor.fit(given[fit_on])
    assert extractor.layers_ == ["1", "7"]
    for inputs in given.values():
        assert_same(extractor.transform(inputs), given["reduced"], rtol=1e-4, atol=1e-6)


def test_gradients_that_are_not_wanted_are_left_out():
    A = extract(cnn(), images(), gradients=True)
    for layers in ("auto", ["1", "4", "7"]):
        extractor = ActivationExtractor(cnn(), layers)
        assert extractor.fit_transform(A).layer_names == ("1", "4", "7")
        assert extractor.transform(images()).layer_names == ("1", "4", "7")
    with pytest.raises(ValueError, match=r"No layers match \['1:gradient'\]"):
        ActivationExtractor(cnn(), "1:gradient").fit(A)


def test_activations_that_lack_gradients_are_refused():
    A = extract(cnn(), images())
    extractor = ActivationExtractor(cnn(), ["1"], gradients=True)
    with pytest.raises(ValueError, match=r"needs the gradients of the layers \['1'\], but X has"):
        extractor.fit(A)
    with pytest.raises(ValueError, match=r"X has no layers \['1:gradient'\]"):
        extractor.fit(images()).transform(A)
    only = Activations({"1:gradient": Column(A["1"], layer="1", kind="gradient")})
    with pytest.raises(ValueError, match="No layers match"):
        ActivationExtractor(cnn()).fit(only)


def test_cache_goes_by_gradients(tmp_path):
    network = Counting(cnn())
    plain = ActivationExtractor(network, memory=str(tmp_path))
    plain.fit_transform(images())
    extractor = clone(plain).set_params(gradients=True)
    A = extractor.fit_transform(images())
    network.seen.clear()
    assert_same(extractor.transform(images()), A)
    assert network.seen == []
    assert plain.transform(images()).layer_names == ("network.1", "network.4", "network.7")


class Probe(nn.Module):
    """A linear layer on features that no gradient goes through."""

    def __init__(self, read):
        super().__init__()
        torch.manual_seed(0)
        self.read = read
        self.backbone = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.read(self, x)


def without_gradients(net, x):
    with torch.no_grad():
        h = net.backbone(x)
    return net.head(h)


PROBES = {
    "no_grad": without_gradients,
    "detach": lambda net, x: net.head(net.backbone(x).detach()),
    "scaled": lambda net, x: net.head(net.backbone(x).detach()) / 2,
    "all without": torch.no_grad()(lambda net, x: net.head(net.backbone(x))),
    "mean": lambda net, x: net.head(net.backbone(torch.stack([x, x], 1)).detach()).mean(1),
}


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("layers", ["auto", ["penultimate"]])
def test_input_of_a_head_on_detached_features_has_its_gradient(name, layers):
    network, X = Probe(PROBES[name]), vectors()
    if layers == "auto" and name in ("detach", "scaled", "mean"):
        # The activation function comes before what is detached.
        with pytest.raises(ValueError, match=r"reaches the layers \['backbone\.1'\]"):
            ActivationExtractor(network, gradients=True).fit(X)
        return
    A = ActivationExtractor(network, layers, gradients=True).fit_transform(X)
    scale = 0.5 if name == "scaled" else 1.0
    with torch.no_grad():
        wanted = scale * (network(torch.tensor(X)).softmax(1) - 1 / 3) @ network.head.weight
    assert_allclose(A[f"{A.head.input_layer}:gradient"], wanted, atol=1e-6)


def test_other_layers_before_detached_features_have_none():
    with pytest.raises(ValueError, match=r"reaches the layers \['backbone\.0'\]"):
        ActivationExtractor(
            Probe(without_gradients), ["backbone.0", "penultimate"], gradients=True
        ).fit(vectors())
