"""How the network of a saved monitor comes back, and what other files hold of a monitor."""

import io
import json
import os
import pickle
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from _saved_nets import SmallNet, responses
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

import skood
from skood import ActivationExtractor, FileFormatError, Monitor, PoolingReducer, make_monitor
from skood.detectors import KNNDetector
from skood.ensemble import AnyAlarmDetector

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning"),
]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    return (2 * rng.normal(size=(3, 6))[y] + rng.normal(size=(120, 6))).astype(np.float32), y


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(60, 1, 6, 6)).astype(np.float32)


@pytest.fixture
def network(images):
    torch.manual_seed(0)
    network = SmallNet()
    network(torch.as_tensor(images))  # which sets the means of its normalisation
    return network.eval()


def watching(network, X, layers="auto", detector=None):
    extractor = ActivationExtractor(network, layers, reducer=PoolingReducer())
    detector = KNNDetector(n_neighbors=3) if detector is None else detector
    return Monitor([("extract", extractor), ("detect", detector)]).fit(X)


def assert_same(loaded, monitor, X):
    found, expected = responses(loaded, X), responses(monitor, X)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def perceptron():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


# Perceptrons


def mlps(X, y):
    net = MLPClassifier((5,), random_state=0, max_iter=20).fit(X, y)
    scaled = make_pipeline(StandardScaler(), MLPClassifier((5,), random_state=0, max_iter=20))
    return {
        "classifier": net,
        "regressor": MLPRegressor(hidden_layer_sizes=(5,), random_state=0, max_iter=20).fit(X, y),
        "pipeline": scaled.fit(X, y),
        "frozen": FrozenEstimator(net),
    }


@pytest.mark.parametrize("name", ["classifier", "regressor", "pipeline", "frozen"])
def test_perceptrons_are_in_the_file(name, rows, tmp_path):
    X, y = rows
    net = mlps(X, y)[name]
    monitor = watching(net, X)
    monitor.save(tmp_path / "saved")
    loaded = skood.load(tmp_path / "saved")
    assert_same(loaded, monitor, X)
    assert repr(loaded) == repr(monitor)
    np.testing.assert_array_equal(loaded.network.predict(X), net.predict(X))
    assert_same(skood.load(tmp_path / "saved", net), monitor, X)


def test_a_network_that_is_not_kept_has_to_be_passed(rows, tmp_path):
    X, y = rows
    net = mlps(X, y)["classifier"]
    monitor = watching(net, X)
    monitor.save(tmp_path / "saved", network=None)
    with pytest.raises(ValueError, match="watches a MLPClassifier, but the file holds nothing"):
        skood.load(tmp_path / "saved")
    assert_same(skood.load(tmp_path / "saved", net), monitor, X)
    assert_same(skood.load(tmp_path / "saved", lambda: net), monitor, X)
    other = MLPClassifier((5,), random_state=1, max_iter=20).fit(X, y)
    with pytest.raises(ValueError, match=r"values of weights \(coefs_\[0\]"):
        skood.load(tmp_path / "saved", other)
    with pytest.raises(TypeError, match="network must be a torch"):
        skood.load(tmp_path / "saved", 3)
    with pytest.raises(TypeError, match="must return a network"):
        skood.load(tmp_path / "saved", lambda: 3)


def test_a_pipeline_with_code_of_the_user_is_not_kept(rows, tmp_path):
    X, y = rows
    net = make_pipeline(
        FunctionTransformer(lambda X: X), MLPClassifier((5,), random_state=0, max_iter=20)
    ).fit(X, y)
    monitor = watching(net, X)
    monitor.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"not in the file: the network\.steps\[0\]\[1\]\.func"):
        skood.load(tmp_path / "saved")
    assert_same(skood.load(tmp_path / "saved", net), monitor, X)


def test_a_network_that_has_changed_is_not_saved(rows, tmp_path):
    X, y = rows
    net = mlps(X, y)["classifier"]
    monitor = watching(net, X)
    net.coefs_[0][0] += 1
    with pytest.raises(ValueError, match="not the one that fit saw"):
        monitor.save(tmp_path / "saved")
    monitor.set_params(extract__changed_network="ignore").save(tmp_path / "saved")
    assert_same(skood.load(tmp_path / "saved"), monitor, X)


def test_several_networks(rows, tmp_path):
    X, y = rows
    nets = [MLPClassifier((5,), random_state=n, max_iter=9).fit(X, y) for n in range(2)]
    both = AnyAlarmDetector([(f"net {n}", watching(net, X)) for n, net in enumerate(nets)])
    both.fit(X)
    skood.save(both, tmp_path / "saved", network=None)
    loaded = skood.load(tmp_path / "saved", nets)
    np.testing.assert_array_equal(loaded.predict(X), both.predict(X))
    with pytest.raises(ValueError, match="holds 2 networks"):
        skood.load(tmp_path / "saved", nets[0])


def test_monitors_that_are_not_fitted(rows, tmp_path):
    X, y = rows
    for net in (MLPClassifier((5,), max_iter=3), mlps(X, y)["classifier"]):
        monitor = make_monitor(net)
        monitor.save(tmp_path / "saved")
        assert repr(skood.load(tmp_path / "saved")) == repr(monitor)


# torch


def test_weights_of_torch_need_a_function_that_makes_the_network(network, images, tmp_path):
    monitor = make_monitor(network).fit(images[:40]).calibrate(images[40:])
    monitor.save(tmp_path / "saved")
    for given in (SmallNet, lambda: SmallNet(), network, lambda: network):
        loaded = skood.load(tmp_path / "saved", given)
        assert_same(loaded, monitor, images)
        assert repr(loaded) == repr(monitor)
        assert not loaded.network.training
    with pytest.raises(ValueError, match="pass a function without arguments"):
        skood.load(tmp_path / "saved")


def test_another_network_of_torch_is_refused_by_what_differs(network, images, rows, tmp_path):
    watching(network, images).save(tmp_path / "saved")

    def refused(network, match):
        with pytest.raises(ValueError, match=match) as caught:
            skood.load(tmp_path / "saved", network)
        assert not isinstance(caught.value, FileFormatError)

    class Wider(SmallNet):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 5)

    class More(SmallNet):
        def __init__(self):
            super().__init__()
            self.more = nn.Linear(1, 1)

    class OtherCode(SmallNet):
        def forward(self, x):
            return 2 * super().forward(x)

    refused(Wider, r"architecture differs.*head\.weight \(float32 \[5, 4\] for float32 \[3, 4\]\)")
    refused(More, r"architecture differs: this More has beside the stored ones more\.weight")
    refused(lambda: SmallNet().double(), r"architecture differs.*float64")
    refused(perceptron, r"architecture differs: this Sequential lacks conv\.weight")
    refused(SmallNet(), r"values of weights \(conv\.weight")
    refused(OtherCode, r"code, settings or hooks \(:class, :forward\)")
    with pytest.raises(TypeError, match="weights of a SmallNet of torch"):
        skood.load(tmp_path / "saved", lambda: mlps(*rows)["classifier"])


def test_weights_of_every_type(rows, tmp_path):
    X, _ = rows
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        net = perceptron().to(dtype)
        monitor = watching(net, X)
        monitor.save(tmp_path / "saved")
        loaded = skood.load(tmp_path / "saved", lambda dtype=dtype: perceptron().to(dtype))
        assert_same(loaded, monitor, X)


def test_weights_that_are_shared_are_kept_once(rows, tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Linear(6, 6)
            self.again = nn.Linear(6, 6)
            self.again.weight = self.inside.weight

        def forward(self, x):
            return self.again(torch.relu(self.inside(x)))

    monitor = watching(Tied(), rows[0])
    monitor.save(tmp_path / "saved")
    assert_same(skood.load(tmp_path / "saved", Tied), monitor, rows[0])
    (entry,) = json.loads((tmp_path / "saved" / "manifest.json").read_text())["networks"]
    assert len({key for _, _, key in entry["tensors"]}) == 3


def test_wrapped_networks_have_the_same_weights(rows, tmp_path):
    torch.manual_seed(0)
    monitor = watching(nn.DataParallel(perceptron()), rows[0])
    monitor.save(tmp_path / "saved")
    assert_same(skood.load(tmp_path / "saved", perceptron), monitor, rows[0])


def make_small():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def test_weights_fill_a_network_without_memory_and_need_shapes(rows, tmp_path):
    X = rows[0]
    monitor = watching(make_small(), X)
    monitor.save(tmp_path / "file")

    def on_meta():
        with torch.device("meta"):
            return make_small()

    assert_same(skood.load(tmp_path / "file", on_meta), monitor, X)
    with pytest.raises(ValueError, match=r"shapes are not known yet.* call a lazy module once"):
        skood.load(tmp_path / "file", lambda: nn.Sequential(nn.LazyLinear(16), nn.ReLU()))


def test_what_is_passed_for_a_network_is_told_apart(rows, tmp_path):
    X, network = rows[0], make_small()
    monitor = watching(network, X)
    monitor.save(tmp_path / "file")
    assert_same(skood.load(tmp_path / "file", [network]), monitor, X)
    with pytest.raises(TypeError, match="of weights alone no network can be made"):
        skood.load(tmp_path / "file", network.state_dict())
    monitor.save(tmp_path / "file", network=None)
    with pytest.raises(ValueError, match=r"differs in .* holds no weights of the Sequential"):
        skood.load(tmp_path / "file", make_small)


def test_a_state_that_is_no_tensor_is_not_kept(rows, tmp_path):
    class WithState(nn.Sequential):
        def get_extra_state(self):
            return {"a": 1}

        def set_extra_state(self, state):
            pass

    net = WithState(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    monitor = watching(net, rows[0])
    monitor.save(tmp_path / "saved")
    with pytest.raises(ValueError, match="state '_extra_state' of the type dict"):
        skood.load(tmp_path / "saved")
    assert_same(skood.load(tmp_path / "saved", net), monitor, rows[0])


TRAINING = """
    import cloudpickle
    import numpy as np
    import torch
    from torch import nn
    import torch.nn.functional as F
    import skood

    {source}

    if __name__ == "__main__":
        images = np.load("images.npy")
        torch.manual_seed(0)
        net = Net()
        net(torch.as_tensor(images))
        monitor = skood.make_monitor(net).fit(images[:40]).calibrate(images[40:])
        monitor.save("monitor")
        with open("monitor.pkl", "wb") as file:
            cloudpickle.dump(monitor, file)
        np.savez("said.npz", scores=monitor.score_samples(images), p=monitor.p_values(images))
"""
SOURCE = """
    FACTOR = 0.5

    def squeeze(x):
        return FACTOR * F.relu(x)

    class Block(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.conv = nn.Conv2d(n, n, 3, padding=1)
            self.norm = nn.BatchNorm2d(n)

        def forward(self, x):
            return squeeze(x + self.norm(self.conv(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 3)
            self.blocks = nn.Sequential(Block(4), Block(4))
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.blocks(F.relu(self.stem(x))).mean((2, 3)))
"""
SERVICE = """
    import pickle
    import numpy as np

    images, said = np.load("images.npy"), np.load("said.npz")

    def check(monitor):
        np.testing.assert_array_equal(monitor.score_samples(images), said["scores"])
        np.testing.assert_array_equal(monitor.p_values(images), said["p"])

    with open("monitor.pkl", "rb") as file:
        check(pickle.load(file))  # which holds the class of the network by value

    import skood
    from models import make

    check(skood.load("monitor", make))
    print("equal")
"""
MODULE = """
    import torch
    import torch.nn.functional as F
    from torch import nn

    {source}

    def make():
        return Net()
"""


def python(folder, script, **replaced):
    """Run a script in a process of its own, that knows nothing of this one."""
    code = textwrap.dedent(script)
    for name, text in replaced.items():
        code = code.replace(f"{{{name}}}", textwrap.dedent(text))
    (folder / "script.py").write_text(code)
    path = os.pathsep.join([str(Path(skood.__file__).parents[1]), str(folder)])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    (folder / "script.py").unlink()
    return run.stdout


def test_a_fresh_process_without_the_script_of_training(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    python(tmp_path, TRAINING, source=SOURCE)
    module = textwrap.dedent(MODULE).replace("{source}", textwrap.dedent(SOURCE))
    (tmp_path / "models.py").write_text(module)
    assert python(tmp_path, SERVICE) == "equal\n"


# Networks of other kinds


def test_nets_of_skorch(rows, tmp_path):
    skorch = pytest.importorskip("skorch")
    X, y = rows

    def make():
        return skorch.NeuralNetClassifier(perceptron, max_epochs=1, verbose=0).initialize()

    torch.manual_seed(0)
    net = make().fit(X, y.astype(np.int64))
    monitor = watching(net, X)
    monitor.save(tmp_path / "saved")
    for given in (net, make):
        assert_same(skood.load(tmp_path / "saved", given), monitor, X)
    with pytest.raises(ValueError, match=r"without parameters.* initialize a net of skorch"):
        skood.load(tmp_path / "saved", lambda: skorch.NeuralNetClassifier(perceptron))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "perceptron.onnx"
    torch.onnx.export(
        perceptron(),
        (torch.zeros(2, 6),),
        path,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )
    return path


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export")
@pytest.mark.filterwarnings("ignore:The feature will be removed")
@pytest.mark.parametrize("kind", ["path", "bytes", "proto", "session"])
def test_models_of_onnx_are_in_the_file(kind, model, rows, tmp_path):
    import onnx
    import onnxruntime

    opened = {
        "path": str,
        "bytes": lambda path: path.read_bytes(),
        "proto": onnx.load,
        "session": onnxruntime.InferenceSession,
    }[kind](model)
    monitor = watching(opened, rows[0])
    monitor.save(tmp_path / "saved")
    loaded = skood.load(tmp_path / "saved")
    assert_same(loaded, monitor, rows[0])
    assert repr(loaded) == repr(monitor)
    loaded.save(tmp_path / "again")
    assert repr(skood.load(tmp_path / "again")) == repr(monitor)
    assert_same(skood.load(tmp_path / "saved", str(model)), monitor, rows[0])


def test_another_model_of_onnx_is_refused(model, rows, tmp_path):
    import onnx

    watching(str(model), rows[0]).save(tmp_path / "saved")
    other = onnx.load(model)
    values = onnx.numpy_helper.to_array(other.graph.initializer[0]) + 1
    name = other.graph.initializer[0].name
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, name))
    with pytest.raises(ValueError, match=rf"values of weights \(0 {name}\)"):
        skood.load(tmp_path / "saved", other)


def test_exported_programs_are_passed_again(rows, tmp_path):
    torch.manual_seed(0)
    dynamic = ({0: torch.export.Dim("n")},)
    program = torch.export.export(perceptron(), (torch.zeros(4, 6),), dynamic_shapes=dynamic)
    monitor = watching(program, rows[0])
    monitor.save(tmp_path / "saved")
    assert_same(skood.load(tmp_path / "saved", program), monitor, rows[0])
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    assert_same(skood.load(tmp_path / "saved", torch.export.load(buffer)), monitor, rows[0])
    with pytest.raises(ValueError, match="ExportedProgram, but the file holds nothing of it"):
        skood.load(tmp_path / "saved")


# Files of others


def test_cloudpickle_and_pickle_hold_what_the_monitor_holds(rows):
    X, y = rows
    monitor = watching(mlps(X, y)["classifier"], X)
    for dumped in (pickle.dumps(monitor), cloudpickle.dumps(monitor)):
        assert_same(pickle.loads(dumped), monitor, X)


PLAIN = {"builtins.frozenset", "numpy.dtype"}


def test_skops_holds_monitors_of_perceptrons(rows):
    sio = pytest.importorskip("skops.io")
    X, y = rows
    monitor = make_monitor(mlps(X, y)["classifier"]).fit(X[:60], y[:60]).calibrate(X[60:])
    dumped = sio.dumps(monitor)
    types = sio.get_untrusted_types(data=dumped)
    assert all(kind in PLAIN or kind.startswith(("skood.", "sklearn.")) for kind in types)
    assert_same(sio.loads(dumped, trusted=types), monitor, X)


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs mlflow")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_holds_a_monitor_in_each_way(rows, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    sio = pytest.importorskip("skops.io")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}")
    X, y = rows
    monitor = watching(mlps(X, y)["classifier"], X)
    needed = {"pip_requirements": ["skood"]}
    types = sio.get_untrusted_types(data=sio.dumps(monitor))
    mlflow.sklearn.save_model(
        monitor,
        tmp_path / "skops",
        serialization_format="skops",
        skops_trusted_types=types,
        **needed,
    )
    assert_same(mlflow.sklearn.load_model(tmp_path / "skops"), monitor, X)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    mlflow.sklearn.save_model(
        monitor, tmp_path / "pickle", serialization_format="cloudpickle", **needed
    )
    assert_same(mlflow.sklearn.load_model(tmp_path / "pickle"), monitor, X)
    monitor.save(tmp_path / "monitor")

    class Watched(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            self.monitor = skood.load(context.artifacts["monitor"])

        def predict(self, context, model_input, params=None):
            return self.monitor.predict(model_input)

    mlflow.pyfunc.save_model(
        tmp_path / "own",
        python_model=Watched(),
        artifacts={"monitor": str(tmp_path / "monitor")},
        **needed,
    )
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "own"))
    np.testing.assert_array_equal(loaded.predict(X), monitor.predict(X))
