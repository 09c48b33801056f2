"""Monitors of a convolutional net trained on MNIST, against ten kinds of other images.

    python -m experiments.mnist_monitor

reads the image files in the folder that SKOOD_DATA names, trains the net (or reads it from
``--weights``), and writes the tables, CSV files and pictures to ``--output``. The settings
are chosen on one kind of out-of-distribution images (``--validation``) and all detectors are
scored on the other kinds.
"""

from __future__ import annotations

import argparse
import csv
import time
from functools import partial
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import zoom
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from skood import (
    ActivationExtractor,
    Activations,
    HammingNAPDetector,
    PercentileBinarizer,
    PoolingReducer,
    make_monitor,
)
from skood.datasets import make_noise
from skood.detectors import EnergyDetector, MaxSoftmaxDetector
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.metrics import (
    detection_accuracy_score,
    fpr_at_tpr_score,
    make_ood_scorer,
    ood_roc_auc_score,
)
from skood.model_selection import OODPredefinedSplit
from skood.preprocessing import LayerSelector

from .._common.image_sets import read_images
from .net import trained_net
from .settings import (
    DENSE,
    SPARSE,
    compare_settings,
    draw_trade,
    find_trade,
    print_correlations,
)

mpl.use("Agg")

N_NET = 50_000
N_VALIDATION = 2_000
N_PER_SET = 2_000
PERCENTILES = (10, 30, 50, 70, 90)
MEASURES = {
    "AUROC": "AUROC",
    "FPR95": "FPR95 (share of OOD images accepted where 95 % of the digits are)",
    "accuracy": "Accuracy at the detector's own threshold, digits and OOD images counting alike",
}


def load_outside(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Images of every other kind, shape (n, 1, 28, 28), at most ``N_PER_SET`` each."""
    image_sets: dict[str, tuple[str, ...]] = {
        "Fashion-MNIST": ("fashion_mnist", "test"),
        "notMNIST": ("notmnist",),
        "KMNIST": ("kmnist",),
        "USPS": ("usps",),
        "textures": ("textures",),
        "CIFAR-10": ("cifar10", "test"),
        "street characters": ("streetview_chars",),
        "traffic signs": ("gtsrb",),
        "scenes": ("scenes",),
    }
    outside = {"uniform noise": make_noise("uniform", (N_PER_SET, 1, 28, 28), random_state=0)}
    for name, image_set in image_sets.items():
        images, _ = read_images(*image_set)
        rows = rng.permutation(len(images))[:N_PER_SET]
        outside[name] = to_grey_28(images[np.sort(rows)])
    return outside


def to_grey_28(images: np.ndarray) -> np.ndarray:
    """Mean of the colours, reduced to 28 x 28 pixels."""
    grey = images.mean(axis=1, keepdims=True)
    if grey.shape[2:] == (28, 28):
        return grey
    return zoom(grey, (1, 1, 28 / grey.shape[2], 28 / grey.shape[3]), order=1).clip(0, 1)


def extract(net, images: dict[str, np.ndarray]) -> dict[str, Activations]:
    """Pooled activations of every set; the net sees each image once."""
    extractor = ActivationExtractor(net, reducer=PoolingReducer(("max", "avg")))
    return {name: extractor.fit_transform(X) for name, X in images.items()}


def single_layer() -> Pipeline:
    return Pipeline(
        [
            ("select", LayerSelector()),
            ("binarize", PercentileBinarizer()),
            ("detect", HammingNAPDetector()),
        ]
    )


def search_layers(A: Activations, y: np.ndarray, is_test: np.ndarray) -> GridSearchCV:
    """Every layer, pooling and percentile, scored on the validation samples."""
    grid = {"select__layers": list(A.layer_names), "binarize__percentile": PERCENTILES}
    split = OODPredefinedSplit(np.where(is_test, 0, -1))
    return GridSearchCV(single_layer(), grid, scoring=make_ood_scorer(), cv=split, refit=False).fit(
        A, y
    )


def fit_detectors(net, A: Activations, y: np.ndarray, is_test: np.ndarray) -> dict[str, object]:
    """All detectors, fitted on the rows not for validation, configured on those that are."""
    train = A[~is_test]
    search = search_layers(A, y, is_test)
    best = clone(search.estimator).set_params(**search.best_params_)
    split = np.where(is_test, 0, -1)
    start = time.perf_counter()
    weighted = AutoNAPDetector(n_layers=6, keep_settings=True).fit(A, y, sample_split=split)
    print(f"published auto-configuration: {time.perf_counter() - start:.0f} s")
    nap = make_pipeline(PercentileBinarizer(30), HammingNAPDetector())
    return {
        "MSP": MaxSoftmaxDetector().fit(train),
        "energy": EnergyDetector().fit(train),
        "NAP, best layer of the search": best.fit(train),
        "NAP, best 6 of the search, Fisher": LayerEnsembleDetector.from_search(search, 6).fit(
            train
        ),
        "NAP, published, 6 layers, vote": AutoNAPDetector(n_layers=6, combine="vote").fit(
            A, y, sample_split=split
        ),
        "NAP, published, 6 layers, weighted": weighted,
        "NAP, all layers, Fisher (no OOD)": LayerEnsembleDetector(nap).fit(train),
        "NAP, all layers, mean (no OOD)": LayerEnsembleDetector(nap, combine="mean").fit(train),
        "make_monitor (no OOD)": make_monitor(net)["detect"].fit(train),
    }


def evaluate(detector, inside: Activations, outside: dict[str, Activations]) -> list[dict]:
    """AUROC, FPR95 and accuracy at the detector's own threshold, a dict for each OOD set."""
    inside_scores = detector.decision_function(inside)
    rows = []
    for name, A in outside.items():
        scores = np.concatenate([inside_scores, detector.decision_function(A)])
        y = np.repeat([1, -1], [len(inside), len(A)])
        rows.append(
            {
                "set": name,
                "AUROC": ood_roc_auc_score(y, scores),
                "FPR95": fpr_at_tpr_score(y, scores, positive="id"),
                "best accuracy": detection_accuracy_score(y, scores),
                "accuracy": 0.5 * ((scores[y == 1] >= 0).mean() + (scores[y == -1] < 0).mean()),
            }
        )
    return rows


def evaluate_single_layers(train, inside, outside) -> dict[tuple[str, int], list[dict]]:
    """Every setting of a single layer on every set: what hindsight would choose."""
    results = {}
    for layer in train.layer_names:
        for percentile in PERCENTILES:
            detector = fit_single_layer(train, layer, percentile)
            results[layer, percentile] = evaluate(detector, inside, outside)
    return results


def fit_single_layer(train: Activations, layer: str, percentile: int) -> Pipeline:
    params = {"select__layers": layer, "binarize__percentile": percentile}
    return single_layer().set_params(**params).fit(train)


def mean_of(rows: list[dict], measure: str, left_out: str) -> float:
    return float(np.mean([row[measure] for row in rows if row["set"] != left_out]))


def print_table(results: dict[str, list[dict]], measure: str, validation: str) -> None:
    """A Markdown table; the mean leaves out the set that the settings were chosen on."""
    sets = [row["set"] for row in next(iter(results.values()))]
    print(f"\n{MEASURES[measure]}. Settings chosen on {validation}, which the mean leaves out.\n")
    print("| detector |", " | ".join(sets), "| mean |")
    print("| --- |", " --- |" * (len(sets) + 1))
    for name, rows in results.items():
        values = [f"{row[measure]:.3f}" for row in rows]
        print(
            f"| {name} |", " | ".join(values), f"| **{mean_of(rows, measure, validation):.3f}** |"
        )


def plot_single_layers(singles, file: Path) -> None:
    """AUROC of each layer at its best percentile for each set: no layer is best for all."""
    sets = [row["set"] for row in next(iter(singles.values()))]
    layers = list(dict.fromkeys(layer for layer, _ in singles))
    best = np.array(
        [
            [
                max(singles[layer, p][column]["AUROC"] for p in PERCENTILES)
                for column in range(len(sets))
            ]
            for layer in layers
        ]
    )
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    image = axes.imshow(best, cmap="cividis", vmin=0.5, vmax=1, aspect="auto")
    axes.set_xticks(range(len(sets)), sets, rotation=40, ha="right")
    axes.set_yticks(range(len(layers)), layers)
    for row, column in np.ndindex(best.shape):
        winner = best[row, column] == best[:, column].max()
        axes.text(
            column, row, f"{best[row, column]:.2f}", ha="center", va="center",
            color="black" if best[row, column] > 0.75 else "white",
            weight="bold" if winner else "normal", fontsize=8,
        )  # fmt: skip
    axes.set_title("Single layers at their best percentile (bold: the best for the set)")
    figure.colorbar(image, label="AUROC")
    figure.savefig(file, dpi=120)


def save_csv(results: dict[str, list[dict]], validation: str, file: Path) -> None:
    with file.open("w", newline="") as target:
        fields = ["validation", "detector", "set", "AUROC", "FPR95", "best accuracy", "accuracy"]
        writer = csv.DictWriter(target, fields)
        writer.writeheader()
        for name, rows in results.items():
            writer.writerows({"validation": validation, "detector": name, **row} for row in rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--validation", nargs="+", default=["uniform noise", "Fashion-MNIST"])
    parser.add_argument("--n-fit", type=int, default=20_000, help="images that store patterns")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="file to keep the trained net in")
    parser.add_argument("--output", type=Path, default=Path("experiments/output/mnist_monitor"))
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(arguments.seed)
    X, y = read_images("mnist", "train")
    X_test, y_test = read_images("mnist", "test")
    net = trained_net(
        X[:N_NET], y[:N_NET], epochs=arguments.epochs, seed=arguments.seed,
        weights=arguments.weights,
    )  # fmt: skip
    held_out = slice(N_NET, N_NET + N_VALIDATION)
    images = {"train": X[: arguments.n_fit], "validation": X[held_out], "test": X_test}
    outside_images = load_outside(rng)
    start = time.perf_counter()
    inside = extract(net, images)
    outside = extract(net, outside_images)
    print(f"extraction of {sum(map(len, [*inside.values(), *outside.values()]))} images: "
          f"{time.perf_counter() - start:.0f} s")  # fmt: skip
    print(f"test accuracy of the net: {(inside['test'].predictions == y_test).mean():.4f}")
    test = inside["test"][rng.permutation(len(y_test))[:N_PER_SET]]
    singles = evaluate_single_layers(inside["train"], test, outside)
    plot_single_layers(singles, arguments.output / "mnist_single_layers.png")
    trade = find_trade(singles)
    print(f"p = {DENSE} against p = {SPARSE}: {trade}")
    fit = partial(fit_single_layer, inside["train"])
    draw_trade(trade, singles, fit, test, outside, arguments.output / "mnist_percentiles.png")
    for validation in arguments.validation:
        run_validation(arguments, net, validation, inside, outside, test, y, singles)


def run_validation(arguments, net, validation, inside, outside, test, y, singles) -> None:
    """Configure on one kind of images, score on all, and report."""
    A = Activations.concatenate([inside["train"], inside["validation"], outside[validation]])
    n_outside = len(outside[validation])
    labels = np.concatenate(
        [y[: arguments.n_fit], y[N_NET : N_NET + N_VALIDATION], np.full(n_outside, -1)]
    )
    detectors = fit_detectors(net, A, labels, np.arange(len(A)) >= arguments.n_fit)
    results = {name: evaluate(detector, test, outside) for name, detector in detectors.items()}
    slug = validation.lower().replace(" ", "_")
    stem = arguments.output / f"mnist_settings_{slug}"
    weighted = detectors["NAP, published, 6 layers, weighted"]
    print_correlations(compare_settings(weighted, test, outside, validation, stem), validation)
    hindsight = max(singles, key=lambda setting: mean_of(singles[setting], "AUROC", validation))
    results[f"NAP, best single setting in hindsight ({hindsight[0]}, {hindsight[1]})"] = singles[
        hindsight
    ]
    for measure in MEASURES:
        print_table(results, measure, validation)
    save_csv(results, validation, arguments.output / f"mnist_monitor_{slug}.csv")


if __name__ == "__main__":
    main()
