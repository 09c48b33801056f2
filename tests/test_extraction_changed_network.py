"""A network that changed since ``fit`` is noticed, and what is no change is not."""

import copy
import pickle
import threading
import timeit
import warnings

import numpy as np
import pytest
import torch
from _networks import assert_same, cnn, extract, images, trained_perceptron, vectors
from numpy.testing import assert_array_equal
from sklearn.neural_network import MLPClassifier, MLPRegressor
from test_extraction_fingerprint import CHANGES, Net, Opaque
from torch import nn

from skood import ActivationExtractor, make_monitor
from skood.networks import adapt

X = vectors()


def fitted(network=None, X=X, **params):
    network = Net() if network is None else network
    return ActivationExtractor(network, ["relu", "out"], **params).fit(X)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("n_before", [0, 2])
def test_each_change_is_an_error(change, n_before):
    extractor = fitted()
    for _ in range(n_before):
        extractor.transform(X)
    change(extractor.network)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"not what it was in fit.*Fit again.*'ignore'"):
            extractor.transform(X)
    extractor.fit(X).transform(X)


def optimiser_step(network):
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    network(torch.tensor(X)).sum().backward()
    optimiser.step()


def load(network):
    network.load_state_dict({k: v + 1 for k, v in Net().state_dict().items() if "extra" not in k})


OTHERS = {
    "one step": (optimiser_step, "'fc.weight'"),
    "weights behind the back of autograd": (lambda net: net.fc.weight.data.add_(1), "'fc.weight'"),
    "other memory": (lambda net: setattr(net.fc.weight, "data", torch.zeros(5, 6)), "'fc.weight'"),
    "half precision": (lambda net: net.half(), "'fc.weight'"),
    "attribute": (lambda net: setattr(net, "temperature", 2.0), "'temperature'"),
    "new attribute": (lambda net: setattr(net, "other", 2.0), "'other' differs"),
    "hook": (lambda net: net.fc.register_forward_hook(lambda *_: None), "'fc._forward_hooks'"),
    "module": (lambda net: setattr(net, "relu", nn.Tanh()), "'relu.class'"),
    "class of a module": (lambda net: setattr(net.relu, "__class__", nn.Tanh), "'relu.class'"),
    "parametrization": (
        lambda net: nn.utils.parametrizations.weight_norm(net.fc),
        "'fc.parametrizations.weight.original0'",
    ),
}


@pytest.mark.parametrize(("change", "named"), OTHERS.values(), ids=OTHERS)
def test_what_differs_is_named(change, named):
    extractor = fitted()
    change(extractor.network)
    with pytest.raises(ValueError, match=named):
        extractor.transform(X)


class Mine(nn.Module):
    def forward(self, x):
        return x.sin()


OF_THE_USER = {
    "hook": lambda net: net[1].register_forward_hook(lambda m, args, output: output * 0),
    "hook before": lambda net: net[1].register_forward_pre_hook(lambda m, args: None),
    "module": lambda net: net.__setitem__(1, Mine()),
    "forward": lambda net: setattr(net[1], "forward", lambda x: x.sin()),
}


@pytest.mark.parametrize("change", OF_THE_USER.values(), ids=OF_THE_USER)
def test_code_of_the_user_in_a_network_of_torch_alone_is_no_other_version(change):
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    extractor = ActivationExtractor(network).fit(X)
    change(network)
    with pytest.raises(ValueError, match="not what it was in fit"):
        extractor.transform(X)


@pytest.mark.parametrize("change", OF_THE_USER.values(), ids=OF_THE_USER)
def test_code_that_changes_while_the_network_runs_is_noticed_afterwards(change):
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    extractor = ActivationExtractor(network, ["0"]).fit(X)

    def batches():
        yield X[:3]
        change(network)
        yield X[3:]

    extractor.transform(batches())
    with pytest.raises(ValueError, match="not what it was in fit"):
        extractor.transform(X)


class CompiledForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    @torch.compile(backend="eager")
    def forward(self, x):
        return self.fc(x).relu()


def test_the_first_call_of_a_compiled_forward_is_no_change():
    network = CompiledForward().eval()
    extractor = ActivationExtractor(network).fit(X)
    known = extractor.fingerprint_
    network(torch.as_tensor(X))
    extractor.transform(X)
    assert ActivationExtractor(network).fit(X).fingerprint_ == known


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_network_that_torchscript_has_compiled_a_copy_of_is_the_same():
    network = cnn().eval()
    extractor = ActivationExtractor(network).fit(images())
    known = extractor.fingerprint_
    torch.jit.script(network)
    extractor.transform(images())
    assert ActivationExtractor(network).fit(images()).fingerprint_ == known


def test_a_monitor_notices_a_network_that_was_trained_on():
    network = Net()
    monitor = make_monitor(network).fit(X)
    monitor.predict(X)
    optimiser_step(network)
    for method in (monitor.predict, monitor.score_samples, monitor[:-1].transform):
        with pytest.raises(ValueError, match=r"fc\.weight"):
            method(X)


@pytest.mark.parametrize("params", [{}, {"memory": True}], ids=["plain", "cached"])
def test_a_change_can_be_allowed(params, tmp_path):
    params = {name: str(tmp_path) for name in params}
    extractor = fitted(changed_network="warn", **params)
    extractor.network.temperature = 2.0
    for _ in range(2):
        with pytest.warns(UserWarning, match="'temperature'"):
            A = extractor.transform(X)
    assert_same(A, extract(extractor.network, X, ["relu", "out"]))
    assert_same(extractor.set_params(changed_network="ignore").transform(X), A)
    with pytest.raises(ValueError, match="temperature"):
        extractor.set_params(changed_network="raise").transform(X)


def test_a_change_that_is_taken_back_is_forgotten():
    extractor = fitted()
    before = extractor.transform(X)
    weight = extractor.network.fc.weight.detach().clone()
    optimiser_step(extractor.network)
    with pytest.raises(ValueError, match=r"fc\.weight"):
        extractor.transform(X)
    state = Net().state_dict()
    extractor.network.load_state_dict(state)
    assert torch.equal(extractor.network.fc.weight, weight)
    assert_same(extractor.transform(X), before)


def test_another_network_is_an_error_and_a_copy_is_none():
    extractor = fitted()
    A = extractor.transform(X)
    assert_same(extractor.set_params(network=copy.deepcopy(extractor.network)).transform(X), A)
    other = Net()
    other.fc.reset_parameters()
    with pytest.raises(ValueError, match="not what it was"):
        extractor.set_params(network=other).transform(X)
    mlp = trained_perceptron(X, np.arange(11) % 3)
    with pytest.raises(ValueError, match="not what it was"):
        extractor.set_params(network=mlp).transform(X)


class Remembering(Net):
    """Keeps much of what it does, and is run in several ways."""

    def __init__(self):
        super().__init__()
        self.cache, self.longest, self.history, self.shape = {}, torch.zeros(0), [], ()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("latest", torch.zeros(3))

    def forward(self, x):
        self.count += 1
        self.latest = x.mean(0)
        self.history.append(x)
        self.shape = tuple(x.shape)
        if len(x) not in self.cache:
            self.cache[len(x)] = torch.ones(len(x), 1)
        if len(x) > len(self.longest):
            self.longest = torch.ones(len(x))
        return super().forward(x) * self.cache[len(x)]


NO_CHANGES = {
    "nothing": lambda net: None,
    "calls": lambda net: [net(torch.tensor(X)) for _ in range(3)],
    "modes": lambda net: net.train(),
    "frozen": lambda net: net.requires_grad_(False),
    "gradients": lambda net: net(torch.tensor(X)).sum().backward(),
    "memory": lambda net: net.share_memory(),
    "same number": lambda net: setattr(net, "temperature", float("1.0")),
    "same weights": lambda net: net.load_state_dict(copy.deepcopy(net.state_dict())),
    "hook that is removed": lambda net: net.fc.register_forward_hook(print).remove(),
    "compiled": lambda net: net.compile(backend="eager"),
    "another reader": lambda net: extract(net, X, "all", gradients=True),
}


@pytest.mark.parametrize("event", NO_CHANGES.values(), ids=NO_CHANGES)
@pytest.mark.parametrize("make", [Net, Remembering])
@pytest.mark.parametrize("on", ["inputs", "activations"])
def test_what_leaves_the_values_as_they_were_is_no_change(event, make, on):
    network = make().eval()
    extractor = fitted(network, X if on == "inputs" else extract(network, X, "all"))
    A = extractor.transform(X)
    event(network)
    for _ in range(2):
        assert_same(extractor.transform(X), A)
    network.out.bias.data.add_(1)
    with pytest.raises(ValueError, match=r"out\.bias"):
        extractor.transform(X)


def test_what_passes_of_the_extractor_write_later_is_no_change():
    network = Remembering().eval()
    network.cache.update({n: torch.ones(n, 1) for n in range(6)})
    network.longest = torch.ones(5)
    extractor = fitted(network)
    for n in (7, 8, 9, 11, 11):
        assert_same(extractor.transform(X[:n]), extract(network, X[:n], ["relu", "out"]))
    network.temperature = 2.0
    with pytest.raises(ValueError, match="'temperature'"):
        extractor.transform(X)


def test_activations_in_fit_are_of_the_network_as_it_was():
    network = Net()
    extractor = fitted(network, extract(network, X, "all"))
    extractor.transform(X)
    assert_array_equal(extractor.transform(extract(network, X, "all"))["out"].shape, (11, 3))
    network.mask.mul_(0)
    with pytest.raises(ValueError, match="'mask' differs"):
        extractor.transform(X)


def big():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20_000), nn.ReLU(), nn.Linear(20_000, 3))


def test_a_change_that_is_not_seen_at_once_is_seen_in_time():
    network = big()
    extractor = ActivationExtractor(network).fit(X)
    extractor.transform(X)
    network[2].weight.data[1, 5000] = 100
    noticed = False
    for _ in range(2000):
        try:
            extractor.transform(np.repeat(X, 20, axis=0))
        except ValueError as error:
            noticed = "2.weight" in str(error)
            break
    assert noticed


def test_copies_in_files_go_by_the_fingerprint():
    extractor = fitted()
    A = extractor.transform(X)
    file = pickle.dumps(extractor)
    assert b"Stamp" not in file
    loaded = pickle.loads(file)
    assert_same(loaded.transform(X), A)
    loaded.network.temperature = 3.0
    with pytest.raises(ValueError, match="temperature"):
        loaded.transform(X)
    with pytest.raises(ValueError, match="temperature"):
        pickle.loads(pickle.dumps(loaded)).transform(X)
    assert_same(extractor.transform(X), A)
    assert_same(copy.deepcopy(extractor).transform(X), A)


def test_other_versions_of_libraries_are_told_of(monkeypatch):
    loaded = pickle.loads(pickle.dumps(fitted()))
    changed = pickle.loads(pickle.dumps(fitted()))
    now = torch.__version__
    monkeypatch.setattr(torch, "__version__", "99.0")
    with pytest.warns(UserWarning, match=rf"torch {now.replace('+', '.')} in fit, 99\.0 now"):
        loaded.transform(X)
    changed.network.fc.weight.data.add_(1)
    with pytest.raises(ValueError, match=r"fc\.weight"):
        changed.transform(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.set_params(changed_network="ignore").transform(X)


def test_what_cannot_be_read_is_no_reason_to_complain():
    extractor = fitted(Opaque())
    for again in (extractor, pickle_without_lock(extractor)):
        again.transform(X)
    extractor.network.factor[0] = 2.0
    with pytest.raises(ValueError, match="'factor' differs"):
        extractor.transform(X)


def pickle_without_lock(extractor):
    """A copy as another process would have it."""
    lock, extractor.network.lock = extractor.network.lock, None
    copied = pickle.loads(pickle.dumps(extractor))
    extractor.network.lock = copied.network.lock = lock
    return copied


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_perceptrons_that_learn_on_are_noticed(kind):
    y = np.arange(11) % 3
    mlp = trained_perceptron(X, y, kind=kind)
    extractor = ActivationExtractor(mlp).fit(X)
    A = extractor.transform(X)
    assert_array_equal(np.asarray(extractor.transform(X)), np.asarray(A))
    mlp.coefs_[0][0, 0] += 1
    with pytest.raises(ValueError, match=r"'coefs_\[0\]' differs"):
        extractor.transform(X)
    mlp.coefs_[0][0, 0] -= 1
    extractor.fit(X)
    mlp.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"coefs_\[0\]"):
        extractor.transform(X)
    extractor.fit(X)
    mlp.activation = "tanh"
    with pytest.raises(ValueError, match="'activation' differs"):
        extractor.transform(X)


def test_skorch_nets_that_learn_on_are_noticed():
    skorch = pytest.importorskip("skorch")
    y = np.arange(11) % 3
    net = skorch.NeuralNetClassifier(
        Net, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0, train_split=None
    ).fit(X, y)
    monitor = make_monitor(net).fit(X)
    net.predict(X)
    monitor.predict(X)
    net.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"fc\.weight"):
        monitor.predict(X)


def test_threads_that_read_one_network_do_not_take_each_other_for_a_change():
    network = cnn()
    extractors = [ActivationExtractor(network, layers).fit(images()) for layers in ("auto", "all")]
    errors = []

    def work(extractor):
        try:
            for _ in range(20):
                extractor.transform(images())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[e]) for e in extractors * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_embeddings_that_are_rescaled_when_they_are_read_are_no_change():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Embedding(20, 4, max_norm=0.5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)
    )
    tokens = np.random.default_rng(0).integers(20, size=(7, 5))
    extractor = ActivationExtractor(network).fit(tokens)
    with torch.no_grad():
        network(torch.arange(20).reshape(4, 5))
    extractor.transform(tokens)
    network[0].weight.data[3, 1] *= -1
    with pytest.raises(ValueError, match=r"0\.weight"):
        extractor.transform(tokens)


@pytest.mark.parametrize("make", [lambda program: program, lambda program: program.module()])
def test_exported_programs_that_change_are_noticed(make):
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    n_samples = torch.export.Dim("n", min=2, max=512)
    shapes = ({0: n_samples},)
    program = make(torch.export.export(network, (torch.tensor(X),), dynamic_shapes=shapes))
    extractor = ActivationExtractor(program).fit(X)
    A = extractor.transform(X)
    assert_same(extractor.transform(X), A)
    with torch.no_grad():
        next(iter(program.parameters())).mul_(2)
    with pytest.raises(ValueError, match="weight' differs"):
        extractor.transform(X)


def test_an_annotation_among_the_attributes_is_no_object():
    network, X = cnn(), images()
    network.kind_of_config = dict[str, int]
    extractor = ActivationExtractor(network).fit(X)
    assert_same(extractor.transform(X), extract(cnn(), X))


class Times:
    def __init__(self):
        self.factor = 2.0

    def __call__(self, x):
        return self.factor * x


class Plus(Times):
    def __call__(self, x):
        return self.factor + x


def test_an_object_that_becomes_one_of_another_class_is_noticed():
    network = Net()
    network.function = Times()
    extractor = fitted(network)
    network.function.__class__ = Plus
    with pytest.raises(ValueError, match="'function' differs"):
        extractor.transform(X)


class Lazy(dict):
    """Computes what it holds when it is asked, and fails."""

    def _fail(self, *args):
        raise ImportError("not installed")

    items = values = keys = __iter__ = __getitem__ = __getattr__ = _fail


class Proxy:
    """Says that it is unbound, whatever it is asked."""

    def __getattribute__(self, name):
        raise RuntimeError("unbound")


class FailingState(nn.Linear):
    def get_extra_state(self):
        raise RuntimeError("no state")


@pytest.mark.parametrize("make", [Lazy, Proxy, lambda: FailingState(2, 2)])
def test_objects_that_fail_when_they_are_looked_at_are_no_failure(make):
    network = Net()
    # In a container, since torch itself looks at what an attribute is.
    network.held = (make(),)
    extractor = fitted(network)
    assert_same(extractor.transform(X), extract(network, X, ["relu", "out"]))
    with torch.no_grad():
        network.fc.weight.mul_(2)
    with pytest.raises(ValueError, match=r"'fc\.weight' differs"):
        extractor.transform(X)


def test_a_mapping_that_computes_what_it_holds_is_read_as_it_is():
    network = Net()
    network.held = (Lazy(factor=1.0),)
    extractor = fitted(network)
    dict.__setitem__(network.held[0], "factor", 2.0)
    with pytest.raises(ValueError, match="'held' differs"):
        extractor.transform(X)


def test_a_look_at_a_large_network_is_bounded_and_the_fingerprint_reads_it_whole():
    network = Net()
    network.table = [{"value": float(number)} for number in range(100_000)]
    extractor = fitted(network)
    adapter = adapt(network)
    seen = adapter.stamp(extractor._plan.trace)
    seconds = min(timeit.repeat(lambda: adapter.stamp(extractor._plan.trace), number=1, repeat=20))
    assert seconds < 0.02  # of the whole it would take ten times as long
    network.table[-1]["value"] = -1.0
    assert adapter.stamp(extractor._plan.trace) == seen
    with pytest.raises(ValueError, match="'table' differs"):
        pickle.loads(pickle.dumps(extractor)).transform(X)
    with torch.no_grad():
        network.fc.weight.mul_(2)
    assert adapter.stamp(extractor._plan.trace) != seen
