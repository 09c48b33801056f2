"""The denoising classifier on MNIST: trained on the digits 1 to 9, with 0 as the unknown class.

    python -m experiments.denoising_classifier

reads the image files in the folder that SKOOD_DATA names, trains a network on 49,077 digits, sets
its thresholds by 5,000 others, and counts how many zeros of the test set it finds and how many
other digits it keeps and classifies right, beside the 96 % and 90 % that were published. Then
smaller networks are trained without one or the other loss. Tables go to ``report.md`` in the
folder ``--output``, with figures of the scores, of the trade-off, of what the decoder draws, of
the reconstruction errors by class and of the images with the largest ones.

Published in Y. Song, "Deep Learning Lab, final project report", Yonsei University.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import skorch
import torch
from numpy.typing import NDArray
from skorch.callbacks import LRScheduler
from torch.utils.data import Dataset, Subset

import skood
from skood.metrics import ood_roc_auc_score
from skood.training import DenoisingClassifier

from .._common.image_sets import read_images
from .._common.markdown import table
from .figures import draw_figures

mpl.use("Agg")

UNKNOWN = 0
N_HELD_OUT = 5_000
PUBLISHED = (0.96, 0.90)

# As published: the decoder has the last word.
DRAWN = ("noise+rotation+decoder", "noise+occlusion+decoder")

# Thresholds: the probability, and the quantile of the errors of images unlike known ones.
RULES: dict[str, dict[str, Any]] = {
    "automatic": {},
    "automatic, by rotation": {"pseudo_ood": ("rotation",)},
    "automatic, by occlusion": {"pseudo_ood": ("occlusion",)},
    "softmax alone, automatic": {"error_quantile": None},
    "softmax alone, .659": {"softmax_threshold": 0.659, "error_quantile": None},
    ".659 and smallest error, both kinds": {"softmax_threshold": 0.659, "error_quantile": 0.0},
    ".659 and smallest error, occlusion": {
        "softmax_threshold": 0.659,
        "error_quantile": 0.0,
        "pseudo_ood": ("occlusion",),
    },
    ".659 and smallest error, noised first and drawn": {
        "softmax_threshold": 0.659,
        "error_quantile": 0.0,
        "pseudo_ood": DRAWN,
    },
    "automatic, noised first and drawn": {"pseudo_ood": DRAWN},
}

ABLATION: dict[str, dict[str, Any]] = {
    "all losses": {},
    "no reconstruction": {"reconstruction_weight": 0.0},
    "no penalty on overconfidence": {"criterion__penalty_weight": 0.0},
    "no spread": {"spread_weight": 0.0},
    "neither penalty": {"criterion__penalty_weight": 0.0, "spread_weight": 0.0},
    "cross entropy alone": {
        "reconstruction_weight": 0.0,
        "criterion__penalty_weight": 0.0,
        "spread_weight": 0.0,
    },
    "spread times 50": {"spread_weight": 5.0},
    "no image left clean": {"clean_fraction": 0.0},
}


@dataclass(frozen=True)
class Digits:
    """Images and labels; the first N_HELD_OUT training images set the thresholds."""

    X_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]

    @property
    def X_held_out(self) -> NDArray[np.float32]:
        return self.X_train[:N_HELD_OUT]


@dataclass(frozen=True)
class Outcome:
    """Shares, of the test images, under one pair of thresholds."""

    softmax_threshold: float
    error_threshold: float
    found: float
    """Zeros that are rejected."""
    kept: float
    """Other digits that are accepted and classified right."""
    accuracy: float
    """Other digits that are classified right, whether accepted or not."""
    auroc: float
    """Of the score, zeros against other digits."""


def load_digits(n_train: int | None, seed: int) -> Digits:
    X, y = read_images("mnist", "train")
    X_test, y_test = read_images("mnist", "test")
    known = np.random.default_rng(seed).permutation(np.flatnonzero(y != UNKNOWN))
    known = known[: None if n_train is None else N_HELD_OUT + n_train]
    return Digits(X[known], y[known], X_test, y_test)


def hold_out_first(dataset: Dataset, y: Any, n_held_out: int) -> tuple[Subset, Subset]:
    rows = range(len(dataset))
    return Subset(dataset, rows[n_held_out:]), Subset(dataset, rows[:n_held_out])


def make_net(
    digits: Digits, arguments: argparse.Namespace, epochs: int, **params: Any
) -> DenoisingClassifier:
    n_batches = -(-(len(digits.X_train) - N_HELD_OUT) // arguments.batch_size)
    schedule = LRScheduler(
        policy=torch.optim.lr_scheduler.OneCycleLR,
        max_lr=arguments.lr,
        total_steps=epochs * n_batches,
        step_every="batch",
    )
    return DenoisingClassifier(
        **{"module__width": arguments.width} | params,
        max_epochs=epochs,
        batch_size=arguments.batch_size,
        # They are in random order already.
        iterator_train__shuffle=False,
        train_split=partial(hold_out_first, n_held_out=N_HELD_OUT),
        callbacks=[("schedule", schedule)],
        device=arguments.device,
        random_state=arguments.seed,
    )


def trained_net(digits: Digits, arguments: argparse.Namespace) -> DenoisingClassifier:
    """A trained net, its weights read from a file where it exists, or else kept there."""
    weights = arguments.weights
    if weights is not None and weights.exists():
        classes = np.unique(digits.y_train)
        sizes = {"module__n_channels": 1, "module__n_classes": len(classes)}
        net = make_net(digits, arguments, arguments.epochs, classes=classes, **sizes).initialize()
        net.load_params(weights)
        return net
    net = make_net(digits, arguments, arguments.epochs).fit(digits.X_train, digits.y_train)
    if weights is not None:
        net.save_params(weights)
    return net


def evaluate(net: DenoisingClassifier, digits: Digits, rule: Mapping[str, Any]) -> Outcome:
    """Set the thresholds by a rule and score the test images; the network stays as it is."""
    defaults = DenoisingClassifier().get_params()
    names = ("softmax_threshold", "error_quantile", "pseudo_ood")
    net.set_params(**{name: rule.get(name, defaults[name]) for name in names})
    net.set_thresholds(digits.X_held_out)
    scores = net.score_samples(digits.X_test)
    right = net.classes_[net.predict_proba(digits.X_test).argmax(axis=1)] == digits.y_test
    unknown = digits.y_test == UNKNOWN
    return Outcome(
        softmax_threshold=net.softmax_threshold_,
        error_threshold=net.error_threshold_,
        found=(scores[unknown] < 0).mean(),
        kept=(right & (scores >= 0))[~unknown].mean(),
        accuracy=right[~unknown].mean(),
        auroc=ood_roc_auc_score(np.where(unknown, -1, 1), scores),
    )


def tabulate(first: str, outcomes: Mapping[str, Outcome]) -> str:
    header = [
        first, "zeros found", "digits kept and right", "right without rejection", "AUROC",
        "probability at least", "error at most",
    ]  # fmt: skip
    rows = [["published", f"{PUBLISHED[0]:.1%}", f"{PUBLISHED[1]:.1%}", "", "", ".659", ""]]
    for name, o in outcomes.items():
        shares = [f"{share:.1%}" for share in (o.found, o.kept, o.accuracy)]
        thresholds = [f"{o.softmax_threshold:.3f}", f"{o.error_threshold:.4f}"]
        rows.append([name, *shares, f"{o.auroc:.3f}", *thresholds])
    return table(header, rows)


def run_ablation(arguments: argparse.Namespace) -> dict[str, Outcome]:
    digits = load_digits(arguments.ablation_images, arguments.seed)
    outcomes = {}
    for name, params in ABLATION.items():
        print(f"\n{name}")
        net = make_net(digits, arguments, arguments.ablation_epochs, **params)
        net.fit(digits.X_train, digits.y_train)
        # A decoder that learnt nothing has no say.
        rule = {"error_quantile": None} if params.get("reconstruction_weight") == 0 else {}
        outcomes[name] = evaluate(net, digits, rule)
    return outcomes


def describe(arguments: argparse.Namespace, digits: Digits, seconds: Sequence[float]) -> str:
    n_train = len(digits.X_train) - N_HELD_OUT
    return (
        f"MNIST, digits 1 to 9: {n_train:,} images to train, {N_HELD_OUT:,} to set thresholds; "
        f"{len(digits.X_test):,} test images, of which {(digits.y_test == UNKNOWN).sum()} zeros. "
        f"{arguments.epochs} epochs, width {arguments.width}, batches of {arguments.batch_size}, "
        f"one order, Adam with one cycle up to {arguments.lr}, seed {arguments.seed}, "
        f"{arguments.device}. Trained after {seconds[0]:.0f} s, {seconds[1]:.0f} s in all. "
        f"skood {skood.__version__}, torch {torch.__version__}, skorch {skorch.__version__}."
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=5e-3, help="the highest learning rate")
    parser.add_argument("--images", type=int, help="to train on; all by default")
    parser.add_argument("--ablation-images", type=int, default=15_000, help="0 for no ablation")
    parser.add_argument("--ablation-epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="file to keep the trained network in")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--output", type=Path, default=Path("experiments/output/denoising_classifier")
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    digits = load_digits(arguments.images, arguments.seed)
    net = trained_net(digits, arguments)
    seconds = [time.perf_counter() - start]
    rules = {name: evaluate(net, digits, rule) for name, rule in RULES.items()}
    evaluate(net, digits, RULES["automatic"])
    draw_figures(net, digits, rules, PUBLISHED, arguments.output)
    labels = np.where(digits.y_test == UNKNOWN, -1, 1)
    auroc = ood_roc_auc_score(labels, -net.reconstruction_error(digits.X_test))
    parts = [
        tabulate("thresholds", rules),
        f"AUROC of the reconstruction error alone: {auroc:.3f}.",
    ]
    if arguments.ablation_images:
        parts += [
            f"Ablation, {arguments.ablation_images:,} images to train, "
            f"{arguments.ablation_epochs} epochs, automatic thresholds:",
            tabulate("losses", run_ablation(arguments)),
        ]
    seconds.append(time.perf_counter() - start)
    title = "# The denoising classifier on MNIST"
    report = "\n\n".join([title, describe(arguments, digits, seconds), *parts]) + "\n"
    (arguments.output / "report.md").write_text(report, encoding="utf-8")
    print(f"\n{report}")


if __name__ == "__main__":
    main()
