"""What KNN and NNGuide lose where they store a part of the training samples.

    SKOOD_DATA=folder python -m experiments.subsampling

Features of the last hidden layer of four networks are extracted, and kept in the output folder. How
the number of neighbours should follow the number of stored samples is chosen on the first network,
and what a part costs is reported on the others. It takes a quarter of an hour, most of it to train
two small networks and to run the DenseNets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from skood import ActivationExtractor, Activations
from skood.detectors import KNNDetector, NNGuideDetector
from skood.metrics import ood_roc_auc_score

from .._common.arguments import find_folders, make_parser
from .._common.figures import save_figures
from .._common.tables import Measured, Table, write_tables
from ..od_test.nets import load_network
from ..od_test.sources import SOURCES, Sizes, Source, load_outside, load_source

mpl.use("Agg")

SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
RULES = ("as it is", "in proportion")
"""How the number of neighbours follows the share that is stored."""
DETECTORS: dict[str, tuple[type, int]] = {
    "KNN": (KNNDetector, 50),
    "NNGuide": (NNGuideDetector, 10),
}
NETWORKS = ("MNIST, VGG", "Fashion-MNIST, ResNet", "CIFAR-10, DenseNet", "CIFAR-100, DenseNet")
CHOICE = NETWORKS[0]
OUTSIDE = {
    "MNIST": ("Fashion-MNIST", "KMNIST", "notMNIST", "uniform noise"),
    "Fashion-MNIST": ("MNIST", "KMNIST", "notMNIST", "uniform noise"),
    "CIFAR-10": ("CIFAR-100", "Tiny ImageNet", "textures", "street characters"),
    "CIFAR-100": ("CIFAR-10", "Tiny ImageNet", "textures", "street characters"),
}
FULL = Sizes(n_train=60_000, n_test=1_000, n_outside=500, n_network=20_000, epochs=2)
QUICK = Sizes(n_train=200, n_test=100, n_outside=40, n_network=300, epochs=1)


class Seen(NamedTuple):
    """Features of the last hidden layer, and logits."""

    train: Activations
    test: Activations
    outside: dict[str, Activations]


class Loss(NamedTuple):
    """The mean area under the ROC curve over the OOD sets."""

    network: str
    detector: str
    rule: str
    share: float
    n_stored: int
    auroc: float
    lost: float
    """Against all that is stored, positive where it is less."""


def see(source: Source, sizes: Sizes, folder: Path) -> Seen:
    """What the network gives for all sets; in a second run, what the first kept."""
    network = load_network(source, sizes, folder / "networks")
    extractor = ActivationExtractor(network, layers="penultimate", batch_size=64)

    def extract(name: str, load: Any) -> Activations:
        file = folder / source.folder_name / name.replace(" ", "_").lower()
        if not file.exists():
            X = load()
            print(f"{source.title}: {len(X)} images, {name}", flush=True)
            extractor.fit(X[:2]).transform(X).save(file)
        return Activations.load(file)

    train = extract("train", lambda: load_source(source, "train", sizes.n_train)[0])
    test = extract("test", lambda: load_source(source, "test", sizes.n_test)[0])
    outside = {
        name: extract(name, lambda name=name: load_outside(source, name, sizes.n_outside))
        for name in OUTSIDE[source.name]
    }
    return Seen(train, test, outside)


def measure(title: str, seen: Seen) -> Iterator[Loss]:
    """Both detectors, with each rule and share."""
    n_train = len(seen.train)
    for name, (kind, k) in DETECTORS.items():
        whole = _auroc(kind(n_neighbors=min(k, n_train - 1)), seen)
        for rule in RULES:
            for share in SHARES:
                n_stored = max(2, round(share * n_train))
                n_neighbors = max(1, round(k * share)) if rule == RULES[1] else k
                detector = kind(
                    n_neighbors=min(n_neighbors, n_stored - 1),
                    max_samples=None if share == 1 else n_stored,
                )
                auroc = whole if share == 1 else _auroc(detector, seen)
                yield Loss(title, name, rule, share, n_stored, auroc, whole - auroc)


def _auroc(detector: Any, seen: Seen) -> float:
    detector.fit(seen.train)
    inside = detector.score_samples(seen.test)
    return float(
        np.mean(
            [
                ood_roc_auc_score(_marks(inside, scores), np.concatenate([inside, scores]))
                for scores in map(detector.score_samples, seen.outside.values())
            ]
        )
    )


def _marks(inside: NDArray, outside: NDArray) -> NDArray[np.int64]:
    return np.repeat([1, -1], [len(inside), len(outside)])


def tabulate(losses: list[Loss]) -> Table:
    """One row for each share that is stored, network and detector, with either rule."""
    header = ["Network", "Detector", "Share stored", "Stored", "AUROC", "Lost", "Lost, k as it is"]
    by_rule = {rule: [loss for loss in losses if loss.rule == rule] for rule in RULES}
    rows = [
        [
            ("" if loss.network != CHOICE else "chosen on: ") + loss.network,
            loss.detector,
            f"{loss.share:.0%}",
            f"{loss.n_stored:,}",
            f"{loss.auroc:.3f}",
            f"{loss.lost:+.3f}",
            f"{other.lost:+.3f}",
        ]
        for loss, other in zip(by_rule[RULES[1]], by_rule[RULES[0]], strict=True)
    ]
    return Table(header, rows)


def draw(losses: list[Loss], folder: Path) -> None:
    """What is lost against the share stored."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axes, detector in zip(panels, DETECTORS, strict=True):
        for color, network in enumerate(NETWORKS):
            for rule, style in zip(RULES, ("x--", "o-"), strict=True):
                own = [
                    loss
                    for loss in losses
                    if (loss.network, loss.detector, loss.rule) == (network, detector, rule)
                ]
                label = f"{network}, k {rule}"
                shares, lost = [loss.share for loss in own], [loss.lost for loss in own]
                axes.plot(shares, lost, style, color=f"C{color}", label=label)
        axes.set(xscale="log", xlabel="share of the training samples stored", title=detector)
    panels[0].set(ylabel="AUROC lost")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save_figures({"losses": figure}, folder)


def main() -> None:
    parser = make_parser("subsampling", __doc__)
    arguments = parser.parse_args()
    output, folder = find_folders(arguments)
    torch.set_num_threads(1)
    sizes = QUICK if arguments.quick else FULL
    sources = {source.title: source for source in SOURCES}
    titles = (CHOICE, *NETWORKS[1:2]) if arguments.quick else NETWORKS
    losses = []
    for title in titles:
        losses += list(measure(title, see(sources[title], sizes, output)))
    about = Measured(
        data="the image sets and networks of od_test",
        samples=f"at most {sizes.n_train:,} training images, {sizes.n_test:,} test images, and "
        f"{sizes.n_outside} of each of four OOD sets",
        settings="features of the last hidden layer; KNN with k=50 and NNGuide with k=10 where all "
        f"is stored, k in proportion to the share otherwise, as chosen on {CHOICE}",
    )
    table = tabulate(losses)
    (output / "report.md").write_text(table.to_markdown(), encoding="utf-8")
    write_tables(folder, about, {"losses": table})
    draw(losses, folder)


if __name__ == "__main__":
    main()
