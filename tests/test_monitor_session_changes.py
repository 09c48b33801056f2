"""A few rows show a change of the network just as many do, whatever kind of network it is."""

from contextlib import nullcontext

import onnx
import onnxruntime
import pytest
import torch
from _networks import trained_perceptron, vectors
from _onnx_models import mlp, mlp_constants
from numpy.testing import assert_allclose, assert_array_equal
from onnx import numpy_helper
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetClassifier
from torch import nn

from skood import ActivationExtractor, Monitor
from skood.detectors import ActivationNormDetector, EnergyDetector, KNNDetector
from skood.extraction import ChangedNetworkError
from skood.networks import Fingerprint, NetworkAdapter, Trace, adapt, register

pytestmark = pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning")

X = vectors(60, 5)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def module(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def program(folder):
    rows = torch.export.Dim("n")
    return torch.export.export(module(), (torch.from_numpy(X[:4]),), dynamic_shapes=({0: rows},))


def skorch_net(folder):
    net = NeuralNetClassifier(module(), criterion=nn.CrossEntropyLoss, verbose=0)
    net.initialize()
    net.classes_inferred_ = [0, 1, 2]
    return net


def file_of(folder, seed=0):
    path = folder / "model.onnx"
    onnx.save(mlp(constants=mlp_constants(seed)), path)
    return path


def perceptron(folder=None):
    return trained_perceptron(X, Y)


def pipeline(folder):
    return make_pipeline(FunctionTransformer(), perceptron())


class Plain:
    """A network of a framework whose adapter hashes what it was made of."""

    slope = 1.0


class PlainAdapter(NetworkAdapter):
    def __init__(self, network):
        self.slope = network.slope

    def fingerprint(self, trace=None):
        return Fingerprint(str(self.slope))

    def trace(self, batch):
        return Trace(["layer"], [], {"layer": 2}, "none", "none"), {"layer": batch}

    def forward(self, batch, trace, layers, keep):
        for layer in layers:
            keep(layer, self.slope * batch)

    def head(self, trace):
        return None


register(Plain, PlainAdapter)


def add_one(holder, name="weight"):
    setattr(holder, name, nn.Parameter(getattr(holder, name) + 1))


def change_proto(model):
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))


def change_program(program):
    program.state_dict["0.weight"] = nn.Parameter(program.state_dict["0.weight"] + 1)


CHANGES = {
    "module": (lambda folder: module(), lambda net, folder: add_one(net[0])),
    "parallel": (
        lambda folder: nn.DataParallel(module()),
        lambda net, folder: setattr(net, "module", module(1)),
    ),
    "program": (program, lambda net, folder: change_program(net)),
    "graph": (
        lambda folder: program(folder).module(),
        lambda net, folder: add_one(net.get_submodule("0")),
    ),
    "skorch": (skorch_net, lambda net, folder: setattr(net, "module_", module(1))),
    "perceptron": (perceptron, lambda net, folder: net.coefs_[0].__iadd__(1)),
    "labels": (perceptron, lambda net, folder: net.classes_.__iadd__(1)),
    "step": (pipeline, lambda net, folder: setattr(net[0], "func", abs)),
    "frozen": (
        lambda folder: FrozenEstimator(perceptron()),
        lambda net, folder: setattr(net, "estimator", trained_perceptron(X, Y, (5,))),
    ),
    "onnx file": (file_of, lambda net, folder: file_of(folder, 1)),
    "onnx file that is gone": (file_of, lambda net, folder: net.unlink()),
    "onnx proto": (lambda folder: mlp(), lambda net, folder: change_proto(net)),
    "onnx session": (
        lambda folder: onnxruntime.InferenceSession(file_of(folder)),
        lambda net, folder: file_of(folder, 1),
    ),
    "no stamp": (lambda folder: Plain(), lambda net, folder: setattr(net, "slope", 2.0)),
}


def monitor_of(network, detector=None, X=X):
    steps = [
        ("extract", ActivationExtractor(network, "*")),
        ("detect", detector or KNNDetector(n_neighbors=1)),
    ]
    return Monitor(steps).fit(X)


def extracted(monitor, x):
    return monitor._current_session().extraction.extract(x)


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_few_rows_show_what_transform_shows(kind, is_open, tmp_path):
    make, change = CHANGES[kind]
    network = make(tmp_path)
    monitor = monitor_of(network)
    if is_open:
        monitor.open()
    monitor.score_samples(X[:1])
    assert extracted(monitor, X[:1]) is not None
    change(network, tmp_path)
    for _ in range(2):
        with pytest.raises((ChangedNetworkError, FileNotFoundError)) as few:
            monitor.score_samples(X[:1])
        with pytest.raises(few.type) as many:
            monitor[0].transform(X)
        assert str(few.value) == str(many.value)
    monitor.close()


def classes_with_a_stamp(kind=NetworkAdapter):
    for child in kind.__subclasses__():
        if child.__module__.startswith("skood.") and "stamp" in vars(child):
            yield child
        yield from classes_with_a_stamp(child)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return [adapt(make(folder)) for make, _ in CHANGES.values()]


def test_a_glance_shows_a_network_that_has_not_changed(adapters):
    assert {type(adapter) for adapter in adapters} >= set(classes_with_a_stamp())
    for adapter in adapters:
        trace, _ = adapter.trace(X[:2])
        adapter.fingerprint(trace)
        stamp = adapter.stamp(trace)
        adapter.session(trace, trace.auto).run(X[:1], lambda name, value: None)
        assert adapter.glance(trace) == adapter.stamp(trace) == stamp


class Odd(nn.Module):
    """Does as it is told for inputs that are not ordinary."""

    def __init__(self, odd=lambda network, x: None):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.relu, self.gate = nn.Linear(5, 6), nn.ReLU(), nn.Tanh()
        self.out = nn.Linear(6, 3)
        self.odd, self.seen, self.held = odd, 0, {}

    def forward(self, x):
        if x[0, 0] > 5:
            self.odd(self, x)
        few = 2 if x[0, 0] < -5 else 4
        x = self.relu(self.fc(x))
        return self.out(x + self.gate(x[:, :few]).mean(1, keepdim=True))


ODD = X[:1].copy()
ODD[0, 0] = 6


def count(network, x):
    network.seen += 1
    network.last, network.held[network.seen] = x.mean(), torch.zeros(1)


def count_and_fail(network, x):
    count(network, x)
    raise KeyError("odd")


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("odd", [count, count_and_fail])
def test_what_a_pass_writes_for_some_inputs_alone_is_no_change(odd, is_open):
    network = Odd(odd).eval()
    monitor = monitor_of(network)
    if is_open:
        monitor.open()
    expected = monitor.score_samples(X[:1])
    for n_seen in range(2):
        fails = pytest.raises(ValueError, match="KeyError")
        with fails if odd is count_and_fail else nullcontext():
            monitor.score_samples(ODD)
        assert network.seen > n_seen
        assert_array_equal(monitor.score_samples(X[:1]), expected)
        assert extracted(monitor, X[:1]) is not None
    network.seen = -1  # but what others write is
    with pytest.raises(ChangedNetworkError, match="'seen' differs"):
        monitor.score_samples(X[:1])
    monitor.close()


class OfAClass:
    total = 0


def write_in_place(network, x):
    network.trail += 1


def write_to_a_class(network, x):
    OfAClass.total += 1
    network.kind = OfAClass  # so that it is known that the network leads there


def exchange_a_part(network, x):
    network.beside = nn.LeakyReLU(network.beside.negative_slope + 0.1)


def mark_alone(network, x):
    network.fc.weight.data = network.fc.weight.data.clone()
    with torch.no_grad():
        network.out.bias.mul_(1)


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("odd", [write_in_place, write_to_a_class, exchange_a_part, mark_alone])
def test_wherever_a_pass_writes_for_some_inputs_alone_it_is_no_change(odd, is_open):
    network = Odd(odd).eval()
    network.trail, network.kind, network.beside = torch.zeros(2), OfAClass, nn.LeakyReLU(0.1)
    monitor = monitor_of(network)
    if is_open:
        monitor.open()
    for _ in range(3):  # until no more than a glance is taken
        expected = monitor.score_samples(X[:1])
    for _ in range(2):
        monitor.score_samples(ODD)
        for _ in range(2):
            assert_array_equal(monitor.score_samples(X[:1]), expected)
        assert extracted(monitor, X[:1]) is not None
    monitor.close()


class Marking(nn.Module):
    """Writes to a weight in each pass what it held."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.relu, self.out = nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x):
        with torch.no_grad():
            self.out.bias.mul_(1)
        return self.out(self.relu(self.fc(x)))


def test_a_network_that_marks_its_weights_in_each_pass_is_read_in_haste():
    monitor = monitor_of(Marking().eval())
    with monitor.open():
        for _ in range(4):
            monitor.score_samples(X[:1])
        for _ in range(3):
            assert extracted(monitor, X[:1]) is not None


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.drop, self.relu = nn.Linear(5, 6), nn.Dropout(0.5), nn.ReLU()
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.relu(self.drop(self.fc(x))))


@pytest.mark.parametrize("is_open", [False, True])
def test_an_equal_part_in_the_place_of_another_is_read_in_evaluation_mode(is_open):
    network = Dropping().eval()
    monitor = monitor_of(network)
    if is_open:
        monitor.open()
    expected = monitor.score_samples(X[:1])
    network.drop, network.relu = nn.Dropout(0.5), nn.ReLU()  # in training mode, as new ones are
    for _ in range(4):
        assert_array_equal(monitor.score_samples(X[:1]), expected)
    assert extracted(monitor, X[:1]) is not None
    assert network.drop.training
    monitor.close()
    assert not any(part._forward_hooks for part in network.modules())


@pytest.mark.parametrize("is_open", [False, True])
def test_attributes_in_another_dict_are_read_and_set_there(is_open):
    network = Dropping().eval()
    monitor = monitor_of(network)
    if is_open:
        monitor.open()
    expected = monitor.score_samples(X[:1])
    network.drop.__dict__ = {**vars(network.drop), "training": True}
    for _ in range(3):
        assert_array_equal(monitor.score_samples(X[:1]), expected)
    assert extracted(monitor, X[:1]) is not None
    assert network.drop.training
    network.drop.p = 0.4
    with pytest.raises(ChangedNetworkError, match=r"drop\.p"):
        monitor.score_samples(X[:1])
    monitor.close()


class Forgiving(Dropping):
    """Computes finite values of inputs that are not."""

    def forward(self, x):
        return super().forward(torch.nan_to_num(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("is_open", [False, True])
def test_inputs_that_are_not_finite_are_refused_whatever_is_made_of_them(dtype, is_open):
    network = Forgiving().eval()
    monitor, few = monitor_of(network), torch.from_numpy(X[:2]).to(dtype)
    if is_open:
        monitor.open()
    expected = monitor.score_samples(few)
    for value in torch.nan, torch.inf:
        bad = few.clone()
        bad[1, 2] = value
        with pytest.raises(ValueError, match="in sample 1"):
            monitor.score_samples(bad)
    assert_array_equal(monitor.score_samples(few), expected)
    monitor.close()


class Holding(Odd):
    """Has a buffer, of which nothing is known but its name."""

    def __init__(self, odd):
        super().__init__(odd)
        self.register_buffer("table", torch.arange(4.0))


def write_to_data(network, x):
    network.table.data.add_(1)


def write_to_a_view(network, x):
    network.table.numpy()[1] = 7


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("odd", [write_to_data, write_to_a_view])
def test_what_a_pass_writes_behind_the_counts_is_given_back(odd, is_open):
    network = Holding(odd).eval()
    monitor = monitor_of(network)
    if is_open:
        monitor.open()
    expected = monitor.score_samples(X[:1])
    assert extracted(monitor, ODD) is not None
    assert_array_equal(network.table, torch.arange(4.0))
    monitor.score_samples(ODD)
    assert_array_equal(network.table, torch.arange(4.0))
    assert_array_equal(monitor.score_samples(X[:1]), expected)
    monitor.close()


def test_steps_that_change_some_rows_alone_change_them_when_alone():
    def clip(rows):
        return rows.clip(max=5) if rows.max() > 5 else rows

    monitor = monitor_of(make_pipeline(FunctionTransformer(clip), perceptron()))
    monitor.score_samples(X[:1])
    assert extracted(monitor, X[:1]) is not None
    clipped = ODD.clip(max=5)
    assert_array_equal(monitor.score_samples(ODD), monitor.score_samples(clipped))


def test_a_width_that_depends_on_the_input_is_refused_as_among_many():
    monitor = monitor_of(Odd().eval(), ActivationNormDetector())
    monitor.score_samples(X[:1])
    narrow = X[:1].copy()
    narrow[0, 0] = -6
    assert extracted(monitor, X[:1])["gate"].shape == (1, 4)
    assert extracted(monitor, narrow) is None
    with pytest.raises(ValueError, match=r"'gate': \(2,\).* but .* was fitted on .*'gate': \(4,\)"):
        monitor.score_samples(narrow)


class Reusing(nn.Module):
    """Returns a view of its own buffer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.relu, self.out = nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)
        self.register_buffer("returned", torch.zeros(60, 3))

    def forward(self, x):
        self.returned[: len(x)] = 3 * torch.tanh(self.out(self.relu(self.fc(x))))
        return self.returned[: len(x)]


def test_logits_in_a_buffer_are_read_before_it_is_given_back():
    network = Reusing().eval()
    monitor = monitor_of(network, EnergyDetector())
    monitor.score_samples(X[:4])
    with torch.no_grad():
        expected = network(torch.from_numpy(X[:4])).logsumexp(1).numpy()
        network.returned.zero_()
    assert_allclose(monitor.score_samples(X[:4]), expected, rtol=1e-6)
    assert_array_equal(network.returned, 0)
