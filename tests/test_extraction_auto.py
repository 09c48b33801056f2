"""What "auto" takes, and what it says of what it leaves out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import SharedReLU, cnn, extract, images, vectors
from numpy.testing import assert_allclose
from test_extraction_blocks import Custom, around
from torch import nn

from skood import ActivationExtractor


def fit(network, X, **params):
    torch.manual_seed(0)
    return ActivationExtractor(network, **params).fit(X)


def left_out(network, X):
    return fit(network, X).left_out_


class Network(nn.Module):
    """Calls a function of itself and its input; its modules are given by name."""

    def __init__(self, compute, **modules):
        super().__init__()
        self.compute = compute
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.compute(self, x)


def linear(n_inputs=6, n_outputs=6):
    torch.manual_seed(n_inputs)
    return nn.Linear(n_inputs, n_outputs)


def test_activations_outside_of_blocks_stay_beside_them():
    extractor = fit(around(Custom(lambda net, x: x + net.b(net.act(net.a(x))))), vectors())
    assert extractor.layers_ == ["1", "3", "5"]
    assert extractor.left_out_ == {"3.act": "inside the block '3'"}


class SplitBlock(nn.Module):
    """Ends in a module that is given what it adds."""

    def __init__(self):
        super().__init__()
        self.widen, self.act, self.out = linear(6, 12), nn.GELU(), SplitEnd()

    def forward(self, x):
        return (self.out(self.act(self.widen(x)), x),)


class SplitEnd(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense, self.norm = linear(12, 6), nn.LayerNorm(6)

    def forward(self, hidden, x):
        return self.norm(self.dense(hidden) + x)


def test_block_whose_end_is_a_module_holds_what_leads_there():
    network = Network(lambda net, x: net.fc(net.block(x)[0]), block=SplitBlock(), fc=linear(6, 3))
    extractor = fit(network, vectors())
    assert extractor.layers_ == ["block.out"]
    assert extractor.left_out_ == {"block.act": "inside the block 'block.out'"}


def test_linear_block_inside_a_block_is_a_part_of_it():
    inner = Custom(lambda net, x: x + net.a(x))
    outer = Custom(lambda net, x: (lambda y: y + net.b(net.act(net.a(y))))(net.inner(x)))
    outer.inner = inner
    extractor = fit(around(outer), vectors())
    assert extractor.layers_ == ["1", "3", "5"]
    assert extractor.left_out_["3.inner"] == "inside the block '3'"


def loop(n_blocks):
    parts = (nn.Sequential(linear(), nn.ReLU(), linear()) for _ in range(n_blocks))

    def compute(net, x):
        x = net.stem(x)
        for part in net.parts:
            x = x + part(x)
        return net.fc(x)

    return Network(compute, stem=linear(), parts=nn.ModuleList(parts), fc=linear(6, 3))


def test_skips_in_the_forward_of_the_network_itself_are_layers():
    network, X = loop(3), vectors()
    extractor = fit(network, X)
    assert extractor.layers_ == ["add[0]", "add[1]", "add[2]"]
    assert extractor.left_out_["parts.1.1"] == "inside the block 'add[1]'"
    with torch.no_grad():
        x = network.stem(torch.tensor(X))
        x = x + network.parts[0](x)
        expected = x + network.parts[1](x)
    assert_allclose(extractor.transform(X)["add[1]"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("n_blocks", "names"), [(2, ["1"]), (5, [f"1.add[{i}]" for i in range(5)])]
)
def test_module_with_many_skips_is_no_block_but_each_skip_is(n_blocks, names):
    inner = loop(n_blocks)
    inner.stem, inner.fc = nn.Identity(), nn.Identity()
    assert fit(nn.Sequential(linear(), inner, linear(6, 3)), vectors()).layers_ == names


@pytest.mark.parametrize("n_layers", [64, 65, 150])
def test_at_most_64_layers_are_taken_evenly_with_the_last(n_layers):
    parts = [part for _ in range(n_layers) for part in (linear(), nn.ReLU())]
    network = nn.Sequential(*parts, linear(6, 3))
    extractor = fit(network, vectors())
    numbers = [int(name) // 2 for name in extractor.layers_]
    assert len(numbers) == 64
    assert numbers[0] == 0
    assert numbers[-1] == n_layers - 1
    assert set(np.diff(numbers)) <= {n_layers // 64, n_layers // 64 + 1}
    reasons = set(extractor.left_out_.values())
    assert len(extractor.left_out_) == n_layers - 64
    assert reasons <= {f"one of {n_layers} layers, of which 64 are taken"}
    # Beside the modules, the input of the head under the name "penultimate".
    assert len(fit(network, vectors(), layers="all").layers_) == 2 * n_layers + 2


def test_hand_written_recurrence_counts_once():
    def compute(net, x):
        h = x.new_zeros(len(x), 5)
        for t in range(x.shape[1]):
            h = torch.tanh(net.given(x[:, t]) + net.own(h))
        return net.fc(h)

    network = Network(compute, given=linear(3, 5), own=linear(5, 5), fc=linear(5, 3))
    X = np.random.default_rng(0).normal(size=(6, 9, 3)).astype(np.float32)
    extractor = fit(network, X)
    assert extractor.layers_ == ["tanh[8]"]
    assert extractor.left_out_["tanh[7]"] == "a repetition of 'tanh'"


def test_cell_with_gates_counts_once_for_each_function():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.gates = linear(8, 20)

        def forward(self, x, h, c):
            i, f, g, o = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c

    def compute(net, x):
        h = c = x.new_zeros(len(x), 5)
        for t in range(x.shape[1]):
            h, c = net.cell(x[:, t], h, c)
        return net.fc(h)

    X = np.random.default_rng(0).normal(size=(6, 7, 3)).astype(np.float32)
    layers = fit(Network(compute, cell=Cell(), fc=linear(5, 3)), X).layers_
    assert layers == ["cell.sigmoid[20]", "cell.tanh[13]", "penultimate"]


def test_shared_modules_and_towers_are_several_layers():
    assert fit(SharedReLU(), vectors()).layers_ == ["relu[0]", "relu[1]"]

    def compute(net, x):
        return net.fc(torch.cat([net.tower(x[:, :3]), net.tower(x[:, 3:])], 1))

    tower = nn.Sequential(linear(3, 5), nn.ReLU())
    network = Network(compute, tower=tower, fc=linear(10, 3))
    assert fit(network, vectors()).layers_ == ["tower.1[0]", "tower.1[1]", "penultimate"]


@pytest.mark.parametrize("end", [nn.ReLU(), nn.Hardtanh()])
def test_logits_are_no_layer(end):
    network = nn.Sequential(linear(), nn.ReLU(), linear(6, 3), end)
    extractor = fit(network, vectors())
    assert extractor.layers_ == ["1"]
    assert extractor.left_out_["3"].startswith("the logits")


def test_block_that_yields_the_logits_is_no_layer():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.deep = (
                linear(6, 3),
                nn.Sequential(linear(6, 4), nn.ReLU(), linear(4, 3)),
            )

        def forward(self, x):
            return self.wide(x) + self.deep(x)

    extractor = fit(nn.Sequential(linear(), nn.ReLU(), Head()), vectors())
    assert extractor.layers_ == ["1", "2.deep.1"]
    assert extractor.left_out_["2"].startswith("the logits")


def test_values_without_a_row_for_each_sample_are_said_to_be_left_out():
    def compute(net, x):
        return net.fc(net.relu(net.part(x.reshape(-1, 2))).reshape(len(x), -1))

    network = Network(compute, part=linear(2, 4), relu=nn.ReLU(), fc=linear(12, 3))
    extractor = fit(network, vectors())
    assert extractor.layers_ == ["penultimate"]
    assert extractor.left_out_ == {"relu": "has no row for each sample: shape (6, 4)"}


def test_values_that_do_not_depend_on_the_inputs_are_left_out():
    def compute(net, x):
        table = F.relu(net.table.weight)
        return net.fc(F.relu(net.part(x)) + table[: len(x)])

    table = nn.Embedding(2, 6)
    network = Network(compute, part=linear(), table=table, fc=linear(6, 3))
    assert left_out(network, vectors(2)) == {"relu[0]": "does not depend on the inputs"}


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class GELU(nn.Module):
    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.0447 * x**3)))


class Clamp(nn.Module):
    def forward(self, x):
        return x.clamp(0, 6)


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(3 * x)


class Positive(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)


class OwnFunction(nn.Module):
    def forward(self, x):
        return Positive.apply(x)


@pytest.mark.parametrize("activation", [Swish(), GELU(), Clamp(), Sine(), OwnFunction()])
def test_own_modules_that_bend_each_value_are_activation_functions(activation):
    network, X = (
        nn.Sequential(linear(), activation, linear(6, 4), nn.ReLU(), linear(4, 3)),
        vectors(),
    )
    A = extract(network, X)
    assert A.layer_names == ("1", "3")
    with torch.no_grad():
        assert_allclose(A["1"], network[:2](torch.tensor(X)), rtol=1e-5, atol=1e-6)


class Centring(nn.Module):
    def forward(self, x):
        return F.relu(x - x.mean(1, keepdim=True)) * 2.0 - x.amax(1, keepdim=True)


class Doubling(nn.Module):
    def forward(self, x):
        return 2 * x + 1


@pytest.mark.parametrize("module", [Doubling(), nn.Dropout(), nn.Identity()])
def test_modules_that_do_not_bend_are_none(module):
    assert fit(nn.Sequential(linear(), module, nn.ReLU(), linear(6, 3)), vectors()).layers_ == ["2"]


def test_module_that_looks_at_several_values_is_no_activation_function():
    layers = fit(nn.Sequential(linear(), Centring(), linear(6, 3)), vectors()).layers_
    assert layers == ["1.relu", "penultimate"]


def test_product_with_a_gate_of_itself_is_the_activation_not_the_gate():
    def compute(net, x):
        x = net.first(x)
        return net.fc(x * torch.sigmoid(x))

    extractor = fit(Network(compute, first=linear(), fc=linear(6, 3)), vectors())
    assert extractor.layers_ == ["mul"]
    assert extractor.left_out_ == {"sigmoid": "inside the activation function 'mul'"}


def test_functions_count_where_layers_with_weights_feed_them():
    def compute(net, x):
        x = torch.sin(net.first(torch.sin(x)))
        return net.fc(net.second(x).clamp(0, 1))

    network = Network(compute, first=linear(), second=linear(), fc=linear(6, 3))
    assert fit(network, vectors()).layers_ == ["sin[1]", "clamp"]


def test_containers_of_an_activation_function_are_no_second_name_of_it():
    network = nn.Sequential(nn.Sequential(linear(), nn.Sequential(nn.ReLU())), linear(6, 3))
    assert fit(network, vectors()).layers_ == ["0.1.0"]


def test_nothing_is_said_to_be_left_out_where_layers_are_named():
    assert fit(cnn(), images(), layers=["1"]).left_out_ == {}


def test_verbose_fit_says_what_is_left_out(capsys):
    network = around(Custom(lambda net, x: x + net.b(net.act(net.a(x)))))
    fit(network, vectors(), verbose=1)
    assert capsys.readouterr().out == (
        "ActivationExtractor: layers='auto' takes 3 layers, from '1' to '5', and leaves out "
        "1 (inside the block).\n"
    )
    fit(network, vectors())
    assert capsys.readouterr().out == ""


def test_functions_are_found_where_only_some_modules_are_listened_to():
    class Loud(nn.Module):
        def __init__(self):
            super().__init__()
            self.quiet, self.fc = nn.Sequential(linear(), nn.ReLU()), linear()

        def forward(self, x):
            return F.relu(self.fc(self.quiet(x)) - 1)

    network, X = nn.Sequential(Loud(), Loud(), linear(6, 3)), vectors()
    A = extract(network, X, ["1.relu", "0.quiet.1"], batch_size=4)
    with torch.no_grad():
        first = network[0](torch.tensor(X))
        assert_allclose(A["1.relu"], network[1](first), rtol=1e-5, atol=1e-6)
        assert_allclose(A["0.quiet.1"], network[0].quiet(torch.tensor(X)), rtol=1e-5, atol=1e-6)


def test_error_in_a_module_that_is_not_listened_to_leaves_no_listener():
    class Failing(nn.Module):
        def forward(self, x):
            if len(x) > 2:
                raise RuntimeError("too many")
            return x

    network = Network(lambda net, x: F.relu(net.part(x)), part=nn.Sequential(Failing()))
    extractor = fit(network, vectors(), layers="relu")
    with pytest.raises(RuntimeError, match="too many"):
        extractor.transform(vectors())
    assert not torch.overrides._get_current_function_mode_stack()
    assert not any(module._forward_hooks for module in network.modules())


def set_negatives(x):
    x[x < 0] = 0
    return x


WRITTEN_OUT = {
    "maximum": lambda x: torch.maximum(x, torch.zeros(())),
    "max": lambda x: torch.max(x, torch.tensor(0.0)),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "setitem": set_negatives,
    "atan": torch.atan,
    "erf": torch.special.erf,
    "expit": torch.special.expit,
    "rdiv": lambda x: 1 / (1 + torch.exp(-x)),
    "div": lambda x: x / (1 + x.abs()),
    "pow": lambda x: x**2,
    "mul": lambda x: x * (x > 0),
    "log": lambda x: torch.log(1 + torch.exp(x)),
    "add": lambda x: x + torch.sin(x) ** 2,
    "minimum": lambda x: torch.minimum(torch.maximum(x, torch.zeros(())), torch.ones(())),
}


@pytest.mark.parametrize(("name", "function"), WRITTEN_OUT.items(), ids=WRITTEN_OUT)
def test_activation_functions_that_are_written_out_are_layers(name, function):
    network = Network(
        lambda net, x: net.fc(net.second(function(net.first(x)))),
        first=linear(),
        second=linear(),
        fc=linear(6, 3),
    )
    X = vectors()
    A = extract(network, X)
    assert A.layer_names == (name, "penultimate")
    with torch.no_grad():
        assert_allclose(A[name], function(network.first(torch.tensor(X))), rtol=1e-5, atol=1e-6)


def test_leaky_relu_after_a_skip_is_written_out_too():
    def compute(net, x):
        x = net.stem(x)
        x = x + net.part(x)
        return net.fc(net.last(torch.where(x > 0, x, 0.1 * x)))

    network = Network(compute, stem=linear(), part=linear(), last=linear(), fc=linear(6, 3))
    assert fit(network, vectors()).layers_ == ["where", "penultimate"]


NO_ACTIVATIONS = {
    "norm": lambda x: x / x.pow(2).sum(1, keepdim=True).sqrt(),
    "root mean square": lambda x: x * torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-6),
    "softmax": lambda x: torch.exp(x - x.amax(1, keepdim=True)),
    "affine": lambda x: x * 2 / 3 + 1,
    "fixed choice": lambda x: x.masked_fill(torch.arange(6) > 4, 0),
}


@pytest.mark.parametrize("function", NO_ACTIVATIONS.values(), ids=NO_ACTIVATIONS)
def test_norms_and_linear_functions_are_no_activation_functions(function):
    network = Network(
        lambda net, x: net.fc(net.second(function(net.first(x)))),
        first=linear(),
        second=linear(),
        fc=linear(6, 3),
    )
    assert fit(network, vectors()).layers_ == ["penultimate"]


def margin(cosines):
    return torch.cos(torch.acos(cosines) + 0.5) * 30


def other_margin(cosines):
    shifted = cosines * 0.8 - torch.sqrt(1 - cosines**2) * 0.5
    return torch.where(cosines > -0.5, shifted, cosines - 0.2) * 30


@pytest.mark.parametrize("end", [margin, other_margin, lambda c: margin(c).softmax(1)])
def test_what_becomes_the_logits_value_by_value_is_no_layer(end):
    def compute(net, x):
        x = F.relu(net.first(x))
        cosines = F.linear(F.normalize(x), F.normalize(net.fc.weight))
        return end(cosines.clamp(-0.999, 0.999))

    extractor = fit(Network(compute, first=linear(), fc=linear(6, 3)), vectors())
    assert extractor.layers_ == ["relu"]
    assert set(extractor.left_out_.values()) == {
        "the logits, or what becomes them without another layer"
    }


def at_mask(e, x, mask, y):
    y[mask] = e(x[mask])
    return y


def at_numbers(e, x, mask, y):
    rows = torch.where(mask)[0]
    return y.index_add(0, rows, e(x[None, rows].reshape(-1, 6)))


def selected(e, x, mask, y):
    rows = mask.nonzero().squeeze(1)
    return y.index_copy(0, rows, e(x.index_select(0, rows)))


class Experts(nn.Module):
    """Each sample goes through one of two experts."""

    def __init__(self, route):
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(linear(), nn.ReLU()) for _ in range(2))
        self.route, self.fc = route, linear(6, 3)

    def forward(self, x):
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            mask = (x[:, 0] > 0) == bool(i)
            if mask.any():
                y = self.route(expert, x, mask, y)
        return self.fc(F.gelu(y))


@pytest.mark.parametrize("route", [at_mask, at_numbers, selected])
@pytest.mark.parametrize("n_alike", [0, 5])
def test_layers_of_rows_that_are_chosen_by_the_inputs_are_left_out(route, n_alike):
    X = np.abs(vectors(10))
    X[5:, 0] *= -1
    # Those by which the network is traced are alike, or not.
    X = np.roll(X, n_alike // 2, axis=0)
    network = Experts(route)
    extractor = ActivationExtractor(network)
    A = extractor.fit_transform(X)
    assert A.layer_names == ("gelu",)
    assert all("row" in reason for reason in extractor.left_out_.values())
    with torch.no_grad():
        assert_allclose(A.logits, network(torch.tensor(X)), rtol=1e-5, atol=1e-6)


def test_rows_that_are_written_back_or_picked_by_number_are_layers():
    def compute(net, x):
        last = (x[:, :, 0] != 0).sum(1) - 1
        return net.fc(F.relu(net.part(x)[torch.arange(len(x)), last]))

    X = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    network = Network(compute, part=linear(3, 5), fc=linear(5, 3))
    assert fit(network, X).layers_ == ["relu"]


def test_error_of_a_layer_that_is_not_always_called_says_what_to_do():
    def compute(net, x):
        x = F.relu(net.first(x))
        return net.fc(x) if x.max() > 50 else net.fc(F.relu(net.second(x)))

    network = Network(compute, first=linear(), second=linear(), fc=linear(6, 3))
    X = vectors()
    extractor = fit(network, X)
    with pytest.raises(ValueError, match=r"'relu\[1\]'.*name the others by layers="):
        extractor.transform(1e4 * X)


class Excitation(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.down, self.act, self.up = nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1)
        self.sigmoid, self.gate = nn.Sigmoid(), gate

    def forward(self, x):
        return self.gate(self, x)


GATES = {
    "channels": lambda net, x: x * net.sigmoid(net.up(net.act(net.down(x.mean((2, 3), True))))),
    "expanded": lambda net, x: (
        net.sigmoid(net.up(net.act(net.down(x.mean((2, 3), True))))).expand_as(x) * x
    ),
    "positions": lambda net, x: x * net.sigmoid(net.up(net.act(net.down(x))).mean(1, True)),
    "both": lambda net, x: x * net.sigmoid(net.up(net.act(net.down(x)))),
}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
def test_gates_and_what_leads_to_them_alone_are_no_layers(gate):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        Excitation(gate),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    extractor = fit(network, images())
    assert extractor.layers_ == ["1", "4", "penultimate"]
    reason = "a gate, which only multiplies other values"
    assert extractor.left_out_ == {"2.act": reason, "2.sigmoid": reason}


def test_factors_of_an_outer_product_and_gated_units_are_no_gates():
    def outer(net, x):
        x = net.first(x)
        return net.fc((F.relu(x)[:, :, None] * torch.tanh(net.second(x))[:, None]).flatten(1))

    network = Network(outer, first=linear(), second=linear(), fc=linear(36, 3))
    assert fit(network, vectors()).layers_ == ["relu", "tanh", "penultimate"]

    def gated(net, x):
        return net.fc(net.first(x) * F.silu(net.second(x)))

    network = Network(gated, first=linear(), second=linear(), fc=linear(6, 3))
    assert fit(network, vectors()).layers_ == ["silu", "penultimate"]


def test_single_skip_in_the_forward_of_the_network_itself_is_a_layer():
    network, X = loop(1), vectors()
    extractor = fit(network, X)
    assert extractor.layers_ == ["add"]
    assert extractor.left_out_ == {"parts.0.1": "inside the block 'add'"}


def test_stages_of_a_pyramid_stay_beside_its_sums():
    def compute(net, x):
        a = F.relu(net.first(x))
        b = F.relu(net.second(a))
        c = F.relu(net.third(b))
        middle = net.at_b(b) + F.interpolate(net.at_c(c), size=b.shape[2:])
        large = net.at_a(a) + F.interpolate(middle, size=a.shape[2:])
        return net.fc(large.mean((2, 3)))

    torch.manual_seed(0)
    stages = {
        "first": nn.Conv2d(1, 4, 3),
        "second": nn.Conv2d(4, 4, 3, 2, 1),
        "third": nn.Conv2d(4, 4, 3, 2, 1),
    }
    sides = {name: nn.Conv2d(4, 4, 1) for name in ("at_a", "at_b", "at_c")}
    network = Network(compute, **stages, **sides, fc=nn.Linear(4, 3))
    layers = fit(network, images()).layers_
    assert [name for name in layers if "relu" in name] == ["relu[0]", "relu[1]", "relu[2]"]
