"""Monitor a digits classifier: from training to a table of what its monitors find.

A small convolutional network learns eight of scikit-learn's ten digits, and its activations are
extracted once. A search over layers, poolings and percentiles configures a monitor on one kind of
out-of-distribution (OOD) images, the digit 1. All monitors are then compared on kinds of images
that the search did not see: the digit 5, rotated and inverted digits, and noise; and on errors of
the network.

    python demo/digits_monitor.py

Tables and pictures go to demo/output/. The in-distribution images fall into three disjoint parts:
the network learns from the first, the monitors from the second, and the third is for tests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from _pictures import draw_distances, draw_roc_curves, draw_settings
from _report import METRICS, Rows, markdown_table, save_report
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from threadpoolctl import threadpool_limits
from torch import nn

from skood import (
    ActivationExtractor,
    Activations,
    HammingNAPDetector,
    PercentileBinarizer,
    PoolingReducer,
    make_monitor,
)
from skood.datasets import load_digits_ood, make_noise
from skood.detectors import EnergyDetector, MaxSoftmaxDetector
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.metrics import (
    detection_accuracy_score,
    fpr_at_tpr_score,
    make_ood_scorer,
    ood_roc_auc_score,
)
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector

OUTPUT = Path(__file__).parent / "output"
SEED = 0
SEARCHED_OOD = "digit 1"
NOISES = {
    "uniform noise": "uniform",
    "Gaussian noise": "gaussian",
    "salt and pepper": "salt_and_pepper",
    "constant grey": "constant",
    "blobs": "blobs",
}
N_NOISE = 300
SEARCH_METRICS = ("AUROC", "accuracy")


@dataclass(frozen=True)
class Images:
    """All images that the monitors deal with, stacked so that the network sees each once."""

    X: NDArray[np.float32]  # (n_images, 1, 8, 8)
    y: NDArray[np.int64]  # class of each; -1: out-of-distribution
    rows: dict[str, slice]  # "monitor", "test" and each kind of OOD images

    @property
    def unseen_ood(self) -> list[str]:
        """The kinds of OOD images that no search or detector has seen."""
        return [name for name in self.rows if name not in ("monitor", "test", SEARCHED_OOD)]

    @property
    def search_rows(self) -> NDArray[np.intp]:
        """The in-distribution images of the monitors, and one kind of OOD images."""
        return np.r_[self.rows["monitor"], self.rows[SEARCHED_OOD]]


def load_images() -> tuple[NDArray, NDArray, Images]:
    """Images and classes that the network learns from, and all others."""
    digits = load_digits_ood(held_out=(1, 5))
    inside = np.flatnonzero(digits.target != -1)
    network, others = split(inside, digits.target, 0.4)
    monitor, test = split(others, digits.target, 0.6)
    X_test = digits.data[test]
    # A zero or an eight that lies on its side is still one.
    turnable = X_test[~np.isin(digits.digit[test], (0, 8))]
    parts = {
        "monitor": digits.data[monitor],
        "test": X_test,
        "digit 1": digits.data[digits.digit == 1],
        "digit 5": digits.data[digits.digit == 5],
        "rotated digits": np.rot90(turnable, axes=(2, 3)),
        "inverted digits": 1 - X_test,
    }
    for seed, (name, kind) in enumerate(NOISES.items()):
        parts[name] = make_noise(kind, (N_NOISE, 1, 8, 8), random_state=seed)
    y_inside = digits.target[np.concatenate([monitor, test])]
    return digits.data[network], digits.target[network], stack(parts, y_inside)


def split(rows: NDArray, classes: NDArray, share: float) -> list[NDArray]:
    return train_test_split(rows, train_size=share, stratify=classes[rows], random_state=SEED)


def stack(parts: dict[str, NDArray], y_inside: NDArray) -> Images:
    ends = np.cumsum([len(X) for X in parts.values()]).tolist()
    slices = map(slice, [0, *ends[:-1]], ends)
    return Images(
        X=np.concatenate(list(parts.values())),
        y=np.concatenate([y_inside, np.full(ends[-1] - len(y_inside), -1)]),
        rows=dict(zip(parts, slices, strict=True)),
    )


def digits_net(n_classes: int) -> nn.Sequential:
    """Four convolutions and two hidden layers, a ReLU after each."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 32, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 32, 3, padding=1),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            conv3=nn.Conv2d(32, 64, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(64, 64, 3, padding=1),
            relu4=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * 4 * 4, 128),
            relu5=nn.ReLU(),
            fc2=nn.Linear(128, 64),
            relu6=nn.ReLU(),
            logits=nn.Linear(64, n_classes),
        )
    )


def train_network(X: NDArray, y: NDArray) -> NeuralNetClassifier:
    torch.manual_seed(SEED)
    net = NeuralNetClassifier(
        digits_net,
        module__n_classes=len(np.unique(y)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=2e-3,
        batch_size=32,
        max_epochs=20,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return net.fit(X, y)


def search_settings(A: Activations, y: NDArray) -> GridSearchCV:
    """Try every layer, pooling and percentile, and refit the one of the best AUROC."""
    monitor = Pipeline(
        [
            ("select", LayerSelector()),
            ("binarize", PercentileBinarizer()),
            ("detect", HammingNAPDetector()),
        ]
    )
    grid = {
        "select__layers": [[layer] for layer in A.layer_names],
        "binarize__percentile": [10, 30, 50, 70, 90],
    }
    scoring = {"AUROC": make_ood_scorer(), "accuracy": make_scorer(accuracy_score)}
    search = GridSearchCV(monitor, grid, scoring=scoring, refit="AUROC", cv=OODKFold(5), n_jobs=2)
    return search.fit(A, y)


def accuracy_score(y: NDArray, labels: NDArray) -> float:
    """Mean of the shares of in-distribution images accepted and of OOD images found."""
    return balanced_accuracy_score(y != -1, labels == 1)


def fit_detectors(
    net: NeuralNetClassifier, search: GridSearchCV, A: Activations, images: Images
) -> dict[str, Any]:
    """All monitors and baselines by name. Only AutoNAP and the search are given OOD images."""
    inside, searched = A[images.rows["monitor"]], images.search_rows
    # Its authors set thresholds on as many in- as out-of-distribution images.
    n_outside = len(searched) - len(inside)
    auto_nap = AutoNAPDetector(
        combine="vote", validation=n_outside / len(inside), random_state=SEED
    )
    return {
        "best layer": search.best_estimator_,
        "ensemble": LayerEnsembleDetector.from_search(search, n_layers=9).fit(inside),
        "AutoNAP": auto_nap.fit(A[searched], images.y[searched]),
        "make_monitor": default_detector(net, A).fit(inside),
        "max softmax": MaxSoftmaxDetector().fit(inside),
        "energy": EnergyDetector().fit(inside),
    }


def default_detector(net: NeuralNetClassifier, A: Activations, target: str = "ood") -> Pipeline:
    """That of ``make_monitor``, on what it extracts: the mean of each feature map."""
    names = [name for name in A.layer_names if not name.endswith(":max")]
    detector = make_monitor(net, target=target)["detect"]
    return Pipeline([("select", LayerSelector(layers=names)), ("detect", detector)])


def evaluate(detector: Any, A: Activations, images: Images) -> Rows:
    """All metrics, one row for each kind of unseen OOD images."""
    scores, labels = detector.score_samples(A), detector.predict(A)
    results = []
    for kind in images.unseen_ood:
        rows = np.r_[images.rows["test"], images.rows[kind]]
        y = images.y[rows]
        results.append(
            {
                "OOD images": kind,
                "n_in": np.sum(y != -1),
                "n_ood": np.sum(y == -1),
                "AUROC": ood_roc_auc_score(y, scores[rows]),
                "FPR95 (ID positive)": fpr_at_tpr_score(y, scores[rows], positive="id"),
                "detection accuracy": detection_accuracy_score(y, scores[rows]),
                "accuracy": accuracy_score(y, labels[rows]),
            }
        )
    return results


def evaluate_settings(search: GridSearchCV, A: Activations, images: Images) -> Rows:
    """What each setting of the search reached there, and reaches on unseen kinds of images."""
    settings = []
    for i, params in enumerate(search.cv_results_["params"]):
        monitor = clone(search.estimator).set_params(**params).fit(A[images.rows["monitor"]])
        layer, _, pooling = params["select__layers"][0].partition(":")
        settings.append(
            {
                "layer": layer,
                "pooling": pooling,
                "chosen": i == search.best_index_,
                "search": {
                    name: search.cv_results_[f"mean_test_{name}"][i] for name in SEARCH_METRICS
                },
                "unseen": mean_over_kinds(evaluate(monitor, A, images)),
            }
        )
    return settings


def mean_over_kinds(results: Rows) -> dict[str, float]:
    return {metric: float(np.mean([row[metric] for row in results])) for metric in METRICS}


def describe_network(n_learnt: int, A: Activations, images: Images) -> str:
    test = images.rows["test"]
    right = np.mean(A[test].predictions == images.y[test])
    return (
        f"In-distribution images: the network learnt from {n_learnt}, the monitors from "
        f"{len(A[images.rows['monitor']])} others, and {len(A[test])} more are for tests. The "
        f"network classifies {right:.1%} of these right."
    )


def describe_choices(search: GridSearchCV, detectors: dict[str, Any]) -> str:
    auto = detectors["AutoNAP"]
    members = zip(auto.layers_, auto.poolings_, auto.percentiles_, strict=True)
    return (
        f"Of {len(search.cv_results_['params'])} settings, the search chose {best_setting(search)} "
        f"on {SEARCHED_OOD} (AUROC {search.best_score_:.3f}). AutoNAP chose "
        + ", ".join(f"{layer}:{pooling} {percentile}" for layer, pooling, percentile in members)
        + "."
    )


def best_setting(search: GridSearchCV) -> str:
    (layer,), percentile = (
        search.best_params_[name] for name in ("select__layers", "binarize__percentile")
    )
    return f"layer {layer}, percentile {percentile}"


def describe_default(monitor: Pipeline) -> str:
    """How much the layers of this network know, and so count."""
    detector = monitor["detect"]
    known = zip(detector.layers_, detector.knowledge_, strict=True)
    listed = ", ".join(f"{name} {knowledge:.2f}" for name, knowledge in known)
    return (
        f"How well each layer knows the classes, from 0 to 1: {listed}. In the score of "
        f"make_monitor the layers weigh {detector.layer_share_:.0%}, and the outputs the rest. "
        "In deep networks for photographs early layers know little, the outputs weigh more, and "
        "near OOD images are much harder to find: see `Choosing a method` in the guide."
    )


def describe_errors(detectors: dict[str, Any], A_test: Activations, y_test: NDArray) -> str:
    """How well misclassified test images are told from the others."""
    y = np.where(A_test.predictions == y_test, 1, -1)
    aurocs = {
        name: ood_roc_auc_score(y, detector.score_samples(A_test))
        for name, detector in detectors.items()
    }
    listed = ", ".join(f"{name} {auroc:.3f}" for name, auroc in aurocs.items())
    return (
        f"Errors of the network, {np.sum(y == -1)} of {len(y)} test images, are another target. "
        f"AUROC against the other test images: {listed}."
    )


def describe_false_alarms(detectors: dict[str, Any], A_test: Activations) -> str:
    shares = {name: np.mean(d.predict(A_test) == -1) for name, d in detectors.items()}
    listed = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    return f"In-distribution test images that `predict` rejects: {listed}."


def draw_pictures(
    search: GridSearchCV,
    settings: Rows,
    detectors: dict[str, Any],
    results: dict[str, Rows],
    A: Activations,
    images: Images,
) -> None:
    best = search.best_estimator_
    draw_distances(
        OUTPUT / "hamming_distances.png",
        best,
        A,
        rows=images.rows,
        kinds=[SEARCHED_OOD, *images.unseen_ood],
        title=f"Patterns of {best_setting(search)}, chosen on {SEARCHED_OOD}",
    )
    means = {name: mean_over_kinds(results[name]) for name in ("ensemble", "max softmax")}
    draw_settings(OUTPUT / "settings.png", settings, means, searched=SEARCHED_OOD)
    scores = {name: detector.score_samples(A) for name, detector in detectors.items()}
    draw_roc_curves(OUTPUT / "roc_curves.png", scores, images.rows, images.unseen_ood)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print what is being done, and how long it took."""
    start = perf_counter()
    print(f"{title} ...", flush=True)
    yield
    print(f"    {perf_counter() - start:.1f} s", flush=True)


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    X, y, images = load_images()
    with step("Train a network on eight of the ten digits"):
        net = train_network(X, y)
    with step("Extract the pooled activations of all layers, once"):
        extractor = ActivationExtractor(
            net, reducer=PoolingReducer(pooling=("max", "avg")), verbose=1
        )
        A = extractor.fit_transform(images.X)
    with step(f"Search layer, pooling and percentile on {SEARCHED_OOD}"):
        search = search_settings(A[images.search_rows], images.y[images.search_rows])
    with step("Fit all detectors, and score the unseen kinds of images"):
        detectors = fit_detectors(net, search, A, images)
        results = {name: evaluate(detector, A, images) for name, detector in detectors.items()}
    of_errors = default_detector(net, A, "misclassified").fit(A[images.rows["monitor"]])
    with step("Score them by every setting of the search, too"):
        settings = evaluate_settings(search, A, images)
    with step("Draw pictures"):
        draw_pictures(search, settings, detectors, results, A, images)
    test = images.rows["test"]
    report = "\n\n".join(
        [
            "# Monitors of a digits classifier",
            describe_network(len(X), A, images),
            describe_choices(search, detectors),
            describe_default(detectors["make_monitor"]),
            describe_false_alarms(detectors, A[test]),
            describe_errors(
                {**detectors, 'make_monitor(target="misclassified")': of_errors},
                A[test],
                images.y[test],
            ),
            *(markdown_table(results, metric) for metric in METRICS),
        ]
    )
    save_report(OUTPUT, report, results)
    print(f"\n{report}\n\nTables and pictures are in {OUTPUT}.")


if __name__ == "__main__":
    # The network is so small that threads would cost it more than they bring.
    with threadpool_limits(1):
        main()
