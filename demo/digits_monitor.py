"""Monitor a digits classifier: from training to a table of what its monitors find.

A small convolutional network learns eight of scikit-learn's ten digits, and its activations are
extracted once. A search over layers, poolings and percentiles configures a monitor on one kind of
out-of-distribution (OOD) images, the digit 1. All monitors are then compared on kinds of images
that the search did not see: the digit 5, noise, and inverted and rotated digits.

    python demo/digits_monitor.py

Tables and pictures go to demo/output/. The in-distribution images fall into three disjoint parts:
the network learns from the first, the monitors from the second, and the third is for tests.
"""

from __future__ import annotations

import csv
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from _pictures import draw_distances, draw_roc_curves, draw_settings
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from threadpoolctl import threadpool_limits
from torch import nn

from skood import (
    ActivationExtractor,
    Activations,
    HammingNAPDetector,
    LayerSelector,
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

OUTPUT = Path(__file__).parent / "output"
SEED = 0
SEARCHED_OOD = "digit 1"
NOISES = ("uniform", "gaussian", "salt_and_pepper", "constant", "blobs")
N_NOISE = 300
SEARCH_METRICS = ("AUROC", "accuracy")


@dataclass(frozen=True)
class Images:
    """All images that the monitors deal with, stacked so that the network sees each once."""

    X: NDArray[np.float32]  # (n_images, 1, 8, 8)
    y: NDArray[np.int64]  # class of each; -1: out-of-distribution
    rows: dict[str, slice]  # "monitor", "test", and each kind of OOD images

    @property
    def unseen_ood(self) -> list[str]:
        """The kinds of OOD images that no search or detector has seen."""
        return [name for name in self.rows if name not in ("monitor", "test", SEARCHED_OOD)]

    @property
    def search_rows(self) -> NDArray[np.intp]:
        """Rows of the monitors' in-distribution images and of the one kind of OOD images."""
        return np.r_[self.rows["monitor"], self.rows[SEARCHED_OOD]]


def load_images() -> tuple[NDArray, NDArray, Images]:
    """Images and classes for the network to learn from, and all others."""
    digits = load_digits_ood(held_out=(1, 5))
    inside = np.flatnonzero(digits.target != -1)
    network, others = split(inside, digits.target, 0.4)
    monitor, test = split(others, digits.target, 0.6)
    X_test = digits.data[test]
    # Turned by a quarter, most zeros and eights are zeros and eights.
    turnable = X_test[~np.isin(digits.digit[test], (0, 8))]
    parts = {
        "monitor": digits.data[monitor],
        "test": X_test,
        "digit 1": digits.data[digits.digit == 1],
        "digit 5": digits.data[digits.digit == 5],
        "rotated digits": np.rot90(turnable, axes=(2, 3)),
        "inverted digits": 1 - X_test,
    }
    for seed, kind in enumerate(NOISES):
        name = f"{kind.replace('_', ' ')} noise"
        parts[name] = make_noise(kind, (N_NOISE, 1, 8, 8), random_state=seed)
    images = stack(parts, digits.target[monitor], digits.target[test])
    return digits.data[network], digits.target[network], images


def split(rows: NDArray, classes: NDArray, share: float) -> list[NDArray]:
    return train_test_split(rows, train_size=share, stratify=classes[rows], random_state=SEED)


def stack(parts: dict[str, NDArray], y_monitor: NDArray, y_test: NDArray) -> Images:
    ends = np.cumsum([len(X) for X in parts.values()])
    starts = [0, *ends[:-1]]
    n_outside = ends[-1] - len(y_monitor) - len(y_test)
    return Images(
        X=np.concatenate(list(parts.values())),
        y=np.concatenate([y_monitor, y_test, np.full(n_outside, -1)]),
        rows={name: slice(*ends) for name, *ends in zip(parts, starts, ends, strict=True)},
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
    """Try every layer, pooling and percentile, by AUROC on OOD images in ``y == -1``."""
    monitor = Pipeline(
        [
            ("select", LayerSelector()),
            ("binarize", PercentileBinarizer()),
            ("detect", HammingNAPDetector()),
        ]
    )
    grid = {
        "select__layers": [[layer] for layer in A.layers],
        "binarize__percentile": [10, 30, 50, 70, 90],
    }
    scoring = dict(
        zip(SEARCH_METRICS, (make_ood_scorer(), make_ood_scorer(accuracy_score)), strict=True)
    )
    cv = OODKFold(5)
    return GridSearchCV(monitor, grid, scoring=scoring, refit="AUROC", cv=cv, n_jobs=2).fit(A, y)


def accuracy_score(y: NDArray, decisions: NDArray) -> float:
    """Accuracy of ``predict``, in- and out-of-distribution images weighing the same."""
    inside = y != -1
    return float(((decisions[inside] >= 0).mean() + (decisions[~inside] < 0).mean()) / 2)


def fit_detectors(
    net: NeuralNetClassifier, search: GridSearchCV, A: Activations, images: Images
) -> dict[str, Any]:
    """All monitors and baselines by name. Those that need no OOD images get none."""
    inside, searched = A[images.rows["monitor"]], images.search_rows
    # As many images set thresholds as there are OOD images, as the authors do.
    n_outside = len(searched) - len(inside)
    auto_nap = AutoNAPDetector(validation=n_outside / len(inside), random_state=SEED)
    return {
        "best layer": search.best_estimator_,
        "ensemble": LayerEnsembleDetector.from_search(search, n_layers=9).fit(inside),
        "AutoNAP": auto_nap.fit(A[searched], images.y[searched]),
        "make_monitor": make_monitor(net).fit(inside),
        "max softmax": MaxSoftmaxDetector().fit(inside),
        "energy": EnergyDetector().fit(inside),
    }


METRICS: dict[str, tuple[Callable[[NDArray, NDArray], float], str]] = {
    "AUROC": (ood_roc_auc_score, "Higher is better."),
    "FPR95": (
        partial(fpr_at_tpr_score, positive="id"),
        "In-distribution is the positive class: the share of OOD images that are accepted by a "
        "threshold that accepts 95 % of the in-distribution images. Lower is better.",
    ),
    "detection accuracy": (
        detection_accuracy_score,
        "The largest balanced accuracy that any threshold reaches. Higher is better.",
    ),
    "accuracy": (
        accuracy_score,
        "Balanced accuracy of `predict`, with the detector's own threshold. Higher is better.",
    ),
}


def evaluate(decisions: dict[str, NDArray], images: Images) -> list[dict[str, Any]]:
    """One row for each detector and kind of unseen OOD images."""
    results = []
    for detector, values in decisions.items():
        for name in images.unseen_ood:
            compared = np.r_[images.rows["test"], images.rows[name]]
            y = images.y[compared]
            row = {"detector": detector, "OOD images": name, "n_in": (y != -1).sum()}
            row["n_ood"] = len(y) - row["n_in"]
            for metric, (score, _) in METRICS.items():
                row[metric] = score(y, values[compared])
            results.append(row)
    return results


def evaluate_settings(search: GridSearchCV, A: Activations, images: Images) -> list[dict[str, Any]]:
    """What each setting of the search reached there, and what it reaches on unseen images."""
    inside = A[images.rows["monitor"]]
    settings = []
    for i, params in enumerate(search.cv_results_["params"]):
        monitor = clone(search.estimator).set_params(**params).fit(inside)
        results = evaluate({"": monitor.decision_function(A)}, images)
        (name,) = params["select__layers"]
        layer, _, pooling = name.partition(":")
        settings.append(
            {
                "layer": layer,
                "pooling": pooling or "none",
                "percentile": params["binarize__percentile"],
                "chosen": i == search.best_index_,
                "validation": {m: search.cv_results_[f"mean_test_{m}"][i] for m in SEARCH_METRICS},
                "test": mean_over_kinds(results),
            }
        )
    return settings


def mean_over_kinds(results: list[dict[str, Any]]) -> dict[str, float]:
    return {metric: float(np.mean([row[metric] for row in results])) for metric in SEARCH_METRICS}


def describe_network(n_learnt: int, A: Activations, images: Images) -> str:
    test = images.rows["test"]
    right = (A[test].predictions == images.y[test]).mean()
    n_monitor = len(A[images.rows["monitor"]])
    return (
        f"In-distribution images: the network learnt from {n_learnt}, the monitors from another "
        f"{n_monitor}, and {len(A[test])} are for tests, of which the network classifies "
        f"{right:.1%} right."
    )


def describe_params(params: dict[str, Any]) -> str:
    return f"layer {params['select__layers'][0]}, percentile {params['binarize__percentile']}"


def describe_choices(search: GridSearchCV, detectors: dict[str, Any]) -> str:
    auto = detectors["AutoNAP"]
    members = zip(auto.layers_, auto.poolings_, auto.percentiles_, auto.taus_, strict=True)
    return (
        f"Best of {len(search.cv_results_['params'])} settings on {SEARCHED_OOD}: "
        f"{describe_params(search.best_params_)} "
        f"(AUROC {search.best_score_:.3f}). AutoNAP chose "
        + ", ".join(f"{layer} {pooling} {p} (tau {tau})" for layer, pooling, p, tau in members)
        + "."
    )


def describe_rejections(decisions: dict[str, NDArray], images: Images) -> str:
    test = images.rows["test"]
    shares = [f"{name} {(values[test] < 0).mean():.1%}" for name, values in decisions.items()]
    return "In-distribution test images that `predict` rejects: " + ", ".join(shares) + "."


def markdown_table(results: list[dict[str, Any]], metric: str) -> str:
    """Kinds of OOD images by detectors, the best value of each row in bold."""
    detectors = list(dict.fromkeys(row["detector"] for row in results))
    kinds = list(dict.fromkeys(row["OOD images"] for row in results))
    values = np.array([row[metric] for row in results]).reshape(len(detectors), len(kinds)).T
    best = np.min if metric == "FPR95" else np.max
    lines = [
        f"### {metric}",
        METRICS[metric][1] + "\n",
        f"| OOD images | {' | '.join(detectors)} |",
        "| --- |" + " ---: |" * len(detectors),
    ]
    for kind, row in zip([*kinds, "mean"], [*values, values.mean(axis=0)], strict=True):
        cells = [f"**{v:.3f}**" if v == best(row) else f"{v:.3f}" for v in row]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_results(report: str, results: list[dict[str, Any]]) -> None:
    (OUTPUT / "results.md").write_text(report + "\n")
    with open(OUTPUT / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(results[0]))
        writer.writeheader()
        writer.writerows(results)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Tell what is being done and how long it took."""
    start = perf_counter()
    print(f"{title} ...", flush=True)
    yield
    print(f"    {perf_counter() - start:.1f} s")


def draw_pictures(
    search: GridSearchCV,
    settings: list[dict[str, Any]],
    decisions: dict[str, NDArray],
    A: Activations,
    images: Images,
) -> None:
    best = search.best_estimator_
    patterns = best[:-1].transform(A)
    distances, _ = best[-1].kneighbors(patterns, n_neighbors=1)
    draw_distances(
        OUTPUT / "hamming_distances.png",
        distances[:, 0],
        -best[-1].offset_,
        images.rows,
        [SEARCHED_OOD, *images.unseen_ood],
        f"{describe_params(search.best_params_)}, chosen on {SEARCHED_OOD}",
    )
    references = {
        name: mean_over_kinds(evaluate({name: decisions[name]}, images))
        for name in ("ensemble", "AutoNAP", "max softmax")
    }
    draw_settings(OUTPUT / "settings.png", settings, references)
    draw_roc_curves(OUTPUT / "roc_curves.png", decisions, images.rows, images.unseen_ood)


def main() -> None:
    started = perf_counter()
    OUTPUT.mkdir(exist_ok=True)
    X, y, images = load_images()
    with step("Train a network on eight of the ten digits"):
        net = train_network(X, y)
    with step("Extract the pooled activations of all layers, once"):
        extractor = ActivationExtractor(net, reducer=PoolingReducer(("max", "avg")), verbose=1)
        A = extractor.fit_transform(images.X)
    with step(f"Search layer, pooling and percentile on {SEARCHED_OOD}"):
        search = search_settings(A[images.search_rows], images.y[images.search_rows])
    with step("Fit ensembles and baselines, and score all images"):
        detectors = fit_detectors(net, search, A, images)
        decisions = {name: detector.decision_function(A) for name, detector in detectors.items()}
        results = evaluate(decisions, images)
    with step("Evaluate every setting of the search on the unseen images"):
        settings = evaluate_settings(search, A, images)
    with step("Draw pictures"):
        draw_pictures(search, settings, decisions, A, images)
    report = "\n\n".join(
        [
            "# Monitors of a digits classifier",
            describe_network(len(X), A, images),
            describe_choices(search, detectors),
            describe_rejections(decisions, images),
            *(markdown_table(results, metric) for metric in METRICS),
        ]
    )
    save_results(report, results)
    print(f"\n{report}\n\nTables and pictures are in {OUTPUT} ({perf_counter() - started:.0f} s).")


if __name__ == "__main__":
    # The images are so small that more threads would cost more than they bring.
    with threadpool_limits(1):
        main()
