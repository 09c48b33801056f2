"""Monitors of a convolutional net trained on MNIST, against ten kinds of other images.

    python -m experiments.mnist_monitor

reads the image files in the folder that SKOOD_DATA names, trains the net (or reads it from
``--weights``), and writes the tables of the site, a report and figures. The settings are chosen on
one kind of out-of-distribution images (``--validation``), and all detectors are scored on the other
kinds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from torch import nn

from skood import ActivationExtractor, Activations, PoolingReducer

from .._common.arguments import find_folders, make_parser
from .._common.figures import save_figures
from .._common.image_sets import read_images
from .._common.networks import predicted_classes
from .._common.tables import Measured, write_tables
from .detectors import WEIGHTED, fit_detectors, fit_single_layer
from .figures import draw_settings, draw_single_layers, draw_trade
from .net import trained_net
from .outcomes import Singles, evaluate, evaluate_single_layers, mean_of
from .report import Configured, make_tables, write_report
from .sets import NOISE, OUTSIDE, QUICK, Sizes, load_outside
from .settings import DENSE, SPARSE, find_trade

mpl.use("Agg")

HINDSIGHT = "NAP, best single setting in hindsight"


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("mnist_monitor", __doc__)
    parser.add_argument(
        "--validation", nargs="+", choices=OUTSIDE, default=[NOISE, "Fashion-MNIST"]
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="file to keep the trained net in")
    return parser.parse_args()


def extract(net: nn.Module, images: Mapping[str, NDArray]) -> dict[str, Activations]:
    """Pooled activations of every set; the net sees each image once."""
    extractor = ActivationExtractor(net, reducer=PoolingReducer(pooling=("max", "avg")))
    return {name: extractor.fit_transform(X) for name, X in images.items()}


def main() -> None:
    arguments = parse_arguments()
    output, folder = find_folders(arguments)
    sizes = QUICK if arguments.quick else Sizes()
    epochs = 1 if arguments.quick else arguments.epochs
    rng = np.random.default_rng(arguments.seed)
    X, y = read_images("mnist", "train")
    X_test, y_test = (part[: sizes.n_test] for part in read_images("mnist", "test"))
    net = trained_net(
        X[: sizes.n_net],
        y[: sizes.n_net],
        epochs=epochs,
        seed=arguments.seed,
        weights=arguments.weights,
    )
    held_out = slice(sizes.n_net, sizes.n_net + sizes.n_validation)
    images = {"train": X[: sizes.n_fit], "validation": X[held_out], "test": X_test}
    outside_images = load_outside(sizes.n_per_set, rng)
    start = time.perf_counter()
    inside, outside = extract(net, images), extract(net, outside_images)
    print(f"extraction: {time.perf_counter() - start:.0f} s")
    is_right = predicted_classes(inside["test"]) == y_test
    test = inside["test"][rng.permutation(len(y_test))[: sizes.n_per_set]]
    singles = evaluate_single_layers(inside["train"], test, outside)
    draw_what_percentiles_trade(singles, inside["train"], test, outside, output)
    known = Activations.concatenate([inside["train"], inside["validation"]])
    y_known = np.concatenate([y[: sizes.n_fit], y[held_out]])
    runs = [
        configure(net, validation, known, y_known, sizes, test, outside, singles, output)
        for validation in arguments.validation
    ]
    about = describe(sizes, epochs, arguments.seed, float(is_right.mean()))
    tables = make_tables(runs)
    report = write_report(about.to_table(), tables)
    print("\n" + report)
    (output / "report.md").write_text(report, encoding="utf-8")
    write_tables(folder, about, tables)


def draw_what_percentiles_trade(
    singles: Singles,
    train: Activations,
    test: Activations,
    outside: Mapping[str, Activations],
    folder: Path,
) -> None:
    trade = find_trade(singles)
    print(f"p = {DENSE} against p = {SPARSE}: {trade}")
    fit = partial(fit_single_layer, train)
    figures = {
        "single_layers": draw_single_layers(singles),
        "percentiles": draw_trade(trade, singles, fit, test, outside),
    }
    save_figures(figures, folder)


def configure(
    net: nn.Module,
    validation: str,
    known: Activations,
    y_known: NDArray,
    sizes: Sizes,
    test: Activations,
    outside: Mapping[str, Activations],
    singles: Singles,
    folder: Path,
) -> Configured:
    """Configure on one kind of other images, and score on all."""
    A = Activations.concatenate([known, outside[validation]])
    labels = np.concatenate([y_known, np.full(len(outside[validation]), -1)])
    detectors = fit_detectors(net, A, labels, np.arange(len(A)) >= sizes.n_fit)
    results = {name: evaluate(detector, test, outside) for name, detector in detectors.items()}
    best = max(singles, key=lambda setting: mean_of(singles[setting], "auroc", validation))
    print(f"in hindsight: layer {best[0]}, percentile {best[1]}")
    results[HINDSIGHT] = singles[best]
    figure, displays = draw_settings(detectors[WEIGHTED], test, outside, validation)
    save_figures({f"settings_{validation.lower().replace(' ', '_')}": figure}, folder)
    return Configured(validation, results, displays)


def describe(sizes: Sizes, epochs: int, seed: int, accuracy: float) -> Measured:
    return Measured(
        data="MNIST; Fashion-MNIST, notMNIST, KMNIST, USPS (digits of another source), textures, "
        "CIFAR-10, street-view characters, traffic signs and scenes, colours as their mean and "
        "reduced to 28 x 28 pixels; uniform noise",
        samples=f"net {sizes.n_net:,}, monitors {sizes.n_fit:,}, validation {sizes.n_validation:,} "
        f"digits and one kind of other images; test {sizes.n_per_set:,} digits and at most as many "
        "of each other kind",
        settings="five convolutions of 16 to 64 channels with batch norm, a hidden layer of 128 "
        f"units; {epochs} epochs, seed {seed}; right on {accuracy:.2%} of the test digits",
    )


if __name__ == "__main__":
    main()
