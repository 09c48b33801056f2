"""Files of ONNX: where they may lie, and what is compared before they do."""

import logging

import numpy as np
import pytest
from _networks import trained_perceptron
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import (
    ActivationExtractor,
    Monitor,
    PercentileBinarizer,
    PoolingReducer,
)
from skood.calibration import TemperatureScaler
from skood.detectors import EnergyDetector, KNNDetector, MahalanobisDetector
from skood.ensemble import LayerEnsembleDetector
from skood.export import ExportError
from skood.shaping import ReAct

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
from torch import nn  # noqa: E402

from skood.export._calibrated import RanksForm  # noqa: E402
from skood.export._logit import EnergyForm  # noqa: E402
from skood.export._monitor import MonitorModule  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::skood.calibration.UncalibratedWarning", "ignore:.*LeafSpec:FutureWarning"
)

RNG = np.random.default_rng(0)
CLASSES = np.sort(np.arange(300) % 3)
X = 4 * np.eye(3, 6)[CLASSES] + RNG.normal(size=(300, 6))


def watched(detector, *steps, network=None, before=()):
    """A fitted monitor of a perceptron, with steps before the network and behind it."""
    inputs = make_pipeline(*before).fit_transform(X) if before else X
    network = trained_perceptron(inputs, CLASSES) if network is None else network
    named = [*before, ActivationExtractor(network), *steps, detector]
    return Monitor([(str(number), step) for number, step in enumerate(named)]).fit(X, CLASSES)


@pytest.fixture(scope="module")
def monitor():
    return watched(EnergyDetector(validation=0.5))


def said_by(path, rows):
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"input": rows}), strict=True))


def with_others(right, change):
    """What says something else in some way."""
    return lambda *args: change(right(*args))


def wrong_of(are_wrong):
    """Scores that are wrong of some rows alone, by their logits."""
    right = EnergyForm.score
    return lambda form, logits: right(form, logits) + are_wrong(logits).to(torch.float64)


BROKEN = {
    "p-values": (RanksForm, lambda said: (said[0] / 2, said[1])),
    "logits": (MonitorModule, lambda said: {**said, "logits": 1.5 * said["logits"]}),
}


@pytest.mark.parametrize("rows", [None, X], ids=["drawn", "given"])
@pytest.mark.parametrize("name", BROKEN)
def test_whatever_a_file_says_is_compared(name, rows, monitor, tmp_path, monkeypatch):
    cls, change = BROKEN[name]
    monkeypatch.setattr(cls, "forward", with_others(cls.forward, change))
    with pytest.raises(ExportError, match=f"would give other {name} than the monitor"):
        monitor.to_onnx(tmp_path / "monitor.onnx", rows)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_far_are_compared(monitor, tmp_path, monkeypatch):
    edge = 1.5 * np.abs(monitor[0].transform(X).logits).max()
    wrong = wrong_of(lambda logits: logits.abs().amax(dim=1) > edge)
    monkeypatch.setattr(EnergyForm, "score", wrong)
    with pytest.raises(ExportError, match="other scores than the monitor"):
        monitor.to_onnx(tmp_path / "monitor.onnx", X)


@pytest.mark.parametrize("number", range(3))
def test_rows_of_all_classes_are_compared_where_they_are_sorted(
    number, monitor, tmp_path, monkeypatch
):
    logits = monitor[0].transform(X).logits
    assert (logits.argmax(axis=1) == number).any()
    edge = np.abs(logits).max()
    wrong = wrong_of(
        lambda logits: (logits.argmax(dim=1) == number) & (logits.abs().amax(dim=1) <= edge)
    )
    monkeypatch.setattr(EnergyForm, "score", wrong)
    with pytest.raises(ExportError, match="other scores than the monitor"):
        monitor.to_onnx(tmp_path / "monitor.onnx", X)


@pytest.mark.parametrize(
    ("detector", "steps", "before"),
    [
        (MahalanobisDetector(), (), (StandardScaler(),)),
        (EnergyDetector(validation=0.5), (), (StandardScaler(), PCA(4))),
        (EnergyDetector(validation=0.5), (ReAct(), TemperatureScaler()), ()),
        (LayerEnsembleDetector(MahalanobisDetector()), (PercentileBinarizer(),), ()),
    ],
    ids=["scaler before", "two before", "two behind", "bits"],
)
def test_steps_around_the_network(detector, steps, before, tmp_path):
    monitor = watched(detector, *steps, before=before)
    monitor.to_onnx(tmp_path / "monitor.onnx", X)
    said = said_by(tmp_path / "monitor.onnx", X)
    np.testing.assert_allclose(said["score"], monitor.score_samples(X), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(said["verdict"], monitor.predict(X))


def test_inputs_of_a_file_are_of_the_type_that_the_network_takes(tmp_path):
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    monitor = watched(EnergyDetector(validation=0.5), network=network)
    monitor.to_onnx(tmp_path / "monitor.onnx", np.round(X).astype(int))
    rows = X.astype(np.float32)
    said = said_by(tmp_path / "monitor.onnx", rows)
    np.testing.assert_allclose(said["score"], monitor.score_samples(rows), rtol=1e-4, atol=1e-4)


def test_a_layer_of_booleans_is_read_as_numbers(tmp_path):
    class Gate(nn.Module):
        def forward(self, x):
            return x > -1

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.gate, self.head = nn.Linear(6, 16), Gate(), nn.Linear(16, 3)

        def forward(self, x):
            x = self.first(x)
            return self.head(x * self.gate(x))

    extractor = ActivationExtractor(Gated().eval(), ["gate"])
    steps = PercentileBinarizer(percentile=30), LayerEnsembleDetector(MahalanobisDetector())
    named = [(str(number), step) for number, step in enumerate((extractor, *steps))]
    monitor, rows = Monitor(named).fit(X.astype(np.float32)), torch.as_tensor(X).float()
    assert np.unique(monitor[0].transform(rows)["gate"]).tolist() == [0, 1]
    said = monitor.to_torch()(rows)
    np.testing.assert_allclose(said["score"], monitor.score_samples(rows), rtol=1e-9)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", IsADirectoryError, "is a folder; pass the name of the file"),
        ("missing/monitor.onnx", FileNotFoundError, "no folder .*missing' to write 'monitor.onnx'"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_first(
    path, error, message, monitor, tmp_path, monkeypatch
):
    monkeypatch.setattr(MonitorModule, "__init__", None)
    with pytest.raises(error, match=message):
        monitor.to_onnx(tmp_path / path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (X[:0], ValueError, "X has no rows"),
        (X[:, :4], ValueError, "4 features"),
        (X[0], ValueError, "2D array"),
    ],
    ids=["none", "narrow", "one"],
)
def test_rows_that_cannot_be_compared_are_refused(rows, error, message, monitor, tmp_path):
    with pytest.raises(error, match=message):
        monitor.to_onnx(tmp_path / "monitor.onnx", rows)


def test_activations_are_no_inputs(monitor, tmp_path):
    with pytest.raises(TypeError, match="pass inputs of the network"):
        monitor.to_onnx(tmp_path / "monitor.onnx", monitor[:-1].transform(X))


def test_an_opset_that_torch_does_not_write_is_refused(monitor, tmp_path, capfd):
    levels = [logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")]
    with pytest.raises(ValueError, match="opset"):
        monitor.to_onnx(tmp_path / "monitor.onnx", X, opset=99)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
    assert [logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")] == levels


def test_an_opset_may_be_a_number_of_numpy(monitor, tmp_path):
    import onnx

    monitor.to_onnx(tmp_path / "monitor.onnx", X, opset=np.int64(20))
    (opset,) = onnx.load(tmp_path / "monitor.onnx").opset_import
    assert opset.version == 20


def test_weights_beside_the_file_are_found(monitor, tmp_path, monkeypatch):
    monkeypatch.setattr("skood.export._onnx._EXTERNAL", 0)
    monitor.to_onnx(tmp_path / "monitor.onnx", X)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["monitor.onnx", "monitor.onnx.data"]
    said = said_by(tmp_path / "monitor.onnx", X)
    np.testing.assert_allclose(said["score"], monitor.score_samples(X), rtol=1e-4, atol=1e-4)


class OfTokens(nn.Module):
    """Tokens, of which a sample may have any number."""

    def __init__(self):
        super().__init__()
        self.embed, self.block = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids):
        return self.head(torch.relu(self.block(self.embed(input_ids))).mean(dim=1))


def test_a_monitor_that_reads_each_token_takes_as_many_as_in_fit(tmp_path):
    tokens = RNG.integers(0, 20, (200, 7))
    reducer = PoolingReducer(pooling="flatten")
    extractor = ActivationExtractor(OfTokens().eval(), ["block"], reducer=reducer)
    monitor = Monitor([("extract", extractor), ("detect", KNNDetector())]).fit(tokens)
    monitor.to_onnx(tmp_path / "monitor.onnx")
    said = said_by(tmp_path / "monitor.onnx", tokens)
    np.testing.assert_allclose(said["score"], monitor.score_samples(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("share", "is_refused"), [(0.1, False), (0.5, True)])
def test_a_few_far_rows_may_be_ties(share, is_refused, monitor, tmp_path, monkeypatch):
    (drawn,) = monitor.to_torch().example_inputs(32)
    sizes = np.abs(monitor[0].transform(10 * drawn.numpy()).logits).max(axis=1)
    edge = np.quantile(sizes, 1 - share)
    assert edge > np.abs(monitor[0].transform(X).logits).max()
    wrong = wrong_of(lambda logits: logits.abs().amax(dim=1) > edge)
    monkeypatch.setattr(EnergyForm, "score", wrong)
    if is_refused:
        with pytest.raises(ExportError, match="other scores than the monitor in 16 of 32 rows"):
            monitor.to_onnx(tmp_path / "monitor.onnx", X)
    else:
        monitor.to_onnx(tmp_path / "monitor.onnx", X)
