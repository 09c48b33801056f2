"""Recording networks that are out of the ordinary: their layers, passes, copies and libraries."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402

from skood.training import TrainingRecorder  # noqa: E402
from skood.training._hooks import ForwardHook  # noqa: E402


def make_net(*hidden, n_outputs=2):
    """The given modules and a linear layer that reads what they yield, of any shape."""
    return nn.Sequential(*hidden, nn.Flatten(), nn.LazyLinear(n_outputs))


def run(network, inputs):
    """A forward and a backward pass, from gradients of 0; returns the output."""
    network.zero_grad()
    output = network(inputs)
    output.square().sum().backward()
    return output


def record(network, inputs, **params):
    """What one iteration leaves in a recorder."""
    network(inputs)
    with TrainingRecorder(network, **params) as recorder:
        run(network, inputs)
    return recorder


def hooks_of(network):
    """All hooks of a network, on modules and on tensors."""
    on_modules = [module._forward_hooks for module in network.modules()]
    on_tensors = [weights._backward_hooks or {} for weights in network.parameters()]
    return [hook for hooks in (*on_modules, *on_tensors) for hook in hooks.values()]


# Layers

torch.manual_seed(0)


@pytest.mark.parametrize(
    ("conv", "incoming"),
    [
        (nn.Conv1d(4, 6, 3), lambda g, unit: g[unit]),
        (nn.Conv2d(4, 6, 3, groups=2), lambda g, unit: g[unit]),
        (nn.ConvTranspose1d(4, 6, 3), lambda g, unit: g[:, unit]),
        (
            nn.ConvTranspose2d(4, 6, 3, groups=2),
            lambda g, unit: g[2 * (unit // 3) : 2 * (unit // 3) + 2, unit % 3],
        ),
    ],
    ids=["plain", "grouped", "transposed", "transposed in groups"],
)
def test_gradients_of_a_channel_are_those_of_all_its_kernels(conv, incoming):
    inputs = torch.randn(3, 4, *[5] * (conv.weight.ndim - 2))
    network = make_net(copy.deepcopy(conv), nn.ReLU())
    gradients = record(network, inputs).average_gradients_["0"]
    weights, bias = network[0].weight.grad.double(), network[0].bias.grad.double()
    expected = [
        torch.cat([incoming(weights, unit).flatten(), bias[[unit]]]).abs().mean().item()
        for unit in range(6)
    ]
    np.testing.assert_allclose(gradients, expected, rtol=1e-5)


LAYERS = {
    "batch norm": ((4, 2, 6, 6), nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU()),
    "dropout": ((4, 2, 6, 6), nn.Conv2d(2, 6, 3), nn.Dropout(), nn.GroupNorm(2, 6), nn.ReLU()),
    "layer norm of maps": ((4, 2, 6), nn.Conv1d(2, 5, 3), nn.LayerNorm((5, 4)), nn.ReLU()),
    "layer norm": ((4, 7, 3), nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU()),
    "tokens": ((4, 7, 3), nn.Linear(3, 5), nn.ReLU()),
    "norm after the activation": ((4, 3), nn.Linear(3, 5), nn.ReLU(), nn.BatchNorm1d(5)),
}


@pytest.mark.parametrize(("shape", "modules"), [(s, m) for s, *m in LAYERS.values()], ids=LAYERS)
def test_a_unit_is_active_where_its_activation_function_yields_a_value_above_0(shape, modules):
    network, seen = make_net(*copy.deepcopy(modules)), []
    relu = next(module for module in network if isinstance(module, nn.ReLU))
    relu.register_forward_hook(lambda module, args, output: seen.append(output[0].detach()))
    counts = record(network, torch.randn(*shape)).activation_counts_["0"]
    by_unit = seen[-1].movedim(-1 if isinstance(network[0], nn.Linear) else 0, 0)
    np.testing.assert_array_equal(counts, (by_unit.reshape(len(by_unit), -1) > 0).any(1).int())


def test_an_activation_function_that_works_in_place_changes_nothing():
    network = make_net(nn.Linear(3, 8), nn.Hardsigmoid(inplace=True))
    inputs = torch.randn(1, 3)
    expected = network[0](inputs)[0] > 0
    assert not expected.all()
    counts = record(network, inputs).activation_counts_["0"]
    np.testing.assert_array_equal(counts, expected.int().numpy())


@pytest.mark.parametrize("n_samples", [None, 0])
def test_inputs_without_a_batch_and_empty_ones_are_borne(n_samples):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    inputs = torch.randn(3) if n_samples is None else torch.empty(n_samples, 3)
    counts = record(network, inputs).activation_counts_["0"]
    expected = (network[0](inputs) > 0).int().reshape(-1, 4).sum(0)
    np.testing.assert_array_equal(counts, expected.numpy())


def weight_norm(linear):
    with pytest.warns((FutureWarning, UserWarning), match="weight_norm"):
        return nn.utils.weight_norm(linear)


@pytest.mark.parametrize(
    "compute",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        weight_norm,
        lambda linear: prune.random_unstructured(linear, "weight", amount=0.4),
    ],
    ids=["weight norm", "spectral norm", "old weight norm", "pruned"],
)
def test_weights_that_every_pass_computes_have_a_gradient(compute):
    inputs = torch.randn(5, 3)
    network, seen = make_net(compute(nn.Linear(3, 4)), nn.Tanh()), []

    def see_gradient_of_output(module, args, output):
        output.register_hook(lambda gradient: seen.append(gradient.T @ inputs))

    network[0].register_forward_hook(see_gradient_of_output)
    recorder = record(network, inputs, signed=True, include_bias=False)
    expected = seen[-1].sum(1).numpy()
    np.testing.assert_allclose(recorder.average_gradients_["0"], expected, rtol=1e-4)
    assert recorder.n_iterations_ == 1


def test_gradients_in_half_precision_do_not_overflow():
    network = nn.Sequential(nn.Linear(3000, 4), nn.ReLU(), nn.Linear(4, 2)).half()
    for weights in network.parameters():
        weights.data.fill_(2e-4)
    with TrainingRecorder(network) as recorder:
        (network(torch.full((1, 3000), 100.0, dtype=torch.half)).sum() * 1000).backward()
    expected = network[0].weight.grad.double().abs().mean(1)
    assert expected.min() * 3000 > torch.finfo(torch.half).max
    np.testing.assert_allclose(recorder.average_gradients_["0"], expected.numpy(), rtol=1e-3)


def test_a_bias_that_every_pass_computes_has_a_gradient():
    class Doubled(nn.Module):
        def forward(self, bias):
            return 2 * bias

    network = make_net(nn.Linear(3, 4), nn.ReLU())
    nn.utils.parametrize.register_parametrization(network[0], "bias", Doubled())
    inputs = torch.randn(5, 3)
    with_bias, without = (
        record(network, inputs, signed=True, include_bias=included).average_gradients_["0"]
        for included in (True, False)
    )
    # The gradient of what enters the layer as its bias is half of that of the parameter.
    expected = network[0].parametrizations["bias"].original.grad.numpy() / 2
    np.testing.assert_allclose(with_bias - without, expected, rtol=1e-4)


# Passes


def mean_gradients(linear):
    """Mean magnitude of the gradients of the incoming weights of each unit, with the bias."""
    gradients = torch.cat([linear.weight.grad, linear.bias.grad[:, None]], 1)
    return gradients.abs().mean(1)


class TwoWays(nn.Module):
    """Goes by one of two hidden layers, or by both."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x, ways=("left", "right")):
        return self.out(sum(getattr(self, way)(x).relu() for way in ways))


def test_an_iteration_in_which_a_layer_is_not_reached_counts_as_0():
    network, inputs = TwoWays(), torch.randn(5, 3)
    sums = {"left": torch.zeros(4), "right": torch.zeros(4)}
    with TrainingRecorder(network, last_fraction=1.0) as recorder:
        for ways in [("left",), ("right",), ("left", "right"), ("right",)]:
            network.zero_grad()
            network(inputs, ways).square().sum().backward()
            for way in ways:
                sums[way] += mean_gradients(getattr(network, way))
    assert recorder.n_iterations_ == 4
    for way, total in sums.items():
        np.testing.assert_allclose(recorder.average_gradients_[way], total.numpy() / 4, rtol=1e-5)


def test_weights_may_be_frozen_and_thawed_in_the_course_of_the_training():
    network, inputs = TwoWays(), torch.randn(5, 3)
    network.left.requires_grad_(False)
    network.right.requires_grad_(False)
    with TrainingRecorder(network, last_fraction=1.0) as recorder:
        run(network, inputs)
        assert recorder.n_iterations_ == 1
        assert not recorder.average_gradients_["left"].any()
        network.left.requires_grad_(True)
        run(network, inputs)
    gradients = recorder.average_gradients_
    expected = mean_gradients(network.left).numpy() / 2
    np.testing.assert_allclose(gradients["left"], expected, rtol=1e-5)
    assert not gradients["right"].any()
    assert not network.right.weight.requires_grad


def test_a_backward_pass_that_fails_leaves_no_gradient():
    network, inputs = TwoWays(), torch.randn(5, 3)

    def fail(gradient):
        raise ArithmeticError

    with TrainingRecorder(network, last_fraction=1.0) as recorder:
        handle = network.left.weight.register_hook(fail)
        with pytest.raises(ArithmeticError):
            run(network, inputs)
        handle.remove()
        run(network, inputs)
    assert recorder.n_iterations_ == 2
    expected = mean_gradients(network.right).numpy() / 2
    np.testing.assert_allclose(recorder.average_gradients_["right"], expected, rtol=1e-5)


def test_gradients_are_seen_before_they_are_clipped():
    network, inputs = TwoWays(), torch.randn(5, 3)
    with TrainingRecorder(network) as recorder:
        run(network, inputs)
        before = mean_gradients(network.left)
        nn.utils.clip_grad_norm_(network.parameters(), 1e-3)
    np.testing.assert_allclose(recorder.average_gradients_["left"], before.numpy(), rtol=1e-5)


def test_an_optimizer_takes_the_gradient_itself_and_no_copy():
    network, places = TwoWays(), []
    network.left.weight.register_hook(lambda gradient: places.append(gradient.data_ptr()))
    with TrainingRecorder(network):
        run(network, torch.randn(5, 3))
    assert network.left.weight.grad.data_ptr() == places[0]


# Copies


def test_copies_of_a_network_in_training_are_not_recorded():
    network, inputs = TwoWays(), torch.randn(5, 3)
    with TrainingRecorder(network) as recorder:
        run(network, inputs)
        counts = recorder.activation_counts_["left"]
        for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            run(copied, inputs)
            assert {type(hook) for hook in hooks_of(copied)} == {ForwardHook}
        np.testing.assert_array_equal(recorder.activation_counts_["left"], counts)
        assert recorder.n_iterations_ == 1
    assert not hooks_of(network)


def test_a_recorder_can_be_pickled_in_the_course_of_the_training():
    network, inputs = TwoWays(), torch.randn(5, 3)
    with TrainingRecorder(network) as recorder:
        run(network, inputs)
        copied = pickle.loads(pickle.dumps(recorder))
        run(network, inputs)
    assert (copied.n_iterations_, recorder.n_iterations_) == (1, 2)
    for layer, counts in recorder.activation_counts_.items():
        np.testing.assert_array_equal(2 * copied.activation_counts_[layer], counts)


def test_what_was_read_does_not_change_any_more():
    network, inputs = TwoWays(), torch.randn(5, 3)
    with TrainingRecorder(network) as recorder:
        run(network, inputs)
        counts, gradients = recorder.activation_counts_, recorder.average_gradients_
        kept = copy.deepcopy((counts, gradients))
        run(network, 100 * inputs)
        for found, before in zip((counts, gradients), kept, strict=True):
            np.testing.assert_equal(found, before)
        counts["left"][:] = -1
        assert (recorder.activation_counts_["left"] >= 0).all()


def test_parallel_wrappers_are_looked_through():
    network = TwoWays()
    with TrainingRecorder(nn.DataParallel(network)) as recorder:
        run(network, torch.randn(5, 3))
    assert list(recorder.activation_counts_) == ["left", "right"]


# Libraries and input


def test_a_loop_in_plain_torch_needs_no_skorch():
    code = (
        "import sys; sys.modules['skorch'] = None\n"
        "import torch; from skood.training import TrainingRecorder\n"
        "net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))\n"
        "with TrainingRecorder(net) as recorder: net(torch.ones(4, 2)).sum().backward()\n"
        "print(recorder.n_iterations_, len(recorder.average_gradients_['0']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "3"]


def test_weights_that_are_not_there_yet_are_named():
    with pytest.raises(ValueError, match="Sequential has parameters that are not initialised"):
        TrainingRecorder(make_net(nn.Linear(3, 4))).__enter__()


def test_a_recorder_that_has_a_network_is_no_callback():
    skorch = pytest.importorskip("skorch")
    callbacks = [("recorder", TrainingRecorder(TwoWays()))]
    net = skorch.NeuralNetRegressor(TwoWays, callbacks=callbacks, train_split=None, verbose=0)
    with pytest.raises(ValueError, match="leave network=None, got TwoWays"):
        net.fit(np.zeros((4, 3), dtype=np.float32), np.zeros((4, 2), dtype=np.float32))


def test_hooks_that_a_failing_fit_leaves_go_with_the_next():
    skorch = pytest.importorskip("skorch")
    X, y = np.ones((4, 3), dtype=np.float32), np.zeros((4, 2), dtype=np.float32)
    recorder = TrainingRecorder()
    net = skorch.NeuralNetRegressor(
        TwoWays, callbacks=[recorder], train_split=None, max_epochs=1, verbose=0
    )
    with pytest.raises(RuntimeError):
        net.fit(X[:, :2], y)
    failed = net.module_
    net.fit(X, y)
    assert not hooks_of(failed)
    assert not hooks_of(net.module_)
    assert recorder.n_iterations_ == 1


def test_a_module_that_is_made_anew_is_recorded_anew():
    skorch = pytest.importorskip("skorch")
    X, y = np.ones((4, 3), dtype=np.float32), np.zeros((4, 2), dtype=np.float32)
    recorder = TrainingRecorder()
    net = skorch.NeuralNetRegressor(
        TwoWays, callbacks=[recorder], train_split=None, max_epochs=1, verbose=0
    ).fit(X, y)
    net.partial_fit(X, y)
    assert recorder.n_iterations_ == 2
    net.initialize_module()
    net.initialize_optimizer()
    net.partial_fit(X, y)
    assert recorder.n_iterations_ == 1
