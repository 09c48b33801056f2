"""Which values of an ONNX graph are layers, and that they are what torch computes."""

import io
import warnings

import numpy as np
import pytest
import torch.nn.functional as F
from numpy.testing import assert_allclose, assert_array_equal

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from _onnx_models import FLOAT, export, make_model, node, weights  # noqa: E402
from torch import nn  # noqa: E402

from skood import ActivationExtractor, PoolingReducer  # noqa: E402
from skood.networks import adapt  # noqa: E402

# torch.onnx.export in two ways, and for two versions of the operators.
WAYS = [{"dynamo": False}, {"dynamo": False, "opset_version": 14}, {"dynamo": True}]
EACH_WAY = pytest.mark.parametrize("way", WAYS, ids=["script", "script14", "dynamo"])


def filled(network, seed=0):
    """The network with random weights and statistics, so that no two are equal."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        for name, tensor in [*module.named_parameters(recurse=False)]:
            shape = 0.5 * torch.randn(tensor.shape, generator=generator)
            tensor.data = shape if name != "running_var" else 0.5 + shape.abs()
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.running_mean.shape, generator=generator)
            module.running_var = 0.5 + torch.rand(module.running_var.shape, generator=generator)
    return network.eval()


def read(network, x, way, layers="auto", **params):
    """The activations, and what "auto" leaves out; exported in a way, or before."""
    model = export(network, x[:2], **way) if isinstance(way, dict) else way
    extractor = ActivationExtractor(model, layers, **params).fit(x.numpy())
    A = extractor.transform(x.numpy())
    outputs = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x.numpy()})
    assert_allclose(A.logits, outputs[0], rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert_allclose(A.logits, network(x), rtol=1e-4, atol=1e-4)
    return A, extractor.left_out_


def assert_layers(A, *expected):
    """The layers hold these values of torch, and nothing else."""
    assert len(A.layer_names) == len(expected), A.layer_names
    for name, value in zip(A.layer_names, expected, strict=True):
        assert_allclose(A[name], value.detach(), rtol=1e-4, atol=1e-4, err_msg=name)


def normal(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


IMAGES = normal(9, 1, 8, 8)


@EACH_WAY
def test_a_convolutional_network_with_folded_normalisation(way):
    conv = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    network = filled(
        nn.Sequential(*conv, nn.Flatten(), nn.Linear(36, 6), nn.Tanh(), nn.Linear(6, 3))
    )
    A, left_out = read(network, IMAGES, way)
    assert_layers(A, network[:3](IMAGES), network[:7](IMAGES))
    assert not left_out
    assert A.head.input_layer == A.layer_names[-1]
    assert_array_equal(A.head.weight, network[7].weight.detach())


class Squeezed(nn.Sequential):
    def forward(self, x):
        return super().forward(x).squeeze(1)


torch.manual_seed(0)
SINGLE = {
    "sigmoid": nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid()),
    "tanh": nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1), nn.Tanh()),
    "squeezed": Squeezed(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid()),
    "no squashing": nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)),
}


@pytest.mark.parametrize("kind", ["module", "program", "model"])
@pytest.mark.parametrize("name", SINGLE)
def test_the_one_value_that_a_network_returns_is_no_layer(name, kind):
    network, x = filled(SINGLE[name]), normal(9, 6)
    of_kind = {
        "module": lambda: network,
        "program": lambda: torch.export.export(
            network, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},)
        ),
        "model": lambda: export(network, x[:2], dynamo=False),
    }[kind]()
    extractor = ActivationExtractor(of_kind)
    A = extractor.fit_transform(x.numpy())
    assert_layers(A, network[:2](x))
    assert A.logits is None
    reasons = list(extractor.left_out_.values())
    assert len(reasons) == (name != "no squashing")
    assert all(reason.startswith("the one value a sample") for reason in reasons)


class Cosines(nn.Module):
    """Features of length one times a weight; the same as a parameter or computed from one."""

    def __init__(self, normalises_weight, length=1.0):
        super().__init__()
        self.fc, self.normalises_weight = nn.Linear(6, 8), normalises_weight
        self.weight = nn.Parameter(length * F.normalize(normal(4, 8)))

    def forward(self, x):
        features = F.normalize(F.relu(self.fc(x)))
        weight = F.normalize(self.weight) if self.normalises_weight else self.weight
        return 3 * F.linear(features, weight)


@pytest.mark.parametrize("is_onnx", [False, True])
def test_a_layer_of_cosines_is_no_head(is_onnx):
    x = normal(9, 6)
    for network in (Cosines(True), Cosines(False), Cosines(False, 2.5)):
        model = export(network, x[:2], dynamo=False) if is_onnx else network
        A = ActivationExtractor(model).fit_transform(x.numpy())
        assert A.head is None
        assert "cosine classifier" in A.why_missing["head"]
        assert_layers(A, network.fc(x).relu())


@pytest.mark.parametrize("is_onnx", [False, True])
def test_a_plain_weight_after_normalised_features_is_a_head(is_onnx):
    x, network = normal(9, 6), Cosines(False)
    network.weight.data = normal(4, 8)
    model = export(network, x[:2], dynamo=False) if is_onnx else network
    A = ActivationExtractor(model).fit_transform(x.numpy())
    assert_allclose(A.head.logits(A.features), A.logits, rtol=1e-4, atol=1e-5)
    assert_allclose(A.head.weight, 3 * network.weight.detach(), rtol=1e-6)


def test_the_one_value_is_the_layer_of_a_model_without_another():
    network, x = filled(nn.Sequential(nn.Linear(6, 1), nn.Tanh())), normal(9, 6)
    A = ActivationExtractor(export(network, x[:2], dynamo=False)).fit_transform(x.numpy())
    assert_layers(A, network(x))


ACTIVATIONS = {
    "celu": F.celu,
    "elu": F.elu,
    "gelu": F.gelu,
    "glu": lambda x: F.glu(torch.cat([x, x.flip(1)], dim=1)),
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardshrink": F.hardshrink,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "softshrink": F.softshrink,
    "softsign": F.softsign,
    "tanh": torch.tanh,
    "tanhshrink": F.tanhshrink,
    "written-out leaky relu": lambda x: torch.where(x > 0, x, 0.1 * x),
    "written-out gelu": lambda x: x * 0.5 * (1.0 + torch.erf(x / 2**0.5)),
    "written-out hardswish": lambda x: x * F.relu6(x + 3) / 6,
}


class Activated(nn.Module):
    """One function after another, with a linear layer before each."""

    def __init__(self, functions):
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(6, 6) for _ in functions])
        self.head = nn.Linear(6, 3)
        self.functions = functions

    def layers(self, x):
        values = [x]
        for linear, function in zip(self.maps, self.functions, strict=True):
            values.append(function(linear(values[-1])))
        return values[1:]

    def forward(self, x):
        return self.head(self.layers(x)[-1])


@EACH_WAY
def test_an_activation_function_is_one_layer(way):
    network, x = filled(Activated(list(ACTIVATIONS.values()))), normal(9, 6)
    A, left_out = read(network, x, way)
    assert_layers(A, *network.layers(x))
    assert A.head.input_layer == A.layer_names[-1]
    assert not left_out


@EACH_WAY
def test_a_clip_of_a_divisor_is_no_activation_function(way):
    network, x = filled(Activated([lambda x: F.normalize(x) + 0.1])), normal(9, 6)
    A, _ = read(network, x, way)
    assert A.layer_names == ("penultimate",)
    assert_layers(A, *network.layers(x))


class Block(nn.Module):
    """A residual block, with a projection where sizes change; before or after the activation."""

    def __init__(self, n_in, n_out, stride=1):
        super().__init__()
        self.one = nn.Conv2d(n_in, n_out, 3, stride, 1)
        self.norm = nn.BatchNorm2d(n_out)
        self.two = nn.Conv2d(n_out, n_out, 3, 1, 1)
        self.beside = nn.Identity()
        if n_in != n_out or stride > 1:
            self.beside = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))

    def forward(self, x):
        return F.relu(self.two(F.relu(self.norm(self.one(x)))) + self.beside(x))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 1, 1)
        self.blocks = nn.ModuleList([Block(4, 4), Block(4, 6, 2), Block(6, 6)])
        self.wide, self.head = nn.Linear(6, 7), nn.Linear(7, 3)

    def layers(self, x):
        values = [F.relu(self.stem(x))]
        for block in self.blocks:
            values.append(block(values[-1]))
        return [*values, F.gelu(self.wide(values[-1].mean((2, 3))))]

    def forward(self, x):
        return self.head(self.layers(x)[-1])


@EACH_WAY
def test_residual_blocks_count_once_and_what_is_outside_stays(way):
    network = filled(Residual())
    A, left_out = read(network, IMAGES, way)
    assert_layers(A, *network.layers(IMAGES))
    assert len(left_out) == 3
    for name, reason in left_out.items():
        assert name not in A.layer_names
        assert reason.startswith("inside the residual block that ends in")
        assert reason.split("'")[1] in A.layer_names


class PreNormalized(nn.Module):
    """Activation functions first, and nothing after the sum."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 4, 3, 1, 1), nn.Linear(4, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.maps = nn.ModuleList([nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)])

    def layers(self, x):
        values = [self.stem(x)]
        for norm, conv in zip(self.norms, self.maps, strict=False):
            values.append(values[-1] + conv(F.relu(norm(values[-1]))))
        last = F.relu(self.norms[-1](values[-1]))
        return [*values[1:], last, last.mean((2, 3))]

    def forward(self, x):
        return self.head(self.layers(x)[-1])


@EACH_WAY
def test_blocks_that_begin_with_activation_functions(way):
    network = filled(PreNormalized())
    A, left_out = read(network, IMAGES, way)
    assert_layers(A, *network.layers(IMAGES))
    assert A.layer_names[-1] == A.head.input_layer == "penultimate"
    assert len(left_out) == 2


class Formula(nn.Module):
    """A perceptron whose hidden values are changed by a formula with a sum."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.one, self.two, self.three = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.down, self.up = nn.Linear(6, 2), nn.Linear(2, 6)
        self.gamma = nn.Parameter(torch.zeros(6))

    def layers(self, x):
        h = F.relu(self.one(x))
        return [h, torch.tanh(getattr(self, self.kind)(h))]

    def lora(self, h):
        return self.two(h) + self.up(self.down(h))

    def grn(self, h):
        return self.gamma * (h * h.norm(dim=-1, keepdim=True)) + h

    def film(self, h):
        return self.two(h) * self.up(h[:, :2]) + self.up(h[:, 2:4])

    def rotary(self, h):
        turned = torch.cat([-h[:, 3:], h[:, :3]], dim=1)
        return self.two(h) * 0.6 + turned * 0.8

    def forward(self, x):
        return self.three(self.layers(x)[-1])


@EACH_WAY
@pytest.mark.parametrize("kind", ["lora", "grn", "film", "rotary"])
def test_sums_of_other_formulas_are_no_blocks(kind, way):
    network, x = filled(Formula(kind)), normal(9, 5)
    A, left_out = read(network, x, way)
    assert_layers(A, *network.layers(x))
    assert not left_out


class SqueezeExcite(nn.Module):
    """The gate is computed by weights: an activation function of its own, inside the block."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.gate, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def layers(self, x):
        x = F.silu(self.stem(x))
        y = self.conv(x)
        y = x + y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return [x, y, y.mean((2, 3))]

    def forward(self, x):
        return self.head(self.layers(x)[-1])


@EACH_WAY
def test_gates_inside_of_blocks(way):
    network = filled(SqueezeExcite())
    A, left_out = read(network, IMAGES, way)
    assert_layers(A, *network.layers(IMAGES))
    assert len(left_out) == 1


class Transformer(nn.Module):
    def __init__(self, norm_first):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        layer = nn.TransformerEncoderLayer(
            8, 2, 16, batch_first=True, norm_first=norm_first, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def sums(self, x):
        """What each half of each layer yields, and the features."""
        x, values = self.embed(x), []
        for layer in self.encoder.layers:
            if layer.norm_first:
                values.append(x + layer._sa_block(layer.norm1(x), None, None))
                values.append(values[-1] + layer._ff_block(layer.norm2(values[-1])))
            else:
                values.append(layer.norm1(x + layer._sa_block(x, None, None)))
                values.append(layer.norm2(values[-1] + layer._ff_block(values[-1])))
            x = values[-1]
        return [*values, x.mean(1)]

    def forward(self, x):
        return self.head(self.encoder(self.embed(x)).mean(1))


TOKENS = torch.randint(0, 20, (9, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]], ids=["script", "dynamo"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer(norm_first, way):
    network = filled(Transformer(norm_first))
    model = export(network, TOKENS[:2], **way)
    A, left_out = read(network, TOKENS, model)
    assert_layers(A, *network.sums(TOKENS))
    assert len(left_out) == 2
    pooled, _ = read(network, TOKENS, model, reducer=PoolingReducer(pooling="avg"))
    assert_layers(pooled, *(v.mean(1) if v.ndim == 3 else v for v in network.sums(TOKENS)))


class Masked(nn.Module):
    """Tokens, of which a mask says which count."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Embedding(20, 8), nn.Linear(8, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, input_ids, attention_mask):
        h = torch.tanh(self.mix(self.embed(input_ids)))
        m = attention_mask.unsqueeze(-1).float()
        return self.head((h * m).sum(1) / m.sum(1))


def test_padding_is_left_out_of_pools():
    network = filled(Masked())
    mask = torch.arange(7)[None] < torch.arange(1, 10).clip(max=7)[:, None]
    inputs = {"input_ids": TOKENS, "attention_mask": mask.long()}
    sizes = {0: "n", 1: "t"}
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            tuple(value[:2] for value in inputs.values()),
            written,
            input_names=list(inputs),
            dynamic_axes=dict.fromkeys(inputs, sizes),
            dynamo=False,
        )
    others = {name: value[:, :5] for name, value in inputs.items()}
    for pooling in ("avg", "max", "first", "last"):
        found = []
        for net in (network, written.getvalue()):
            extractor = ActivationExtractor(net, reducer=PoolingReducer(pooling=pooling))
            extractor.fit(inputs)
            found.append([extractor.transform(inputs), extractor.transform(others)])
        for of_torch, of_onnx in zip(*found, strict=True):
            assert_layers(of_onnx, *(torch.as_tensor(of_torch[n]) for n in of_torch.layer_names))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
        self.gru, self.head = nn.GRU(12, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


@EACH_WAY
def test_recurrent_layers(way):
    network, x = filled(Recurrent()), normal(9, 7, 5)
    model = export(network, x[:2], **way)
    A, _ = read(network, x, model)
    with torch.no_grad():
        states = network.gru(network.lstm(x)[0])[0]
    assert A.layer_names == ("penultimate",)
    assert_layers(A, states[:, -1])
    A, _ = read(network, x, model, "all")
    sequences = [name for name in A.layer_names if A.layer_shapes[name] == (7, 4)]
    assert_allclose(A[sequences[-1]], states, rtol=1e-4, atol=1e-5)
    pooled, _ = read(network, x, model, sequences[-1], reducer=PoolingReducer(pooling="avg"))
    assert_allclose(pooled[sequences[-1]], states.mean(1), rtol=1e-4, atol=1e-5)


class Loop(nn.Module):
    """A recurrent network by hand, whose steps are nodes of their own in the graph."""

    def __init__(self, joined):
        super().__init__()
        self.of_input, self.of_state = nn.Linear(5, 6), nn.Linear(6, 6)
        self.of_both, self.head = nn.Linear(11, 6), nn.Linear(6, 3)
        self.joined = joined

    def hidden(self, x):
        h = torch.zeros(x.shape[0], 6)
        for step in range(4):
            if self.joined:
                h = torch.tanh(self.of_both(torch.cat([x[:, step], h], dim=1)))
            else:
                h = torch.tanh(self.of_input(x[:, step]) + self.of_state(h))
        return h

    def forward(self, x):
        return self.head(self.hidden(x))


@EACH_WAY
@pytest.mark.parametrize("joined", [False, True])
def test_the_steps_of_an_unrolled_loop_count_once(joined, way):
    network, x = filled(Loop(joined)), normal(9, 4, 5)
    A, left_out = read(network, x, way)
    assert_layers(A, network.hidden(x))
    assert A.head.input_layer == A.layer_names[0]
    assert len(left_out) == 3
    assert set(left_out.values()) == {"an earlier step of a loop that ends in another layer"}


def test_layers_of_equal_weights_are_no_loop():
    torch.manual_seed(0)
    # A copy of one layer twice: the exporter keeps its weights once.
    A, _ = read(Transformer(norm_first=True).eval(), TOKENS, {"dynamo": True})
    assert len(A.layer_names) == 5


def deep(n_hidden):
    w, w2, b = weights((5, 5), (5, 3), (3,))
    nodes = [node("Identity", ["x"], ["a0"])]
    for n in range(1, n_hidden + 1):
        nodes.append(node("MatMul", [f"a{n - 1}", "w"], [f"h{n}"]))
        nodes.append(node("Tanh", [f"h{n}"], [f"a{n}"]))
    nodes.append(node("Gemm", [f"a{n_hidden}", "w2", "b"], ["z"]))
    constants = {"w": w, "w2": w2, "b": b}
    return make_model(nodes, [("x", FLOAT, ["n", 5])], [("z", FLOAT, ["n", 3])], constants)


def test_at_most_64_layers_evenly_spread():
    X = normal(9, 5).numpy()
    assert len(ActivationExtractor(deep(64)).fit(X).layers_) == 64
    extractor = ActivationExtractor(deep(127)).fit(X)
    # The last of them is the input of the head.
    numbers = [int(name[1:]) for name in extractor.layers_]
    assert (len(numbers), numbers[0], numbers[-2], numbers[-1]) == (64, 1, 126, 127)
    assert set(np.diff(numbers[:-1])) == {2, 3}
    assert len(extractor.left_out_) == 63
    assert extractor.left_out_["a2"] == "one of 127 layers, of which 64 are taken"
    everything = ActivationExtractor(deep(127), "all").fit(X).layers_
    assert {f"a{n}" for n in range(128)} <= set(everything)


def test_values_without_a_row_for_each_sample_are_no_layers():
    # The samples are put last, summed over, and mixed with as many of something else.
    (w,) = weights((4, 3))
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Transpose", ["a"], ["turned"], perm=[1, 0]),
        node("Relu", ["turned"], ["b"], name="without rows"),
        node("Transpose", ["b"], ["c"], perm=[1, 0]),
        node("Concat", ["two", "a"], ["mixed"], axis=0),
        node("ReduceSum", ["mixed"], ["sum"]),
        node("Mul", ["c", "sum"], ["d"]),
        node("MatMul", ["d", "w"], ["z"]),
    ]
    constants = {"w": w, "two": np.ones((2, 4), np.float32)}
    model = make_model(nodes, [("x", FLOAT, ["n", 4])], [("z", FLOAT, ["n", 3])], constants)
    extractor = ActivationExtractor(model, "all").fit(np.ones((2, 4)))
    assert extractor.layers_ == ["a", "c", "d", "penultimate", "z"]
    extractor = ActivationExtractor(model).fit(np.ones((5, 4)))
    assert extractor.left_out_ == {"without rows": "has no row for each sample"}


def test_rows_of_batches_of_one_size_go_by_the_samples():
    # A matrix of 2 rows, whatever the samples are, beside batches of 2.
    w, two = weights((3, 3), (2, 3))
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("ReduceMean", ["a"], ["m"], axes=[0], keepdims=1),
        node("Mul", ["two", "m"], ["no rows"]),
        node("MatMul", ["a", "w"], ["z"]),
    ]
    inputs, constants = [("x", FLOAT, [2, 3])], {"w": w, "two": two}
    model = make_model(nodes, inputs, [("z", FLOAT, [2, 3])], constants)
    extractor = ActivationExtractor(model, "all").fit(np.arange(12.0).reshape(4, 3))
    assert extractor.layers_ == ["a", "penultimate", "z"]


def test_integers_and_what_goes_by_shapes_alone_are_no_layers():
    (w,) = weights((4, 3))
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("ConstantOfShape", ["s"], ["zeros"]),
        node("Relu", ["zeros"], ["constant"]),
        node("Add", ["x", "constant"], ["y"]),
        node("ArgMax", ["y"], ["integers"], axis=1),
        node("Cast", ["integers"], ["floats"], to=FLOAT),
        node("Sigmoid", ["floats"], ["a"]),
        node("Mul", ["y", "a"], ["c"]),
        node("MatMul", ["c", "w"], ["z"]),
    ]
    model = make_model(nodes, [("x", FLOAT, ["n", 4])], [("z", FLOAT, ["n", 3])], {"w": w})
    extractor = ActivationExtractor(model, "all").fit(np.ones((5, 4)))
    assert extractor.layers_ == ["y", "floats", "a", "c", "penultimate", "z"]
    assert ActivationExtractor(model).fit(np.ones((5, 4))).layers_ == ["a", "penultimate"]


@pytest.mark.parametrize(("zero", "is_relu"), [(0, True), (128, False)])
def test_a_relu_that_a_quantization_has_taken_in(zero, is_relu):
    w, v, b = weights((4, 6), (6, 3), (3,))
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("QuantizeLinear", ["h", "step", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "step", "zero"], ["a"]),
        node("Gemm", ["a", "v", "b"], ["z"]),
    ]
    constants = {"w": w, "v": v, "b": b, "step": np.float32(0.1), "zero": np.uint8(zero)}
    model = make_model(nodes, [("x", FLOAT, ["n", 4])], [("z", FLOAT, ["n", 3])], constants)
    trace, _ = adapt(model).trace(weights((9, 4), seed=1)[0])
    assert ("a" in trace.auto) == is_relu


@pytest.mark.parametrize("batch", [2, "any"])
def test_batches_of_one_size_of_a_convolutional_network(batch):
    network = filled(Residual())
    model = export(network, IMAGES[:2], batch=batch)
    A = ActivationExtractor(model, batch_size=4).fit_transform(IMAGES.numpy())
    assert_layers(A, *network.layers(IMAGES))


def test_only_what_is_extracted_is_an_output():
    adapter = adapt(export(filled(Residual()), IMAGES[:2]))
    trace, values = adapter.trace(IMAGES[:2].numpy())
    kept = {}
    adapter.forward(IMAGES.numpy(), trace, trace.auto[:2], kept.__setitem__)
    assert list(kept) == trace.auto[:2]
    (session,) = adapter._model._sessions.values()
    assert len(session.get_outputs()) == 3
    assert len(values) > 10
