"""Heads in all the forms that networks write, named and given ones, and why there is none."""

import pickle
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import (
    Counting,
    Returning,
    assert_head_yields_logits,
    extract,
    images,
    run,
    trained_perceptron,
    vectors,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import ActivationExtractor, Activations, make_monitor
from skood.activations import LinearHead
from skood.detectors import EnergyDetector, ViMDetector
from skood.extraction import ODIN
from skood.shaping import ReAct


class Form(nn.Module):
    """A network whose ``forward`` after the features is ``end``; it has weights for all of them."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
        self.out, self.other = nn.Linear(5, 3), nn.Linear(5, 3)
        self.rows, self.columns = nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.randn(5, 3))
        self.square, self.bias = nn.Parameter(torch.randn(5, 5)), nn.Parameter(torch.randn(3))
        self.register_buffer("prior", torch.randn(3))
        self.temperature = nn.Parameter(torch.tensor([1.5]))
        self.down, self.up = nn.Parameter(torch.randn(5, 2)), nn.Parameter(torch.randn(2, 3))
        self.end = end

    def forward(self, x):
        return self.end(self, self.body(x))


def in_place(net, z):
    logits = net.out(z)
    logits /= 3
    return logits


SCALED = {
    "divided": lambda net, z: net.out(z) / 2.5,
    "divided by a parameter": lambda net, z: net.out(z) / net.temperature,
    "negative": lambda net, z: -3 * net.out(z),
    "in place": in_place,
    "double": lambda net, z: net.out(z).double(),
    "cast up and back": lambda net, z: net.out(z).double().float(),
    "clone": lambda net, z: net.out(z).clone().contiguous(),
    "axes of one": lambda net, z: net.out(z[:, None])[:, 0],
    "transposed": lambda net, z: net.out(z)[None].transpose(0, 1).squeeze(1),
    "shifted by a buffer": lambda net, z: net.out(z) + net.prior,
    "dropout after it": lambda net, z: F.dropout(net.out(z), 0.5, net.training),
    "softmax of a part": lambda net, z: (net.out(z) / 2).softmax(1),
    "softmax in double": lambda net, z: net.out(z).softmax(1).double(),
    "in a mapping": lambda net, z: {"emb": z, "logits": net.out(z) / 2},
    "beside its features": lambda net, z: (z, net.out(z) / 2),
}
SCALED["dropout of several samples"] = lambda net, z: torch.stack(
    [net.out(F.dropout(z, 0.5, net.training)) for _ in range(4)]
).mean(0)
SCALED["sum of several samples"] = lambda net, z: sum(
    net.out(F.dropout(z, 0.5, net.training)) for _ in range(4)
)
WITHOUT_MODULE = {
    "linear": lambda net, z: F.linear(z, net.rows),
    "linear with bias": lambda net, z: F.linear(z, net.rows, bias=net.bias) / 2,
    "transposed weight": lambda net, z: z @ net.rows.T,
    "plus bias": lambda net, z: z @ net.columns + net.bias,
    "minus bias, scaled": lambda net, z: (z @ net.columns - net.bias) / 3,
    "scaled, plus bias": lambda net, z: (z @ net.columns) / 3 + net.bias,
    "mm": lambda net, z: torch.mm(z, net.columns),
    "addmm": lambda net, z: torch.addmm(net.bias, z, net.columns),
    "addmm with factors": lambda net, z: torch.addmm(net.bias, z, net.columns, beta=0.5, alpha=2),
    "addmm with no bias": lambda net, z: torch.addmm(net.bias, z, net.columns, beta=0),
    "einsum": lambda net, z: torch.einsum("kd,nd->nk", net.rows, z),
    "a slice": lambda net, z: z @ net.square[:3].T,
    "cast weight": lambda net, z: F.linear(z.double(), net.rows.double()),
    "square": lambda net, z: z @ net.square,
    "square, transposed": lambda net, z: z @ net.square.T,
    "normalised features": lambda net, z: F.linear(F.normalize(z), net.rows),
}


@pytest.mark.parametrize(
    "end",
    [*SCALED.values(), *WITHOUT_MODULE.values()],
    ids=[*SCALED, *WITHOUT_MODULE],
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_linear_map_is_the_head_in_whatever_form(end, batch_size):
    A = extract(Form(end), vectors(), batch_size=batch_size)
    assert_head_yields_logits(A)
    assert A.why_missing == {}


def test_network_that_is_one_linear_layer_is_a_head_on_the_inputs():
    network, X = nn.Linear(6, 3), vectors()
    A = extract(network, X)
    assert A.layer_names == ("penultimate",)
    assert_array_equal(A["penultimate"], X)
    assert_array_equal(A.head.weight, network.weight.detach())
    assert_head_yields_logits(A)


def test_network_that_is_one_activation_function_has_its_layer():
    assert_array_equal(extract(nn.ReLU(), vectors())["relu"], np.maximum(vectors(), 0))


def test_weights_of_a_head_are_those_at_the_time():
    network = Form(WITHOUT_MODULE["minus bias, scaled"])
    extractor = ActivationExtractor(network, changed_network="ignore").fit(vectors())
    with torch.no_grad():
        network.columns *= 2
        network.bias += 1
    A = extractor.transform(vectors())
    assert_allclose(A.head.weight, 2 / 3 * run_columns(), rtol=1e-5)
    assert_head_yields_logits(A)


def run_columns():
    return Form(None).columns.T.detach().numpy()


def test_half_precision_within_a_network_does_not_hide_its_head():
    def autocast(net, z):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net.out(z).float()

    A = extract(Form(autocast), vectors())
    assert_array_equal(A.head.weight, Form(None).out.weight.detach())
    assert_allclose(A.head.logits(A["body.1"]), A.logits, atol=0.02)


class Weights(nn.Module):
    """A linear map that is no module of torch's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 5))

    def forward(self, x):
        return F.linear(x, self.weight)


def test_weight_that_a_parametrisation_computes_is_that_of_the_head():
    head = nn.utils.parametrizations.spectral_norm(Weights())
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), head).eval()
    A = extract(network, vectors())
    assert_allclose(A.head.weight, head.weight.detach(), rtol=1e-6)
    assert_head_yields_logits(A)


def tokens(z):
    return torch.stack([z / 2, z, z + 1, z], dim=1)


def pick_by_input(net, z):
    return net.out(tokens(z))[torch.arange(len(z)), (z.sum(1) * 9).long() % 4]


ON_TOKENS = {
    "last": (lambda net, z: net.out(tokens(z))[:, -1], lambda z: z),
    "first, scaled": (lambda net, z: net.out(tokens(z))[:, 0] / 2, lambda z: z / 2),
    "without module": (lambda net, z: F.linear(tokens(z), net.rows)[:, 2], lambda z: z + 1),
    "mean": (lambda net, z: net.out(tokens(z)).mean(1), lambda z: tokens(z).mean(1)),
    "another for each": (
        pick_by_input,
        lambda z: tokens(z)[torch.arange(len(z)), (z.sum(1) * 9).long() % 4],
    ),
}


@pytest.mark.parametrize(("end", "features"), ON_TOKENS.values(), ids=ON_TOKENS)
def test_head_on_tokens_reads_the_one_that_counts(end, features):
    network, X = Form(end), vectors()
    A = extract(network, X, ["penultimate"], batch_size=4, gradients=True)
    z = run(network.body, X)
    assert_allclose(A["penultimate"], features(z), rtol=1e-5, atol=1e-6)
    assert_head_yields_logits(A)
    slope = (softmax(A.logits, axis=1) - 1 / 3) @ A.head.weight
    assert_allclose(A["penultimate:gradient"], slope, rtol=1e-3, atol=1e-6)


class Scores(nn.Module):
    """Classifies a sequence by its last word that is no padding, 0."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.gru = nn.Embedding(20, 6), nn.GRU(6, 8, batch_first=True)
        self.score = nn.Linear(8, 3, bias=False)

    def forward(self, ids):
        scores = self.score(self.gru(self.words(ids))[0])
        number = torch.arange(ids.shape[1])
        return scores[torch.arange(len(ids)), torch.where(ids > 0, number, 0).amax(1)]


@pytest.mark.parametrize("pad", ["left", "right"])
def test_token_that_counts_is_found_for_padding_and_other_lengths(pad):
    ids = np.random.default_rng(0).integers(1, 20, size=(12, 7))
    for row, n_pads in zip(ids, [0, 1, 2, 3] * 3, strict=True):
        row[slice(n_pads) if pad == "left" else slice(7 - n_pads, 7)] = 0
    network = Scores()
    extractor = ActivationExtractor(network, ["penultimate"], batch_size=5).fit({"ids": ids})
    for inputs in (ids, ids[:, 2:], ids[:, :5]):
        A = extractor.transform({"ids": inputs})
        assert_head_yields_logits(A)
        assert_allclose(A.logits, run(network, inputs), rtol=1e-5, atol=1e-6)


class MeanOfScores(Scores):
    """Classifies a sequence by the mean of the scores of its words that are no padding, 0."""

    def forward(self, ids):
        scores, is_word = self.score(self.words_of(ids)), (ids > 0)[..., None]
        return (scores * is_word).sum(1) / is_word.sum(1)

    def words_of(self, ids):
        return self.gru(self.words(ids))[0]


@pytest.mark.parametrize("pad", ["left", "right"])
@pytest.mark.parametrize("n_whole", [0, 4])
def test_mean_without_padding_is_found_for_padding_and_other_lengths(pad, n_whole):
    ids = np.random.default_rng(0).integers(1, 20, size=(12, 7))
    for row, n_pads in zip(ids[n_whole:], ([1, 0, 2, 3] * 3)[n_whole:], strict=True):
        row[slice(n_pads) if pad == "left" else slice(7 - n_pads, 7)] = 0
    network = MeanOfScores()
    extractor = ActivationExtractor(network, ["penultimate"], batch_size=5, gradients=True).fit(
        {"ids": ids}
    )
    for inputs in (ids, ids[:, 2:], ids[:, :5]):
        A = extractor.transform({"ids": inputs})
        assert_head_yields_logits(A)
        words = network.words_of(torch.as_tensor(inputs)).detach().numpy()
        expected = [of[number] for of, number in zip(words, inputs > 0, strict=True)]
        expected = np.array([some.mean(0) for some in expected])
        assert_allclose(A["penultimate"], expected, rtol=1e-4, atol=1e-5)
        slope = (softmax(A.logits, axis=1) - 1 / 3) @ A.head.weight
        assert_allclose(A["penultimate:gradient"], slope, rtol=1e-3, atol=1e-6)


NO_HEADS = {
    "weighted tokens": (
        lambda net, z: (net.out(tokens(z)) * torch.tensor([0.1, 0.4, 0.3, 0.2])[:, None]).sum(1),
        "several vectors for each sample, .*weighted mean.*pool what 'out' is given",
    ),
    "cosine": (
        lambda net, z: 9 * F.linear(F.normalize(z), F.normalize(net.rows)),
        "weight that is no parameter or buffer",
    ),
    "clamp": (lambda net, z: net.out(z).clamp(-0.1, 0.1), "'out' yields .* that clips them"),
    "clamp far off": (lambda net, z: net.out(z).clamp(-90, 90), "as long as no function clips"),
    "positive part": (lambda net, z: F.relu(net.out(z) + 9) - 9, "'out'"),
    "soft cap": (lambda net, z: 30 * torch.tanh(net.out(z) / 30), "'out'"),
    "scale of each sample": (lambda net, z: net.out(z) * z.norm(dim=1)[:, None], "each sample"),
    "mean of two": (
        lambda net, z: (net.out(z) + net.other(z)) / 2,
        r"\['out', 'other'\], is added",
    ),
    "low rank": (lambda net, z: net.out(z) + z @ net.down @ net.up, "is added"),
    "constant": (lambda net, z: net.out(z) + 0.25, "'out' yields, but something computed"),
    "scale of each class": (lambda net, z: net.out(z) * torch.tensor([1.0, 2, 3]), "'out'"),
    "bilinear": (lambda net, z: F.bilinear(z, z, net.square.expand(3, 5, 5)), "'body.0'"),
    "largest of tokens": (lambda net, z: net.out(tokens(z)).amax(1), "'out'"),
    "no logits": (
        lambda net, z: net.out(z)[:, :1],
        r"returns one tensor of shape \(n_samples, 1\)",
    ),
}


@pytest.mark.parametrize(("end", "why"), NO_HEADS.values(), ids=NO_HEADS)
def test_other_maps_are_no_heads_and_errors_say_why(end, why):
    A = extract(Form(end), vectors())
    assert A.head is None
    assert "penultimate" not in A.layer_names
    for carrying in (A[:5], A.assign({"new": A["body.1"]}), pickle.loads(pickle.dumps(A))):
        with pytest.raises(ValueError, match=f"head of the network.*since .*{why}"):
            ReAct().fit(carrying)
    with pytest.raises(ValueError, match=why):
        ViMDetector().fit(Activations.concatenate([A, A]))


def test_head_that_clips_elsewhere_carries_the_reason():
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), ClippedInput(5, 3))
    extractor = ActivationExtractor(network).fit(vectors() * 0.1)
    with pytest.warns(UserWarning, match="does not yield the logits of"):
        A = extractor.transform(vectors() * 20)
    assert "does not yield the logits of" in A.why_missing["head"]


class ClippedInput(nn.Linear):
    def forward(self, x):
        return super().forward(x.clamp(max=2.5))


def test_ordinary_head_takes_no_further_pass():
    network = Counting(Returning(lambda z: z))
    ActivationExtractor(network).fit(vectors())
    n_passes = len(network.seen)
    network = Counting(Returning(lambda z: z / 2))
    ActivationExtractor(network).fit(vectors())
    assert len(network.seen) > n_passes


NO_LOGITS = {
    "one column": (lambda z: z[:, :1], r"shape \(n_samples, 1\).*logits='binary'"),
    "vector": (lambda z: z[:, 0], r"shape \(n_samples,\).*logits='binary'"),
    "integers": (lambda z: z.argmax(1), r"shape \(n_samples,\) and type torch.int64"),
    "truth values": (lambda z: z > 0, r"shape \(n_samples, 3\) and type torch.bool"),
    "complex numbers": (lambda z: z + 1j, "type torch.complex64"),
    "no column": (lambda z: z[:, :0], r"shape \(n_samples, 0\)"),
    "maps": (lambda z: z[:, :, None], r"shape \(n_samples, 3, 1\)"),
    "one number": (lambda z: z.mean(), r"shape \(\)"),
    "text": (lambda z: "cat", "returns str, in which there is no tensor"),
}


@pytest.mark.parametrize(("pack", "why"), NO_LOGITS.values(), ids=NO_LOGITS)
def test_errors_say_what_a_network_without_logits_returns(pack, why):
    network, X = Returning(pack), vectors()
    with pytest.raises(ValueError, match=f"EnergyDetector needs logits.*{why}"):
        make_pipeline(ActivationExtractor(network), EnergyDetector()).fit(X)
    with pytest.raises(ValueError, match=why):
        ActivationExtractor(network, gradients=True).fit(X)
    with pytest.raises(ValueError, match=f"head= needs logits.*{why}"):
        ActivationExtractor(network, head="out").fit(X)


def test_choice_of_one_column_says_what_to_do():
    network = Returning(lambda z: (z, z[:, :1]))
    with pytest.raises(ValueError, match=r"selects shape \(2, 1\). A single log-odds .*'binary'"):
        ActivationExtractor(network, logits=1).fit(vectors())


def test_function_that_returns_no_tensor_is_refused():
    with pytest.raises(TypeError, match=r"must return a tensor .*, got ndarray"):
        ActivationExtractor(Returning(lambda z: z), logits=lambda z: z.numpy()).fit(vectors())


@dataclass
class Record:
    emb: torch.Tensor
    scores: torch.Tensor


class Slots:
    __slots__ = ("emb", "scores")

    def __init__(self, emb, scores):
        self.emb, self.scores = emb, scores


Pair = namedtuple("Pair", "emb scores")


@pytest.mark.parametrize(
    "kind", [Record, Pair, Slots, lambda emb, scores: {"a": {"b": emb}, "c": [scores]}]
)
def test_logits_are_found_in_outputs_of_every_kind(kind):
    A = extract(Returning(lambda z: kind(z.exp(), z)), vectors())
    assert_allclose(A.logits, run(Returning(lambda z: z), vectors()), rtol=1e-5, atol=1e-6)
    assert_head_yields_logits(A)


def test_function_of_the_outputs_works_with_all_that_needs_logits():
    network = nn.Sequential(
        nn.Linear(6, 5), nn.Dropout(), Returning(lambda z: Pair(z.exp(), z)).out
    )
    A = extract(
        network,
        vectors(),
        logits=lambda returned: returned / 2,
        gradients=True,
        perturbation=ODIN(0.01),
        n_passes=3,
        random_state=0,
    )
    assert A["passes"].shape == (11, 3, 3)
    assert_head_yields_logits(A)
    slope = (softmax(A.logits, axis=1) - 1 / 3) @ A.head.weight
    assert_allclose(A["penultimate:gradient"], slope, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "end", [lambda z: z, lambda z: z.squeeze(1), lambda z: torch.sigmoid(z[:, 0])]
)
def test_single_log_odds_has_the_head_of_two_classes(end):
    A = extract(Returning(end, 1), vectors(), logits="binary", batch_size=4)
    assert_array_equal(A.head.weight[0], 0)
    assert_head_yields_logits(A)


def test_vector_times_matrix_is_a_head_of_two_classes():
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), Dot())
    A = extract(network, vectors(), logits="binary")
    assert_array_equal(A.head.weight[1], network[2].weight.detach())
    assert_head_yields_logits(A)


class Dot(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5)), nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x @ self.weight + self.bias


def halved():
    """A network whose logits are half of what its last layer yields, and its head."""
    network = Returning(lambda z: z / 2)
    weight, bias = network.out.weight.detach().numpy(), network.out.bias.detach().numpy()
    return network, LinearHead(weight / 2, bias / 2)


def test_head_can_be_named_or_given():
    network, head = halved()
    of_relu = LinearHead(head.weight, head.bias, "relu")
    for given in ("out", head, of_relu):
        A = extract(network, vectors(), head=given)
        assert A.head.input_layer == "relu"
        assert_allclose(A.head.weight, head.weight)
        assert_head_yields_logits(A)
    monitor = make_monitor(network, head="out").fit(vectors(60))
    assert_allclose(monitor[0].transform(vectors()).head.weight, head.weight)


def test_given_head_makes_a_layer_of_what_it_reads():
    network = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), Pooling(), nn.Linear(5, 3))
    head = LinearHead(network[3].weight.detach(), network[3].bias.detach())
    for named in (head, LinearHead(head.weight, head.bias, "penultimate")):
        A = extract(network, images(), ["penultimate"] if named is not head else "auto", head=named)
        assert_head_yields_logits(A)


class Pooling(nn.Module):
    def forward(self, x):
        return x.mean((2, 3), keepdim=True).flatten(1)


def test_given_head_of_one_log_odds_may_have_one_class_or_two():
    network = Returning(lambda z: z, 1)
    weight, bias = network.out.weight.detach().numpy(), network.out.bias.detach().numpy()
    both = LinearHead(np.vstack([0 * weight, weight]), np.append(0, bias))
    for head in (LinearHead(weight, bias), both):
        A = extract(network, vectors(), logits="binary", head=head)
        assert_allclose(A.head.weight, both.weight)
        assert_head_yields_logits(A)


WRONG = {
    "no module": ("fc", r"names no module of the network; its linear layers are \['fc1', 'out'\]"),
    "another module": ("fc1", "'fc1' is no head: it yields 5 values, but the logits are 3"),
    "no linear layer": ("relu", "'relu' is no head: it is no linear layer"),
    "other weights": (LinearHead(np.ones((3, 5))), "of 'relu', weight times values .* by up to"),
    "other size": (LinearHead(np.ones((3, 4))), "none has 4 units"),
    "unknown layer": (LinearHead(np.ones((3, 5)), None, "x"), "'x', but the network has none"),
    "other layer": (
        LinearHead(np.ones((3, 5)), None, "fc1"),
        "'fc1': weight times values .* by up",
    ),
    "layer of another size": (LinearHead(np.ones((3, 4)), None, "fc1"), r"shape \(3, 4\), but the"),
}


@pytest.mark.parametrize(("head", "why"), WRONG.values(), ids=WRONG)
def test_head_that_does_not_yield_the_logits_is_refused(head, why):
    with pytest.raises(ValueError, match=why):
        ActivationExtractor(halved()[0], head=head).fit(vectors())


def test_named_head_is_compared_with_the_logits():
    with pytest.raises(ValueError, match=r"differs from them by up to .* largest is"):
        ActivationExtractor(Returning(torch.sin), head="out").fit(vectors())
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), Cosine(5, 3))
    with pytest.raises(ValueError, match=r"head='2' is no head: .* does not yield the product"):
        ActivationExtractor(network, head="2").fit(vectors())


class Cosine(nn.Linear):
    def forward(self, x):
        return 9 * F.linear(F.normalize(x), F.normalize(self.weight))


def test_heads_of_perceptrons_can_be_given():
    X, y = vectors(30), np.arange(30) % 3
    mlp = trained_perceptron(X, y)
    head = LinearHead(mlp.coefs_[-1].T, mlp.intercepts_[-1])
    assert_head_yields_logits(extract(mlp, X, head=head))
    for wrong, why in [
        ("out", "names a module of torch"),
        (LinearHead(2 * head.weight, head.bias), "does not make the logits of 'hidden_0'"),
        (LinearHead(head.weight, head.bias, "hidden_1"), "makes its logits of 'hidden_0'"),
        (LinearHead(head.weight[:, :2], head.bias), r"shape \(3, 2\), but that of"),
    ]:
        with pytest.raises(ValueError, match=why):
            ActivationExtractor(mlp, head=wrong).fit(X)
    regressor = trained_perceptron(X, y, kind=MLPRegressor)
    with pytest.raises(ValueError, match="since a regressor or multilabel classifier has none"):
        make_pipeline(ActivationExtractor(regressor), ReAct(), EnergyDetector()).fit(X)


def test_results_in_a_cache_go_by_the_head(tmp_path):
    network, head = halved()
    for wanted in ("auto", LinearHead(head.weight, head.bias)):
        A = extract(network, vectors(), head=wanted, memory=str(tmp_path))
        assert_head_yields_logits(A)
    assert len(list(tmp_path.rglob("output.pkl"))) == 2
