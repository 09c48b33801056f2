"""What is recorded in training against brute force, and that training goes on as without it."""

import copy
import pickle
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import skood.training  # noqa: E402
from skood.training import TrainingRecorder  # noqa: E402
from skood.training._record import GradientHistory  # noqa: E402

N_INPUTS, N_CLASSES = 6, 3


def dense_net(dropout=0.5):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(N_INPUTS, 5),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(5, 4),
        nn.ReLU(inplace=True),
        nn.Linear(4, N_CLASSES),
    )


def make_batches(n_batches, shape=(N_INPUTS,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(7, *shape, generator=generator),
            torch.randint(N_CLASSES, (7,), generator=generator),
        )
        for _ in range(n_batches)
    ]


def train(network, batches, watch=None):
    """Take a step for each batch; ``watch`` is called between the backward pass and the step."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for inputs, labels in batches:
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), labels).backward()
        if watch is not None:
            watch(inputs)
        optimizer.step()


def n_hooks(network):
    return sum(
        len(module._forward_hooks) + len(module._backward_hooks) for module in network.modules()
    ) + sum(len(weights._backward_hooks or ()) for weights in network.parameters())


# What is recorded


def test_counts_and_gradients_are_those_of_a_brute_force():
    network, batches = dense_net(dropout=0), make_batches(21)
    active, gradients = {"0": [], "3": []}, {"0": [], "3": []}

    def watch(inputs):
        with torch.no_grad():
            hidden = torch.relu(network[0](inputs[0]))
            active["0"].append(hidden > 0)
            active["3"].append(network[3](hidden) > 0)
        for layer, of_layer in gradients_of(network).items():
            gradients[layer].append(of_layer)

    # Passes of its own would be counted, so the brute force watches a copy.
    with TrainingRecorder(twin := copy.deepcopy(network), last_fraction=1 / 3) as recorder:
        train(twin, batches)
    train(network, batches, watch)
    assert recorder.n_iterations_ == 21
    assert list(recorder.activation_counts_) == list(recorder.average_gradients_) == ["0", "3"]
    for layer in active:
        expected = torch.stack(active[layer]).sum(0).numpy()
        np.testing.assert_array_equal(recorder.activation_counts_[layer], expected)
        last = torch.stack(gradients[layer][14:]).double()
        np.testing.assert_allclose(
            recorder.average_gradients_[layer], last.abs().mean((0, 2)).numpy(), rtol=1e-5
        )


def test_signed_gradients_are_summed():
    network, sums = dense_net(), torch.zeros(5, dtype=torch.float64)

    def watch(inputs):
        sums.add_(gradients_of(network)["0"].double().sum(1))

    with TrainingRecorder(network, last_fraction=1.0, signed=True) as recorder:
        train(network, make_batches(10), watch)
    np.testing.assert_allclose(recorder.average_gradients_["0"], sums.numpy(), rtol=1e-4)
    assert (recorder.average_gradients_["0"] < 0).any()


def gradients_of(network):
    """Gradients of the incoming weights of each hidden neuron, the bias last, by layer."""
    return {
        layer: torch.cat(
            [network[int(layer)].weight.grad, network[int(layer)].bias.grad[:, None]], 1
        )
        for layer in ("0", "3")
    }


def train_recorded(n_iterations, **params):
    """A recorder, and the gradients of all iterations as a brute force sees them."""
    network, seen = dense_net(), {"0": [], "3": []}

    def watch(inputs):
        for layer, gradients in gradients_of(network).items():
            seen[layer].append(gradients.double().numpy())

    with TrainingRecorder(network, **params) as recorder:
        train(network, make_batches(n_iterations), watch)
    return recorder, {layer: np.stack(gradients) for layer, gradients in seen.items()}


@pytest.mark.parametrize("n_iterations", [1, 2, 65, 257, 1_100])
@pytest.mark.parametrize("include_bias", [True, False])
def test_every_one_of_the_last_iterations_is_read(n_iterations, include_bias):
    recorder, seen = train_recorded(n_iterations, include_bias=include_bias)
    for share in (0.5, 0.3):
        recorder.last_fraction = share
        for layer, gradients in seen.items():
            last = gradients[-max(1, round(share * n_iterations)) :]
            expected = np.abs(last if include_bias else last[:, :, :-1]).mean(axis=(0, 2))
            np.testing.assert_allclose(recorder.average_gradients_[layer], expected, rtol=1e-5)


@pytest.mark.parametrize(("n_iterations", "include_bias"), [(257, False), (1_100, True)])
def test_the_signed_sum_is_that_of_every_one_of_the_last_iterations(n_iterations, include_bias):
    recorder, seen = train_recorded(n_iterations, signed=True, include_bias=include_bias)
    for layer, gradients in seen.items():
        last = gradients[-round(n_iterations / 2) :]
        expected = (last if include_bias else last[:, :, :-1]).sum(axis=(0, 2))
        np.testing.assert_allclose(
            recorder.average_gradients_[layer], expected, rtol=1e-4, atol=1e-5
        )


def test_a_training_read_at_any_time_is_averaged_over_its_last_half_so_far():
    network, seen = dense_net(), []

    def watch(inputs):
        seen.append(gradients_of(network)["3"].double().abs().mean(1).numpy())
        if len(seen) in (70, 71, 199, 500):
            # Of the present backward pass, too.
            found = recorder.average_gradients_["3"]
            last = seen[-round(len(seen) / 2) :]
            np.testing.assert_allclose(found, np.mean(last, axis=0), rtol=1e-5)

    with TrainingRecorder(network) as recorder:
        train(network, make_batches(500), watch)
    assert len(seen) == recorder.n_iterations_ == 500


def test_a_smaller_last_fraction_can_be_asked_for_afterwards_but_no_larger_one():
    recorder, seen = train_recorded(300)
    recorder.last_fraction = 0.1
    expected = np.abs(seen["0"][-30:]).mean(axis=(0, 2))
    np.testing.assert_allclose(recorder.average_gradients_["0"], expected, rtol=1e-5)
    recorder.last_fraction = 0.6
    with pytest.raises(ValueError, match=r"recorded for last_fraction=0\.5.*got 0\.6"):
        recorder.average_gradients_  # noqa: B018


def test_layers_without_a_bias_are_averaged_over_their_weights():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(N_INPUTS, 4, bias=False), nn.ReLU(), nn.Linear(4, 3))
    with TrainingRecorder(network) as recorder:
        train(network, make_batches(1))
    expected = network[0].weight.grad.abs().mean(1).numpy()
    np.testing.assert_allclose(recorder.average_gradients_["0"], expected, rtol=1e-5)


def test_a_bias_that_alone_is_trained_is_recorded():
    network = dense_net().bfloat16()
    for layer in (0, 3, 5):
        network[layer].weight.requires_grad_(False)
    inputs, labels = make_batches(1)[0]
    with TrainingRecorder(network) as recorder:
        F.cross_entropy(network(inputs.bfloat16()), labels).backward()
    expected = network[0].bias.grad.float().abs().numpy() / (N_INPUTS + 1)
    np.testing.assert_allclose(recorder.average_gradients_["0"], expected, rtol=1e-5)


def make_history(n_iterations, value, **params):
    history = GradientHistory(1, **{"last_fraction": 0.5, "read_fraction": 1.0, **params})
    n_read = 0
    for number in range(n_iterations):
        if history.begin_iteration():
            history.add(torch.tensor([float(value(number))]))
            n_read += 1
    return history, n_read


@pytest.mark.parametrize("period", [2, 3, 5, 8])
@pytest.mark.parametrize("read_fraction", [0.1, 0.5])
def test_a_share_of_the_iterations_is_read_evenly_where_they_take_turns(period, read_fraction):
    history, n_read = make_history(8_000, lambda i: i % period == 0, read_fraction=read_fraction)
    assert n_read == pytest.approx(read_fraction * 8_000, abs=5)
    mean, n_last = history.last(0.5)
    assert n_last == 4_000
    assert mean.item() == pytest.approx(1 / period, abs=0.02)


def test_only_what_may_be_needed_is_kept():
    history, _ = make_history(10_000, lambda i: i)
    assert sum(len(numbers) for numbers, _ in history._chunks) <= 5_000 + 2 * 64
    assert history.last(0.5)[0].item() == np.arange(5_000, 10_000).mean()


def test_the_sum_of_a_share_of_the_iterations_is_scaled_to_all():
    network = dense_net(dropout=0)
    inputs, labels = make_batches(1)[0]
    with TrainingRecorder(network, signed=True, read_fraction=0.25) as recorder:
        for _ in range(40):  # without a step: all gradients are the same
            network.zero_grad()
            F.cross_entropy(network(inputs), labels).backward()
    expected = 20 * gradients_of(network)["0"].sum(1).numpy()
    np.testing.assert_allclose(recorder.average_gradients_["0"], expected, rtol=1e-4, atol=1e-6)


def test_every_sample_of_every_batch_is_asked_which_neurons_are_active():
    network = dense_net(dropout=0)
    with torch.no_grad():
        network[0].bias.sub_(1.2)
    active = {"0": torch.zeros(5, dtype=torch.bool), "3": torch.zeros(4, dtype=torch.bool)}
    with TrainingRecorder(network) as recorder:
        for place, (inputs, labels) in enumerate(make_batches(150)):
            F.cross_entropy(network(inputs), labels).backward()
            with torch.no_grad():
                hidden = network[1](F.linear(inputs, network[0].weight, network[0].bias))
                active["0"] |= (hidden > 0).any(0)
                active["3"] |= (F.linear(hidden, network[3].weight, network[3].bias) > 0).any(0)
            if place in (0, 70, 149):
                for layer, seen in active.items():
                    np.testing.assert_array_equal(recorder.ever_active_[layer], seen.numpy())
    rarely = recorder.ever_active_["0"] & (recorder.activation_counts_["0"] == 0)
    assert rarely.any()
    assert not np.concatenate(list(recorder.ever_active_.values())).all()


def test_a_very_small_share_still_has_a_gradient():
    network = dense_net()
    with TrainingRecorder(network, last_fraction=1e-6) as recorder:
        for n_batches in (255, 1, 1, 1, 1):
            train(network, make_batches(n_batches))
            assert (recorder.average_gradients_["3"] > 0).any()


def test_every_backward_pass_is_an_iteration_of_its_own():
    network, (first, second) = dense_net(), make_batches(2)
    with TrainingRecorder(network, last_fraction=1.0, signed=True) as recorder:
        for inputs, labels in (first, second):
            F.cross_entropy(network(inputs), labels).backward()
    # Nobody has set the gradients to zero, so that they have added up.
    np.testing.assert_allclose(
        recorder.average_gradients_["3"], gradients_of(network)["3"].sum(1).numpy(), rtol=1e-4
    )
    assert recorder.n_iterations_ == 2


def test_only_training_passes_count():
    network, batches = dense_net(), make_batches(3)
    with TrainingRecorder(network) as recorder:
        train(network, batches)
        counts = recorder.activation_counts_["0"]
        with torch.no_grad():
            network(batches[0][0])
        network.eval()(batches[0][0])
        np.testing.assert_array_equal(recorder.activation_counts_["0"], counts)
        assert recorder.n_iterations_ == 3


class FunctionalNet(nn.Module):
    """Calls its activation functions without modules, after a norm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(16, 5)
        self.norm = nn.BatchNorm1d(5)
        self.out = nn.Linear(5, N_CLASSES)

    def forward(self, x):
        self.seen_maps = F.relu(self.conv(x))
        self.seen = F.relu(self.norm(self.fc(self.seen_maps.flatten(1))))
        return self.out(self.seen)


def test_functions_norms_and_channels_are_counted_as_they_should():
    network, counts = FunctionalNet(), {"conv": 0, "fc": 0}

    def watch(inputs):
        counts["conv"] = counts["conv"] + (network.seen_maps[0] > 0).flatten(1).any(1)
        counts["fc"] = counts["fc"] + (network.seen[0] > 0)

    with TrainingRecorder(network) as recorder:
        train(network, make_batches(30, (1, 4, 4)), watch)
    for layer, expected in counts.items():
        np.testing.assert_array_equal(recorder.activation_counts_[layer], expected.numpy())
    gradients = recorder.average_gradients_
    assert {layer: len(values) for layer, values in gradients.items()} == {"conv": 4, "fc": 5}
    assert (gradients["conv"] > 0).all()


def test_frozen_layers_have_no_gradient():
    network = dense_net()
    network[0].requires_grad_(False)
    with TrainingRecorder(network) as recorder:
        train(network, make_batches(4))
    assert (recorder.average_gradients_["0"] == 0).all()
    assert (recorder.average_gradients_["3"] > 0).any()
    assert not network[0].weight.requires_grad
    assert recorder.activation_counts_["0"].sum() > 0


# Training goes on as without it


@pytest.mark.parametrize("make_network", [dense_net, FunctionalNet])
def test_training_is_the_same_to_the_last_bit(make_network):
    shape = (N_INPUTS,) if make_network is dense_net else (1, 4, 4)
    watched, alone = make_network(), make_network()
    with TrainingRecorder(watched):
        train(watched, make_batches(40, shape))
    train(alone, make_batches(40, shape))
    for name, weights in alone.state_dict().items():
        assert torch.equal(watched.state_dict()[name], weights), name
    for one, other in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_no_hook_stays_and_a_broken_loop_loses_nothing():
    network, batches = dense_net(), make_batches(8)
    before = n_hooks(network)
    recorder = TrainingRecorder(network)

    def break_off(inputs):
        assert n_hooks(network) > before
        if recorder.n_iterations_ == 8:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), recorder:
        train(network, batches, break_off)
    assert n_hooks(network) == before
    counts = recorder.activation_counts_
    train(network, batches)
    assert recorder.n_iterations_ == 8
    np.testing.assert_array_equal(recorder.activation_counts_["0"], counts["0"])


def test_entering_once_more_begins_anew():
    network = dense_net()
    recorder = TrainingRecorder(network)
    for n_batches in (5, 3):
        with recorder:
            train(network, make_batches(n_batches))
        assert recorder.n_iterations_ == n_batches


# In a net of skorch


def skorch_net(**params):
    skorch = pytest.importorskip("skorch")
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "max_epochs": 2,
        "batch_size": 10,
        "train_split": None,
        "iterator_train__shuffle": False,
        "verbose": 0,
        "callbacks": [("recorder", TrainingRecorder())],
    }
    return skorch.NeuralNetClassifier(dense_net, **{**settings, **params})


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, N_INPUTS)).astype(np.float32), rng.integers(N_CLASSES, size=40)


def recorder_of(net):
    return dict(net.callbacks_)["recorder"]


def test_a_net_of_skorch_records_what_a_loop_would(table):
    X, y = map(torch.tensor, table)
    net = skorch_net(module__dropout=0, optimizer=torch.optim.SGD, lr=0.01).fit(*table)
    network = dense_net(dropout=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    with TrainingRecorder(network) as recorder:
        for _ in range(2):
            for rows in torch.arange(40).split(10):
                optimizer.zero_grad()
                F.cross_entropy(network(X[rows]), y[rows]).backward()
                optimizer.step()
    found = recorder_of(net)
    assert found.n_iterations_ == recorder.n_iterations_ == 8
    for layer, counts in recorder.activation_counts_.items():
        np.testing.assert_array_equal(found.activation_counts_[layer], counts)
        np.testing.assert_allclose(
            found.average_gradients_[layer], recorder.average_gradients_[layer]
        )
    assert n_hooks(net.module_) == 0


def test_fit_begins_anew_and_partial_fit_goes_on(table):
    net = skorch_net().fit(*table)
    assert recorder_of(net.partial_fit(*table)).n_iterations_ == 16
    assert recorder_of(net.fit(*table)).n_iterations_ == 8


def test_a_trained_net_can_be_pickled_and_its_validation_does_not_count(table):
    from skorch.dataset import ValidSplit

    net = skorch_net(train_split=ValidSplit(4)).fit(*table)
    assert recorder_of(net).n_iterations_ == 6
    copied = pickle.loads(pickle.dumps(net))
    for layer, counts in recorder_of(net).activation_counts_.items():
        np.testing.assert_array_equal(recorder_of(copied).activation_counts_[layer], counts)
    assert recorder_of(copied.partial_fit(*table)).n_iterations_ == 12


def test_a_search_gives_every_net_a_recorder_of_its_own(table):
    net = skorch_net(callbacks__recorder__last_fraction=0.25)
    search = GridSearchCV(net, {"max_epochs": [1, 3]}, cv=2, error_score="raise").fit(*table)
    recorder = recorder_of(search.best_estimator_)
    assert recorder.last_fraction == 0.25
    assert recorder.n_iterations_ == 4 * search.best_params_["max_epochs"]


def test_an_interrupted_net_keeps_what_was_recorded(table):
    skorch = pytest.importorskip("skorch")

    class Interrupt(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    callbacks = [("recorder", TrainingRecorder()), ("interrupt", Interrupt())]
    net = skorch_net(callbacks=callbacks).fit(*table)
    assert recorder_of(net).n_iterations_ == 4
    assert n_hooks(net.module_) == 0


# Bad input


def test_what_cannot_be_recorded_is_named():
    with pytest.raises(ValueError, match="needs the network, got network=None"):
        TrainingRecorder().__enter__()
    with pytest.raises(ValueError, match=r"at least one hidden .* got the layers \['0'\]"):
        TrainingRecorder(nn.Sequential(nn.Linear(3, 2))).__enter__()
    with pytest.raises(ValueError, match="last_fraction"):
        TrainingRecorder(dense_net(), last_fraction=0).__enter__()
    with pytest.raises(TypeError, match="network"):
        TrainingRecorder("network").__enter__()
    with pytest.raises(NotFittedError, match="no iteration yet"):
        TrainingRecorder().activation_counts_  # noqa: B018
    with TrainingRecorder(dense_net()) as recorder, pytest.raises(NotFittedError):
        recorder.average_gradients_  # noqa: B018


def test_without_torch_a_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ImportError, match=r"needs torch, .* 'pip install torch', or .* extra 'torch'"
    ):
        skood.training.TrainingRecorder  # noqa: B018


def test_other_names_are_not_in_the_room():
    with pytest.raises(AttributeError, match="no attribute 'Recorder'"):
        skood.training.Recorder  # noqa: B018
    assert "TrainingRecorder" in dir(skood.training)
