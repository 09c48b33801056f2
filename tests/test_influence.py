"""The influence of neurons against references, sums over all paths, and dense twins."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from _networks import untouched
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier

from skood.inspection import neuron_influence

POWERS = {"l1": 1, "l2": 2}
each_norm = pytest.mark.parametrize("norm", ["l1", "l2"])


def by_paths(matrices, layer, unit, norm, active=None):
    """Influence of a neuron as a sum over all paths that lead from it to an output."""
    power, rest = POWERS[norm], matrices[layer + 1 :]
    total = 0.0
    for path in product(*(range(len(matrix)) for matrix in rest)):
        hidden = enumerate(path[:-1], start=layer + 1)
        if active is not None and not all(active[i][n] for i, n in [(layer, unit), *hidden]):
            continue
        steps = zip(rest, path, (unit, *path), strict=False)
        total += np.prod([abs(matrix[to, come]) ** power for matrix, to, come in steps])
    return total ** (1 / power)


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in [(4, 3), (5, 4), (3, 5), (2, 3)]]


# References


@each_norm
def test_influences_of_the_reference_network_are_met(golden, norm):
    network = golden("neuron_statistics")
    weights = [network[f"W{number}"] for number in range(1, 7)]
    counts = {f"relu{number}": network[f"activation_count_{number}"] for number in range(1, 6)}
    found = neuron_influence(weights, norm, activation_counts=counts)
    assert list(found) == list(counts)
    for number, influence in enumerate(found.values(), start=1):
        expected = network[f"influence{POWERS[norm]}_{number}"]
        np.testing.assert_allclose(influence, expected, rtol=1e-5)
        assert influence.dtype == np.float64


@each_norm
def test_influence_is_a_sum_over_all_paths(matrices, norm):
    found = neuron_influence(matrices, norm)
    assert list(found) == ["layer_0", "layer_1", "layer_2"]
    for layer, influence in enumerate(found.values()):
        expected = [by_paths(matrices, layer, unit, norm) for unit in range(len(influence))]
        np.testing.assert_allclose(influence, expected)


@each_norm
def test_no_path_leads_through_a_neuron_that_was_never_active(matrices, norm):
    counts = [np.array([3, 0, 1, 1]), np.array([1, 1, 0, 9, 0]), np.array([0, 2, 2])]
    found = neuron_influence(matrices, norm, activation_counts=counts)
    for layer, influence in enumerate(found.values()):
        active = [count > 0 for count in counts]
        expected = [by_paths(matrices, layer, unit, norm, active) for unit in range(len(influence))]
        np.testing.assert_allclose(influence, expected)
        assert (influence[counts[layer] == 0] == 0).all()


# Kinds of networks


@pytest.fixture
def torch_twin(matrices):
    """The same network in torch, whose hidden layers have names of their own."""
    torch = pytest.importorskip("torch")
    modules = []
    for matrix in matrices:
        linear = torch.nn.Linear(matrix.shape[1], matrix.shape[0])
        linear.weight.data = torch.tensor(matrix)
        modules += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def test_torch_networks_are_read_and_left_alone(matrices, torch_twin):
    with untouched(torch_twin):
        found = neuron_influence(torch_twin)
    assert list(found) == ["0", "2", "4"]
    for influence, expected in zip(
        found.values(), neuron_influence(matrices).values(), strict=True
    ):
        np.testing.assert_allclose(influence, expected)


def test_skorch_nets_are_read(torch_twin):
    skorch = pytest.importorskip("skorch")
    net = skorch.NeuralNet(torch_twin, criterion=lambda: None).initialize()
    found, expected = neuron_influence(net), neuron_influence(torch_twin)
    assert list(found) == list(expected)
    np.testing.assert_array_equal(found["2"], expected["2"])


def test_perceptrons_of_scikit_learn_are_read():
    X = np.random.default_rng(0).normal(size=(60, 4))
    with pytest.warns(match="Maximum iterations"):
        net = MLPClassifier((6, 5), max_iter=2, random_state=0).fit(X, np.arange(60) % 3)
    found = neuron_influence(net, "l1")
    assert list(found) == ["hidden_0", "hidden_1"]
    expected = neuron_influence([weights.T for weights in net.coefs_], "l1")
    np.testing.assert_array_equal(found["hidden_0"], expected["layer_0"])


def test_layers_are_named_as_asked_for(matrices):
    counts = {"a": np.ones(4), "b": np.ones(5), "c": np.ones(3)}
    assert list(neuron_influence(matrices, activation_counts=counts)) == ["a", "b", "c"]
    named = neuron_influence(matrices, activation_counts=counts, layers=["x", "y", "z"])
    assert list(named) == ["x", "y", "z"]


# Convolutions and norms


def conv_net(**params):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    first = nn.Conv2d(2, 4, 3)
    second = nn.Conv2d(4, 6, params.pop("kernel_size", 1), **params)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 9, 3))


def summed(weights, power):
    """Powers of weights, summed over the positions of a kernel."""
    return (np.abs(weights.detach().double().numpy()) ** power).sum(axis=(2, 3))


@each_norm
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_positions_of_a_kernel_and_of_a_flattened_channel_add_up(norm, kernel_size):
    net, power = conv_net(kernel_size=kernel_size), POWERS[norm]
    head = summed(net[5].weight.reshape(3, 6, 3, 3), power)
    last = head.sum(axis=0)
    found = neuron_influence(net, norm)
    np.testing.assert_allclose(found["2"], last ** (1 / power))
    np.testing.assert_allclose(found["0"], (last @ summed(net[2].weight, power)) ** (1 / power))


@each_norm
def test_a_grouped_convolution_is_one_without_the_weights_between_groups(norm):
    import torch

    grouped, dense = conv_net(groups=2), conv_net()
    dense.load_state_dict({**dense.state_dict(), **grouped[5].state_dict(prefix="5.")})
    dense[2].weight.data.zero_()
    for group in range(2):
        outputs, inputs = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
        dense[2].weight.data[outputs, inputs] = grouped[2].weight.data[outputs]
    assert torch.equal(grouped[5].weight, dense[5].weight)
    for influence, expected in zip(
        neuron_influence(grouped, norm).values(),
        neuron_influence(dense, norm).values(),
        strict=True,
    ):
        np.testing.assert_allclose(influence, expected)


@each_norm
def test_a_batch_norm_is_folded_into_the_layer_before_it(norm):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    first, second, head = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2)
    batch_norm = nn.BatchNorm1d(5)
    batch_norm.weight.data.normal_()
    batch_norm.running_var.uniform_(0.5, 2)
    net = nn.Sequential(first, nn.ReLU(), second, batch_norm, nn.ReLU(), head)
    scale = (batch_norm.weight / (batch_norm.running_var + batch_norm.eps).sqrt()).detach()
    folded = [first.weight, second.weight * scale[:, None], head.weight]
    expected = neuron_influence([weights.detach().numpy() for weights in folded], norm)
    with untouched(net):
        found = neuron_influence(net, norm)
    np.testing.assert_allclose(found["0"], expected["layer_0"], rtol=1e-6)
    np.testing.assert_allclose(found["2"], expected["layer_1"], rtol=1e-6)


def dense_twin(module, shape):
    """The matrix by which a module without bias maps flattened inputs to flattened outputs."""
    import torch

    inputs = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    return module(inputs).flatten(1).T.detach().numpy()


CONVOLUTIONS = {
    "plain": {"kernel_size": 3, "padding": 1},
    "wide": {"kernel_size": 5, "padding": 2},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
}


@each_norm
@pytest.mark.parametrize("params", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_channel_has_the_influence_of_its_positions_together(norm, params):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    around = {"padding_mode": "circular", "bias": False}
    first = nn.Conv1d(2, 4, 3, padding=1, **around)
    second = nn.Conv1d(4, 6, **params, **around)
    head = nn.Linear(6 * (6 // params.get("stride", 1)), 3)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), head).double()
    found = neuron_influence(net, norm)
    # Without edges, a convolution is a dense layer with equal weights at all positions.
    twins = [dense_twin(first, (2, 6)), dense_twin(second, (4, 6)), head.weight.detach().numpy()]
    power = POWERS[norm]
    for influence, neurons in zip(
        found.values(), neuron_influence(twins, norm).values(), strict=True
    ):
        positions = neurons.reshape(len(influence), -1)
        np.testing.assert_allclose(influence, (positions**power).sum(axis=1) ** (1 / power))


@each_norm
def test_a_transposed_convolution_is_read_from_input_to_output(norm):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    layers = [
        nn.Linear(3, 4),
        nn.ConvTranspose1d(4, 6, 1, groups=2, bias=False),
        nn.Conv1d(6, 2, 1),
    ]
    net = nn.Sequential(layers[0], nn.Unflatten(1, (4, 1)), *layers[1:]).double()
    twins = [layers[0].weight, dense_twin(layers[1], (4, 1)), layers[2].weight[:, :, 0]]
    expected = neuron_influence([np.asarray(twin.tolist()) for twin in twins], norm)
    found = neuron_influence(net, norm)
    np.testing.assert_allclose(found["0"], expected["layer_0"])
    np.testing.assert_allclose(found["2"], expected["layer_1"])


def test_a_norm_after_an_activation_function_is_folded_into_what_reads_it():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    conv, head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 9, 2)
    batch_norm = nn.BatchNorm2d(4)
    batch_norm.running_var.uniform_(0.5, 2)
    net = nn.Sequential(conv, nn.ReLU(), batch_norm, nn.Flatten(), head)
    scale = 1 / (batch_norm.running_var + batch_norm.eps).sqrt()
    scaled = (head.weight.reshape(2, 4, 9) * scale[:, None]).detach().numpy()
    expected = np.sqrt((scaled.astype(np.float64) ** 2).sum(axis=(0, 2)))
    np.testing.assert_allclose(neuron_influence(net)["0"], expected, rtol=1e-6)


def test_a_norm_that_keeps_no_variance_counts_with_its_weights():
    nn = pytest.importorskip("torch").nn
    norm = nn.LayerNorm(4)
    norm.weight.data.copy_(norm.weight.data.new_tensor([1.0, -2.0, 0.0, 3.0]))
    first, second, head = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 2)
    found = neuron_influence(nn.Sequential(first, nn.ReLU(), second, norm, nn.ReLU(), head), "l1")
    weights = [layer.weight.detach().double().numpy() for layer in (first, second, head)]
    weights[1] *= np.array([[1], [2], [0], [3]])
    expected = neuron_influence(weights, "l1")
    np.testing.assert_allclose(found["0"], expected["layer_0"])


def test_weights_that_are_computed_are_read_without_a_trace():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    first = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))
    head = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2))
    net = nn.Sequential(first, nn.ReLU(), head).train()
    with untouched(net):
        found = neuron_influence(net)
    weights = net.eval()[2].weight.detach().double().numpy()
    assert list(found) == ["0"]
    np.testing.assert_allclose(found["0"], np.sqrt((weights**2).sum(axis=0)))


def test_half_precision_is_summed_in_double():
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 3000)).bfloat16()
    net[1].weight.data.fill_(0.5)
    assert neuron_influence(net, "l1")["0"] == 1500


def test_matrices_and_perceptrons_need_no_torch():
    code = (
        "import sys; from skood.inspection import neuron_influence; "
        "print(neuron_influence([[[1.0]], [[2.0]]]), 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["{'layer_0':", "array([2.])}", "False"]


# Bad input


def test_what_does_not_fit_together_is_named(matrices):
    with pytest.raises(ValueError, match=r"'layer_0' and 'layer_1' do not follow .* 4 .* 3"):
        neuron_influence([matrices[0], np.ones((2, 3))])
    with pytest.raises(ValueError, match=r"widths \[4, 5, 3\], got 2 arrays"):
        neuron_influence(matrices, activation_counts=[np.ones(4), np.ones(5)])
    with pytest.raises(ValueError, match=r"3 different names, .* got \['a', 'a', 'b'\]"):
        neuron_influence(matrices, layers=["a", "a", "b"])
    with pytest.raises(ValueError, match="needs a hidden layer and an output layer"):
        neuron_influence(matrices[:1])
    with pytest.raises(ValueError, match="NaN"):
        neuron_influence([np.full((2, 2), np.nan), np.ones((2, 2))])
    with pytest.raises(ValueError, match="norm"):
        neuron_influence(matrices, "l3")
    with pytest.raises(TypeError, match="network must be"):
        neuron_influence("network")
    with pytest.raises(NotFittedError):
        neuron_influence(MLPClassifier())


def test_other_kinds_of_weights_are_refused():
    nn = pytest.importorskip("torch").nn
    net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="other weights: '0' is of type Embedding"):
        neuron_influence(net)


def test_torch_layers_that_do_not_follow_one_another_are_named():
    nn = pytest.importorskip("torch").nn
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(37, 2))
    with pytest.raises(ValueError, match=r"'0' and '2' do not follow one another: .* 4 .* 37"):
        neuron_influence(net)
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(6, 2))
    with pytest.raises(ValueError, match=r"BatchNorm1d before layer '3' has 5 units, .* 6 inputs"):
        neuron_influence(net)
    net[0].weight.data[0, 0] = float("inf")
    with pytest.raises(ValueError, match=r"'0' has weights that are not finite"):
        neuron_influence(net)
