"""A cached result is that of the network as it is, whatever of it has changed."""

import copy
import dataclasses
import functools
import importlib
import operator
import sys
import threading
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import assert_same, extract, trained_perceptron, vectors
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skood import ActivationExtractor
from skood.networks import adapt

FACTOR = 2.0


def times(x):
    return FACTOR * x


class Settings:
    def __init__(self):
        self.scale, self.nested = 1.0, {"shifts": [0.0, 0.0, 0.0]}


class Net(nn.Module):
    """Its output depends on attributes of many kinds."""

    offset = 0.0

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.relu, self.out = nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)
        self.register_buffer("shift", torch.zeros(3), persistent=False)
        self.temperature, self.mask, self.steps = 1.0, torch.ones(3), np.ones(3, np.float32)
        self.settings, self.unregistered = Settings(), [nn.Linear(3, 3)]
        self.function = times
        self.calls = 0

    def helper(self, x):
        return x + self.offset

    def forward(self, x):
        self.calls += 1
        self.last = x
        x = self.out(self.relu(self.fc(x))) * self.mask * torch.as_tensor(self.steps) + self.shift
        x = self.unregistered[0](self.helper(x)) / self.temperature
        settings = self.settings
        return self.function(x * settings.scale + torch.tensor(settings.nested["shifts"]))

    def get_extra_state(self):
        return {"temperature": self.temperature}

    def set_extra_state(self, state):
        self.temperature = state["temperature"]


def set_helper(network):
    network.helper = lambda x: x + 1


def double_forward(network):
    forward = network.forward
    network.forward = lambda x: 2 * forward(x)


def make_hook(limit):
    def clip(module, args, output):
        return output.clamp(max=limit)

    return clip


def in_place(name):
    def change(network):
        with torch.no_grad():
            network.get_parameter(name).add_(1)

    return change


def shift_nested(shifts):
    shifts[0] += 1


CHANGES = {
    "weight": in_place("fc.weight"),
    "buffer": lambda net: net.shift.add_(1),
    "number": lambda net: setattr(net, "temperature", 2.0),
    "tensor": lambda net: net.mask.mul_(0),
    "array": lambda net: net.steps.fill(3),
    "object": lambda net: setattr(net.settings, "scale", 2.0),
    "nested": lambda net: shift_nested(net.settings.nested["shifts"]),
    "module that is not registered": lambda net: net.unregistered[0].weight.data.add_(1),
    "function": lambda net: setattr(net, "function", torch.sin),
    "function of other contents": lambda net: setattr(net, "function", lambda x: x * 3),
    "helper on the instance": set_helper,
    "forward on the instance": double_forward,
    "hook": lambda net: net.relu.register_forward_hook(make_hook(0.1)),
    "hook before": lambda net: net.out.register_forward_pre_hook(lambda m, args: (args[0] * 2,)),
    "hook on the network": lambda net: net.register_forward_hook(lambda m, args, out: out + 1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_cached_result_is_that_of_the_network_as_it_is(change, tmp_path):
    network, X = Net(), vectors()
    extractor = ActivationExtractor(
        network, ["relu", "out"], memory=str(tmp_path), changed_network="ignore"
    )
    before = extractor.fit_transform(X)
    first = extractor.fingerprint_
    change(network)
    after = extractor.fit_transform(X)
    assert not np.allclose(after.logits, before.logits)
    assert_same(after, extract(network, X, ["relu", "out"]))
    assert extractor.fingerprint_ != first
    assert_same(extractor.transform(X), after)  # nor does it take a new fit
    change(network)
    assert_same(extractor.transform(X), extract(network, X, ["relu", "out"]))


def test_hooks_of_other_contents_are_told_apart(tmp_path):
    results = []
    for limit in (0.1, 0.2):
        network = Net()
        network.relu.register_forward_hook(make_hook(limit))
        results.append(extract(network, vectors(), memory=str(tmp_path)).logits)
        assert_allclose(results[-1], extract(network, vectors()).logits)
    assert not np.allclose(*results)


@pytest.mark.parametrize("name", ["FACTOR", "times"])
def test_what_a_function_uses_counts(name, monkeypatch, tmp_path):
    extractor = ActivationExtractor(Net(), memory=str(tmp_path))
    before = extractor.fit_transform(vectors())
    if name == "FACTOR":
        monkeypatch.setitem(globals(), "FACTOR", 4.0)
    else:
        monkeypatch.setattr(times, "__code__", (lambda x: 4.0 * x).__code__)
    assert_allclose(extractor.fit_transform(vectors()).logits, 2 * before.logits, rtol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("offset", 1.0), ("helper", lambda self, x: x + 1)])
def test_what_a_class_holds_counts(name, value, monkeypatch, tmp_path):
    network = Net()
    extractor = ActivationExtractor(network, memory=str(tmp_path))
    extractor.fit_transform(vectors())
    monkeypatch.setattr(Net, name, value)
    assert_same(extractor.fit_transform(vectors()), extract(network, vectors()))


SOURCE = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)
    def forward(self, x):
        return self.fc(x).tanh() * {factor}
"""


def test_code_that_is_in_no_file_counts(monkeypatch):
    prints = set()
    for factor in (1, 2):
        module = types.ModuleType("of_no_file")
        exec(SOURCE.format(factor=factor), vars(module))
        monkeypatch.setitem(sys.modules, "of_no_file", module)
        torch.manual_seed(0)
        prints.add(ActivationExtractor(module.Net()).fit(vectors()).fingerprint_)
    assert len(prints) == 2


HELPERS = """
import {package}.inner
FACTOR = 1.0
def scale(x):
    return shift(x) * FACTOR
def shift(x):
    return x + 0
"""
INNER = """
class Limit:
    value = 5.0
    @staticmethod
    def clip(x):
        return x.clamp(max=Limit.value)
"""


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """A package of the user, with functions in two modules."""
    folder = tmp_path / "helpers_of_user"
    folder.mkdir()
    (folder / "__init__.py").write_text(HELPERS.format(package=folder.name))
    (folder / "inner.py").write_text(INNER)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(folder.name)
    for name in (folder.name, f"{folder.name}.inner"):
        del sys.modules[name]


def in_method(helpers):
    def forward(x):
        return helpers.scale(x)

    return forward


def by_attribute(helpers):
    return functools.partial(lambda library, x: library.scale(x), helpers)


def by_local_import(helpers):
    def forward(x):
        import helpers_of_user

        return helpers_of_user.scale(x)

    return forward


def by_local_name(helpers):
    def forward(x):
        from helpers_of_user import scale

        return scale(x)

    return forward


@pytest.mark.parametrize("use", [in_method, by_attribute, by_local_import, by_local_name])
@pytest.mark.parametrize("name", ["FACTOR", "shift"])
def test_modules_of_the_user_count(use, name, helpers, monkeypatch):
    network = Net()
    network.function = use(helpers)
    first = ActivationExtractor(network).fit(vectors()).fingerprint_
    monkeypatch.setattr(helpers, name, {"FACTOR": 2.0, "shift": lambda x: x + 1}[name])
    assert ActivationExtractor(network).fit(vectors()).fingerprint_ != first


def test_modules_inside_packages_of_the_user_count(helpers, monkeypatch):
    def forward(x):
        import helpers_of_user.inner

        return helpers_of_user.inner.Limit.clip(x)

    network = Net()
    network.function = forward
    first = ActivationExtractor(network).fit(vectors()).fingerprint_
    monkeypatch.setattr(helpers.inner.Limit, "value", 2.0)
    assert ActivationExtractor(network).fit(vectors()).fingerprint_ != first


def test_packages_with_a_version_count_by_it_and_by_their_files(helpers, monkeypatch):
    monkeypatch.setattr(helpers, "__version__", "1.0", raising=False)
    network = Net()
    network.function = helpers.scale

    def fingerprint():
        return ActivationExtractor(network).fit(vectors()).fingerprint_

    first = fingerprint()
    monkeypatch.setattr(helpers, "FACTOR", 2.0)  # is not looked for in what may be a large library
    assert fingerprint() == first
    monkeypatch.setattr(helpers, "__version__", "1.1")
    second = fingerprint()
    with open(helpers.__file__, "a") as file:
        file.write("FACTOR = 3.0\n")
    assert len({first, second, fingerprint()}) == 3


def test_functions_that_call_each_other_many_times_are_read_to_the_last():
    variables = {"__name__": "of_user", "f0": lambda x: x + 0}
    for number in range(1, 600):
        exec(f"def f{number}(x): return f{number - 1}(x)", variables)
    network = Net()
    network.function = variables["f599"]
    prints = set()
    for last in (lambda x: x + 0, lambda x: x + 1):
        variables["f0"] = last
        adapter = adapt(network)
        found = adapter.fingerprint()
        assert not found.unread
        prints.add(found.digest)
    assert len(prints) == 2


fc = 0  # has the name of an attribute


def test_variables_that_only_share_a_name_do_not_count(monkeypatch):
    first = ActivationExtractor(Net()).fit(vectors()).fingerprint_
    monkeypatch.setitem(globals(), "fc", 1)
    assert ActivationExtractor(Net()).fit(vectors()).fingerprint_ == first


@dataclasses.dataclass
class Data:
    value: float = 1.0
    tensors: list = dataclasses.field(default_factory=lambda: [torch.ones(3)])


class WithSlots:
    __slots__ = ("array", "value")

    def __init__(self):
        self.value, self.array = 1.0, np.ones(3)


def closure(values):
    return lambda x: x * values[0]


class Multiply(torch.autograd.Function):
    factor = 1.0

    @staticmethod
    def forward(context, x):
        return x * Multiply.factor

    @staticmethod
    def backward(context, gradient):
        return gradient


HELD = {
    "field": (Data, lambda held: setattr(held, "value", 2.0)),
    "tensor in a list in a field": (Data, lambda held: held.tensors[0].mul_(2)),
    "slot": (WithSlots, lambda held: setattr(held, "value", 2.0)),
    "array in a slot": (WithSlots, lambda held: held.array.fill(2)),
    "namespace": (lambda: types.SimpleNamespace(a=1), lambda held: setattr(held, "a", 2)),
    "set": (lambda: {1, 2}, lambda held: held.add(3)),
    "function in a dictionary": (
        lambda: {"f": lambda x: x},
        lambda held: held.update(f=lambda x: 2 * x),
    ),
    "closure": (
        lambda: closure([1.0]),
        lambda held: operator.setitem(held.__closure__[0].cell_contents, 0, 2.0),
    ),
    "partial": (
        lambda: [functools.partial(torch.mul, other=2)],
        lambda held: operator.setitem(held, 0, functools.partial(torch.mul, other=3)),
    ),
}


@pytest.mark.parametrize(("make", "change"), HELD.values(), ids=HELD)
def test_what_objects_hold_counts(make, change):
    network = Net()
    network.held = make()
    extractor = ActivationExtractor(network).fit(vectors())
    first = extractor.fingerprint_
    assert ActivationExtractor(copy.deepcopy(network)).fit(vectors()).fingerprint_ == first
    extractor.transform(vectors())
    change(network.held)
    assert ActivationExtractor(network).fit(vectors()).fingerprint_ != first
    with pytest.raises(ValueError, match="'held'"):
        extractor.transform(vectors())


def test_functions_with_gradients_of_their_own_count(monkeypatch):
    network = Net()
    network.function = Multiply.apply
    first = ActivationExtractor(network).fit(vectors()).fingerprint_
    monkeypatch.setattr(Multiply, "factor", 2.0)
    assert ActivationExtractor(network).fit(vectors()).fingerprint_ != first


MASKS = {}


def masked(x):
    return x * MASKS.setdefault(len(x), torch.ones(len(x), 1))


def test_what_a_pass_writes_into_variables_of_a_module_is_told_of(tmp_path):
    network = Net()
    network.function = masked
    MASKS.clear()
    extractor = ActivationExtractor(network, memory=str(tmp_path)).fit(vectors())
    for n in (4, 5):
        with pytest.warns(UserWarning, match="Nothing is taken from the cache"):
            extractor.transform(vectors(n))


def test_hooks_of_all_modules_count():
    network = Net()
    extractor = ActivationExtractor(network).fit(vectors())
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    try:
        with pytest.raises(ValueError, match="_global_forward_hooks"):
            extractor.transform(vectors())
    finally:
        handle.remove()
    extractor.transform(vectors())


def encoder(**options):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, batch_first=True, dim_feedforward=12, **options)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(30, 4)).eval()


OPTIONS = [
    {"nhead": 2},
    {"nhead": 3},
    {"nhead": 2, "norm_first": True},
    {"nhead": 2, "activation": F.gelu},
    {"nhead": 2, "layer_norm_eps": 0.5},
]


def quantized(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    return torch.ao.quantization.quantize_dynamic(network, {nn.Linear})


def scripted(seed):
    torch.manual_seed(seed)
    part = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    return nn.Sequential(torch.jit.script(part), nn.Linear(5, 3))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.lstm(x[:, None])[0][:, 0]).tanh()


def quantized_recurrent(seed):
    torch.manual_seed(seed)
    return torch.ao.quantization.quantize_dynamic(Recurrent(), {nn.Linear, nn.LSTM})


def quantized_half(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    return torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.float16)


def quantized_statically(seed):
    ao = torch.ao.quantization
    torch.manual_seed(seed)
    layers = [ao.QuantStub(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), ao.DeQuantStub()]
    network = nn.Sequential(*layers).eval()
    network.qconfig = ao.get_default_qconfig("fbgemm")
    ao.prepare(network, inplace=True)
    network(torch.tensor(vectors()))
    return ao.convert(network)


QUANTIZED = [quantized, quantized_half, quantized_recurrent, quantized_statically]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*deprecated:UserWarning")
@pytest.mark.filterwarnings("ignore:Please use quant_min:UserWarning")
@pytest.mark.parametrize("make", [*QUANTIZED, scripted])
def test_packed_and_scripted_weights_count(make, tmp_path):
    a, b, again = make(0), make(1), make(0)
    results = [extract(network, vectors(), memory=str(tmp_path)) for network in (a, b)]
    assert_same(results[0], extract(a, vectors()))
    assert_same(results[1], extract(b, vectors()))
    assert not np.allclose(results[0].logits, results[1].logits)
    prints = [ActivationExtractor(net).fit(vectors()).fingerprint_ for net in (a, b, again)]
    assert prints[0] == prints[2] != prints[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*deprecated:UserWarning")
@pytest.mark.filterwarnings("ignore:Please use quant_min:UserWarning")
def test_quantized_activations_are_layers():
    network, X = quantized_statically(0), vectors()
    A = extract(network, X)
    assert A.layer_names == ("2",)
    assert_array_equal(A["2"], network[:3](torch.tensor(X)).dequantize())


def test_options_count(tmp_path):
    X = np.random.default_rng(0).normal(size=(7, 5, 6)).astype(np.float32)
    networks = [encoder(**options) for options in OPTIONS]
    results = [extract(network, X, memory=str(tmp_path)).logits for network in networks]
    for network, logits in zip(networks, results, strict=True):
        assert_array_equal(logits, extract(network, X).logits)
    prints = {ActivationExtractor(network).fit(X).fingerprint_ for network in networks}
    assert len(prints) == len(OPTIONS)


def test_copies_that_have_run_have_the_same_fingerprint():
    network = Net()
    other = copy.deepcopy(network)
    other.fc(torch.zeros(1, 6))
    other(torch.zeros(2, 6))
    prints = {ActivationExtractor(net).fit(vectors()).fingerprint_ for net in (network, other)}
    network.train().requires_grad_(False)
    prints.add(ActivationExtractor(network).fit(vectors()).fingerprint_)
    assert len(prints) == 1


def test_counts_and_records_do_not_spoil_the_cache(tmp_path):
    network = Net()
    extractor = ActivationExtractor(network, memory=str(tmp_path)).fit(vectors())
    A = extractor.transform(vectors())
    calls = network.calls
    assert_same(extractor.transform(vectors()), A)
    assert network.calls == calls


class CountedByClass(Net):
    n_runs, factor = 0, 1.0

    def forward(self, x):
        CountedByClass.n_runs += 1
        return self.factor * super().forward(x)


def test_a_count_of_the_class_does_not_spoil_the_cache_and_a_setting_counts(tmp_path, monkeypatch):
    extractor = ActivationExtractor(
        CountedByClass(), memory=str(tmp_path), changed_network="ignore"
    ).fit(vectors())
    A = extractor.transform(vectors())
    calls = CountedByClass.n_runs
    assert_same(extractor.transform(vectors()), A)
    assert CountedByClass.n_runs == calls
    monkeypatch.setattr(CountedByClass, "factor", 3.0)
    np.testing.assert_allclose(extractor.transform(vectors()).logits, 3 * A.logits, rtol=1e-5)


def scaled_by_dictionary(network, x):
    network.config["calls"] += 1
    return network.config["factor"]


def scaled_by_tensor_made_of_number(network, x):
    network.factor = torch.as_tensor(network.factor)
    return network.factor


def scaled_by_copied_tensor(network, x):
    network.scale = network.scale.clone()
    return network.scale


class Scaled(Net):
    def __init__(self, factor_of):
        super().__init__()
        self.factor_of, self.config = factor_of, {"calls": 0, "factor": 1.0}
        self.factor, self.scale = 1.0, torch.ones(())

    def forward(self, x):
        return self.factor_of(self, x) * super().forward(x)


SETTINGS_IN_WHAT_IS_WRITTEN = {
    scaled_by_dictionary: lambda net: net.config.update(factor=3.0),
    scaled_by_tensor_made_of_number: lambda net: setattr(net, "factor", 3.0),
    scaled_by_copied_tensor: lambda net: setattr(net, "scale", torch.tensor(3.0)),
}


@pytest.mark.parametrize("factor_of", SETTINGS_IN_WHAT_IS_WRITTEN)
@pytest.mark.filterwarnings("ignore:.*cannot be read|.*is not cached|.*nothing is cached")
def test_a_setting_in_what_a_pass_writes_is_never_stale(factor_of, tmp_path):
    network, params = Scaled(factor_of), {"memory": str(tmp_path), "changed_network": "ignore"}
    extractor = ActivationExtractor(network, **params).fit(vectors())
    before = extractor.transform(vectors()).logits
    SETTINGS_IN_WHAT_IS_WRITTEN[factor_of](network)
    for again in (extractor, ActivationExtractor(network, **params).fit(vectors())):
        np.testing.assert_allclose(again.transform(vectors()).logits, 3 * before, rtol=1e-5)


class Opaque(Net):
    def __init__(self):
        super().__init__()
        self.lock, self.factor = threading.Lock(), [1.0]

    def forward(self, x):
        with self.lock:
            return self.factor[0] * super().forward(x)


class Counter:
    def __init__(self):
        self.calls, self.scale = 0, 1.0


class Shared(Net):
    """An object of its own counts the calls and holds a setting too."""

    def __init__(self):
        super().__init__()
        self.counter = Counter()

    def forward(self, x):
        self.counter.calls += 1
        return self.counter.scale * super().forward(x)


@pytest.mark.parametrize(
    ("make", "what"), [(Opaque, r"\.lock \(lock\)"), (Shared, r"\.counter \(which changes")]
)
def test_what_cannot_be_read_is_told_of_and_not_cached(make, what, tmp_path):
    network = make()
    extractor = ActivationExtractor(network, memory=str(tmp_path)).fit(vectors())
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"Nothing is taken from the cache.*{what}"):
            A = extractor.transform(vectors())
        assert_same(A, extract(network, vectors()))
    extract(network, vectors())  # without memory there is nothing to tell


def test_classes_and_kind_of_perceptron_count(tmp_path):
    X = vectors(20)
    y = np.arange(20) % 3
    numbers = trained_perceptron(X, y)
    names = trained_perceptron(X, np.array(["a", "b", "c"])[y])
    assert_array_equal(numbers.coefs_[0], names.coefs_[0])
    extractors = [ActivationExtractor(mlp, memory=str(tmp_path)).fit(X) for mlp in (numbers, names)]
    assert extractors[0].fingerprint_ != extractors[1].fingerprint_
    for extractor in extractors:
        assert_array_equal(extractor.transform(X).predictions, extractor.network.predict(X))


def test_choice_of_the_logits_counts(tmp_path):
    class Two(Net):
        def forward(self, x):
            x = super().forward(x)
            return {"a": x, "b": -x}

    network = Two()
    choices = ["a", "b", lambda out: out["a"] + 1, lambda out: out["a"] + 2]
    found = [extract(network, vectors(), logits=c, memory=str(tmp_path)).logits for c in choices]
    for i, (sign, shift) in enumerate([(1, 0), (-1, 0), (1, 1), (1, 2)]):
        assert_allclose(found[i], sign * found[0] + shift, rtol=1e-6)


def test_skorch_net_and_its_module_do_not_share_results(tmp_path):
    skorch = pytest.importorskip("skorch")
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))
    net = skorch.NeuralNetBinaryClassifier(module).initialize()
    assert extract(net.module_, vectors(), memory=str(tmp_path)).logits is None
    assert extract(net, vectors(), memory=str(tmp_path)).logits.shape == (11, 2)


def test_a_class_that_is_pickled_by_value_stays_what_it_is():
    pickle = pytest.importorskip("cloudpickle")

    class Local(nn.Module):
        scale = 2.0

        class Part(nn.Linear):
            pass

        def __init__(self):
            super().__init__()
            self.part, self.settings = self.Part(6, 3), Options()

        def forward(self, x):
            return self.part(x) * self.scale * self.settings.scale

    class Options:
        scale = 1.0

    network = Local()
    packed = pickle.dumps(network)
    known = pickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID
    before = dict(known)
    known.clear()  # as in another process
    try:
        other = pickle.loads(packed)
    finally:
        known.update(before)
    assert type(other) is not Local
    assert type(other).__qualname__ != Local.__qualname__
    extractors = [ActivationExtractor(net).fit(vectors()) for net in (network, other)]
    assert extractors[0].fingerprint_ == extractors[1].fingerprint_
    Local.scale = 3.0
    assert extractors[0].fit(vectors()).fingerprint_ != extractors[1].fingerprint_
