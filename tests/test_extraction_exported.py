"""Reading programs of torch.export, which call no modules."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import extract
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skood import ActivationExtractor, PoolingReducer, make_monitor
from skood.extraction import ODIN
from skood.networks import adapt, check_adapter

pytestmark = pytest.mark.filterwarnings(
    # torch's own, while it exports or copies a program.
    "ignore:.*LeafSpec:FutureWarning",
)

X = np.random.default_rng(0).normal(size=(11, 1, 8, 8)).astype(np.float32)


class Block(nn.Module):
    """A residual block that calls functions."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return F.relu(x + self.two(F.relu(self.norm(self.one(x)))))


class Network(nn.Module):
    """A network with modules that activate, and functions, and a module that is called twice."""

    def __init__(self, body):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body, self.twice = nn.Conv2d(1, 4, 3), body(), nn.Tanh()
        self.fc, self.drop, self.out = nn.Linear(144, 16), nn.Dropout(), nn.Linear(16, 3)

    def forward(self, x):
        x = self.twice(self.body(torch.relu(self.stem(x)))).flatten(1)
        return self.out(self.drop(self.twice(self.fc(x))))


def plain():
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))


def residual():
    return nn.Sequential(Block(), Block())


def export(network, n_rows=None):
    dynamic = ({0: torch.export.Dim("n")},) if n_rows is None else None
    example = torch.zeros(n_rows or 2, 1, 8, 8)
    return torch.export.export(network.eval(), (example,), dynamic_shapes=dynamic)


def saved(program):
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


FORMS = {
    "program": lambda network: export(network),
    "module": lambda network: export(network).module(),
    "decomposed": lambda network: export(network).run_decompositions(),
    "loaded": lambda network: saved(export(network)),
    "fixed size": lambda network: export(network, 4),
    "one row": lambda network: export(network, 1),
}


@pytest.mark.parametrize("body", [plain, residual])
@pytest.mark.parametrize("form", FORMS)
def test_a_program_gives_what_its_network_gives(form, body):
    network = Network(body).eval()
    program = FORMS[form](network)
    A, expected = extract(program, X, "all"), extract(network, X, "all")
    assert set(expected.layer_names) <= set(A.layer_names)
    for name in expected.layer_names:
        assert_allclose(A[name], expected[name], atol=1e-6)
    assert_allclose(A.logits, expected.logits, atol=1e-6)
    assert_array_equal(A.head.weight, expected.head.weight)
    assert A.head.input_layer == "twice[1]" or form == "decomposed"
    auto = ActivationExtractor(program).fit(X).layers_
    assert set(auto) >= set(ActivationExtractor(network).fit(X).layers_)
    check_adapter(adapt(program), X)


@pytest.mark.parametrize("form", FORMS)
def test_perturbations_of_a_program_are_those_of_its_network(form):
    network = Network(plain).eval()
    found, expected = (
        extract(net, X, perturbation=ODIN(0.1)).logits for net in (FORMS[form](network), network)
    )
    assert_allclose(found, expected, atol=1e-5)


def test_gradients_of_a_program_are_those_of_its_network():
    network = Network(residual).eval()
    found, expected = (
        extract(net, X, ["body.0", "fc"], gradients=True) for net in (export(network), network)
    )
    for name in ("body.0:gradient", "fc:gradient"):
        assert_allclose(found[name], expected[name], atol=1e-6)


def test_a_program_of_a_fixed_size_has_no_gradients():
    with pytest.raises(ValueError, match=r"this one takes 4 samples: give .* dynamic_shapes"):
        extract(export(Network(plain), 4), X, "fc", gradients=True)


def test_a_program_is_left_as_it_was():
    module = export(Network(residual)).module()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    state = vars(module).copy(), [m.training for m in module.modules()], torch.get_rng_state()
    make_monitor(module).fit(X).predict(X[:1])
    assert vars(module) == state[0]
    assert [m.training for m in module.modules()] == state[1]
    assert torch.equal(torch.get_rng_state(), state[2])
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


def test_the_fingerprint_of_a_program_goes_by_weights_and_code():
    network = Network(plain)
    program = export(network)
    digest = adapt(program).fingerprint().digest
    assert adapt(export(network)).fingerprint().digest == digest
    assert adapt(export(Network(residual))).fingerprint().digest != digest
    with torch.no_grad():
        program.state_dict["fc.weight"].add_(1)
    assert adapt(program).fingerprint().digest != digest


def test_inputs_that_a_program_does_not_take_are_refused():
    program = export(Network(plain))
    with pytest.raises(ValueError, match=r"inputs 'x' of shape \(n_samples, 1, 8, 8\), got"):
        ActivationExtractor(program).fit(X[:, :, :6])
    with pytest.raises(ValueError, match=r"takes the inputs \['x'\], got \['y'\]"):
        ActivationExtractor(program).fit({"y": X})
    assert_array_equal(extract(program, {"x": X}).logits, extract(program, X).logits)


def test_a_program_that_acts_as_in_training_is_refused():
    program = torch.export.export(Network(plain).train(), (torch.zeros(2, 1, 8, 8),))
    with pytest.raises(ValueError, match=r"as in training at 'dropout': call network.eval\(\)"):
        ActivationExtractor(program).fit(X)


def test_a_graph_of_modules_is_read_as_a_module():
    network = Network(plain).eval()
    A = extract(torch.fx.symbolic_trace(network), X)
    assert A.layer_names == extract(network, X).layer_names
    assert_array_equal(A.logits, extract(network, X).logits)


def test_an_unflattened_program_is_read_as_a_module():
    network = Network(residual).eval()
    A = extract(torch.export.unflatten(export(network)), X)
    assert {"body.0", "body.1", "relu"} <= set(A.layer_names)
    assert_array_equal(A.logits, extract(network, X).logits)
    assert_array_equal(A.head.weight, network.out.weight.detach())


@pytest.mark.parametrize(
    ("network", "kind"),
    [(torch.ones(3), "Tensor"), (torch.optim.SGD(nn.Linear(1, 1).parameters()), "SGD")],
)
def test_other_objects_of_torch_are_refused_by_name(network, kind):
    with pytest.raises(TypeError, match=f"got a {kind}, which has no layers"):
        adapt(network)


class Text(nn.Module):
    """A transformer of word numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 3)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x):
        return self.out(self.encoder(self.words(x)).mean(1))


def test_sequences_of_any_length_are_pooled_over_their_tokens():
    network, words = Text().eval(), np.random.default_rng(0).integers(9, size=(7, 5))
    axes = {0: torch.export.Dim("n"), 1: torch.export.Dim("length")}
    program = torch.export.export(network, (torch.from_numpy(words),), dynamic_shapes=(axes,))
    extractor, expected = (
        ActivationExtractor(net, "encoder", reducer=PoolingReducer()).fit(words)
        for net in (program, network)
    )
    for X in (words, words[:, :3]):
        A, B = extractor.transform(X), expected.transform(X)
        assert_allclose(A["encoder"], B["encoder"], atol=1e-6)
        assert_allclose(A.logits, B.logits, atol=1e-6)
    assert A.layer_shapes == {"encoder": (4,)}


def test_several_outputs_are_told_apart_by_name():
    class Two(Network):
        def forward(self, x):
            return {"embedding": self.stem(x).flatten(1), "classes": super().forward(x)}

    network = Two(plain).eval()
    found = extract(export(network), X, "fc", logits="classes")
    assert_allclose(found.logits, extract(network, X, "fc", logits="classes").logits, atol=1e-6)


torch.manual_seed(0)
FLATTENED = {
    "convolution": [nn.Conv2d(8, 5, 1), nn.Flatten()],
    "linear": [nn.Flatten(), nn.Linear(8, 5)],
}


@pytest.mark.parametrize("name", FLATTENED)
def test_what_is_flattened_is_the_same_in_a_program_of_a_fixed_size(name):
    torch.manual_seed(0)
    pooled = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    network = nn.Sequential(*pooled, *FLATTENED[name]).eval()
    x = torch.randn(7, 1, 8, 8)
    A = ActivationExtractor(export(network, 4)).fit_transform(x)
    assert A.layer_names == ("1", "penultimate")
    assert A.head.input_layer == "penultimate"
    assert_array_equal(A.logits, network(x).detach())
    assert_array_equal(A["penultimate"], network[:3](x).flatten(1).detach())


class Recurrence(nn.Module):
    def __init__(self):
        super().__init__()
        self.i, self.h, self.o = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = torch.zeros(x.shape[0], 8)
        for t in range(5):
            h = torch.tanh(self.i(x[:, t]) + self.h(h))
        return self.o(h)


@pytest.mark.parametrize("n_rows", [None, 4])
def test_a_recurrence_in_a_program_counts_once(n_rows):
    network, x = Recurrence().eval(), torch.randn(9, 5, 6)
    dynamic = ({0: torch.export.Dim("n")},) if n_rows is None else None
    program = torch.export.export(network, (x[: n_rows or 2],), dynamic_shapes=dynamic)
    extractor = ActivationExtractor(program).fit(x)
    assert extractor.layers_ == ["tanh[4]"]
    assert {f"tanh[{t}]" for t in range(4)} <= extractor.left_out_.keys()
