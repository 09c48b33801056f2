"""Makes ``saved_v1.tar.xz``: ``PYTHONPATH=tests python tests/data/make_saved.py``.

It holds estimators in files of version 1 of the format, which every later version has to read, and
what they said of some rows. It is made once, by the first version that writes such files.
"""

import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from _estimators import detectors, transformers
from _saved_nets import SmallNet, classes_of, few_activations, responses
from sklearn.neural_network import MLPClassifier
from sklearn.utils import get_tags

import skood
from skood import ActivationExtractor, Monitor, PercentileBinarizer, PoolingReducer, make_monitor
from skood.detectors import HammingNAPDetector
from skood.ensemble import LayerEnsembleDetector

HERE = Path(__file__).parent


def mlp_monitor():
    X, y = classes_of(90, 4, 0)
    net = MLPClassifier((6,), random_state=0, max_iter=200).fit(X[:30], y[:30])
    return make_monitor(net).fit(X[30:60], y[30:60]).calibrate(X[60:80]), X[80:]


def torch_monitor():
    images = classes_of(90, 36, 1)[0].reshape(-1, 1, 6, 6).astype(np.float32)
    torch.manual_seed(0)
    net = SmallNet()
    net(torch.as_tensor(images))  # which sets the means of its normalisation
    net.eval()
    layers = ["relu", "penultimate"]
    steps = [
        ("extract", ActivationExtractor(net, layers, reducer=PoolingReducer())),
        ("binarize", PercentileBinarizer()),
        ("detect", LayerEnsembleDetector(HammingNAPDetector())),
    ]
    return Monitor(steps).fit(images[:50]).calibrate(images[50:80]), images[80:]


def without_network():
    """Every detector and transformer that runs no network, fitted on a few activations."""
    A, y = few_activations()
    for estimator in (*detectors(), *transformers()):
        runs_one = isinstance(estimator, Monitor | ActivationExtractor)
        if not runs_one and not get_tags(estimator).no_validation:
            try:
                yield estimator.fit(A, y)
            except (TypeError, ValueError) as error:
                print(type(estimator).__name__, "is left out:", error)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for name, make in {"mlp": mlp_monitor, "torch": torch_monitor}.items():
            monitor, inputs = make()
            monitor.save(Path(folder, name))
            np.savez(Path(folder, f"{name}.npz"), X=inputs, **responses(monitor, inputs))
        A, _ = few_activations()
        for estimator in without_network():
            name = type(estimator).__name__
            skood.save(estimator, Path(folder, name))
            np.savez(Path(folder, f"{name}.npz"), **responses(estimator, A))
        with tarfile.open(HERE / "saved_v1.tar.xz", "w:xz", preset=9) as archive:
            for path in sorted(Path(folder).iterdir()):
                archive.add(path, path.name, filter=_anonymous)


def _anonymous(entry):
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
