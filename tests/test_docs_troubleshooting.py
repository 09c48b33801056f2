"""Every message on the page of troubleshooting is one that users get, as it says."""

import pickle
import re
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

import skood
from skood import ActivationExtractor, HammingNAPDetector, make_monitor
from skood._optional import import_optional
from skood.calibration import ConformalDetector
from skood.datasets import load_digits_network
from skood.detectors import (
    EnergyDetector,
    KNNDetector,
    MahalanobisDetector,
    SHEDetector,
    ViMDetector,
)
from skood.model_selection import OODKFold
from skood.shaping import ReAct

PAGE = Path(__file__).parents[1] / "docs" / "user_guide" / "troubleshooting.rst"
if not PAGE.exists():
    pytest.skip("the documentation is not installed", allow_module_level=True)
torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

BLOCK = re.compile(r"\.\. code-block:: text\n   :name: message-([\w-]+)\n\n((?:   .+\n)+)")
MESSAGES = {name: " ".join(text.split()) for name, text in BLOCK.findall(PAGE.read_text("utf-8"))}


class Digits:
    """A small network that knows eight digits, what it computes, and a monitor of it."""

    def __init__(self):
        found = load_digits_network(channels=(4,), hidden=(12,), n_epochs=1, n_train=400)
        self.network, self.X, self.y = found.network, found.data, found.target
        self.train, self.calibration = found.train, found.calibration
        self.unknown = found.unknown
        self.A = ActivationExtractor(self.network).fit_transform(self.X)
        self.last = self.A[["relu2"]]
        self.mixed = np.r_[self.train[:120], self.unknown[:60]]

    def monitor(self, network=None):
        return make_monitor(network or self.network).fit(self.X[self.train])

    def loader(self, y=None, **settings):
        arrays = (self.X[:70],) if y is None else (self.X[:70], y[:70])
        return DataLoader(TensorDataset(*map(torch.from_numpy, arrays)), 16, **settings)


@pytest.fixture(scope="module")
def digits():
    return Digits()


@pytest.fixture(scope="module")
def monitor(digits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return digits.monitor()


class Clamped(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten())
        self.a, self.b = nn.Linear(64, 16), nn.Linear(16, 8)

    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1)))).clamp(-3, 3)


def regressor():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 1)).eval()


def perceptron(d, y):
    flat = d.X[d.train].reshape(len(d.train), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MLPClassifier((8,), max_iter=2, random_state=0).fit(flat, y), flat


def of_features(d):
    mlp, _ = perceptron(d, d.y[d.train])
    return ActivationExtractor(mlp).fit(np.zeros((5, 60)))


def of_class_minus_one(d):
    y = np.where(d.y[d.train] > 3, 1, -1)
    mlp, flat = perceptron(d, y)
    return make_monitor(mlp).fit(flat, y)


def of_other_images(d):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)).eval()
    return ActivationExtractor(network).fit(np.zeros((5, 8, 8, 3), np.float32))


def of_missing_values(d):
    X = d.X[:50].copy()
    X[:, 0, 0, 0] = np.nan
    return make_monitor(d.network).fit(X)


def of_compiled_code(d):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(regressor())
    return ActivationExtractor(scripted).fit(d.X[:5])


def of_changed_network(d):
    network = load_digits_network(channels=(4,), hidden=(12,), n_epochs=0).network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monitor = d.monitor(network)
    with torch.no_grad():
        network[0].weight += 0.1
    return monitor.predict(d.X[:5])


def of_search(d):
    search = GridSearchCV(KNNDetector(), {"n_neighbors": [3]}, scoring="roc_auc", cv=3)
    return search.fit(d.last[d.mixed], d.y[d.mixed])


def of_main_class(d):
    script = types.ModuleType("__main__")
    script.__file__ = "train.py"
    network_class = type("MyNet", (nn.Linear,), {"__module__": "__main__"})
    script.MyNet = network_class
    before = sys.modules["__main__"]
    sys.modules["__main__"] = script
    try:
        pickled = pickle.dumps(network_class(2, 2))
        del script.MyNet
        return pickle.loads(pickled)
    finally:
        sys.modules["__main__"] = before


def of_saved_monitor(load):
    def provoke(d, monitor, folder):
        skood.save(monitor, folder / "monitor")
        return load(folder / "monitor")

    return provoke


def of_own_class(d, monitor, folder):
    own = type("Own", (KNNDetector,), {"__module__": "__main__"})
    own.__init__ = KNNDetector.__init__
    return skood.save(own(n_neighbors=3).fit(d.last[d.train]), folder / "own")


def of_empty_folder(d, monitor, folder):
    return skood.load(folder)


def of_working_memory(d):
    with sklearn.config_context(working_memory=1e-5):
        return KNNDetector(n_neighbors=3).fit(d.last[d.train[:20]])


def of_cuda(d):
    if torch.cuda.is_available():
        pytest.skip("torch can use CUDA")
    return ActivationExtractor(d.network, device="cuda").fit(d.X[:4])


def extractor(d, **settings):
    return ActivationExtractor(d.network, **settings).fit(d.X[:9])


def knn(d, n_neighbors=3):
    return KNNDetector(n_neighbors=n_neighbors).fit(d.last[d.train])


PROVOKED = {
    "one-sample": lambda d: extractor(d).transform(d.X[0]),
    "channels-last": of_other_images,
    "wrong-features": of_features,
    "missing-values": of_missing_values,
    "shuffled-loader": lambda d: make_monitor(d.network).fit(d.loader(d.y, shuffle=True), d.y[:70]),
    "lost-order": lambda d: extractor(d).transform(d.loader(shuffle=True)),
    "drop-last": lambda d: extractor(d).transform(d.loader(drop_last=True)),
    "class-minus-one": of_class_minus_one,
    "marks-of-loader": lambda d: make_monitor(d.network).fit(
        d.loader(np.where(np.arange(len(d.y)) < 9, -1, np.maximum(d.y, 0)))
    ),
    "all-out": lambda d: KNNDetector().fit(d.last[:50], np.full(50, -1)),
    "missing-labels": lambda d: KNNDetector().fit([[0.0], [1.0]], [0, None]),
    "unknown-labels": lambda d: HammingNAPDetector(group_by="label").fit(
        d.last[d.train], d.y[d.train] + 20
    ),
    "needs-labels": lambda d: SHEDetector(group_by="label").fit(d.last[d.train]),
    "no-network": lambda d: ActivationExtractor(RandomForestClassifier()).fit(d.X[:5]),
    "compiled": of_compiled_code,
    "network-not-fitted": lambda d: ActivationExtractor(MLPClassifier()).fit(d.X[:5]),
    "unknown-layers": lambda d: extractor(d, layers=["relu9"]),
    "no-head": lambda d: ViMDetector().fit(
        ActivationExtractor(Clamped().eval()).fit_transform(d.X[:60])
    ),
    "no-logits": lambda d: EnergyDetector().fit(
        ActivationExtractor(regressor()).fit_transform(d.X[:60])
    ),
    "no-dropout": lambda d: extractor(d, n_passes=5),
    "changed-network": of_changed_network,
    "no-cuda": of_cuda,
    "not-fitted": lambda d: KNNDetector().score_samples(d.last),
    "feature-maps": lambda d: KNNDetector().fit(d.A[d.train]),
    "other-layers": lambda d: knn(d).predict(d.A[["relu1"]]),
    "array-for-activations": lambda d: permutation_importance(
        knn(d), d.last[d.mixed], d.y[d.mixed]
    ),
    "few-neighbors": lambda d: KNNDetector().fit(d.last[d.train[:20]]),
    "blind": lambda d: MahalanobisDetector().fit(np.ones((20, 3)), np.arange(20) % 2),
    "clips": lambda d: ReAct(percentile=0.9).fit(d.A[d.train]),
    "estimate": lambda d: d.monitor(),
    "known-rows": lambda d, monitor, folder: clone_fitted(monitor).calibrate(d.X[d.train[:100]]),
    "few-rows": lambda d, monitor, folder: clone_fitted(monitor).calibrate(d.X[d.calibration[:10]]),
    "p-values": lambda d, monitor, folder: monitor.p_values(d.X[:5]),
    "prefit": lambda d: ConformalDetector(KNNDetector()).fit(d.last[d.calibration]),
    "roc-auc": of_search,
    "one-kind": lambda d: cross_val_score(
        KNNDetector(n_neighbors=3), d.last[d.mixed], d.y[d.mixed], cv=KFold(3)
    ),
    "no-ood": lambda d: cross_val_score(
        KNNDetector(n_neighbors=3), d.last[d.train], d.y[d.train], cv=OODKFold(3)
    ),
    "classes": lambda d: CalibratedClassifierCV(KNNDetector(n_neighbors=3)).fit(
        d.last[d.mixed], np.where(d.y[d.mixed] == -1, -1, 1)
    ),
    "binary-classifier": lambda d: RocCurveDisplay.from_estimator(
        knn(d), d.last[d.mixed], np.where(d.y[d.mixed] == -1, -1, 1)
    ),
    "bad-parameter": lambda d: KNNDetector(false_alarm_rate=5).fit(d.last[d.train]),
    "main-class": of_main_class,
    "no-code": of_saved_monitor(skood.load),
    "other-network": of_saved_monitor(lambda folder: skood.load(folder, Clamped().eval())),
    "other-folder": of_empty_folder,
    "own-class": of_own_class,
    "not-installed": lambda d: import_optional("no_such_module", "torch", "ActivationExtractor"),
    "working-memory": of_working_memory,
}


def clone_fitted(monitor):
    return pickle.loads(pickle.dumps(monitor))


def pattern_of(message):
    """What a message on the page stands for: dots are any text, and numbers may be others."""
    escaped = re.escape(" ".join(message.split())).replace(re.escape("..."), ".*")
    return re.compile(re.sub(r"\d+(\\\.\d+)?", r"\\d+(?:[.]\\d+)?", escaped), re.DOTALL)


@pytest.mark.parametrize("name", PROVOKED)
def test_what_users_do_gives_the_message_on_the_page(name, digits, monitor, tmp_path):
    wanted = pattern_of(MESSAGES[name])
    provoke = PROVOKED[name]
    arguments = (digits,) if provoke.__code__.co_argcount == 1 else (digits, monitor, tmp_path)
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            provoke(*arguments)
        except Exception as error:
            found = [(type(error), error)]
    found += [(warning.category, warning.message) for warning in caught]
    said = [" ".join(f"{kind.__name__}: {message}".split()) for kind, message in found]
    assert any(map(wanted.match, said)), said


def test_every_message_is_provoked_or_in_the_code():
    # A disk that is too small is not to be had in a test.
    assert set(MESSAGES) - set(PROVOKED) == {"memory"}
    source = Path(skood.__file__).with_name("_row_table.py").read_text("utf-8")
    for part in MESSAGES["memory"].removeprefix("MemoryError: ").split("..."):
        words = re.sub(r'"\s+f?"', "", source)
        assert part.strip() in " ".join(re.sub(r"\{[^}]*\}", " ", words).split())


def test_the_page_names_as_many_kinds_of_messages_as_there_are_blocks():
    assert len(MESSAGES) == len(re.findall(r"code-block:: text", PAGE.read_text("utf-8")))
    assert all(re.match(r"\w+(Error|Warning): ", message) for message in MESSAGES.values())


def test_clones_of_a_detector_are_not_fitted(digits):
    with pytest.raises(sklearn.exceptions.NotFittedError, match="not fitted yet"):
        clone(knn(digits)).score_samples(digits.last)
