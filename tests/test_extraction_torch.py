"""Reading torch and skorch networks: which layers, which logits, and leaving no mark."""

import copy
import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import (
    Block,
    FunctionalCNN,
    ResNet,
    Returning,
    SharedReLU,
    TextNet,
    cnn,
    images,
    run,
    untouched,
    vectors,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from torch import nn

from skood import ActivationExtractor, PercentileBinarizer, PoolingReducer


def extract(network, X, layers="auto", **params):
    return ActivationExtractor(network, layers, **params).fit_transform(X)


def assert_head_yields_logits(A):
    assert_allclose(A.head.logits(A[A.head.input_layer]), A.logits, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- layers


def test_auto_is_every_activation_output_of_a_plain_network():
    network, X = cnn(), images()
    A = extract(network, X, batch_size=4)
    assert A.layers == ("1", "4", "7")
    for name, depth in {"1": 2, "4": 5, "7": 8}.items():
        assert_allclose(A[name], run(network[:depth], X), rtol=1e-5, atol=1e-6)


def test_values_are_those_before_a_later_module_overwrites_them():
    network, X = cnn(), images()
    A = extract(network, X, ["3", "4"])
    assert (A["3"] < 0).any()
    assert_allclose(A["3"], run(network[:4], X), rtol=1e-5, atol=1e-6)
    assert_array_equal(A["4"], np.maximum(A["3"], 0))


def test_functions_called_without_a_module_are_layers():
    network, X = FunctionalCNN(), images()
    A = extract(network, X, batch_size=4)
    assert A.layers == ("relu[0]", "relu[1]", "tanh")
    first = F.relu(run(network.conv1, X))
    second = F.relu(run(network.conv2, first))
    assert_allclose(A["relu[0]"], first, rtol=1e-5, atol=1e-6)
    assert_allclose(A["relu[1]"], second, rtol=1e-5, atol=1e-6)
    assert_allclose(A["tanh"], run(network.fc, second.flatten(1)).tanh(), rtol=1e-5, atol=1e-6)


def test_function_is_named_after_the_module_that_calls_it():
    network = nn.Sequential(FunctionalCNN(), nn.ReLU())
    assert extract(network, images()).layers == ("0.relu[0]", "0.relu[1]", "0.tanh", "1")


def test_each_call_of_a_shared_module_is_a_layer():
    network, X = SharedReLU(), vectors()
    A = extract(network, X, batch_size=4)
    assert A.layers == ("relu[0]", "relu[1]")
    first = F.relu(run(network.fc1, X))
    assert_allclose(A["relu[0]"], first, rtol=1e-5, atol=1e-6)
    assert_allclose(A["relu[1]"], F.relu(run(network.fc2, first)), rtol=1e-5, atol=1e-6)


def test_brackets_in_a_known_name_are_taken_literally():
    assert extract(SharedReLU(), vectors(), ["relu[1]"]).layers == ("relu[1]",)
    assert extract(SharedReLU(), vectors(), "relu*").layers == ("relu[0]", "relu[1]")


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
    assert A.layers == tuple(sorted(layers))
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


@pytest.mark.parametrize("function", [*ACTIVATIONS, *FUNCTIONS], ids=str)
def test_all_kinds_of_activation_functions_are_found(function):
    network, X = Applying(function), vectors()
    A = extract(network, X)
    assert len(A.layers) == 1
    with torch.no_grad():
        assert_allclose(A[A.layers[0]], function(run(network.fc1, X)), rtol=1e-5, atol=1e-6)
    assert_head_yields_logits(A)


@pytest.mark.parametrize("function", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_softmax_within_a_network_is_no_activation_function(function):
    assert extract(Applying(function), vectors()).layers == ("penultimate",)


def test_auto_is_the_output_of_residual_blocks():
    network, X = ResNet(), images()
    A = extract(network, X, batch_size=4)
    assert A.layers == ("blocks.0", "blocks.1", "penultimate")
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
    assert extract(network, images()).layers == ("0.relu", "1")


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
    assert extract(network, X).layers == ("2",)


def test_skip_in_the_forward_of_the_network_itself_makes_no_block():
    assert extract(Block(1), images()).layers == ("relu[0]", "relu[1]")


def test_layers_inside_a_transformer_are_found():
    network = TextNet()
    X = np.random.default_rng(0).integers(20, size=(7, 5))
    A = extract(network, X, ["encoder.layers.*.relu", "encoder.layers.?"], batch_size=3)
    assert A.layers == tuple(f"encoder.layers.{name}" for name in ("0.relu", "0", "1.relu", "1"))
    with torch.no_grad():
        network.eval()
        words = network.words(torch.tensor(X)) + network.positions(torch.arange(5))
        assert_allclose(A["encoder.layers.1"], network.encoder(words), rtol=1e-4, atol=1e-5)
    assert extract(network, X).layers == ("encoder.layers.0", "encoder.layers.1", "penultimate")


def test_layers_come_in_forward_order_whatever_the_order_asked_for():
    assert extract(cnn(), images(), ["7", "0", "penultimate"]).layers == ("0", "7", "penultimate")


def test_all_are_all_modules_that_are_called():
    names = extract(cnn(), images(), "all").layers
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
    assert A.layers == ("lstm", "penultimate", "out")  # "act" has no row for each sample
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


# ---------------------------------------------------------------- logits and head


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
    assert A.layers == ("1", "4", "penultimate")
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
    assert A.layers == ("relu", "penultimate")
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
    assert A.layers == ("relu",)
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
    assert A.layers == ("relu",)
    assert A.logits is A.predictions is A.head is A.classes is None


def test_network_without_a_linear_output_has_no_head():
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.Hardtanh())
    A = extract(network, vectors())
    assert A.layers == ("1", "3")
    assert A.head is None
    assert_allclose(A.logits, A["3"])


# ---------------------------------------------------------------- kinds of networks


def test_what_is_no_network_is_refused():
    for network in (None, "net", nn.ReLU, object()):
        with pytest.raises(TypeError, match=r"torch.nn.Module, a fitted skorch NeuralNet or a"):
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
    assert A.layers == ("1", "4", "7")
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


# ---------------------------------------------------------------- leaving no mark


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
