"""Monitors as one module of torch, and as a file of ONNX."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import (
    ActivationExtractor,
    HammingNAPDetector,
    Monitor,
    PercentileBinarizer,
    PoolingReducer,
    make_monitor,
)
from skood.calibration import ConformalDetector, RiskControlledDetector
from skood.datasets import load_digits_network
from skood.detectors import EnergyDetector, MahalanobisDetector, MaxSoftmaxDetector
from skood.ensemble import AnyAlarmDetector, LayerEnsembleDetector
from skood.export import ExportError
from skood.extraction import ODIN

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::skood.calibration.UncalibratedWarning", "ignore:.*LeafSpec:FutureWarning"
)


class VGG(nn.Module):
    """Convolutions whose activation functions overwrite what they are given."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
        )
        self.hidden, self.head = nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(torch.relu(self.hidden(self.features(x).flatten(1))))


class DenseNet(nn.Module):
    """Layers that read all before them, and functions that are no modules."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * i) for i in range(3))
        self.convolutions = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4, 3, padding=1) for i in range(2))
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.stem(x)
        for norm, convolution in zip(self.norms, self.convolutions, strict=False):
            x = torch.cat([x, convolution(nn.functional.relu(norm(x), inplace=True))], 1)
        x = nn.functional.relu(self.norms[2](x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class ViT(nn.Module):
    """Patches, a class token for ``len`` of the images, and attention."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, activation="gelu")
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return self.head(self.block(x)[:, 0])


class TextNet(nn.Module):
    """Tokens and a mask of these by name."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids, attention_mask):
        x = self.block(self.embed(input_ids), src_key_padding_mask=attention_mask == 0)
        weights = attention_mask[..., None].to(x.dtype)
        return {"logits": self.head(torch.tanh((x * weights).sum(1) / weights.sum(1)))}


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def images(n, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, 3, 8, 8, generator=generator)


def some_images():
    """New ones, from dark to far too bright."""
    return images(40, 9) * torch.linspace(0.2, 3, 40)[:, None, None, None]


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)


def perceptron():
    return seeded(lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)))


def of_steps(network, detector, *layers, **settings):
    extractor = ActivationExtractor(network, list(layers) or "auto", **settings)
    return Monitor([("extract", extractor), ("detect", detector)])


def assert_says_the_same(monitor, X, inputs=None, module=None):
    """Scores, p-values and verdicts of a module are those of the monitor, of one row as well."""
    module = monitor.to_torch() if module is None else module
    inputs = (torch.as_tensor(X),) if inputs is None else inputs
    said, one = module(*inputs), module(*(each[:1] for each in inputs))
    np.testing.assert_allclose(said["score"], monitor.score_samples(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(said["verdict"], monitor.predict(X))
    if hasattr(monitor, "calibration_") or hasattr(monitor[-1], "p_values"):
        np.testing.assert_allclose(said["p_value"], monitor.p_values(X), rtol=1e-12)
    else:
        assert torch.isnan(said["p_value"]).all()
    np.testing.assert_allclose(one["score"], said["score"][:1], rtol=1e-4, atol=1e-4)
    return module


@pytest.fixture(scope="module")
def vgg():
    return seeded(VGG)


@pytest.fixture(scope="module")
def monitor(vgg):
    return make_monitor(vgg).fit(images(150)).calibrate(images(120, 1))


@pytest.fixture(scope="module")
def module(monitor):
    return monitor.to_torch()


def test_the_default_monitor_says_the_same_in_tensors(monitor, module):
    X = some_images()
    assert_says_the_same(monitor, X, module=module)
    assert set(monitor.predict(X)) == {1, -1}
    with torch.no_grad():
        torch.testing.assert_close(module(X)["logits"], monitor.network(X))


@pytest.mark.parametrize("target", ["misclassified", "both"])
@pytest.mark.parametrize("group_by", [None, "prediction"])
def test_monitors_of_errors_and_of_classes(vgg, target, group_by):
    X = images(150)
    y = np.arange(150) % 4
    monitor = make_monitor(vgg, target=target).fit(X, y)
    assert_says_the_same(monitor, some_images())
    right = vgg(images(300, 1)).argmax(1).numpy()
    promise = {"group_by": group_by, "guarantee": "training-conditional"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes of few rows
        monitor.calibrate(images(300, 1), right, false_alarm_rate=0.3, **promise)
        assert_says_the_same(monitor, some_images())


def test_the_network_stays_as_it_was(vgg):
    monitor = make_monitor(vgg).fit(images(60))
    before = copy.deepcopy(vgg.state_dict())
    vgg.train()
    try:
        module = monitor.to_torch()
        assert vgg.training
    finally:
        vgg.eval()
    assert not any(m._forward_hooks for m in vgg.modules())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    for name, tensor in vgg.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_module_is_in_evaluation_mode_and_moves_with_all_that_it_holds(module):
    X = some_images()
    said = module(X)["score"]
    assert torch.equal(module.train()(X)["score"], said)
    module.load_state_dict(module.state_dict())
    on_meta = copy.deepcopy(module).to("meta")
    assert {t.device.type for t in (*on_meta.parameters(), *on_meta.buffers())} == {"meta"}
    assert on_meta(X.to("meta"))["score"].shape == (40,)


def test_samples_that_are_not_finite_are_rejected(vgg):
    # Patterns of NaN are as good as any.
    detector = make_pipeline(PercentileBinarizer(), HammingNAPDetector())
    reducer = PoolingReducer(pooling="avg")
    monitor = of_steps(vgg, detector, reducer=reducer).fit(images(60))
    X = images(4, 3)
    module = monitor.to_torch()
    scores = module(X)["score"]
    X[1, 0, 0, 0], X[2, 0, 0, 0] = torch.nan, torch.inf
    said = module(X)
    assert torch.isnan(said["score"]).tolist() == [False, True, True, False]
    assert torch.equal(said["score"][[0, 3]], scores[[0, 3]])
    assert said["verdict"][1:3].tolist() == [-1, -1]


def test_a_module_keeps_its_types_and_is_pickled_and_takes_no_samples(module):
    X = some_images()
    said = module(X)["score"]
    changed = copy.deepcopy(module).half().double().float()
    assert torch.equal(changed(X)["score"], said)
    assert torch.equal(pickle.loads(pickle.dumps(module))(X)["score"], said)
    assert {name: len(values) for name, values in module(X[:0]).items()} == dict.fromkeys(
        ["logits", "score", "p_value", "verdict"], 0
    )


def test_pooling_into_cells(vgg):
    reducer = PoolingReducer(output_size=2)
    monitor = of_steps(vgg, MahalanobisDetector(n_components=3), reducer=reducer).fit(images(60))
    assert_says_the_same(monitor, some_images())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_scores_on_a_gpu(monitor):
    X = some_images()
    said = monitor.to_torch().to("cuda")(X.to("cuda"))
    np.testing.assert_allclose(said["score"].cpu(), monitor.score_samples(X), atol=1e-3)


@pytest.mark.parametrize("strict", [False, True])
def test_a_module_can_be_exported_again(strict):
    monitor = of_steps(perceptron(), EnergyDetector(validation=0.5)).fit(rows(80))
    module, X = monitor.to_torch(), torch.as_tensor(rows(20, 3))
    shapes = (({0: torch.export.Dim("n")},),)
    program = torch.export.export(module, (X[:3],), dynamic_shapes=shapes, strict=strict)
    for name, value in program.module()(X).items():
        torch.testing.assert_close(value, module(X)[name])


def test_a_module_can_be_compiled():
    detector = LayerEnsembleDetector(HammingNAPDetector(), combine="informed")
    monitor = of_steps(perceptron(), detector).fit(rows(80))
    module, X = monitor.to_torch(), torch.as_tensor(rows(20, 3))
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X)["score"], module(X)["score"])


@pytest.mark.parametrize("combine", ["mean", "fisher", "vote", "weighted", "informed"])
@pytest.mark.parametrize("detector", [HammingNAPDetector, MahalanobisDetector])
def test_ensembles_of_all_rules(combine, detector):
    y = np.where(np.arange(120) < 100, 0, -1)
    X = rows(120) * np.where(y == -1, 4, 1)[:, np.newaxis].astype(np.float32)
    monitor = of_steps(perceptron(), LayerEnsembleDetector(detector(), combine=combine), "0", "1")
    assert_says_the_same(monitor.fit(X, y), 2 * rows(40, 3))


@pytest.mark.parametrize(
    "detector",
    [
        ConformalDetector(make_pipeline(PercentileBinarizer(), HammingNAPDetector()), cv=3),
        ConformalDetector(MahalanobisDetector(relative=True), cv=0.5),
        AnyAlarmDetector([("a", EnergyDetector()), ("b", MaxSoftmaxDetector())]),
        MahalanobisDetector(n_components=3, shrinkage=0.2, normalize=True),
    ],
    ids=["folds", "relative", "alarms", "components"],
)
def test_calibrated_and_composed_detectors(detector):
    monitor = of_steps(perceptron(), detector).fit(rows(150))
    assert_says_the_same(monitor, 2 * rows(40, 3))


def test_a_bound_on_the_risk():
    network = perceptron()
    detector = RiskControlledDetector(MaxSoftmaxDetector(), alpha=0.9, cv=0.5)
    X = rows(200)
    y = network(torch.as_tensor(X)).argmax(1).numpy()
    monitor = of_steps(network, detector)
    monitor.set_params(target="misclassified").fit(X, y)
    assert_says_the_same(monitor, rows(40, 3))


@pytest.mark.parametrize("rule", ["quantile", "rank", "zero"])
def test_steps_between_extraction_and_detector(vgg, rule):
    steps = [
        ("extract", ActivationExtractor(vgg, ["features.2", "features.5"])),
        ("pool", PoolingReducer(pooling=["max", "avg"])),
        ("binarise", PercentileBinarizer(percentile=60, rule=rule)),
        ("detect", HammingNAPDetector()),
    ]
    assert_says_the_same(Monitor(steps).fit(images(80)), some_images())


def test_perceptrons_of_scikit_learn_behind_a_scaler():
    X = 3 * rows(200).astype(np.float64) + 2
    labels = np.array(["a", "b", "c"])[(X[:, 0] > 2).astype(int) + (X[:, 1] > 2)]
    net = make_pipeline(
        StandardScaler(), MLPClassifier((8,), tol=0.01, max_iter=500, random_state=0)
    )
    monitor = make_monitor(net.fit(X, labels)).fit(X[:150], labels[:150])
    module = assert_says_the_same(monitor, X[150:])
    logits = module(torch.as_tensor(X[150:]))["logits"]
    np.testing.assert_array_equal(net.classes_[logits.argmax(1)], net.predict(X[150:]))


def test_tokens_with_a_mask_of_any_length():
    def text(n, length, seed):
        random = np.random.default_rng(seed)
        n_tokens = random.integers(1, length + 1, (n, 1))
        mask = (np.arange(length) < n_tokens).astype(np.int64)
        return {"input_ids": random.integers(0, 20, (n, length)), "attention_mask": mask}

    monitor = make_monitor(seeded(TextNet)).fit(text(120, 7, 0))
    module = monitor.to_torch()
    for length in (7, 9):
        X = text(30, length, 1)
        said = module({name: torch.as_tensor(values) for name, values in X.items()})
        np.testing.assert_allclose(said["score"], monitor.score_samples(X), atol=1e-6)


def test_monitors_that_were_fitted_on_activations_need_inputs():
    X = rows(80)
    extractor = ActivationExtractor(perceptron())
    monitor = Monitor([("extract", extractor), ("detect", EnergyDetector())])
    monitor.fit(extractor.fit_transform(X))
    with pytest.raises(ExportError, match="fitted on activations"):
        monitor.to_torch()
    np.testing.assert_allclose(
        monitor.to_torch(X)(torch.as_tensor(X))["score"], monitor.score_samples(X), atol=1e-6
    )


def test_networks_of_onnx_have_no_module(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    weight = onnx.numpy_helper.from_array(rows(6)[:, :3].copy(), "w")
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 6), ("y", 3))
    ]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:], [weight])
    opsets = [onnx.helper.make_opsetid("", 18)]
    network = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    monitor = of_steps(network, EnergyDetector(), "penultimate").fit(rows(60))
    with pytest.raises(ExportError, match=r"ONNX.* has no form in tensors"):
        monitor.to_torch()


class OfValues(nn.Module):
    """Computes by its values."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.head(x * 2 if x.sum() > 0 else x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"perturbation": ODIN(0.1)}, "perturbation=.*gradients at the inputs"),
        ({"gradients": True}, "gradients=True, since"),
        ({"n_passes": 2}, "n_passes=2, since it draws"),
    ],
    ids=str,
)
def test_what_a_graph_of_values_cannot_say_is_refused(settings, message):
    network = seeded(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
    )
    monitor = of_steps(network, EnergyDetector(), **settings).fit(rows(60))
    with pytest.raises(ExportError, match=message):
        monitor.to_torch()


class LastState(nn.Module):
    """A recurrent network, whose first state is as large as the batch."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def test_a_module_that_makes_tensors_by_the_number_of_samples_is_pickled():
    X = torch.randn(60, 5, 4, generator=torch.Generator().manual_seed(0))
    module = of_steps(seeded(LastState), EnergyDetector()).fit(X).to_torch()
    again = pickle.loads(pickle.dumps(module))
    for n_rows in (1, 7, 60):
        assert torch.equal(again(X[:n_rows])["score"], module(X[:n_rows])["score"])
    assert torch.equal(pickle.loads(pickle.dumps(again))(X)["score"], module(X)["score"])


def test_networks_that_torch_cannot_trace_are_refused():
    monitor = of_steps(seeded(OfValues), EnergyDetector()).fit(rows(60))
    with pytest.raises(ExportError, match=r"torch\.export cannot trace it"):
        monitor.to_torch()


def onnx_scores(path, X):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    (given,) = session.get_inputs()
    assert given.shape[0] == "n_samples"
    return dict(zip(names, session.run(None, {given.name: np.asarray(X)}), strict=True))


@pytest.fixture(scope="module")
def needs_onnx():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


NETWORKS = {
    "vgg": (VGG, lambda: EnergyDetector()),
    "densenet": (DenseNet, lambda: MahalanobisDetector()),
    "vit": (ViT, lambda: make_pipeline(PercentileBinarizer(), HammingNAPDetector())),
}


@pytest.mark.usefixtures("needs_onnx")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_of_onnx_says_the_same(name, tmp_path):
    make, detector = NETWORKS[name]
    reducer = PoolingReducer(pooling="avg")
    monitor = of_steps(seeded(make), detector(), reducer=reducer)
    monitor.fit(images(120)).calibrate(images(100, 1))
    path = tmp_path / "monitor.onnx"
    assert monitor.to_onnx(path, images(20, 3)) is None
    assert [file.name for file in tmp_path.iterdir()] == ["monitor.onnx"]
    for X in (some_images(), some_images()[:1]):
        said = onnx_scores(path, X)
        assert list(said) == ["logits", "score", "p_value", "verdict"]
        np.testing.assert_allclose(said["score"], monitor.score_samples(X), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(said["verdict"], monitor.predict(X))
        np.testing.assert_allclose(said["p_value"], monitor.p_values(X))
    X[0, 0, 0, 0] = torch.nan
    said = onnx_scores(path, X)
    assert np.isnan(said["score"]).tolist() == [True]
    assert said["verdict"].tolist() == [-1]


@pytest.mark.usefixtures("needs_onnx")
def test_rows_that_were_learnt_from_score_in_onnx_and_alone_as_in_a_batch(tmp_path):
    """Such rows are calibration scores themselves, and rounding moves them across these."""
    digits = load_digits_network()
    X, learnt = digits.data, digits.train[:300]
    monitor = make_monitor(digits.network).fit(X[learnt])
    monitor.to_onnx(tmp_path / "monitor.onnx")
    together = monitor.score_samples(X)
    said = onnx_scores(tmp_path / "monitor.onnx", X)
    np.testing.assert_allclose(said["score"], together, rtol=0, atol=1e-4)
    alone = np.concatenate([monitor.score_samples(X[[row]]) for row in learnt])
    np.testing.assert_allclose(alone, together[learnt], rtol=0, atol=1e-4)


@pytest.mark.usefixtures("needs_onnx")
def test_the_default_monitor_of_a_perceptron_in_onnx(tmp_path):
    monitor = make_monitor(perceptron()).fit(rows(120))
    monitor.to_onnx(tmp_path / "monitor.onnx")
    # Rows that were learnt from have the very scores that they are compared with.
    for inputs in (2 * rows(50, 3), rows(120)):
        said = onnx_scores(tmp_path / "monitor.onnx", inputs)
        np.testing.assert_allclose(said["score"], monitor.score_samples(inputs), atol=1e-5)
        assert np.isnan(said["p_value"]).all()


@pytest.mark.usefixtures("needs_onnx")
@pytest.mark.parametrize(
    ("precision", "why"),
    [
        (torch.float32, "This is a defect"),
        (torch.float16, r"torch .* half precision .* network\.float\(\)"),
    ],
    ids=str,
)
def test_a_file_that_says_something_else_is_not_written(precision, why, tmp_path, monkeypatch):
    X = torch.as_tensor(rows(60)).to(precision)
    monitor = of_steps(perceptron().to(precision), EnergyDetector()).fit(X)
    right = EnergyDetector._score_logits
    monkeypatch.setattr(EnergyDetector, "_score_logits", lambda *args: right(*args) + 0.1)
    with pytest.raises(ExportError, match=rf"other scores than the .* by up to 0\.1.*\. {why}"):
        monitor.to_onnx(tmp_path / "monitor.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("needs_onnx")
@pytest.mark.parametrize(
    ("pooling", "precision", "message"),
    [
        (
            nn.AdaptiveMaxPool2d(2),
            torch.float32,
            r"aten\.adaptive_max_pool2d, in '1\.0' \(AdaptiveMaxPool2d\)",
        ),
        (nn.AvgPool2d(2), torch.float64, r"double .*network\.float\(\).*implementation for Conv"),
        (nn.AvgPool2d(2), torch.bfloat16, r"half .*network\.float\(\).*bfloat16"),
    ],
    ids=["operator", "double", "half"],
)
def test_what_onnx_cannot_express_is_named(pooling, precision, message, tmp_path):
    pooled = nn.Sequential(pooling, nn.Flatten())
    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 2, 4), pooled, nn.Linear(8, 3)))
    monitor = of_steps(network.to(precision), EnergyDetector()).fit(images(30).to(precision))
    with pytest.raises(ExportError, match=message) as caught:
        monitor.to_onnx(tmp_path / "monitor.onnx")
    assert "\x1b" not in str(caught.value)
    assert "PyTorch" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [17, 18.0, True])
def test_opsets_that_are_too_old_or_none(opset, tmp_path):
    monitor = of_steps(perceptron(), EnergyDetector()).fit(rows(60))
    with pytest.raises(ValueError, match="opset must be an integer of at least 18"):
        monitor.to_onnx(tmp_path / "monitor.onnx", opset=opset)
