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
from skood.training._tail_mean import TailMean  # noqa: E402

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
        for layer in gradients:
            gradients[layer].append(network[int(layer)].weight.grad.clone())

    # Passes of its own would be counted, so the brute force watches a copy.
    with TrainingRecorder(twin := copy.deepcopy(network), last_share=1 / 3) as recorder:
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
        sums.add_(network[0].weight.grad.double().sum(1))

    with TrainingRecorder(network, last_share=1.0, signed=True) as recorder:
        train(network, make_batches(10), watch)
    np.testing.assert_allclose(recorder.average_gradients_["0"], sums.numpy(), rtol=1e-4)
    assert (recorder.average_gradients_["0"] < 0).any()


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("n_iterations", [1, 2, 255, 1_000, 12_345])
def test_the_last_share_is_found_to_within_a_percent(n_iterations, share):
    numbers = TailMean(1)
    for number in range(n_iterations):
        if numbers.begin_iteration():
            numbers.add(torch.tensor([float(number)], dtype=torch.float64))
    mean, found = numbers.last(share)
    tolerance = 0.5 if n_iterations <= 255 else 0.01 * n_iterations
    assert abs(found - max(1, share * n_iterations)) <= tolerance
    expected = n_iterations - (found + 1) / 2
    assert mean.item() == pytest.approx(expected, abs=0 if n_iterations <= 255 else tolerance)


@pytest.mark.parametrize("period", [2, 3, 5, 8])
def test_iterations_that_take_turns_are_read_evenly(period):
    turns, n_read = TailMean(1), 0
    for number in range(4_000):
        if turns.begin_iteration():
            turns.add(torch.tensor([float(number % period == 0)]))
            n_read += 1
    assert n_read == pytest.approx(255 + (4_000 - 255) / 2, abs=5)
    assert turns.last(0.5)[0].item() == pytest.approx(1 / period, abs=0.01)


def test_a_very_small_share_still_has_a_gradient():
    network = dense_net()
    with TrainingRecorder(network, last_share=1e-6) as recorder:
        for n_batches in (255, 1, 1, 1, 1):
            train(network, make_batches(n_batches))
            assert (recorder.average_gradients_["3"] > 0).any()


def test_every_backward_pass_is_an_iteration_of_its_own():
    network, (first, second) = dense_net(), make_batches(2)
    with TrainingRecorder(network, last_share=1.0, signed=True) as recorder:
        for inputs, labels in (first, second):
            F.cross_entropy(network(inputs), labels).backward()
    # Nobody has set the gradients to zero, so that they have added up.
    np.testing.assert_allclose(
        recorder.average_gradients_["3"], network[3].weight.grad.sum(1).numpy(), rtol=1e-4
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
    net = skorch_net(callbacks__recorder__last_share=0.25)
    search = GridSearchCV(net, {"max_epochs": [1, 3]}, cv=2, error_score="raise").fit(*table)
    recorder = recorder_of(search.best_estimator_)
    assert recorder.last_share == 0.25
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
    with pytest.raises(ValueError, match="last_share"):
        TrainingRecorder(dense_net(), last_share=0).__enter__()
    with pytest.raises(TypeError, match="network"):
        TrainingRecorder("network").__enter__()
    with pytest.raises(NotFittedError, match="no iteration yet"):
        TrainingRecorder().activation_counts_  # noqa: B018
    with TrainingRecorder(dense_net()) as recorder, pytest.raises(NotFittedError):
        recorder.average_gradients_  # noqa: B018


def test_without_torch_a_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"needs torch, .* pip install 'skood\[torch\]'"):
        skood.training.TrainingRecorder  # noqa: B018


def test_other_names_are_not_in_the_room():
    with pytest.raises(AttributeError, match="no attribute 'Recorder'"):
        skood.training.Recorder  # noqa: B018
    assert "TrainingRecorder" in dir(skood.training)
