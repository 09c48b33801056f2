"""What an adapter of a further framework has to do, how it is found, and what is refused."""

import copy
import inspect
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skood import ActivationExtractor
from skood.extraction import ODIN
from skood.extraction._mode import Mode
from skood.extraction._passes import Passes
from skood.networks import Fingerprint, NetworkAdapter, Trace, adapt, check_adapter
from skood.networks._registry import Registry

BATCH = np.array([[1.0, 2.0], [4.0, 3.0], [-1.0, 5.0]])


class Forward(NetworkAdapter):
    """A framework without gradients and dropout, whose one layer is its input."""

    kind = "the Forward framework"

    def fingerprint(self, trace=None):
        return Fingerprint("it has no weights")

    def trace(self, batch):
        return Trace(["layer"], [], {"layer": 2}, "it has none"), {"layer": batch}

    def forward(self, batch, trace, layers, keep):
        for layer in layers:
            keep(layer, batch)
        return batch

    def head(self, trace):
        return None


def run(adapter, mode):
    return mode.run(adapter, BATCH, adapter.trace(BATCH)[0], ["layer"], lambda source, value: None)


def test_an_adapter_that_only_runs_is_enough_for_activations():
    np.testing.assert_array_equal(run(Forward(), Mode()).logits, BATCH)
    check_adapter(Forward(), BATCH)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (Mode(gradients=True), "gradients=True needs gradients at the layers"),
        (Mode(passes=Passes(7, 0, 2)), "n_passes=7 needs dropout layers"),
        (Mode(perturbation=ODIN(0.1)), "ODIN needs gradients at the inputs"),
    ],
)
def test_what_a_framework_cannot_do_is_refused_by_its_name(mode, message):
    with pytest.raises(ValueError, match=f"{message}, but the Forward framework has none"):
        run(Forward(), mode)


def test_only_what_every_framework_can_do_is_required():
    required = {"fingerprint", "trace", "forward", "head"}
    assert NetworkAdapter.__abstractmethods__ == required
    assert not inspect.isabstract(Forward)


def perceptron(kind=MLPClassifier, y=(0, 1, 2), **params):
    network = kind(hidden_layer_sizes=(3,), max_iter=300, tol=1, random_state=0, **params)
    return network.fit(BATCH, y)


def test_perceptrons_have_no_dropout():
    adapter = adapt(perceptron())
    assert not adapter.supports("dropout")
    with pytest.raises(ValueError, match=r"n_passes=7 .* scikit-learn's MLPClassifier has none"):
        adapter.forward_with_dropout(BATCH, None, 7, 0)


def test_only_capabilities_that_exist_can_be_asked_for():
    with pytest.raises(ValueError, match="capability must be among"):
        Forward().supports("colour")


@pytest.mark.parametrize(
    "network",
    [
        perceptron(),
        perceptron(activation="tanh"),
        perceptron(y=(0, 1, 1)),
        perceptron(y=((0, 1), (1, 1), (0, 0))),
        perceptron(MLPRegressor),
    ],
)
def test_perceptrons_keep_to_the_contract(network):
    check_adapter(adapt(network), np.random.default_rng(0).normal(size=(7, 2)))


def convolutional(torch):
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(144, 3),
    )


def test_torch_modules_keep_to_the_contract():
    torch = pytest.importorskip("torch")
    X = np.random.default_rng(0).normal(size=(7, 1, 8, 8)).astype(np.float32)
    network = convolutional(torch)
    for given in (X, torch.from_numpy(X), {"input": X}):
        check_adapter(adapt(network), given)
    words = np.random.default_rng(0).integers(9, size=(7, 3))
    nn = torch.nn
    embedding = nn.Sequential(nn.Embedding(9, 4), nn.GELU(), nn.Flatten(), nn.Linear(12, 3))
    check_adapter(adapt(embedding), words)
    check_adapter(adapt(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))), BATCH)


# What a broken adapter does, and what the check says of it.
def overwrite(adapter, method):
    def forward(batch, trace, layers, keep):
        logits = method(batch, trace, layers, keep).copy()
        batch += 1
        return logits

    return forward


def drift(adapter, method):
    calls = []

    def forward(batch, trace, layers, keep):
        calls.append(1)
        return method(batch, trace, layers, keep) + len(calls)

    return forward


def centre(adapter, method):
    def forward(batch, trace, layers, keep):
        logits = method(batch, trace, layers, keep)
        return logits - logits.mean(axis=0)

    return forward


def keep_all(adapter, method):
    def forward(batch, trace, layers, keep):
        return method(batch, trace, ["hidden_0", "output"], keep)

    return forward


def keep_none(adapter, method):
    return lambda batch, trace, layers, keep: method(batch, trace, [], keep)


def one_row(adapter, method):
    def trace(batch):
        found, values = method(batch)
        return found, {name: value[:1] for name, value in values.items()}

    return trace


def more_auto(adapter, method):
    def trace(batch):
        _, values = method(batch)
        return Trace(["nothing"], ["hidden_0"], dict.fromkeys(values, 2), ""), values

    return trace


def double(adapter, method):
    return lambda trace: (2 * method(trace)[0], method(trace)[1])


def weight_alone(adapter, method):
    return lambda trace: method(trace)[0]


def text(adapter, method):
    return lambda trace=None: "abc"


def without_reason(adapter, method):
    return lambda trace: None


def number(adapter, method):
    return lambda trace=None: Fingerprint(str(np.random.default_rng().random()))


def by_identity(adapter, method):
    place = {}

    def fingerprint(trace=None):
        return Fingerprint(str(place.setdefault(id(adapter), len(place))))

    return fingerprint


def upwards(adapter, method):
    def perturb(batch, trace, perturbation):
        moved, logits = method(batch, trace, perturbation)
        return 2 * batch - moved, logits

    return perturb


def half(adapter, method):
    def forward(batch, trace, layers, keep, keep_gradient):
        return method(batch, trace, layers, keep, lambda n, g: keep_gradient(n, g / 2))

    return forward


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        ("forward", overwrite, "overwrites the inputs 'X'"),
        ("forward", drift, "two runs differ in the logits"),
        ("forward", centre, "the logits depend on the batch size"),
        ("forward", keep_all, "which it was not asked for"),
        ("forward", keep_none, "does not keep the layers"),
        ("trace", one_row, "it needs a row for each"),
        ("trace", more_auto, r"trace.auto names \['nothing'\]"),
        ("head", double, "the head does not yield the logits"),
        ("head", without_reason, "why_no_head does not say why"),
        ("head", weight_alone, "a tuple of weight and bias, got a ndarray"),
        ("fingerprint", text, "fingerprint returns 'abc'"),
        ("fingerprint", number, "a pass changes the fingerprint"),
        ("perturb", upwards, "does not move inputs against the slope"),
        ("forward_with_gradients", half, "the gradient at 'hidden_0' is not that of the head"),
    ],
)
def test_the_check_finds_what_breaks_the_contract(name, broken, message):
    adapter = adapt(perceptron())
    setattr(adapter, name, broken(adapter, getattr(adapter, name)))
    with pytest.raises(AssertionError, match=message):
        check_adapter(adapter, np.random.default_rng(0).normal(size=(7, 2)))


class Wandering(Forward):
    """Its fingerprint is that of the object."""

    def fingerprint(self, trace=None):
        return Fingerprint(str(id(self)))


class Silent(Forward):
    """Claims what it cannot do, or does not say what it can."""

    capabilities = frozenset({"colour"})


class Listing(Forward):
    capabilities = ["gradients"]


class Hidden(Forward):
    def forward_with_dropout(self, batch, trace, n_passes, seed):
        return np.stack([batch] * n_passes, axis=1)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (Wandering(), "a copy of the network has another fingerprint"),
        (Silent(), r"capabilities names \['colour'\]"),
        (Listing(), r"must be a set of strings, got \['gradients'\]"),
        (Hidden(), "'dropout' works, but capabilities does not name it"),
    ],
)
def test_the_check_finds_what_is_claimed_wrongly(adapter, message):
    with pytest.raises(AssertionError, match=message):
        check_adapter(adapter, BATCH)


def test_the_check_needs_some_inputs():
    with pytest.raises(ValueError, match="at least three inputs, got 2"):
        check_adapter(Forward(), BATCH[:2])


# The registry.
class Net:
    """A network of a framework, whose adapter is told its name."""


class Deep(Net):
    """One of a more special kind."""


def registry(**defaults):
    return Registry(
        "skood.tests", {name.replace("_", "."): kind for name, kind in defaults.items()}
    )


def test_the_most_specific_kind_counts():
    here = registry()
    for kind in (__name__, f"{__name__}.Net", Deep):
        here.register(kind, lambda network, kind=kind: kind)
    assert here.find(Deep())(None) is Deep
    assert here.find(Net())(None) == f"{__name__}.Net"
    assert here.find(Forward())(None) == __name__
    assert here.find(MLPClassifier()) is None


def test_a_class_counts_more_than_the_library_that_defines_it():
    here = registry(sklearn="builtins:list")
    here.register(BaseEstimator, "builtins:dict")
    assert here.find(MLPClassifier()) is dict
    assert here.find(np.random.default_rng()) is None


def test_a_library_counts_for_what_users_derive_from_it():
    class Own(MLPClassifier):
        pass

    here = registry(sklearn="builtins:list")
    assert here.find(Own()) is list
    here.register("sklearn.neural_network", "builtins:dict")
    assert here.find(Own()) is dict


def test_of_the_same_kind_the_last_one_counts():
    here = registry()
    here.register(Net, "builtins:list")
    here.register(f"{__name__}.Net", "builtins:dict")
    assert here.find(Net()) is dict
    here.register(Net, "builtins:set")
    assert here.find(Net()) is set


def test_files_are_found_by_their_longest_suffix(tmp_path):
    here = registry()
    here.register(".net", "builtins:list")
    here.register(".deep.net", "builtins:dict")
    assert here.find("a.NET") is list
    assert here.find(tmp_path / "a.deep.net") is dict
    assert here.find("a.netz") is None


def test_libraries_are_not_imported_to_register_them():
    here = registry()
    here.register("no_such_library", "no_such_module:Adapter")
    assert here.find(Net()) is None
    assert "no_such_library" in here.kinds()


@pytest.mark.parametrize("kind", ["", "a b", 3, None, "a:b"])
def test_kinds_that_are_none_are_refused(kind):
    with pytest.raises(TypeError, match="kind must be a class"):
        registry().register(kind, "builtins:list")


@pytest.mark.parametrize("target", ["nothing", ":x", 3, None])
def test_what_cannot_be_called_is_not_registered(target):
    with pytest.raises(TypeError, match="must be a callable or 'module:name'"):
        registry().register(Net, target)


def test_what_cannot_be_imported_is_named():
    here = registry()
    here.register(Net, "no_such_module:Adapter")
    with pytest.raises(
        ImportError, match=r"'no_such_module:Adapter' is registered .* cannot be imp"
    ):
        here.find(Net())


def test_options_that_an_adapter_does_not_know_are_refused():
    with pytest.raises(ValueError, match="logits='binary' is not known for a MLPClassifier"):
        adapt(perceptron(), logits="binary")


def test_an_adapter_is_a_network_too():
    adapter = Forward()
    assert adapt(adapter) is adapter
    A = ActivationExtractor(adapter).fit_transform(BATCH)
    np.testing.assert_array_equal(A["layer"], BATCH)
    assert copy.deepcopy(A).layer_names == ("layer",)


def python(code, *folders):
    """What a fresh Python prints that runs code with folders among those of its modules."""
    lines = [f"import sys; sys.path[:0] = {[str(folder) for folder in folders]}"]
    lines.append(textwrap.dedent(code))
    command = [sys.executable, "-W", "error::UserWarning", "-c", "\n".join(lines)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")


def package(folder, name, points, code=""):
    """An installed package of a name, with entry points and one module of this name."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{kind} = {place}" for kind, place in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[skood.networks]", *lines]))
    (folder / f"{name}.py").write_text(textwrap.dedent(code))
    return folder


ADAPTER = """
    from skood.networks import NetworkAdapter
    class Adapter(NetworkAdapter):
        def __init__(self, network): self.network = network
        def trace(self, batch): ...
        def forward(self, batch, trace, layers, keep): ...
        def head(self, trace): ...
        def fingerprint(self, trace=None): ...
    """


def test_packages_register_their_adapters(tmp_path):
    points = {"a_library": "plugin:Adapter", ".chain": "plugin:Adapter"}
    folder = package(tmp_path, "plugin", points, ADAPTER)
    (folder / "a_library.py").write_text("class Net: pass")
    printed = python(
        """
        import skood.networks
        print("plugin" in sys.modules)
        skood.networks.adapt("net.chain")
        from a_library import Net
        print(type(skood.networks.adapt(Net())).__module__)
        """,
        folder,
    )
    assert printed[:2] == ["False", "plugin"]


def test_a_program_counts_more_than_packages_and_these_more_than_skood(tmp_path):
    kind = "sklearn.neural_network.MLPClassifier"
    folder = package(tmp_path, "plugin", {kind: "plugin:Adapter"}, ADAPTER)
    printed = python(
        f"""
        from sklearn.neural_network import MLPClassifier
        from skood.networks import adapt, register
        net = MLPClassifier((3,), max_iter=1, solver="sgd")
        print(type(adapt(net)).__module__)
        from plugin import Adapter
        class Own(Adapter): pass
        register({kind!r}, Own)
        print(type(adapt(net)).__name__)
        """,
        folder,
    )
    assert printed[:2] == ["plugin", "Own"]


def test_errors_of_a_package_name_it(tmp_path):
    folder = package(tmp_path, "broken", {".chain": "broken:Adapter"}, "1 / 0")
    printed = python(
        """
        from skood.networks import adapt
        try:
            adapt("net.chain")
        except ImportError as error:
            print(error)
        """,
        folder,
    )
    assert "of the package 'broken' is registered" in printed[0]
    assert "ZeroDivisionError" in printed[0]


def test_two_packages_for_one_kind_are_warned_about(tmp_path):
    one = package(tmp_path / "a", "one", {".chain": "one:Adapter"}, ADAPTER)
    other = package(tmp_path / "b", "other", {".chain": "other:Adapter"}, ADAPTER)
    printed = python(
        """
        import warnings
        from skood.networks import adapt
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            adapt("net.chain")
        print([str(w.message) for w in caught])
        """,
        one,
        other,
    )
    assert "'one'" in printed[0]
    assert "'other'" in printed[0]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (MLPClassifier, r"the class MLPClassifier. Pass a trained instance"),
        ({"weight": np.ones(3)}, r"load it into the module"),
        ("net.pt", r"Of a file .pt, load it into the torch module"),
        ("net.keras", r"export the network to ONNX"),
        (len, r"A function has no layers"),
        (
            type("Model", (), {"__module__": "keras.src.models"})(),
            r"no adapter for Keras here: exp",
        ),
        (None, r"which knows \[.*'torch'.*\]; got an object of type builtins.NoneType"),
    ],
)
def test_what_is_no_network_is_told_what_to_do(network, message):
    with pytest.raises(TypeError, match=message):
        adapt(network)


@pytest.mark.parametrize("n", ["n", 2, 1])
def test_onnx_models_keep_to_the_contract(n):
    pytest.importorskip("onnxruntime")
    models = pytest.importorskip("_onnx_models")
    X = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    adapter = adapt(models.mlp(n=n))
    check_adapter(adapter, X)
    assert adapter.supports("device")
    assert not adapter.supports("gradients")
