"""Which layers of torch networks are found, and which networks are read."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import (
    Block,
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
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skood import ActivationExtractor, PoolingReducer


def test_auto_is_every_activation_output_of_a_plain_network():
    network, X = cnn(), images()
    A = extract(network, X, batch_size=4)
    assert A.layer_names == ("1", "4", "7")
    for name, depth in {"1": 2, "4": 5, "7": 8}.items():
        assert_allclose(A[name], run(network[:depth], X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "reducer", [None, PoolingReducer(pooling="flatten"), FunctionTransformer()]
)
def test_values_are_those_before_a_later_module_overwrites_them(reducer):
    network, X = cnn(), images()
    A = extract(network, X, ["3", "4"], reducer=reducer)
    assert (A["3"] < 0).any()
    assert_allclose(A["3"].ravel(), run(network[:4], X).ravel(), rtol=1e-5, atol=1e-6)
    assert_array_equal(A["4"], np.maximum(A["3"], 0))


def test_functions_called_without_a_module_are_layers():
    network, X = FunctionalCNN(), images()
    A = extract(network, X, batch_size=4)
    assert A.layer_names == ("relu[0]", "relu[1]", "tanh")
    first = F.relu(run(network.conv1, X))
    second = F.relu(run(network.conv2, first))
    assert_allclose(A["relu[0]"], first, rtol=1e-5, atol=1e-6)
    assert_allclose(A["relu[1]"], second, rtol=1e-5, atol=1e-6)
    assert_allclose(A["tanh"], run(network.fc, second.flatten(1)).tanh(), rtol=1e-5, atol=1e-6)


def test_function_is_named_after_the_module_that_calls_it():
    network = nn.Sequential(FunctionalCNN(), nn.ReLU(), nn.Linear(3, 2))
    assert extract(network, images()).layer_names == ("0.relu[0]", "0.relu[1]", "0.tanh", "1")


def test_each_call_of_a_shared_module_is_a_layer():
    network, X = SharedReLU(), vectors()
    A = extract(network, X, batch_size=4)
    assert A.layer_names == ("relu[0]", "relu[1]")
    first = F.relu(run(network.fc1, X))
    assert_allclose(A["relu[0]"], first, rtol=1e-5, atol=1e-6)
    assert_allclose(A["relu[1]"], F.relu(run(network.fc2, first)), rtol=1e-5, atol=1e-6)


def test_brackets_in_a_known_name_are_taken_literally():
    assert extract(SharedReLU(), vectors(), ["relu[1]"]).layer_names == ("relu[1]",)
    assert extract(SharedReLU(), vectors(), "relu*").layer_names == ("relu[0]", "relu[1]")


class ReLUTwice(nn.Module):
    """Calls a function of the name of one of its modules."""

    def __init__(self):
        super().__init__()
        self.relu = nn.Softplus()

    def forward(self, x):
        return self.relu(F.relu(x))


@pytest.mark.parametrize("layers", [["relu[0]"], ["relu[1]"], ["relu[1]", "relu[0]"]])
def test_function_and_module_of_one_name_are_told_apart(layers):
    X = vectors()
    A = extract(ReLUTwice(), X, layers)
    expected = {"relu[0]": F.relu(torch.tensor(X))}
    expected["relu[1]"] = F.softplus(expected["relu[0]"])
    assert A.layer_names == tuple(sorted(layers))
    for name, array in A.items():
        assert_allclose(array, expected[name], rtol=1e-6)


ACTIVATIONS = [
    *(nn.ELU(), nn.GELU(), nn.Hardswish(), nn.LeakyReLU(), nn.Mish(), nn.PReLU(), nn.ReLU6()),
    *(nn.SELU(), nn.Sigmoid(), nn.SiLU(), nn.Softplus(), nn.Softsign(), nn.Tanh()),
]
FUNCTIONS = [
    *(F.elu, F.gelu, F.hardswish, F.leaky_relu, F.logsigmoid, F.mish, F.relu, F.relu6, F.relu_),
    *(F.selu, F.sigmoid, F.silu, F.softplus, F.softsign, F.tanh, torch.relu, torch.relu_),
    *(torch.sigmoid, torch.tanh, torch.Tensor.relu, torch.Tensor.sigmoid, torch.Tensor.tanh_),
]


class Applying(nn.Module):
    """Calls a function between two linear layers."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 3)
        self.function = function

    def forward(self, x):
        return self.fc2(self.function(self.fc1(x)))


@pytest.mark.parametrize(
    "function", [*ACTIVATIONS, *FUNCTIONS], ids=lambda f: getattr(f, "__name__", str(f))
)
def test_all_kinds_of_activation_functions_are_found(function):
    network, X = Applying(function), vectors()
    A = extract(network, X)
    assert len(A.layer_names) == 1
    with torch.no_grad():
        assert_allclose(A[A.layer_names[0]], function(run(network.fc1, X)), rtol=1e-5, atol=1e-6)
    assert_head_yields_logits(A)


@pytest.mark.parametrize("function", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_softmax_within_a_network_is_no_activation_function(function):
    assert extract(Applying(function), vectors()).layer_names == ("penultimate",)


def test_auto_is_the_output_of_residual_blocks():
    network, X = ResNet(), images()
    A = extract(network, X, batch_size=4)
    assert A.layer_names == ("stem.1", "blocks.0", "blocks.1", "penultimate")
    stem = run(network.stem, X)
    assert_allclose(A["blocks.0"], run(network.blocks[0], stem), rtol=1e-5, atol=1e-6)
    assert_allclose(A["blocks.1"], run(network.blocks, stem), rtol=1e-5, atol=1e-6)
    assert_allclose(A["penultimate"], A["blocks.1"].mean((2, 3)), rtol=1e-5, atol=1e-6)


class Concatenating(nn.Module):
    """A dense block, which adds no skip, for all the similarity."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()
        self.bias = nn.Parameter(torch.ones(1, 1, 8, 8))

    def forward(self, x):
        biased = self.conv(x) + self.bias.expand(len(x), -1, -1, -1)
        return torch.cat([x + 1, self.relu(biased)], dim=1)


def test_concatenation_and_weights_are_no_skip():
    network = nn.Sequential(Concatenating(), nn.ReLU())
    assert extract(network, images()).layer_names == ("0.relu", "1")


class Summing(nn.Module):
    """Adds two embeddings of the same shape, in a module of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Embedding(9, 4), nn.Embedding(9, 4)

    def forward(self, x):
        return self.first(x) + self.second(x)


def test_sum_of_embeddings_is_no_skip():
    network = nn.Sequential(Summing(), nn.Flatten(), nn.ReLU(), nn.Linear(20, 3))
    X = np.random.default_rng(0).integers(9, size=(6, 5))
    assert extract(network, X).layer_names == ("2",)


def test_skip_in_the_forward_of_the_network_itself_makes_no_block():
    assert extract(Block(1), images()).layer_names == ("relu[0]", "relu[1]")


def test_layers_inside_a_transformer_are_found():
    network = TextNet()
    X = np.random.default_rng(0).integers(20, size=(7, 5))
    A = extract(network, X, ["encoder.layers.*.relu", "encoder.layers.?"], batch_size=3)
    assert A.layer_names == tuple(
        f"encoder.layers.{name}" for name in ("0.relu", "0", "1.relu", "1")
    )
    with torch.no_grad():
        network.eval()
        words = network.words(torch.tensor(X)) + network.positions(torch.arange(5))
        assert_allclose(A["encoder.layers.1"], network.encoder(words), rtol=1e-4, atol=1e-5)
    assert extract(network, X).layer_names == (
        "encoder.layers.0",
        "encoder.layers.1",
        "penultimate",
    )


class Fusing(nn.Module):
    """Calls its module only where no faster path is allowed, as transformer layers may."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        fast = torch.backends.mha.get_fastpath_enabled()
        return x.clamp(min=0) if fast else self.relu(x)


def test_faster_paths_that_skip_modules_are_not_taken():
    assert extract(Fusing(), vectors()).layer_names == ("relu",)


def test_layers_come_in_forward_order_whatever_the_order_asked_for():
    assert extract(cnn(), images(), ["7", "0", "penultimate"]).layer_names == (
        "0",
        "7",
        "penultimate",
    )


def test_all_are_all_modules_that_are_called():
    names = extract(cnn(), images(), "all").layer_names
    assert names == (*map(str, range(9)), "penultimate", "9")


@pytest.mark.parametrize("layers", ["conv*", ["1", "fc"], []])
def test_names_that_select_nothing_are_refused_with_the_known_ones(layers):
    with pytest.raises(ValueError, match=r"known are.*'0', '1', .*'penultimate', '9'"):
        ActivationExtractor(cnn(), layers).fit(images())


def test_auto_that_finds_nothing_says_what_is_known():
    with pytest.raises(ValueError, match=r"name the layers.*known are \['0'\]"):
        ActivationExtractor(nn.Sequential(nn.Identity())).fit(vectors())


class Recurrent(nn.Module):
    """Its first module returns nested tuples, the second one has time in front."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.act = nn.Tanh()
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        states, (last, _) = self.lstm(x)
        self.act(states.transpose(0, 1))
        return self.out(last[0])


def test_layer_is_the_first_tensor_that_a_module_returns():
    network = Recurrent()
    X = np.random.default_rng(0).normal(size=(5, 7, 4)).astype(np.float32)
    A = extract(network, X, "all")
    assert A.layer_names == ("lstm", "penultimate", "out")  # "act" has no row for each sample
    assert_allclose(A["lstm"], run(network.lstm, X)[0], rtol=1e-5, atol=1e-6)


class Deciding(nn.Module):
    """Runs its second layer for some inputs only."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        return self.second(self.first(x)) if x.sum() > 0 else self.first(x)


def test_layer_that_is_not_called_for_all_inputs_is_refused():
    extractor = ActivationExtractor(Deciding()).fit(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"does not call its layers \['second'\]"):
        extractor.transform(-np.ones((2, 3)))


def test_layer_of_varying_shape_is_refused():
    extractor = ActivationExtractor(nn.Sequential(nn.Identity()), "0", batch_size=2)
    batches = [torch.ones(2, 3, 4), torch.ones(2, 3, 5)]
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    with pytest.raises(ValueError, match=r"shape \(3, 4\) .* \(3, 5\)"):
        extractor.fit_transform(loader)


class RowsDoubled(nn.Module):
    def forward(self, x):
        return x if len(x) == 2 else torch.cat([x, x])


def test_layer_without_a_row_for_each_sample_is_refused():
    extractor = ActivationExtractor(nn.Sequential(RowsDoubled()), "0").fit(vectors(4))
    with pytest.raises(ValueError, match="a row for each sample, but has 8 rows after 4 samples"):
        extractor.transform(vectors(4))


def test_what_is_no_network_is_refused():
    for network in (None, "net", nn.ReLU, object()):
        with pytest.raises(
            TypeError, match=r"torch.nn.Module, an exported program of torch, an ONNX model"
        ):
            ActivationExtractor(network).fit(vectors())


def test_network_that_is_not_initialised_is_refused():
    network = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
    with pytest.raises(NotFittedError, match="not initialised"):
        ActivationExtractor(network).fit(vectors())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_network_is_refused():
    network = torch.jit.trace(cnn().eval(), torch.tensor(images()))
    with pytest.raises(TypeError, match=r"compiled code.*pass the module that it was made from"):
        ActivationExtractor(network).fit(images())


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda network: torch.compile(network, backend="eager")]
)
def test_wrapped_network_is_unwrapped(wrap):
    A = extract(wrap(cnn()), images())
    assert A.layer_names == ("1", "4", "7")
    assert_array_equal(A["7"], extract(cnn(), images())["7"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_values_keep_single_precision_at_least(dtype):
    network, X = SharedReLU().to(dtype), vectors(dtype=np.float64)
    A = extract(network, X)
    kind = np.float64 if dtype == torch.float64 else np.float32
    assert {A["relu[0]"].dtype, A.logits.dtype, A.head.weight.dtype, A.head.bias.dtype} == {
        np.dtype(kind)
    }
    expected = F.relu(run(network.fc1, torch.tensor(X).to(dtype)))
    assert_array_equal(A["relu[0]"], expected.to(torch.float64).numpy().astype(kind))


def test_device_may_be_named():
    network, X = cnn(), images()
    for device in ("cpu", torch.device("cpu")):
        assert_array_equal(extract(network, X, device=device)["7"], extract(network, X)["7"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("device", ["auto", "cpu", "cuda"])
@pytest.mark.parametrize("home", ["cpu", "cuda"])
def test_network_stays_on_its_device(home, device):
    network, X = cnn().to(home), images()
    with untouched(network):
        A = extract(network, X, device=device, reducer=PoolingReducer())
    expected = extract(cnn(), X, reducer=PoolingReducer())
    for name, array in A.items():
        assert_allclose(array, expected[name], rtol=1e-3, atol=1e-4)


class Spectrum(nn.Module):
    """The only layer that takes complex numbers is its own."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(torch.relu(x.abs()))


def test_complex_inputs_keep_their_imaginary_parts():
    torch.manual_seed(0)
    inputs, network = torch.randn(5, 6, dtype=torch.complex64), Spectrum()
    with torch.no_grad():
        assert_array_equal(extract(network, inputs).logits, network(inputs).numpy())
