"""What counts as the head and as the logits: it is checked, and can be chosen."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import (
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
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import ActivationExtractor, make_monitor
from skood.detectors import EnergyDetector
from skood.shaping import ReAct


class Cosine(nn.Linear):
    def forward(self, x):
        return 16 * F.linear(F.normalize(x), F.normalize(self.weight))


class LowRank(nn.Linear):
    def __init__(self, n_inputs, n_outputs):
        super().__init__(n_inputs, n_outputs)
        self.down, self.up = nn.Parameter(torch.randn(2, n_inputs)), nn.Parameter(torch.ones(3, 2))

    def forward(self, x):
        return super().forward(x) + x @ self.down.T @ self.up.T


class Noting(nn.Linear):
    """Computes what its base class does."""

    def forward(self, x):
        return super().forward(x)


def hooked(hook):
    head = nn.Linear(5, 3)
    head.register_forward_hook(hook)
    return head


def network_of(head):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), head)


NO_HEADS = {
    "cosine": lambda: Cosine(5, 3),
    "low rank": lambda: LowRank(5, 3),
    "scaled by a hook": lambda: hooked(lambda module, args, output: 2 * output),
    "shifted by a hook": lambda: hooked(lambda module, args, output: output + 0.01),
    "clamped": lambda: nn.Sequential(nn.Linear(5, 3), nn.Hardtanh()),
}


@pytest.mark.parametrize("make", NO_HEADS.values(), ids=NO_HEADS)
def test_linear_layer_that_does_not_yield_the_logits_is_no_head(make):
    network, X = network_of(make()), vectors()
    A = extract(network, X)
    assert A.head is None
    assert "penultimate" not in A.layer_names
    assert_allclose(A.logits, run(network, X), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"there is none. Give one by X.assign\(head="):
        make_pipeline(ReAct(), EnergyDetector()).fit(A)


HEADS = {
    "subclass": lambda: Noting(5, 3),
    "listened to": lambda: hooked(lambda module, args, output: None),
    "without bias": lambda: nn.Linear(5, 3, bias=False),
    "parametrised": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)),
}


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_linear_layer_that_yields_the_logits_is_the_head(make):
    A = extract(network_of(make()), vectors())
    assert_head_yields_logits(A)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("n_units", [4, 4096])
def test_rounding_does_not_hide_the_head(dtype, n_units):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, n_units), nn.ReLU(), nn.Linear(n_units, 3)).to(dtype)
    assert extract(network, vectors()).head is not None


def test_errors_say_why_there_is_no_head():
    reason = "'2' does not yield the product of its weight and input"
    with pytest.raises(ValueError, match=reason):
        ActivationExtractor(network_of(Cosine(5, 3)), "penultimate").fit(vectors())
    bent = Returning(torch.sin)
    with pytest.raises(ValueError, match="does not return what its last linear layer 'out' yields"):
        ActivationExtractor(bent, ["penultimate"]).fit(vectors())
    with pytest.raises(ValueError, match="no head, since the network does not return what"):
        ActivationExtractor(nn.Sequential(nn.Linear(6, 3), nn.LayerNorm(3))).fit(vectors())


class Projecting(nn.Module):
    """Its one linear module is not the last layer, which has no module."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.weight = nn.Linear(6, 5), nn.Parameter(torch.randn(3, 5))

    def forward(self, x):
        return F.linear(F.relu(self.fc(x)), self.weight)


def test_inputs_of_a_linear_layer_that_is_no_head_are_no_layer():
    assert extract(Projecting(), vectors()).layer_names == ("relu",)


class Several(nn.Module):
    """Returns whatever ``pack`` makes of features and logits."""

    def __init__(self, pack):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.out, self.other = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 4)
        self.pack = pack

    def forward(self, x):
        z = self.fc(x)
        return self.pack(self, z, self.out(F.relu(z)))


class Record(SimpleNamespace):
    pass


WITH_LOGITS = {
    "features first": lambda net, z, logits: (F.relu(z), logits),
    "embedding that goes on": lambda net, z, logits: (z, logits),
    "logits first": lambda net, z, logits: (logits, F.relu(z)),
    "value first": lambda net, z, logits: (z[:, :1], logits),
    "sequence first": lambda net, z, logits: (z[:, None], logits),
    "nested": lambda net, z, logits: (z, [{"out": logits}]),
    "mapping": lambda net, z, logits: {"emb": F.relu(z), "out": logits},
    "mapping with one column": lambda net, z, logits: {"age": z[:, :1], "cls": logits},
    "object": lambda net, z, logits: Record(emb=z, out=logits),
    "probabilities": lambda net, z, logits: (z, logits.softmax(1)),
}


@pytest.mark.parametrize("pack", WITH_LOGITS.values(), ids=WITH_LOGITS)
def test_output_of_a_last_linear_layer_is_preferred(pack):
    network, X = Several(pack), vectors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        A = extract(network, X, batch_size=4)
    assert_allclose(A.logits, run(Several(lambda net, z, logits: logits), X), rtol=1e-5, atol=1e-6)
    assert_head_yields_logits(A)


AMBIGUOUS = {
    "two heads": (lambda net, z, logits: (net.other(F.relu(z)), logits), 4),
    "two that nobody yields": (lambda net, z, logits: (z.sin(), 2 * logits), 5),
}


@pytest.mark.parametrize(("pack", "n_classes"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_several_outputs_that_may_be_the_logits_are_told_of(pack, n_classes):
    with pytest.warns(UserWarning, match=r"\[0\] of shape .*\[1\] of shape .*parameter `logits`"):
        A = extract(Several(pack), vectors())
    assert A.logits.shape[1] == n_classes


class Metric(nn.Module):
    """Returns what ``pack`` makes of an embedding, its features and class scores."""

    def __init__(self, pack):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.embed = nn.Sequential(nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 5)
        self.out, self.aux, self.low = nn.Linear(8, 3), nn.Linear(8, 4), nn.Linear(8, 2)
        self.up = nn.Linear(2, 3)
        self.prototypes, self.square = nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.eye(5))
        self.prior = nn.Parameter(torch.tensor([0.1, 0.2, 0.7]))
        self.pack = pack

    def forward(self, x):
        h = self.body(x)
        return self.pack(self, h, self.embed(h))


def distances(net, z):
    return -torch.cdist(z, net.prototypes)


def squares(net, z):
    return -((z[:, None] - net.prototypes) ** 2).sum(-1)


def cosines(net, z):
    return 9 * F.normalize(z) @ F.normalize(net.prototypes).T


FROM_FEATURES = {
    "distances to prototypes": lambda net, h, z: {"emb": z, "scores": distances(net, z)},
    "distances first": lambda net, h, z: (distances(net, z), z),
    "distances as differences": lambda net, h, z: (z, squares(net, z)),
    "cosines": lambda net, h, z: (z, cosines(net, z)),
    "normed embedding": lambda net, h, z: (F.normalize(z), cosines(net, z)),
    "embedding normed by hand": lambda net, h, z: (
        z / z.norm(dim=1, keepdim=True),
        cosines(net, z),
    ),
    "as many prototypes as units": lambda net, h, z: (z, -torch.cdist(z, net.square)[:, :3]),
    "hidden features": lambda net, h, z: (h, z, distances(net, z)),
}


@pytest.mark.parametrize("pack", FROM_FEATURES.values(), ids=FROM_FEATURES)
def test_embedding_that_class_scores_are_computed_from_is_no_candidate(pack):
    network, X = Metric(pack), vectors()
    A = extract(network, X)
    returned = run(network, X)
    values = returned.values() if isinstance(returned, dict) else returned
    assert_allclose(A.logits, next(v for v in values if v.shape[1] == 3), rtol=1e-4, atol=1e-5)


MADE_OF_LOGITS = {
    "largest": lambda net, h, z: (z, z.topk(2).values),
    "powers": lambda net, h, z: (z, z.exp()),
    "shares": lambda net, h, z: (z.exp() / z.exp().sum(1, keepdim=True), z),
}


@pytest.mark.parametrize("pack", MADE_OF_LOGITS.values(), ids=MADE_OF_LOGITS)
def test_what_is_only_computed_from_logits_is_no_candidate(pack):
    network, X = Metric(pack), vectors()
    expected = run(Metric(lambda net, h, z: z), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        A = extract(network, X)
    assert_allclose(A.logits, expected, rtol=1e-5, atol=1e-6)


def tokens(h):
    return torch.stack([h, h * 2, h + 1], dim=1)


BESIDE_AUXILIARY = {
    "mean of tokens": (lambda net, h, z: (net.out(tokens(h)).mean(1), net.aux(h)), 3),
    "in a mapping": (
        lambda net, h, z: {"pred": net.out(tokens(h)).mean(1), "aux": net.aux(h)},
        3,
    ),
    "less a prior": (lambda net, h, z: (net.out(h) - net.prior.log(), net.aux(h)), 3),
    "scaled": (lambda net, h, z: (net.out(h) / 2, net.aux(h)), 3),
    "clamped": (lambda net, h, z: (net.out(h).clamp(-0.1, 0.1), net.aux(h)), 4),
    "plus a low rank": (lambda net, h, z: (net.out(h) + net.up(net.low(h)), net.aux(h)), 4),
    "distances": (lambda net, h, z: (distances(net, z), net.aux(h)), 4),
    "distances last": (lambda net, h, z: (net.aux(h), distances(net, z)), 4),
}


@pytest.mark.parametrize(("pack", "n_classes"), BESIDE_AUXILIARY.values(), ids=BESIDE_AUXILIARY)
def test_auxiliary_output_is_not_taken_in_silence(pack, n_classes):
    with pytest.warns(UserWarning, match="Several outputs of the network may be its logits"):
        A = extract(Metric(pack), vectors())
    assert A.logits.shape[1] == n_classes


CHOICES = {
    "index": ("two heads", 1),
    "index from the end": ("two heads", -1),
    "function": ("two heads", lambda returned: returned[1]),
    "name": ("mapping of two", "out"),
    "index of a mapping": ("mapping of two", 1),
    "attribute": ("object of two", "out"),
}
OF_TWO = {
    "two heads": AMBIGUOUS["two heads"][0],
    "mapping of two": lambda net, z, logits: {"other": net.other(F.relu(z)), "out": logits},
    "object of two": lambda net, z, logits: Record(other=net.other(F.relu(z)), out=logits),
}


@pytest.mark.parametrize(("of", "logits"), CHOICES.values(), ids=CHOICES)
def test_output_that_holds_the_logits_can_be_chosen(of, logits):
    network, X = Several(OF_TWO[of]), vectors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        A = extract(network, X, logits=logits, batch_size=4)
    assert_allclose(A.logits, run(Several(lambda net, z, logits: logits), X), rtol=1e-5, atol=1e-6)
    assert_head_yields_logits(A)


def nested(net, z, logits):
    return {"emb": z, "heads": {"fine": net.other(z), "coarse": [logits]}, "last": (2 * logits,)}


NESTED = {
    "dots": "heads.coarse.0",
    "a name that occurs once": "coarse",
    "path": ("heads", "coarse", 0),
    "the only one of its container": "last",
    "index of its container": 2,
    "index from the end": -1,
}


@pytest.mark.parametrize("logits", NESTED.values(), ids=NESTED)
def test_nested_output_can_be_named(logits):
    network, X = Several(nested), vectors()
    A = extract(network, X, logits=logits)
    factor = 1 if "coarse" in str(logits) else 2
    expected = run(Several(lambda net, z, logits: logits), X)
    assert_allclose(A.logits, factor * expected, rtol=1e-5, atol=1e-6)
    assert_head_yields_logits(A)


NOT_ONE = {
    "several below": ("heads", r"names 2 outputs .*name one of \['heads.fine', 'heads.coarse.0'\]"),
    "no such path": (("heads", "other"), "names no output"),
    "part of a path": (("heads",), "names no output"),
}


@pytest.mark.parametrize(("logits", "why"), NOT_ONE.values(), ids=NOT_ONE)
def test_nested_name_of_no_or_several_outputs_is_refused(logits, why):
    with pytest.raises(ValueError, match=why):
        ActivationExtractor(Several(nested), logits=logits).fit(vectors())


def test_doubt_about_the_logits_is_told_once_and_says_what_to_do():
    with pytest.warns(UserWarning, match="such as logits=0") as caught:
        extract(Several(AMBIGUOUS["two heads"][0]), vectors(2))
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="such as logits='heads.fine'"):
        extract(Several(nested), vectors())


def test_matrix_beside_what_is_called_logits_and_is_none_is_told_of():
    A = extract(Several(lambda net, z, logits: {"logits": z[:, None], "cls": logits}), vectors())
    assert A.logits is None
    assert "logits='cls' takes one that may be" in A.why_missing["logits"]
    A = extract(Several(lambda net, z, logits: {"emb": net.other(z), "Logits": logits}), vectors())
    assert A.logits.shape[1] == 3


def test_logits_may_be_computed_from_the_outputs():
    network, X = Several(lambda net, z, logits: (z, logits)), vectors()
    A = extract(network, X, logits=lambda returned: returned[0] - 1)
    assert_allclose(A.logits, run(network, X)[0] - 1, rtol=1e-5, atol=1e-6)
    assert A.head is None


@pytest.mark.parametrize("logits", [2, -3, "out", "0"])
def test_choice_of_no_output_is_refused_with_those_that_there_are(logits):
    network = Several(lambda net, z, out: (z, out))
    with pytest.raises(ValueError, match=r"names no output.*\[0\] of shape \(2, 5\), \[1\]"):
        ActivationExtractor(network, logits=logits).fit(vectors())


def test_choice_of_an_output_that_holds_no_logits_is_refused():
    network = Several(lambda net, z, out: (z[:, :1], out))
    with pytest.raises(ValueError, match=r"a column for each class, but selects shape \(2, 1\)"):
        ActivationExtractor(network, logits=0).fit(vectors())
    with pytest.raises(ValueError, match=r"needs one value a sample, but selects shape \(2, 3\)"):
        ActivationExtractor(Returning(lambda z: z), logits="binary").fit(vectors())


ONE_LOGIT = {
    "column": lambda z: z,
    "vector": lambda z: z[:, 0],
    "pair": lambda z: (z, None),
    "probability": torch.sigmoid,
}


@pytest.mark.parametrize("pack", ONE_LOGIT.values(), ids=ONE_LOGIT)
@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_single_logit_becomes_those_of_two_classes(pack, batch_size):
    network, X = Returning(pack, n_outputs=1), vectors()
    A = extract(network, X, logits="binary", batch_size=batch_size)
    z = run(Returning(lambda z: z, n_outputs=1), X)[:, 0].numpy()
    assert_allclose(A.logits, np.stack([np.zeros(11), z], axis=1), rtol=1e-5, atol=1e-6)
    assert_array_equal(A.predictions, np.asarray(z > 0).astype(int))
    assert_head_yields_logits(A)
    assert_allclose(
        EnergyDetector().fit(A).score_samples(A), np.logaddexp(0, z), rtol=1e-5, atol=1e-6
    )


def test_error_for_a_single_logit_says_what_to_do():
    network = Returning(lambda z: z, n_outputs=1)
    with pytest.raises(ValueError, match=r"carries none: a single logit .*logits='binary'"):
        make_pipeline(ActivationExtractor(network), EnergyDetector()).fit(vectors())
    make_pipeline(ActivationExtractor(network, logits="binary"), EnergyDetector()).fit(vectors())


def test_monitor_takes_the_choice():
    network, X = Several(OF_TWO["two heads"]), vectors(60)
    monitor = make_monitor(network, logits=1).fit(X)
    assert monitor[0].transform(X).logits.shape == (60, 3)


def test_perceptron_has_no_choice():
    X = vectors(20)
    mlp = trained_perceptron(X, np.arange(20) % 3)
    with pytest.raises(ValueError, match="logits='out' is not known for a MLPClassifier"):
        ActivationExtractor(mlp, logits="out").fit(X)


class Convolving(nn.Module):
    """Its head is a convolution of one position, or something like it."""

    def __init__(self, head):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool, self.head = nn.Conv2d(1, 6, 3), nn.AdaptiveAvgPool2d(1), head

    def forward(self, x):
        return self.head(self.pool(F.relu(self.conv(x)))).flatten(1)


def test_convolution_of_one_position_is_a_head():
    network, X = Convolving(nn.Conv2d(6, 3, 1)), images()
    A = extract(network, X, batch_size=4)
    assert A.layer_names == ("relu", "penultimate")
    assert_allclose(A["penultimate"], A["relu"].mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert_array_equal(A.head.weight, network.head.weight.detach()[:, :, 0, 0])
    assert_head_yields_logits(A)
    gradient = extract(network, X, ["penultimate"], gradients=True)["penultimate:gradient"]
    slope = softmax(A.logits, axis=1) - 1 / 3
    assert_allclose(gradient, slope @ A.head.weight, rtol=1e-3, atol=1e-6)


torch.manual_seed(0)
NO_POINTS = {
    "groups": nn.Conv2d(6, 3, 1, groups=3),
    "padding": nn.Sequential(nn.Conv2d(6, 3, 1, padding=1), nn.AdaptiveMaxPool2d(1)),
    "activation before the mean": nn.Sequential(
        nn.Upsample(2), nn.Conv2d(6, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    ),
}


@pytest.mark.parametrize("head", NO_POINTS.values(), ids=NO_POINTS)
def test_other_convolutions_are_no_heads(head):
    A = extract(Convolving(head), images())
    assert A.logits.shape == (11, 3)
    assert A.head is None


class Mapping(nn.Module):
    """Classifies each place of a map, and pools what it finds."""

    def __init__(self, pool, stride=1):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 3, 1, stride=stride)
        self.pool = pool

    def forward(self, x):
        return self.pool(self.out(F.relu(self.conv(x))))


POOLED = {
    "mean": (lambda z: z.mean((2, 3)), lambda h: h.mean((2, 3))),
    "pool": (lambda z: F.adaptive_avg_pool2d(z, 1).flatten(1), lambda h: h.mean((2, 3))),
    "half of it": (lambda z: z.mean((2, 3)) / 2, lambda h: h.mean((2, 3))),
    "one place": (lambda z: z[:, :, 1, 2], lambda h: h[:, :, 1, 2]),
}


@pytest.mark.parametrize(("pool", "features"), POOLED.values(), ids=POOLED)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_convolution_of_one_position_is_a_head_on_what_is_pooled_later(pool, features, batch_size):
    network, X = Mapping(pool), images()
    A = extract(network, X, ["penultimate"], batch_size=batch_size, gradients=True)
    h = run(nn.Sequential(network.conv, nn.ReLU()), X)
    assert_allclose(A["penultimate"], features(h), rtol=1e-5, atol=1e-6)
    assert_head_yields_logits(A)
    slope = (softmax(A.logits, axis=1) - 1 / 3) @ A.head.weight
    assert_allclose(A["penultimate:gradient"], slope, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("pool", "stride"), [("mean", 2), ("amax", 1)])
def test_other_convolutions_of_one_position_are_no_heads(pool, stride):
    A = extract(Mapping(lambda z: getattr(z, pool)((2, 3)), stride), images())
    assert A.logits.shape == (11, 3)
    assert A.head is None


class Clipped(nn.Linear):
    def forward(self, x):
        return super().forward(x.clamp(max=2.5))


class Experts(nn.Module):
    """Another last layer for inputs that are large."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.usual, self.other = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        z = self.body(x)
        return torch.where(x[:, :1] > 9, self.other(z), self.usual(z))


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Clipped(8, 4)), Experts],
    ids=["clipped", "experts"],
)
def test_a_head_that_other_samples_show_to_be_none_is_warned_about_and_left_out(make):
    torch.manual_seed(0)
    network = make()
    usual, large = vectors() * 0.1, vectors() * 20
    extractor = ActivationExtractor(network).fit(usual)
    if isinstance(network, nn.Sequential):
        assert extractor.transform(usual).head is not None
    mixed = torch.cat([torch.as_tensor(part) for part in (usual, large, usual)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        A = extractor.transform(mixed)
    assert A.head is None
    if isinstance(network, nn.Sequential):
        assert "does not yield the logits of" in str(caught[0].message)
